# SPDX-License-Identifier: Apache-2.0
"""CPU packages that a plan can read, and for those that it cannot: why, and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from powersample import errors
from powersample._native.api_rapl import Opened, Refusal, open_rapl, rapl_packages

DENIED = (errno.EACCES, errno.EPERM)
FIXES = {
    "perf": "perf needs `sysctl kernel.perf_event_paranoid=0` or CAP_PERFMON",
    "powercap": "powercap is for root since CVE-2020-8694: give it to a group with a udev rule, "
    'ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", '
    "RUN+=\"/bin/sh -c 'chgrp GROUP /sys%p/energy_uj; chmod g+r /sys%p/energy_uj'\"",
    "msr": "/dev/cpu/N/msr is for root: it needs CAP_SYS_RAWIO and a readable node",
}
STILL = "hypervisors offer counters and leave them at 0"
NONE_HERE = "virtual machines and containers mostly have none"


@dataclass(frozen=True, slots=True)
class Package:
    """A CPU package to record.

    Attributes:
        number: The kernel's physical package number.
        route: "perf", "powercap" or "msr"; joined by "+" where its domains take different ones.
        routes: (domain, route) of every domain that is read.
        channels: Names of its channels.
        moved: Whether any of them moved while they were looked at.
        still: Those that did not.
        min_hz: Read less often, a counter could turn round twice unseen; 0.0 when none turns.
        refused: For every domain, the routes that do not read it, each with its reason.
    """

    number: int
    route: str
    routes: tuple[tuple[str, str], ...]
    channels: tuple[str, ...]
    moved: bool
    still: tuple[str, ...]
    min_hz: float
    refused: tuple[str, ...]


def find_packages(sysfs: str | None, devfs: str | None = None) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """Return the packages that can be read, and a reason for everything that cannot or tells nothing."""
    try:
        numbers = rapl_packages(sysfs, devfs)
    except errors.DeviceNotFound as error:
        return (), (f"{str(error).removesuffix(error.remedy).rstrip('. ')}; {NONE_HERE}",)
    packages: list[Package] = []
    reasons: list[str] = []
    for number in numbers:
        opened = open_rapl(number, sysfs, devfs)
        if opened.source is None or opened.route is None:
            reasons.append(_reason(number, opened.refused))
            continue
        with opened.source as source:
            names = tuple(channel["name"] for channel in source.channels())
        reasons += _shortcomings(number, opened)
        told = tuple(f"{one.route}: {', '.join(one.domains)}: {_told(one)}" for one in opened.refused)
        packages.append(
            Package(
                number,
                opened.route,
                tuple(opened.routes.items()),
                names,
                opened.moved,
                opened.still,
                opened.min_hz,
                told,
            )
        )
    return tuple(packages), tuple(reasons)


def check_rate(packages: tuple[Package, ...], rate_hz: float | None) -> None:
    """Raise where an asked rate would let a counter turn round twice between two reads.

    Raises:
        InvalidArgument: says the lowest rate that does.
    """
    for one in packages:
        if rate_hz is not None and rate_hz < one.min_hz:
            raise errors.InvalidArgument(
                f"at {rate_hz:g} Hz a counter of package-{one.number} could turn round twice between two reads; "
                f"give at least {one.min_hz * 1.005:.3g} Hz"  # three digits that are not below it
            )


def _shortcomings(number: int, opened: Opened) -> Iterator[str]:
    """Yield what a package that is read does not tell."""
    if opened.still:
        yield f"package-{number}: {', '.join(opened.still)} by {opened.route} stood still for 50 ms ({STILL})"
    for one in opened.refused:
        # Of registers beyond what the kernel's own drivers show nobody knows whether they are missed.
        lacking = [domain for domain in one.domains if domain not in opened.routes]
        if lacking and not one.absent and (one.route != "msr" or "package" in lacking):
            yield f"package-{number}: {', '.join(lacking)} left out: {one.route}: {_told(one)}"


def _told(refusal: Refusal) -> str:
    code = "" if refusal.errno is None else f" [errno {refusal.errno}]"
    return f"{refusal.text}{code}"


def _reason(number: int, refused: tuple[Refusal, ...]) -> str:
    mine = [one for one in refused if "package" in one.domains] or list(refused)
    denied = {one.route for one in refused if one.errno in DENIED}
    fixes = [fix for route, fix in FIXES.items() if route in denied]
    return f"package-{number}: {'; '.join([*(f'{one.route}: {_told(one)}' for one in mine), *fixes])}"
