# SPDX-License-Identifier: Apache-2.0
"""What to record, and what there is to be recorded on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path

from powersample import errors
from powersample._native.api import LaneOptions
from powersample._native.api_nvml import Nvml, NvmlDevice
from powersample.capture.hwmon import Chip, find_chips
from powersample.capture.privileged import fifo_sampler
from powersample.capture.rapl import Package, Privilege, check_rate, find_packages

FIFO_ROUTE = "fifo"  # a privilege that is no device's: all lanes run where it was granted
KNOWN_SOURCES = ("nvml", "rapl", "hwmon")
MODES = ("paced", "tight", "follow")
RATELESS = ("tight", "follow")  # go by something else than a grid
KEEPS = ("all", "changes")
SIMULATED = "powersample-simulated"  # a file of this name at the root of a sysfs that is no machine's
DEVICE_ERRORS = (
    errors.DeviceNotFound,
    errors.DeviceError,
    errors.AccessDenied,
    errors.NotSupported,
    errors.Timeout,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The options that `measure`, `record` and `powersample-sampler` share.

    Attributes:
        sources: Ways to read devices, of `KNOWN_SOURCES`.
        nvml_library: Path or name of the library; None takes the driver's.
        sysfs: Where RAPL and hwmon are looked for; None is /sys.
        devfs: Where cpu/N/msr is; None is /dev, or nowhere beside another sysfs.
        gpus: NVML indices or (the start of) UUIDs; None takes what CUDA_VISIBLE_DEVICES shows, else all.
        rate_hz: Passes a second of every lane; None lets the cost of the calls decide.
        mode: "paced", "tight" or "follow".
        cpu: Pin the lanes to this CPU, or None.
        fifo: Real-time priority of the lanes, or None for the ordinary class.
        keep: "all", or "changes": of readings that repeat themselves the first and the last.
        notes: What a reader should know of where these values come from; the inventory begins with them.
    """

    sources: tuple[str, ...] = KNOWN_SOURCES
    nvml_library: str | None = None
    sysfs: str | None = None
    devfs: str | None = None
    gpus: tuple[str, ...] | None = None
    rate_hz: float | None = None
    mode: str = "paced"
    cpu: int | None = None
    fifo: int | None = None
    keep: str = "all"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.sources if name not in KNOWN_SOURCES]
        if unknown or not self.sources:
            raise errors.InvalidArgument(
                f"source {', '.join(unknown) or '(none)'} is unknown; use {', '.join(KNOWN_SOURCES)}",
                errors.did_you_mean(unknown[0], KNOWN_SOURCES) if unknown else "",
            )
        if self.mode not in MODES:
            raise errors.InvalidArgument(f"mode {self.mode!r} is unknown; use one of {', '.join(MODES)}")
        if self.keep not in KEEPS:
            raise errors.InvalidArgument(f"keep {self.keep!r} is unknown; use {' or '.join(KEEPS)}")
        for name, value, kind in (
            ("rate", self.rate_hz, Real),
            ("cpu", self.cpu, Integral),
            ("fifo", self.fifo, Integral),
        ):
            if value is not None and not isinstance(value, kind):
                raise errors.InvalidArgument(f"{name} {value!r} is no number; leave it out for the default")
        self.lane_options().to_c()  # says what is wrong with rate and priority

    def lane_options(self) -> LaneOptions:
        """Return what every lane of this plan runs with."""
        return LaneOptions(mode=self.mode, rate_hz=self.rate_hz, cpu=self.cpu, fifo=self.fifo)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a plan found.

    Attributes:
        devices: The GPUs to record, by NVML index.
        packages: The CPU packages to record.
        chips: The chips of hardware monitoring, and batteries, to record.
        driver: NVIDIA driver's version as text, or None without one.
        nvml: Library version as text, or None.
        simulated: True when the library is the project's stand-in, or the sysfs a simulated node's.
        privileges: What was refused to this process and what the sampler executable was granted, by device and route.
        notes: How the selection came about and what is missing, where a reader should know.
    """

    devices: tuple[NvmlDevice, ...] = ()
    packages: tuple[Package, ...] = ()
    chips: tuple[Chip, ...] = ()
    driver: str | None = None
    nvml: str | None = None
    simulated: bool = False
    privileges: tuple[Privilege, ...] = ()
    notes: tuple[str, ...] = ()


def discover(plan: Plan, environment: Mapping[str, str] | None = None, *, others: bool = False) -> Inventory:
    """Return the devices that `plan` means, without recording anything.

    A source that has nothing is a note as long as another has something. Beside a simulated GPU this
    machine's own CPUs and chips are left out: only a `sysfs` that was named, or that is simulated itself, is read.

    Args:
        plan: What was asked for.
        environment: Where CUDA_VISIBLE_DEVICES is looked up; `os.environ` unless told.
        others: Something else is recorded, such as an external meter: that nothing is found is a note, too.

    Raises:
        InvalidArgument: The rate is too low for a counter of a package.
        NothingMeasurable: No source has a device, or the GPUs that were asked for by library or number have none; says
            what was tried.
        DeviceNotFound: A GPU was named that is not there.
    """
    found = Inventory()
    missing: list[str] = []
    if "nvml" in plan.sources:
        try:
            found = _discover_gpus(plan, os.environ if environment is None else environment)
        except errors.NothingMeasurable as error:
            missing.append(f"nvml: {error}")
    gpus_lack = bool(missing) and (plan.nvml_library is not None or plan.gpus is not None)
    own = plan.sysfs is not None or not found.simulated or _is_simulated(None)
    if "rapl" in plan.sources and own:
        cpus = find_packages(plan.sysfs, plan.devfs)
        check_rate(cpus.packages, plan.rate_hz)
        found = replace(
            found,
            packages=cpus.packages,
            privileges=cpus.privileges,
            simulated=found.simulated or _is_simulated(plan.sysfs),
        )
        missing += [f"rapl: {reason}" for reason in cpus.reasons]
    if "hwmon" in plan.sources and own:
        chips, reasons = find_chips(plan.sysfs)
        found = replace(found, chips=chips, simulated=found.simulated or _is_simulated(plan.sysfs))
        missing += [f"hwmon: {reason}" for reason in reasons]
    found = replace(found, privileges=(*found.privileges, *_fifo_privileges(plan)))
    moved, answering = any(one.moved for one in found.packages), any(one.answering for one in found.chips)
    if gpus_lack or not (found.devices or moved or answering or others):
        what = "the GPUs that were asked for cannot be measured" if gpus_lack else "nothing here can be measured"
        raise errors.NothingMeasurable(
            "\n  ".join([f"{what}.", *missing]) + "\n"
            "`powersample doctor` looks closer, and says what to do.\n"
            'To try everything without hardware, add --simulate h100 (in Python: measure(simulate="h100")).'
        )
    return replace(found, notes=(*plan.notes, *found.notes, *missing))


def _fifo_privileges(plan: Plan) -> tuple[Privilege, ...]:
    """Return what the executable is granted for SCHED_FIFO; with paths of the caller's it has no capability."""
    path = None
    if plan.fifo is not None and plan.nvml_library is None and plan.sysfs is None and plan.devfs is None:
        path = fifo_sampler(plan.fifo)
    return () if path is None else (Privilege("lanes", FIFO_ROUTE, "cap_sys_nice", str(path)),)


def _is_simulated(sysfs: str | None) -> bool:
    return (Path(sysfs or "/sys") / SIMULATED).exists()


def _discover_gpus(plan: Plan, environment: Mapping[str, str]) -> Inventory:
    try:
        with Nvml(plan.nvml_library) as nvml:
            everything, lost = _describe_all(nvml)
            driver, library, simulated = nvml.versions()
    except DEVICE_ERRORS as error:
        raise errors.NothingMeasurable(str(error)) from error
    if not everything:
        raise errors.NothingMeasurable("the NVML library works and shows no GPU; is one passed to this container?")
    notes = list(lost)
    try:
        named = plan.gpus is not None
        devices = _named(everything, plan.gpus or ()) if named else _visible(everything, environment, notes)
    except errors.DeviceNotFound as error:
        raise errors.DeviceNotFound("; ".join((str(error), *lost))) from None
    notes += [
        f"gpu{device.index} is divided by MIG: power and energy are the whole board's"
        for device in devices
        if device.mig
    ]
    return Inventory(devices, driver=driver, nvml=library, simulated=simulated, notes=tuple(notes))


def _describe_all(nvml: Nvml) -> tuple[tuple[NvmlDevice, ...], list[str]]:
    """Return the GPUs that answer, and a note on each that does not.

    Raises:
        DeviceError, ...: None answers; the first one's error.
    """
    devices: list[NvmlDevice] = []
    lost: list[str] = []
    first: errors.PowerSampleError | None = None
    for index in range(nvml.count()):
        try:
            devices.append(nvml.describe(index))
        except DEVICE_ERRORS as error:  # one lost GPU is no reason to record none of the others
            first = first or error
            lost.append(f"gpu{index} is left out: {error}")
    if first is not None and not devices:
        raise first
    return tuple(devices), lost


def _named(devices: Sequence[NvmlDevice], names: Sequence[str]) -> tuple[NvmlDevice, ...]:
    chosen = {device.index: device for name in names for device in [_find(devices, name)]}
    return tuple(chosen[index] for index in sorted(chosen))


def _find(devices: Sequence[NvmlDevice], name: str) -> NvmlDevice:
    wanted = name.strip().removeprefix("gpu")
    matches = [
        device
        for device in devices
        if (wanted.isdigit() and device.index == int(wanted))
        or (name.startswith("GPU-") and device.uuid.startswith(name))
    ]
    if len(matches) != 1:
        known = ", ".join(f"{device.index} ({device.uuid})" for device in devices)
        if name.startswith("MIG-"):
            raise errors.DeviceNotFound(
                f"{name} is a slice of a GPU and has no power of its own; name its GPU: {known}"
            )
        raise errors.DeviceNotFound(f"GPU {name!r} is {'ambiguous' if matches else 'not here'}; there are: {known}")
    return matches[0]


def _visible(devices: Sequence[NvmlDevice], environment: Mapping[str, str], notes: list[str]) -> tuple[NvmlDevice, ...]:
    """Apply CUDA_VISIBLE_DEVICES as a selection; the numbers of the recording stay NVML's."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return tuple(devices)
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    numbered = any(entry.lstrip("-").isdigit() for entry in entries)
    alike = len({device.name for device in devices}) == 1
    if numbered and not alike and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        notes.append(
            f"CUDA_VISIBLE_DEVICES={value} counts GPUs fastest first and these differ, so all are recorded; "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs"
        )
        return tuple(devices)
    chosen: dict[int, NvmlDevice] = {}
    for entry in entries:
        try:
            if entry.startswith("MIG-"):  # CUDA has no UUIDs but these where MIG is on
                notes.append(f"{entry} is a slice of a GPU and power is the whole board's, so all GPUs are recorded")
                return tuple(devices)
            device = _find(devices, entry)
        except errors.DeviceNotFound:
            notes.append(f"CUDA_VISIBLE_DEVICES={value}: CUDA stops at {entry!r}, which is not here")
            break
        chosen[device.index] = device
    if not chosen:
        notes.append(f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU from the program, so all are recorded")
        return tuple(devices)
    if len(chosen) < len(devices):
        notes.append(f"CUDA_VISIBLE_DEVICES={value} selects {len(chosen)} of {len(devices)} GPUs")
    return tuple(chosen[index] for index in sorted(chosen))
