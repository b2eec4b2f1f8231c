# SPDX-License-Identifier: Apache-2.0
"""A load that a person or a program wrote down: when it changed, and to what."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powersample.errors import AccessDenied, BadFormat, InputNotFound, InvalidArgument
from powersample.loads import edge_file
from powersample.model import Trace
from powersample.readers.span import instant_ns

HEADERS = (["time", "power_w"], ["time", "level"])


def read_edges(path: str | os.PathLike[str], trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """Return the edges of a CSV with the header `time,power_w`, or `time,level` where no watts are known.

    A log of `powersample stress` has its own form: what it tells is how many threads, or GPUs, worked.

    Args:
        path: the file; a line says what the load is from its time on, and the last line when the record of it ends.
        trace: whose clock the times are on, in the forms of `instant_ns`.

    Returns:
        Instants (n,), int64 ns; what holds from each to the next (n - 1,), W or any unit; whether it is watts.

    Raises:
        InputNotFound, AccessDenied: the file cannot be read.
        BadFormat: another header, a line that is no edge, times that do not rise; names file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise BadFormat(f"{path} is no file of edges: {error}") from error
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
    if lines and lines[0].startswith(edge_file.MARK):
        return *edge_file.load(path).steps(), False
    rows = [(number, [cell.strip() for cell in cells]) for number, cells in enumerate(csv.reader(lines), 1) if cells]
    if not rows or rows[0][1] not in HEADERS:
        raise BadFormat(f"{path}, line 1: the header must be 'time,power_w', or 'time,level' where watts are unknown")
    times: list[int] = []
    levels: list[float] = []
    for number, cells in rows[1:]:
        try:
            time, level = cells
            times.append(instant_ns(time, trace))
            levels.append(float(level))
        except ValueError as error:  # an InvalidArgument is one
            why = error if isinstance(error, InvalidArgument) else "a time and a number"
            raise BadFormat(f"{path}, line {number}: {why}") from error
        if not math.isfinite(levels[-1]):
            raise BadFormat(f"{path}, line {number}: {cells[1]} is no level")
        if len(times) > 1 and times[-1] <= times[-2]:
            raise BadFormat(f"{path}, line {number}: {cells[0]} does not come after the line before")
    if len(times) < 2:
        raise BadFormat(f"{path}: one edge, and the instant at which the record of it ends, are the least")
    return np.array(times, np.int64), np.array(levels[:-1]), rows[0][1][1] == "power_w"
