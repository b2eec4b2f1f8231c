# SPDX-License-Identifier: Apache-2.0
"""Whether a board does what the behaviour table says of its kind."""

from __future__ import annotations

from powersample.fit.characterize import Characterization
from powersample.model import SensorModel, duration

# What boards of one kind differ by, as a share of the table's figure: arXiv 2312.02741's workbook has update periods
# within 3 % and windows of 18 to 25 ms on A100s of several hosts; rise times differ by a factor of two.
SPREAD = {"period_s": (0.05, "T"), "window_s": (0.3, "W"), "tau_s": (0.6, "lag")}


def disagreements(found: Characterization, table: SensorModel) -> list[str]:
    """Return where a board contradicts the table beyond its own error and beyond what boards of a kind differ by."""
    said = []
    if found.response is not None and found.response is not table.response:
        said.append(f"it answers as a {found.response} sensor, the table says {table.response}")
    for name, (share, short) in SPREAD.items():
        span, value = found.figures[name].span, getattr(table, name)
        if span is None or (name == "window_s" and not value and found.figures[name].value == 0):
            continue
        low, high = span
        if low > value * (1 + share) or high < value * (1 - share):
            measured = found.figures[name].value or 0.0
            said.append(f"{short} is {duration(measured, 4)}, the table says {duration(value, 4)}")
    return said
