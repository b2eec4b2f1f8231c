# SPDX-License-Identifier: Apache-2.0
"""What the windows of a name take in all: every stretch that they cover once, whoever marked it and however often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from powersample.analysis import Measured, whole
from powersample.analysis.interval import ORDER, verdict
from powersample.analysis.mean import cap_of
from powersample.analysis.relative import add, stretches
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
    parts = []
    for (device, domain), energies in devices.items():
        row = {"name": name, "device": device, "domain": domain, "stretches": len(pieces), **_sum(energies)}
        yield row
        if domain in PART_DOMAINS and (device, domain) not in beside:
            complete = all(one is not None and whole(one, piece) for one, piece in zip(energies, pieces, strict=True))
            parts.append(row if complete else {**row, "joules": None})
    if len(parts) > 1:
        yield {
            "name": name,
            "device": TOTAL,
            "domain": "+".join(PART_DOMAINS),
            "stretches": len(pieces),
            **_together(parts),
        }


def _sum(energies: Sequence[Energy | None]) -> dict[str, Any]:
    known = [one for one in energies if one is not None and one.joules is not None]
    if len(known) < len(energies):
        return {"joules": None, "low_j": None, "high_j": None, "verdict": "unusable"}
    found = add(known)
    rated = found.verdict
    if found.low_j is not None and found.high_j is not None:
        cap = max(map(cap_of, known), key=ORDER.index)
        rated = verdict(max(found.joules - found.low_j, found.high_j - found.joules), found.joules, cap)
    return {"joules": found.joules, "low_j": found.low_j, "high_j": found.high_j, "verdict": rated}


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of devices: half-widths add in quadrature, and the worst verdict that is not by width holds."""
    if any(one["joules"] is None for one in parts):
        return {"joules": None, "low_j": None, "high_j": None, "verdict": "unusable"}
    joules = math.fsum(one["joules"] for one in parts)
    if any(one["low_j"] is None for one in parts):
        return {"joules": joules, "low_j": None, "high_j": None, "verdict": "unrated"}
    below_j = math.hypot(*(one["joules"] - one["low_j"] for one in parts))
    above_j = math.hypot(*(one["high_j"] - one["joules"] for one in parts))
    cap = "good"
    for one in parts:
        by_width = verdict(max(one["joules"] - one["low_j"], one["high_j"] - one["joules"]), one["joules"])
        cap = max(cap, "good" if one["verdict"] == by_width else one["verdict"], key=ORDER.index)
    rated = verdict(max(below_j, above_j), joules, cap)
    return {"joules": joules, "low_j": max(0.0, joules - below_j), "high_j": joules + above_j, "verdict": rated}
