# SPDX-License-Identifier: Apache-2.0
"""CPU time of a thread or process that is still running, to the scheduler's nanosecond."""

from __future__ import annotations

import contextlib
import time

PROCESS, THREAD = 2, 6  # the kernel's numbers of CPU-time clocks: CPUCLOCK_SCHED, and with CPUCLOCK_PERTHREAD_MASK


def thread_s(native_id: int) -> float:
    """Return the CPU time of a thread of this process, s; NaN when it has ended."""
    return _clock_s(native_id, THREAD)


def process_s(pid: int) -> float:
    """Return the CPU time of all threads of a process, s, without its children's; NaN when it has ended."""
    return _clock_s(pid, PROCESS)


def _clock_s(number: int, kind: int) -> float:
    with contextlib.suppress(OSError):
        return time.clock_gettime((~number << 3) | kind)
    return float("nan")
