# SPDX-License-Identifier: Apache-2.0
"""Power and energy that other chips tell through hwmon: boards, supplies, other makers' GPUs, batteries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from powersample.doctor.check import OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine

SECTION = "other sensors"
READING = re.compile(r"(power\d+_(input|average)|energy\d+_input)")


def check_sensors(machine: Machine) -> Iterator[Check]:
    """Yield each chip with a reading of power or energy."""
    folder = machine.sysfs / "class/hwmon"
    chips = [(folder / name, _readings(machine, folder / name)) for name in machine.names(folder)]
    chips = [(chip, files) for chip, files in chips if files]
    if not chips:
        what = "no hwmon chip tells power or energy"
        yield Check("PS-HWMON-02", SKIP, what, (Tried(str(folder)),))
    for chip, files in chips:
        name = machine.text(chip / "name") or chip.name
        attempts = [machine.read(chip / file)[1] for file in files]
        refused = tuple(one for one in attempts if one.errno is not None)
        if refused:
            what = f"{name} ({chip.name}): {len(refused)} of {len(files)} readings are refused"
            yield Check("PS-HWMON-01", WARN, what, refused)
        if len(refused) < len(files):
            able = [file for file, one in zip(files, attempts, strict=True) if one.errno is None]
            yield Check("PS-HWMON-00", OK, f"{name} ({chip.name}): {', '.join(able)}")


def _readings(machine: Machine, chip: Path) -> list[str]:
    return [name for name in machine.names(chip) if READING.fullmatch(name)]
