# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon's emissions.csv: energies in kWh, powers in W (the last reading, not the mean), durations in s."""

from __future__ import annotations

import csv
from collections import Counter

from powersample.errors import BadFormat
from powersample.formats.parsed import as_text, counted, moment_ns
from powersample.model import RunRow, RunTable

KWH_J = 3.6e6
NEEDED = ("timestamp", "duration", "energy_consumed")
DOMAINS = {"cpu": "cpu", "gpu": "gpu", "ram": "dram"}
SAMPLE_S = 15.0  # measure_power_secs unless a run set it, which the file does not tell


def looks_like(head: str) -> bool:
    """Whether a file that begins so is one."""
    columns = (head.splitlines() or [""])[0].split(",")
    return all(name in columns for name in NEEDED)


def parse(data: bytes, where: str) -> RunTable:
    """Return a row a run; what is empty stays None.

    Raises:
        BadFormat: a needed column is missing, or there is no row.
    """
    lines = as_text(data, where).splitlines()
    if not lines or not looks_like(lines[0]):
        raise BadFormat(f"{where}, line 1: an emissions.csv needs the columns {', '.join(NEEDED)}")
    wrong: Counter[str] = Counter()
    rows, versions = [], set()
    for number, cells in enumerate(csv.DictReader(lines), 2):
        if None in cells or None in cells.values():
            wrong["lines with too few or too many cells are left out"] += 1
            continue
        energies = {ours: _number(cells.get(f"{name}_energy")) for name, ours in DOMAINS.items()}
        powers = {ours: _number(cells.get(f"{name}_power")) for name, ours in DOMAINS.items()}
        total = _number(cells["energy_consumed"])
        wrong["runs lack an energy"] += total is None
        versions.add(cells.get("codecarbon_version") or "")
        rows.append(
            RunRow(
                name=cells.get("run_id") or f"line {number}",
                start_ns=_moment(cells["timestamp"]),
                duration_s=_number(cells["duration"]),
                energies_j={name: value * KWH_J for name, value in energies.items() if value is not None},
                total_j=None if total is None else total * KWH_J,
                power_w={name: value for name, value in powers.items() if value is not None},
                pue=_number(cells.get("pue")),
                mode=cells.get("tracking_mode") or None,
            )
        )
    if not rows:
        raise BadFormat(f"{where}: there is no run below the header")
    return RunTable("codecarbon", ", ".join(sorted(versions - {""})) or None, tuple(rows), SAMPLE_S, counted(wrong))


def _number(cell: str | None) -> float | None:
    try:
        return float(cell or "")
    except ValueError:
        return None


def _moment(cell: str) -> int | None:
    try:
        return moment_ns(cell)
    except ValueError:
        return None
