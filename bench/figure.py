# SPDX-License-Identifier: Apache-2.0
"""A figure: what was asked, what was measured, and whether the one meets the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Bar:
    """What is asked of a figure's median. `None` bars are for figures that are reported only."""

    sign: str  # "<=" or ">="
    limit: float

    def met_by(self, value: float) -> bool:
        return value <= self.limit if self.sign == "<=" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        key: the command that measures it: `bench/run KEY`.
        what: the quantity, in words.
        unit: of all its numbers.
        bar: what is asked, or None.
        values: one a repeat, run or pair; the median is what counts, never an extreme.
        notes: conditions, stand-ins, noise.
        skipped: why there are no values.
    """

    key: str
    what: str
    unit: str
    bar: Bar | None = None
    values: Sequence[float] = ()
    notes: Sequence[str] = ()
    skipped: str | None = None
    measured: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    @property
    def median(self) -> float | None:
        return float(np.median(self.values)) if len(self.values) else None

    @property
    def verdict(self) -> str:
        if self.median is None:
            return "not measured"
        if self.bar is None:
            return "reported"
        return "met" if self.bar.met_by(self.median) else "missed"

    def as_json(self) -> dict[str, Any]:
        low, high = np.percentile(self.values, [25, 75]) if len(self.values) else (None, None)
        return {
            "key": self.key,
            "what": self.what,
            "asked": str(self.bar) if self.bar else None,
            "median": _short(self.median),
            "min": _short(min(self.values, default=None)),
            "p25": _short(low),
            "p75": _short(high),
            "count": len(self.values),
            "unit": self.unit,
            "verdict": self.verdict,
            "notes": list(self.notes) + ([self.skipped] if self.skipped else []),
            "measured": self.measured,
        }


def _short(value: float | None) -> float | None:
    """Six significant digits: more would be noise in a committed file."""
    return None if value is None else float(f"{value:.6g}")


def spread(values: Sequence[float]) -> str:
    """Return the quartiles as a note's words."""
    low, high = np.percentile(values, [25, 75])
    return f"{low:.4g} to {high:.4g}"
