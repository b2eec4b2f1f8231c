# SPDX-License-Identifier: Apache-2.0
"""Code Carbon's tracker: counters that are read every interval, and a constant for memory.

It is started with a training and stopped at its end, and reads then and every `measure_power_secs` between: NVML's
energy counters, RAPL's packages, and for memory the rule of its version. Of a training it tells what the counters grew
by; of an epoch what its total grew by, which is as of the last reading.

Source: codecarbon 2.8.4 and 3.3.2, emissions_tracker.py (`_do_measurements`), external/hardware.py, external/ram.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.codecarbon import INTERVAL_S, Asked, Corrected, Uncaptured, correct
from powersample.experiments.reproduce.loads import GPUS, S
from powersample.experiments.reproduce.tools import Tools
from powersample.formats.codecarbon import CarbonRow, memory_rule_w

MEMORY_GIB = 2048.0  # the paper's 2 TB
VERSIONS = {"Code Carbon 2": "2.8.4", "Code Carbon 3": "3.3.2"}
PAPERS_S = 0.1  # the paper's interval
TRACKERS = {f"Code Carbon, {one:g} s": one for one in (INTERVAL_S, PAPERS_S)}  # by its default, and as the paper

Counts = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def readings_ns(begin_ns: int, end_ns: int, interval_s: float) -> NDArray[np.int64]:
    """Return when a tracker that runs from begin to end reads: at both, and every interval between."""
    every = np.arange(begin_ns, end_ns, round(interval_s * S), dtype=np.int64)
    return np.append(every, end_ns)


def epochs_j(
    counts: Counts, epochs: Sequence[tuple[int, int]], training: NDArray[np.int64], interval_s: float
) -> NDArray[np.float64]:
    """Return by how much a tracker's total grows over every epoch, J, shape (n,).

    Args:
        counts: What counters stand at, J, at instants.
        epochs: Begin and end of each, ns, rising.
        training: Number of the training that each is of, shape (n,), rising.
        interval_s: Between the tracker's readings.
    """
    edges, found = np.array(epochs, np.int64), []
    for number in np.unique(training):
        mine = edges[training == number]
        read_ns = readings_ns(int(mine[0, 0]), int(mine[-1, 1]), interval_s)
        total_j = counts(read_ns)
        last = np.searchsorted(read_ns, mine, "right") - 1
        found.append(np.diff(total_j[last]).ravel())
    return np.concatenate(found)


def memory_w(version: str) -> float:
    """Return what a version of Code Carbon takes for the memory of this node, W."""
    return memory_rule_w(int(version.partition(".")[0]), MEMORY_GIB, arm=False)


def raw(counted: Mapping[str, NDArray[np.float64]], seconds: NDArray[np.float64]) -> dict[str, list[Corrected]]:
    """Return the runs as each version of Code Carbon tells them: nothing is put right."""
    nothing = Uncaptured(0.0, {"none": 0.0}, "nothing", gpus=len(GPUS))
    found = {}
    for name, version in VERSIONS.items():
        rows = _rows(counted["cpu"], counted["gpu"], seconds, version)
        found[name] = [correct(row, nothing, Asked(cpu_mode="rapl", interval_s=PAPERS_S)) for row in rows]
    return found


def corrected(
    counted: Mapping[str, NDArray[np.float64]], seconds: NDArray[np.float64], added: Uncaptured, load: str
) -> list[Corrected]:
    """Return the runs with the paper's correction: memory as RAPL counts it, and what no counter sees."""
    asked = Asked(cpu_mode="rapl", interval_s=PAPERS_S, load=load)
    rows = _rows(counted["cpu"] + counted["dram"], counted["gpu"], seconds, VERSIONS["Code Carbon 3"])
    return [correct(row, added, asked) for row in rows]


def node_epochs_j(
    tools: Tools, epochs: Sequence[tuple[int, int]], training: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return what Code Carbon tells of every epoch of a whole node, J, by its version, at its own interval."""

    def total(ram_w: float) -> Counts:
        def counts(t_ns: NDArray[np.int64]) -> NDArray[np.float64]:
            grown = tools.components_j([(int(t_ns[0]), int(at_ns)) for at_ns in t_ns])
            return np.asarray(grown["cpu"] + grown["gpu"] + ram_w * (t_ns - t_ns[0]) / S)

        return counts

    return {
        name: epochs_j(total(memory_w(version)), epochs, training, INTERVAL_S) for name, version in VERSIONS.items()
    }


def _rows(
    cpu_j: NDArray[np.float64], gpu_j: NDArray[np.float64], seconds: NDArray[np.float64], version: str
) -> list[CarbonRow]:
    """Return the lines that Code Carbon writes of runs on this node, in machine mode, with RAPL and NVML."""
    ram_w = memory_w(version)
    return [
        CarbonRow(
            line=line,
            run_id="",
            end_ns=None,
            duration_s=float(one_s),
            version=version,
            cpu_j=float(cpu),
            gpu_j=float(gpu),
            ram_j=ram_w * float(one_s),
            total_j=float(cpu + gpu) + ram_w * float(one_s),
            power_w={},
            emissions_kg=None,
            pue=1.0,
            mode="machine",
            gpu_count=len(GPUS),
            gpu_model="",
            cpu_model="",
            ram_gib=MEMORY_GIB,
            arm=False,
        )
        for line, (cpu, gpu, one_s) in enumerate(zip(cpu_j, gpu_j, seconds, strict=True), 2)
    ]
