# SPDX-License-Identifier: Apache-2.0
"""How a level is written on a command line: the same for every load and verb."""

from __future__ import annotations

import math

from powersample.errors import InvalidArgument

LEAST_PERCENT = 2  # a whole number from here on is no share


def parse_level(text: str, what: str) -> float:
    """Return the level of "0.5", "50%" or "50", 0 to 1. A whole number from 2 on can only be a percent.

    Args:
        text: as written.
        what: it belongs to, for the message.

    Raises:
        InvalidArgument: it is no level.
    """
    number, percent, after = text.partition("%")
    try:
        level = math.nan if after else float(number)
    except ValueError:
        level = math.nan
    if percent or (level >= LEAST_PERCENT and level.is_integer()):
        level /= 100
    if not 0 <= level <= 1:
        raise InvalidArgument(f"{what} {text}: a level is a number from 0 to 1, or 0% to 100%")
    return level
