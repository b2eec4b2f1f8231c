# SPDX-License-Identifier: Apache-2.0
"""All sections, one after another; a section that fails is a finding like any other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from powersample.doctor import box, clock, cpu, files, gpu, meters, packages, scheduling, sensors
from powersample.doctor.check import FAIL, SIMULATED, Check, Diagnosis, Tried
from powersample.doctor.machine import Machine

PATIENCE_S = 60.0  # a cold driver without persistence mode takes seconds per GPU

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


def diagnose(machine: Machine, patience_s: float = PATIENCE_S) -> Diagnosis:
    """Return every finding; a simulated node has neither meters nor a box around it.

    Args:
        machine: What to look at.
        patience_s: How long a section may take, in s.
    """
    sections = (*INSTALLATION, *DEVICES, *RECORDER, *FILES)
    if machine.simulated is None:
        sections = (*INSTALLATION, *DEVICES, *THIS_MACHINE, *RECORDER, *BOX, *FILES)
    checks: list[Check] = []
    for name, check in sections:
        found: list[Check] = []
        # Of a thread of its own: a call into a driver that never returns costs the rest of its section.
        worker = threading.Thread(target=_look, args=(machine, check, found), daemon=True)
        worker.start()
        worker.join(patience_s)
        if worker.is_alive():
            what = f"no answer within {patience_s:g} s: a call into a driver hangs"
            found = [*found, Check("PS-DOC-03", FAIL, what, fix="sudo dmesg | tail -n 50")]
        checks += [replace(one, section=name) for one in found]
    told = next((one.what for one in checks if one.code == SIMULATED), None)
    return Diagnosis(tuple(checks), machine.simulated or (None if told is None else f"({told})"))


def _look(machine: Machine, check: Callable[[Machine], Iterator[Check]], found: list[Check]) -> None:
    """Add a section's findings as they come."""
    try:
        for one in check(machine):
            found.append(one)
    except ImportError as error:  # the native core or a distribution, which its own section tells in full
        found.append(Check("PS-DOC-01", FAIL, f"not looked at: {error}", (Tried(error.name or "import"),)))
    except Exception as error:  # a doctor that falls ill has still looked at the rest
        what = f"looking failed, which is a fault of powersample: {type(error).__name__}: {error}"
        found.append(Check("PS-DOC-02", FAIL, what))
