# SPDX-License-Identifier: Apache-2.0
"""RAPL's C functions as Python: which packages there are, and a package's source with the routes that it took."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from powersample._native.api import Source, _check, _path, _text
from powersample._native.door import ffi, lib

ROUTES = {lib.PS_RAPL_PERF: "perf", lib.PS_RAPL_POWERCAP: "powercap", lib.PS_RAPL_MSR: "msr"}
DOMAINS = {
    lib.PS_RAPL_PACKAGE: "package",
    lib.PS_RAPL_CORE: "core",
    lib.PS_RAPL_UNCORE: "uncore",
    lib.PS_RAPL_DRAM: "dram",
    lib.PS_RAPL_PSYS: "psys",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a route does not read some domains.

    Attributes:
        route: "perf", "powercap" or "msr".
        domains: Those that this is the reason for.
        text: What failed, on what.
        errno: The code behind it, or None.
        absent: Whether there is nothing of the kind, as opposed to something that cannot be read.
    """

    route: str
    domains: tuple[str, ...]
    text: str
    errno: int | None
    absent: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of opening a package.

    Attributes:
        source: To be given to a sampler or closed; None when every route was refused.
        routes: The route of every domain that is read.
        cpu: The CPU from which reading is cheapest, or None.
        still: Names of the channels that did not move within 50 ms, as real counters do.
        moved: Whether any did.
        min_hz: Read less often, a counter could turn round twice unseen; 0.0 when none turns.
        refused: For every domain, the routes that were asked and do not read it.
    """

    source: Source | None
    routes: Mapping[str, str]
    cpu: int | None
    still: tuple[str, ...]
    moved: bool
    min_hz: float
    refused: tuple[Refusal, ...]

    @property
    def route(self) -> str | None:
        """The routes taken: "perf", or "perf+msr" where domains differ; None when every route was refused."""
        return "+".join(dict.fromkeys(self.routes.values())) or None


def rapl_packages(
    sysfs: str | os.PathLike[str] | None = None, devfs: str | os.PathLike[str] | None = None
) -> list[int]:
    """Return the numbers of the packages with an energy counter.

    Args:
        sysfs: Where to look; None is /sys.
        devfs: Where cpu/N/msr is; None is /dev, or nowhere beside another sysfs.

    Raises:
        DeviceNotFound: The kernel offers none.
    """
    count, error = ffi.new("uint32_t *"), ffi.new("ps_error *")
    _check(lib.ps_rapl_packages(_path(sysfs), _path(devfs), ffi.NULL, 0, count, error), error)
    numbers = ffi.new("uint32_t[]", int(count[0]))
    _check(lib.ps_rapl_packages(_path(sysfs), _path(devfs), numbers, int(count[0]), count, error), error)
    return list(numbers)


def open_rapl(
    package: int, sysfs: str | os.PathLike[str] | None = None, devfs: str | os.PathLike[str] | None = None
) -> Opened:
    """Open one package, each domain by the first route that reads it; a refusal is an answer, not an exception."""
    out, opening = ffi.new("ps_source **"), ffi.new("ps_rapl_opening *")
    status = lib.ps_rapl_open(_path(sysfs), _path(devfs), package, out, opening, ffi.NULL)
    refused = _refusals(opening)
    if status != lib.PS_OK:
        return Opened(None, {}, None, (), False, 0.0, refused)
    source = Source(out[0])
    names = [channel["name"] for channel in source.channels()]
    moved = int(opening.moved)
    return Opened(
        source=source,
        routes={name: ROUTES[opening.route[number]] for number, name in DOMAINS.items() if opening.route[number] >= 0},
        cpu=int(opening.cpu) if opening.cpu >= 0 else None,
        still=tuple(name for i, name in enumerate(names) if not moved >> i & 1),
        moved=moved != 0,
        min_hz=float(opening.min_hz),
        refused=refused,
    )


def _refusals(opening: Any) -> tuple[Refusal, ...]:
    """Return the reasons by route, those that several domains share but once."""
    found: dict[tuple[str, str], Refusal] = {}
    for route, route_name in ROUTES.items():
        for domain, domain_name in DOMAINS.items():
            error = opening.refused[domain][route]
            if error.status == lib.PS_OK:
                continue
            text = f"{_text(error.call)}: {_text(error.text)}"
            before = found.get((route_name, text))
            domains = (*before.domains, domain_name) if before else (domain_name,)
            absent = error.status == lib.PS_E_NOT_FOUND
            found[route_name, text] = Refusal(route_name, domains, text, int(error.vendor) or None, absent)
    return tuple(found.values())
