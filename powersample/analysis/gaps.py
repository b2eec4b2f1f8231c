# SPDX-License-Identifier: Apache-2.0
"""One pass over a channel's readings that finds where something is missing: holes between good polls, and standstills.

What a hole or a standstill means is judged elsewhere: `quality` counts gaps and stalls, `dropout` says what they hid.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Array
from powersample.analysis.updates import GAP_FACTOR, STALL_FACTOR, Pace
from powersample.model import Channel, Kind, Series

LISTED = 1000  # holes and standstills that are told one by one
STILL_NS = 10_000_000_000  # of one value, from which it is worth asking why
LOST = 1.5  # records that the lane counted between two of a channel's polls, from which some were lost


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole between two good polls.

    Attributes:
        start_ns: the poll before it.
        end_ns: the poll after it.
        cause: "errors", "dropped" (records lost to a full ring), or "skipped" (nobody asked in time).
        code: of the first read that failed in it; None without one, and for a read that gave no number.
    """

    start_ns: int
    end_ns: int
    cause: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Hole:
    """A gap that hides an update, with the range of a power around it and what a counter gained across it, raw."""

    gap: Gap
    range_raw: float
    step_raw: float


@dataclass(frozen=True, slots=True)
class Still:
    """A stretch of good polls of one value, and the step that ended it, raw; `ends`: whether the record ends first."""

    start_ns: int
    end_ns: int
    raw: float
    step_raw: float
    ends: bool


def joined(chunks: Iterable[Series]) -> Iterator[tuple[Series, Series]]:
    """Yield each chunk, and its good readings behind the last good one of those before."""
    last: Series | None = None
    for chunk in chunks:
        good = chunk.good
        kept = chunk if good.all() else chunk.take(good)
        if len(kept):
            if last is not None:
                kept = Series.concat(chunk.channel, [last, kept])
            last = kept.take(slice(-1, None))
        yield chunk, kept


class Gaps:
    """The pass. Memory is a chunk, what lies within `near_ns` of a hole, and 1000 holes and standstills.

    Args:
        channel: whose readings.
        seen: how it was polled.
        seq_step: by how much its lane's record number grows from poll to poll.
        hides_ns: spacing of good polls from which an update is hidden between them.
        near_ns: around a hole, where the range of a power is looked up.
        known: int64 (n, 2): from when to when the source itself says that readings are missing; with it, and where
            their numbers follow one another, a spacing is a late arrival and hides none. None: it does not tell.
    """

    def __init__(
        self,
        channel: Channel,
        seen: Pace,
        *,
        seq_step: float,
        hides_ns: float,
        near_ns: int,
        known: NDArray[np.int64] | None = None,
    ) -> None:
        self._channel, self._seen, self._seq_step = channel, seen, seq_step
        self._hides_ns, self._near_ns, self._known = hides_ns, near_ns, known
        self.stalls = self.gaps_total = self.holes_total = self.hidden_ns = self.back = 0
        self.known_ns = self.known_raw = 0.0  # of a counter: sums over polls without a hole that did not go back
        self.least_raw, self.most_raw = np.inf, -np.inf
        self.gaps: list[Gap] = []
        self.holes: list[Hole] = []
        self.first_ns: int | None = None
        self.last_ns = 0
        self._stills: list[Still] = []
        self._failed: tuple[NDArray[np.int64], NDArray[np.uint16]] = (np.empty(0, np.int64), np.empty(0, np.uint16))
        self._near_t, self._near_raw = np.empty(0, np.int64), np.empty(0)
        self._waiting: list[tuple[Gap, float]] = []  # holes whose neighbourhood is not read to its end
        self._since: tuple[int, float] | None = None  # of the value that stands

    def add(self, chunk: Series, kept: Series) -> None:
        """Take what `joined` yields."""
        bad = ~chunk.good
        if bad.any():
            self._failed = (
                np.concatenate((self._failed[0], chunk.t_ns[bad])),
                np.concatenate((self._failed[1], chunk.status[bad])),
            )
        if not len(kept):
            self._failed = (self._failed[0][:1], self._failed[1][:1])
            return
        t_ns, raw = kept.t_ns, kept.raw
        if self.first_ns is None:
            self.first_ns, self._since = int(t_ns[0]), (int(t_ns[0]), float(raw[0]))
        self.last_ns = int(t_ns[-1])
        step, spacing_ns = np.diff(raw), np.diff(t_ns)
        there = kept.left_out[1:] == 0
        self._spacings(kept, t_ns, spacing_ns, step, there)
        self._standstills(t_ns, raw, step)
        if self._channel.kind is Kind.ENERGY:
            known = (step >= 0) & ~((spacing_ns > self._hides_ns) & there)
            self.back += int(np.count_nonzero(step < 0))
            self.known_ns += float(spacing_ns[known].sum())
            self.known_raw += float(step[known].sum())
        else:
            self.least_raw = min(self.least_raw, float(raw.min()))
            self.most_raw = max(self.most_raw, float(raw.max()))
            self._look_around(t_ns[1:] if len(self._near_t) else t_ns, raw[1:] if len(self._near_t) else raw)
        behind = self._failed[0] > self.last_ns
        self._failed = (self._failed[0][behind][:1], self._failed[1][behind][:1])

    def close(self) -> None:
        """Judge what still waits for readings that do not come."""
        self._judge(everything=True)

    def stills(self) -> list[Still]:
        """Return stretches of 10 s and more of one value, the last one included."""
        found = list(self._stills)
        if self._since is not None and self.last_ns - self._since[0] > STILL_NS:
            found.append(Still(self._since[0], self.last_ns, self._since[1], 0.0, True))
        return found

    def _spacings(self, kept: Series, t_ns: Array, spacing_ns: Array, step: Array, there: NDArray[np.bool_]) -> None:
        poll_ns, gap_ns = self._seen.poll_ns or float("inf"), self._seen.gap_ns
        usual = spacing_ns <= min(STALL_FACTOR * poll_ns, self._hides_ns)
        if usual.all():
            return
        is_late = (spacing_ns > STALL_FACTOR * poll_ns) & there
        if self._seen.followed_ns is not None:
            is_late &= ((step != 0) & (spacing_ns > GAP_FACTOR * poll_ns)) | (spacing_ns > gap_ns)
        lost = there & self._lost(kept, t_ns)
        is_gap = is_late & (spacing_ns > gap_ns) & lost
        hides = (spacing_ns > self._hides_ns) & lost
        count, hiding = int(np.count_nonzero(is_gap)), int(np.count_nonzero(hides))
        self.stalls += int(np.count_nonzero(is_late)) - count
        self.gaps_total += count
        self.holes_total += hiding
        self.hidden_ns += int(spacing_ns[hides].sum())
        first_ones = np.flatnonzero(is_gap)[: max(0, LISTED - len(self.gaps))]
        self.gaps += [self._gap(kept, t_ns, int(i)) for i in first_ones]
        longest = np.flatnonzero(hides)
        if len(longest) > LISTED:
            longest = np.sort(longest[np.argsort(-spacing_ns[longest], kind="stable")[:LISTED]])
        self._waiting += [(self._gap(kept, t_ns, int(i)), float(step[i])) for i in longest]
        if self._channel.kind is Kind.ENERGY:
            self._judge(everything=True)

    def _lost(self, kept: Series, t_ns: Array) -> NDArray[np.bool_]:
        """Say between which readings another can have been, for all that their source tells."""
        if self._known is None:
            return np.ones(len(t_ns) - 1, np.bool_)
        seq: NDArray[np.int64] = kept.seq.astype(np.int64)
        lost: NDArray[np.bool_] = (seq[1:] - seq[:-1]) % 2**32 != 1
        starts, ends = np.sort(self._known[:, 0]), np.sort(self._known[:, 1])
        return lost | (np.searchsorted(starts, t_ns[1:]) > np.searchsorted(ends, t_ns[:-1], "right"))

    def _gap(self, kept: Series, t_ns: Array, i: int) -> Gap:
        start_ns, end_ns = (int(t) for t in t_ns[i : i + 2])
        failed_ns, status = self._failed
        first = int(np.searchsorted(failed_ns, start_ns, "right"))
        if first < len(failed_ns) and failed_ns[first] <= end_ns:
            return Gap(start_ns, end_ns, "errors", int(status[first]) or None)
        if self._channel.stamp != "bracket":
            return Gap(start_ns, end_ns, "skipped")  # numbers jump from one read of the device's record to the next
        lost = (int(kept.seq[i + 1]) - int(kept.seq[i])) % 2**32  # as the lane counts
        return Gap(start_ns, end_ns, "dropped" if lost > LOST * self._seq_step else "skipped")

    def _standstills(self, t_ns: NDArray[np.int64], raw: Array, step: Array) -> None:
        moved = np.flatnonzero(step)
        if not len(moved) or self._since is None:
            return
        begins = np.concatenate(([self._since[0]], t_ns[moved + 1]))
        long = np.flatnonzero(t_ns[moved] - begins[:-1] > STILL_NS)
        for i in long:
            at = moved[i]
            self._stills.append(Still(int(begins[i]), int(t_ns[at]), float(raw[at]), float(step[at]), False))
        self._since = (int(begins[-1]), float(raw[moved[-1] + 1]))
        if len(self._stills) > LISTED:
            longest = sorted(self._stills, key=lambda one: one.start_ns - one.end_ns)[:LISTED]
            self._stills = sorted(longest, key=lambda one: one.start_ns)

    def _look_around(self, t_ns: NDArray[np.int64], raw: Array) -> None:
        self._near_t = np.concatenate((self._near_t, t_ns))
        self._near_raw = np.concatenate((self._near_raw, raw.astype(np.float64)))
        self._judge(everything=False)
        first_ns = min(self._waiting[0][0].start_ns if self._waiting else self.last_ns, self.last_ns) - self._near_ns
        first = int(np.searchsorted(self._near_t, first_ns, "left"))
        self._near_t, self._near_raw = self._near_t[first:], self._near_raw[first:]

    def _judge(self, *, everything: bool) -> None:
        """Close the holes whose neighbourhood has been read."""
        ready = takewhile(lambda one: everything or one[0].end_ns + self._near_ns < self.last_ns, self._waiting)
        for gap, step in [*ready]:
            self._waiting.pop(0)
            around = slice(*np.searchsorted(self._near_t, [gap.start_ns - self._near_ns, gap.end_ns + self._near_ns]))
            near = self._near_raw[around]
            self.holes.append(Hole(gap, float(np.ptp(near)) if len(near) else 0.0, step))
        if len(self.holes) > LISTED:
            worst = sorted(self.holes, key=_weight)[:LISTED]
            self.holes = sorted(worst, key=lambda one: one.gap.start_ns)


def _weight(hole: Hole) -> float:
    return -(hole.range_raw + 1.0) * (hole.gap.end_ns - hole.gap.start_ns)
