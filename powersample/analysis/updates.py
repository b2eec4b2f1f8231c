# SPDX-License-Identifier: Apache-2.0
"""Polls and updates: how often a channel was read, and how often its sensor published.

A poll that repeats the value before it says nothing new, and equal updates look the same: so the sensor's period is
estimated from the shorter spacings between changes, of which a quiet signal has too few and too long ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from powersample.model import Channel, Extent, Series, Trace

PROBE_POLLS = 200_000  # enough for a median, and little work
GAP_FACTOR = 3.0  # of the median poll spacing
STALL_FACTOR = 1.5
SURE_OF_ONE = 1.05  # periods in which at least one update must have been published
STRETCHES = 8
READ_THROUGH = 1 << 21  # readings up to which stretches are read at once: a file decodes a million for any one of them
SEEKING_NS = 100_000_000.0  # a lane that looks for updates in vain polls three times as often, or more often still
LEAST_CHANGES = 6
ON_GRID = 0.25  # of a grid's spacing: how far the median may be off it
RESOLVED_POLLS = 2.0  # polls per update from which a change's instant says when the sensor published


@dataclass(frozen=True, slots=True)
class Pace:
    """How a channel was polled and published over a span.

    Attributes:
        polls: good polls seen.
        changes: how many of them showed a new value.
        poll_ns: spacing of good polls: of its lane's grid, where the median is near that, else the median; None with
            fewer than two.
        change_ns: median spacing of changes; None with fewer than two.
        period_ns: the sensor's update period; None when polls are too slow or changes too few to tell.
        followed_ns: of a channel whose updates its lane follows, the period by which it is polled, 0 where none was
            found; None of any other.
    """

    polls: int
    changes: int
    poll_ns: float | None
    change_ns: float | None
    period_ns: float | None
    followed_ns: float | None = None

    @property
    def gap_ns(self) -> float:
        """Spacing from which polls leave a gap.

        Where updates are followed, polls pause between them by design: a gap is a pause that hides an update.
        """
        if self.poll_ns is None:
            return float("inf")
        by_design_ns = 0.0 if self.followed_ns is None else SURE_OF_ONE * (self.followed_ns or SEEKING_NS)
        return max(GAP_FACTOR * self.poll_ns, by_design_ns)

    @property
    def change_share(self) -> float:
        """Changes per poll: near 1 when the sensor publishes at least as often as it is polled."""
        return self.changes / max(1, self.polls - 1)


_SEEN: WeakKeyDictionary[Trace, dict[tuple[str, Extent], Pace]] = WeakKeyDictionary()


def pace(trace: Trace, name: str) -> Pace:
    """Look at 200 000 good polls: all, or stretches that are spread over a longer record.

    Spread, because a record may begin with an idle hour that shows no update. A trace is looked at once: whoever tells
    energies, quality or dropouts of a channel needs its pace.
    """
    extent = trace.extent(name)
    if extent is None:
        return Pace(0, 0, None, None, None)
    seen = _SEEN.setdefault(trace, {})
    if (name, extent) not in seen:
        seen[name, extent] = _look(trace, name, extent)
    return seen[name, extent]


def _look(trace: Trace, name: str, extent: Extent) -> Pace:
    stretches = 1 if extent.polls <= PROBE_POLLS else STRETCHES
    step_ns = (extent.last_ns - extent.first_ns) // stretches
    # By time and not by polls: of a recording that kept changes only, the same changes are looked at.
    length_ns = step_ns if stretches == 1 else PROBE_POLLS * step_ns // extent.polls
    starts_ns = [extent.first_ns + stretch * step_ns for stretch in range(stretches)]
    spans = [(start_ns, None if stretches == 1 else start_ns + length_ns) for start_ns in starts_ns]
    poll_ns, weights, change_ns = [], [], []
    polls = changes = 0
    for t_ns, raw, omitted in _stretches(trace, name, spans, together=extent.records <= READ_THROUGH):
        changed_ns = t_ns[1:][np.diff(raw) != 0]
        read = 1 + omitted[1:].astype(np.int64)  # polls from one that was kept to the next
        polls, changes = polls + min(1, len(t_ns)) + int(read.sum()), changes + len(changed_ns)
        poll_ns.append(np.diff(t_ns) / read)
        weights.append(read)
        change_ns.append(np.diff(changed_ns))
    spacing_ns, weight = np.concatenate(poll_ns), np.concatenate(weights)
    change_spacing_ns = np.concatenate(change_ns).astype(np.float64)
    weight, change_spacing_ns = weight[spacing_ns > 0], change_spacing_ns[change_spacing_ns > 0]
    spacing_ns = spacing_ns[spacing_ns > 0]
    if not len(spacing_ns):
        return Pace(polls, changes, None, None, None)
    learnt_ns = _learnt(trace, name)
    poll = _on_grid(trace, name, _median(spacing_ns, weight))
    if not len(change_spacing_ns):
        return Pace(polls, changes, poll, None, None, learnt_ns)
    period_ns = _period(change_spacing_ns, poll)
    followed_ns = None if learnt_ns is None else period_ns or learnt_ns
    return Pace(polls, changes, poll, float(np.median(change_spacing_ns)), period_ns, followed_ns)


def _stretches(
    trace: Trace, name: str, spans: Sequence[tuple[int, int | None]], *, together: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[np.uint32]]]:
    """Yield stamps and values of each span's good polls, and how many were left out before each.

    Args:
        trace: the recording.
        name: the channel.
        spans: in the order of time.
        together: read from the first to the last at once.
    """
    dtype = trace.channel(name).raw_dtype
    found = [_Stretch(dtype, *span) for span in spans]
    for some in [found] if together else [[one] for one in found]:
        for chunk in trace.chunks(name, some[0].start_ns, some[-1].end_ns):
            for one in some:
                one.add(chunk)
            if some[-1].full:
                break
        for one in some:
            yield np.concatenate(one.t_ns), np.concatenate(one.raw), np.concatenate(one.omitted)


class _Stretch:
    """The good polls of a span, up to the piece that makes them enough."""

    def __init__(self, dtype: str, start_ns: int, end_ns: int | None) -> None:
        self.start_ns, self.end_ns = start_ns, end_ns
        self.t_ns, self.raw = [np.empty(0, np.int64)], [np.empty(0, dtype)]
        self.omitted = [np.empty(0, np.uint32)]
        self._polls = 0

    @property
    def full(self) -> bool:
        """Whether there are enough: of a lane that did most of its work here."""
        return self._polls >= PROBE_POLLS

    def add(self, chunk: Series) -> None:
        """Take what of the next piece lies in the span."""
        mine = chunk.between(self.start_ns, self.end_ns)
        if self.full or not len(mine):
            return
        good = mine.good
        self.t_ns.append(mine.t_ns[good])
        self.raw.append(mine.raw[good])
        self.omitted.append(mine.left_out[good])
        self._polls += len(self.t_ns[-1])


def _median(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    """Return the median of values that stand for so many each."""
    if weights.max() == 1:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    low, high = np.searchsorted(reached, [(reached[-1] - 1) // 2, reached[-1] // 2], "right")
    return float(values[order[low]] + values[order[high]]) / 2


def _on_grid(trace: Trace, name: str, poll_ns: float) -> float:
    """Return the spacing of the slots in which a channel is read, where its polls are about as far apart."""
    channel = trace.channel(name)
    lane = next((lane for lane in trace.lanes if lane.name == channel.lane), None)
    grid_ns = float((lane.period_ns or 0) * channel.divisor) if lane else 0.0
    return grid_ns if abs(poll_ns - grid_ns) < ON_GRID * grid_ns else poll_ns


def _learnt(trace: Trace, name: str) -> float | None:
    """Return the period by which a channel's updates were followed, 0 if none was found; None if they were not."""
    place = trace.channel(name).lane
    lane = next((one for one in trace.lanes if one.name == place and one.mode == "follow"), None)
    if lane is None:
        return None
    number = [channel.name for channel in trace.channels.values() if channel.lane == place].index(name)
    return float(lane.followed[number]) if number in lane.followed else None


def _period(spacing_ns: NDArray[np.float64], poll_ns: float) -> float | None:
    if len(spacing_ns) < LEAST_CHANGES:
        return None
    shortest_ns = float(np.quantile(spacing_ns, 0.2))  # equal updates in a row make the long ones
    if shortest_ns < RESOLVED_POLLS * poll_ns:
        return None
    single = spacing_ns[(spacing_ns > 0.75 * shortest_ns) & (spacing_ns < 1.3 * shortest_ns)]
    return float(np.mean(single)) if len(single) else None  # the quantile may lie where no spacing is


def averages(channel: Channel) -> bool:
    """Whether a power channel's values are means over time; if not, or unknown, they are point samples."""
    return channel.span != "none" or channel.sensor.lower().startswith("nvml")
