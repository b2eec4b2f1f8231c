# SPDX-License-Identifier: Apache-2.0
"""Whether a meter's readings stand still: the slope of a line through them, and what is sure of it.

Fans follow power by tens of seconds. With a lag of 30 s, 0.1 % in 10 s means that 0.3 % are still to come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.experiments.calibrate.plan import Times

LEAST_READINGS = 8  # of which a slope and its error can be told
LEAST_SHARE = 0.99  # of the window that readings must speak for
SURE = 2.0  # standard errors of a slope, below which there is none


@dataclass(frozen=True, slots=True)
class Readings:
    """A meter's readings. Arrays of one length (n,).

    Attributes:
        t_ns: int64, rising: when each came, its known lag taken off.
        span_s: float64, what each averages; 0 of an instant.
        watts: float64.
    """

    t_ns: NDArray[np.int64]
    span_s: NDArray[np.float64]
    watts: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.t_ns)

    def between(self, start_ns: int, end_ns: int) -> Readings:
        """Return those that came in [start, end] and average nothing from before."""
        inside = (self.t_ns - self.span_s * 1e9 >= start_ns) & (self.t_ns <= end_ns)
        return Readings(self.t_ns[inside], self.span_s[inside], self.watts[inside])


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through readings.

    Attributes:
        mean_w: their mean.
        slope_w_s: W per second.
        slope_se_w_s: standard error of that.
        scatter_w: standard deviation about the line.
        count: of readings.
    """

    mean_w: float
    slope_w_s: float
    slope_se_w_s: float
    scatter_w: float
    count: int

    def drift_pct(self, per_s: float) -> float:
        """Return by how much the mean rises in `per_s`, %."""
        return 100 * self.slope_w_s * per_s / self.mean_w if self.mean_w else math.inf

    def steady(self, times: Times) -> bool:
        """Whether it stands still: within the limit, or within what cannot be told from standing still."""
        told_w_s = max(0.0, abs(self.slope_w_s) - SURE * self.slope_se_w_s)
        limit_w_s = times.limit_pct / 100 * abs(self.mean_w) / times.per_s
        return abs(self.slope_w_s) <= limit_w_s or (told_w_s == 0.0 and self.slope_se_w_s <= limit_w_s)

    def drift_u_w(self, duration_s: float) -> float:
        """Return the standard uncertainty of a mean over `duration_s` by a drift of this slope, W."""
        return abs(self.slope_w_s) * duration_s / math.sqrt(12)


def trend(readings: Readings) -> Trend | None:
    """Return the line through readings by least squares; None where there are too few."""
    if len(readings) < LEAST_READINGS:
        return None
    t_s = (readings.t_ns - readings.t_ns.mean()) * 1e-9
    watts = readings.watts
    mean_w, spread = float(watts.mean()), float(t_s @ t_s)
    slope = float(t_s @ watts) / spread if spread > 0 else 0.0
    left = watts - mean_w - slope * t_s
    scatter_w = math.sqrt(float(left @ left) / (len(watts) - 2))
    return Trend(mean_w, slope, scatter_w / math.sqrt(spread) if spread > 0 else math.inf, scatter_w, len(watts))


def last_trend(readings: Readings, now_ns: int, begin_ns: int, window_s: float) -> Trend | None:
    """Return the trend of the window that ends now; None as long as readings do not speak for all of it.

    Args:
        readings: so far.
        now_ns: the window's end.
        begin_ns: before which the load was another.
        window_s: its length.
    """
    start_ns = now_ns - round(window_s * 1e9)
    if start_ns < begin_ns:
        return None
    inside = readings.between(start_ns, now_ns)
    return trend(inside) if _spoken_s(readings, start_ns, now_ns) >= LEAST_SHARE * window_s else None


def _spoken_s(readings: Readings, start_ns: int, end_ns: int) -> float:
    """Return for how much of a time readings speak; one of an instant does for as long as they are apart."""
    span_ns = readings.span_s * 1e9
    if len(readings) > 1 and not span_ns.any():
        span_ns = np.full(len(readings), float(np.median(np.diff(readings.t_ns))))
    begin = np.maximum(readings.t_ns - span_ns, start_ns)
    return float(np.maximum(np.minimum(readings.t_ns, end_ns) - begin, 0.0).sum()) * 1e-9
