# SPDX-License-Identifier: Apache-2.0
"""From operating points of a node to what it draws at the wall.

In this order of trust:

    bounds   [P_idle, P_busy(load)] of the uncaptured power, as arXiv 2505.15631, section IV
    affine   P_wall = a + b (cpu + dram + gpu)
    node     P_wall = c0 + c1 cpu + c2 dram + c3 gpu + c4 (cpu + dram + gpu)^2

A watt inside costs more than a watt at the wall, by the supply's loss and the fans: slopes are drawn towards 1.08.
Squares stand for what grows faster, fans above all; they cannot be negative. What a model is worth is how far it is off
at a point that it has not seen: each is left out in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from powersample.errors import InvalidArgument
from powersample.fit.follows import refusal
from powersample.fit.ridge import Floats, Prior, solve
from powersample.model import Calibration, LinearModel, OperatingPoint
from powersample.model.calibration import GROUPS, SOURCES, SUM, design

IDLE, GPU = "idle", "gpu"
TERMS: Mapping[str, tuple[str, ...]] = {"affine": ("1", SUM), "node": ("1", *GROUPS, "sum^2")}
SLOPE, SLOPE_SD = 1.08, 0.15  # of supplies at 83 to 96 % with the fans behind them, and of counters of 5 % gain
LEAST_POINTS = {"affine": 3, "node": 6}
ROUNDS = 4  # weights need the misfit, the misfit the weights
LEAST_SD = 1e-5  # of the wall: no meter is better, and the prior must weigh something beside it
RECTANGLE = 3**0.5  # limits of error to a standard uncertainty
DRIFT_SD, DRIFT_PCT = 3.0, 0.3  # beyond both of which an idle node is another one than at the start


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
    fitted = {kind: None if refused else _model(kind, used, groups) for kind in TERMS}
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
        reasons=(*([refused] if refused else ()), *_remarks(idle, groups, source)),
        source=source,
        **about,
    )
    return replace(found, best="none" if refused else _best(found))


# ---- bounds ------------------------------------------------------------------------------------------------------


def _uncaptured(points: Sequence[OperatingPoint], groups: Sequence[str]) -> tuple[float, float]:
    """Return P_x of points of one state, W, and its standard uncertainty: by chance, spread and the meter's limits."""
    x_w = np.array([one.wall_w - sum(one.components_w[group] for group in groups) for one in points])
    chance = np.array([_chance_w(one, dict.fromkeys(groups, 1.0)) for one in points])
    spread_w = float(np.std(x_w, ddof=1)) if len(x_w) > 1 else 0.0
    limit_w = max((one.accuracy_w or 0.0 for one in points), default=0.0)
    mean_w = max(float(np.sqrt(np.mean(chance**2))), spread_w) / len(x_w) ** 0.5
    return float(np.mean(x_w)), float(np.hypot(mean_w, limit_w / RECTANGLE))


def _busy(points: Sequence[OperatingPoint], groups: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return P_busy of every load on the processors, at its highest level: the paper's calibration leaves GPUs idle."""
    found = {}
    for kernel in dict.fromkeys(one.kernel for one in points if one.kernel not in (IDLE, GPU)):
        of_it = [one for one in points if one.kernel == kernel]
        top = max((one.level for one in of_it if one.level is not None), default=None)
        found[kernel] = _uncaptured([one for one in of_it if one.level == top], groups)
    return found


# ---- models ------------------------------------------------------------------------------------------------------


def _model(kind: str, points: Sequence[OperatingPoint], groups: tuple[str, ...]) -> LinearModel | None:
    """Fit one; None where there are too few points for it, or they do not tell its terms apart."""
    terms = tuple(term for term in TERMS[kind] if term in groups or term in ("1", SUM, "sum^2"))
    names = [one.name for one in points]
    if len(set(names)) < max(LEAST_POINTS[kind], len(terms) + 1):
        return None
    deck = _Deck(terms, groups, points)
    found = deck.fit(np.ones(len(points), np.bool_))
    if found is None:
        return None
    errors_w = np.empty(len(points))
    for name in set(names):  # all points of that name: a repeat of it would give it away
        own = np.array([one == name for one in names])
        other = deck.fit(~own)
        if other is None:
            return None
        errors_w[own] = deck.rows[own] @ other.coefficients - deck.wall_w[own]
    off_pct = 100 * np.abs(errors_w) / deck.wall_w
    return LinearModel(
        kind=kind,
        groups=groups,
        terms=terms,
        coefficients=tuple(found.coefficients.tolist()),
        covariance=tuple(map(tuple, found.covariance.tolist())),
        misfit_w=max(found.misfit_w, float(np.sqrt(np.mean(errors_w**2)))),
        free=len(set(names)) - len(terms),
        leave_one_out_max_pct=float(off_pct.max()),
        leave_one_out_p95_pct=float(np.percentile(off_pct, 95)),
    )


@dataclass(frozen=True, slots=True)
class _Fitted:
    coefficients: Floats
    covariance: Floats
    misfit_w: float


class _Deck:
    """Points as the rows of a system."""

    def __init__(self, terms: tuple[str, ...], groups: tuple[str, ...], points: Sequence[OperatingPoint]) -> None:
        self.points = points
        self.rows = design(terms, {group: [one.components_w[group] for one in points] for group in groups})
        self.wall_w = np.array([one.wall_w for one in points])
        slopes = np.array([term in (SUM, *GROUPS) for term in terms])
        # The affine model has points enough for its two, and nothing is put into it.
        drawn = slopes & ("sum^2" in terms)
        self.prior = Prior(
            mean=np.where(slopes, SLOPE, 0.0),
            sd=np.where(drawn, SLOPE_SD, np.inf),
            positive=np.array([term != "1" or "sum^2" in terms for term in terms]),
        )
        self.chance_w = np.array([_chance_w(one, dict.fromkeys(groups, SLOPE)) for one in points])

    def fit(self, which: Any) -> _Fitted | None:
        rows, wall_w, chance_w = self.rows[which], self.wall_w[which], self.chance_w[which]
        misfit_w = 0.0
        for number in range(ROUNDS):
            # Equal weights first: how surely single points were measured says nothing of how well a model can fit them.
            sd = (
                np.ones(len(rows))
                if number == 0
                else np.hypot(chance_w, max(misfit_w, LEAST_SD * float(np.mean(wall_w))))
            )
            prior = self.prior if number else replace(self.prior, sd=np.full(len(self.prior.sd), np.inf))
            found = solve(rows, wall_w, sd, prior) or solve(rows, wall_w, sd, self.prior)
            if found is None:
                return None
            coefficients, covariance = found
            free = max(1, len(rows) - int(np.count_nonzero(coefficients)))
            off_w2 = float(np.sum((wall_w - rows @ coefficients) ** 2)) / free
            misfit_w = float(np.sqrt(max(0.0, off_w2 - float(np.mean(chance_w**2)))))
        return _Fitted(coefficients, covariance, misfit_w)


def _chance_w(point: OperatingPoint, slopes: Mapping[str, float]) -> float:
    """Return by how much chance alone sets a point off the model, one standard deviation, W."""
    parts = (slopes[group] * point.components_u_w.get(group, 0.0) for group in slopes)
    return float(np.sqrt(point.wall_u_w**2 + sum(part * part for part in parts)))


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


def _remarks(idle: Sequence[OperatingPoint], groups: Sequence[str], source: str) -> list[str]:
    said = []
    if source in ("data sheet", "bmc"):
        what = "a data sheet" if source == "data sheet" else "the BMC's own sensor, which nobody calibrated"
        said.append(f"PSQ-CAL-SHEET: the power at the wall is from {what}: no meter was read")
    if len(idle) > 1:
        first, last = (one.wall_w - sum(one.components_w[group] for group in groups) for one in (idle[0], idle[-1]))
        chance = sum(_chance_w(one, dict.fromkeys(groups, 1.0)) ** 2 for one in (idle[0], idle[-1])) ** 0.5
        if abs(last - first) > max(DRIFT_SD * chance, DRIFT_PCT / 100 * idle[0].wall_w):
            said.append(
                f"PSQ-CAL-DRIFT: idle, {last - first:+.1f} W more went uncaptured at the end than at the start: "
                "the node had not settled; let it stand before, and calibrate again"
            )
    return said
