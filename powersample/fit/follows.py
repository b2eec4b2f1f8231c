# SPDX-License-Identifier: Apache-2.0
"""Whether a meter shows the node whose components were measured: else a calibration would be of nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from powersample.model import OperatingPoint

Floats = NDArray[np.float64]

LEAST_POINTS = 3
LEAST_R = 0.8
SLOPES = (0.5, 2.5)  # watts at the wall a watt inside: supply, fans and what follows the load unseen
LEAST_SPAN = 0.02  # of the wall's power, between the least and the most loaded point
FEWER_SD = 4.0
UNSTEADY, MOST_UNSTEADY = "unsteady", 0.5  # mark of a point, and the share of points that may bear it
THROTTLED = "throttled"
UNSURE = "unsure"  # what chance does to one of its components is unknown


def unsure(components_u_w: Iterable[float]) -> tuple[str, ...]:
    """Return the mark of a point one of whose components has no interval; nothing where all have."""
    return () if all(map(math.isfinite, components_u_w)) else (UNSURE,)


def refusal(points: Sequence[OperatingPoint], groups: Sequence[str]) -> str | None:
    """Return why nothing may be fitted to these points, a code and a sentence; None when all is well."""
    wall = np.array([one.wall_w for one in points])
    inside = np.array([sum(one.components_w[group] for group in groups) for one in points])
    if not (np.isfinite(wall).all() and np.isfinite(inside).all()):
        return "PSQ-CAL-FEW: some powers are no numbers; leave those points out"
    return _wiring(points, wall, inside) or _few(points) or _unsteady(points) or _flat(points, wall, inside)


def _wiring(points: Sequence[OperatingPoint], wall: Floats, inside: Floats) -> str | None:
    chance = np.array([(one.accuracy_w or 0.0) + FEWER_SD * one.wall_u_w for one in points])
    worst = int(np.argmax(inside - wall - chance))
    if inside[worst] <= wall[worst] + chance[worst]:
        return None
    return (
        f"PSQ-CAL-WIRING: at {points[worst].name!r} the meter shows {wall[worst]:.1f} W and the parts behind it "
        f"{inside[worst]:.1f} W: it measures another node, or one of several supplies"
    )


def _few(points: Sequence[OperatingPoint]) -> str | None:
    if len({one.kernel for one in points}) > 1 or len({one.name for one in points}) >= LEAST_POINTS:  # or for bounds
        return None
    return "PSQ-CAL-FEW: one state of the node tells nothing of others: take an idle point and one under load"


def _unsteady(points: Sequence[OperatingPoint]) -> str | None:
    moving = [one.name for one in points if UNSTEADY in one.marks]
    if len(moving) <= MOST_UNSTEADY * len(points):
        return None
    return (
        f"PSQ-CAL-UNSTEADY: {len(moving)} of {len(points)} points had not settled: such powers belong to no load; give "
        "them longer (--settle)"
    )


def _flat(points: Sequence[OperatingPoint], wall: Floats, inside: Floats) -> str | None:
    if len({one.name for one in points}) < LEAST_POINTS:
        return None
    span, moved, mean_w = float(np.ptp(inside)), float(np.ptp(wall)), float(np.mean(wall))
    if span < LEAST_SPAN * mean_w:
        return (
            f"PSQ-CAL-FLAT: from the least to the most loaded point the parts move by {span:.1f} W only, of "
            f"{mean_w:.1f} W at the wall: load them more"
        )
    slope = float(np.polyfit(inside, wall, 1)[0])
    noise = float(np.median([one.wall_u_w for one in points]))
    r = float(np.corrcoef(inside, wall)[0, 1]) if moved > 0 else 0.0
    if r >= LEAST_R and moved >= FEWER_SD * noise and SLOPES[0] <= slope <= SLOPES[1]:
        return None
    return (
        f"PSQ-CAL-FLAT: the meter does not follow the load: the parts move by {span:.1f} W, the meter by {moved:.1f} W "
        f"(slope {slope:.3f} W/W, r {r:.2f}; of a node {SLOPES[0]:g} to {SLOPES[1]:g}, and {LEAST_R:g} or more): "
        "look which supply it measures, and which column this is"
    )
