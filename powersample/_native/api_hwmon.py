# SPDX-License-Identifier: Apache-2.0
"""hwmon's C functions as Python: which chips there are, and a chip's source with what of it is not read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from powersample._native.api import Source, _check, _path, _text
from powersample._native.door import ffi, lib

ASLEEP = int(lib.PS_HWMON_ASLEEP)


@dataclass(frozen=True, slots=True)
class ChipEntry:
    """A chip as listed: its lasting id, the driver's name, and where its files are now."""

    id: str
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class FileRefusal:
    """Why a file is left out (`errno` None), or gave no value when it was opened and is read all the same."""

    file: str
    text: str
    errno: int | None


@dataclass(frozen=True, slots=True)
class OpenedChip:
    """What came of opening a chip.

    Attributes:
        source: To be given to a sampler or closed; None when nothing of it can be read.
        answering: Channels that gave a value.
        asleep: Whether its device is suspended and was left so.
        refused: Files that are left out or gave nothing, the first sixteen.
        refused_count: How many those are in all.
        failure: Why there is no source; None when there is one.
    """

    source: Source | None
    answering: int
    asleep: bool
    refused: tuple[FileRefusal, ...]
    refused_count: int
    failure: FileRefusal | None


def hwmon_chips(sysfs: str | os.PathLike[str] | None = None) -> list[ChipEntry]:
    """Return the chips and batteries that measure power or energy, or would if they were let.

    Args:
        sysfs: Where to look; None is /sys.

    Raises:
        DeviceNotFound: There is none.
    """
    count, error = ffi.new("uint32_t *"), ffi.new("ps_error *")
    _check(lib.ps_hwmon_chips(_path(sysfs), ffi.NULL, 0, count, error), error)
    room = int(count[0])
    rows = ffi.new("ps_hwmon_chip[]", room)
    _check(lib.ps_hwmon_chips(_path(sysfs), rows, room, count, error), error)
    found = (rows[i] for i in range(min(room, int(count[0]))))
    return [ChipEntry(_text(row.id), _text(row.name), _text(row.path)) for row in found]


def open_hwmon(chip: str, sysfs: str | os.PathLike[str] | None = None) -> OpenedChip:
    """Open a chip by its id; a refusal is an answer, not an exception."""
    out, opening, error = ffi.new("ps_source **"), ffi.new("ps_hwmon_opening *"), ffi.new("ps_error *")
    status = lib.ps_hwmon_open(_path(sysfs), os.fsencode(chip), out, opening, error)
    told = min(int(opening.n_refused), int(lib.PS_HWMON_REFUSED))
    return OpenedChip(
        source=Source(out[0]) if status == lib.PS_OK else None,
        answering=int(opening.answering),
        asleep=bool(opening.asleep),
        refused=tuple(_refusal(opening.refused[i]) for i in range(told)),
        refused_count=int(opening.n_refused),
        failure=None if status == lib.PS_OK else _refusal(error),
    )


def _refusal(error: Any) -> FileRefusal:
    return FileRefusal(_text(error.call), _text(error.text), int(error.vendor) or None)
