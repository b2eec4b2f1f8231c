# SPDX-License-Identifier: Apache-2.0
"""All sections, one after another; a section that fails is a finding like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from powersample.doctor import box, clock, cpu, files, gpu, meters, packages, scheduling, sensors
from powersample.doctor.check import FAIL, Check, Diagnosis, Tried
from powersample.doctor.machine import Machine

Section = tuple[str, Callable[[Machine], Iterator[Check]]]

INSTALLATION: tuple[Section, ...] = ((packages.SECTION, packages.check_packages),)
DEVICES: tuple[Section, ...] = (
    (gpu.SECTION, gpu.check_gpus),
    (cpu.SECTION, cpu.check_cpus),
    (sensors.SECTION, sensors.check_sensors),
)
THIS_MACHINE: tuple[Section, ...] = ((meters.SECTION, meters.check_meters),)
RECORDER: tuple[Section, ...] = (
    (clock.SECTION, clock.check_clock),
    (scheduling.SECTION, scheduling.check_scheduling),
)
BOX: tuple[Section, ...] = ((box.SECTION, box.check_box),)
FILES: tuple[Section, ...] = ((files.SECTION, files.check_files),)


def diagnose(machine: Machine) -> Diagnosis:
    """Return every finding; a simulated node has neither meters nor a box around it."""
    sections = (*INSTALLATION, *DEVICES, *RECORDER, *FILES)
    if machine.simulated is None:
        sections = (*INSTALLATION, *DEVICES, *THIS_MACHINE, *RECORDER, *BOX, *FILES)
    checks: list[Check] = []
    for name, check in sections:
        try:
            for found in check(machine):
                checks.append(replace(found, section=name))
        except ImportError as error:  # the native core or a distribution, which its own section tells in full
            what = f"not looked at: {error}"
            checks.append(Check("PS-DOC-01", FAIL, what, (Tried(error.name or "import"),), section=name))
        except Exception as error:  # a doctor that falls ill has still looked at the rest
            what = f"looking failed, which is a fault of powersample: {type(error).__name__}: {error}"
            checks.append(Check("PS-DOC-02", FAIL, what, section=name))
    return Diagnosis(tuple(checks), machine.simulated or stand_in(machine))


def stand_in(machine: Machine) -> str | None:
    """Return what of a machine is simulated though nobody said so: a folder in /sys's place, or a library; or None."""
    marker = machine.sysfs / "powersample-simulated"
    if marker.exists():
        return f"in {machine.sysfs}"
    if machine.nvml_library is not None:
        with suppress(ImportError, *gpu.DEVICE_ERRORS), machine.load_nvml(machine.nvml_library) as nvml:
            if nvml.versions()[2]:
                return f"by {machine.nvml_library}"
    return None
