# SPDX-License-Identifier: Apache-2.0
"""CPU packages that a plan can read, and for those that it cannot: why, and what to do about it."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from powersample import errors
from powersample._native.api_rapl import Opened, Refusal, open_rapl, rapl_packages
from powersample.capture.privileged import NEEDS, Help, ask_sampler, recipe

DENIED = (errno.EACCES, errno.EPERM)
FIXES = {
    "perf": "perf needs `sysctl kernel.perf_event_paranoid=0` or CAP_PERFMON",
    "powercap": "powercap is for root since CVE-2020-8694: give it to a group by the udev rule of "
    "`powersample doctor --print-udev`",
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
        privileged: Whether it is read by the sampler executable, with a capability that this process lacks.
    """

    number: int
    route: str
    routes: tuple[tuple[str, str], ...]
    channels: tuple[str, ...]
    moved: bool
    still: tuple[str, ...]
    min_hz: float
    refused: tuple[str, ...]
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class Privilege:
    """What a device takes beyond what every user may.

    Attributes:
        device: "package-0".
        route: "perf", "powercap" or "msr".
        capability: The one that opens it, such as "cap_perfmon".
        granted_by: The executable that had it, and so reads the device; None where this process was refused.
        errno: What this process was refused with; None where it was granted.
        text: What failed, on what; empty where it was granted.
    """

    device: str
    route: str
    capability: str
    granted_by: str | None = None
    errno: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class FoundPackages:
    """The packages that can be read, a reason for everything that cannot or tells nothing, and what it took."""

    packages: tuple[Package, ...] = ()
    reasons: tuple[str, ...] = ()
    privileges: tuple[Privilege, ...] = ()


def find_packages(sysfs: str | None, devfs: str | None = None) -> FoundPackages:
    """Return the CPU packages; where this process is refused, those that the sampler executable may read."""
    try:
        looks, help_ = look_at_packages(sysfs, devfs)
    except errors.DeviceNotFound as error:
        return FoundPackages(reasons=(f"{str(error).removesuffix(error.remedy).rstrip('. ')}; {NONE_HERE}",))
    packages: list[Package] = []
    reasons = [] if help_.reason is None else [help_.reason]
    privileges: list[Privilege] = []
    for look in looks:
        privileges += _privileges(look, help_)
        if look.opened.route is None:
            reasons.append(_reason(look.number, look.opened))
            continue
        reasons += _shortcomings(look.number, look.opened)
        packages.append(_package(look))
    return FoundPackages(tuple(packages), tuple(reasons), tuple(privileges))


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a package showed.

    Attributes:
        number: The kernel's physical package number.
        mine: As this process opened it.
        opened: As it would be recorded: by the executable where `helped`, else `mine`.
        channels: Names of the channels that a recording would have of it.
        helped: Whether the executable reads it, by a capability that this process lacks.
    """

    number: int
    mine: Opened
    opened: Opened
    channels: tuple[str, ...]
    helped: bool


def look_at_packages(
    sysfs: str | None, devfs: str | None = None, ask: Callable[..., Help] = ask_sampler
) -> tuple[tuple[Look, ...], Help]:
    """Open every package for a moment, and ask the executable where this process is refused.

    Args:
        sysfs: None is /sys.
        devfs: None is /dev, or nowhere beside another sysfs.
        ask: Stands for the executable. It is not asked about other roots, with which it has no capability (see
            csrc/sampler/privilege.h).

    Raises:
        DeviceNotFound: The kernel offers no package.
    """
    tried = {number: _open(number, sysfs, devfs) for number in rapl_packages(sysfs, devfs)}
    help_ = Help()
    if ask is not ask_sampler or (sysfs is None and devfs is None):
        denied = {one.route for opened, _ in tried.values() for one in denials(opened)}
        help_ = ask(denied, needed=[number for number, (_, names) in tried.items() if names])
    looks = []
    for number, (mine, names) in tried.items():
        helped = help_.packages.get(number)
        opened, channels = (mine, names) if helped is None else (helped.opened, helped.channels)
        looks.append(Look(number, mine, opened, channels, helped is not None))
    return tuple(looks), help_


def _privileges(look: Look, help_: Help) -> Iterator[Privilege]:
    device = f"package-{look.number}"
    for one in look.mine.refused:
        if one.errno in DENIED:
            yield Privilege(device, one.route, NEEDS[one.route], None, one.errno, one.text)
    for route in dict.fromkeys(look.opened.routes.values()) if look.helped else ():
        if NEEDS[route] in help_.capabilities:
            yield Privilege(device, route, NEEDS[route], str(help_.sampler))


def _open(number: int, sysfs: str | None, devfs: str | None) -> tuple[Opened, tuple[str, ...]]:
    """Open a package for a moment; return what came of it, and the names of its channels."""
    opened = open_rapl(number, sysfs, devfs)
    if opened.source is None:
        return opened, ()
    with opened.source as source:
        return opened, tuple(channel["name"] for channel in source.channels())


def _package(look: Look) -> Package:
    opened = look.opened
    return Package(
        look.number,
        opened.route or "",
        tuple(opened.routes.items()),
        look.channels,
        opened.moved,
        opened.still,
        opened.min_hz,
        tuple(f"{one.route}: {', '.join(one.domains)}: {_told(one)}" for one in opened.refused),
        look.helped,
    )


def lacking(opened: Opened, refusal: Refusal) -> list[str]:
    """Return the domains that are missed by a refusal: read by no other route, and known to be there."""
    missed = [domain for domain in refusal.domains if domain not in opened.routes]
    # Of registers beyond what the kernel's own drivers show nobody knows whether they are missed.
    return missed if not refusal.absent and (refusal.route != "msr" or "package" in missed) else []


def denials(opened: Opened) -> list[Refusal]:
    """Return the refusals for want of permission that cost a domain."""
    return [one for one in opened.refused if one.errno in DENIED and lacking(opened, one)]


def ways_in(opened: Opened) -> frozenset[str]:
    """Return the routes which, were they not denied, would read what is missed: the first one of each domain."""
    first = {domain: one.route for one in reversed(denials(opened)) for domain in lacking(opened, one)}
    return frozenset(first.values())


def check_rate(packages: tuple[Package, ...], rate_hz: float | None) -> None:
    """Raise where an asked rate would let a counter turn round twice between two reads.

    Raises:
        InvalidArgument: says the lowest rate that does.
    """
    for one in packages:
        if rate_hz is not None and rate_hz < one.min_hz:
            raise errors.InvalidArgument(
                f"at {rate_hz:g} Hz a counter of package-{one.number} could turn round twice between two reads; "
                f"give at least {math.ceil(one.min_hz)} Hz"  # as --rate takes it
            )


def _shortcomings(number: int, opened: Opened) -> Iterator[str]:
    """Yield what a package that is read does not tell."""
    if opened.still:
        yield f"package-{number}: {', '.join(opened.still)} by {opened.route} stood still for 50 ms ({STILL})"
    for one in opened.refused:
        if missed := lacking(opened, one):
            yield f"package-{number}: {', '.join(missed)} left out: {one.route}: {_told(one)}"


def _told(refusal: Refusal) -> str:
    code = "" if refusal.errno is None else f" [errno {refusal.errno}]"
    return f"{refusal.text}{code}"


def _reason(number: int, opened: Opened) -> str:
    mine = [one for one in opened.refused if "package" in one.domains] or list(opened.refused)
    denied = {one.route for one in opened.refused if one.errno in DENIED}
    fixes = [fix for route, fix in FIXES.items() if route in denied]
    text = f"package-{number}: {'; '.join([*(f'{one.route}: {_told(one)}' for one in mine), *fixes])}"
    wanted = ways_in(opened)
    try:
        return "\n      ".join([f"{text}; or for the sampler alone:", *recipe(wanted)]) if wanted else text
    except errors.NotSupported:
        return text
