# SPDX-License-Identifier: Apache-2.0
"""Sums of the channels that stand for a window's devices: by domain, and of all that do not overlap together.

A sum is told when it is whole: where one device has no energy, or its readings speak for less than 99 % of the window,
there is none, for a part of an energy looks like an energy. Errors of different devices are their own, so half-widths
add in quadrature.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from powersample.analysis.choice import whole
from powersample.analysis.mean import in_quadrature
from powersample.analysis.primary import Measured
from powersample.errors import InvalidArgument
from powersample.model import BudgetTerm, Energy, Window, amount

PARTS = ("gpu_j", "cpu_j", "dram_j")  # do not overlap
TOTALS = {"gpu_j": "gpu", "cpu_j": "package", "dram_j": "dram", "node_j": "wall"}
PART_DOMAINS = tuple(TOTALS[key] for key in PARTS)
TOTAL = "total"  # the device whose energy is that of all


class _Summed(NamedTuple):
    """One domain's sum.

    Attributes:
        joules: None where there is no device, or not all is known.
        covered_s: of each device, the seconds that its readings speak for.
        lacking: what keeps the sum from being told.
    """

    joules: float | None = None
    covered_s: Sequence[float] = ()
    lacking: Sequence[str] = ()


NOTHING = _Summed()


def totals(measured: Sequence[Measured], window: Window) -> dict[str, Any]:
    """Return the sums of primaries in J, None where they would not be whole.

    Args:
        measured: a window's energies.
        window: the window.

    Returns:
        "gpu_j", "cpu_j", "dram_j", "node_j"; "joules", the first three together, None where one of them that there is
        cannot be told; "low_j", "high_j" and "verdict", the 95 % interval of those of the three that are known
        together, None and "unrated" where one of their energies has none; "covered_s", the seconds that the least
        covered device's readings speak for, None without any device; and "reasons", what keeps a sum from being told.
    """
    mine: dict[str, list[Measured]] = {domain: [] for domain in TOTALS.values()}
    for one in measured:
        if one.energy.domain in mine and not one.spare:
            mine[one.energy.domain].append(one)
    found = {key: _summed(mine[domain], window, key) for key, domain in TOTALS.items()}
    parts = [found[key] for key in PARTS]
    told = [domain for domain, one in zip(PART_DOMAINS, parts, strict=True) if one.joules is not None]
    known = [one.joules for one in parts if one.joules is not None]
    covered_s = [seconds for one in found.values() for seconds in one.covered_s]
    return {
        **{key: one.joules for key, one in found.items()},
        "joules": math.fsum(known) if known and not any(one.lacking for one in parts) else None,
        **_interval(_primaries(measured, told)),
        "covered_s": min(covered_s, default=None),
        "reasons": [reason for one in found.values() for reason in one.lacking],
    }


def total(measured: Sequence[Measured], window: Window, domain: str | None = None) -> Energy:
    """Return the energy of all GPUs, packages and memories together, or of all devices of one of these domains.

    Args:
        measured: a window's energies.
        window: the window.
        domain: "gpu", "package" or "dram"; None is all three, of which a node may lack some.

    Returns:
        The sum, as `totals` has it, as the energy of a device called "total". Its terms are those of its parts in
        quadrature; `method` names the channels; `updates`, `polls` and `covered_s` are the least of its parts',
        `bridged_s` the most. Of each code it has the first of its parts' reasons.

    Raises:
        InvalidArgument: no such domain, or nothing in it was recorded.
    """
    if domain is not None and domain not in PART_DOMAINS:
        raise InvalidArgument(
            f"there is no total of {domain!r}", "A total is of gpu, package or dram, or without a domain of all three."
        )
    domains = PART_DOMAINS if domain is None else (domain,)
    there = {name: [one for one in measured if one.energy.domain == name and not one.spare] for name in domains}
    if not any(there.values()):
        raise InvalidArgument(
            f"the trace has no {' or '.join(domains)} energy", "Name a device that it has, and its domain."
        )
    lacking = [reason for some in there.values() for reason in _summed(some, window, TOTAL).lacking]
    parts = _primaries(measured, domains)
    joules = None if lacking else math.fsum(one.joules for one in parts if one.joules is not None)
    interval = {"low_j": None, "high_j": None, "verdict": "unusable"} if joules is None else _interval(parts)
    return Energy(
        joules=joules,
        method=f"sum of {', '.join(one.channel for one in parts)}" if joules is not None else "",
        budget=sum_budget(parts) if interval["low_j"] is not None else (),
        reasons=(*lacking, *_reasons(parts)),
        channel=TOTAL if domain is None else f"{TOTAL}.{domain}",
        device=TOTAL,
        domain="+".join(domains),
        window=window.name,
        updates=min((one.updates for one in parts), default=0),
        polls=min((one.polls for one in parts), default=0),
        covered_s=min((one.covered_s for one in parts), default=0.0),
        bridged_s=max((one.bridged_s for one in parts), default=0.0),
        **interval,
    )


def _summed(measured: Sequence[Measured], window: Window, what: str) -> _Summed:
    """Return the sum of one domain's devices, called `what`."""
    if not measured:
        return NOTHING
    devices: dict[str, Measured | None] = {}
    for one in measured:
        devices[one.energy.device] = one if one.primary else devices.get(one.energy.device)
    covered_s, absent, part = [], [], []
    for device, primary in devices.items():
        told = primary.energy if primary else None
        covered_s.append(told.covered_s if told else 0.0)
        if told is None or told.joules is None:
            absent.append(device)
        elif not whole(told, window):
            part.append((told.covered_s, f"{told.channel} of {device}"))
    lacking = [f"PSQ-PARTIAL no energy of {absent[0]}{more(absent)} can be told: no {what}"] if absent else []
    if part:  # the least covered stands for all: eight GPUs' identities would be a page
        least_s, name = min(part)
        share = f"{amount(least_s, 4)} s of {amount(window.duration_s, 4)} s"
        lacking.append(f"PSQ-PARTIAL {name}{more(part)} speaks for {share}: no {what}")
    known = [one.energy.joules for one in devices.values() if one is not None and one.energy.joules is not None]
    return _Summed(None if lacking else sum(known), covered_s, lacking)


def _primaries(measured: Iterable[Measured], domains: Iterable[str]) -> list[Energy]:
    return [one.energy for one in measured if one.primary and one.energy.domain in domains]


def more(some: Sequence[object]) -> str:
    """Return how many others there are than the first, which has been told."""
    return f" (and of {len(some) - 1} more)" if len(some) > 1 else ""


def _interval(parts: Sequence[Energy]) -> dict[str, Any]:
    return dict(zip(("low_j", "high_j", "verdict"), in_quadrature(parts), strict=True))


def sum_budget(parts: Sequence[Energy]) -> tuple[BudgetTerm, ...]:
    """Return the terms of a sum of devices.

    Those that are no bounds add in quadrature by name. A device's bounds add linearly to its own chance before that,
    so what they make the sum's wider is one term: hypot(chance + bounds) - hypot(chance).
    """
    terms: dict[tuple[str, str], list[float]] = {}
    chance, wider = [], []
    for one in parts:
        for term in one.budget:
            if term.kind != "bound":
                terms.setdefault((term.term, term.kind), []).append(term.value_j)
        chance.append(math.hypot(*(term.value_j for term in one.budget if term.kind == "standard")))
        wider.append(chance[-1] + math.fsum(term.value_j for term in one.budget if term.kind == "bound"))
    found = [BudgetTerm(name, kind, math.hypot(*values)) for (name, kind), values in terms.items()]
    bounds_j = math.hypot(*wider) - math.hypot(*chance)
    return (*found, BudgetTerm("bounds of the parts", "bound", bounds_j)) if bounds_j > 0 else tuple(found)


def _reasons(parts: Sequence[Energy]) -> list[str]:
    """Return the first of each code's reasons, with its channel, and how many more channels have that code."""
    by_code: dict[str, list[tuple[str, str]]] = {}
    for one in parts:
        for reason in one.reasons:
            code, _, words = reason.partition(" ")
            mine = by_code.setdefault(code, [])
            if one.channel not in (channel for channel, _ in mine):
                mine.append((one.channel, words))
    return [f"{code} {some[0][0]}{more(some)}: {some[0][1]}" for code, some in by_code.items()]
