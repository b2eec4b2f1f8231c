# SPDX-License-Identifier: Apache-2.0
"""CPU packages that a plan can read, and for those that it cannot: why, and what to do about it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from powersample import errors
from powersample._native.api_rapl import Refusal, open_rapl, rapl_packages

DENIED = (errno.EACCES, errno.EPERM)
POWERCAP_FIX = (
    "powercap is for root since CVE-2020-8694: give it to a group with a udev rule, "
    'ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", '
    "RUN+=\"/bin/sh -c 'chgrp GROUP /sys%p/energy_uj; chmod g+r /sys%p/energy_uj'\""
)
PERF_FIX = "perf needs `sysctl kernel.perf_event_paranoid=0` or CAP_PERFMON"
STILL = "hypervisors offer counters and leave them at 0"
NONE_HERE = "virtual machines and containers mostly have none"


@dataclass(frozen=True, slots=True)
class Package:
    """A CPU package to record.

    Attributes:
        number: The kernel's physical package number.
        route: "perf" or "powercap".
        channels: Names of its channels.
        moved: Whether any of them moved while they were looked at.
        refused: Routes that were tried before, each with its reason.
    """

    number: int
    route: str
    channels: tuple[str, ...]
    moved: bool
    refused: tuple[str, ...]


def find_packages(sysfs: str | None) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """Return the packages that can be read, and a reason for everything that cannot or tells nothing."""
    try:
        numbers = rapl_packages(sysfs)
    except errors.DeviceNotFound as error:
        return (), (f"{str(error).removesuffix(error.remedy).rstrip('. ')}; {NONE_HERE}",)
    packages: list[Package] = []
    reasons: list[str] = []
    for number in numbers:
        opened = open_rapl(number, sysfs)
        if opened.source is None or opened.route is None:
            reasons.append(_reason(number, opened.refused))
            continue
        with opened.source as source:
            names = tuple(channel["name"] for channel in source.channels())
        if not opened.moved:
            reasons.append(f"package-{number}: {', '.join(names)} by {opened.route} stood still for 50 ms ({STILL})")
        packages.append(Package(number, opened.route, names, opened.moved, tuple(map(_told, opened.refused))))
    return tuple(packages), tuple(reasons)


def _told(refusal: Refusal) -> str:
    code = "" if refusal.errno is None else f" [errno {refusal.errno}]"
    return f"{refusal.route}: {refusal.text}{code}"


def _reason(number: int, refused: tuple[Refusal, ...]) -> str:
    denied = {one.route for one in refused if one.errno in DENIED}
    fixes = [fix for route, fix in (("perf", PERF_FIX), ("powercap", POWERCAP_FIX)) if route in denied]
    return f"package-{number}: {'; '.join([*map(_told, refused), *fixes])}"
