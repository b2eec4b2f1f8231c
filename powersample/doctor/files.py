# SPDX-License-Identifier: Apache-2.0
"""The configuration file in force, and room for recordings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from powersample import errors
from powersample.doctor.check import FAIL, OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine
from powersample.model import amount

SECTION = "configuration and disk"
HOUR_BYTES = 40e6  # a GPU at 1 kHz, once it is Parquet
LITTLE_BYTES, NOTHING_BYTES = 1e9, 64e6


def check_files(machine: Machine) -> Iterator[Check]:
    """Yield which defaults hold and where recordings go."""
    yield from _configuration(machine)
    for variable, what in (
        ("POWERSAMPLE_SYSFS_ROOT", "CPU counters and sensors are looked for in"),
        ("POWERSAMPLE_NVML_LIB", "GPUs are read by"),
    ):
        if root := machine.environment.get(variable):
            yield Check("PS-CFG-04", OK, f"{variable}: {what} {root}", (Tried(f"${variable}"),))
    temporary = Path(machine.environment.get("TMPDIR") or "/tmp")
    try:
        yield _space(machine, Path.cwd(), "this folder")
    except OSError as error:
        yield Check("PS-DISK-02", FAIL, f"this folder: it was removed ({error.strerror})", (Tried(".", error.errno),))
    yield _space(machine, temporary, "measure() without an output")
    yield _shared_memory(machine)


def _configuration(machine: Machine) -> Iterator[Check]:
    from powersample.store.config import SYSTEM_FILE, load_configuration

    system = machine.root / SYSTEM_FILE.relative_to("/")
    try:
        found = load_configuration(machine.environment, system_file=system)
    except errors.ConfigurationError as error:
        yield Check("PS-CFG-01", FAIL, f"{error} No recording starts until then", (Tried("config.toml"),))
        return
    for note in found.notes:
        yield Check("PS-CFG-02", WARN, note, (Tried("config.toml"),))
    if not found.files:
        yield Check("PS-CFG-03", SKIP, "no configuration file; the built-in defaults hold", (Tried(str(system)),))
        return
    said = [f"{key} = {value!r} ({found.origins[key]})" for key, value in found.values.items()]
    files = ", ".join(map(str, found.files))
    yield Check("PS-CFG-00", OK, f"configuration {files}: {'; '.join(said) or 'sets nothing'}")


def _space(machine: Machine, path: Path, why: str) -> Check:
    tried = Tried(str(path))
    try:
        free = machine.free_bytes(path)
    except OSError as error:
        return Check("PS-DISK-02", FAIL, f"{why}: {error.strerror}", (Tried(str(path), error.errno),))
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        what = f"{path} ({why}) is not writable for this user; name an output elsewhere"
        return Check("PS-DISK-04", WARN, what, (tried,))
    told = f"{_size(free)} free in {path} ({why}): a GPU at 1 kHz for {_hours(free)}"
    mount = machine.mount_of(path.resolve())
    if free < NOTHING_BYTES:
        return Check("PS-DISK-02", FAIL, told, (tried,))
    if free < LITTLE_BYTES:
        return Check("PS-DISK-01", WARN, told, (tried,))
    if mount is not None and mount.kind in ("tmpfs", "ramfs"):
        return Check("PS-DISK-03", WARN, f"{told}; but it is memory ({mount.kind}): name an output on a disk", (tried,))
    return Check("PS-DISK-00", OK, told, (tried,))


def _shared_memory(machine: Machine) -> Check:
    path = machine.dev / "shm"
    try:
        return Check("PS-DISK-05", OK, f"{_size(machine.free_bytes(path))} free in {path}", (Tried(str(path)),))
    except OSError as error:
        return Check("PS-DISK-06", SKIP, "no shared memory folder", (Tried(str(path), error.errno),))


def _hours(free: float) -> str:
    """Return how long a recording may be, to two digits."""
    return f"{float(f'{free / HOUR_BYTES:.2g}'):,.0f} h"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{amount(count)} {unit}"
        count /= 1000
    return f"{amount(count)} TB"
