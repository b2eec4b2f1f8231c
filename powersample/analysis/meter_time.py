# SPDX-License-Identifier: Apache-2.0
"""A meter's cycles on this machine's clock: where each began and ended, and what lies between them.

Only arrivals are stamped, and an arrival is late by the scheduler at times, but never early. Cycles follow one another
without a hole, so in a run of them each ends where the earliest of its neighbours says, their lengths taken off. A hole
in `seq` ends a run: cycles are missing. What they, and cycles without a value, drew is bridged by a line and counted as
hidden. A meter that is asked for its power of the moment has no cycles: a line goes from reading to reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Floats
from powersample.analysis.polls import NONE_NS, NOT_A_NUMBER, Polls
from powersample.model import Series

NEIGHBOURS = 32  # each way, among which the earliest arrival is looked for: clocks drift by 0.3 ms meanwhile
MOST_HELD = 1 << 17  # rows without a value, that wait for one

Lag = Callable[[NDArray[np.int64]], Floats]  # ns from a cycle's end to its arrival, by arrival


@dataclass(frozen=True, slots=True)
class MeterPiece:
    """A stretch of a meter's record: segments between knots, one after the other, and what was read for them.

    Attributes:
        t_ns: int64 (n + 1,), knots, not falling.
        joules: float64 (n,), of each segment.
        watts: float64 (n,), its power.
        hidden_ns: float64 (n,), how much of it nobody measured.
        least_w, most_w: float64 (n,), its power, and where nobody measured that of both readings around.
        polls: what was read, by arrival less the lag.
    """

    t_ns: NDArray[np.int64]
    joules: Floats
    watts: Floats
    hidden_ns: Floats
    least_w: Floats
    most_w: Floats
    polls: Polls


@dataclass(frozen=True, slots=True)
class _Rows:
    t_ns: NDArray[np.int64]  # arrivals
    span_ns: NDArray[np.int64]
    watts: Floats  # NaN where there is none
    status: NDArray[np.uint16]
    seq: NDArray[np.int64]
    instants: bool

    def take(self, index: slice) -> _Rows:
        t_ns, span_ns, watts, status, seq = (array[index] for array in self._arrays())
        return _Rows(t_ns, span_ns, watts, status, seq, self.instants)

    def __add__(self, more: _Rows) -> _Rows:
        pairs = zip(self._arrays(), more._arrays(), strict=True)
        t_ns, span_ns, watts, status, seq = (np.concatenate(pair) for pair in pairs)
        return _Rows(t_ns, span_ns, watts, status, seq, self.instants)

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return self.t_ns, self.span_ns, self.watts, self.status, self.seq


def meter_pieces(chunks: Iterable[Series], lag: Lag, hole_ends_ns: NDArray[np.int64] = NONE_NS) -> Iterator[MeterPiece]:
    """Yield a meter's record in pieces, at bounded memory.

    Args:
        chunks: its readings in their order; `span_ns` tells each one's cycle, None that they are instants.
        lag: from a cycle's end to its arrival.
        hole_ends_ns: arrivals before which cycles are missing, where `seq` does not tell: a driver that goes by the
            time finds out later.
    """
    held: _Rows | None = None
    told = 0  # rows of `held` that are there as neighbours only
    builder = _Builder(lag)
    for rows in _then_none(chunks, hole_ends_ns):
        builder.instants |= rows is not None and rows.instants
        everything = held if rows is None else rows if held is None else held + rows
        if everything is None:
            return
        ready = len(everything.t_ns) if rows is None else _whole(everything, told)
        if ready > told:
            ends = _ends(everything)
            yield builder.piece(everything.take(slice(told, ready)), ends[told:ready])
            keep = max(0, ready - NEIGHBOURS)
            held, told = everything.take(slice(keep, None)), ready - keep
        else:
            held = everything


def _whole(rows: _Rows, told: int) -> int:
    """Return how many rows can be told: their neighbours are there, and the value after any that has none."""
    ready = len(rows.t_ns) - NEIGHBOURS
    good = np.flatnonzero(~np.isnan(rows.watts[: max(0, ready)]))
    last = int(good[-1]) + 1 if len(good) else 0
    return ready if ready - max(told, last) > MOST_HELD else last


def _then_none(chunks: Iterable[Series], hole_ends_ns: NDArray[np.int64]) -> Iterator[_Rows | None]:
    last: tuple[int, int] | None = None  # arrival and seq
    more = 0  # holes so far that `seq` does not tell
    for chunk in chunks:
        watts = np.where(chunk.good, chunk.raw * chunk.channel.scale, np.nan)
        t_ns, seq, span_ns = chunk.t1_ns, chunk.seq.astype(np.int64), chunk.span_ns
        if len(hole_ends_ns):
            hidden = np.isin(t_ns, hole_ends_ns)
            hidden &= np.diff(seq, prepend=seq[0] - 1 if last is None else last[1] - more) % 2**32 == 1
            extra = np.cumsum(hidden) + more
            seq, more = seq + extra, int(extra[-1])
        if span_ns is None:  # from reading to reading; after a hole there is none to go from
            before = (int(t_ns[0]), int(seq[0]) - 1) if last is None else last
            follows = np.diff(seq, prepend=before[1]) % 2**32 == 1
            span_ns = np.where(follows, np.diff(t_ns, prepend=before[0]), 0)
        last = (int(t_ns[-1]), int(seq[-1]))
        yield _Rows(t_ns, span_ns, watts, chunk.status, seq, chunk.span_ns is None)
    yield None


def _ends(rows: _Rows) -> NDArray[np.int64]:
    """Return where each cycle ended, if nothing but the least of delays came before its arrival."""
    ends = np.empty(len(rows.t_ns), np.int64)
    breaks = np.flatnonzero((np.diff(rows.seq) % 2**32) != 1) + 1
    for run in np.split(np.arange(len(ends)), breaks):
        own_ns = np.cumsum(rows.span_ns[run])
        late_ns = rows.t_ns[run] - own_ns
        padding = np.full(NEIGHBOURS, np.iinfo(np.int64).max)
        around = np.concatenate((padding, late_ns, padding))
        earliest = np.lib.stride_tricks.sliding_window_view(around, 2 * NEIGHBOURS + 1).min(axis=1)
        ends[run] = np.maximum.accumulate(own_ns + earliest)
    return ends


class _Builder:
    """Joins stretches of rows into segments."""

    def __init__(self, lag: Lag) -> None:
        self._lag = lag
        self.instants = False
        self._end_ns: int | None = None
        self._watts = np.nan
        self._seq = 0

    def piece(self, rows: _Rows, ends: NDArray[np.int64]) -> MeterPiece:
        lag_ns = np.rint(self._lag(rows.t_ns)).astype(np.int64)
        ends = ends - lag_ns
        bad = np.isnan(rows.watts)
        read = self._filled(rows.watts, bad)
        before_w = np.concatenate(([read[0] if np.isnan(self._watts) else self._watts], read[:-1]))
        watts = 0.5 * (read + before_w) if self.instants else read
        least_w, most_w = self._around(rows.watts, watts, bad)
        joules = watts * rows.span_ns * 1e-9
        hidden_ns = np.where(bad, rows.span_ns, 0).astype(np.float64)
        begin_ns = int(ends[0] - rows.span_ns[0]) if self._end_ns is None else self._end_ns
        before = np.concatenate(([self._seq if self._end_ns is not None else rows.seq[0] - 1], rows.seq[:-1]))
        hole = np.flatnonzero((rows.seq - before) % 2**32 != 1)
        ends = np.maximum.accumulate(np.maximum(ends, begin_ns))
        knots = np.concatenate(([begin_ns], ends))
        if len(hole):
            until = np.maximum(ends[hole] - rows.span_ns[hole], knots[hole])
            length_ns = (until - knots[hole]).astype(np.float64)
            across = 0.5 * (before_w[hole] + read[hole])
            joules = np.insert(joules, hole, across * length_ns * 1e-9)
            hidden_ns = np.insert(hidden_ns, hole, length_ns)
            watts = np.insert(watts, hole, across)
            least_w = np.insert(least_w, hole, np.minimum(before_w[hole], read[hole]))
            most_w = np.insert(most_w, hole, np.maximum(before_w[hole], read[hole]))
            knots = np.insert(knots, hole + 1, until)
        self._end_ns, self._watts, self._seq = int(ends[-1]), float(read[-1]), int(rows.seq[-1])
        return MeterPiece(knots, joules, watts, hidden_ns, least_w, most_w, _polls(rows, rows.t_ns - lag_ns))

    def _around(self, read: Floats, watts: Floats, bad: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return the least and the most of each row's power, of a missing one those of the readings around it."""
        good = np.flatnonzero(~bad)
        if len(good) in (0, len(bad)):
            return watts.copy(), watts.copy()
        after = np.searchsorted(good, np.flatnonzero(bad))
        last = read[good[np.minimum(after, len(good) - 1)]]
        held = last if np.isnan(self._watts) else self._watts  # of an earlier piece
        first = np.where(after > 0, read[good[np.maximum(after, 1) - 1]], held)
        least_w, most_w = watts.copy(), watts.copy()
        least_w[bad], most_w[bad] = np.minimum(first, last), np.maximum(first, last)
        return least_w, most_w

    def _filled(self, watts: Floats, bad: NDArray[np.bool_]) -> Floats:
        """Return watts with a line across those that are missing; 0 where none has been seen at all."""
        if not bad.any():
            return watts
        good = np.flatnonzero(~bad)
        if not len(good):
            return np.full(len(watts), 0.0 if np.isnan(self._watts) else self._watts)
        first = watts[good[0]] if np.isnan(self._watts) else self._watts
        at = np.concatenate(([-1], good))
        return np.interp(np.arange(len(watts)), at, np.concatenate(([first], watts[good])))


def _polls(rows: _Rows, t_ns: NDArray[np.int64]) -> Polls:
    good = ~np.isnan(rows.watts)
    failed = {int(code) or NOT_A_NUMBER: t_ns[~good & (rows.status == code)] for code in np.unique(rows.status[~good])}
    none = {code: np.zeros(len(at), np.uint32) for code, at in failed.items()}
    read = np.zeros(len(t_ns), np.uint32)
    count = np.zeros(int(good.sum()), np.uint32)
    return Polls(failed, none, t_ns, read, t_ns[good], rows.watts[good], count, NONE_NS, NONE_NS)
