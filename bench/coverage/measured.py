# SPDX-License-Identifier: Apache-2.0
"""Published traces of real boards beside a wired meter: truths for simulated sensors, and the real deck.

They lie in ../shared/data/measured (JimZeyuYang/GPU_Power_Benchmark, MIT), which a clone of this repository may lack.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import channel_energy
from powersample.model import RunTable, Trace, Window
from powersample.readers import read

MS = 1_000_000
S = 1000 * MS
FOLDER = Path(__file__).parents[3] / "shared/data/measured/gpu_power_benchmark"
BOARDS = {"square_3090": "NVIDIA GeForce RTX 3090", "step_a100": "NVIDIA A100-PCIE-40GB"}
DRIVER = "535.54.03"
EARLY_NS = 50 * MS  # the meter began before its stamp, as the publishers found; the A100's step agrees to 5 ms
AHEAD_NS = 3600 * S - EARLY_NS  # of the log, in local time, against the meter as read
METER_RATE_W = 8  # a mean of so many readings is a step of the truth: 1.7 ms
MARKS_S = {"square_3090": (1.05, 9.02)}  # of the meter's record: the load alone; the other is taken whole


def there() -> bool:
    """Whether the traces are here."""
    return all((FOLDER / name / "PMD_data.bin").exists() for name in BOARDS)


@cache
def meter(name: str) -> Trace:
    """Return the wired meter's record, channel "pmd.power"."""
    return _trace(read(FOLDER / name / "PMD_data.bin"))


@cache
def log(name: str) -> Trace:
    """Return the same run as nvidia-smi saw it, in its own clock."""
    return _trace(read(FOLDER / name / "gpudata.csv", gpu=BOARDS[name], driver=DRIVER))


def _trace(found: Trace | RunTable) -> Trace:
    if not isinstance(found, Trace):
        raise TypeError(f"a trace, not {type(found).__name__}")
    return found


@cache
def shape(name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a metered load as steps: begins from 0 on and the end, ns, and powers scaled to 0 .. 1."""
    series = meter(name).series("pmd.power")
    t_ns, watts = series.t_ns - series.t_ns[0], series.value
    if name in MARKS_S:
        first, last = (round(one * S) for one in MARKS_S[name])
        inside = (t_ns >= first) & (t_ns < last)
        t_ns, watts = t_ns[inside] - first, watts[inside]
    whole = len(t_ns) // METER_RATE_W * METER_RATE_W
    watts = watts[:whole].reshape(-1, METER_RATE_W).mean(axis=1)
    begins = np.append(t_ns[:whole:METER_RATE_W], t_ns[-1])
    return begins, (watts - watts.min()) / (watts.max() - watts.min())


def edges_ns(name: str) -> NDArray[np.int64]:
    """Return the load's edges, in the meter's clock."""
    stamps = np.loadtxt(FOLDER / name / "timestamps.csv", np.int64, skiprows=1)
    return np.unique(stamps) * 1000 + EARLY_NS


def windows(name: str, count: int, seed: int) -> list[tuple[Window, Window, float]]:
    """Return windows of 50 ms to the record's length: in the meter's clock, in the log's, and their metered energy.

    Half of them begin at an edge of the load, and end at one if that leaves them 50 ms.
    """
    dice = random.Random(f"{name} {seed}")
    trace, edges = meter(name), edges_ns(name)
    begin, over = int(trace.start_ns or 0) + 10 * MS, int(trace.end_ns or 0) - 10 * MS
    edges = edges[(edges > begin) & (edges < over - 50 * MS)]
    found = []
    for i in range(count):
        length = round(0.05 * S * ((over - begin) / S / 0.05) ** dice.random())
        start = begin + round(dice.random() * (over - begin - length))
        if i % 2:
            start = int(dice.choice(list(edges)))
            end = int(edges[np.argmin(np.abs(edges - (start + length)))])
            length = end - start if end - start >= 50 * MS else min(length, over - start)
        window = Window(f"{name} {i}", start, start + length)
        joules = channel_energy(trace, "pmd.power", window).joules
        if joules is None:
            raise RuntimeError(f"the meter of {name} does not tell of {window}")
        found.append((window, Window(window.name, start + AHEAD_NS, start + length + AHEAD_NS), joules))
    return found
