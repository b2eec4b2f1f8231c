# SPDX-License-Identifier: Apache-2.0
"""Devices that were recorded and of which a window has no energy: which channel, how much it covers, what helps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from powersample.report.table import number

MOST_NAMED = 3
UNCOVERED_FIX = "An energy needs half of its window: keep the source there all the time, and record for longer."
OTHER_FIX = "`powersample report FILE --explain` says more."


def untold(data: Mapping[str, Any]) -> Iterable[str]:
    """Yield a sentence a device and domain that was recorded and has no energy in some window.

    Args:
        data: a report's JSON object.
    """
    found: dict[tuple[str, str], list[tuple[str, Mapping[str, Any], float]]] = {}
    for window in data["windows"]:
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for energy in window["energies"]:
            groups.setdefault((energy["device"], energy["domain"]), []).append(energy)
        for key, energies in groups.items():
            if all(one["joules"] is None for one in energies):
                best = max(energies, key=lambda one: one["covered_s"] or 0.0)
                found.setdefault(key, []).append((window["name"], best, window["duration_s"]))
    for cases in found.values():
        names = ", ".join(name for name, _, _ in cases[:MOST_NAMED])
        more = f" and {len(cases) - MOST_NAMED} more windows" if len(cases) > MOST_NAMED else ""
        _, energy, duration_s = cases[0]
        reasons = "; ".join(energy["reasons"]) or energy["method"]
        fix = UNCOVERED_FIX if "PSQ-UNCOVERED" in reasons or "PSQ-GAP" in reasons else OTHER_FIX
        yield (
            f"no energy by {energy['channel']} in {names}{more}: it covers {number(energy['covered_s'] or 0.0)} s of "
            f"{number(duration_s)} s ({reasons}). {fix}"
        )
