# SPDX-License-Identifier: Apache-2.0
"""Two sums over polls that come in chunks: a power's integral and a counter's difference.

Each holds a few numbers however long the window is. Times are int64 ns; raw values stay the device's own.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FIRST_POINTS = 2


@dataclass(slots=True)
class PowerIntegral:
    """Integral of straight lines between polls over [start_ns, end_ns], in raw unit x ns.

    Polls that are faster than the sensor see each value for one period: then the lines' integral equals that of values
    held from update to update, each change placed in the middle of the two polls around it.
    """

    start_ns: int
    end_ns: int
    gap_ns: float
    total: float = 0.0
    bridged_ns: float = 0.0  # inside gaps between polls
    gaps: int = 0
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None

    def add(self, t_ns: NDArray[np.int64], raw: Array) -> None:
        """Take the next good polls."""
        if not len(t_ns):
            return
        if self.last is not None:
            t_ns = np.concatenate(([self.last[0]], t_ns))
            raw = np.concatenate(([self.last[1]], raw))
        else:
            self.first = (int(t_ns[0]), float(raw[0]))
        self.last = (int(t_ns[-1]), float(raw[-1]))
        begin = max(0, int(np.searchsorted(t_ns, self.start_ns, "right")) - 1)
        end = int(np.searchsorted(t_ns, self.end_ns, "left")) + 1
        t_ns, value = t_ns[begin:end], raw[begin:end].astype(np.float64)
        if len(t_ns) < 2 or t_ns[0] >= self.end_ns or t_ns[-1] <= self.start_ns:
            return
        spacing_ns = np.diff(t_ns).astype(np.float64)
        inside_ns = spacing_ns
        if t_ns[0] < self.start_ns or t_ns[-1] > self.end_ns:
            inside_ns = spacing_ns.copy()
            cut = np.clip(t_ns, self.start_ns, self.end_ns)
            head, tail = cut[[0, -1]] - t_ns[[0, -1]]
            slope = np.diff(value[[0, 1]])[0] / spacing_ns[0], np.diff(value[[-2, -1]])[0] / spacing_ns[-1]
            inside_ns[0] -= head
            inside_ns[-1] += tail
            value[0] += slope[0] * head
            value[-1] += slope[1] * tail
        self.total += 0.5 * float(np.dot(value[1:] + value[:-1], inside_ns))
        gap = spacing_ns > self.gap_ns
        if gap.any():
            self.gaps += int(np.count_nonzero(gap))
            self.bridged_ns += float(inside_ns[gap].sum())

    def close(self, slack_before_ns: float, slack_after_ns: float) -> float:
        """Hold the outermost polls over what little the edges miss; return the ns that stay uncovered."""
        length_ns = float(self.end_ns - self.start_ns)
        if self.first is None or self.last is None:
            return length_ns
        head_ns = min(float(max(0, self.first[0] - self.start_ns)), length_ns)
        tail_ns = min(float(max(0, self.end_ns - self.last[0])), length_ns)
        uncovered_ns = 0.0
        for missing_ns, slack_ns, value in (
            (head_ns, slack_before_ns, self.first[1]),
            (tail_ns, slack_after_ns, self.last[1]),
        ):
            if missing_ns <= slack_ns:
                self.total += missing_ns * value
            else:
                uncovered_ns += missing_ns
        return min(uncovered_ns, length_ns)


@dataclass(slots=True)
class CounterDifference:
    """What a counter gained over [start_ns, end_ns], on a line through its points, in raw units.

    A point is a change, at the middle of the time in which it was published; or every poll, when polls are
    no faster than the counter. A value that goes back is a wrap where `modulus` allows it, else a reset: what
    was gained before counts, the step itself adds nothing.
    """

    start_ns: int
    end_ns: int
    every_poll: bool
    period_ns: float  # of the counter; inf when unknown
    modulus: int | None = None
    resets: int = 0  # inside the window
    changes: int = 0  # inside the window
    at_start: float | None = None
    at_end: float | None = None
    heads: list[tuple[int, float]] = field(default_factory=list)  # the first two points
    tails: list[tuple[int, float]] = field(default_factory=list)  # the last two
    _gained: float = 0.0
    _last: tuple[int, Any] | None = None

    def add(self, t_ns: NDArray[np.int64], raw: Array) -> None:
        """Take the next good polls."""
        if not len(t_ns):
            return
        first_chunk = self._last is None
        if self._last is not None:
            t_ns = np.concatenate(([self._last[0]], t_ns))
            raw = np.concatenate((np.asarray([self._last[1]], raw.dtype), raw))
        self._last = (int(t_ns[-1]), raw[-1])
        step = np.diff(raw)
        back = step < 0
        if back.any():
            step = step.copy()
            if self.modulus is not None:
                wrapped = step[back] + self.modulus
                step[back] = np.where(wrapped < self.modulus // 2, wrapped, -1)
                back = step < 0
            step[back] = 0
            at = t_ns[1:][back]
            self.resets += int(np.count_nonzero((at > self.start_ns) & (at <= self.end_ns)))
        moved = np.flatnonzero((step != 0) | back) + 1
        gained = self._gained + np.cumsum(step).astype(np.float64)
        if len(step):
            self._gained = float(gained[-1])
        changed = t_ns[moved]
        self.changes += int(np.count_nonzero((changed > self.start_ns) & (changed <= self.end_ns)))
        if self.every_poll:
            keep = slice(0 if first_chunk else 1, None)
            self._points(t_ns[keep], np.concatenate(([0.0], gained))[keep] if first_chunk else gained)
        elif len(moved):
            earliest = t_ns[moved - 1]
            if np.isfinite(self.period_ns):
                earliest = np.maximum(earliest, changed - int(1.03 * self.period_ns))
            self._points(earliest + (changed - earliest) // 2, gained[moved - 1])

    def _points(self, at_ns: NDArray[np.int64], gained: NDArray[np.float64]) -> None:
        if self.tails:
            at_ns = np.concatenate(([self.tails[-1][0]], at_ns))
            gained = np.concatenate(([self.tails[-1][1]], gained))
        if at_ns[0] <= self.start_ns <= at_ns[-1]:
            self.at_start = _line(self.start_ns, at_ns, gained)
        if at_ns[0] <= self.end_ns <= at_ns[-1]:
            self.at_end = _line(self.end_ns, at_ns, gained)
        fresh = [(int(t), float(g)) for t, g in zip(at_ns[:3], gained[:3], strict=True)][1 if self.tails else 0 :]
        self.heads = (self.heads + fresh)[:FIRST_POINTS]
        self.tails = (self.tails[-1:] if len(at_ns) < 2 else []) + [
            (int(t), float(g)) for t, g in zip(at_ns[-2:], gained[-2:], strict=True)
        ]

    def close(self, reach_ns: float) -> tuple[float | None, float]:
        """Return the gain and the ns of the window that no point speaks for.

        Args:
            reach_ns: how far beyond the outermost points their rate may be carried on.
        """
        length_ns = float(self.end_ns - self.start_ns)
        if len(self.heads) < FIRST_POINTS or self.tails[-1][0] <= self.start_ns or self.heads[0][0] >= self.end_ns:
            return None, length_ns
        uncovered_ns = 0.0
        if self.at_start is None:
            (t0, g0), (t1, g1) = self.heads
            missing_ns = t0 - self.start_ns
            carried_ns = missing_ns if missing_ns <= reach_ns else 0
            uncovered_ns += missing_ns - carried_ns
            self.at_start = g0 - carried_ns * (g1 - g0) / max(1, t1 - t0)
        if self.at_end is None:
            (t0, g0), (t1, g1) = self.tails[-2:]
            missing_ns = self.end_ns - t1
            carried_ns = missing_ns if missing_ns <= reach_ns else 0
            uncovered_ns += missing_ns - carried_ns
            self.at_end = g1 + carried_ns * (g1 - g0) / max(1, t1 - t0)
        return self.at_end - self.at_start, uncovered_ns


def _line(t_ns: int, at_ns: NDArray[np.int64], gained: NDArray[np.float64]) -> float:
    right = min(max(1, int(np.searchsorted(at_ns, t_ns, "left"))), len(at_ns) - 1)
    left = max(0, right - 1)
    width_ns = int(at_ns[right] - at_ns[left])
    share = 0.0 if width_ns == 0 else (t_ns - int(at_ns[left])) / width_ns
    return float(gained[left]) + share * float(gained[right] - gained[left])
