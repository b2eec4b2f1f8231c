# SPDX-License-Identifier: Apache-2.0
"""Loads: the level reached by CPU time, whether every edge is logged, how late edges are, how long rounds last."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import load
from bench.figure import Bar, Figure, spread
from powersample import loads

KERNELS = ("primes", "fma", "stream", "mix")
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)
BESIDE_HOGS = 0.25
ROUND_US = 50.0
QUIET = 0.05  # of the CPUs' time that others may take: a level of 0.9 leaves twice as much
TRIES = 4
TICKS_HZ = 100.0


def _all_s() -> float:
    """Return the CPU time that all programs have used so far: user, nice, system, interrupts, and what a host took."""
    cells = [int(cell) for cell in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]]
    return (sum(cells) - cells[3] - cells[4]) / TICKS_HZ  # idle and waiting for disks


def _own_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _ladder(kernel: str, levels: tuple[float, ...], hold_s: float) -> tuple[list[float], float]:
    """Return by how many percentage points each level was missed, and the share of the CPUs that others took."""
    all_s, own_s, began_s = _all_s(), _own_s(), time.monotonic()
    log = loads.run(loads.ladder(levels, hold_s), kernel=kernel)
    others_s = _all_s() - all_s - (_own_s() - own_s)
    share = others_s / (time.monotonic() - began_s) / len(loads.allowed())
    return [100 * abs(one.duty - one.level) for one in log.reached], share


def _quiet(kernel: str, levels: tuple[float, ...], hold_s: float, repeats: int) -> tuple[list[list[float]], str]:
    """Return what was missed in the repeats in which others left the CPUs alone, and how many there were."""
    rows: list[list[float]] = []
    shares = []
    while len(rows) < repeats and len(shares) < TRIES * repeats:
        missed, share = _ladder(kernel, levels, hold_s)
        shares.append(share)
        if share <= QUIET:
            rows.append(missed)
    told = f"{len(rows)} of {len(shares)} runs, those in which others took at most {QUIET:.0%} of the CPUs"
    return rows, f"{told} (median {np.median(shares):.0%})"


def _duty(repeats: int, hold_s: float) -> Iterator[Figure]:
    where = f"{len(loads.allowed())} threads, each pinned; slices of 100 ms; each level for {hold_s:g} s"
    for kernel in KERNELS:
        rows, runs = _quiet(kernel, LEVELS, hold_s, repeats)
        what = f"worst miss of the levels {LEVELS[0]:g} to {LEVELS[-1]:g} by CPU time, {kernel}"
        if not rows:
            yield Figure("stress", what, "points", Bar("<=", 1), skipped=f"no CPU to itself: {runs}")
            continue
        levels = ", ".join(f"{level:g} {miss:.2g}" for level, miss in zip(LEVELS, np.median(rows, axis=0), strict=True))
        notes = [where, runs, f"medians by level: {levels}"]
        yield Figure("stress", what, "points", Bar("<=", 1), [max(row) for row in rows], notes)
    full = [(row[0], runs) for one in KERNELS for rows, runs in [_quiet(one, (1.0,), hold_s, repeats)] for row in rows]
    notes = [where, "all kernels; what others take of a CPU at full level cannot be made up for"]
    skipped = None if full else "no CPU to itself"
    yield Figure("stress", "miss of level 1 by CPU time", "points", None, [one for one, _ in full], notes, skipped)
    with load.hogs() as count:
        beside = [_ladder("primes", (BESIDE_HOGS,), 2 * hold_s)[0][0] for _ in range(repeats)]
    what = f"miss of level {BESIDE_HOGS:g} by CPU time beside busy loops on all cores, primes"
    yield Figure("stress", what, "points", None, beside, [f"{count} busy loops, ordinary class", where])


def _edges(seconds: float) -> Iterator[Figure]:
    pattern = loads.prbs(seconds, chip_s=0.02)
    log = loads.run(pattern)
    bursts = len(pattern.edge_s) // 2 * len(loads.allowed())
    lost = bursts - len(log) - log.missed
    notes = [f"{bursts} bursts of {pattern.name} on all CPUs", f"{log.missed} came to nothing and are counted"]
    yield Figure("stress", "bursts neither logged nor counted as missed", "bursts", Bar("<=", 0), [lost], notes)

    pattern = loads.random_edges(seconds, seed=1)
    log = loads.run(pattern, cpus=loads.allowed()[-1:])
    ends_ns = np.array([one.end_ns for one in log.reached])
    for name, late_ns in (("rises", log.late_ns), ("falls", log.fall_ns - ends_ns[log.step])):
        late_us = late_ns * 1e-3
        notes = [f"one pinned thread, {pattern.name}, asleep between", f"p99 {np.percentile(late_us, 99):.3g} us"]
        yield Figure("stress", f"how late after its plan a burst {name}", "us", None, late_us.tolist(), notes)


def _rounds(seconds: float) -> Iterator[Figure]:
    from powersample._native.api_load import Load

    cpus = loads.allowed()
    for kernel in KERNELS:
        edges = np.arange(2 * round(seconds / 0.02), dtype=np.int64) * 10_000_000
        with Load(edges, kernel=kernel, threads=len(cpus), cpus=cpus) as one:
            one.prepare()
            one.start(time.monotonic_ns() + 10_000_000)
            while not one.wait(1.0):
                pass
            log = one.log()
        each_us = log.bursts["cpu_ns"] / log.bursts["rounds"] * 1e-3
        notes = [f"CPU time of bursts of 10 ms over their rounds, {len(cpus)} threads", f"quartiles {spread(each_us)}"]
        if log.stream_bytes:
            notes.append(f"arrays of {log.stream_bytes >> 20} MiB")
        what = f"a round between two looks at the clock, {kernel} {log.vectors if kernel == 'fma' else ''}".strip()
        yield Figure("stress", what, "us", Bar("<=", ROUND_US), each_us.tolist(), notes)


def figures(quick: bool) -> Iterator[Figure]:
    """Yield what levels, edges and rounds of the native loads came to on this machine."""
    yield from _duty(1 if quick else 3, 0.3 if quick else 1.0)
    yield from _edges(2.0 if quick else 30.0)
    yield from _rounds(0.1 if quick else 1.0)
