# SPDX-License-Identifier: Apache-2.0
"""Which CPUs a load may be put on, and which of them are two threads of one core."""

from __future__ import annotations

import os
from collections.abc import Sequence

from powersample.errors import InvalidArgument


def allowed() -> list[int]:
    """Return the CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


def cores_first(threads: int, sysfs: str | os.PathLike[str] | None = None) -> list[int]:
    """Return as many of them, one thread of each core first; `sysfs` is where cores are looked up, None for /sys.

    Raises:
        InvalidArgument: there are not so many.
    """
    from powersample._native.api_load import cpus

    found = cpus(sysfs)
    if not 1 <= threads <= len(found):
        raise InvalidArgument(f"{threads} threads: this process may use {len(found)} CPUs")
    return found[:threads]


def second_threads(cpus: Sequence[int], sysfs: str | os.PathLike[str] | None = None) -> int:
    """Return how many of these share a core with one before them."""
    from powersample._native import api_load

    return api_load.second_threads(cpus, sysfs)


def parse_cpus(text: str) -> list[int]:
    """Return the CPUs of a list such as "0-3,8".

    Raises:
        InvalidArgument: it is none.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise InvalidArgument(f"CPUs {text!r}: give them as 0-3,8")
        found += range(int(first), int(last or first) + 1)
    return found
