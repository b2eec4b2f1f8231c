# SPDX-License-Identifier: Apache-2.0
"""Zeus's summary of trainings: a line a configuration, with its mean power, time per epoch and power limit.

Columns `dataset, network, batch_size, optimizer, power_limit, time_per_epoch, average_power`, in W and s
(ml-energy/zeus, summary_power.csv).
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter

from powersample.errors import BadFormat
from powersample.formats.parsed import as_text, counted
from powersample.model import RunRow, RunTable

NEEDED = ("power_limit", "time_per_epoch", "average_power")
NAMED = ("dataset", "network", "batch_size", "optimizer", "power_limit")


def looks_like(head: str) -> bool:
    """Whether a file that begins so is one."""
    columns = next(csv.reader(head.splitlines()[:1]), [])
    return all(name in columns for name in NEEDED)


def parse(data: bytes, where: str) -> RunTable:
    """Return a row a configuration: one epoch of it, with its mean power; energies it does not tell.

    Raises:
        BadFormat: a needed column is missing, or no line is a configuration.
    """
    text = as_text(data, where)
    if not looks_like(text):
        raise BadFormat(f"{where}, line 1: Zeus's summary needs the columns {', '.join(NEEDED)}")
    wrong: Counter[str] = Counter()
    rows = []
    for cells in csv.DictReader(io.StringIO(text, newline="")):
        try:
            limit_w, seconds, watts = (float(cells[name] or "") for name in NEEDED)
            if not all(math.isfinite(one) and one > 0 for one in (limit_w, seconds, watts)):
                raise ValueError
        except (TypeError, ValueError):
            wrong["lines that are no configuration are left out"] += 1
            continue
        name = " ".join(cells[one] for one in NAMED if cells.get(one))
        rows.append(RunRow(name, None, seconds, power_w={"gpu": watts}, epochs=1.0, limit_w=limit_w))
    if not rows:
        raise BadFormat(f"{where}: no line is a configuration of Zeus")
    return RunTable("zeus", None, tuple(rows), None, counted(wrong))
