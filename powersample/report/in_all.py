# SPDX-License-Identifier: Apache-2.0
"""What the windows of a name take in all: every stretch that they cover once, whoever marked it and however often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from powersample.analysis import Measured, whole
from powersample.analysis.mean import in_quadrature
from powersample.analysis.relative import Sum, add, stretches
from powersample.analysis.repeats import stem
from powersample.analysis.totals import PART_DOMAINS, TOTAL
from powersample.model import Energy, Window
from powersample.report.many import MOST_ROWS, crowds

Told = Mapping[Window, Sequence[Measured]]


def stretches_in_all(windows: Sequence[Window]) -> dict[str, list[Window]]:
    """Return the stretches that windows cover, by those names that more bear than are told one by one."""
    names = crowds([{"name": one.name} for one in windows], crowded=len(windows) > MOST_ROWS)
    groups: dict[str, list[Window]] = {}
    for one in windows:
        if (name := stem(one.name)) in names:
            groups.setdefault(name, []).append(one)
    return {name: stretches(some) for name, some in groups.items()}


def sums_json(pieces: Mapping[str, Sequence[Window]], told: Told) -> list[dict[str, Any]]:
    """Return the energy of each name's stretches by device, and of all GPUs, packages and memories together.

    Ranks that mark the same steps, or windows that nest, do not make it more: it is what devices took while any of them
    was open. A board's gain and offset are the same in all stretches; devices' errors are their own.

    Args:
        pieces: of `stretches_in_all`.
        told: the energies of each stretch.

    Returns:
        A row a name and device: "name", without a number; "device", "domain"; "stretches", how many; "joules", None
        where one stretch's cannot be told, or of the total is not whole; "low_j", "high_j", "verdict".
    """
    return [row for name, some in pieces.items() for row in _rows(name, some, [told[one] for one in some])]


def _rows(name: str, pieces: Sequence[Window], told: Sequence[Sequence[Measured]]) -> Iterator[dict[str, Any]]:
    devices: dict[tuple[str, str], list[Energy | None]] = {}
    beside = {(one.energy.device, one.energy.domain) for some in told for one in some if one.spare}
    for i, some in enumerate(told):
        for one in some:
            mine = devices.setdefault((one.energy.device, one.energy.domain), [None] * len(told))
            if one.primary:
                mine[i] = one.energy
    head = {"name": name, "stretches": len(pieces)}
    parts: list[Sum | None] = []
    for (device, domain), energies in devices.items():
        known = [one for one in energies if one is not None and one.joules is not None]
        found = add(known) if len(known) == len(energies) else None
        yield {**head, "device": device, "domain": domain, **_json(found)}
        if domain in PART_DOMAINS and (device, domain) not in beside:
            parts.append(found if all(map(whole, known, pieces)) else None)
    if len(parts) > 1:
        yield {**head, "device": TOTAL, "domain": "+".join(PART_DOMAINS), **_json(_together(parts))}


def _together(parts: Sequence[Sum | None]) -> Sum | None:
    """Return the sum of devices; None where one is not whole."""
    told = [one for one in parts if one is not None]
    return Sum(math.fsum(one.joules for one in told), *in_quadrature(told), ()) if len(told) == len(parts) else None


def _json(one: Sum | None) -> dict[str, Any]:
    if one is None:
        return {"joules": None, "low_j": None, "high_j": None, "verdict": "unusable"}
    return {"joules": one.joules, "low_j": one.low_j, "high_j": one.high_j, "verdict": one.verdict}
