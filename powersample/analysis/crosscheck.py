# SPDX-License-Identifier: Apache-2.0
"""How far two channels of one device differ over a window, and how far they may.

Both intervals hold the truth, so the difference lies within what the two have not in common:

    reconstruction  each its own, in quadrature
    gain            one shunt a board: what both priors hold cancels and sqrt(|sd_1^2 - sd_2^2|) E stays. Where one of
                    the two is calibrated and the other is not, that is nearly the whole spread of such boards
    path            counter and power are not known to be scaled alike: `gain_of_two` of the energy; two power fields:
                    `gain_of_fields`, on the published RTX 3090 0.3 % of 300 W
    offset          each its own, in quadrature: the two fields of that board read 7.8 W apart at no power
    uncovered       what either did not see at most, in full

A counter and a part-time sensor of one board may look at the same instants; then they differ by less, never by more.
"""

import math
from dataclasses import dataclass

from powersample.analysis.interval import NORMAL_95, limit
from powersample.analysis.told import Told
from powersample.model import Kind, Window, amount


@dataclass(frozen=True, slots=True)
class Crosscheck:
    """Two channels' energies of one window.

    Attributes:
        channel: one of them.
        other: the other.
        joules: the one's energy.
        other_j: the other's.
        budget_j: how much they may differ by, 95 %.
    """

    channel: str
    other: str
    joules: float
    other_j: float
    budget_j: float

    @property
    def residual_j(self) -> float:
        """The one's energy less the other's."""
        return self.joules - self.other_j

    @property
    def agrees(self) -> bool:
        """Whether they differ by no more than they may."""
        return abs(self.residual_j) <= self.budget_j

    @property
    def reason(self) -> str:
        """The reason that both energies bear where they do not agree."""
        names = f"{self.channel} says {amount(self.joules, 5)} J and {self.other} {amount(self.other_j, 5)} J"
        return f"PSQ-DISAGREE {names}, more than the {amount(self.budget_j)} J that they may differ by"


def crosscheck(one: Told, other: Told, window: Window) -> Crosscheck | None:
    """Compare two channels of one device and domain; None where one of them has no energy, or too little is known.

    Where nothing is known of a sensor, counter and power are compared all the same, by an update of each at both edges
    and what neither saw:

        0.03 max(E_C, E_P) + 2 (T_C + T_P) (most - least) + (L - covered_C + L - covered_P) most
    """
    one_j, other_j = one.energy.joules, other.energy.joules
    if one_j is None or other_j is None:
        return None
    of_two = (one.kind is Kind.ENERGY) != (other.kind is Kind.ENERGY)
    budget_j = _budget_j(one, other, max(one_j, other_j), window, of_two=of_two)
    if budget_j is None:
        return None
    return Crosscheck(one.energy.channel, other.energy.channel, one_j, other_j, budget_j)


def _budget_j(one: Told, other: Told, joules: float, window: Window, *, of_two: bool) -> float | None:
    path_j = limit("gain_of_two" if of_two else "gain_of_fields") * joules
    models = one.model, other.model
    if models[0] is None or models[1] is None or one.reconstruction is None or other.reconstruction is None:
        return path_j + _edges_j(one, other, window) if of_two else None
    own_gain = math.sqrt(abs(models[0].gain_sd ** 2 - models[1].gain_sd ** 2))
    own_offset_w = math.hypot(models[0].offset_sd_w, models[1].offset_sd_w)
    wider = limit("unknown_wider")
    own_j = [
        told.reconstruction.half_j * (1.0 if told.model is not None and told.model.known else wider)
        for told in (one, other)
        if told.reconstruction is not None
    ]
    parts_j = (path_j, NORMAL_95 * own_gain * joules, NORMAL_95 * own_offset_w * window.duration_s, *own_j)
    return math.hypot(*parts_j) + one.missing_j + other.missing_j


def _edges_j(one: Told, other: Told, window: Window) -> float:
    power = other if one.kind is Kind.ENERGY else one
    unseen_s = 2 * window.duration_s - one.energy.covered_s - other.energy.covered_s
    swing_j = 2 * (one.period_s + other.period_s) * (power.most_w - power.least_w)
    return swing_j + unseen_s * power.most_w
