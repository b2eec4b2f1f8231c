# SPDX-License-Identifier: Apache-2.0
"""The load generator's C functions as Python: a pattern in, the log of what really ran out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample._native.api import _check, _Owner, _path
from powersample._native.door import ffi, lib
from powersample.errors import InvalidArgument

BURST_DTYPE = np.dtype(
    [
        ("planned_ns", "<i8"),
        ("rise_ns", "<i8"),
        ("fall_ns", "<i8"),
        ("cpu_ns", "<i8"),
        ("stalled_ns", "<i8"),
        ("rounds", "<u8"),
        ("wrong", "<u8"),
        ("thread", "<u4"),
        ("step", "<u4"),
    ]
)
STEP_DTYPE = np.dtype(
    [
        ("begin_ns", "<i8"),
        ("end_ns", "<i8"),
        ("cpu_ns", "<i8"),
        ("wrong", "<u8"),
        ("level", "<f8"),
        ("bursts", "<u4"),
        ("missed", "<u4"),
    ]
)


def _names(name_of: Callable[[int], Any], first: int) -> dict[str, int]:
    found: dict[str, int] = {}
    while (name := name_of(first + len(found))) != ffi.NULL:
        found[ffi.string(name).decode()] = first + len(found)
    return found


KERNELS = _names(lib.ps_load_kernel_name, lib.PS_LOAD_PRIMES)
VECTORS = _names(lib.ps_isa_name, lib.PS_ISA_BEST)


@dataclass(frozen=True, slots=True)
class LoadLog:
    """What ran: `bursts` of BURST_DTYPE thread by thread, `steps` of STEP_DTYPE, and what did not.

    `vectors` are those of fma ("best" where there is none), `stream_bytes` the arrays of all threads together.
    """

    bursts: NDArray[np.void]
    steps: NDArray[np.void]
    missed: int
    wrong: int
    unpinned: int
    cpu_errno: int
    vectors: str
    stream_bytes: int


class Load(_Owner):
    """Threads that work by a pattern.

    Args:
        edge_ns: int64 (2 n,), from the start: begin, end, begin, end ..., rising; a step may begin where one ends.
        kernel: one of KERNELS.
        threads: how many; all keep to the same pattern.
        cpus: one a thread to pin it to, or -1; None leaves them all free.
        levels: float64 (n,), 0 to 1; None is 1 throughout.
        period_ns: of the slices of a step below level 1.
        vectors: one of VECTORS, for fma and mix.
        stream_bytes: of each thread's arrays; 0 is what no cache holds.
        sysfs: where caches are looked up.

    Raises:
        InvalidArgument: something of it is out of range, or this CPU has no such vectors.
        OutOfMemory: the arrays would take more than half of what is available.
    """

    def __init__(
        self,
        edge_ns: NDArray[np.int64],
        *,
        kernel: str = "primes",
        threads: int = 1,
        cpus: Sequence[int] | None = None,
        levels: NDArray[np.float64] | None = None,
        period_ns: int = 0,
        vectors: str = "best",
        stream_bytes: int = 0,
        sysfs: str | os.PathLike[str] | None = None,
    ) -> None:
        edges = np.ascontiguousarray(edge_ns, np.int64)
        options = ffi.new("ps_load_options *")
        options.kernel, options.isa = KERNELS[kernel], VECTORS[vectors]
        options.threads, options.edges = max(0, threads), len(edges)
        kept = [  # for as long as the call lasts
            ffi.NULL if cpus is None else ffi.new("int32_t[]", list(cpus)),
            ffi.from_buffer("int64_t[]", edges),
            ffi.NULL if levels is None else ffi.new("double[]", np.asarray(levels, np.float64).tolist()),
            _path(sysfs),
        ]
        options.cpus, options.edge_ns, options.levels, options.sysfs = kept
        options.period_ns, options.stream_bytes = period_ns, stream_bytes
        if levels is not None and 2 * len(levels) != len(edges):
            raise InvalidArgument(f"{len(levels)} levels for {len(edges) // 2} steps")
        out, error = ffi.new("ps_load **"), ffi.new("ps_error *")
        _check(lib.ps_load_new(options, out, error), error)
        super().__init__(out[0], lib.ps_load_free)

    def prepare(self) -> None:
        """Make the threads; return once each is on its CPU and has touched its memory, which can take seconds.

        Raises:
            StateError: it has been prepared or started before.
            SystemFailure: a thread was refused.
        """
        error = ffi.new("ps_error *")
        _check(lib.ps_load_prepare(self.pointer, error), error)

    def start(self, start_ns: int) -> None:
        """Let the threads go; the pattern begins at `start_ns`, CLOCK_MONOTONIC.

        Raises:
            StateError: it has been started before.
            SystemFailure: a thread was refused.
        """
        error = ffi.new("ps_error *")
        _check(lib.ps_load_start(self.pointer, start_ns, error), error)

    def ask_stop(self) -> None:
        """Have bursts end within a round, and sleepers within 50 ms."""
        lib.ps_load_ask_stop(self.pointer)

    def wait(self, timeout_s: float) -> bool:
        """Return whether all threads have ended, once they have or the time is over."""
        status = lib.ps_load_wait(self.pointer, timeout_s)
        if status == lib.PS_E_TIMEOUT:
            return False
        _check(status, call="ps_load_wait")
        return True

    def log(self) -> LoadLog:
        """Return what ran, once all threads have ended.

        Raises:
            StateError: they have not.
        """
        result = ffi.new("ps_load_result *")
        _check(lib.ps_load_log(self.pointer, ffi.NULL, 0, result), call="ps_load_log")
        bursts = np.zeros(int(result.bursts), BURST_DTYPE)
        out = ffi.from_buffer("ps_load_burst[]", bursts, require_writable=True)
        _check(lib.ps_load_log(self.pointer, out, len(bursts), result), call="ps_load_log")
        steps = np.zeros(int(result.steps), STEP_DTYPE)
        out = ffi.from_buffer("ps_load_step[]", steps, require_writable=True)
        _check(lib.ps_load_steps(self.pointer, out, len(steps)), call="ps_load_steps")
        return LoadLog(
            bursts,
            steps,
            missed=int(result.missed),
            wrong=int(result.wrong),
            unpinned=int(result.unpinned),
            cpu_errno=int(result.cpu_errno),
            vectors=next(name for name, number in VECTORS.items() if number == result.isa),
            stream_bytes=int(result.stream_bytes),
        )


class Heat(_Owner):
    """Temperature and frequency of CPUs, where the machine tells.

    Args:
        cpus: whose frequencies.
        sysfs: where to look; None is /sys.
    """

    def __init__(self, cpus: Sequence[int], sysfs: str | os.PathLike[str] | None = None) -> None:
        out = ffi.new("ps_heat **")
        chosen = ffi.new("int32_t[]", list(cpus))
        _check(lib.ps_heat_open(_path(sysfs), chosen, len(cpus), out), call="ps_heat_open")
        super().__init__(out[0], lib.ps_heat_close)

    def read(self) -> tuple[int, float, float]:
        """Return CLOCK_MONOTONIC in ns, the warmest package in degrees C and the mean in Hz, NaN where nobody tells."""
        reading = ffi.new("ps_heat_reading *")
        lib.ps_heat_read(self.pointer, reading)
        return int(reading.t_ns), float(reading.temperature_c), float(reading.hz)


def cpus(sysfs: str | os.PathLike[str] | None = None) -> list[int]:
    """Return the CPUs that this process may use, one thread of each core first."""
    count = lib.ps_load_cpus(_path(sysfs), ffi.NULL, 0)
    out = ffi.new("int32_t[]", count)
    return list(out[0 : min(count, lib.ps_load_cpus(_path(sysfs), out, count))])


def second_threads(chosen: Sequence[int], sysfs: str | os.PathLike[str] | None = None) -> int:
    """Return how many CPUs share a core with one before them."""
    return int(lib.ps_load_second_threads(_path(sysfs), ffi.new("int32_t[]", list(chosen)), len(chosen)))


def layout(struct: str) -> dict[str, tuple[int, int]]:
    """Return (offset, size) of every field of ps_load_burst or ps_load_step, for a test of the dtypes."""
    fields = ffi.typeof(struct).fields
    return {name: (field.offset, ffi.sizeof(field.type)) for name, field in fields}
