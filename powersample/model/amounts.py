# SPDX-License-Identifier: Apache-2.0
"""Numbers as people write them: to so many digits, never with an exponent; durations in the unit that suits them."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import lru_cache

LEAST = 1e-9  # below it nothing that is measured here has a meaning, and an exponent says so
UNITS = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "us"))


def amount(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """Return a number to so many significant digits, no digit before the point left out: "0.00123", "12.3", "12,346".

    Args:
        value: it.
        digits: at most; zeros at the end are left out.
        signed: whether a positive number has its sign, too.
    """
    if not math.isfinite(value):
        return str(value)
    written = f"{value + 0.0:.{digits}g}"
    if abs(value) >= 10**digits:
        written = f"{value:,.0f}"
    elif abs(value) >= LEAST:
        written = f"{Decimal(written):,f}"
    return f"+{written}" if signed and value >= 0 else written


def duration(seconds: float, digits: int = 3) -> str:
    """Return a duration in the unit that suits it, h, min, s, ms, us or ns: "12.5 ms", "1 s", "26.7 min"."""
    return _duration(seconds, digits)


@lru_cache(maxsize=1 << 10)  # thousands of windows name the same few: a sensor's period, a step's length
def _duration(seconds: float, digits: int) -> str:
    if not math.isfinite(seconds) or not seconds:
        return f"{amount(seconds)} s"
    size = abs(float(f"{seconds:.{digits}g}"))  # 0.9999 s to three digits are 1 s, not 1000 ms
    unit_s, unit = next(((unit_s, unit) for least, unit_s, unit in UNITS if size >= least), (1e-9, "ns"))
    return f"{amount(seconds / unit_s, digits)} {unit}"
