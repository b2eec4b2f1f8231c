# SPDX-License-Identifier: Apache-2.0
"""Ten million readings analysed: pace, quality, and energies with their intervals and verdicts; time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from bench.figure import Bar, Figure, spread

SAMPLES, WINDOWS = 10_000_000, 100
# One process a run: its peak is its own. Readings at 1 kHz of a part-time sensor that publishes each 100 ms, some late.
ANALYSE = """
import json, resource, sys, time
import numpy as np
from powersample.analysis import pace, quality
from powersample.analysis.energy import channel_energies
from powersample.analysis.told import rated
from powersample.model import Channel, Kind, Series, Trace, Window

count, windows = int(sys.argv[1]), int(sys.argv[2])
dice = np.random.default_rng(1)
t_ns = np.arange(count, dtype=np.int64) * 1_000_000 + dice.integers(0, 200_000, count)
t_ns[dice.integers(0, count, count // 10_000)] += 400_000
raw = dice.integers(60_000, 300_000, count // 100 + 2)[(t_ns + 37_000_000) // 100_000_000]
name = "gpu0.power.instant"
channel = Channel(name, "GPU-X", "gpu", Kind.POWER, "W", 1e-3, stamp="bracket", sensor="nvml.field.186")
status, seq = np.zeros(count, np.uint16), np.arange(count, dtype=np.uint32)
status[dice.integers(0, count, count // 10_000)] = 999
board = {"uuid": "GPU-X", "name": "NVIDIA H100 PCIe", "architecture": "hopper"}
series = Series(channel, t_ns, t_ns + 20_000, raw, status, seq)
trace = Trace.of([series], meta={"devices": [board], "driver": "535.247.01"})
spans = [Window(str(i), 1_000_000 * count * i // windows + 10**9, 1_000_000 * count * (i + 1) // windows - 10**9)
         for i in range(windows)]
held_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
begin_s = time.perf_counter()
seen, worth = pace(trace, name), quality(trace, name)
energies = [rated(told, span) for told, span in zip(channel_energies(trace, name, spans), spans)]
seconds = time.perf_counter() - begin_s
assert worth.polls == count and all(one.verdict in ("good", "fair", "poor") for one in energies), energies[0]
print(json.dumps({"s": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "held_mb": held_mb}))
"""


def _run(samples: int) -> dict[str, float]:
    command = [sys.executable, "-c", ANALYSE, str(samples), str(WINDOWS)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def figures(quick: bool) -> Iterator[Figure]:
    """Yield time and memory of ten million readings, and how time grows with their number."""
    runs = [_run(SAMPLES) for _ in range(1 if quick else 5)]
    fewer = [_run(SAMPLES // 10)["s"] for _ in range(1 if quick else 5)]
    seconds = [one["s"] for one in runs]
    notes = [f"pace, quality and {WINDOWS} windows of one channel held in memory; quartiles {spread(seconds)}"]
    what = "10 M readings: pace, gaps, energies, intervals, verdicts"
    yield Figure("analysis", what, "s", Bar("<=", 3.0), seconds, notes)
    held = f"of them {runs[0]['held_mb']:.0f} before the analysis began: the readings themselves and their making"
    yield Figure("analysis", "peak of that process", "MB", Bar("<=", 1500), [one["mb"] for one in runs], [held])
    growth = [ten / one for ten, one in zip(seconds, fewer, strict=True)]
    yield Figure("analysis", "time of 10 M over time of 1 M", "ratio", Bar("<=", 12), growth, ["10 is linear"])
