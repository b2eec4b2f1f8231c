# SPDX-License-Identifier: Apache-2.0
"""The load generator's C functions as Python: a pattern in, the log of what really ran out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample._native.api import _check, _Owner
from powersample._native.door import ffi, lib

BURST_DTYPE = np.dtype(
    [
        ("planned_ns", "<i8"),
        ("rise_ns", "<i8"),
        ("fall_ns", "<i8"),
        ("stalled_ns", "<i8"),
        ("rounds", "<u8"),
        ("wrong", "<u8"),
        ("thread", "<u4"),
        ("reserved", "<u4"),
    ]
)


@dataclass(frozen=True, slots=True)
class LoadLog:
    """What ran: `bursts` of BURST_DTYPE thread by thread, and what did not."""

    bursts: NDArray[np.void]
    missed: int
    wrong: int
    unpinned: int
    cpu_errno: int


class Load(_Owner):
    """Threads that work by a pattern.

    Args:
        edge_ns: int64 (2 n,), from the start: begin, end, begin, end ..., rising.
        threads: how many; all keep to the same pattern.
        cpus: one a thread to pin it to, or -1; None leaves them all free.

    Raises:
        InvalidArgument: something of it is out of range.
    """

    def __init__(self, edge_ns: NDArray[np.int64], *, threads: int = 1, cpus: Sequence[int] | None = None) -> None:
        edges = np.ascontiguousarray(edge_ns, np.int64)
        pinned = ffi.NULL if cpus is None else ffi.new("int32_t[]", list(cpus))
        options = ffi.new("ps_load_options *")
        options.kernel, options.threads, options.edges = lib.PS_LOAD_PRIMES, max(0, threads), len(edges)
        options.edge_ns, options.cpus = ffi.from_buffer("int64_t[]", edges), pinned
        out, error = ffi.new("ps_load **"), ffi.new("ps_error *")
        _check(lib.ps_load_new(options, out, error), error)
        super().__init__(out[0], lib.ps_load_free)

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
        return LoadLog(bursts, int(result.missed), int(result.wrong), int(result.unpinned), int(result.cpu_errno))


def layout() -> dict[str, tuple[int, int]]:
    """Return (offset, size) of every field of ps_load_burst, for a test of BURST_DTYPE."""
    fields = ffi.typeof("ps_load_burst").fields
    return {name: (field.offset, ffi.sizeof(field.type)) for name, field in fields}
