# SPDX-License-Identifier: Apache-2.0
"""Whether a meter's readings stand still: the slope of a line through them, and what is still to come.

Fans follow power by tens of seconds. With a lag of 30 s, 0.1 % in 10 s means that 0.3 % are still to come, and with
60 s twice that: so the lag is told from the bend of the readings, and what it leaves to come is added. Fans that rest
at their least speed do not move before their heat sinks are warm, and nothing at the meter tells that they will: after
a rise of power at which nothing has moved yet, there is room for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.experiments.calibrate.plan import Times

LEAST_READINGS = 8  # of which a slope and its error can be told
LEAST_SHARE = 0.99  # of the window that readings must speak for
SURE = 2.0  # standard errors of a slope, below which there is none
LAG_SPANS = 3.0  # lag of fans as long as nobody could tell it, in spans of `Times.per_s`: 30 s
LONG_LAG_SPANS = 6.0  # and where readings move without a bend: up to 60 s
LAGS_SPANS = np.geomspace(1.0, 9.0, 25)  # lags that are tried
BEND_SHARE = 1.5  # of a point's length, back from its end: readings whose bend tells the lag
BELIEVED = 0.5  # standard uncertainty of what is to come, as a share of it: fans are no resistor and capacitor
FANS_PER_W = 0.2  # power of fans that begin to move, per power that heats: 5 to 20 % of a server's are fans


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


@dataclass(frozen=True, slots=True)
class Standing:
    """How a meter stands over a point.

    Attributes:
        line: through its readings.
        to_come_w: by how much its mean lacks what the meter settles to.
        to_come_u_w: standard uncertainty of that.
        lag_s: of what moves; None where nothing does, or no bend tells it.
    """

    line: Trend
    to_come_w: float
    to_come_u_w: float
    lag_s: float | None = None

    def steady(self, times: Times) -> bool:
        """Whether it stands still, and it is known well enough what is to come."""
        return self.line.steady(times) and self.to_come_u_w <= times.limit_pct / 100 * abs(self.line.mean_w)


@dataclass(frozen=True, slots=True)
class Load:
    """What a meter's readings may be told by, beside themselves.

    Attributes:
        begin_ns: when the load began.
        first_ns: before which readings may still be of what was before.
        before_w: what the meter had told before, as heat has followed it; None where that is not known.
        lag_s: of the fans, as far as it is known.
    """

    begin_ns: int
    first_ns: int
    before_w: float | None
    lag_s: float


def standing(readings: Readings, start_ns: int, end_ns: int, load: Load, times: Times) -> Standing | None:
    """Return how a meter stands over a point; None where readings do not speak for it.

    Args:
        readings: since the load began.
        start_ns: the point's begin.
        end_ns: its end.
        load: that it is of.
        times: of points.
    """
    line = last_trend(readings, end_ns, load.first_ns, (end_ns - start_ns) * 1e-9)
    if line is None:
        return None
    bend_ns = round(BEND_SHARE * (end_ns - start_ns))
    bent = _settles_to(readings.between(max(load.first_ns, end_ns - bend_ns), end_ns), times.per_s)
    slope_w_s, lag_s = abs(line.slope_w_s), None
    if slope_w_s <= SURE * line.slope_se_w_s:
        to_come_w, u_w = 0.0, line.slope_se_w_s * LAG_SPANS * times.per_s
    elif bent is None:
        to_come_w, u_w = 0.0, slope_w_s * LONG_LAG_SPANS * times.per_s / math.sqrt(3)
    else:
        settled_w, unsure_w, lag_s = bent
        to_come_w = settled_w - line.mean_w
        u_w = max(unsure_w, BELIEVED * abs(to_come_w))
    hidden_w = _hidden_w(readings, line, end_ns, load, times)
    return Standing(line, to_come_w, math.hypot(u_w, hidden_w / math.sqrt(3)), lag_s)


def followed(
    lag_s: float, heat_w: float | None, wall_w: float, stands: Sequence[Standing], duration_s: float
) -> tuple[float, float | None]:
    """Return the fans' lag, and the wall power that they have followed, after a load.

    Args:
        lag_s: the lag as known before: the longest that any load showed.
        heat_w: the power that they had followed before it; None where nobody knows.
        wall_w: power of the load; NaN where nobody knows.
        stands: how the meters stood at its end.
        duration_s: how long it was.
    """
    lag_s = max((lag_s, *(one.lag_s for one in stands if one.lag_s and abs(one.to_come_w) > SURE * one.line.scatter_w)))
    if not math.isfinite(wall_w):
        return lag_s, heat_w
    from_w = wall_w if heat_w is None else heat_w
    return lag_s, wall_w + (from_w - wall_w) * math.exp(-duration_s / lag_s)


def _settles_to(readings: Readings, per_s: float) -> tuple[float, float, float] | None:
    """Return what readings settle to by an exponential, how unsure that is, W, and its lag; None without a bend."""
    if len(readings) < LEAST_READINGS:
        return None
    t_s = (readings.t_ns - readings.t_ns[0]) * 1e-9 - readings.span_s / 2
    lags_s = LAGS_SPANS * per_s
    shapes = np.exp(-t_s / lags_s[:, None])
    means = shapes.mean(axis=1)
    shapes -= means[:, None]
    mean_w = float(readings.watts.mean())
    off_w = readings.watts - mean_w
    sizes = shapes @ off_w / (shapes**2).sum(axis=1)
    settled_w = mean_w - sizes * means
    left = ((off_w - sizes[:, None] * shapes) ** 2).sum(axis=1)
    best = int(np.argmin(left))
    if best == len(lags_s) - 1:
        return None
    likely = left <= left[best] * (1 + SURE**2 / (len(t_s) - 2))
    likely[max(0, best - 1) : best + 2] = True
    return float(settled_w[best]), float(np.ptp(settled_w[likely])) / 2, float(lags_s[best])


def _hidden_w(readings: Readings, line: Trend, end_ns: int, load: Load, times: Times) -> float:
    """Return by how much fans may still rise, or fall after a pause, that have not moved since the load began."""
    if load.before_w is None:
        return 0.0
    first = readings.between(load.first_ns, load.first_ns + round(times.window_s / 2 * 1e9))
    moved = len(first) > 0 and abs(float(first.watts.mean()) - line.mean_w) > times.limit_pct / 100 * line.mean_w
    if moved:
        return 0.0
    cold = math.exp(-(end_ns - load.begin_ns) * 1e-9 / load.lag_s)
    return FANS_PER_W * abs(line.mean_w - load.before_w) * cold


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
