# SPDX-License-Identifier: Apache-2.0
"""Sums over polls that come in chunks, told at the edges of any number of windows in one pass.

Polls that a recording left out (`Polls.omitted`) say the same as their neighbours, so every sum is what it would be
with them, to the last bit; counts of reads are shared out over the time between two neighbours, to one read an edge.

Every figure of a window is a running sum's difference between its two edges: reads, changes, a power's integral, a
counter's gain. So a pass costs what the polls cost, not polls times windows, and holds some numbers a window. Arrays of
edges have shape (2, windows): starts, ends. Times are int64 ns; raw values stay the device's own.
"""

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Array, Edges, Floats, Omitted
from powersample.analysis.edge_rates import EdgeRates
from powersample.analysis.polls import NONE_OMITTED, NOT_A_NUMBER, Polls
from powersample.sensors import code_words

NEIGHBOURHOOD_NS = 500_000_000  # around a window, in which a power's extremes are looked for


class Reads:
    """What was read in (start, end]: reads, changes, failures by code, reads left out.

    Args:
        edges: of the windows.
        sensor: where the values come from: it says what the codes of failures mean.
    """

    def __init__(self, edges: Edges, sensor: str = "") -> None:
        self._edges, self._sensor = edges, sensor
        self._sums = {key: np.zeros(edges.shape, np.int64) for key in ("reads", "changes", "glitches", "back")}
        self._failed: dict[int, NDArray[np.int64]] = {}
        self._last: Array | None = None
        self._last_ns: dict[str | int, int] = {}  # of reads, and of failures by code
        self._lists: dict[str | int, list[int]] = {}  # of every window, once they are asked for

    def add(self, polls: Polls) -> None:
        """Take the next polls."""
        self._lists.clear()
        raw, changed_ns = polls.raw, polls.t_ns[:0]
        if len(raw):
            before = raw[:1] if self._last is None else self._last
            changed_ns = polls.t_ns[np.diff(np.concatenate((before, raw))) != 0]
            self._last = raw[-1:]
        self._count(self._sums["reads"], "reads", polls.read_ns, polls.read_omitted)
        for key, t_ns in (("changes", changed_ns), ("glitches", polls.glitch_ns), ("back", polls.back_ns)):
            self._count(self._sums[key], key, t_ns, NONE_OMITTED)
        for code, t_ns in polls.failed.items():
            total = self._failed.setdefault(code, np.zeros(self._edges.shape, np.int64))
            self._count(total, code, t_ns, polls.failed_omitted[code])

    def _count(self, total: NDArray[np.int64], key: str | int, t_ns: NDArray[np.int64], omitted: Omitted) -> None:
        if not len(t_ns):
            return
        at = np.searchsorted(t_ns, self._edges, "right")
        total += at
        if omitted.any():
            left_out = omitted.astype(np.int64)
            begin_ns = np.concatenate(([self._last_ns.get(key, int(t_ns[0]))], t_ns[:-1]))
            total += np.concatenate(([0], np.cumsum(left_out)))[at]
            inside = np.minimum(at, len(t_ns) - 1)  # the reading whose left out ones an edge may lie among
            share = (self._edges - begin_ns[inside]) / np.maximum(t_ns - begin_ns, 1)[inside]
            part = np.floor(share * (left_out[inside] + 1)).astype(np.int64)
            total += np.where(at < len(t_ns), np.clip(part, 0, left_out[inside]), 0)
        self._last_ns[key] = int(t_ns[-1])

    def lengths_ns(self) -> Floats:
        """Return how long each window is."""
        lengths_ns: Floats = (self._edges[1] - self._edges[0]).astype(np.float64)
        return lengths_ns

    def within(self, key: str, window: int) -> int:
        """Return "reads", "changes", "glitches" or "back" of a window."""
        return self._list(key)[window]

    def good(self, window: int) -> int:
        """Return reads that did not fail."""
        return self._list("good")[window]

    def _list(self, key: str | int) -> list[int]:
        """Return the counts of every window, failures by code: lists, for thousands of windows ask one by one."""
        found = self._lists.get(key)
        if found is None:
            found = self._lists[key] = self._counts(key).tolist()
        return found

    def _counts(self, key: str | int) -> NDArray[np.int64]:
        if key == "bad":
            return sum((self._counts(code) for code in self._failed), np.zeros(self._edges.shape[1], np.int64))
        if key == "good":
            return self._counts("reads") - self._counts("bad")
        if key == "notable":  # has something to be told about
            return self._counts("bad") + self._counts("glitches") + self._counts("back")
        sums = self._sums[key] if isinstance(key, str) else self._failed[key]
        counts: NDArray[np.int64] = sums[1] - sums[0]
        return counts

    def reasons(self, window: int) -> list[str]:
        """Return what a window's reads have to be told about."""
        said: list[str] = []
        if not self._list("notable")[window]:
            return said
        if bad := self._list("bad")[window]:
            failed = ((code, self._list(code)[window]) for code in sorted(self._failed))
            codes = ", ".join(
                f"not a number: {count}" if code == NOT_A_NUMBER else f"code {code_words(self._sensor, code)}: {count}"
                for code, count in failed
                if count
            )
            reads = self.within("reads", window)
            share = f"all {reads} reads" if bad == reads else f"{bad} of {reads} reads"
            said.append(f"PSQ-ERRORS {share} failed ({codes})")
        if glitches := self.within("glitches", window):
            said.append(f"PSQ-GLITCH {glitches} reads of the counter jumped away and back; they are left out")
        if back := self.within("back", window):
            said.append(f"PSQ-ORDER {back} reads whose time does not advance are left out")
        return said


class PowerIntegral:
    """Integral of straight lines between polls over every [start, end], in raw unit x ns.

    Polls that are faster than the sensor see each value for one period: then the lines' integral equals that of values
    held from update to update, each change placed in the middle of the two polls around it.

    Device values are integers, and so is twice the area under them: it is summed exactly, modulo 2^64, beside a float
    that says how often that went around. So a window's integral depends neither on where the record begins nor on how
    it is cut into chunks.

    Args:
        edges: of the windows.
        gap_ns: spacing of polls from which something is hidden between them.
    """

    def __init__(self, edges: Edges, gap_ns: float) -> None:
        self._edges, self._gap_ns = edges, gap_ns
        self._area_at, self._hidden_at = np.zeros(edges.shape), np.zeros(edges.shape)
        self._begun, self._ended = np.zeros(edges.shape, np.int64), np.zeros(edges.shape, np.int64)
        self._area = self._hidden = 0.0
        self._twice, self._twice_at = np.zeros(1, np.int64), np.zeros(edges.shape, np.int64)  # area modulo 2^64
        self._bend_at = np.zeros(edges.shape)  # what a slope adds between the last poll and each edge
        self._exact = True
        self._first: tuple[int, float] | None = None
        self._last: tuple[NDArray[np.int64], Array] = (np.zeros(1, np.int64), np.zeros(1))
        self._most, self._least = np.full(edges.shape[1], -np.inf), np.full(edges.shape[1], np.inf)

    def add(self, t_ns: NDArray[np.int64], raw: Array, omitted: Omitted) -> None:
        """Take the next good polls."""
        if not len(t_ns):
            return
        self._exact &= raw.dtype.kind == "i"
        self._extremes(t_ns, raw.astype(np.float64), omitted)
        if self._first is None:
            self._first = (int(t_ns[0]), float(raw[0]))
            omitted = omitted[1:]
        else:
            t_ns, raw = np.concatenate((self._last[0], t_ns)), np.concatenate((self._last[1], raw))
        self._last = (t_ns[-1:], raw[-1:])
        if len(t_ns) < 2:
            return
        value, spacing_ns = raw.astype(np.float64), np.diff(t_ns).astype(np.float64)
        hole = (spacing_ns > self._gap_ns) & (omitted == 0)
        area = np.concatenate(([0.0], np.cumsum(0.5 * (value[1:] + value[:-1]) * spacing_ns))) + self._area
        mine = (self._edges >= t_ns[0]) & (self._edges < t_ns[-1])
        edge_ns = self._edges[mine]
        left = np.searchsorted(t_ns, edge_ns, "right") - 1
        into_ns = (edge_ns - t_ns[left]).astype(np.float64)
        slope = (value[left + 1] - value[left]) / spacing_ns[left]
        self._bend_at[mine] = 0.5 * slope * into_ns * into_ns
        self._area_at[mine] = area[left] + value[left] * into_ns
        self._area = float(area[-1])
        if self._exact:
            twice = np.concatenate((self._twice, self._twice + np.cumsum((raw[1:] + raw[:-1]) * np.diff(t_ns))))
            self._twice_at[mine] = twice[left] + 2 * raw[left] * (edge_ns - t_ns[left])
            self._twice = twice[-1:]
        if hole.any():
            hidden = np.concatenate(([0.0], np.cumsum(np.where(hole, spacing_ns, 0.0)))) + self._hidden
            self._hidden_at[mine] = hidden[left] + np.where(hole[left], into_ns, 0.0)
            self._hidden = float(hidden[-1])
            self._begun += np.searchsorted(t_ns[:-1][hole], self._edges, "left")
            self._ended += np.searchsorted(t_ns[1:][hole], self._edges, "right")
        else:
            self._hidden_at[mine] = self._hidden

    def _extremes(self, t_ns: NDArray[np.int64], value: Floats, omitted: Omitted) -> None:
        first = np.searchsorted(t_ns, self._edges[0] - NEIGHBOURHOOD_NS, "left")
        end = np.searchsorted(t_ns, self._edges[1] + NEIGHBOURHOOD_NS, "right")
        end += np.append(omitted > 0, False)[end]  # what was left out before the next one was read in time
        some = first < end
        if some.any():
            pairs = np.stack((first[some], end[some]), axis=1).ravel()  # every second stretch is a window's
            padded = np.concatenate((value, value[-1:]))
            self._most[some] = np.maximum(self._most[some], np.maximum.reduceat(padded, pairs)[::2])
            self._least[some] = np.minimum(self._least[some], np.minimum.reduceat(padded, pairs)[::2])

    def lacks(self) -> NDArray[np.bool_]:
        """Return bool, shape (2, windows): edges beyond the outermost polls."""
        if self._first is None:
            return np.ones(self._edges.shape, np.bool_)
        return np.stack((self._edges[0] < self._first[0], self._edges[1] > self._last[0][0]))

    def extremes(self) -> tuple[Floats, Floats]:
        """Return the least and the most raw value around every window; infinite without any."""
        return self._least, self._most

    def close(self, slack_before_ns: float, slack_after_ns: float) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
        """Hold the outermost polls over what little the edges miss.

        Returns:
            The integrals, the ns that stay uncovered, the ns hidden in gaps, the gaps; each of shape (windows,).
        """
        length_ns = (self._edges[1] - self._edges[0]).astype(np.float64)
        if self._first is None:
            return np.zeros_like(length_ns), length_ns, np.zeros_like(length_ns), np.zeros(len(length_ns), np.int64)
        (last_ns,), (last,) = self._last
        beyond = self._edges >= last_ns
        self._area_at[beyond], self._hidden_at[beyond], self._bend_at[beyond] = self._area, self._hidden, 0.0
        self._twice_at[beyond] = self._twice
        total, hidden_ns = self._areas(), self._hidden_at[1] - self._hidden_at[0]
        uncovered_ns = np.zeros_like(length_ns)
        for missing_ns, slack_ns, value in (
            (self._first[0] - self._edges[0], slack_before_ns, self._first[1]),
            (self._edges[1] - last_ns, slack_after_ns, float(last)),
        ):
            missing = np.clip(missing_ns.astype(np.float64), 0.0, length_ns)
            total += np.where(missing <= slack_ns, missing * value, 0.0)
            uncovered_ns += np.where(missing <= slack_ns, 0.0, missing)
        return total, np.minimum(uncovered_ns, length_ns), hidden_ns, self._begun[1] - self._ended[0]

    def _areas(self) -> Floats:
        area = self._area_at[1] - self._area_at[0]
        if self._exact:
            twice = self._twice_at[1] - self._twice_at[0]
            area = (twice + np.rint((2 * area - twice) / 2.0**64) * 2.0**64) / 2
        total: Floats = area + (self._bend_at[1] - self._bend_at[0])
        return total


class CounterDifference:
    """What a counter gained over every [start, end], on a line through its points, in raw units.

    A point is a change, at the middle of the time in which it was published; or every poll, when polls are
    no faster than the counter. A value that goes back is a wrap where `modulus` allows it, else a reset: what
    was gained before counts, the step itself adds nothing.

    Args:
        edges: of the windows.
        every_poll: whether polls are no faster than the counter.
        period_ns: of the counter; inf when unknown.
        gap_ns: spacing of polls from which an edge between them is hidden.
        modulus: raw values wrap to 0 here.
    """

    def __init__(
        self, edges: Edges, *, every_poll: bool, period_ns: float, gap_ns: float, modulus: int | None = None
    ) -> None:
        self._edges, self._every_poll, self._period_ns = edges, every_poll, period_ns
        self._gap_ns, self._modulus = gap_ns, modulus
        self._at = np.full(edges.shape, np.nan)  # gained up to each edge
        self._hole = np.zeros((2, *edges.shape), np.int64)  # begin and end of the hole an edge lies in; 0, 0 for none
        self._resets = np.zeros(edges.shape, np.int64)
        self._gained = 0.0
        self._last: tuple[NDArray[np.int64], Array] | None = None
        self.rates = EdgeRates(edges, 0.5 * period_ns if every_poll and np.isfinite(period_ns) else 1.0)
        self._heads: list[tuple[int, float]] = []  # the first two points
        self._tails: list[tuple[int, float]] = []  # the last two

    def add(self, t_ns: NDArray[np.int64], raw: Array, omitted: Omitted) -> None:
        """Take the next good polls."""
        if not len(t_ns):
            return
        first_chunk = self._last is None
        if self._last is not None:
            t_ns, raw = np.concatenate((self._last[0], t_ns)), np.concatenate((self._last[1], raw))
        else:
            omitted = omitted[1:]
        self._last = (t_ns[-1:], raw[-1:])
        step = np.diff(raw)
        back = step < 0
        if back.any():
            step = step.copy()
            if self._modulus is not None:
                wrapped = step[back] + self._modulus
                step[back] = np.where(wrapped < self._modulus // 2, wrapped, -1)
                back = step < 0
            step[back] = 0
            self._resets += np.searchsorted(t_ns[1:][back], self._edges, "right")
        moved = np.flatnonzero((step != 0) | back) + 1
        gained = self._gained + np.cumsum(step).astype(np.float64)
        if len(step):
            self._gained = float(gained[-1])
        self._holes(t_ns, omitted)
        if self._every_poll:
            keep = slice(0 if first_chunk else 1, None)
            self._points(t_ns[keep], np.concatenate(([0.0], gained))[keep] if first_chunk else gained)
        elif len(moved):
            changed, earliest = t_ns[moved], t_ns[moved - 1]
            if np.isfinite(self._period_ns):
                earliest = np.maximum(earliest, changed - int(1.03 * self._period_ns))
            self._points(earliest + (changed - earliest) // 2, gained[moved - 1])

    def _holes(self, t_ns: NDArray[np.int64], omitted: Omitted) -> None:
        hole = (np.diff(t_ns) > self._gap_ns) & (omitted == 0)
        if not hole.any():
            return
        mine = (self._edges > t_ns[0]) & (self._edges < t_ns[-1])
        edge_ns = self._edges[mine]
        left = np.searchsorted(t_ns, edge_ns, "left") - 1
        inside = hole[left] & (edge_ns < t_ns[left + 1])
        self._hole[0][mine] = np.where(inside, t_ns[left], 0)
        self._hole[1][mine] = np.where(inside, t_ns[left + 1], 0)

    def _points(self, at_ns: NDArray[np.int64], gained: Floats) -> None:
        self.rates.add(at_ns, gained)
        if len(self._heads) < 2:
            self._heads += [(int(t), float(g)) for t, g in zip(at_ns[:2], gained[:2], strict=True)]
            del self._heads[2:]
        if self._tails:
            at_ns = np.concatenate(([self._tails[-1][0]], at_ns))
            gained = np.concatenate(([self._tails[-1][1]], gained))
        mine = (self._edges >= at_ns[0]) & (self._edges <= at_ns[-1])
        self._at[mine] = np.interp(self._edges[mine] - at_ns[0], at_ns - at_ns[0], gained)
        self._tails = [(int(t), float(g)) for t, g in zip(at_ns[-2:], gained[-2:], strict=True)]

    def lacks(self) -> NDArray[np.bool_]:
        """Return bool, shape (2, windows): edges beyond the outermost points."""
        lacks: NDArray[np.bool_] = np.isnan(self._at)
        return lacks

    def resets(self) -> NDArray[np.int64]:
        """Return how often the counter went back in every (start, end]."""
        resets: NDArray[np.int64] = self._resets[1] - self._resets[0]
        return resets

    def hidden_ns(self) -> Floats:
        """Return the part of every window in a hole between polls that one of its edges lies in."""
        (start_ns, end_ns), (begin, end) = self._edges, self._hole
        head_ns = np.where(end[0] > 0, np.minimum(end[0], end_ns) - start_ns, 0)
        other = (end[1] > 0) & (begin[1] != begin[0])
        return (head_ns + np.where(other, end_ns - np.maximum(begin[1], start_ns), 0)).astype(np.float64)

    def close(self, reach_ns: float) -> tuple[Floats, Floats]:
        """Return the gains, NaN where none can be told, and the ns of the windows that no point speaks for.

        Args:
            reach_ns: how far beyond the outermost points their rate may be carried on.
        """
        start_ns, end_ns = self._edges
        length_ns = (end_ns - start_ns).astype(np.float64)
        if len(self._heads) < 2:
            return np.full(len(length_ns), np.nan), length_ns
        (t0, g0), (t1, g1) = self._heads
        before_ns, start_at = _carry(t0 - start_ns, reach_ns)
        at_start = np.where(np.isnan(self._at[0]), g0 - start_at * (g1 - g0) / max(1, t1 - t0), self._at[0])
        (t2, g2), (t3, g3) = self._tails
        after_ns, end_at = _carry(end_ns - t3, reach_ns)
        at_end = np.where(np.isnan(self._at[1]), g3 + end_at * (g3 - g2) / max(1, t3 - t2), self._at[1])
        outside = (t3 <= start_ns) | (t0 >= end_ns)
        return np.where(outside, np.nan, at_end - at_start), np.where(outside, length_ns, before_ns + after_ns)


def _carry(missing_ns: NDArray[np.int64], reach_ns: float) -> tuple[Floats, Floats]:
    """Split what an edge misses into what stays uncovered and what the rate is carried over."""
    missing = np.maximum(missing_ns, 0).astype(np.float64)
    return np.where(missing > reach_ns, missing, 0.0), np.where(missing > reach_ns, 0.0, missing)
