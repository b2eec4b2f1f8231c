# SPDX-License-Identifier: Apache-2.0
"""Which of a device's channels stands for it in a window, and what its channels say of each other."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from powersample.analysis.crosscheck import Crosscheck, crosscheck
from powersample.analysis.evidence import average_evidence
from powersample.analysis.interval import limit
from powersample.analysis.told import Evidence, Told, rated
from powersample.model import Energy, Kind, Response, Window, amount

MUCH_WIDER = 2.0  # times the counter's interval, from which a power is the worse one whatever a gap hid


class Choice(NamedTuple):
    """What a device and domain's channels say of a window.

    Attributes:
        energies: in the order of the channels, with PSQ-DISAGREE where two differ by more than they may.
        primary: the index of the one that stands for the device; None when none has an energy.
        why: why it does.
        checks: every two that could be compared; what is read ten times less often than another is not.
    """

    energies: tuple[Energy, ...]
    primary: int | None
    why: str
    checks: tuple[Crosscheck, ...]


def choose(told: Sequence[Told], window: Window) -> Choice:
    """Choose among one device and domain's channels.

    The counter, if it moved often enough in the window, or is surer there than the power, and agrees with it; else the
    first power in the order given; else the counter as it is. Channels that cover 99 % of the window come before those
    that do not, unless they are averages over more than the window: their values reach into what another channel did
    not see, and tell little of when it was. A power that is read ten times less often than another comes last, but for
    one that most of the others contradict (`crosscheck`).

    Args:
        told: what the channels tell, in the order of preference.
        window: the window.
    """
    energies = [rated(one, window, _best_evidence(one, told, window)) for one in told]
    seldom = _seldom(told)
    often = [i for i, rare in enumerate(seldom) if not rare]  # what is read seldom knows little of a window
    compared: dict[tuple[int, int], Crosscheck] = {}
    for i, j in combinations(often, 2):
        if (check := crosscheck(told[i], told[j], window)) is not None:
            compared[i, j] = check
    for pair, check in compared.items():
        for i in pair if not check.agrees else ():
            energies[i] = energies[i].but(reasons=(*energies[i].reasons, check.reason))
    primary, why = _primary(told, energies, compared, seldom, window)
    return Choice(tuple(energies), primary, why, tuple(compared.values()))


def _primary(
    told: Sequence[Told],
    energies: Sequence[Energy],
    compared: Mapping[tuple[int, int], Crosscheck],
    seldom: Sequence[bool],
    window: Window,
) -> tuple[int | None, str]:
    against = {pair for pair, check in compared.items() if not check.agrees}
    there = [i for i, one in enumerate(energies) if one.joules is not None]
    if len(there) > 1:
        # Stable: the order given, but whole ones first, and last those read so seldom that their lines span anything.
        part = {i: not (_seen(energies[i], window) and _resolves(told[i], window)) for i in there}
        there.sort(key=lambda i: (_outvoted(i, compared, against), seldom[i], part[i]))
    power = next((i for i in there if told[i].kind is not Kind.ENERGY), None)
    counters = [i for i in there if told[i].kind is Kind.ENERGY]
    lack = "the counter tells nothing here" if any(one.kind is Kind.ENERGY for one in told) else "there is no counter"
    for i in counters:
        lacks = _lacks(told[i], None if power is None else told[power], window)
        surer = power is not None and _surer(energies[i], energies[power], window)
        if surer:
            lacks = ""
        if not lacks and power is not None and (min(i, power), max(i, power)) in against:
            lacks = "the counter disagrees with the power"
        if not lacks:
            why = "the counter is surer here than the power" if surer else ""
            return i, why or f"the counter moved {energies[i].updates} times in the window"
        lack = lacks
    if power is not None:
        return power, lack
    if counters:
        return counters[0], f"{lack}, and no power reading covers it"
    return None, ""


def _seldom(told: Sequence[Told]) -> list[bool]:
    """Return of each whether it is a power that is read ten times less often than another."""
    powers = [one.divisor for one in told if one.kind is not Kind.ENERGY]
    if len(powers) < 2:
        return [False] * len(told)
    often = min(powers)
    return [one.kind is not Kind.ENERGY and one.divisor > limit("seldom") * often for one in told]


def _outvoted(i: int, compared: Iterable[tuple[int, int]], against: set[tuple[int, int]]) -> bool:
    """Whether two channels or more, and most of those that a channel can be compared with, contradict it."""
    if len(against) < 2:
        return False
    contrary = sum(i in pair for pair in against)
    return contrary >= 2 and 2 * contrary > sum(i in pair for pair in compared)


def _resolves(told: Told, window: Window) -> bool:
    """Whether a channel's values are of the window, and not averages over more than it."""
    model = told.model
    return model is None or model.response is not Response.AVERAGE or model.window_s <= window.duration_s


def _surer(counter: Energy, power: Energy, window: Window) -> bool:
    """Whether a counter that covers the window, or all but short gaps, has the narrower interval."""
    if counter.low_j is None or counter.high_j is None or power.low_j is None or power.high_j is None:
        return False
    wider = (power.high_j - power.low_j) / max(counter.high_j - counter.low_j, 1e-12)
    if _seen(counter, window):
        return wider > 1
    return whole(counter, window) and wider > MUCH_WIDER  # what a gap hid from the counter is little beside that


def _best_evidence(one: Told, told: Sequence[Told], window: Window) -> Evidence | None:
    """Return what leaves a channel's energy the least room."""
    average = average_evidence(one, told, window)
    if average is None and not one.evidence:
        return None
    every = one.evidence if average is None else (*one.evidence, average)
    return min(every, key=lambda each: each.off_by_j)


def whole(energy: Energy, window: Window) -> bool:
    """Whether an energy is the whole window's: what gaps hid is bridged, as long as that is a tenth of it or less."""
    bridged_s = min(energy.bridged_s, limit("much_hidden") * window.duration_s)
    return energy.covered_s + bridged_s >= limit("whole") * window.duration_s


def _seen(energy: Energy, window: Window) -> bool:
    """Whether readings speak for the whole window."""
    return energy.covered_s >= limit("whole") * window.duration_s


def _lacks(counter: Told, power: Told | None, window: Window) -> str:
    updates = counter.energy.updates
    if updates < limit("least_updates_unseen" if counter.every_poll else "least_updates"):
        return f"the counter moved only {updates} times in the window"
    if power is not None and _seen(power.energy, window) and not _seen(counter.energy, window):
        share = f"{amount(counter.energy.covered_s, 4)} s of {amount(window.duration_s, 4)} s"
        return f"the counter speaks for {share} only"
    return ""
