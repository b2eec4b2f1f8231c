# SPDX-License-Identifier: Apache-2.0
"""What `measure()` at 1 kHz costs a training in its process: time of the same steps with it and without, by turns.

A quadruple is four blocks of the same steps: without, with, with, without, so that a drift of the machine cancels.
Beside each stands one without any recording, which tells how far the machine is off by itself (A/A). The training has
one thread, in a process of its own: a matrix product on all cores would wait for whatever else runs on one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import native
from bench.figure import Bar, Figure
from bench.load import cores
from bench.machine import ROOT
from powersample.experiments.race.slowdown import median_interval
from powersample.experiments.workload import Network

KEY = "training"
RATE_HZ = 1000.0
ROOM_PCT = 1.0  # what a recording may cost beyond what the machine is off by itself; one off by more judges nothing
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
WHAT = "{} that `measure()` at 1 kHz in its process, its lane on another core, adds to a training"
Floats = NDArray[np.float64]


def _train(network: Network, steps: int) -> Floats:
    """Take so many steps on the first core; return their wall time and this thread's CPU time, s."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # of this thread alone: the recording's were started before
    begun_s = time.perf_counter(), time.thread_time()
    for _ in range(steps):
        network.step()
    took_s = np.array((time.perf_counter(), time.thread_time())) - begun_s
    os.sched_setaffinity(0, everywhere)
    return took_s


def _quadruple(network: Network, steps: int, between: AbstractContextManager[Any]) -> list[float]:
    """Return by how much the middle two blocks take longer than the outer two, in %: by the wall clock, and of CPU."""
    outer_s = _train(network, steps)
    with between:
        inner_s = _train(network, steps) + _train(network, steps)
    outer_s += _train(network, steps)
    return [float(one) for one in 100 * (inner_s / outer_s - 1)]


def _take(repeats: int, block_s: float, library: str) -> dict[str, list[list[float]]]:
    """Return the quadruples with a recording and those without one: [wall, CPU] each, in %."""
    import powersample as ps

    network = Network()
    _train(network, 200)
    steps = max(1, round(20 * block_s / min(_train(network, 20)[0] for _ in range(20))))
    found: dict[str, list[list[float]]] = {"beside": [], "alone": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a lane that came late: here the training counts
        for _ in range(repeats):
            run = ps.measure(sources="nvml", nvml_library=library, rate_hz=RATE_HZ, cpu=cores()[-1])
            found["beside"].append(_quadruple(network, steps, run))
            found["alone"].append(_quadruple(network, steps, nullcontext()))
    return found


def _told(pct: Floats) -> tuple[float, float, float]:
    """Return the median and its 95 % interval."""
    interval = median_interval(pct)
    assert interval is not None  # there are 6 at the least
    return float(np.median(pct)), *interval


def judged(clock: str, beside: Floats, alone: Floats, where: str) -> Figure:
    """Return the figure of one clock; the wall's has a bar, where A/A leaves it a meaning.

    Args:
        clock: "wall time", or another.
        beside: a quadruple's slow-down beside a recording, %, shape (n,).
        alone: the same of those without one.
        where: conditions.
    """
    slow, low, high = _told(beside)
    same, least, most = _told(alone)
    notes = [
        where,
        f"slowdown {slow:+.2f} % [{low:+.2f}, {high:+.2f}]",
        f"A/A {same:+.2f} % [{least:+.2f}, {most:+.2f}]",
        "medians and 95 % bootstrap intervals",
    ]
    bar = None
    if clock == "wall time" and most - least > 2 * ROOM_PCT:
        notes.append(f"not judged: by itself the machine is off by more than {ROOM_PCT:g} %")
    elif clock == "wall time":
        notes.append(f"asked: no more than the upper end of A/A and {ROOM_PCT:g} %")
        bar = Bar("<=", round(most + ROOM_PCT, 2))
    return Figure(KEY, WHAT.format(clock), "%", bar, [float(one) for one in beside], notes)


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the slow-down by the wall clock and by CPU time, beside what blocks without a recording differ by."""
    repeats, block_s = (6, 0.1) if quick else (60, 0.25)
    load = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-m", "bench.training", str(repeats), str(block_s), str(native.stub_library())],
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(THREADS, "1")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    beside, alone = (np.array(json.loads(done.stdout)[name]) for name in ("beside", "alone"))
    where = (
        f"{repeats} quadruples of {block_s:g} s blocks, stub library; {len(cores())} cores, load average {load:.1f} "
        "before"
    )
    for column, clock in enumerate(("wall time", "CPU time of its own thread")):
        yield judged(clock, beside[:, column], alone[:, column], where)


if __name__ == "__main__":
    print(json.dumps(_take(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])))
