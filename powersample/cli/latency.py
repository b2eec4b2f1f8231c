# SPDX-License-Identifier: Apache-2.0
"""`--latency TIME`: how long every call of a simulated driver takes."""

from __future__ import annotations

import re

from powersample.errors import InvalidArgument

UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds(text: str) -> float:
    """Return the time in s.

    Raises:
        InvalidArgument: It is not a number with a unit of time.
    """
    found = re.fullmatch(r"(\d+\.?\d*)(us|ms|s)", text)
    if found is None:
        raise InvalidArgument(f"--latency {text}: give a time such as 400us or 2ms")
    return float(found[1]) * UNITS_S[found[2]]
