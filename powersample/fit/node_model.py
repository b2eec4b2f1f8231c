# SPDX-License-Identifier: Apache-2.0
"""Models of a node's wall power, fitted to operating points: affine in the sum of its components, or one term each.

    affine   P_wall = a + b (cpu + dram + gpu)
    node     P_wall = c0 + c1 cpu + c2 dram + c3 gpu + c4 (cpu + dram + gpu)^2

A watt inside costs more than a watt at the wall, by the supply's loss and the fans: slopes are drawn towards 1.08.
Squares stand for what grows faster, fans above all; they cannot be negative. What a model is worth is how far it is off
at a point that it has not seen: each is left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from powersample.fit.ridge import Floats, Prior, solve
from powersample.model import LinearModel, OperatingPoint
from powersample.model.calibration import GROUPS, SUM, design

TERMS: Mapping[str, tuple[str, ...]] = {"affine": ("1", SUM), "node": ("1", *GROUPS, "sum^2")}
SLOPE, SLOPE_SD = 1.08, 0.15  # of supplies at 83 to 96 % with the fans behind them, and of counters of 5 % gain
LEAST_POINTS = {"affine": 3, "node": 6}
ROUNDS = 4  # weights need the misfit, the misfit the weights
LEAST_SD = 1e-5  # of the wall: no meter is better, and the prior must weigh something beside it


def fit_model(kind: str, points: Sequence[OperatingPoint], groups: tuple[str, ...]) -> LinearModel | None:
    """Fit "affine" or "node"; None where there are too few points for it, or they do not tell its terms apart.

    Its misfit is what the fit leaves beyond chance. Errors at points that were left out are greater, by what the
    coefficients are then unsure of; that is in their covariance, and would count twice.

    Args:
        kind: of `TERMS`.
        points: to fit to.
        groups: components that all of them have.
    """
    errors_w = left_out_w(kind, points, groups)
    if errors_w is None:
        return None
    terms, deck = _terms(kind, groups), _Deck(_terms(kind, groups), groups, points)
    found = deck.fit(np.ones(len(points), np.bool_))
    if found is None:
        return None
    off_pct = 100 * np.abs(errors_w) / deck.wall_w
    return LinearModel(
        kind=kind,
        groups=groups,
        terms=terms,
        coefficients=tuple(found.coefficients.tolist()),
        covariance=tuple(map(tuple, found.covariance.tolist())),
        misfit_w=found.misfit_w,
        free=len({one.name for one in points}) - len(terms),
        leave_one_out_max_pct=float(off_pct.max()),
        leave_one_out_p95_pct=float(np.percentile(off_pct, 95)),
    )


def left_out_w(kind: str, points: Sequence[OperatingPoint], groups: tuple[str, ...]) -> Floats | None:
    """Return by how much a model is too high at each point that it was not fitted to, W, float64 (n,).

    All points of one name are left out together: a repeat would give a point away. None as `fit_model`.
    """
    terms = _terms(kind, groups)
    names = np.array([one.name for one in points])
    if len(set(names)) < max(LEAST_POINTS[kind], len(terms) + 1):
        return None
    deck = _Deck(terms, groups, points)
    errors_w = np.empty(len(points))
    for name in set(names):
        own = names == name
        other = deck.fit(~own)
        if other is None:
            return None
        errors_w[own] = deck.rows[own] @ other.coefficients - deck.wall_w[own]
    return errors_w


def chance_w(point: OperatingPoint, slopes: Mapping[str, float]) -> float:
    """Return by how much chance alone sets a point off a model of these slopes, one standard deviation, W."""
    parts = (slopes[group] * point.components_u_w.get(group, 0.0) for group in slopes)
    return float(np.sqrt(point.wall_u_w**2 + sum(part * part for part in parts)))


def _terms(kind: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(term for term in TERMS[kind] if term in groups or term in ("1", SUM, "sum^2"))


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
        self.chance_w = np.array([chance_w(one, dict.fromkeys(groups, SLOPE)) for one in points])

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
