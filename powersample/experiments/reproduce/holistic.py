# SPDX-License-Identifier: Apache-2.0
"""Experiments 2a and 2b: what the whole node took, by Code Carbon, by the paper's corrections of it, and by models.

Code Carbon measures GPUs and CPUs and takes a constant for memory. The paper puts the power that no counter sees in its
place: between the idle node's and that under a stress load, or that of the load which the run is like. The models are
evaluated as `report` does it, with their intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import window_energies
from powersample.analysis.agreement_table import AgreementRow, agreement_rows, spans_of
from powersample.analysis.codecarbon import Uncaptured
from powersample.analysis.holistic import WALL, WallEnergy, holistics, judge_of
from powersample.experiments.reproduce import carbon
from powersample.experiments.reproduce.loads import GPUS, S, climb, coarse, fresh, rungs, spans, train
from powersample.experiments.reproduce.recorded import recorded
from powersample.experiments.reproduce.tools import Tools
from powersample.fit.calibrate import calibrate
from powersample.model import Calibration, OperatingPoint, Window, simulated_key
from powersample.sim import Node

RUNS = 20  # the paper's
EPOCHS = 4
LENGTHS_S = (15.0, 60.0)  # assumed: so long that fans follow
IDLE, PRIMES, STRESS = "idle", "primes", "mix"  # a mix of registers and memory stands for the paper's Firestarter
LOW, HIGH, PRIOR = "lower bound", "upper bound", "load known"
AFFINE, NODE = "affine", "node model"
MODELS = {AFFINE: "affine", NODE: "node"}  # as a calibration calls them
NATIVE = "powersample"
POLL_S = 0.1  # between polls of the counters, as by `record`


@dataclass(frozen=True, slots=True)
class Holistic:
    """What became of some trainings on one node.

    Attributes:
        gpus: On how many of them each ran.
        wall_w: Mean power at the plug of each training, by the meter, W, shape (n,).
        error_pct: Error of each training's energy against the meter, %, by what told it; shape (n,) each.
        held_share: Share of the trainings whose exact energy lies between both bounds (`HIGH`), or within a model's
            interval; None where there is none.
        agreement: Against the meter, of epochs and trainings, by what told them.
        offset_w: Mean and standard deviation of what Code Carbon tells less than the meter, W, by version.
        usage_w: Least and greatest mean power of a training on one GPU, W, as the boards' counters tell.
        limit_w: A board's limit, and what it draws idle, W.
    """

    gpus: int
    wall_w: NDArray[np.float64]
    error_pct: Mapping[str, NDArray[np.float64]]
    held_share: Mapping[str, float | None]
    agreement: tuple[AgreementRow, ...]
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
        tools, key = Tools(node, seed), simulated_key(node.describe())
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
    return calibrate(points, simulated=key)


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
    number = np.array([one.training for one in epochs])
    with fresh(profile, node_seed) as node:
        start_ns = train(node, epochs, gpus=gpus, seed=seed)
        asked = [(start_ns + round(a_s * S), start_ns + round(b_s * S)) for a_s, b_s in spans(epochs)]
        inner = [(start_ns + round(one.begin_s * S), start_ns + round(one.end_s * S)) for one in epochs]
        tools = Tools(node, seed)
        seconds, wall_j = tools.seconds(asked), tools.wall_j(asked)
        truth_j = np.array([node.truth_j(WALL, *one) for one in asked])
        counted = tools.components_j(asked)
        modelled, of_epochs = _modelled(node, asked, inner, calibration)
        inner_s, inner_wall_j = tools.seconds(inner), tools.wall_j(inner)
        carbon_j = carbon.node_epochs_j(tools, inner, number)
        boards_w = np.array([tools.nvml_j(asked, gpu) for gpu in range(gpus)]) / seconds
        limit_w = float(node.profile["board.max_w"]), float(node.profile["board.idle_w"])
    added = Uncaptured(
        uncaptured_w(calibration, IDLE),
        {name: uncaptured_w(calibration, name) for name in (PRIMES, STRESS)},
        "the ladder on the same simulated node",
        memory="rapl",
        gpus=len(GPUS),
    )
    corrected = carbon.corrected(counted, seconds, added, PRIMES)
    told = {
        **{name: np.array([one.raw_j for one in rows]) for name, rows in carbon.raw(counted, seconds).items()},
        LOW: np.array([one.low_j for one in corrected], np.float64),
        HIGH: np.array([one.high_j for one in corrected], np.float64),
        PRIOR: np.array([one.load_j for one in corrected], np.float64),
        **{name: joules for name, (joules, _, _) in modelled.items()},
    }
    ends = {HIGH: (told[LOW], told[HIGH]), **{name: (low_j, high_j) for name, (_, low_j, high_j) in modelled.items()}}
    best = {name: each[NODE][0] for name, each in (("run", modelled), ("epoch", of_epochs)) if NODE in each}
    ours = {level: {NATIVE: joules} for level, joules in best.items()}
    table = (
        spans_of("epoch", inner_s, inner_wall_j, carbon_j | ours.get("epoch", {})),
        spans_of("run", seconds, wall_j, {name: told[name] for name in carbon.VERSIONS} | ours.get("run", {})),
    )
    short_w = {name: (wall_j - told[name]) / seconds for name in carbon.VERSIONS}
    return Holistic(
        gpus=gpus,
        wall_w=wall_j / seconds,
        error_pct={name: 100 * (joules / wall_j - 1) for name, joules in told.items()},
        held_share={name: _held(*each, truth_j) for name, each in ends.items()},
        agreement=tuple(agreement_rows(table)),
        offset_w={name: (float(each.mean()), float(each.std(ddof=1))) for name, each in short_w.items()},
        usage_w=(float(boards_w.min()), float(boards_w.max())),
        limit_w=limit_w,
    )


Told = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # J, and the interval's ends


def _modelled(
    node: Node, trainings: Sequence[tuple[int, int]], epochs: Sequence[tuple[int, int]], calibration: Calibration
) -> tuple[dict[str, Told], dict[str, Told]]:
    """Return what `report` would tell by each fitted model, of trainings and of epochs in one recording of them all."""
    windows = [Window(f"training {i}", *one) for i, one in enumerate(trainings)]
    windows += [Window(f"epoch {i}", *one) for i, one in enumerate(epochs)]
    t_ns = np.arange(trainings[0][0] - S, trainings[-1][1] + S, round(POLL_S * S), dtype=np.int64)
    trace, count = recorded(node, t_ns), len(trainings)
    measured = window_energies(trace, windows)
    found: tuple[dict[str, Told], dict[str, Told]] = {}, {}
    for name, best in MODELS.items():
        if getattr(calibration, best) is not None:
            judged = judge_of(trace, replace(calibration, best=best))
            totals = [one.total for one in holistics(trace, windows, measured, judged)]
            for each, part in zip(found, (totals[:count], totals[count:]), strict=True):
                each[name] = _told(part)
    return found


def _told(totals: Sequence[WallEnergy | None]) -> Told:
    lines = [(None,) * 3 if one is None else (one.joules, one.low_j, one.high_j) for one in totals]
    joules, low_j, high_j = np.array(lines, np.float64).T
    return joules, low_j, high_j


def _held(low_j: NDArray[np.float64], high_j: NDArray[np.float64], truth_j: NDArray[np.float64]) -> float | None:
    """Return the share of intervals that hold the truth; None where there is no interval."""
    known = np.isfinite(low_j) & np.isfinite(high_j)
    inside = (low_j <= truth_j) & (truth_j <= high_j)
    return float(inside[known].mean()) if known.any() else None
