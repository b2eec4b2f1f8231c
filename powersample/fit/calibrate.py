# SPDX-License-Identifier: Apache-2.0
"""From operating points of a node to what it draws at the wall.

In this order of trust:

    bounds   [P_idle, P_busy(load)] of the uncaptured power, as arXiv 2505.15631, section IV
    affine   P_wall = a + b (cpu + dram + gpu)
    node     a slope for each of them, and one square: see `node_model`

What is used is what is least off at points that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from powersample.errors import InvalidArgument
from powersample.fit.follows import MOST_UNSTEADY, THROTTLED, UNSTEADY, UNSURE, refusal
from powersample.fit.node_model import SLOPE, SLOPE_SD, TERMS, chance_w, fit_model
from powersample.model import Calibration, OperatingPoint
from powersample.model.calibration import GROUPS, SOURCES, SUM

IDLE, GPU, OTHER = "idle", "gpu", "other"
NO_METER = {"data sheet": "a data sheet", "bmc": "the BMC's own sensor, which nobody calibrated"}
RECTANGLE = 3**0.5  # limits of error to a standard uncertainty
DRIFT_SD, DRIFT_PCT = 3.0, 0.3  # beyond both of which an idle node is another one than at the start
GPU_IDLE_SHARE = 0.05  # of what GPUs moved by: up to here above the lowest they are idle
MISFIT_PCT = 5.0  # what the plainest model reaches on a node in order
STILL_SHARE = 0.01  # of the wall's power: what moved less has told nothing of its slope


def calibrate(points: Iterable[OperatingPoint], *, source: str = "meter", **about: Any) -> Calibration:
    """Fit everything that operating points can tell of a node.

    Args:
        points: in the order in which they were taken; those that are not `used` are kept and not looked at.
        source: where the wall's power is from: "meter", "bmc", "data sheet" or "file".
        about: the other fields of `Calibration` that are not fitted: meter, host, simulated ...

    Returns:
        The calibration; `accepted` and `reasons` say whether it may be used.

    Raises:
        InvalidArgument: there is no point to fit to, or no such source.
    """
    taken = tuple(points)
    used = [one for one in taken if one.used]
    if source not in SOURCES:
        raise InvalidArgument(f"wall power of {source!r}; there are {', '.join(SOURCES)}")
    if not used:
        raise InvalidArgument("there is no operating point to calibrate by")
    groups = tuple(group for group in GROUPS if all(group in one.components_w for one in used))
    if not groups:
        raise InvalidArgument("no component was measured at every operating point")
    refused = refusal(used, groups)
    fitted = {kind: None if refused else fit_model(kind, used, groups) for kind in TERMS}
    still = dict(_still(used, groups)) if fitted["affine"] is not None else {}
    if GPU in still:  # the square of what was never seen: up to 55 % off on simulated nodes, a line up to 6 %
        fitted["node"] = None
    idle = [one for one in used if one.kernel == IDLE]
    limits = [one.accuracy_w for one in used if one.accuracy_w is not None]
    found = Calibration(
        points=taken,
        groups=groups,
        p_idle_w=_uncaptured(idle, groups)[0] if idle else None,
        p_idle_u_w=_uncaptured(idle, groups)[1] if idle else None,
        p_busy_w=_busy(used, groups),
        affine=fitted["affine"],
        node=fitted["node"],
        best="none",
        hull_w=_hull(used, groups),
        accuracy_w=max(limits, default=None),
        accuracy_pct=max(
            (100 * one.accuracy_w / one.wall_w for one in used if one.accuracy_w is not None), default=None
        ),
        accepted=not refused,
        reasons=(
            *([refused] if refused else ()),
            *_remarks(used, groups, source),
            *_below_idle(idle, used, groups),
            *still.values(),
        ),
        source=source,
        **about,
    )
    found = replace(found, best="none" if refused else _best(found))
    return replace(found, reasons=(*found.reasons, *_misfit(found)))


def from_sheet(
    groups: tuple[str, ...], p_idle_w: float, p_busy_w: Mapping[str, float], *, source: str = "data sheet", **about: Any
) -> Calibration:
    """Return what is known without any meter: the power that counters miss, as somebody else tells it.

    Args:
        groups: components that counters see, of `GROUPS`.
        p_idle_w: uncaptured power of the idle node.
        p_busy_w: by load.
        source: "data sheet" or "bmc".
        about: as for `calibrate`.

    Raises:
        InvalidArgument: no such source or component.
    """
    if source not in NO_METER:
        raise InvalidArgument(f"figures of {source!r}; there are {', '.join(NO_METER)}")
    if unknown := [group for group in groups if group not in GROUPS]:
        raise InvalidArgument(f"no component {unknown[0]!r}; there are {', '.join(GROUPS)}")
    return Calibration(
        points=(),
        groups=tuple(group for group in GROUPS if group in groups),
        p_idle_w=p_idle_w,
        p_idle_u_w=None,
        p_busy_w={load: (watts, 0.0) for load, watts in p_busy_w.items()},
        affine=None,
        node=None,
        best="bounds" if p_busy_w else "none",
        hull_w={},
        accuracy_w=None,
        accuracy_pct=None,
        accepted=bool(p_busy_w),
        reasons=(
            *_sourced(source),
            *_below(p_idle_w, {load: (watts, 0.0) for load, watts in p_busy_w.items()}),
            *(() if p_busy_w else ("PSQ-CAL-FEW: a lower bound alone: what is it under load?",)),
        ),
        source=source,
        **about,
    )


def weighted(points: Sequence[OperatingPoint], samples: Sequence[float]) -> tuple[OperatingPoint, ...]:
    """Return points whose wall power is as unsure by chance as the number of readings behind each tells.

    How far single readings scatter nobody has told, so that all that a line leaves is taken for it: an upper limit.

    Args:
        points: means.
        samples: readings behind each.
    """
    groups = tuple(group for group in GROUPS if all(group in one.components_w for one in points))
    found = fit_model("affine", points, groups) if groups else None
    if found is None:
        return tuple(points)
    predicted = np.array([float(found.predict(one.components_w)[0]) for one in points])
    off_w = predicted - np.array([one.wall_w for one in points])
    scatter_w = float(np.sqrt(np.mean(off_w**2) * np.median(samples)))
    return tuple(replace(one, wall_u_w=scatter_w / count**0.5) for one, count in zip(points, samples, strict=True))


# ---- bounds ------------------------------------------------------------------------------------------------------


def _uncaptured(points: Sequence[OperatingPoint], groups: Sequence[str]) -> tuple[float, float]:
    """Return P_x of points of one state, W, and its standard uncertainty: by chance, spread and the meter's limits."""
    x_w = np.array([one.wall_w - sum(one.components_w[group] for group in groups) for one in points])
    chance = np.array([chance_w(one, dict.fromkeys(groups, 1.0)) for one in points])
    spread_w = float(np.std(x_w, ddof=1)) if len(x_w) > 1 else 0.0
    limit_w = max((one.accuracy_w or 0.0 for one in points), default=0.0)
    mean_w = max(float(np.sqrt(np.mean(chance**2))), spread_w) / len(x_w) ** 0.5
    return float(np.mean(x_w)), float(np.hypot(mean_w, limit_w / RECTANGLE))


def _busy(points: Sequence[OperatingPoint], groups: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return P_busy of every load, at its highest level; what is no kernel of ours stands under its own name.

    The paper's calibration leaves GPUs idle, so loads on them are left out wherever there are others.
    """
    busy = [one for one in points if one.kernel != IDLE]
    most_w = _gpu_idle_w(points)
    beside = [one for one in busy if one.kernel != GPU and one.components_w.get(GPU, 0.0) <= most_w]
    found: dict[str, list[OperatingPoint]] = {}
    for one in beside or busy:
        found.setdefault(one.name if one.kernel == OTHER else one.kernel, []).append(one)
    highest = {
        load: max((one.level for one in of_it if one.level is not None), default=None) for load, of_it in found.items()
    }
    return {
        load: _uncaptured([one for one in of_it if one.level == highest[load]], groups) for load, of_it in found.items()
    }


def _gpu_idle_w(points: Sequence[OperatingPoint]) -> float:
    """Return up to which power GPUs count as idle; infinite where none was measured."""
    watts = [one.components_w[GPU] for one in points if GPU in one.components_w]
    return min(watts) + GPU_IDLE_SHARE * (max(watts) - min(watts)) if watts else float("inf")


# ---- what is to be said ------------------------------------------------------------------------------------------


def _best(found: Calibration) -> str:
    """Return what is surest at points that it has not seen."""
    affine, node = found.affine, found.node
    if node is not None and (affine is None or node.leave_one_out_max_pct < affine.leave_one_out_max_pct):
        return "node"
    if affine is not None:
        return "affine"
    return "bounds" if found.bounds_w is not None else "none"


def _hull(points: Sequence[OperatingPoint], groups: Sequence[str]) -> dict[str, tuple[float, float]]:
    by_group = {group: [one.components_w[group] for one in points] for group in groups}
    all_w = [sum(one.components_w[group] for group in groups) for one in points]
    return {name: (min(values), max(values)) for name, values in {**by_group, SUM: all_w}.items()}


def _remarks(points: Sequence[OperatingPoint], groups: Sequence[str], source: str) -> Iterator[str]:
    yield from _sourced(source)
    if source != "file":  # a table's order is anybody's
        yield from _drift([one for one in points if one.kernel == IDLE], groups)
    unsteady = [one.name for one in points if UNSTEADY in one.marks]
    if 0 < len(unsteady) <= MOST_UNSTEADY * len(points):
        yield f"PSQ-CAL-UNSTEADY: {_some(unsteady, points)} had not settled{_names(unsteady)}: give them longer"
    if unknown := [one.name for one in points if UNSURE in one.marks]:
        yield (
            f"PSQ-CAL-UNSURE: of {_some(unknown, points)} nobody knows how unsure their components are by chance"
            f"{_names(unknown)}: what it does stays in the model's misfit"
        )
    if held := [one.name for one in points if THROTTLED in one.marks]:
        yield (
            f"PSQ-CAL-THROTTLED: {_some(held, points)} were held back by heat{_names(held)}: they are fitted, for "
            "parts and wall drew less together, but P_busy is of less than the load that it names"
        )


def _some(names: Sequence[str], points: Sequence[OperatingPoint]) -> str:
    return f"{len(names)} of {len(points)} points"


def _names(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _sourced(source: str) -> Iterator[str]:
    if source in NO_METER:
        yield f"PSQ-CAL-SHEET: the power at the wall is from {NO_METER[source]}: no meter was read"


def _drift(idle: Sequence[OperatingPoint], groups: Sequence[str]) -> Iterator[str]:
    if len(idle) < 2:
        return
    first, last = (one.wall_w - sum(one.components_w[group] for group in groups) for one in (idle[0], idle[-1]))
    chance = sum(chance_w(one, dict.fromkeys(groups, 1.0)) ** 2 for one in (idle[0], idle[-1])) ** 0.5
    if abs(last - first) > max(DRIFT_SD * chance, DRIFT_PCT / 100 * idle[0].wall_w):
        yield (
            f"PSQ-CAL-DRIFT: idle, {last - first:+.1f} W more went uncaptured at the end than at the start: "
            "the node had not settled; let it stand before, and calibrate again"
        )


def _below_idle(
    idle: Sequence[OperatingPoint], points: Sequence[OperatingPoint], groups: Sequence[str]
) -> Iterator[str]:
    if idle:
        slopes, busy = dict.fromkeys(groups, 1.0), _busy(points, groups)
        rest_w = float(np.mean([chance_w(one, slopes) for one in idle]))
        chance = {load: max(chance_w(one, slopes) for one in points if load in (one.kernel, one.name)) for load in busy}
        unsure = {load: (watts, DRIFT_SD * float(np.hypot(chance[load], rest_w))) for load, (watts, _) in busy.items()}
        yield from _below(_uncaptured(idle, groups)[0], unsure)


def _below(p_idle_w: float, p_busy_w: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Yield what is to be said of loads whose uncaptured power is below the idle node's by more than chance, W."""
    low_w = {load: watts for load, (watts, unsure_w) in p_busy_w.items() if watts < p_idle_w - unsure_w}
    if low_w:
        load = min(low_w, key=lambda one: low_w[one])
        more = f", and of {len(low_w) - 1} more" if len(low_w) > 1 else ""
        yield (
            f"PSQ-CAL-BUSY: P_busy of {load}{more} is {p_idle_w - low_w[load]:.1f} W below P_idle, and no supply or "
            "fan takes less under load: counters that tell too much, an idle point that had not settled, or columns "
            "of different times"
        )


def _misfit(found: Calibration) -> Iterator[str]:
    worst_pct = found.leave_one_out_max_pct
    if worst_pct is not None and worst_pct > MISFIT_PCT:
        yield (
            f"PSQ-CAL-MISFIT: the {found.best} model is off by up to {worst_pct:.1f} % at a point that it had not "
            "seen: means of other times than the counters', points that had not settled, or loads that no counter sees"
        )


def _still(points: Sequence[OperatingPoint], groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield components that hardly moved, each with what is to be said of it."""
    wall_w = float(np.mean([one.wall_w for one in points]))
    for group in groups if len(groups) > 1 else ():
        moved_w = float(np.ptp([one.components_w[group] for one in points]))
        if moved_w >= STILL_SHARE * wall_w:
            continue
        what = f"PSQ-CAL-STILL: {group} moved by {moved_w:.1f} W only"
        if group == GPU:
            yield group, f"{what}: what a GPU's watt costs at the wall is not known, and no node model is fitted"
        else:
            expected = f"{SLOPE:g} +- {SLOPE_SD:g}"
            yield group, f"{what}: its slope is what is expected of a node, {expected}, and hardly measured"
