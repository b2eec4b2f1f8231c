# SPDX-License-Identifier: Apache-2.0
"""A load's period from a channel that is quicker than the part-time sensor beside it.

Never from the part-time sensor itself: a load near its update period shows there as a slow beat, and a beat as a slow
load. A channel that publishes twice in the other's averaging window sees all that this one can be fooled by.
"""

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.interval import limit
from powersample.analysis.repeats import LoadPeriod
from powersample.model import Kind, Trace, Window

MOST_SAMPLES = 2_000_000
LEAST_SAMPLES = 256
LEAST_PERIODS = 10
SIDE = 2  # bins on either side of a line that a Hann window spreads it over
PARTS = (4, 3, 2)  # of the strongest line's frequency, where the load's own may be
WEAK = 0.02  # of the strongest line, from which a lower one is the load's own
BIN = 0.25  # of a bin's width: how well a line's frequency is known


def shown_period(trace: Trace, name: str, window: Window, step_s: float) -> LoadPeriod | None:
    """Return the period of a load that repeats itself all through a window; None where it does not.

    Nine tenths of the variance must lie in lines at multiples of one frequency.

    Args:
        trace: the recording.
        name: of a power channel or a counter.
        window: the window.
        step_s: spacing of what it publishes.
    """
    count = int(window.duration_s / step_s)
    if not LEAST_SAMPLES <= count <= MOST_SAMPLES:
        return None
    watts = _watts(trace, name, window, count)
    if watts is None:
        return None
    watts = watts - np.polyval(np.polyfit(np.arange(count), watts, 1), np.arange(count))
    power = np.abs(np.fft.rfft(watts * np.hanning(count))) ** 2
    power[: SIDE + 1] = 0.0
    top = int(np.argmax(power))
    for part in PARTS:
        low = round(top / part)
        if low > 2 * SIDE and power[low - SIDE : low + SIDE + 1].max() >= WEAK * power[top]:
            top = low - SIDE + int(np.argmax(power[low - SIDE : low + SIDE + 1]))
            break
    total = float(power.sum())
    if top < LEAST_PERIODS or total <= 0:
        return None
    place = _peak(power, top)
    bins = np.arange(len(power))
    nearest = np.maximum(1, np.rint(bins / place)) * place
    if float(power[np.abs(bins - nearest) <= SIDE].sum()) < limit("one_line") * total:
        return None
    low_s, high_s = (window.duration_s / (place + off) for off in (BIN, -BIN))
    return LoadPeriod(low_s, high_s, f"the spectrum of {name}")


def _watts(trace: Trace, name: str, window: Window, count: int) -> NDArray[np.float64] | None:
    """Return the power at `count` evenly spaced instants of a window."""
    series = trace.series(name, window.start_ns, window.end_ns)
    t_ns, value = series.t_ns[series.good], series.value[series.good]
    if len(t_ns) < LEAST_SAMPLES:
        return None
    if series.channel.kind is Kind.ENERGY:
        moved = np.flatnonzero(np.diff(value) > 0) + 1
        if len(moved) < LEAST_SAMPLES:
            return None
        t_ns, value = t_ns[moved], value[moved]
        seconds = np.diff(t_ns) / 1e9
        t_ns, value = t_ns[1:], np.diff(value) / np.maximum(seconds, 1e-9)
    at = window.start_ns + (np.arange(count) + 0.5) * (window.end_ns - window.start_ns) / count
    return np.asarray(np.interp(at - t_ns[0], t_ns - t_ns[0], value), np.float64)


def _peak(power: NDArray[np.float64], top: int) -> float:
    """Return the place of a line among the bins, by a parabola through its logarithm."""
    if top + 1 >= len(power):
        return float(top)
    left, middle, right = np.log(np.maximum(power[top - 1 : top + 2], 1e-300))
    bend = left - 2 * middle + right
    return top + float(0.5 * (left - right) / bend if bend < 0 else 0.0)
