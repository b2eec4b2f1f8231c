# SPDX-License-Identifier: Apache-2.0
"""The processors' energy counters: which route reads each package, and what bars the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from powersample import errors
from powersample.doctor.box import container, powercap_mask, virtual
from powersample.doctor.check import FAIL, OK, SIMULATED, SKIP, WARN, Check, Tried, errno_name
from powersample.doctor.machine import CAP_PERFMON, CAP_SYS_ADMIN, Machine, owner_and_mode

if TYPE_CHECKING:
    from powersample._native.api_rapl import Opened
    from powersample.capture.privileged import Help
    from powersample.capture.rapl import Look

SECTION = "CPU"
DENIED = (errno.EACCES, errno.EPERM)
UDEV_FIX = (
    "powersample doctor --print-udev | sudo tee /etc/udev/rules.d/70-powersample.rules"
    ' && sudo groupadd -f -r powersample && sudo usermod -aG powersample "$USER"'
    " && sudo udevadm control --reload && sudo udevadm trigger --action=add --subsystem-match=powercap"
    "  # then log in again"
)
NO_COUNTERS = "use a meter, or the figures of whoever runs the host"


@dataclass(frozen=True, slots=True)
class Zone:
    """A powercap zone: its name, its energy file, and the errno of reading that or None."""

    name: str
    path: Path
    errno: int | None


@dataclass(frozen=True, slots=True)
class Routes:
    """What the routes to the counters are like.

    Attributes:
        zones: Of powercap.
        pmu: Folder of the perf PMU "power", or None.
        events: Its energy events.
        paranoid: kernel.perf_event_paranoid, or None.
    """

    zones: tuple[Zone, ...]
    pmu: Path | None
    events: tuple[str, ...]
    paranoid: int | None


def look_at_routes(machine: Machine) -> Routes:
    """Look at the routes, opening nothing but the files of powercap."""
    folder = machine.sysfs / "class/powercap"
    zones = []
    for entry in machine.names(folder):
        name = machine.text(folder / entry / "name") if entry.startswith("intel-rapl:") else ""
        if name:
            path = folder / entry / "energy_uj"
            zones.append(Zone(name, path, machine.read(path)[1].errno))
    pmu = machine.sysfs / "bus/event_source/devices/power"
    events = tuple(n for n in machine.names(pmu / "events") if n.startswith("energy-") and "." not in n)
    paranoid = machine.text(machine.proc / "sys/kernel/perf_event_paranoid")
    return Routes(
        tuple(zones), pmu if pmu.exists() else None, events, int(paranoid) if paranoid.lstrip("-").isdigit() else None
    )


def check_cpus(machine: Machine) -> Iterator[Check]:
    """Yield each package, then each route."""
    if machine.simulated is None and (machine.sysfs / "powersample-simulated").exists():
        yield Check(SIMULATED, OK, f"{machine.sysfs} is a simulated node's")
    routes = look_at_routes(machine)
    packages = list(_packages(machine, routes))
    yield from packages
    served = any(check.gives for check in packages)
    yield _perf(machine, routes, served)
    yield _msr(machine, served)


# ---- packages --------------------------------------------------------------------------------------------------


def _packages(machine: Machine, routes: Routes) -> Iterator[Check]:
    from powersample.capture.rapl import denials

    try:
        looks, help_ = _looks(machine)
    except errors.DeviceNotFound:
        yield _none(machine)
        return
    if help_.reason is not None:
        yield Check("PS-RAPL-10", WARN, f"the sampler executable is of no help: {help_.reason}")
    for look in looks:
        if look.opened.route is None:
            yield _refused(machine, routes, look)
            continue
        yield from _read(machine, look)
        if denials(look.opened):
            yield _parts_refused(machine, routes, look)


def _looks(machine: Machine) -> tuple[tuple[Look, ...], Help]:
    from powersample.capture.rapl import look_at_packages

    if machine.ask_sampler is None:
        return look_at_packages(*machine.counter_roots)
    return look_at_packages(*machine.counter_roots, ask=machine.ask_sampler)


def _read(machine: Machine, look: Look) -> Iterator[Check]:
    """Yield what a package gives, and which of its counters stand still."""
    place = f"package-{look.number}"
    gives = tuple(name for name in look.channels if name not in look.opened.still)
    if gives:
        code, how = ("PS-RAPL-05", ", by the sampler's file capabilities") if look.helped else ("PS-RAPL-00", "")
        what = f"{place} by {look.opened.route}{how}: {_domains(gives, place)}"
        yield Check(code, OK, what, gives=gives)
    if look.opened.still:
        why = "hypervisors offer counters and leave them at 0" if virtual(machine) else "real ones seldom do"
        told = _domains(look.opened.still, place)
        # A machine's maker may leave the platform's counter at rest; one that measures nothing at all is another thing.
        level = SKIP if gives else WARN
        yield Check("PS-RAPL-04", level, f"{place}: {told} by {look.opened.route} stood still for 50 ms ({why})")


def _refused(machine: Machine, routes: Routes, look: Look) -> Check:
    place = f"package-{look.number}"
    zones = [zone for zone in routes.zones if zone.errno and (zone.name == place or zone.name.startswith(f"{place}-"))]
    refused = [one for one in look.mine.refused if not one.absent] or look.mine.refused
    told = [f"{one.route}: {errno_name(one.errno) if one.errno else one.text}" for one in refused]
    told += [mode for zone in zones if (mode := owner_and_mode(zone.path))]
    fix, other = _ways(machine, routes, look.mine)
    return Check("PS-RAPL-01", FAIL, f"{place} cannot be read. {', '.join(told)}", _tried(zones, look), fix, other)


def _parts_refused(machine: Machine, routes: Routes, look: Look) -> Check:
    from powersample.capture.rapl import denials, lacking

    place = f"package-{look.number}"
    missed = dict.fromkeys(domain for one in denials(look.opened) for domain in lacking(look.opened, one))
    zones = [zone for zone in routes.zones if zone.name in missed and zone.errno]
    fix, other = _ways(machine, routes, look.opened)
    what = f"{place} is read and {', '.join(missed)} of it refused"
    return Check("PS-RAPL-09", WARN, what, _tried(zones, look), fix, other)


def _tried(zones: Iterable[Zone], look: Look) -> tuple[Tried, ...]:
    files = [Tried(str(zone.path), zone.errno) for zone in zones]
    calls = [Tried("perf_event_open", one.errno) for one in look.mine.refused if one.route == "perf" and one.errno]
    return (*files, *calls)


def _domains(names: Iterable[str], place: str) -> str:
    """Return "package, dram" for a package's channels."""
    short = (name.removesuffix(".energy").removeprefix(f"{place}.") for name in names)
    return ", ".join("package" if name == place else name for name in short)


def setcap(machine: Machine, routes: Collection[str]) -> str | None:
    """Return the command that lets the executable take `routes`; None where it would not help, or is not needed."""
    from powersample.capture import recipe

    if machine.sysfs_root is not None:  # with a root of the user's own it drops them, see csrc/sampler/privilege.h
        return None
    old = not machine.kernel_at_least(5, 8)  # before there was CAP_PERFMON
    wanted = [route for route in routes if not (old and route == "perf")]
    if not wanted:
        return None
    try:
        first, then = recipe(wanted, machine.sampler())
    except errors.NotSupported:
        return None
    command = first if then.startswith("powersample") else f"{first} && {then}"
    return f"{command}  # again after each installation"


def _ways(machine: Machine, routes: Routes, opened: Opened) -> tuple[str | None, str | None]:
    """Return the command to paste and the other one: a group may read one kind of file, or one program may more."""
    from powersample.capture.rapl import ways_in

    wanted = ways_in(opened)
    if not wanted:
        return None, None
    if container(machine) is not None:  # where neither udev nor setcap reach
        return "docker run --cap-add PERFMON ..." if "perf" in wanted else "docker run --user root ...", None
    program = setcap(machine, wanted)
    if any(zone.errno in DENIED for zone in routes.zones):
        return UDEV_FIX, program
    if "perf" in wanted:
        sysctl = "sudo sysctl kernel.perf_event_paranoid=0"
        return (program, sysctl) if program else (sysctl, None)
    return program, None


def _none(machine: Machine) -> Check:
    """Say why the kernel shows no counter at all."""
    tried = tuple(
        Tried(str(machine.sysfs / path), errno.ENOENT)
        for path in ("class/powercap/intel-rapl:0", "bus/event_source/devices/power")
        if not (machine.sysfs / path).exists()
    )
    vendor, vm = machine.cpu("vendor_id"), virtual(machine)
    if machine.simulated is not None:
        return Check("PS-RAPL-06", SKIP, "this simulated node has no CPU counters", tried)
    if powercap_mask(machine) is not None:
        return Check("PS-RAPL-07", WARN, "the container engine hides the CPU's counters (see PS-BOX-02)", tried)
    if vm is not None:
        what = f"no CPU energy counters: virtual machines mostly have none ({vm[0]}); {NO_COUNTERS}"
        return Check("PS-RAPL-02", WARN, what, tried)
    if vendor not in ("GenuineIntel", "AuthenticAMD", "HygonGenuine"):
        what = f"this processor ({vendor or os.uname().machine}) has no RAPL; its sensors, if any, are hwmon's"
        return Check("PS-RAPL-06", SKIP, what, tried)
    return _no_module(machine, tried)


def _no_module(machine: Machine, tried: tuple[Tried, ...]) -> Check:
    state = machine.module("intel_rapl_msr")
    if state == "available":
        what = "the processor's counters need a module that is not loaded: intel_rapl_msr"
        return Check("PS-RAPL-03", WARN, what, tried, "sudo modprobe intel_rapl_msr")
    if state == "absent":
        extra = f"sudo apt install linux-modules-extra-{machine.release}"
        fix = extra if machine.os_release().get("ID") == "ubuntu" else None
        what = "this kernel came without the module intel_rapl_msr: install its extra modules"
        return Check("PS-RAPL-03", WARN, what, tried, fix)
    what = f"the kernel shows no energy counters of this processor (module intel_rapl_msr: {state})"
    return Check("PS-RAPL-08", WARN, what, tried)


# ---- routes ----------------------------------------------------------------------------------------------------


def _perf(machine: Machine, routes: Routes, served: bool) -> Check:
    setting = f"kernel.perf_event_paranoid = {routes.paranoid}"
    pmu = machine.sysfs / "bus/event_source/devices/power"
    if routes.pmu is None:
        loadable = machine.module("rapl") == "available" and virtual(machine) is None
        return Check(
            "PS-PERF-03",
            SKIP,
            "perf has no PMU named power" + (": its module is not loaded" if loadable else ""),
            (Tried(str(pmu), errno.ENOENT),),
            "sudo modprobe rapl" if loadable else None,
        )
    if not routes.events:
        what = "perf has a PMU named power without energy events (`unknown term 'energy-pkg'`)"
        return Check("PS-PERF-02", SKIP, what, (Tried(str(pmu / "events")),))
    tried = (Tried(str(machine.proc / "sys/kernel/perf_event_paranoid")),)
    told = f"perf has {', '.join(routes.events)}"
    able = machine.has_capability(CAP_PERFMON) or machine.has_capability(CAP_SYS_ADMIN)
    if able or (routes.paranoid is not None and routes.paranoid <= 0):
        return Check("PS-PERF-00", OK, f"{told}; {setting}{', and this user has CAP_PERFMON' if able else ''}", tried)
    what = f"{told}; {setting}, and whole CPUs may be counted only at 0 or -1, or with CAP_PERFMON"
    if served:
        return Check("PS-PERF-01", SKIP, what, tried)
    sysctl, program = "sudo sysctl kernel.perf_event_paranoid=0", setcap(machine, ["perf"])
    return Check("PS-PERF-01", WARN, what, tried, program or sysctl, sysctl if program else None)


def _msr(machine: Machine, served: bool) -> Check:
    if "flags" not in machine.text(machine.proc / "cpuinfo"):
        return Check("PS-MSR-04", SKIP, "this processor has no model-specific registers")
    security = machine.sys / "kernel/security/lockdown"
    locked = machine.text(security)
    if "[integrity]" in locked or "[confidentiality]" in locked:
        what = f"kernel lockdown ({locked}) closes the MSRs: perf and powercap are the ways left"
        return Check("PS-MSR-03", SKIP, what, (Tried(str(security), errno.EPERM),))
    if machine.devfs is None:
        return Check("PS-MSR-05", SKIP, f"MSRs are looked for nowhere beside {machine.sysfs}; --devfs says where")
    node = machine.devfs / "cpu/0/msr"
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        tried = (Tried(str(node), error.errno),)
        if error.errno == errno.ENOENT:
            fix = "sudo modprobe msr" if machine.module("msr") == "available" and not served else None
            return Check(
                "PS-MSR-01", SKIP, "no /dev/cpu/*/msr: the last of the three routes, seldom needed", tried, fix
            )
        what = "the MSRs are for root with CAP_SYS_RAWIO: the last of the three routes, seldom needed"
        return Check("PS-MSR-02", SKIP, what, tried)
    return Check("PS-MSR-00", OK, "the MSRs can be read", (Tried(str(node)),))
