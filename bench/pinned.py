# SPDX-License-Identifier: Apache-2.0
"""A workload on one core beside a 1 kHz sampler on another: is it any slower than beside nothing?

Blocks of three kinds in random order: beside the sampler, beside nothing, and once more beside nothing (A/A), which
says what the machine does by itself.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import load, native
from bench.figure import Bar, Figure
from powersample.experiments.race.slowdown import median_interval

RATE_HZ = 1000.0
BLOCK_NS = 150_000_000
WHAT = "slowdown by a 1 kHz sampler on another core, upper end of its interval over that of A/A"


class _Work:
    """The workload's process."""

    def __init__(self, core: int) -> None:
        command = [str(native.program("float_work")), str(core)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._rounds = 1_000_000
        self._rounds = max(1, round(self._rounds * BLOCK_NS / min(self.block() for _ in range(3))))

    def block(self) -> int:
        """Work through one block; return the ns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._rounds}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _beside_a_lane(work: _Work, core: int) -> tuple[int, dict[str, Any]]:
    from powersample._native import api
    from powersample._native.api_nvml import Nvml

    with api.Sampler() as sampler:
        with Nvml(native.stub_library()) as nvml:
            sampler.add(nvml.source(0), api.LaneOptions(rate_hz=RATE_HZ, cpu=core))
        sampler.start()
        took_ns = work.block()
        sampler.stop()
        return took_ns, sampler.stats(0)


def _told(pct: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval."""
    interval = median_interval(pct)
    assert interval is not None  # there are 6 at the least
    return float(np.median(pct)), *interval


def figures(quick: bool) -> Iterator[Figure]:
    """Yield how far the slowdown's upper end lies above that of A/A."""
    bar = Bar("<=", 1.0)
    cores = load.cores()
    if len(cores) < 2:
        yield Figure("pinned", WHAT, "%", bar, skipped="there is only one core")
        return
    triples = 6 if quick else 40
    dice, before = random.Random(1), os.sched_getaffinity(0)
    work = _Work(cores[0])
    os.sched_setaffinity(0, {cores[1]})  # nothing of ours runs on the workload's core
    took: dict[str, list[int]] = {"lane": [], "nothing": [], "again": []}
    shares = []
    try:
        for _ in range(triples):
            for kind in dice.sample(sorted(took), 3):
                if kind == "lane":
                    took_ns, stats = _beside_a_lane(work, cores[1])
                    shares.append(stats["passes"] / stats["slots"])
                else:
                    took_ns = work.block()
                took[kind].append(took_ns)
    finally:
        os.sched_setaffinity(0, before)
        work.close()
    base = np.array(took["nothing"], np.float64)
    slow, slow_low, slow_high = _told(100 * (np.array(took["lane"]) / base - 1))
    same, same_low, same_high = _told(100 * (np.array(took["again"]) / base - 1))
    notes = [
        f"{triples} blocks of 0.15 s of each kind in random order, float loop on one core, stub library",
        f"slowdown {slow:+.2f} % [{slow_low:+.2f}, {slow_high:+.2f}]",
        f"A/A {same:+.2f} % [{same_low:+.2f}, {same_high:+.2f}]",
        f"medians and 95 % bootstrap intervals; the sampler served {np.median(shares):.3f} of its slots",
    ]
    yield Figure("pinned", WHAT, "%", bar, [slow_high - same_high], notes)
