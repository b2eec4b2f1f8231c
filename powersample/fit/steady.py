# SPDX-License-Identifier: Apache-2.0
"""Operating points out of a recording with a meter beside it: where the node stood still for long enough.

The record is cut into slices of 10 s. A point is 30 s in which the wall stands still, after 60 s in which the parts
did: fans follow heat for a minute and more. An iteration that repeats within a slice is a steady load. Points of like
parts are one point, so that an hour of the same work does not outweigh a calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from powersample.analysis import Measured, totals, window_energies
from powersample.analysis.course import GROUPS, KEYS
from powersample.analysis.interval import NORMAL_95
from powersample.analysis.relative import chance_j
from powersample.errors import InvalidArgument
from powersample.fit.follows import unsure
from powersample.model import MeterInfo, OperatingPoint, Trace, Window, to_realtime_ns

SLICE_S = 10.0
DWELL, SETTLE = 3, 6  # slices
WALL_STILL = 0.005  # greatest less least of the wall's slices, of their mean
PARTS_STILL = 0.03  # of the parts' together, settling included
ALIKE, ALIKE_W = 0.03, 3.0  # by how much parts of points differ that are one
WALL, OTHER = "wall", "other"


@dataclass(frozen=True, slots=True)
class Steady:
    """What a recording has of operating points.

    Attributes:
        points: those that were found, of the lowest power first.
        stretches: how many steady stretches they are made of.
        slices: how many slices were looked at.
        unknown: in how many of them a part or the wall told nothing.
    """

    points: tuple[OperatingPoint, ...]
    stretches: int
    slices: int
    unknown: int


@dataclass(frozen=True, slots=True)
class _Slice:
    """Mean powers of a slice, W, and their standard uncertainties by chance."""

    start_ns: int
    parts_w: Mapping[str, float]
    parts_u_w: Mapping[str, float]
    wall_w: float
    wall_u_w: float

    @property
    def sum_w(self) -> float:
        return math.fsum(self.parts_w.values())


@dataclass
class _Cluster:
    """Stretches of like parts, three slices each."""

    slices: list[_Slice] = field(default_factory=list)

    def like(self, others: Sequence[_Slice]) -> bool:
        mine, other = _means(self.slices), _means(others)
        return all(abs(mine[group] - other[group]) <= max(ALIKE_W, ALIKE * mine[group]) for group in mine)


def steady_points(trace: Trace, groups: Sequence[str], slice_s: float = SLICE_S) -> Steady:
    """Return the operating points of a recording.

    Args:
        trace: a recording with a meter at the wall.
        groups: components that a point needs, of "cpu", "dram", "gpu".
        slice_s: length of a slice; a point takes nine.

    Raises:
        InvalidArgument: there is no meter at the wall, or a component was not recorded.
    """
    domains = {channel.domain for channel in trace.channels.values()}
    if WALL not in domains or not trace.meta.get("meters"):
        raise InvalidArgument("no meter at the wall was recorded", "Record with --meter ADDRESS.")
    if absent := [group for group in groups if GROUPS[group] not in domains]:
        raise InvalidArgument(f"the calibration takes the power of {' and '.join(absent)}, which was not recorded")
    windows = _windows(trace, slice_s)
    slices = [
        _slice(window, measured, groups)
        for window, measured in zip(windows, window_energies(trace, windows), strict=True)
    ]
    clusters: list[_Cluster] = []
    at = SETTLE
    while at + DWELL <= len(slices):
        around = slices[at - SETTLE : at + DWELL]
        known = [one for one in around if one is not None]
        if len(known) < len(around) or not _still(known):
            at += 1
            continue
        stretch = known[SETTLE:]
        home = next((one for one in clusters if one.like(stretch)), None)
        if home is None:
            clusters.append(home := _Cluster())
        home.slices += stretch
        at += DWELL
    points = [_point(trace, one.slices, slice_s) for one in clusters]
    return Steady(
        tuple(sorted(points, key=lambda one: one.sum_w)),
        sum(len(one.slices) for one in clusters) // DWELL,
        len(slices),
        sum(one is None for one in slices),
    )


def _windows(trace: Trace, slice_s: float) -> list[Window]:
    start_ns, end_ns = trace.start_ns, trace.end_ns
    if start_ns is None or end_ns is None:
        return []
    step_ns = round(slice_s * 1e9)
    return [Window("slice", t, t + step_ns) for t in range(start_ns, end_ns - step_ns + 1, step_ns)]


def _slice(window: Window, measured: Sequence[Measured], groups: Sequence[str]) -> _Slice | None:
    sums, duration_s = totals(measured, window), window.duration_s
    energies_j = {group: sums[KEYS[group]] for group in groups}
    if sums["node_j"] is None or None in energies_j.values():
        return None
    return _Slice(
        window.start_ns,
        {group: joules / duration_s for group, joules in energies_j.items()},
        {group: _chance_w(measured, GROUPS[group], duration_s) for group in groups},
        sums["node_j"] / duration_s,
        _chance_w(measured, WALL, duration_s),
    )


def _chance_w(measured: Sequence[Measured], domain: str, duration_s: float) -> float:
    """Return the standard uncertainty by chance of a domain's mean power, W; NaN where one has no interval."""
    mine = [one.energy for one in measured if one.primary and not one.spare and one.energy.domain == domain]
    return chance_j(mine) / NORMAL_95 / duration_s


def _still(slices: Sequence[_Slice]) -> bool:
    parts = np.array([one.sum_w for one in slices])
    wall = np.array([one.wall_w for one in slices[SETTLE:]])
    return bool(np.ptp(parts) <= PARTS_STILL * parts.mean() and np.ptp(wall) <= WALL_STILL * wall.mean())


def _means(slices: Sequence[_Slice]) -> dict[str, float]:
    return {group: math.fsum(one.parts_w[group] for one in slices) / len(slices) for group in slices[0].parts_w}


def _point(trace: Trace, slices: Sequence[_Slice], slice_s: float) -> OperatingPoint:
    """Return the mean of slices: its chance is what each is unsure by, or how they scatter, whichever is more."""
    count, parts_w = len(slices), _means(slices)
    wall = np.array([one.wall_w for one in slices])
    model_free_w = wall - np.array([one.sum_w for one in slices])  # where parts move with the wall, that is no scatter
    scatter_w = float(np.std(model_free_w, ddof=1))
    chance_w = math.sqrt(math.fsum(one.wall_u_w**2 for one in slices) / count)
    wall_u_w = (max(scatter_w, chance_w) if math.isfinite(chance_w) else scatter_w) / math.sqrt(count)
    parts_u_w = {group: math.sqrt(math.fsum(one.parts_u_w[group] ** 2 for one in slices)) / count for group in parts_w}
    real_ns = to_realtime_ns(trace.anchors, np.array([slices[0].start_ns]))
    return OperatingPoint(
        name=f"recorded at {sum(parts_w.values()):.0f} W",
        kernel=OTHER,
        level=None,
        components_w=parts_w,
        components_u_w={group: u_w for group, u_w in parts_u_w.items() if math.isfinite(u_w)},
        wall_w=float(wall.mean()),
        wall_u_w=wall_u_w,
        accuracy_w=_accuracy_w(trace, float(wall.mean())),
        duration_s=count * slice_s,
        start_ns=None if real_ns is None else int(real_ns[0]),
        marks=unsure(parts_u_w.values()),
    )


def _accuracy_w(trace: Trace, wall_w: float) -> float | None:
    """Return the meters' limits of error at a reading, as of one that reads all of it; None where one is unknown."""
    limits = [MeterInfo.from_json(one).accuracy for one in trace.meta["meters"] if _at_wall(one)]
    known = [one for one in limits if one is not None and one.offset_w is not None]
    if not known or len(known) < len(limits):
        return None
    reading_pct = max(one.reading_pct for one in known)
    return reading_pct / 100 * wall_w + math.fsum(one.offset_w or 0.0 for one in known)


def _at_wall(meter: Mapping[str, object]) -> bool:
    channels = meter.get("channels")
    return isinstance(channels, list) and bool(channels) and channels[0].get("domain") == WALL
