# SPDX-License-Identifier: Apache-2.0
"""The native load: all CPUs at once by a pattern, and the log of when they really worked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from powersample.errors import InvalidArgument
from powersample.loads.cpus import allowed
from powersample.loads.edge_log import EdgeLog, Step
from powersample.loads.heat import Watch
from powersample.loads.pattern import Pattern

KERNELS = ("primes", "fma", "stream", "mix", "idle")
VECTORS = ("best", "plain", "sse2", "avx2", "avx512", "neon")
LEAD_NS = 50_000_000  # the threads are asleep before the first edge
LOOK_S = 0.1
ALL_CPUS = "all"
PERIOD_S = 0.1


def run(
    pattern: Pattern,
    *,
    kernel: str = "primes",
    level: float = 1.0,
    period_s: float = PERIOD_S,
    cpus: Sequence[int] | str | None = ALL_CPUS,
    threads: int = 1,
    start_ns: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    vectors: str = "best",
    stream_bytes: int = 0,
    max_temperature_c: float | None = None,
    sysfs: str | os.PathLike[str] | None = None,
) -> EdgeLog:
    """Work by a pattern, to its end, and return the edges that it really had.

    Below level 1 each thread works for a slice of every period, until its own CPU time has come to the level's share of
    the span so far; the threads' slices are spread over the period, so that all together take steady power. Edges in
    step, which a meter can be aligned by, are those of a pattern at level 1.

    Args:
        pattern: when, and with `levels` how much.
        kernel: primes (a sieve, as the paper's load), fma (multiply-add in the widest vectors), stream (memory), mix
            (these three by turns) or idle (threads that sleep: nothing is logged but their CPU time).
        level: share of the pattern's spans that is worked, 0 to 1; a pattern's own levels are multiplied by it.
        period_s: 0.001 to 60, of the slices.
        cpus: one pinned thread on each of these; "all" that this process may use; None: `threads` free ones.
        threads: without CPUs.
        start_ns: CLOCK_MONOTONIC of the pattern's beginning; None is as soon as the threads are ready.
        stop: asked ten times a second; once true, the load ends and the log tells of what was.
        vectors: that fma is to work in; the best that this CPU has, or these.
        stream_bytes: of each thread's arrays for stream; 0 is four times its share of all caches.
        max_temperature_c: of the CPUs, looked at once a second; at it the load ends and the log says why.
        sysfs: where caches, temperature and frequency are looked up; None is /sys.

    Raises:
        InvalidArgument: a kernel, level, period, CPU or number of threads out of range, a CPU that this process may not
            use, or vectors that this CPU has not.
        NotSupported: a highest temperature, and no sensor of it.
        OutOfMemory: stream would take more than half of the memory that is available.
        SystemFailure: a thread was refused.
    """
    from powersample._native.api_load import Load

    if kernel not in KERNELS or vectors not in VECTORS:
        wrong, known = (kernel, KERNELS) if kernel not in KERNELS else (vectors, VECTORS)
        raise InvalidArgument(f"no {wrong!r}; there are {', '.join(known)}")
    if not 0 <= level <= 1:
        raise InvalidArgument(f"level {level}: from 0 to 1")
    pinned = _pinned(cpus)
    count = threads if pinned is None else len(pinned)
    levels = level * (pattern.levels if len(pattern.levels) else np.ones(len(pattern.edge_s) // 2))
    load = Load(
        np.rint(pattern.edge_s * 1e9).astype(np.int64),
        kernel=kernel,
        threads=count,
        cpus=pinned,
        levels=levels,
        period_ns=round(period_s * 1e9) or -1,
        vectors=vectors,
        stream_bytes=stream_bytes,
        sysfs=sysfs,
    )
    with load, closing(Watch(pinned or allowed(), max_temperature_c, sysfs)) as watch:
        load.prepare()
        load.start(time.monotonic_ns() + LEAD_NS if start_ns is None else start_ns)
        ended = ""
        try:
            while not load.wait(LOOK_S):
                ended = ended or watch.look()
                if ended or stop():
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
        kernel=kernel,
        vectors=told.vectors if kernel in ("fma", "mix") else "",
        cpus=tuple(pinned or ()),
        reached=tuple(
            Step(
                begin_ns=int(one["begin_ns"]),
                end_ns=int(one["end_ns"]),
                level=float(one["level"]),
                threads=count,
                cpu_ns=int(one["cpu_ns"]),
                bursts=int(one["bursts"]),
                missed=int(one["missed"]),
                wrong=int(one["wrong"]),
            )
            for one in told.steps
        ),
        step=bursts["step"].astype(np.int64),
        cpu_ns=bursts["cpu_ns"],
        heat=watch.heat(),
        ended=ended,
    )


def _pinned(cpus: Sequence[int] | str | None) -> list[int] | None:
    if cpus is None:
        return None
    if isinstance(cpus, str):
        if cpus == ALL_CPUS:
            return allowed()
        raise InvalidArgument(f"CPUs {cpus!r}: numbers, or {ALL_CPUS!r}")
    chosen = [int(cpu) for cpu in cpus]
    if strange := sorted(set(chosen) - set(allowed())):
        raise InvalidArgument(f"CPU {strange[0]}: this process may use {', '.join(map(str, allowed()))}")
    return chosen
