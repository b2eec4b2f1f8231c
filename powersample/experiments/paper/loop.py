# SPDX-License-Identifier: Apache-2.0
"""The tracer's loop in virtual time: exact, with any cost of a call, over as many epochs as wanted in a second.

Sleep s, call c, and again while the epoch lasts: the loop looks whether it goes on before it sleeps, so an epoch of
length L gets ceil(L / (s + c)) readings, the k-th at k (s + c) from its begin, the last possibly behind its end. So it
has at most 10 whenever L is at most 10 (s + c). What is read is what the simulated sensor shows at that instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.agreement import agreement
from powersample.experiments.figures import FEW, Spread, spread
from powersample.experiments.paper.epochs import LENGTHS_S, SLEEP_S, PaperEpoch, load, trainings
from powersample.session.simulate import make_node
from powersample.sim import Node

COSTS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5)  # 1.5 s: a GPU initialised by every call (science.md, fact 4)
TRAININGS, EPOCHS = 200, 3
# Epochs that are all alike long, so that no length lifts a correlation, and trainings that have more of them. 1 s is
# what 10 readings take at the 10 Hz that the paper names; EA-HAS-Bench trains 50 epochs at the least.
ALIKE_S, ALIKE_TRAININGS, ALIKE_EPOCHS = (1.0, 1.0), 100, 10
CYCLE_NS = 100_000_000  # of the paper's meter


@dataclass(frozen=True, slots=True)
class Traced:
    """What the loop makes of many epochs, at one cost of a call.

    Attributes:
        cost_s: The cost; NaN of a method that makes no such calls.
        trainings: How many trainings the epochs are of.
        lengths_s: Length of each epoch, shape (n,).
        counts: Readings of each, shape (n,).
        error_pct: Error of each epoch's energy, shape (n,).
        few_share: Share of the epochs with at most 10 readings.
        error: Size of the errors.
        epoch_power_r: Pearson of the epochs' mean powers with the truth.
        run_power_r: The same of whole trainings' mean powers.
        epoch_energy_r: The same of the epochs' energies, which different lengths lift.
        run_energy_r: The same of whole trainings' energies.
        middle_share: Share of the readings in the middle third of the power that a meter tells of their training.
        meter_share: The same of the meter itself.
    """

    cost_s: float
    trainings: int
    lengths_s: NDArray[np.float64]
    counts: NDArray[np.int64]
    error_pct: NDArray[np.float64]
    few_share: float
    error: Spread
    epoch_power_r: float | None
    run_power_r: float | None
    epoch_energy_r: float | None
    run_energy_r: float | None
    middle_share: float | None
    meter_share: float | None


def readings(seconds: float, cost_s: float, sleep_s: float = SLEEP_S) -> NDArray[np.float64]:
    """Return when the loop's readings come, s from the epoch's begin, shape (n,)."""
    period_s = sleep_s + cost_s
    return np.asarray(period_s * np.arange(1, int(np.ceil(seconds / period_s - 1e-9)) + 1), np.float64)


def trace(node: Node, epochs: Sequence[PaperEpoch], start_ns: int, *, sensor: str, cost_s: float) -> Traced:
    """Let the loop trace epochs of a load that was given to GPU 0 of a node and begins at `start_ns`.

    Args:
        node: The node; its time need not have come to the epochs.
        epochs: The epochs.
        start_ns: CLOCK_MONOTONIC of the load's beginning.
        sensor: What nvidia-smi reads, as of `Node.sensor_values`: "usage", or "instant" as in driver branch 530.
        cost_s: How long a call takes.
    """
    watts = traced_w(node, epochs, start_ns, sensor=sensor, cost_s=cost_s)
    told_j = [float(each.mean()) * epoch.seconds for each, epoch in zip(watts, epochs, strict=True)]
    truth_j = [
        node.truth_j(0, start_ns + round(epoch.begin_s * 1e9), start_ns + round(epoch.end_s * 1e9)) for epoch in epochs
    ]
    meter_w = as_a_meter(node, epochs, start_ns)
    return summed(epochs, cost_s, watts, np.array(told_j), np.array(truth_j), meter_w)


def traced_w(
    node: Node, epochs: Sequence[PaperEpoch], start_ns: int, *, sensor: str, cost_s: float
) -> list[NDArray[np.float64]]:
    """Return what the loop reads in each of the epochs, W; arguments as of `trace`."""
    found = []
    for epoch in epochs:
        begin_ns = start_ns + round(epoch.begin_s * 1e9)
        at_ns = begin_ns + np.rint(readings(epoch.seconds, cost_s) * 1e9).astype(np.int64)
        found.append(node.sensor_values(0, sensor, at_ns))
    return found


def summed(
    epochs: Sequence[PaperEpoch],
    cost_s: float,
    watts: Sequence[NDArray[np.float64]],
    told_j: NDArray[np.float64],
    truth_j: NDArray[np.float64],
    meter_w: Sequence[NDArray[np.float64]],
) -> Traced:
    """Return the figures of epochs whose readings and energies are known, NaN where the method had no energy."""
    counts = np.array([len(each) for each in watts], np.int64)
    seconds = np.array([epoch.seconds for epoch in epochs])
    number = np.array([epoch.training for epoch in epochs])
    error_pct = 100 * (told_j / truth_j - 1)
    run_told, run_truth, run_s = (np.bincount(number, values) for values in (told_j, truth_j, seconds))
    return Traced(
        cost_s=cost_s,
        trainings=len(set(number.tolist())),
        lengths_s=seconds,
        counts=counts,
        error_pct=error_pct,
        few_share=float(np.mean(counts <= FEW)),
        error=spread(error_pct),
        epoch_power_r=agreement(told_j / seconds, truth_j / seconds).pearson,
        run_power_r=agreement(run_told / run_s, run_truth / run_s).pearson,
        epoch_energy_r=agreement(told_j, truth_j).pearson,
        run_energy_r=agreement(run_told, run_truth).pearson,
        middle_share=middle_share(epochs, watts, meter_w),
        meter_share=middle_share(epochs, meter_w, meter_w),
    )


def middle_share(
    epochs: Sequence[PaperEpoch], watts: Sequence[NDArray[np.float64]], meter_w: Sequence[NDArray[np.float64]]
) -> float | None:
    """Return the share of values in the middle third of what a meter tells of their training, of all trainings.

    The paper's figure 2 shows nothing there: a low and a high cluster of readings, where the meter has values between.
    The thirds are those of the meter's 5th to 95th percentile.
    """
    among, values = 0, 0
    for training in sorted({epoch.training for epoch in epochs}):
        own = [i for i, epoch in enumerate(epochs) if epoch.training == training]
        low, high = np.percentile(np.concatenate([meter_w[i] for i in own]), (5, 95))
        read = np.concatenate([watts[i] for i in own])
        values += len(read)
        among += int(np.sum((read > low + (high - low) / 3) & (read < high - (high - low) / 3)))
    return among / values if values else None


def as_a_meter(node: Node, epochs: Sequence[PaperEpoch], start_ns: int) -> tuple[NDArray[np.float64], ...]:
    """Return the mean power of each whole 100 ms cycle inside every epoch, in W: what the paper's meter tells of it."""
    found = []
    for epoch in epochs:
        ends = np.arange(round(epoch.begin_s * 1e9), round(epoch.end_s * 1e9), CYCLE_NS, dtype=np.int64) + start_ns
        cycles = [node.truth_j(0, a, b) * 1e9 / CYCLE_NS for a, b in pairwise(ends.tolist())]
        found.append(np.array(cycles))
    return tuple(found)


def curve(
    simulate: str,
    board_seed: int | None = None,
    *,
    driver: str | None = None,
    costs_s: Sequence[float] = COSTS_S,
    count: int = TRAININGS,
    epochs_each: int = EPOCHS,
    lengths_s: tuple[float, float] = LENGTHS_S,
    seed: int = 2,
) -> tuple[Traced, ...]:
    """Trace many epochs at each of the costs, on nodes of the same kind under a driver; what PowerUsage tells."""
    found = []
    for cost_s in costs_s:
        epochs = trainings(count, epochs_each, seed=seed, call_s=cost_s, lengths_s=lengths_s)
        with make_node(simulate, board_seed, **({} if driver is None else {"driver_version": driver})) as node:
            start_ns = node.load_script(0, load(epochs))
            found.append(trace(node, epochs, start_ns, sensor="usage", cost_s=cost_s))
    return tuple(found)
