# SPDX-License-Identifier: Apache-2.0
"""The native load: all CPUs at once by a pattern, and the log of when they really worked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import numpy as np

from powersample.errors import InvalidArgument
from powersample.loads.edge_log import EdgeLog
from powersample.loads.pattern import Pattern

LEAD_NS = 50_000_000  # the threads are there and asleep before the first edge
LOOK_S = 0.1
ALL_CPUS = "all"


def run(
    pattern: Pattern,
    *,
    cpus: Sequence[int] | str | None = ALL_CPUS,
    threads: int = 1,
    start_ns: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> EdgeLog:
    """Work by a pattern, to its end, and return the edges that it really had.

    Args:
        pattern: when.
        cpus: one pinned thread on each of these; "all" that this process may use; None: `threads` free ones.
        threads: without CPUs.
        start_ns: CLOCK_MONOTONIC of the pattern's beginning; None is now.
        stop: asked ten times a second; once true, the load ends and the log tells of what was.

    Raises:
        InvalidArgument: a CPU or a number of threads out of range.
        SystemFailure: a thread was refused.
    """
    from powersample._native.api_load import Load

    if cpus == ALL_CPUS:
        cpus = sorted(os.sched_getaffinity(0))
    elif isinstance(cpus, str):
        raise InvalidArgument(f"CPUs {cpus!r}: numbers, or {ALL_CPUS!r}")
    pinned: list[int] | None = None if cpus is None else [int(cpu) for cpu in cpus]
    count = threads if pinned is None else len(pinned)
    edge_ns = np.rint(pattern.edge_s * 1e9).astype(np.int64)
    with Load(edge_ns, threads=count, cpus=pinned) as load:
        load.start(time.monotonic_ns() + LEAD_NS if start_ns is None else start_ns)
        try:
            while not load.wait(LOOK_S):
                if stop():
                    load.ask_stop()
        except BaseException:  # Ctrl-C: not a moment longer
            load.ask_stop()
            raise
        told = load.log()
    bursts = told.bursts
    where = "any CPU" if pinned is None else f"{count} CPUs" if count > 1 else "1 CPU"
    return EdgeLog(
        name=f"{pattern.name} on {where}",
        rise_ns=bursts["rise_ns"],
        fall_ns=bursts["fall_ns"],
        thread=bursts["thread"].astype(np.int64),
        late_ns=bursts["rise_ns"] - bursts["planned_ns"],
        missed=told.missed,
        wrong=told.wrong,
        stalled_ns=int(bursts["stalled_ns"].sum()),
        unpinned=told.unpinned,
    )
