# SPDX-License-Identifier: Apache-2.0
"""Experiments 2a and 2b: what the whole node took, by Code Carbon, by the paper's corrections of it, and by models.

Code Carbon measures GPUs and CPUs and takes a constant for memory. The paper puts the power that no counter sees in its
place: between the idle node's and that under a stress load, or that of the load which the run is like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.codecarbon import Asked, Corrected, Uncaptured, correct
from powersample.experiments.reproduce.loads import GPUS, S, climb, coarse, fresh, rungs, spans, train
from powersample.experiments.reproduce.tools import Tools
from powersample.fit.calibrate import calibrate
from powersample.formats.codecarbon import CarbonRow, memory_rule_w
from powersample.model import Calibration, OperatingPoint

RUNS = 20  # the paper's
EPOCHS = 4
LENGTHS_S = (15.0, 60.0)  # assumed: so long that fans follow
MEMORY_GIB = 2048.0  # the paper's 2 TB
VERSIONS = {"Code Carbon 2": "2.8.4", "Code Carbon 3": "3.3.2"}
IDLE, PRIMES, STRESS = "idle", "primes", "mix"  # a mix of registers and memory stands for the paper's Firestarter
LOW, HIGH, PRIOR = "lower bound", "upper bound", "load known"
AFFINE, NODE = "affine", "node model"
BIN_S = 1.0  # models are evaluated second by second: the power at the plug is no function of a run's mean


@dataclass(frozen=True, slots=True)
class Holistic:
    """What became of some trainings on one node.

    Attributes:
        gpus: On how many of them each ran.
        wall_w: Mean power at the plug of each training, by the meter, W, shape (n,).
        error_pct: Error of each training's energy against the meter, %, by what told it; shape (n,) each.
        offset_w: Mean and standard deviation of what Code Carbon tells less than the meter, W, by version.
        usage_w: Least and greatest mean power of a training on one GPU, W, as the boards' counters tell.
        limit_w: A board's limit, and what it draws idle, W.
    """

    gpus: int
    wall_w: NDArray[np.float64]
    error_pct: Mapping[str, NDArray[np.float64]]
    offset_w: Mapping[str, tuple[float, float]]
    usage_w: tuple[float, float]
    limit_w: tuple[float, float]


def calibrated(profile: str, node_seed: int | None, seed: int) -> Calibration:
    """Climb the ladder on one node by what its counters and its meter tell, and fit.

    Args:
        profile: The node's.
        node_seed: Which node of that kind.
        seed: Of the rungs' order and the meter's noise.
    """
    with fresh(profile, node_seed) as node:
        asked = rungs(seed)
        held = climb(node, asked)
        tools = Tools(node, seed)
        wall_w = tools.wall_j(held) / tools.seconds(held)
        components_w = {group: each / tools.seconds(held) for group, each in tools.components_j(held).items()}
        accuracy_w = tools.accuracy_w(wall_w)
        noise_w = tools.noise_w(tools.seconds(held))
    points = [
        OperatingPoint(
            rung.name,
            rung.kernel,
            rung.level,
            {group: float(each[place]) for group, each in components_w.items()},
            dict.fromkeys(components_w, 0.0),
            float(wall_w[place]),
            float(noise_w[place]),
            accuracy_w=float(accuracy_w[place]),
            duration_s=float(tools.seconds(held)[place]),
        )
        for place, rung in enumerate(asked)
    ]
    return calibrate(points)


def uncaptured_w(calibration: Calibration, load: str) -> float:
    """Return P_idle, or P_busy under a load, W; NaN where it was not found."""
    watts = calibration.p_idle_w if load == IDLE else calibration.p_busy_w.get(load, (None, None))[0]
    return float("nan") if watts is None else watts


def holistic(
    profile: str, node_seed: int | None, calibration: Calibration, *, gpus: int, seed: int, runs: int = RUNS
) -> Holistic:
    """Let all ways tell the energy of the same trainings.

    Args:
        profile: The node's.
        node_seed: Which node of that kind.
        calibration: Of that node.
        gpus: Each training runs on so many.
        seed: Of the trainings and the meter's noise.
        runs: How many trainings.
    """
    epochs = coarse(runs, EPOCHS, seed=seed, lengths_s=LENGTHS_S)
    with fresh(profile, node_seed) as node:
        start_ns = train(node, epochs, gpus=gpus, seed=seed)
        asked = [(start_ns + round(a_s * S), start_ns + round(b_s * S)) for a_s, b_s in spans(epochs)]
        tools = Tools(node, seed)
        seconds, wall_j = tools.seconds(asked), tools.wall_j(asked)
        counted = tools.components_j(asked)
        modelled = _modelled_j(tools, asked, calibration)
        boards_w = np.array([tools.nvml_j(asked, gpu) for gpu in range(gpus)]) / seconds
        limit_w = float(node.profile["board.max_w"]), float(node.profile["board.idle_w"])
    corrected = _corrected(counted, seconds, calibration)
    told = {
        **{name: np.array([one.raw_j for one in rows], np.float64) for name, rows in _raw(counted, seconds).items()},
        LOW: np.array([one.low_j for one in corrected], np.float64),
        HIGH: np.array([one.high_j for one in corrected], np.float64),
        PRIOR: np.array([one.load_j for one in corrected], np.float64),
        **modelled,
    }
    short_w = {name: (wall_j - told[name]) / seconds for name in VERSIONS}
    return Holistic(
        gpus=gpus,
        wall_w=wall_j / seconds,
        error_pct={name: 100 * (joules / wall_j - 1) for name, joules in told.items()},
        offset_w={name: (float(each.mean()), float(each.std(ddof=1))) for name, each in short_w.items()},
        usage_w=(float(boards_w.min()), float(boards_w.max())),
        limit_w=limit_w,
    )


def _raw(counted: Mapping[str, NDArray[np.float64]], seconds: NDArray[np.float64]) -> dict[str, list[Corrected]]:
    """Return the runs as each version of Code Carbon tells them: nothing is put right."""
    nothing = Uncaptured(0.0, {"none": 0.0}, "nothing", gpus=len(GPUS))
    found = {}
    for name, version in VERSIONS.items():
        rows = _rows(counted["cpu"], counted["gpu"], seconds, version)
        found[name] = [correct(row, nothing, Asked(cpu_mode="rapl", interval_s=0.1)) for row in rows]
    return found


def _corrected(
    counted: Mapping[str, NDArray[np.float64]], seconds: NDArray[np.float64], calibration: Calibration
) -> list[Corrected]:
    """Return the runs with the paper's correction: memory as RAPL counts it, and what no counter sees."""
    added = Uncaptured(
        uncaptured_w(calibration, IDLE),
        {name: uncaptured_w(calibration, name) for name in (PRIMES, STRESS)},
        "the ladder on the same simulated node",
        memory="rapl",
        gpus=len(GPUS),
    )
    asked = Asked(cpu_mode="rapl", interval_s=0.1, load=PRIMES)
    rows = _rows(counted["cpu"] + counted["dram"], counted["gpu"], seconds, VERSIONS["Code Carbon 3"])
    return [correct(row, added, asked) for row in rows]


def _rows(
    cpu_j: NDArray[np.float64], gpu_j: NDArray[np.float64], seconds: NDArray[np.float64], version: str
) -> list[CarbonRow]:
    """Return the lines that Code Carbon writes of runs on this node, in machine mode, with RAPL and NVML."""
    ram_w = memory_rule_w(int(version.partition(".")[0]), MEMORY_GIB, arm=False)
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


def _modelled_j(
    tools: Tools, asked: Sequence[tuple[int, int]], calibration: Calibration
) -> dict[str, NDArray[np.float64]]:
    """Return what the fitted models make of the components' powers, second by second, J."""
    models = {AFFINE: calibration.affine, NODE: calibration.node}
    found: dict[str, list[float]] = {name: [] for name, model in models.items() if model is not None}
    for a_ns, b_ns in asked:
        edges = np.linspace(a_ns, b_ns, max(1, round((b_ns - a_ns) / S / BIN_S)) + 1).astype(np.int64).tolist()
        bins = list(pairwise(edges))
        bin_s = tools.seconds(bins)
        powers_w = {group: joules / bin_s for group, joules in tools.components_j(bins).items()}
        for name, model in models.items():
            if model is not None:
                found[name].append(float(model.predict(powers_w)[0] @ bin_s))
    return {name: np.array(each) for name, each in found.items()}
