# SPDX-License-Identifier: Apache-2.0
"""The energy at the wall of one window, by each of a calibration's means, with what each may be off by.

Half of a 95 % interval; D is the window, f = sum of c_i x_i the model, X_i the integral of x_i, C the covariance of c:

    coefficients  t sqrt(X' C X)
    misfit        t misfit_w D, not less for a window that goes through many states: a law bends other than a model
                  over a whole region, and a training's states lie in one (by 1/sqrt(states) it was too narrow: 87 % of
                  trainings on four GPUs held)
    components    1.96 u of each group's energy x df/dP; gain and offset left out: f was fitted to the same counters
    unlike        df/dP x each device's gain x (its energy - its group's mean), in quadrature: f was fitted to devices
                  that were loaded alike, and knows the mean of their gains alone
    meter         its limits of error at points that drew as much
    bins          what half as many bins would change
    settling      half of the energy that fans lack or have too much, where all that is uncaptured follows heat
    before        the same after an idle node, and after one at its top: the interval holds those of all three
    beyond        0.2 x (energy outside the calibrated powers), in full
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from powersample.analysis.arrays import Floats
from powersample.analysis.course import Bins
from powersample.analysis.evidence import student_95
from powersample.analysis.interval import NORMAL_95, verdict
from powersample.analysis.settling import Unsettled
from powersample.model import BudgetTerm, Calibration, LinearModel, amount

BEYOND = 0.2  # W at the wall per W of components that nobody calibrated; simulated nodes without GPU points: up to 0.17
UNSURE = ("data sheet", "bmc")  # sources whose error nobody states
WORTH_TELLING = 0.01  # of the components' energy, that lies outside of what was calibrated


@dataclass(frozen=True, slots=True)
class Estimate:
    """An energy at the wall.

    Attributes:
        joules: it.
        terms: what it may be off by to either side; bounds among them add up, the others in quadrature.
        below_j: what it may be less by, beside that, for what ran before the recording.
        above_j: what it may be more by.
    """

    joules: float
    terms: tuple[BudgetTerm, ...]
    below_j: float = 0.0
    above_j: float = 0.0

    @property
    def half_j(self) -> float:
        """Half of what `terms` make; NaN where one is unknown."""
        chance = math.hypot(*(one.value_j for one in self.terms if one.kind != "bound"))
        return chance + math.fsum(one.value_j for one in self.terms if one.kind == "bound")

    @property
    def interval_j(self) -> tuple[float, float] | None:
        """The 95 % interval; None where something is unknown."""
        half_j = self.half_j
        if not math.isfinite(half_j):
            return None
        return max(0.0, self.joules - half_j - self.below_j), self.joules + half_j + self.above_j

    @property
    def budget(self) -> tuple[BudgetTerm, ...]:
        """All terms."""
        return (*self.terms, BudgetTerm("what ran before the recording", "bound", max(self.below_j, self.above_j)))


def by_model(
    calibration: Calibration,
    model: LinearModel,
    bins: Bins,
    own_j: Mapping[str, float],
    unlike_j: Mapping[str, float],
    unsettled: Unsettled,
) -> Estimate:
    """Return the model's energy.

    Args:
        calibration: that it is of.
        model: the one that is used.
        bins: powers of the window.
        own_j: half of the interval of each group's energy, gain and offset left out; NaN where unknown.
        unlike_j: half of what gains do to a group's energy whose devices are not loaded alike.
        unsettled: how far the node is from the settled states that the model was fitted to.
    """
    coefficients, covariance = np.asarray(model.coefficients), np.asarray(model.covariance)
    seconds, duration_s = bins.seconds, float(bins.seconds.sum())

    def integrals(of: Bins) -> Floats:
        return np.asarray(of.seconds @ model.design(of.watts))

    x = integrals(bins)
    joules = float(x @ coefficients)
    t = student_95(model.free) if model.free > 0 else math.inf
    slopes = {
        group: (float(integrals(Bins(seconds, {**bins.watts, group: bins.watts[group] + 1})) @ coefficients) - joules)
        / duration_s
        for group in model.groups
    }
    own, unlike = (
        math.hypot(*(slope * of.get(group, math.nan) for group, slope in slopes.items())) for of in (own_j, unlike_j)
    )
    terms = (
        BudgetTerm("the calibration's coefficients", "gain", t * math.sqrt(max(0.0, float(x @ covariance @ x)))),
        BudgetTerm("the calibration's misfit", "gain", t * model.misfit_w * duration_s),
        BudgetTerm("the components' own, without gain", "standard", own),
        BudgetTerm("gains of devices that are loaded unlike each other", "gain", unlike),
        _meter(calibration, joules, duration_s),
        BudgetTerm("power within bins", "standard", abs(joules - float(integrals(bins.halved()) @ coefficients))),
        _beyond(calibration, bins),
    )
    return _settled(joules, terms, unsettled)


def _settled(joules: float, terms: tuple[BudgetTerm, ...], unsettled: Unsettled) -> Estimate:
    """Return what a settled node's energy is by what its fans do.

    The share that follows heat is as much a rectangle as the meter's error, and adds in quadrature; what ran before is
    no chance, and widens to its side.
    """
    chance_j = math.hypot(*(one.value_j for one in terms if one.kind != "bound"))

    def ends(off_j: float) -> tuple[float, float]:
        half_j = math.hypot(chance_j, off_j / 2)
        return off_j / 2 - half_j, off_j / 2 + half_j

    told, every = ends(unsettled.told_j), [ends(one) for one in (unsettled.least_j, unsettled.told_j, unsettled.most_j)]
    lag = BudgetTerm("fans that have not settled", "standard", abs(unsettled.told_j) / 2)
    return Estimate(
        joules + unsettled.told_j / 2,
        (*terms, lag),
        below_j=told[0] - min(low_j for low_j, _ in every),
        above_j=max(high_j for _, high_j in every) - told[1],
    )


def by_bounds(
    calibration: Calibration, bounds_w: tuple[float, float], bins: Bins, own_j: Mapping[str, float]
) -> Estimate:
    """Return what lies in the middle between P_idle and P_busy, both for the whole window.

    Without a meter nobody knows what these two are worth: no interval.
    """
    low_w, high_w = bounds_w
    duration_s, base_j = float(bins.seconds.sum()), float(bins.seconds @ bins.sum_w)
    u_w = max(calibration.p_idle_u_w or 0.0, *(u for _, u in calibration.p_busy_w.values()))
    if calibration.source in UNSURE:
        u_w = math.nan
    terms = (
        BudgetTerm("anywhere between the bounds", "bound", (high_w - low_w) / 2 * duration_s),
        BudgetTerm("the bounds' own", "gain", NORMAL_95 * u_w * duration_s),
        BudgetTerm("the components' own, without gain", "standard", _all(own_j, calibration)),
        _beyond(calibration, bins),
    )
    return Estimate(base_j + (low_w + high_w) / 2 * duration_s, terms)


def by_load(calibration: Calibration, load: str, bins: Bins, own_j: Mapping[str, float]) -> Estimate:
    """Return the energy with the uncaptured power of a calibrated load; what draws other power is not quite that."""
    watts, u_w = calibration.p_busy_w[load]
    if calibration.source in UNSURE:
        u_w = math.nan
    duration_s, base_j = float(bins.seconds.sum()), float(bins.seconds @ bins.sum_w)
    like = [one for one in calibration.points if load in (one.kernel, one.name) and one.used]
    drew_w = math.nan
    if like:
        at = max(like, key=lambda one: one.level or 0.0)
        drew_w = math.fsum(at.components_w[group] for group in calibration.groups)
    terms = (
        BudgetTerm(f"the uncaptured power of {load}", "gain", NORMAL_95 * u_w * duration_s),
        BudgetTerm("the components' own, without gain", "standard", _all(own_j, calibration)),
        BudgetTerm(f"other power than {load} drew", "bound", BEYOND * abs(base_j - drew_w * duration_s)),
    )
    return Estimate(base_j + watts * duration_s, terms)


def outside_j(calibration: Calibration, bins: Bins) -> dict[str, float]:
    """Return the energy that lies outside the calibrated powers, by group and "sum"; nothing where all lies inside."""
    powers = {**bins.watts, "sum": bins.sum_w}
    found = {}
    for name, (low_w, high_w) in calibration.hull_w.items():
        if name in powers:
            off_w = np.maximum(np.maximum(low_w - powers[name], powers[name] - high_w), 0.0)
            if off_w.any():
                found[name] = float(bins.seconds @ off_w)
    return found


def outside_reasons(calibration: Calibration, bins: Bins) -> list[str]:
    """Say what was outside of the calibrated powers, where it was more than a little."""
    base_j, duration_s = float(bins.seconds @ bins.sum_w), float(bins.seconds.sum())
    found = {name: one for name, one in outside_j(calibration, bins).items() if one > WORTH_TELLING * base_j}
    if not found:
        return []
    worst = max(found, key=lambda name: found[name])
    powers = bins.sum_w if worst == "sum" else bins.watts[worst]
    low_w, high_w = calibration.hull_w[worst]
    name = "all components together" if worst == "sum" else worst
    return [
        f"PSQ-CAL-HULL {name} drew {amount(float(bins.seconds @ powers) / duration_s, 4)} W on average, up to "
        f"{amount(float(powers.max()), 4)} W, and calibrated is {amount(low_w, 4)} to {amount(high_w, 4)} W: the "
        "interval has room for it"
    ]


def before_reasons(estimate: Estimate, rated: str) -> list[str]:
    """Say that what ran before the recording is what keeps an energy from a better verdict than it is rated."""
    if verdict(estimate.half_j, estimate.joules) == rated:
        return []
    sides = ((estimate.below_j, "less, for it was idle"), (estimate.above_j, "more, for they were still fast"))
    shares = [(100 * side_j / estimate.joules, words) for side_j, words in sides]
    told = [f"{pct:.1f} % {words}" for pct, words in shares if pct >= 0.05]
    return [
        "PSQ-CAL-BEFORE nobody knows what ran before the recording, and fans need minutes: the node may have taken up "
        f"to {', or '.join(told)}"
    ]


def _beyond(calibration: Calibration, bins: Bins) -> BudgetTerm:
    outside = outside_j(calibration, bins)
    groups_j = math.fsum(joules for name, joules in outside.items() if name != "sum")
    return BudgetTerm("outside of what was calibrated", "bound", BEYOND * max(groups_j, outside.get("sum", 0.0)))


def _meter(calibration: Calibration, joules: float, duration_s: float) -> BudgetTerm:
    """Return the meter's limits of error, as at the calibration's points that drew as much.

    A part of them is of the range, so that in percent they are greatest when the node is idle. Of no meter, the
    figures' own uncertainty says what it says.
    """
    pct = calibration.accuracy_pct
    known = {one.wall_w: one.accuracy_w for one in calibration.points if one.used and one.accuracy_w is not None}
    if pct is None:
        limit_j = math.nan if calibration.source in ("meter", "bmc") else 0.0
    elif known:
        walls_w = sorted(known)
        wall_w = joules / duration_s
        at_w = float(np.interp(wall_w, walls_w, [known[one] for one in walls_w]))
        # Beyond the points no range is known: what is in percent there stays so.
        limit_j = at_w * duration_s * max(1.0, wall_w / walls_w[-1])
    else:
        limit_j = pct / 100 * joules
    return BudgetTerm("the meter's limits of error", "gain", limit_j)


def _all(own_j: Mapping[str, float], calibration: Calibration) -> float:
    return math.hypot(*(own_j.get(group, math.nan) for group in calibration.groups))
