# SPDX-License-Identifier: Apache-2.0
"""Power and energy that other chips tell through hwmon: boards, supplies, other makers' GPUs, batteries."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from powersample import errors
from powersample.doctor.check import OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine

if TYPE_CHECKING:
    from powersample._native.api_hwmon import ChipEntry, FileRefusal, OpenedChip

SECTION = "other sensors"
DENIED = (errno.EACCES, errno.EPERM)


def check_sensors(machine: Machine) -> Iterator[Check]:
    """Yield each chip that measures power or energy, as a recording would open it."""
    from powersample._native.api_hwmon import hwmon_chips, open_hwmon

    sysfs, _ = machine.counter_roots
    try:
        entries = hwmon_chips(sysfs)
    except errors.DeviceNotFound:
        tried = tuple(Tried(str(machine.sysfs / path)) for path in ("class/hwmon", "class/power_supply"))
        yield Check("PS-HWMON-02", SKIP, "no chip tells power or energy through hwmon", tried)
        return
    for entry in entries:
        opened = open_hwmon(entry.id, sysfs)
        if opened.source is None:
            yield _refused(entry, opened)
            continue
        with opened.source as source:
            names = tuple(channel["name"] for channel in source.channels())
        yield from _read(entry, opened, names)


def _read(entry: ChipEntry, opened: OpenedChip, names: tuple[str, ...]) -> Iterator[Check]:
    told = f"{entry.id} ({entry.name}): {', '.join(name.removeprefix(f'{entry.id}.') for name in names)}"
    if opened.asleep:
        yield Check("PS-HWMON-03", SKIP, f"{told}; its device sleeps and is not woken to be measured", gives=names)
    elif not opened.answering:
        yield Check("PS-HWMON-01", WARN, f"{told}; none of them answers", _tried(entry, opened.refused))
    else:
        yield Check("PS-HWMON-00", OK, told, gives=names)
    denied = tuple(one for one in opened.refused if one.errno in DENIED)
    if denied:
        what = f"{entry.id}: {len(denied)} of its files may not be read by this user"
        yield Check("PS-HWMON-01", WARN, what, _tried(entry, denied), _fix(entry, [one.file for one in denied]))


def _refused(entry: ChipEntry, opened: OpenedChip) -> Check:
    why = opened.failure
    if why is None:
        return Check("PS-HWMON-01", WARN, f"{entry.id} has nothing to read", (Tried(entry.path),))
    files = [one.file for one in opened.refused if one.errno in DENIED]
    fix = _fix(entry, files) if why.errno in DENIED and files else None
    what = f"{entry.id} ({entry.name}) cannot be read: {why.text}"
    return Check("PS-HWMON-01", WARN, what, _tried(entry, opened.refused) or (Tried(entry.path, why.errno),), fix)


def _tried(entry: ChipEntry, refused: tuple[FileRefusal, ...]) -> tuple[Tried, ...]:
    return tuple(Tried(f"{entry.path}/{one.file}", one.errno) for one in refused)


def _fix(entry: ChipEntry, files: list[str]) -> str:
    """Return the command for this boot; a driver that keeps its files for root does so at every start."""
    paths = " ".join(shlex.quote(f"{entry.path}/{file}") for file in files)
    return f"sudo chgrp powersample {paths} && sudo chmod 0440 {paths}  # until the next boot"
