# SPDX-License-Identifier: Apache-2.0
"""When a load is on and off: edges that a meter can be aligned by.

Edges must not keep step with the meter's cycles (facts: 250 ms chips on 50 ms cycles cost a factor of seven against
271 ms), and the pattern must not look like itself some time later.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powersample.errors import AccessDenied, BadFormat, InputNotFound, InvalidArgument
from powersample.model import amount

KINDS = "random, prbs, chirp, square:PERIOD_S, or file:CSV"
LEAST_HOLD_S = 0.1  # a first-order lag of 20 ms is nearly over by then
HOLDS = (0.3, 1.7)  # of the mean: the wider they scatter, the better lag and tau are told apart
CHIP_S = 0.271  # prime to the cycles that meters have
CHIRP_S = (2.0, 0.2)  # first and last period
LEAST_SPAN_S = 0.001
TAPS = {5: (5, 3), 6: (6, 5), 7: (7, 6), 8: (8, 6, 5, 4), 9: (9, 5), 10: (10, 7), 11: (11, 9), 12: (12, 6, 4, 1)}

Floats = NDArray[np.float64]


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A load's edges.

    Attributes:
        name: for people.
        edge_s: float64 (2 n,), seconds from the start: on, off, on, off ...
        ambiguous: it looks like itself a period later, and cannot tell one lag from another.
        levels: float64 (n,), 0 to 1: how much of each span from on to off is worked; empty for all of it. With levels
            a span may begin where the one before ends.
    """

    name: str
    edge_s: Floats
    ambiguous: bool = False
    levels: Floats = field(default_factory=_none)

    def __post_init__(self) -> None:
        edges = np.asarray(self.edge_s, np.float64)
        if len(edges) < 2 or len(edges) % 2 or not np.isfinite(edges).all() or edges[0] < 0:
            raise InvalidArgument(f"pattern {self.name}: it needs an even number of instants, 0 or later")
        levels = np.asarray(self.levels, np.float64)
        spans_s = np.diff(edges)
        joined = np.arange(len(spans_s)) % 2 == 1  # off, then on
        joined &= len(levels) > 0
        if not (spans_s[~joined] >= LEAST_SPAN_S).all() or not (spans_s[joined] >= 0).all():
            raise InvalidArgument(f"pattern {self.name}: its instants must rise, by a millisecond or more")
        if len(levels) and (2 * len(levels) != len(edges) or not ((levels >= 0) & (levels <= 1)).all()):
            raise InvalidArgument(f"pattern {self.name}: a level from 0 to 1 for each of its spans")
        for name, values in (("edge_s", edges), ("levels", levels)):
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @property
    def duration_s(self) -> float:
        """From the start to the last edge."""
        return float(self.edge_s[-1])

    @property
    def duty(self) -> float:
        """Share of that in which the load is on, by its levels."""
        on_s = self.edge_s[1::2] - self.edge_s[::2]
        return float(np.sum(on_s * self.levels if len(self.levels) else on_s)) / self.duration_s


def random_edges(duration_s: float, *, seed: int = 0, cycle_s: float = 0.0) -> Pattern:
    """Return edges at random: the default, and the best for most meters.

    Args:
        duration_s: of the whole.
        seed: the same for the same.
        cycle_s: of the meter; edges come about once a cycle, but no faster than every 100 ms on the mean.
    """
    hold_s = max(LEAST_HOLD_S, cycle_s)
    _check_duration(duration_s, 4 * hold_s)
    dice = np.random.default_rng(seed)
    count = math.ceil(duration_s / (HOLDS[0] * hold_s))
    edges = np.concatenate(([0.0], np.cumsum(dice.uniform(*HOLDS, count) * hold_s)))
    return _even(f"random edges about every {amount(hold_s)} s", edges[edges <= duration_s])


def prbs(duration_s: float, *, chip_s: float = CHIP_S, seed: int = 0) -> Pattern:
    """Return a pseudo-random binary sequence that does not come round within the duration (maximum length register)."""
    _check_duration(duration_s, 8 * chip_s)
    chips = int(duration_s / chip_s)
    order = next((n for n in TAPS if 2**n - 1 >= chips), None)
    if order is None:
        raise InvalidArgument(f"{chips} chips of {chip_s} s are too many: {2 ** max(TAPS) - 1} at most")
    state = 1 + seed % (2**order - 1)
    bits = []
    for _ in range(chips):
        bits.append(state & 1)
        back = 0
        for tap in TAPS[order]:
            back ^= state >> (order - tap)
        state = state >> 1 | (back & 1) << (order - 1)
    changes = np.flatnonzero(np.diff([0, *bits, 0]))
    return _even(f"PRBS of {amount(chip_s)} s chips", changes.astype(np.float64) * chip_s)


def chirp(duration_s: float, *, periods_s: tuple[float, float] = CHIRP_S) -> Pattern:
    """Return a square wave whose period goes from the first to the last, its frequency in a straight line."""
    first, last = 1 / periods_s[0], 1 / periods_s[1]
    _check_duration(duration_s, 2 * max(periods_s))
    turns = (first + last) / 2 * duration_s  # half a turn an edge: turns(t) = first t + (last - first) t^2 / (2 D)
    half = np.arange(0, math.floor(2 * turns)) / 2
    rate = (last - first) / duration_s
    edges: Floats = 2 * half / (first + np.sqrt(first**2 + 2 * rate * half))
    return _even(f"chirp from {amount(periods_s[0])} s to {amount(periods_s[1])} s", edges)


def square(duration_s: float, period_s: float, duty: float = 0.5) -> Pattern:
    """Return a plain square wave: a load, but none to synchronise by."""
    if not (period_s > 0 and 0 < duty < 1):
        raise InvalidArgument(f"a wave of period {period_s} s and duty {duty}: above 0, and between 0 and 1")
    _check_duration(duration_s, period_s)
    rise = np.arange(int(duration_s / period_s)) * period_s
    edges = np.column_stack((rise, rise + duty * period_s)).ravel()
    return Pattern(f"square wave of {amount(period_s)} s", edges, ambiguous=True)


def steady(duration_s: float) -> Pattern:
    """Return one span of work, at a level that `run` is told."""
    _check_duration(duration_s, LEAST_SPAN_S)
    return Pattern(f"steady work for {amount(duration_s)} s", np.array([0.0, duration_s]), ambiguous=True)


def ladder(levels: Sequence[float], hold_s: float) -> Pattern:
    """Return steps of these levels (0 to 1), one after the other without a pause, `hold_s` each."""
    if not levels:
        raise InvalidArgument("a ladder needs at least one level")
    _check_duration(len(levels) * hold_s, LEAST_SPAN_S)
    edges = np.repeat(np.arange(len(levels) + 1) * hold_s, 2)[1:-1]
    return Pattern(f"{len(levels)} levels of {amount(hold_s)} s", edges, levels=np.array(levels, np.float64))


def from_file(path: str | os.PathLike[str]) -> Pattern:
    """Return the pattern of a CSV with the header `on_s,off_s`, a line a burst.

    Raises:
        InputNotFound, AccessDenied: it cannot be read.
        BadFormat: another header, or a line that is no burst.
        InvalidArgument: the bursts overlap or are too short.
    """
    path = Path(path)
    try:
        rows = [row for row in csv.reader(path.read_text("utf-8-sig").splitlines()) if row]
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise BadFormat(f"{path} is no pattern: {error}") from error
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
    if not rows or [cell.strip() for cell in rows[0]] != ["on_s", "off_s"]:
        raise BadFormat(f"{path}, line 1: the header must be 'on_s,off_s'")
    edges: list[float] = []
    for number, cells in enumerate(rows[1:], 2):
        try:
            on, off = (float(cell) for cell in cells)
        except ValueError:
            raise BadFormat(f"{path}, line {number}: two numbers of seconds, on and off") from None
        edges += [on, off]
    return Pattern(f"the bursts of {path.name}", np.array(edges))


def cut(pattern: Pattern, duration_s: float) -> Pattern:
    """Return a pattern up to an instant.

    Raises:
        InvalidArgument: nothing of it lies before.
    """
    edges = np.minimum(pattern.edge_s.reshape(-1, 2), duration_s)
    kept = edges[:, 1] - edges[:, 0] >= LEAST_SPAN_S
    if not kept.any():
        raise InvalidArgument(f"{duration_s:g} s hold no burst of {pattern.name}")
    levels = pattern.levels[kept] if len(pattern.levels) else pattern.levels
    return Pattern(pattern.name, edges[kept].ravel(), pattern.ambiguous, levels)


def parse(text: str, duration_s: float, *, seed: int = 0, cycle_s: float = 0.0) -> Pattern:
    """Return the pattern that a command line names: one of `KINDS`.

    Raises:
        InvalidArgument: there is no such pattern.
    """
    kind, _, what = text.partition(":")
    if kind == "file" and what:
        return from_file(what)
    if kind == "square" and what:
        try:
            return square(duration_s, float(what))
        except ValueError as error:
            if isinstance(error, InvalidArgument):
                raise
    elif text == "random":
        return random_edges(duration_s, seed=seed, cycle_s=cycle_s)
    elif text == "prbs":
        return prbs(duration_s, chip_s=max(CHIP_S, cycle_s), seed=seed)
    elif text == "chirp":
        return chirp(duration_s)
    raise InvalidArgument(f"no pattern {text!r}; there are {KINDS}")


def _even(name: str, edges: Floats) -> Pattern:
    return Pattern(name, edges[: len(edges) // 2 * 2])


def _check_duration(duration_s: float, least_s: float) -> None:
    if not least_s <= duration_s < 86400:
        raise InvalidArgument(f"a pattern of {duration_s} s: from {amount(least_s)} s to a day")
