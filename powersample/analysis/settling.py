# SPDX-License-Identifier: Apache-2.0
"""How far the power that no counter sees is from the settled state that a calibration was fitted to.

Fans follow heat, and heat follows power. Let u(P) be the settled uncaptured power and Q the components' powers behind
a first-order lag, Q' = (P - Q) / tau. If all that is uncaptured followed heat, a window would hold the integral of
u(Q); if nothing did, as a supply's losses do not, that of u(P). The middle is told; which share follows heat nobody
knows, and it is a node's own: half of the difference is what the middle may be off by. No supply is without loss, so
that u here is what lies above the least that one can lose of a watt more.

What went on before the recording is unknown too, and no chance. The first powers are taken for it, but Q may have
been anywhere from idle to the top of what was calibrated, where fans are still fast from a load that ended before the
record began: the interval is as wide as those after either together. That is gone after some tau of recording.
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
LEAST_LOSS = (
    0.02  # W/W: 80 PLUS Titanium, 90, 94 and 96 % at 10, 20 and 50 %, loses 1.7 and 2.7 % of what is added between
)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """By how much a window's energy differs from the settled one if all that is uncaptured follows heat, J.

    Attributes:
        told_j: with the record's first powers before it.
        least_j: with an idle node before it.
        most_j: with one at the top of what was calibrated.
    """

    told_j: float = 0.0
    least_j: float = 0.0
    most_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Settling:
    """Integrals of u(Q) - u(P) from the record's begin, for all that may have been before it.

    Attributes:
        grid_ns: int64 (n + 1,), edges of bins; empty without a model.
        since_j: float64 (3, n + 1), J, from idle, from the first powers and from the top of what was calibrated.
    """

    grid_ns: NDArray[np.int64]
    since_j: Floats

    @classmethod
    def of(cls, calibration: Calibration, course: Course) -> Settling:
        """Work out a recording's course."""
        model = calibration.model
        groups = () if model is None else model.groups
        if model is None or len(course.grid_ns) < 2 or any(group not in course.watts for group in groups):
            return cls(np.empty(0, np.int64), np.empty((3, 0)))
        powers = {group: _filled(course.watts[group]) for group in groups}
        seconds = np.diff(course.grid_ns) / 1e9
        settled_w = _uncaptured(model, powers)
        first = {group: float(power[0]) for group, power in powers.items()}
        ends = {group: (first_w, *calibration.hull_w.get(group, ())) for group, first_w in first.items()}
        idle, top = ({group: pick(some) for group, some in ends.items()} for pick in (min, max))
        since = []
        for before in (idle, first, top):
            lagged = {group: _lagged(power, seconds, before[group]) for group, power in powers.items()}
            off_j = (_uncaptured(model, lagged) - settled_w) * seconds
            since.append(np.concatenate(([0.0], np.cumsum(off_j))))
        return cls(course.grid_ns, np.array(since))

    def of_window(self, window: Window) -> Unsettled:
        """Return by how much a window's energy differs from the settled one."""
        if not len(self.grid_ns):
            return Unsettled()
        at_ns = np.array([window.start_ns, window.end_ns]) - self.grid_ns[0]
        since_ns = self.grid_ns - self.grid_ns[0]
        idle_j, first_j, top_j = (float(np.diff(np.interp(at_ns, since_ns, each))[0]) for each in self.since_j)
        return Unsettled(first_j, min(idle_j, first_j), max(first_j, top_j))


def _uncaptured(model: LinearModel, powers: Mapping[str, Floats]) -> Floats:
    return np.asarray(model.predict(powers)[0] - (1 + LEAST_LOSS) * np.sum(list(powers.values()), axis=0))


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
