# SPDX-License-Identifier: Apache-2.0
"""The mean power of a channel over a grid of bins: the shape of a load, at the cost of one pass over its readings.

Energies of windows come from elsewhere, with their intervals. What is told here is how power was spread over the time,
for what is no straight line of it: a supply's loss grows with the square of what it gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges, Floats
from powersample.analysis.energy import counter_difference, counter_pace
from powersample.analysis.integrals import PowerIntegral
from powersample.analysis.polls import polls
from powersample.analysis.updates import SURE_OF_ONE, averages, pace
from powersample.errors import InvalidArgument
from powersample.model import Channel, Kind, SensorModel, Trace
from powersample.sensors import model_of

LEAST_S = 1.0  # of a bin: as long as the slowest averages of boards
MOST_BINS = 20_000
REACH_PERIODS = 1.5
MOST_UNCOVERED = 0.5  # of a bin


def grid_of(trace: Trace, least_s: float = LEAST_S) -> NDArray[np.int64]:
    """Return the edges of bins that hold a whole record, ns, at multiples of their width; none of an empty record.

    Args:
        trace: the recording.
        least_s: width of a bin; more where there would be more than 20 000.
    """
    start_ns, end_ns = trace.start_ns, trace.end_ns
    if start_ns is None or end_ns is None or end_ns <= start_ns:
        return np.empty(0, np.int64)
    width_ns = round(least_s * 1e9)
    width_ns *= max(1, -(-(end_ns - start_ns) // (width_ns * MOST_BINS)))
    return np.arange(start_ns // width_ns, -(-end_ns // width_ns) + 1, dtype=np.int64) * width_ns


def binned_w(trace: Trace, name: str, grid_ns: NDArray[np.int64]) -> Floats:
    """Return a channel's mean power in every bin.

    Args:
        trace: the recording.
        name: a POWER or ENERGY channel whose polls see a sensor; no meter's.
        grid_ns: edges of the bins, shape (n + 1,), rising.

    Returns:
        float64 (n,), W, NaN where the readings speak for less than half of a bin.

    Raises:
        InvalidArgument: the channel is of another kind.
        DeviceNotFound: there is no such channel.
    """
    channel = trace.channel(name)
    if channel.kind is Kind.AUX:
        raise InvalidArgument(f"{name} is in {channel.unit}: only power and energy channels have a power")
    if len(grid_ns) < 2:
        return np.empty(0)
    begin_ns, end_ns = _within(trace, name, grid_ns)
    edges = np.stack((begin_ns, end_ns))
    length_ns = (end_ns - begin_ns).astype(np.float64)
    told = _gained if channel.kind is Kind.ENERGY else _integral
    raw_ns, uncovered_ns = told(trace, channel, edges)
    known = (length_ns > 0) & (uncovered_ns <= MOST_UNCOVERED * np.diff(grid_ns))
    watts = np.full(len(length_ns), np.nan)
    covered_ns = length_ns - np.minimum(uncovered_ns, length_ns)
    known &= covered_ns > 0
    watts[known] = raw_ns[known] * channel.scale / covered_ns[known]
    return watts


def _within(trace: Trace, name: str, grid_ns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each bin begins and ends within the channel's record: the outermost bins reach beyond it."""
    extent = trace.extent(name)
    first_ns, last_ns = (extent.first_ns, extent.last_ns) if extent else (int(grid_ns[0]), int(grid_ns[0]))
    inside = np.clip(grid_ns, first_ns, last_ns)
    return inside[:-1], inside[1:]


def _gained(trace: Trace, channel: Channel, edges: Edges) -> tuple[Floats, Floats]:
    """Return what a counter gained in every bin, raw unit x 1e9, and how much of it no point speaks for, ns."""
    seen = pace(trace, channel.name)
    sums = counter_difference(channel, seen, edges)
    for piece in polls(trace.chunks(channel.name), counter=True):
        sums.add(piece.t_ns, piece.raw, piece.omitted)
    gained, uncovered_ns = sums.close(REACH_PERIODS * counter_pace(seen)[1])
    lost = np.isnan(gained) | (sums.resets() > 0)
    return np.where(lost, 0.0, gained) * 1e9, np.where(lost, (edges[1] - edges[0]).astype(np.float64), uncovered_ns)


def _integral(trace: Trace, channel: Channel, edges: Edges) -> tuple[Floats, Floats]:
    """Return the integral of a power in every bin, raw unit x ns, and how much of it nobody saw, ns."""
    seen = pace(trace, channel.name)
    shift_ns = _shift_ns(model_of(trace, channel), channel, seen.period_ns or 0.0)
    hides_ns = max(seen.gap_ns, SURE_OF_ONE * shift_ns)
    sums = PowerIntegral(edges + shift_ns, hides_ns)
    for piece in polls(trace.chunks(channel.name), counter=False):
        sums.add(piece.t_ns, piece.raw, piece.omitted)
    slack_ns = seen.gap_ns if seen.poll_ns else 0.0
    total, uncovered_ns, hidden_ns, _ = sums.close(slack_ns, slack_ns + shift_ns)
    return total, uncovered_ns + hidden_ns


def _shift_ns(model: SensorModel | None, channel: Channel, period_ns: float) -> int:
    """Return how much later polls show what a sensor averaged: its delay, half of what it averages, half its hold."""
    if model is not None and model.window_s:
        return round((model.delay_s + model.window_s / 2) * 1e9 + (period_ns or model.period_s * 1e9) / 2)
    return round(period_ns) if averages(channel) else 0
