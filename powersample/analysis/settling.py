# SPDX-License-Identifier: Apache-2.0
"""How far the power that no counter sees is from the settled state that a calibration was fitted to.

Fans follow heat, and heat follows power. Let u(P) be the settled uncaptured power and Q the components' powers behind
a first-order lag, Q' = (P - Q) / tau. If all that is uncaptured followed heat, a window would hold the integral of
u(Q); if nothing did, as a supply's losses do not, that of u(P). The middle is told, and the interval reaches to both.

What went on before the recording is unknown: Q may have rested anywhere from idle to the first powers, which are taken.
That fans were still fast from what ran before is not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Floats
from powersample.analysis.course import Course
from powersample.model import Calibration, LinearModel, Window

TAU_S = 45.0  # heat sinks and fan controllers settle within 1 to 3 minutes


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What a window's settled energy is moved by, and how far from there the truth may be to either side, J."""

    moved_j: float
    below_j: float
    above_j: float


@dataclass(frozen=True, slots=True)
class Settling:
    """Integrals of u(Q) - u(P) from the record's begin, for both ends of what may have been before it.

    Attributes:
        grid_ns: int64 (n + 1,), edges of bins; empty without a model.
        since_j: float64 (2, n + 1), J, from idle and from the first powers.
    """

    grid_ns: NDArray[np.int64]
    since_j: Floats

    @classmethod
    def of(cls, calibration: Calibration, course: Course) -> Settling:
        """Work out a recording's course."""
        model = calibration.model
        groups = () if model is None else model.groups
        if model is None or len(course.grid_ns) < 2 or any(group not in course.watts for group in groups):
            return cls(np.empty(0, np.int64), np.empty((2, 0)))
        powers = {group: _filled(course.watts[group]) for group in groups}
        seconds = np.diff(course.grid_ns) / 1e9
        settled_w = _uncaptured(model, powers)
        idle = {group: calibration.hull_w.get(group, (np.inf, np.inf))[0] for group in groups}
        since = []
        for least in (idle, dict.fromkeys(groups, np.inf)):
            lagged = {
                group: _lagged(power, seconds, min(float(power[0]), least[group])) for group, power in powers.items()
            }
            off_j = (_uncaptured(model, lagged) - settled_w) * seconds
            since.append(np.concatenate(([0.0], np.cumsum(off_j))))
        return cls(course.grid_ns, np.array(since))

    def of_window(self, window: Window) -> Unsettled:
        """Return what a window's settled energy has to be moved by."""
        if not len(self.grid_ns):
            return Unsettled(0.0, 0.0, 0.0)
        at_ns = np.array([window.start_ns, window.end_ns]) - self.grid_ns[0]
        since_ns = self.grid_ns - self.grid_ns[0]
        idle_j, first_j = (float(np.diff(np.interp(at_ns, since_ns, each))[0]) for each in self.since_j)
        moved_j = first_j / 2
        return Unsettled(moved_j, moved_j - min(0.0, idle_j, first_j), max(0.0, idle_j, first_j) - moved_j)


def _uncaptured(model: LinearModel, powers: Mapping[str, Floats]) -> Floats:
    return np.asarray(model.predict(powers)[0] - np.sum(list(powers.values()), axis=0))


def _filled(watts: Floats) -> Floats:
    """Return powers with a line across those that are unknown; 0 where none is known."""
    known = np.flatnonzero(np.isfinite(watts))
    return np.interp(np.arange(len(watts)), known, watts[known]) if len(known) else np.zeros(len(watts))


def _lagged(watts: Floats, seconds: Floats, begin_w: float) -> Floats:
    """Return each bin's mean of a power behind the lag."""
    rest = np.exp(-seconds / TAU_S)
    mean = TAU_S / seconds * (1 - rest)  # share of a bin's first difference that is left over it
    lag_w, found = begin_w, []
    for power_w, share, part in zip(watts.tolist(), rest.tolist(), mean.tolist(), strict=True):
        found.append(power_w + (lag_w - power_w) * part)
        lag_w = power_w + (lag_w - power_w) * share
    return np.array(found)
