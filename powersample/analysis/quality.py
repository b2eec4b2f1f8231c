# SPDX-License-Identifier: Apache-2.0
"""What a channel's record is worth: rates, updates, repeats, failures, gaps. One pass at constant memory."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.dropout import Missing, missing, scan
from powersample.analysis.gaps import Gap, joined
from powersample.analysis.interval import limit
from powersample.analysis.meter import is_meter
from powersample.analysis.updates import pace
from powersample.model import Channel, Kind, Series, Trace

BINS_PER_OCTAVE = 64


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one channel over the whole record; None where they cannot be told.

    Attributes:
        asked_hz: polls a second that its lane was to make.
        achieved_hz: polls a second that it made.
        polls: reads, failed ones included.
        updates: changes of value.
        update_period_s: median spacing of changes.
        stale_share: share of good polls that repeat the value before; None of a meter, whose every reading is news.
        stuck: whether it no longer moved at the end though it should have: a counter always moves, a power does when
            another of the same device does, or a counter gains what it does not explain. In less than 10 s it may be
            between two updates, unless a counter stood still as it was opened, too. None for AUX channels, and without
            a good poll.
        errors: count by code.
        not_numbers: reads that succeeded and gave no number.
        skipped: slots its lane was late for.
        dropped: records its lane lost to a full ring.
        gaps: the first 1000 spacings above 3 times the median; where updates are followed, those that hide one.
        gaps_total: how many there were.
        stalls: spacings of 1.5 to 3 times the median; where updates are followed, updates that were seen but lie
            anywhere between two polls more than 3 times the usual spacing apart.
        followed: whether its lane polls around the updates only.
        missing: what was published and not read.
    """

    asked_hz: float | None
    achieved_hz: float | None
    polls: int
    updates: int
    update_period_s: float | None
    stale_share: float | None
    stuck: bool | None
    errors: Mapping[int, int]
    not_numbers: int
    skipped: int | None
    dropped: int | None
    gaps: tuple[Gap, ...]
    gaps_total: int
    stalls: int
    followed: bool
    missing: Missing


class _Spacings:
    """A median of any number of spacings in fixed memory: the mean of the 1 % wide bin that holds it."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 * BINS_PER_OCTAVE, np.int64)
        self._sums = np.zeros(64 * BINS_PER_OCTAVE)

    def add(self, spacing_ns: NDArray[np.int64]) -> None:
        bins = (np.log2(np.maximum(spacing_ns, 1)) * BINS_PER_OCTAVE).astype(np.intp)
        self._counts += np.bincount(bins, minlength=len(self._counts))
        self._sums += np.bincount(bins, weights=spacing_ns, minlength=len(self._counts))

    def median_ns(self) -> float | None:
        total = int(self._counts.sum())
        if not total:
            return None
        middle = int(np.searchsorted(np.cumsum(self._counts), (total + 1) // 2))
        return float(self._sums[middle] / self._counts[middle])


@dataclass(slots=True)
class _Pass:
    polls: int = 0
    good: int = 0
    updates: int = 0
    not_numbers: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    spacings: _Spacings = field(default_factory=_Spacings)
    last_change_ns: int | None = None

    def add(self, chunk: Series, kept: Series) -> None:
        """Take what `joined` yields."""
        good = chunk.good
        failed = chunk.status[~good]
        if len(failed):
            counts = np.bincount(failed, 1 + chunk.left_out[~good].astype(np.int64)).astype(np.int64)
            self.errors.update({int(code): int(counts[code]) for code in np.flatnonzero(counts) if code})
            self.not_numbers += int(counts[0])
        self.polls += len(chunk) + int(chunk.left_out.sum())
        self.good += int(np.count_nonzero(good)) + int(chunk.left_out[good].sum())
        changed = kept.t_ns[1:][np.diff(kept.raw) != 0]
        self.updates += len(changed)
        if len(changed):
            before = [] if self.last_change_ns is None else [self.last_change_ns]
            self.spacings.add(np.diff(np.concatenate((np.asarray(before, np.int64), changed))))
            self.last_change_ns = int(changed[-1])


def quality(trace: Trace, name: str) -> Quality:
    """Read a channel through and return its figures."""
    channel = trace.channel(name)
    seen = pace(trace, name)
    lane = next((lane for lane in trace.lanes if lane.name == channel.lane), None)
    polled = channel.stamp == "bracket"  # else the device, not the lane, decides how many there are
    asked_hz = lane.rate_hz / channel.divisor if polled and lane and lane.rate_hz and channel.divisor else None
    run, gaps = _Pass(), scan(trace, name, seen)
    for chunk, kept in joined(trace.chunks(name)):
        run.add(chunk, kept)
        gaps.add(chunk, kept)
    gaps.close()
    found = missing(trace, name, seen, gaps)
    extent = trace.extent(name)
    span_s = (extent.last_ns - extent.first_ns) / 1e9 if extent else 0.0
    period_ns = run.spacings.median_ns()
    own_cycles = is_meter(trace, channel)  # every reading is news, also one that is equal
    return Quality(
        asked_hz=asked_hz,
        achieved_hz=(run.polls - 1) / span_s if span_s > 0 else None,
        polls=run.polls,
        updates=run.good if own_cycles else run.updates,
        update_period_s=period_ns / 1e9 if period_ns else None,
        stale_share=1 - (run.updates + 1) / run.good if run.good and not own_cycles else None,
        stuck=_stuck(trace, channel, run, found),
        errors=dict(sorted(run.errors.items())),
        not_numbers=run.not_numbers,
        skipped=lane.skipped if lane else None,
        dropped=lane.dropped if lane else None,
        gaps=tuple(gaps.gaps),
        gaps_total=gaps.gaps_total,
        stalls=gaps.stalls,
        followed=seen.followed_ns is not None,
        missing=found,
    )


def carriers(trace: Trace, name: str) -> tuple[str, ...]:
    """Return the channels that carry the updates of a power channel that is read seldom on purpose; () for any other.

    nvmlDeviceGetPowerUsage answers with what one of the power fields holds: where these are read, it is asked once a
    second, and that it misses updates is no loss.
    """
    channel = trace.channel(name)
    if channel.kind is not Kind.POWER or channel.stamp != "bracket":  # a driver's own samples come many at a time
        return ()
    place = (channel.device, channel.domain, channel.lane, Kind.POWER)
    return tuple(
        one.name
        for one in trace.channels.values()
        if (one.device, one.domain, one.lane, one.kind) == place and channel.divisor > limit("seldom") * one.divisor
    )


def _stuck(trace: Trace, channel: Channel, run: _Pass, found: Missing) -> bool | None:
    if channel.kind is Kind.AUX or not run.good:
        return None
    if channel.kind is Kind.ENERGY and not run.updates and channel.name in _still_when_opened(trace):
        return True
    return any(one.whole.cause == "stuck" and one.whole.end_ns == found.last_ns for one in found.lost)


def _still_when_opened(trace: Trace) -> set[str]:
    packages: Iterable[Mapping[str, Any]] = trace.meta.get("packages") or ()
    return {name for package in packages for name in package.get("still") or ()}
