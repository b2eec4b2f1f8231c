# SPDX-License-Identifier: Apache-2.0
"""What a method costs that runs alone: all CPU time but the training thread's own, with all that it starts."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from powersample.experiments.baselines import cpu
from powersample.experiments.method import Cost


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds until now: of this process, of the thread that asks, of the children that ended and that run."""

    process_s: float
    thread_s: float
    children_s: float

    @classmethod
    def now(cls, apart: Collection[int] = ()) -> Used:
        """Return what was used until now, without the running children `apart`."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        alive_s = [cpu.process_s(pid) for pid in children() if pid not in apart]
        children_s = ended.ru_utime + ended.ru_stime + sum(one for one in alive_s if math.isfinite(one))
        return cls(time.process_time(), time.thread_time(), children_s)

    @property
    def all_s(self) -> float:
        """Return the sum, in which the asking thread's own is contained."""
        return self.process_s + self.children_s


def children() -> list[int]:
    """Return the processes that this one started and that run; none where the kernel does not list them."""
    pids: list[int] = []
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            pids += [int(word) for word in task.read_text().split()]
    return pids


def cost_of(before: Used, started: Used, ending: Used, after: Used, start_s: float) -> Cost:
    """Return a method's cost from what was used before it, when it had started, before it ended, and after.

    Args:
        before: The training thread asks, here and below.
        started: See above.
        ending: See above.
        after: See above.
        start_s: How long it took to start.
    """
    own_s = after.thread_s - started.thread_s
    aside_s = (started.all_s - before.all_s) + (after.thread_s - ending.thread_s)
    return Cost(max(0.0, after.all_s - started.all_s - own_s), start_s, aside_s)
