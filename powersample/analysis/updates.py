# SPDX-License-Identifier: Apache-2.0
"""Polls and updates: how often a channel was read, and how often its sensor published.

A poll that repeats the value before it says nothing new, and equal updates look the same: so the sensor's period is
estimated from the shorter spacings between changes, of which a quiet signal has too few and too long ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.model import Channel, Trace

PROBE_POLLS = 200_000  # enough for a median, and little work
GAP_FACTOR = 3.0  # of the median poll spacing
STALL_FACTOR = 1.5
LEAST_CHANGES = 6
RESOLVED_POLLS = 2.0  # polls per update from which a change's instant says when the sensor published


@dataclass(frozen=True, slots=True)
class Pace:
    """How a channel was polled and published over a span.

    Attributes:
        polls: good polls seen.
        changes: how many of them showed a new value.
        poll_ns: median spacing of good polls; None with fewer than two.
        change_ns: median spacing of changes; None with fewer than two.
        period_ns: the sensor's update period; None when polls are too slow or changes too few to tell.
    """

    polls: int
    changes: int
    poll_ns: float | None
    change_ns: float | None
    period_ns: float | None

    @property
    def gap_ns(self) -> float:
        """Spacing from which polls leave a gap."""
        return float("inf") if self.poll_ns is None else GAP_FACTOR * self.poll_ns

    @property
    def change_share(self) -> float:
        """Changes per poll: near 1 when the sensor publishes at least as often as it is polled."""
        return self.changes / max(1, self.polls - 1)


def pace(trace: Trace, name: str, start_ns: int | None, end_ns: int | None) -> Pace:
    """Look at the first 200 000 good polls of a span.

    Args:
        trace: the recording.
        name: the channel.
        start_ns: begin of the span; None is the record's.
        end_ns: its end; None is the record's.
    """
    times: list[NDArray[np.int64]] = []
    raws: list[NDArray[np.int64]] = []
    polls = 0
    for chunk in trace.chunks(name, start_ns, end_ns):
        good = chunk.good
        times.append(chunk.t_ns[good])
        raws.append(chunk.raw[good])
        polls += len(times[-1])
        if polls >= PROBE_POLLS:
            break
    if polls < 2:
        return Pace(polls, 0, None, None, None)
    t_ns, raw = np.concatenate(times)[:PROBE_POLLS], np.concatenate(raws)[:PROBE_POLLS]
    poll_ns = float(np.median(np.diff(t_ns)))
    changed = np.flatnonzero(np.diff(raw)) + 1
    spacing_ns = np.diff(t_ns[changed])
    if not len(spacing_ns):
        return Pace(len(t_ns), len(changed), poll_ns, None, None)
    return Pace(
        len(t_ns),
        len(changed),
        poll_ns,
        float(np.median(spacing_ns)),
        _period(spacing_ns.astype(float), poll_ns),
    )


def _period(spacing_ns: NDArray[np.float64], poll_ns: float) -> float | None:
    if len(spacing_ns) < LEAST_CHANGES:
        return None
    shortest_ns = float(np.quantile(spacing_ns, 0.2))  # equal updates in a row make the long ones
    if shortest_ns < RESOLVED_POLLS * poll_ns:
        return None
    single = spacing_ns[(spacing_ns > 0.75 * shortest_ns) & (spacing_ns < 1.3 * shortest_ns)]
    return float(np.mean(single))


def averages(channel: Channel) -> bool:
    """Whether a power channel's values are means over time; if not, or unknown, they are point samples."""
    return channel.span != "none" or channel.sensor.lower().startswith("nvml")
