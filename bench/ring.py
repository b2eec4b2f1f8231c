# SPDX-License-Identifier: Apache-2.0
"""The ring: what a push and a drained record cost, and whether it ever loses count."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np

from bench import native
from bench.figure import Bar, Figure, spread

BATCH = 10_000
RING_RECORDS = 1 << 17
CACHED_RECORDS = 1 << 15


def _drains_through_numpy(cpu: int, count: int) -> list[float]:
    """Return ns a record of `Sampler.drain` into a preallocated array, for each of `count` batches.

    Args:
        cpu: where the lane fills the ring.
        count: of batches.
    """
    from powersample._native import api
    from powersample.model import SAMPLE_DTYPE

    script = api.Script(steps=((0, 0, 0, 100_000, 1, 0),))
    options = api.LaneOptions(mode="virtual", rate_hz=1000.0, ring_records=CACHED_RECORDS, cpu=cpu)
    out = np.ones(BATCH, SAMPLE_DTYPE)  # ones, not zeros: its pages are there
    times_ns: list[float] = []
    with api.Sampler() as sampler:
        sampler.add(api.scripted_source("bench", script), options)
        sampler.start()
        for batch in range(count):
            while sampler.stats(0)["in_ring"] < CACHED_RECORDS:  # then the lane sleeps, waiting for room
                time.sleep(0.0002)
            begin_ns = time.perf_counter_ns()
            drained = sampler.drain(0, out)
            times_ns.append((time.perf_counter_ns() - begin_ns) / BATCH)
            if drained != BATCH or int(out["raw"][0]) != 100_000 + batch * BATCH:
                raise RuntimeError("the ring gave other records than it was given")
        sampler.stop()
    return times_ns


def figures(quick: bool) -> Iterator[Figure]:
    """Yield push, drain in C, drain through cffi, and the accounting."""
    rounds = 5 if quick else 101
    push, drain = np.array(native.rows("ring_cost", BATCH, rounds + 2))[2:].T  # the first touch every page
    yield Figure("ring", "ring push", "ns", Bar("<=", 8), list(push), [f"quartiles {spread(push)}"])
    where = f"batches of {BATCH}, ring of {RING_RECORDS} records (4 MiB)"
    yield Figure("ring", "drain in C, a record", "ns", Bar("<=", 2), list(drain), [where, f"quartiles {spread(drain)}"])
    count = 50 if quick else 401
    allowed = os.sched_getaffinity(0)
    cpu, other_cpu = min(allowed), max(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        same = _drains_through_numpy(cpu, count)
        other = _drains_through_numpy(other_cpu, count) if other_cpu != cpu else []
    finally:
        os.sched_setaffinity(0, allowed)
    cached = f"batches of {BATCH}, ring of {CACHED_RECORDS} records (1 MiB)"
    yield Figure(
        "ring",
        "drain into a numpy array through cffi, a record",
        "ns",
        Bar("<=", 2),
        same,
        [cached, "filled by the same core", f"quartiles {spread(same)}"],
    )
    yield Figure(
        "ring",
        "the same, filled by another core",
        "ns",
        None,
        other,
        ["the records have to come over from that core's cache"],
        skipped=None if other else "there is one core only",
    )
    pushes, drained, dropped, holes, torn, seconds = native.rows("ring_exact", 10_000_000 if quick else 200_000_000)[0]
    wrong = abs(pushes - drained - dropped) + abs(holes - dropped) + torn
    yield Figure(
        "ring",
        "records lost count of, torn or out of order",
        "records",
        Bar("<=", 0),
        [wrong],
        [
            f"{pushes:.0f} pushes in {seconds:.1f} s beside a consumer, ring of 1024: "
            f"{drained:.0f} drained, {dropped:.0f} dropped and counted",
            "64-bit counters wrap on the way",
        ],
    )
