# SPDX-License-Identifier: Apache-2.0
"""Energy of a window from a long trailing average: whole averages laid end to end, and a rest where the signal is calm.

A(t), published at t, is the mean over [t - delay - W, t - delay]. So a window of m W + r seconds is m whole averages
and a rest of r < W at its head or at its tail. The rest may be moved by whole W, since

    E(a, b) = E(a - W, b - W) + W (A(b + delay) - A(a + delay))

and is estimated where updates around it scatter least; each step costs what the real average is not an exact boxcar by.
"""

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges, Floats
from powersample.analysis.published import Updates

STEPS = 8  # windows that a rest may be moved
CALM_NS = 600_000_000  # around a rest, within which updates tell how calm it is


class Inversion:
    """Holds every update of a pass: 16 bytes each, ten a second.

    Args:
        edges: of the windows, in time of the true power.
        window_ns: W.
        delay_ns: from the end of an average to its publication.
        spacing_ns: of updates.
        step_cost: what moving a rest by one W is expected to cost, in raw unit x ns.
    """

    def __init__(self, edges: Edges, *, window_ns: float, delay_ns: float, spacing_ns: float, step_cost: float) -> None:
        self._edges, self._window_ns, self._delay_ns = edges, window_ns, delay_ns
        self._spacing_ns, self._step_cost = spacing_ns, step_cost
        self._held: list[Updates] = []

    def add(self, updates: Updates) -> None:
        """Take the next updates."""
        if len(updates.t_ns):
            self._held.append(updates)

    def close(self) -> tuple[Floats, Floats]:
        """Return every window's energy and the cost of the chosen place, raw ns; NaN where the record is too short."""
        count = self._edges.shape[1]
        t_ns = np.concatenate([one.t_ns for one in self._held]) if self._held else np.empty(0, np.int64)
        if len(t_ns) < 2 or not count:
            return np.full(count, np.nan), np.full(count, np.nan)
        value = np.concatenate([one.value for one in self._held])
        origin = int(t_ns[0])
        self._t = (t_ns - origin).astype(np.float64)
        self._value = value
        middle = (self._t[1:] + self._t[:-1]) / 2
        self._bounds = np.concatenate(([self._t[0]], middle, [self._t[-1]]))
        self._area = np.concatenate(([0.0], np.cumsum(value * np.diff(self._bounds))))
        less = value - value[0]
        self._sums = [np.concatenate(([0.0], np.cumsum(each))) for each in (less, less * less)]
        start, end = (self._edges - origin).astype(np.float64)
        whole = np.floor((end - start) / self._window_ns + 1e-9)
        rest = np.maximum(end - start - whole * self._window_ns, 0.0)
        head = self._rest(start, rest)
        tail = self._rest(end - rest, rest)
        at_head = head[1] <= tail[1]
        first = np.where(at_head, start + rest, start)
        energy = np.where(at_head, head[0], tail[0]) + self._wholes(first, whole.astype(np.int64))
        cost = np.where(at_head, head[1], tail[1])
        # The last whole average is published a delay after it ends, or up to an update later.
        late = (end + self._delay_ns > self._t[-1] + self._spacing_ns) & (whole > 0)
        told = np.isfinite(cost) & ~late & (start + self._delay_ns >= self._t[0])
        return np.where(told, energy, np.nan), np.where(told, cost, np.nan)

    def _average(self, end: Floats) -> Floats:
        """Return the mean over the W before each instant, raw."""
        return np.asarray(np.interp(end + self._delay_ns, self._t, self._value), np.float64)

    def _wholes(self, first: Floats, count: NDArray[np.int64]) -> Floats:
        """Return the energy of `count` whole averages from `first` on."""
        window = np.repeat(np.arange(len(count)), count)
        place = np.arange(len(window)) - np.repeat(np.cumsum(count) - count, count) + 1
        averages = self._average(first[window] + place * self._window_ns)
        summed = np.bincount(window, weights=averages, minlength=len(count))
        return np.asarray(summed * self._window_ns, np.float64)

    def _rest(self, begin: Floats, length: Floats) -> tuple[Floats, Floats]:
        """Return the energy of [begin, begin + length] by the calmest place, and what it may cost."""
        steps = np.arange(-STEPS, STEPS + 1, dtype=np.float64)[:, None]
        moved = begin + steps * self._window_ns
        centre = moved + self._delay_ns + self._window_ns / 2
        area = np.interp(centre + length, self._bounds, self._area) - np.interp(centre, self._bounds, self._area)
        ahead = self._average(moved + length) - self._average(moved)  # of one step: W x this is gained
        # Moving forward by J takes off the gains at 1 .. J, backward adds those at 0 .. J + 1.
        gains = np.cumsum(ahead, axis=0) * self._window_ns
        back = gains[STEPS] - gains  # sum over (J, 0]
        area += back
        cost = self._scatter(centre, length) * length + self._step_cost * np.sqrt(np.abs(steps))
        outside = (centre < self._t[0]) | (centre + length > self._t[-1]) | (moved + self._delay_ns < self._t[0])
        cost = np.where(outside, np.inf, cost)
        best = np.argmin(cost, axis=0)[None, :]
        return np.take_along_axis(area, best, 0)[0], np.take_along_axis(cost, best, 0)[0]

    def _scatter(self, centre: Floats, length: Floats) -> Floats:
        first = np.searchsorted(self._t, centre - CALM_NS, "left")
        last = np.searchsorted(self._t, centre + length + CALM_NS, "right")
        count = np.maximum(last - first, 1)
        mean, square = ((sums[last] - sums[first]) / count for sums in self._sums)
        scatter: Floats = np.sqrt(np.maximum(square - mean * mean, 0.0))
        return scatter
