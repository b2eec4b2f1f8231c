# SPDX-License-Identifier: Apache-2.0
"""Which of a device's channels stands for it in a window, and what its channels say of each other."""

from collections.abc import Sequence
from dataclasses import replace

from powersample.analysis.interval import beats_often, limit
from powersample.analysis.told import Told, rated
from powersample.model import Energy, Kind, Response, Window

WHOLE = 0.99  # share of a window from which its energy is the window's
LEAST_UPDATES = 20  # of a counter, from which its edges matter little
LEAST_UPDATES_UNSEEN = 100  # of one that moves at every poll, either of whose edges may be a whole update off
SELDOM = 10  # times less often than its siblings
GAIN_OF_FIELDS = 0.01  # the same for two fields of one board: on the published RTX 3090 0.3 % of 300 W
EVIDENCE_S = 3.0  # window from which a long average tells whether a part-time sensor was fooled


def choose(
    told: Sequence[Told], window: Window, load_period_s: float | None = None
) -> tuple[list[Energy], int | None, str]:
    """Choose among one device and domain's channels.

    The counter, if it moved often enough in the window, or is surer there than the power, and agrees with it; else the
    first power in the order given; else the counter as it is. Channels that cover 99 % of the window come before those
    that do not, unless they are averages over more than the window: their values reach into what another channel did
    not see, and tell little of when it was. A power that is read ten times less often than another comes last.

    A counter C agrees with a power P over a window of L s, where the power ranges from least to most W, when

        |E_C - E_P| <= 0.03 max(E_C, E_P) + 2 (T_C + T_P) (most - least) + (L - covered_C + L - covered_P) most

    that is the gains of two paths, an update period of each at both edges, and what neither saw.

    Args:
        told: what the channels tell, in the order of preference.
        window: the window.
        load_period_s: of what ran in it, such as an iteration's length, where it is known.

    Returns:
        The energies in the order of `told`, with PSQ-DISAGREE where two do; the index of the one that stands for the
        device, None when none has an energy; and why it does.
    """
    energies = [rated(one, window, witness_j=_witness_j(one, told, window, load_period_s)) for one in told]
    there = [i for i, one in enumerate(energies) if one.joules is not None]
    often = min((one.divisor for one in told if one.kind is not Kind.ENERGY), default=1)
    seldom = [one.kind is not Kind.ENERGY and one.divisor > SELDOM * often for one in told]
    # Stable: the order given, but whole ones first, and last those read so seldom that their lines span anything.
    there.sort(key=lambda i: (seldom[i], not (whole(energies[i], window) and _resolves(told[i], window))))
    counters = [i for i in there if told[i].kind is Kind.ENERGY]
    power = next((i for i in there if told[i].kind is not Kind.ENERGY), None)
    lack = "the counter tells nothing here" if any(one.kind is Kind.ENERGY for one in told) else "there is no counter"
    for i in counters:
        lacks = _lacks(told[i], None if power is None else told[power], window)
        surer = power is not None and _surer(energies[i], energies[power], window)
        if surer:
            lacks = ""
        if not lacks and power is not None and (reason := _disagreement(told[i], told[power], window)):
            for j in (i, power):
                energies[j] = replace(energies[j], reasons=(*energies[j].reasons, reason))
            lacks = "the counter disagrees with the power"
        if not lacks:
            why = "the counter is surer here than the power" if surer else ""
            return energies, i, why or f"the counter moved {energies[i].updates} times in the window"
        lack = lacks
    if power is not None:
        return energies, power, lack
    if counters:
        return energies, counters[0], f"{lack}, and no power reading covers it"
    return energies, None, ""


def _resolves(told: Told, window: Window) -> bool:
    """Whether a channel's values are of the window, and not averages over more than it."""
    model = told.model
    return model is None or model.response is not Response.AVERAGE or model.window_s <= window.duration_s


def _surer(counter: Energy, power: Energy, window: Window) -> bool:
    """Whether a counter that covers the window has the narrower interval."""
    if counter.low_j is None or counter.high_j is None or power.low_j is None or power.high_j is None:
        return False
    return whole(counter, window) and counter.high_j - counter.low_j < power.high_j - power.low_j


def _witness_j(one: Told, told: Sequence[Told], window: Window, load_period_s: float | None) -> float | None:
    """Return how far off a part-time sensor's energy can be by what the board's long average says; None without one.

    Where the load's period is known and its beats with the sensor's are many in the window, nothing hides: 0.

    The average sees every instant, so the truth lies within its own interval: the two differ by so much at most that
    their distance and that interval hold it. Gain and offset are the board's and not told apart here.
    """
    if one.model is None or one.model.response is not Response.PART_TIME:
        return None
    if load_period_s is not None and beats_often(one.model, one.period_s, load_period_s, window.duration_s):
        return 0.0
    if window.duration_s < EVIDENCE_S:
        return None
    found = [
        abs(one.energy.joules - other.energy.joules)
        + other.reconstruction.half_j
        + GAIN_OF_FIELDS * max(one.energy.joules, other.energy.joules)
        for other in told
        if other.model is not None
        and other.model.response is Response.AVERAGE
        and one.energy.joules is not None
        and other.energy.joules is not None
        and other.reconstruction is not None
        and (one.energy.device, one.energy.domain) == (other.energy.device, other.energy.domain)
    ]
    return min(found, default=None)


def whole(energy: Energy, window: Window) -> bool:
    """Whether an energy is the whole window's."""
    return energy.covered_s >= WHOLE * window.duration_s


def _lacks(counter: Told, power: Told | None, window: Window) -> str:
    updates = counter.energy.updates
    if updates < (LEAST_UPDATES_UNSEEN if counter.every_poll else LEAST_UPDATES):
        return f"the counter moved only {updates} times in the window"
    if power is not None and whole(power.energy, window) and not whole(counter.energy, window):
        return f"the counter speaks for {counter.energy.covered_s:.4g} s of {window.duration_s:.4g} s only"
    return ""


def _disagreement(counter: Told, power: Told, window: Window) -> str:
    """Return the reason, "" when they agree."""
    one_j, other_j = counter.energy.joules or 0.0, power.energy.joules or 0.0
    unseen_s = 2 * window.duration_s - counter.energy.covered_s - power.energy.covered_s
    budget_j = (
        limit("gain_of_two") * max(one_j, other_j)
        + 2 * (counter.period_s + power.period_s) * (power.most_w - power.least_w)
        + unseen_s * power.most_w
    )
    if abs(one_j - other_j) <= budget_j:
        return ""
    names = f"{counter.energy.channel} says {one_j:.5g} J and {power.energy.channel} {other_j:.5g} J"
    return f"PSQ-DISAGREE {names}, more than the {budget_j:.3g} J that they may differ"
