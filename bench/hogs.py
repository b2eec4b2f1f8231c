# SPDX-License-Identifier: Apache-2.0
"""Sampling at 10 kHz while a busy loop wants every core: under SCHED_FIFO and in the ordinary class, by turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import load, native
from bench.figure import Bar, Figure, spread

RATE_HZ = 10_000.0
PRIORITY = 10


def _uncounted(stats: dict[str, Any], t0_ns: NDArray[np.int64]) -> int:
    """Return by how many slots the lane's account differs from what its records say of its grid."""
    slot = (t0_ns - stats["start_ns"]) // stats["period_ns"]
    passed_over = int(slot[0]) + int((np.diff(slot) - 1).sum())
    at_the_end = stats["slots"] - int(slot[-1]) - 1  # due before the stop, and had no chance
    doubled = int((np.diff(slot) < 1).sum())
    short = stats["slots"] - stats["passes"] - stats["skipped"]
    wrong = stats["skipped"] - passed_over - at_the_end
    return abs(short) + abs(wrong) + abs(stats["passes"] - len(t0_ns)) + doubled + max(0, -at_the_end)


def _run(fifo: int | None, seconds: float) -> tuple[float, int, dict[str, Any]]:
    """Return the share of slots served, the slots miscounted, and the lane's statistics."""
    from powersample._native import api
    from powersample._native.api_nvml import Nvml
    from powersample.model import SAMPLE_DTYPE

    with api.Sampler() as sampler:
        with Nvml(native.stub_library()) as nvml:
            sampler.add(nvml.source(0), api.LaneOptions(rate_hz=RATE_HZ, fifo=fifo))
        with load.hogs():
            sampler.start()
            time.sleep(seconds)
            sampler.stop()
        samples = np.zeros(1 << 17, SAMPLE_DTYPE)
        samples = samples[: sampler.drain(0, samples)]
        stats = sampler.stats(0)
    return stats["passes"] / stats["slots"], _uncounted(stats, samples["t0_ns"]), stats


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the shares of slots served and the slots that nobody accounts for."""
    repeats, seconds = (2, 0.5) if quick else (5, 2.0)
    shares: dict[int | None, list[float]] = {PRIORITY: [], None: []}
    miscounted: list[float] = []
    refused = None
    for _ in range(repeats):
        for fifo, mine in shares.items():
            share, wrong, stats = _run(fifo, seconds)
            miscounted.append(float(wrong))
            if fifo and not stats["fifo_priority"]:
                refused = f"SCHED_FIFO is not for this user (errno {stats['fifo_errno']})"
            else:
                mine.append(share)
    where = f"{repeats} runs of {seconds:g} s by turns, a busy loop on each of {len(load.cores())} cores, stub library"
    what = "slots served at 10 kHz beside busy loops on all cores, {}"
    for fifo, name, bar in ((PRIORITY, "SCHED_FIFO", Bar(">=", 0.99)), (None, "ordinary class", None)):
        if shares[fifo]:
            notes = [where, f"quartiles {spread(shares[fifo])}"]
            yield Figure("hogs", what.format(name), "share", bar, shares[fifo], notes)
        else:
            yield Figure("hogs", what.format(name), "share", bar, skipped=refused)
    notes = [where, "slots == passes + skipped, and skipped by the records' own times on the grid"]
    yield Figure("hogs", "slots of those runs that are miscounted", "slots", Bar("<=", 0), miscounted, notes)
