# SPDX-License-Identifier: Apache-2.0
"""EC-NAS runs: one JSON object a line, energies by a vendored carbontracker (saintslab/EC-NAS-Bench)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from powersample.errors import BadFormat
from powersample.formats.parsed import as_text, counted, moment_ns
from powersample.model import RunRow, RunTable

KWH_J = 3.6e6
SAMPLE_S = 11.0  # its default sleeps 10 s between readings, and a RAPL difference takes another
USAGES = "avg_power_usages:"  # the colon is part of the key


def looks_like(head: str) -> bool:
    """Whether a file that begins so is one."""
    return head.lstrip().startswith("{") and "total_energy (kWh)" in head


def parse(data: bytes, where: str) -> RunTable:
    """Return a row a run.

    Raises:
        BadFormat: no line is such a run.
    """
    wrong: Counter[str] = Counter()
    rows = []
    for line in as_text(data, where).splitlines():
        if not line.strip():
            continue
        try:
            rows.append(_row(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            wrong["lines that are no EC-NAS run are left out"] += 1
    if not rows:
        raise BadFormat(f"{where}: no line is an EC-NAS run")
    return RunTable("carbontracker (EC-NAS)", None, tuple(rows), SAMPLE_S, counted(wrong))


def _row(run: dict[str, Any]) -> RunRow:
    usage: dict[str, Any] = run.get(USAGES) or {}
    energies = {name: _sum(part.get("avg_energy_usages (J)")) for name, part in usage.items()}
    powers = {name: _sum(part.get("avg_power_usages (W)")) for name, part in usage.items()}
    epochs = [float(one["epochs"]) for one in run.get("evaluation_results") or ()]
    started = run.get("start_emission")
    return RunRow(
        name=str(run["path"]),
        start_ns=None if started is None else moment_ns(started),
        duration_s=float(run["total_time"]),
        energies_j={name: value for name, value in energies.items() if value is not None},
        total_j=float(run["total_energy (kWh)"]) * KWH_J,
        power_w={name: value for name, value in powers.items() if value is not None},
        epochs=max(epochs, default=None),
    )


def _sum(nested: Any) -> float | None:
    if nested is None:
        return None
    if isinstance(nested, list):
        parts = [_sum(one) for one in nested]
        known = [one for one in parts if one is not None]
        return sum(known) if known else None
    return float(nested)
