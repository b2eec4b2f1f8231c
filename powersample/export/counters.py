# SPDX-License-Identifier: Apache-2.0
"""The curves of a timeline: a channel as it was read, and the mean power that a counter of energy tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.bins import binned_w
from powersample.analysis.updates import pace
from powersample.export.changes import changes
from powersample.export.selection import Selection, utf8
from powersample.model import TRUTH_PREFIX, Channel, Kind, duration

LEAST_NS = 20_000_000  # of a bin of mean power: reads jitter by a millisecond
UPDATES = 10  # of the counter in a bin, for the same reason
MOST_BINS = 500_000

Points = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Counter:
    """A curve: instants on the trace's clock and values, in pieces; each value stands until the next."""

    title: str
    unit: str
    pieces: Iterator[Points]


def counters(chosen: Selection, channel: Channel) -> Iterator[Counter]:
    """Yield the channel where it changed; and of a counter of energy, a truth's excepted, its mean power over bins."""
    yield Counter(utf8(channel.name), channel.unit, _read(chosen, channel))
    counted = channel.kind is Kind.ENERGY and channel.stamp == "bracket" and not channel.name.startswith(TRUTH_PREFIX)
    grid_ns = _grid(chosen, channel) if counted else np.empty(0, np.int64)
    if len(grid_ns) > 1:
        title = f"{utf8(channel.name)}: mean power over {duration((grid_ns[1] - grid_ns[0]) / 1e9, 4)}"
        yield Counter(title, "W", _mean(chosen, channel, grid_ns))


def _read(chosen: Selection, channel: Channel) -> Iterator[Points]:
    for piece in changes(chosen.chunks(channel)):
        kept = piece.take(piece.good)
        yield kept.t_ns, kept.value


def _mean(chosen: Selection, channel: Channel, grid_ns: NDArray[np.int64]) -> Iterator[Points]:
    watts = binned_w(chosen.trace, channel.name, grid_ns)
    known = np.isfinite(watts)
    yield grid_ns[:-1][known], watts[known]


def _grid(chosen: Selection, channel: Channel) -> NDArray[np.int64]:
    """Return edges of bins over the selection, at multiples of their width."""
    extent, seen = chosen.extent(), pace(chosen.trace, channel.name)
    if extent is None or not (period_ns := seen.period_ns or seen.change_ns):
        return np.empty(0, np.int64)
    width_ns = max(LEAST_NS, round(UPDATES * period_ns))
    width_ns *= max(1, -(-(extent[1] - extent[0]) // (width_ns * MOST_BINS)))
    return np.arange(-(-extent[0] // width_ns), extent[1] // width_ns + 1, dtype=np.int64) * width_ns
