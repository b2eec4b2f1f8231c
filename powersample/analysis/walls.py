# SPDX-License-Identifier: Apache-2.0
"""Which of several meters stands for the node: each measures all of it, unless their names say that they are parts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from powersample.analysis.choice import whole
from powersample.analysis.interval import ORDER
from powersample.model import Window, amount

if TYPE_CHECKING:
    from powersample.analysis.primary import Measured

WALL = "wall"
NEAR = 0.1  # of each other that two meters may be without limits of error
SUPPLY = re.compile(r"psu\d+$")  # meters so called measure a supply each, and are one measurement together


def stands_for(device: str) -> str:
    """Return whose measurement a meter takes part in: its own, or that of all which have a supply each, "psu"."""
    return "psu" if SUPPLY.match(device) else device


def one_wall(measured: Sequence[Measured], window: Window) -> list[Measured]:
    """Return a window's energies with all meters at the wall but the surest marked as spare: they are in no total.

    That is the one, or are the supplies, whose energy is the whole window's and has the narrowest interval. Where
    another contradicts it, its verdict is poor at best: it may be one of several supplies, or of another node.
    """
    meters: dict[str, list[Measured]] = {}
    for one in measured:
        if one.primary and one.energy.domain == WALL:
            meters.setdefault(stands_for(one.energy.device), []).append(one)
    if len({stands_for(one.energy.device) for one in measured if one.energy.domain == WALL}) < 2:
        return list(measured)
    surest = min(meters, key=lambda name: _unsure(meters[name], window), default="")
    against = [words for name, some in meters.items() if name != surest and (words := _against(meters[surest], some))]
    found = []
    for one in measured:
        if one.energy.domain != WALL:
            found.append(one)
        elif stands_for(one.energy.device) != surest:
            why = f"{one.why}; {surest} is surer and tells the node" if one.why else ""
            found.append(replace(one, spare=True, why=why))
        elif against and one.primary:
            reason = f"PSQ-METERS {'; '.join(against)}: each is taken for the whole node's"
            worse = one.energy.verdict if one.energy.verdict not in ORDER[:2] else "poor"
            found.append(replace(one, energy=one.energy.but(reasons=(*one.energy.reasons, reason), verdict=worse)))
        else:
            found.append(one)
    return found


def _against(surest: Sequence[Measured], others: Sequence[Measured]) -> str:
    """Return in words by how much more or less others tell; "" where they may, or where one tells nothing."""
    (one_j, one_half_j), (other_j, other_half_j) = _told(surest), _told(others)
    if not one_j or not other_j:
        return ""
    rooms_j = [half_j if math.isfinite(half_j) else NEAR * one_j for half_j in (one_half_j, other_half_j)]
    if abs(other_j - one_j) <= math.fsum(rooms_j):
        return ""
    pct = 100 * (other_j - one_j) / one_j
    names = " and ".join(one.energy.channel for one in others)
    return f"{names} {'tells' if len(others) == 1 else 'tell'} {amount(abs(pct), 2)} % {'more' if pct > 0 else 'less'}"


def _told(some: Sequence[Measured]) -> tuple[float | None, float]:
    """Return a measurement's energy, None where a part of it is unknown, and half of its interval, inf without one."""
    joules = [one.energy.joules for one in some if one.energy.joules is not None]
    ends = [(one.energy.low_j, one.energy.high_j) for one in some]
    half_j = math.fsum(math.inf if low is None or high is None else (high - low) / 2 for low, high in ends)
    return math.fsum(joules) if len(joules) == len(some) else None, half_j


def _unsure(some: Sequence[Measured], window: Window) -> tuple[bool, float]:
    """Return whether a measurement lacks something, and half of its interval."""
    return any(one.energy.joules is None or not whole(one.energy, window) for one in some), _told(some)[1]
