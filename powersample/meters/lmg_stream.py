# SPDX-License-Identifier: Apache-2.0
"""An LMG's lines as readings, and what is missing between them. No I/O."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from powersample.formats.lmg import Line, count_type, is_infinite, is_no_number
from powersample.meters.contract import NO_NUMBER, OVER_RANGE, MeterBatch, MeterGap, MeterReading
from powersample.meters.missing import CycleClock, CycleCount


class Stream:
    """Takes the lines of one streaming measurement after the other.

    Args:
        phases: How many powers a line holds, behind the count and the cycle's length.
        cycle_s: Nominal length of a cycle.

    Attributes:
        last_ns: Arrival of the newest reading; set by `begin` to the measurement's start.
        counts: bad_lines, missing_cycles, repeats.
    """

    def __init__(self, phases: int, cycle_s: float) -> None:
        self._phases, self._cycle_s = phases, cycle_s
        self.last_ns = 0
        self.counts = dict.fromkeys(("bad_lines", "missing_cycles", "repeats"), 0)
        self._rows: list[tuple[int, float, tuple[float, ...], tuple[int, ...]]] = []
        self._gaps: list[MeterGap] = []
        self._open: MeterGap | None = None
        self._spoilt = 0
        self.begin(0, with_count=False, with_cycle=False, packed=False)

    def begin(self, start_ns: int, *, with_count: bool, with_cycle: bool, packed: bool) -> None:
        """Expect a new measurement.

        Args:
            start_ns: Now.
            with_count: Whether a line begins with the cycle counter.
            with_cycle: Whether the cycle's length comes next.
            packed: Whether lines are packed.
        """
        self.last_ns = start_ns
        self._with_count, self._with_cycle = with_count, with_cycle
        self._items = self._phases + with_count + with_cycle
        self._types = "" if packed and with_count else "f" * self._items
        self._count, self._clock = CycleCount(), CycleClock()

    def open_gap(self, cause: str, text: str) -> None:
        """Note that nothing comes any more since the last reading; told as open until something does."""
        if self._open is None:
            self._open = MeterGap(self.last_ns, None, cause, None, text)
            self._gaps.append(self._open)

    def tell_why(self, why: str) -> None:
        """Note why the open gap lasts, once for each new reason."""
        if self._open is not None and (lasting := self._open.still(why)) != self._open:
            self._open = lasting
            self._gaps.append(lasting)

    def take(self, line: Line, garbage: int) -> None:
        """Take a line apart.

        Args:
            line: The line.
            garbage: Bytes that were left out until now, in all.
        """
        values = self._values(line)
        if values is None:
            self.counts["bad_lines"] += 1
            return
        rest = list(values)
        count = rest.pop(0) if self._with_count else None
        cycle_s = rest.pop(0) if self._with_cycle else self._cycle_s
        if is_no_number(cycle_s) or not 0 < cycle_s <= 2 * self._cycle_s + 1:
            cycle_s = self._cycle_s
        at_ns = line.arrival_ns
        gone, self._open = self._open, None
        told = len(self._gaps)
        spoilt = garbage + self.counts["bad_lines"]
        cause = "garbage" if spoilt > self._spoilt else "missing cycles"
        self._spoilt = spoilt
        if self._is_new(count, at_ns, cycle_s, cause):
            self.last_ns = at_ns
            flags = tuple(NO_NUMBER if is_no_number(w) else OVER_RANGE if is_infinite(w) else 0 for w in rest)
            self._rows.append((at_ns, cycle_s, tuple(rest), flags))
        if gone is not None:
            self._gaps[told:] = _as_one(replace(gone, end_ns=at_ns), self._gaps[told:])

    def _values(self, line: Line) -> tuple[float, ...] | None:
        if self._types:
            return line.values(self._types)
        values = line.values("f" * self._items)
        if values is None or line.payload is None:
            return None
        kind = count_type(line.payload)
        if not kind:  # the same in both types, or garbage; the next line tells
            return values if values[0] == 0 else None
        self._types = kind + "f" * (self._items - 1)
        return line.values(self._types)

    def _is_new(self, count: float | None, at_ns: int, cycle_s: float, cause: str) -> bool:
        """Note cycles that are missing before a reading; return whether it is no repeat."""
        if count is None or is_no_number(count) or is_infinite(count):
            found = self._clock.step(at_ns, cycle_s)
            if found is not None:
                self._miss(found[1], found[2], found[0], cause, "by the time between arrivals")
            return True
        missing = self._count.step(int(count), at_ns, cycle_s)
        if missing == -1:
            self.counts["repeats"] += 1
            return False
        if missing is None:
            self._gaps.append(MeterGap(self.last_ns, at_ns, "restarted", None, "the meter's counter began anew"))
        elif missing:
            self._miss(self.last_ns, at_ns, missing, cause, "by the meter's own count")
        return True

    def _miss(self, start_ns: int, end_ns: int, missing: int, cause: str, how: str) -> None:
        self.counts["missing_cycles"] += missing
        cycles = "cycle is" if missing == 1 else "cycles are"
        self._gaps.append(MeterGap(start_ns, end_ns, cause, missing, f"{missing} {cycles} missing, {how}"))

    def batch(self) -> MeterBatch:
        """Return what has come since the last call: the sum of the phases, and each of several."""
        rows, self._rows = self._rows, []
        gaps, self._gaps = tuple(self._gaps), []
        if not rows:
            return MeterBatch((), gaps)
        arrival_ns = np.array([row[0] for row in rows], np.int64)
        cycle_s = np.array([row[1] for row in rows], np.float64)
        flags = np.array([row[3] for row in rows], np.uint16)
        watts = np.where(flags == 0, np.array([row[2] for row in rows], np.float64), np.nan)
        readings = [MeterReading(arrival_ns, cycle_s, watts.sum(axis=1), flags.max(axis=1))]
        if self._phases > 1:
            each = zip(watts.T, flags.T, strict=True)
            readings += [MeterReading(arrival_ns, cycle_s, w, f, i) for i, (w, f) in enumerate(each, 1)]
        return MeterBatch(tuple(readings), gaps)


def _as_one(gone: MeterGap, counted: list[MeterGap]) -> list[MeterGap]:
    """Return a gap that has ended and those found at its end, with what was counted of the same time told by it."""
    same = [one for one in counted if one.start_ns == gone.start_ns and one.end_ns == gone.end_ns]
    for one in same:
        gone = replace(gone, missing=one.missing, text=f"{gone.text}; {one.text}")
    return [gone, *(one for one in counted if one not in same)]
