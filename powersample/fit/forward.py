# SPDX-License-Identifier: Apache-2.0
"""What a meter must have shown of a load that is known, and how well it did.

A value stamped s averages the load, behind a first-order lag tau, over [s - L - T, s - L]; watts follow by a straight
line. So for any lag L and tau, gain and offset are linear least squares (facts: meters, synchronisation, the model).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.fit.reference import Lagged, Reference
from powersample.model import Series

LEAST_OVERLAP = 0.5  # of the values that any lag can compare, below which a lag is not looked at
LEAST_VALUES = 12
LEAST_SPAN_NS = 5_000_000.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cycles:
    """A meter's values, each over its own span.

    Attributes:
        stamp_ns: int64 (n,), rising.
        span_ns: float64 (n,), what each averages; all 0 for values at instants.
        value: float64 (n,), W.
        name: of the channel.
    """

    stamp_ns: NDArray[np.int64]
    span_ns: Floats
    value: Floats
    name: str = ""

    def __post_init__(self) -> None:
        if not len(self.stamp_ns) == len(self.span_ns) == len(self.value):
            raise InvalidArgument(f"{self.name}: stamps, spans and values are not of one length")
        if (np.diff(self.stamp_ns) < 0).any():
            raise InvalidArgument(f"{self.name}: the stamps go back")

    @classmethod
    def of_series(cls, series: Series) -> Cycles:
        """Return a channel's good readings with the spans that it tells; 0 where it tells none."""
        series = series.take(series.good)
        told = series.span_ns
        span_ns = np.full(len(series), series.channel.span_ns or 0, np.float64) if told is None else told
        return cls(series.t1_ns, span_ns.astype(np.float64), series.value, series.channel.name)

    def gapless(self) -> Cycles:
        """Return values at instants as means between two of them, of 5 ms and more; cycles as they are."""
        if self.span_ns.any() or len(self.value) < 3:
            return self
        at, first = np.unique(self.stamp_ns, return_index=True)
        since = (at - at[0]).astype(np.float64)
        value = self.value[first]
        energy = np.concatenate(([0.0], np.cumsum((value[1:] + value[:-1]) / 2 * np.diff(since))))
        if np.median(np.diff(since)) < LEAST_SPAN_NS:
            grid = np.arange(0.0, since[-1], LEAST_SPAN_NS)
            since, energy = grid, np.interp(grid, since, energy)
        span_ns = np.diff(since)
        return Cycles(at[0] + np.rint(since[1:]).astype(np.int64), span_ns, np.diff(energy) / span_ns, self.name)

    def between(self, start_ns: int, end_ns: int) -> Cycles:
        """Return the values stamped in [start_ns, end_ns]."""
        return self.take((self.stamp_ns >= start_ns) & (self.stamp_ns <= end_ns))

    def take(self, index: NDArray[np.bool_]) -> Cycles:
        """Return the values that `index` selects."""
        return Cycles(self.stamp_ns[index], self.span_ns[index], self.value[index], self.name)

    @property
    def cycle_ns(self) -> float:
        """What one value tells apart: its span, or where that is longer the values' spacing."""
        spacing_ns = float(np.median(np.diff(self.stamp_ns))) if len(self.stamp_ns) > 1 else 0.0
        return max(float(np.median(self.span_ns)) if len(self.span_ns) else 0.0, spacing_ns)


@dataclass(frozen=True, slots=True)
class Line:
    """Gain, offset and squared residuals of the best straight line; `share` is of the values' own squares."""

    gain: float
    offset_w: float
    rss: float
    share: float
    count: int


class Forward:
    """Least squares of a meter's values against one reference.

    Args:
        cycles: the values.
        reference: the load; what lies before and behind it is not compared.
    """

    def __init__(self, cycles: Cycles, reference: Reference) -> None:
        self._t = (cycles.stamp_ns - reference.t_ns[0]).astype(np.float64)
        self._span, self.value = cycles.span_ns, cycles.value
        self._end = float(reference.t_ns[-1] - reference.t_ns[0])
        self.lagged = lru_cache(maxsize=64)(self._lagged)
        self._reference = reference
        self._most = min(len(self._t), max(1, int(np.count_nonzero(self._span <= self._end))))

    def _lagged(self, tau_ns: float) -> Lagged:
        return self._reference.lagged(tau_ns)

    def inside(self, lag_ns: float) -> NDArray[np.bool_] | None:
        """Return which values the reference covers at a lag; None where that is all of them."""
        end = self._t - lag_ns
        begin = end - self._span
        if begin.min() >= 0 and end.max() <= self._end:
            return None
        kept: NDArray[np.bool_] = (begin >= 0) & (end <= self._end)
        return kept

    def model(self, lag_ns: float, tau_ns: float) -> Floats:
        """Return the reference as the meter would show it, by value."""
        return self.lagged(tau_ns).mean_w(self._t - lag_ns, self._span)

    def line(self, lag_ns: float, tau_ns: float, some: NDArray[np.bool_] | slice = slice(None)) -> Line:
        """Return the best line over the chosen values; one that falls as the load rises explains nothing."""
        model, value = self.model(lag_ns, tau_ns)[some], self.value[some]
        x, y = model - model.mean(), value - value.mean()
        total, square, gain = float(y @ y), float(x @ x), float(x @ y)
        if square <= 0 or total <= 0 or gain <= 0:
            return Line(0.0, float(value.mean()), total, 1.0, len(value))
        gain /= square
        left = y - gain * x
        rss = float(left @ left)
        return Line(gain, float(value.mean() - gain * model.mean()), rss, rss / total, len(value))

    def share(self, lag_ns: float, tau_ns: float) -> float:
        """Return what share of the values' squares stays unexplained at a lag; 1 where too little can be compared."""
        kept = self.inside(lag_ns)
        if kept is None:
            return self.line(lag_ns, tau_ns).share
        count = int(kept.sum())
        if count < max(LEAST_VALUES, LEAST_OVERLAP * self._most):
            return np.inf
        return self.line(lag_ns, tau_ns, kept).share

    def slope(self, lag_ns: float, tau_ns: float, of: str) -> Floats:
        """Return the model's derivative by "lag" or "tau", per ns."""
        step = 0.1e6
        if of == "lag":
            return (self.model(lag_ns + step, tau_ns) - self.model(lag_ns - step, tau_ns)) / (2 * step)
        low = max(0.0, tau_ns - step)
        return (self.model(lag_ns, tau_ns + step) - self.model(lag_ns, low)) / (tau_ns + step - low)
