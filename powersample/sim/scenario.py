# SPDX-License-Identifier: Apache-2.0
"""Loads as steps of power: checked, and read from CSV scripts."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample.errors import BadFormat, InputNotFound, InvalidArgument

MAX_WATTS = 1e6  # in mW within 32 bits, with room
HEADER = ["seconds", "watts"]


def milliwatts(watts: float, what: str) -> int:
    """Return whole mW. Raises InvalidArgument, naming `what`, unless finite and within 0 to 1 MW."""
    if not (math.isfinite(watts) and 0 <= watts <= MAX_WATTS):
        raise InvalidArgument(f"{what} is {watts!r} W; it must be from 0 to {MAX_WATTS:g} W")
    return round(watts * 1e3)


def nanoseconds(seconds: float, what: str) -> int:
    """Return whole ns. Raises InvalidArgument, naming `what`, unless finite, from 0 and below 10 years."""
    if not (math.isfinite(seconds) and 0 <= seconds < 3e8):
        raise InvalidArgument(f"{what} is {seconds!r} s; it must be from 0 to 3e8 s")
    return round(seconds * 1e9)


def checked_steps(steps: Iterable[tuple[float, float]]) -> list[tuple[int, int]]:
    """Return steps (seconds, watts) as (ns, mW).

    Raises:
        InvalidArgument: No step, times that do not ascend, or a figure outside its range; names the step.
    """
    out: list[tuple[int, int]] = []
    for i, (seconds, watts) in enumerate(steps):
        step = (nanoseconds(seconds, f"time of step {i}"), milliwatts(watts, f"power of step {i}"))
        if out and step[0] <= out[-1][0]:
            raise InvalidArgument(f"step {i} at {seconds!r} s does not come after the step before it")
        out.append(step)
    if not out:
        raise InvalidArgument("a load needs at least one step")
    return out


def checked_trace(t_ns: ArrayLike, watts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a recorded load as (ns from its first instant, mW), without the points that change nothing.

    Args:
        t_ns: Instants, ns, ascending, of shape (n,).
        watts: Power from each on, W, of shape (n,).

    Raises:
        InvalidArgument: Shapes differ, nothing in them, times that do not ascend, powers that are not powers.
    """
    times, power = np.asarray(t_ns), np.asarray(watts, np.float64)
    if times.ndim != 1 or times.shape != power.shape or times.size == 0:
        raise InvalidArgument(
            f"a trace needs as many instants as powers, at least one; not {times.shape}, {power.shape}"
        )
    if not np.issubdtype(times.dtype, np.integer):
        raise InvalidArgument(f"instants of a trace are whole nanoseconds, not {times.dtype}")
    times = times.astype(np.int64)
    if np.any(np.diff(times) <= 0):
        where = int(np.argmax(np.diff(times) <= 0)) + 1
        raise InvalidArgument(f"instant {where} of the trace does not come after the one before it")
    if not np.all((power >= 0) & (power <= MAX_WATTS)):
        where = int(np.argmin((power >= 0) & (power <= MAX_WATTS)))
        raise InvalidArgument(f"power {where} of the trace is {power[where]!r} W; it must be from 0 to {MAX_WATTS:g} W")
    milli = np.rint(power * 1e3).astype(np.int64)
    keep = np.r_[True, np.diff(milli) != 0]
    return times[keep] - times[0], milli[keep]


def read_script(path: str | os.PathLike[str]) -> list[tuple[float, float]]:
    """Read a load script: CSV with the header `seconds,watts`, times ascending; `#` begins a comment line.

    Returns:
        Steps (seconds from its start, watts from then on).

    Raises:
        InputNotFound: There is no such file.
        BadFormat: Anything else than such a script; names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise InputNotFound(f"no load script {path}") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise BadFormat(f"{path} is no load script: {error}") from error
    steps: list[tuple[float, float]] = []
    header = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}, line {number}"
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if not header:
            if cells != HEADER:
                raise BadFormat(f"{where}: the first line must be {','.join(HEADER)!r}, not {line!r}")
            header = True
            continue
        try:
            seconds, watts = map(float, cells)
            step = (nanoseconds(seconds, "time"), milliwatts(watts, "power"))
        except ValueError as error:  # InvalidArgument is one too
            raise BadFormat(f"{where}: {line!r} is not two numbers, seconds and watts: {error}") from error
        if steps and step[0] <= nanoseconds(steps[-1][0], "time"):
            raise BadFormat(f"{where}: {seconds:g} s does not come after the line before it")
        steps.append((seconds, watts))
    if not steps:
        raise BadFormat(f"{path} holds no step; write lines of seconds,watts under the header {','.join(HEADER)!r}")
    return steps
