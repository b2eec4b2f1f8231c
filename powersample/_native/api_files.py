# SPDX-License-Identifier: Apache-2.0
"""Typed bindings of the files that truths move: what powercap, MSR files and hwmon show on a simulated node."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from powersample._native.api import _check
from powersample._native.api_sim import Sensor, Truth, c_sensor
from powersample._native.door import ffi, lib
from powersample.errors import from_status

COUNTER: int = lib.PS_FILE_COUNTER
REGISTER: int = lib.PS_FILE_REGISTER
GAUGE: int = lib.PS_FILE_GAUGE
MOVING: int = lib.PS_FILE_MOVING
STUCK: int = lib.PS_FILE_STUCK
GARBAGE: int = lib.PS_FILE_GARBAGE
GONE: int = lib.PS_FILE_GONE
PATH_BYTES: int = lib.PS_FILE_PATH - 1  # of a path, at most
REGISTER_MODULUS = 1 << 32


@dataclass(frozen=True, slots=True)
class MovedFile:
    """One moved file, or one word of a register file, as C's ps_file; `truths` are indices."""

    path: Path
    kind: int
    truths: tuple[int, ...]
    mode: int = 0o444
    width: int = 0
    unit_nj: int = 0
    offset: int = 0
    start_ns: int = 0
    start_counts: int = 0
    counts_num: int = 0
    counts_den: int = 1
    modulus: int = 0
    gauge_num: int = 0
    gauge_den: int = 0
    sensor: Sensor | None = None


@dataclass(frozen=True, slots=True)
class MovedStats:
    """What the thread that moves the files did.

    Attributes:
        ticks: Grid instants served.
        skipped: Grid instants that passed while it was late; counters jump, as real ones do.
        late_max_ns: The latest that a grid instant became visible.
        failures: Writes that failed.
        failure: The last one's reason, or "".
    """

    ticks: int
    skipped: int
    late_max_ns: int
    failures: int
    failure: str


class MovedFiles:
    """Files that a thread of this process moves by truths, from here to `stop`.

    Raises:
        InvalidArgument: A setting outside its range.
        StateError: A file exists already.
        DiskFull, AccessDenied: A file cannot be made; those before it stay.
    """

    def __init__(self, files: list[MovedFile], truths: list[Truth], period_ns: int) -> None:
        self._files: Any = None
        self._moved = tuple(files)
        moved = ffi.new("ps_file[]", len(files))
        for slot, file in zip(moved, files, strict=True):
            _fill(slot, file)
        handles = ffi.new("ps_truth *[]", [truth.handle for truth in truths])
        constant = ffi.cast("const ps_truth *const *", handles)
        out, error = ffi.new("ps_files **"), ffi.new("ps_error *")
        _check(lib.ps_files_start(moved, len(files), constant, len(truths), period_ns, out, error), error)
        self._files = out[0]

    @property
    def moved(self) -> tuple[MovedFile, ...]:
        """The files, by index."""
        return self._moved

    @property
    def _running(self) -> Any:
        if self._files is None:
            raise from_status(lib.PS_E_STATE, "ps_files", "it was stopped", 0)
        return self._files

    def set(self, index: int, state: int, text: str | None = None) -> None:
        """Bring a file into a state; GARBAGE shows `text`."""
        error = ffi.new("ps_error *")
        words = ffi.NULL if text is None else text.encode()
        _check(lib.ps_files_set(self._running, index, state, words, error), error)

    def restart(self, index: int, counts: int) -> None:
        """Let a counter stand at `counts` now and go on from there."""
        status = lib.ps_files_restart(self._running, index, counts)
        if status != lib.PS_OK:
            raise from_status(status, "ps_files_restart", f"file {index} at {counts}", 0)

    def stats(self) -> MovedStats:
        """Return what the thread did so far."""
        stats = ffi.new("ps_files_stats *")
        lib.ps_files_stats_get(self._running, stats)
        return _stats(stats)

    def stop(self) -> MovedStats | None:
        """Stop the thread and leave the files as they are; None the second time. Not for a forked child."""
        files, self._files = self._files, None
        if files is None:
            return None
        stats = ffi.new("ps_files_stats *")
        lib.ps_files_stop(files, stats)
        return _stats(stats)


def _fill(slot: Any, file: MovedFile) -> None:
    for field in fields(file):
        value = getattr(file, field.name)
        if field.name == "path":
            slot.path = os.fsencode(value)
        elif field.name == "truths":
            slot.truths = sum(1 << index for index in value)
        elif field.name == "sensor":
            if value is not None:
                slot.sensor = c_sensor(value)[0]
        else:
            setattr(slot, field.name, value)


def _stats(stats: Any) -> MovedStats:
    why = os.strerror(stats.sys_errno) if stats.failures else ""
    return MovedStats(stats.ticks, stats.skipped, stats.late_max_ns, stats.failures, why)
