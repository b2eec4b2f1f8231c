# SPDX-License-Identifier: Apache-2.0
"""CPU time of one reading: the native lane against a process of nvidia-smi for each; and nvidia-smi's own loop.

NVIDIA's program on a simulated board, whose calls last no longer than the stand-in takes. What a real driver adds to
the start of a process (its initialisation is slow, and slower without persistence mode) is not in these figures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench import sustained
from bench.figure import Bar, Figure, spread
from bench.sustained import Board, Taken

KEY = "spawn"
PACED = "CPU time of a reading by a process of nvidia-smi over that of the native lane at 1 kHz"
TIGHT = "the same, both back to back"
LOOP = "interval between readings of `nvidia-smi -lms 10`"
PACED_HZ, LOOP_MS = 1000.0, 10
TIGHT_PASSES = 1 << 17


def _tight(board: Board) -> float:
    """Return the CPU time of a pass of the lane back to back, us; a pass reads all that the board has of power."""
    from powersample._native import api
    from powersample._native.api_nvml import Nvml

    with api.Sampler() as sampler:
        with Nvml(board.library) as nvml:
            options = api.LaneOptions(mode="tight", max_passes=TIGHT_PASSES, ring_records=1 << 21)
            sampler.add(nvml.source(0), options)
        sampler.start()
        while sampler.running:
            sustained.idle(0.01)
        sampler.stop()
        stats = sampler.stats(0)
    return float(stats["cpu_ns"]) / 1e3 / stats["passes"]


def _spawned(board: Board, period_s: float | None, seconds: float) -> Taken:
    from powersample.experiments.baselines import NvidiaSmiSpawn

    method = NvidiaSmiSpawn(environment=board.environment, period_s=period_s)
    return sustained.baseline(method, sustained.idle, seconds)


def _ratios(board: Board, repeats: int, seconds: float) -> Iterator[Figure]:
    spawned, lanes, free, tight = [], [], [], []
    for _ in range(repeats):
        spawned.append(_spawned(board, 1 / PACED_HZ, seconds))
        lanes.append(sustained.lane(board.library, PACED_HZ, sustained.idle, seconds))
        free.append(_spawned(board, None, seconds))
        tight.append(_tight(board))
    where = f"{repeats} runs of {seconds:g} s by turns, {board.what}, nvidia-smi is NVIDIA's own"
    theirs_us, ours_us = [one.cpu_us_each for one in spawned], [one.cpu_us_each for one in lanes]
    ratios = [theirs / ours for theirs, ours in zip(theirs_us, ours_us, strict=True)]
    notes = [
        where,
        f"quartiles {spread(ratios)}",
        f"{np.median(theirs_us):.0f} us against {np.median(ours_us):.1f} us, which are the wake-up",
        f"nvidia-smi came to {np.median([len(one) / one.seconds for one in spawned]):.0f} readings a second",
        f"A/A: neighbouring runs differ by {_noise(theirs_us)} (nvidia-smi) and {_noise(ours_us)} (native), median",
    ]
    yield Figure(KEY, PACED, "ratio", Bar(">=", 20), ratios, notes)
    theirs_us = [one.cpu_us_each for one in free]
    ratios = [theirs / ours for theirs, ours in zip(theirs_us, tight, strict=True)]
    notes = [
        where,
        f"quartiles {spread(ratios)}",
        f"{np.median(theirs_us):.0f} us against {np.median(tight) * 1e3:.0f} ns a pass, which reads the board's "
        "instant and average power",
        f"A/A: neighbouring runs differ by {_noise(theirs_us)} (nvidia-smi) and {_noise(tight)} (native), median",
    ]
    yield Figure(KEY, TIGHT, "ratio", Bar(">=", 5000), ratios, notes)


def _noise(values: list[float]) -> str:
    differing = np.abs(np.array(values[1:]) / np.array(values[:-1]) - 1)
    return f"{np.median(differing):.1%}" if len(differing) else "an unknown amount"


def _loop(board: Board, repeats: int, seconds: float) -> Figure:
    from powersample.experiments.baselines import NvidiaSmiLoop

    runs = []
    for _ in range(repeats):
        method = NvidiaSmiLoop(environment=board.environment, period_ms=LOOP_MS)
        runs.append(sustained.baseline(method, sustained.idle, seconds))
    means_ms = [float(one.gaps_us.mean()) / 1e3 for one in runs]
    gaps_ms = np.concatenate([one.gaps_us for one in runs]) / 1e3
    stalls = int((gaps_ms > 1.5 * LOOP_MS).sum())
    notes = [
        f"means of {repeats} runs of {seconds:g} s, {board.what}, nvidia-smi is NVIDIA's own",
        "it sleeps 10 ms after its work, and stamps whole ms",
        f"p99 of {len(gaps_ms)} intervals {np.percentile(gaps_ms, 99):.0f} ms; {stalls} longer than 15 ms, "
        f"the longest {gaps_ms.max():.0f} ms, which may be this machine's",
        f"CPU time of a reading {np.median([one.cpu_us_each for one in runs]):.0f} us",
    ]
    return Figure(KEY, LOOP, "ms", None, means_ms, notes)


def figures(quick: bool) -> Iterator[Figure]:
    """Yield both ratios, and what nvidia-smi's own loop comes to."""
    from powersample.errors import NotSupported

    repeats, seconds = (2, 0.5) if quick else (5, 2.0)
    bars = ((PACED, "ratio", Bar(">=", 20)), (TIGHT, "ratio", Bar(">=", 5000)), (LOOP, "ms", None))
    with sustained.simulated_board() as board:
        try:
            yield from _ratios(board, repeats, seconds)
            yield _loop(board, repeats, seconds)
        except NotSupported as error:
            for what, unit, bar in bars:
                yield Figure(KEY, what, unit, bar, skipped=str(error))
