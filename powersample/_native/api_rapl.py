# SPDX-License-Identifier: Apache-2.0
"""RAPL's C functions as Python: which packages there are, and a package's source with the route that it took."""

from __future__ import annotations

import os
from dataclasses import dataclass

from powersample._native.api import Source, _check, _path, _text
from powersample._native.door import ffi, lib

ROUTES = {lib.PS_RAPL_PERF: "perf", lib.PS_RAPL_POWERCAP: "powercap"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a route was not taken: what failed, and the errno behind it or None."""

    route: str
    text: str
    errno: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of opening a package.

    Attributes:
        source: To be given to a sampler or closed; None when every route was refused.
        route: "perf" or "powercap"; None when every route was refused.
        cpu: The CPU from which reading is cheapest, or None.
        moved: Whether any of its counters moved while it was opened, as real ones do within a millisecond or two.
        refused: The routes that were tried in vain.
    """

    source: Source | None
    route: str | None
    cpu: int | None
    moved: bool
    refused: tuple[Refusal, ...]


def rapl_packages(sysfs: str | os.PathLike[str] | None = None) -> list[int]:
    """Return the numbers of the packages with an energy counter.

    Args:
        sysfs: Where to look; None is /sys.

    Raises:
        DeviceNotFound: The kernel offers none.
    """
    count, error = ffi.new("uint32_t *"), ffi.new("ps_error *")
    _check(lib.ps_rapl_packages(_path(sysfs), ffi.NULL, 0, count, error), error)
    numbers = ffi.new("uint32_t[]", int(count[0]))
    _check(lib.ps_rapl_packages(_path(sysfs), numbers, int(count[0]), count, error), error)
    return list(numbers)


def open_rapl(package: int, sysfs: str | os.PathLike[str] | None = None) -> Opened:
    """Open all domains of one package by the first route that works; a refusal is an answer, not an exception."""
    out, opening = ffi.new("ps_source **"), ffi.new("ps_rapl_opening *")
    status = lib.ps_rapl_open(_path(sysfs), package, out, opening, ffi.NULL)
    refused = tuple(
        Refusal(route, f"{_text(error.call)}: {_text(error.text)}", int(error.vendor) or None)
        for route, error in ((name, opening.refused[number]) for number, name in ROUTES.items())
        if error.status != lib.PS_OK
    )
    if status != lib.PS_OK:
        return Opened(None, None, None, False, refused)
    cpu = int(opening.cpu)
    return Opened(Source(out[0]), ROUTES[opening.route], cpu if cpu >= 0 else None, bool(opening.moved), refused)
