# SPDX-License-Identifier: Apache-2.0
"""Chips of hardware monitoring that a plan can read, and what of them it cannot: why, and what to do about it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from powersample import errors
from powersample._native.api_hwmon import ChipEntry, FileRefusal, OpenedChip, hwmon_chips, open_hwmon

DENIED = (errno.EACCES, errno.EPERM)
ASLEEP = "its device sleeps and is not woken to be measured; it is read once something else wakes it"


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip, or battery, to record.

    Attributes:
        id: Driver and device, the same at every start: "ina3221-1-0040", "BAT0".
        name: The driver's name, or "battery".
        path: Where its files were found; the number in it may change.
        channels: Names of its channels.
        answering: How many of them gave a value when it was opened.
        asleep: Whether its device was suspended then.
        refused: Files of it that are left out or gave nothing, each with its reason.
    """

    id: str
    name: str
    path: str
    channels: tuple[str, ...]
    answering: int
    asleep: bool
    refused: tuple[str, ...]


def find_chips(sysfs: str | None) -> tuple[tuple[Chip, ...], tuple[str, ...]]:
    """Return the chips that can be read, and a reason for everything of any chip that cannot."""
    try:
        entries = hwmon_chips(sysfs)
    except errors.DeviceNotFound as error:
        return (), (str(error).removesuffix(error.remedy).rstrip(". "),)
    chips: list[Chip] = []
    reasons: list[str] = []
    for entry in entries:
        opened = open_hwmon(entry.id, sysfs)
        if opened.source is None or opened.failure is not None:
            reasons.append(f"{entry.id} is left out: {_why(entry, opened)}")
            continue
        with opened.source as source:
            names = tuple(channel["name"] for channel in source.channels())
        refused = tuple(map(_told, opened.refused))
        chips.append(Chip(entry.id, entry.name, entry.path, names, opened.answering, opened.asleep, refused))
        if opened.asleep:
            reasons.append(f"{entry.id}: {ASLEEP}")
        if refused:
            more = opened.refused_count - len(refused)
            reasons.append(f"{entry.id}: {'; '.join(refused)}{f'; and {more} more' if more else ''}")
    return tuple(chips), tuple(reasons)


def _told(refusal: FileRefusal) -> str:
    code = "" if refusal.errno is None else f" [errno {refusal.errno}]"
    return f"{refusal.file}: {refusal.text}{code}"


def _why(entry: ChipEntry, opened: OpenedChip) -> str:
    if opened.failure is None:
        return "it has nothing to read"
    told = _told(opened.failure)
    if opened.failure.errno not in DENIED:
        return told
    files = "energy*_input" if "energy" in opened.failure.text else "power*"
    rule = (
        f'ACTION=="add", SUBSYSTEM=="hwmon", ATTR{{name}}=="{entry.name}", '
        f"RUN+=\"/bin/sh -c 'chgrp GROUP /sys%p/{files}; chmod g+r /sys%p/{files}'\""
    )
    return f"{told}; its driver keeps it for root: give it to a group with a udev rule, {rule}"
