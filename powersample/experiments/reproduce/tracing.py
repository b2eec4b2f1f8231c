# SPDX-License-Identifier: Apache-2.0
"""Experiments 1 and 2c: what nvidia-smi's loop, an NVML thread and the native sampler tell of epochs and of trainings.

The reference is the paper's: GPU power seen through the meter, P_total - P_CPU - P_Memory - P_busy, with P_busy of a
calibration under a prime search; here less what the idle GPUs say of themselves. The exact truth stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import window_energies
from powersample.analysis.agreement_table import AgreementRow, agreement_rows, spans_of
from powersample.analysis.meter_gpu import Watts, subtract
from powersample.experiments.figures import FEW, Spread, spread
from powersample.experiments.paper.epochs import SLEEP_S, trainings
from powersample.experiments.paper.loop import traced_w
from powersample.experiments.reproduce import carbon
from powersample.experiments.reproduce.loads import GPUS, S, fresh, train
from powersample.experiments.reproduce.recorded import energy_channel, meta_of, series_of
from powersample.experiments.reproduce.tools import Tools
from powersample.model import Channel, Kind, Trace, Window
from powersample.sim import Node

SMI, NVML, NATIVE, METER = "SMI", "NVML", "powersample", "meter"
EPOCHS = 10  # assumed: of a training
FEW_SHARE = 0.39  # the paper's, from which the epochs' scale follows
SPAN = 10.0  # assumed: the longest epoch to the shortest
SHORT_S = (0.3, 3.0)  # assumed, as in `powersample race --paper`
CALLS_S = (0.05, 0.5)  # assumed: what one call of nvidia-smi -q -x takes; up to seconds are told of
THREAD_S = 0.1  # between an NVML thread's readings: the paper's 10 Hz
POLL_S = 0.005  # between the native sampler's
QUICK_DRIVER = "530.41.03"  # the branch in which power.draw was quick (arXiv 2312.02741)
FIELDS = {"mean": None, "quick": QUICK_DRIVER}  # what power.draw is, and the driver that makes it so


@dataclass(frozen=True, slots=True)
class Setting:
    """What one set of trainings is like.

    Attributes:
        field: Of `FIELDS`: what power.draw is.
        call_s: What a call of nvidia-smi takes.
        lengths_s: Between which the epochs' lengths are drawn.
    """

    field: str
    call_s: float
    lengths_s: tuple[float, float]


def settings() -> tuple[Setting, ...]:
    """Return the settings of experiment 1, for both meanings of power.draw.

    Epochs scaled to the paper's share, and short ones whose readings are as many as those of slow calls allow.
    """
    kinds = [(CALLS_S[0], lengths_for(FEW_SHARE, CALLS_S[0])), *((call_s, SHORT_S) for call_s in CALLS_S)]
    return tuple(Setting(field, *kind) for field in FIELDS for kind in kinds)


@dataclass(frozen=True, slots=True)
class Tracing:
    """What became of one set of trainings on one node.

    Attributes:
        setting: What they were like.
        epochs: Number of epochs.
        few_share: Share of the epochs in which nvidia-smi's loop came to at most 10 readings.
        meter: Every tool against the GPU power seen through the meter, per epoch and run, of J and W.
        truth: The same against the exact truth; and, as the method "meter", what that reference is worth.
        error: Size of the errors of the epochs' energies against the truth, by tool.
        held_share: Share of the native sampler's intervals that hold the truth; None without intervals.
        told_w: By tool the epochs' mean powers, W, with "meter" and "truth".
    """

    setting: Setting
    epochs: int
    few_share: float
    meter: tuple[AgreementRow, ...]
    truth: tuple[AgreementRow, ...]
    error: Mapping[str, Spread]
    held_share: float | None
    told_w: Mapping[str, NDArray[np.float64]]


def row(rows: Sequence[AgreementRow], method: str, level: str, unit: str) -> AgreementRow:
    """Return one method's row of a table."""
    return next(one for one in rows if (one.method, one.level, one.unit) == (method, level, unit))


def lengths_for(few_share: float, call_s: float, span: float = SPAN) -> tuple[float, float]:
    """Return between which lengths, s, epochs are drawn log-uniformly for such a share to get at most 10 readings.

    An epoch of length L gets ceil(L / (0.1 s + call)) readings, so at most 10 up to 10 (0.1 s + call).
    """
    shortest_s = FEW * (SLEEP_S + call_s) / span**few_share
    return shortest_s, span * shortest_s


def traced(profile: str, node_seed: int | None, setting: Setting, *, count: int, seed: int, busy_w: float) -> Tracing:
    """Let all tools follow the same trainings of one GPU.

    Args:
        profile: The node's.
        node_seed: Which node of that kind.
        setting: What the trainings are like.
        count: Number of trainings.
        seed: Of the trainings and the meter's noise.
        busy_w: P_busy as this node was calibrated.
    """
    epochs = trainings(count, EPOCHS, seed=seed, call_s=setting.call_s, lengths_s=setting.lengths_s, even=True)
    with fresh(profile, node_seed, driver_version=FIELDS[setting.field]) as node:
        start_ns = train(node, epochs, gpus=1, seed=seed)
        windows = [(start_ns + round(one.begin_s * S), start_ns + round(one.end_s * S)) for one in epochs]
        seconds = np.diff(np.array(windows, np.float64)).ravel() / S
        number = np.array([one.training for one in epochs])
        readings = traced_w(node, epochs, start_ns, sensor="usage", cost_s=setting.call_s)
        native_j, held_share = _native_j(node, windows)
        told_j = {
            SMI: np.array([one.mean() for one in readings]) * seconds,
            NVML: _thread_j(node, windows),
            NATIVE: native_j,
        }
        tools = Tools(node, seed)
        meter_j = _through_meter_j(tools, windows, seconds, busy_w)
        truth_j = np.array([node.truth_j(0, *window) for window in windows])
        whole = spans_of_trainings(windows, number)
        whole_s = tools.seconds(whole)
        carbon_j, of_training_j = _carbon_j(tools, windows, number), tools.nvml_j(whole, 0)
        trainings_j = _Trainings(
            whole_s,
            dict.fromkeys(carbon_j, of_training_j),
            _through_meter_j(tools, whole, whole_s, busy_w),
            np.array([node.truth_j(0, *one) for one in whole]),
        )
    told_w = {name: joules / seconds for name, joules in (*told_j.items(), (METER, meter_j), ("truth", truth_j))}
    return Tracing(
        setting=setting,
        epochs=len(epochs),
        few_share=float(np.mean([len(one) <= FEW for one in readings])),
        meter=_rows(told_j, carbon_j, meter_j, seconds, number, trainings_j, trainings_j.meter_j),
        truth=_rows(told_j | {METER: meter_j}, carbon_j, truth_j, seconds, number, trainings_j, trainings_j.truth_j),
        error={tool: spread(100 * (joules / truth_j - 1)) for tool, joules in told_j.items()},
        held_share=held_share,
        told_w=told_w,
    )


@dataclass(frozen=True, slots=True)
class _Trainings:
    """Whole trainings, with the pauses between their epochs: what Code Carbon tells, and what stands beside it, J."""

    seconds: NDArray[np.float64]
    told_j: Mapping[str, NDArray[np.float64]]
    meter_j: NDArray[np.float64]
    truth_j: NDArray[np.float64]


def spans_of_trainings(windows: Sequence[tuple[int, int]], number: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return begin and end of every training, ns, of its epochs' windows in order."""
    edges = np.array(windows, np.int64)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    last = np.append(first[1:], len(number)) - 1
    return list(zip(edges[first, 0].tolist(), edges[last, 1].tolist(), strict=True))


def _rows(
    told_j: Mapping[str, NDArray[np.float64]],
    carbon_j: Mapping[str, NDArray[np.float64]],
    reference_j: NDArray[np.float64],
    seconds: NDArray[np.float64],
    number: NDArray[np.int64],
    trainings_j: _Trainings,
    whole_j: NDArray[np.float64],
) -> tuple[AgreementRow, ...]:
    """Return the table. Trainings are the sum of their epochs; for Code Carbon, which runs on, with their pauses."""
    run_s, run_reference_j = (np.bincount(number, each) for each in (seconds, reference_j))
    runs_j = {tool: np.bincount(number, joules) for tool, joules in told_j.items()}
    spans = [
        spans_of("epoch", seconds, reference_j, {**told_j, **carbon_j}),
        spans_of("run", run_s, run_reference_j, runs_j),
        spans_of("run", trainings_j.seconds, whole_j, trainings_j.told_j),
    ]
    return tuple(agreement_rows(spans))


def _through_meter_j(
    tools: Tools, windows: Sequence[tuple[int, int]], seconds: NDArray[np.float64], busy_w: float
) -> NDArray[np.float64]:
    """Return P_total - P_CPU - P_Memory - P_busy of every window, less what the idle GPUs count, J."""
    counted, wall_j = tools.rapl_j(windows), tools.wall_j(windows)
    idle_j = np.sum([tools.nvml_j(windows, gpu) for gpu in range(1, len(GPUS))], axis=0)
    powers = np.stack([wall_j, counted["cpu"], counted["dram"]]) / seconds
    gpus_w = [
        subtract(Watts(total), Watts(cpu), Watts(memory), (busy_w, busy_w))[0]
        for total, cpu, memory in powers.T.tolist()
    ]
    return np.asarray(np.array(gpus_w) * seconds - idle_j, np.float64)


def _thread_j(node: Node, windows: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Return what a thread on a grid of 10 Hz makes of every window by the mean of what it reads there, J."""
    step_ns = round(THREAD_S * S)
    found = []
    for a_ns, b_ns in windows:
        at_ns = np.arange(-(-a_ns // step_ns) * step_ns, b_ns + 1, step_ns, dtype=np.int64)
        found.append(float(node.sensor_values(0, "usage", at_ns).mean()) * (b_ns - a_ns) / S)
    return np.array(found)


def _carbon_j(
    tools: Tools, windows: Sequence[tuple[int, int]], number: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the GPU part of what Code Carbon tells of every window, J, tracking that GPU alone, by its interval."""
    return {
        name: carbon.epochs_j(lambda t_ns: tools.node.sensor_values(0, "energy", t_ns), windows, number, interval_s)
        for name, interval_s in carbon.TRACKERS.items()
    }


def _native_j(node: Node, windows: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float64], float | None]:
    """Return what the native sampler's analysis makes of its polls, J, and how often its interval holds the truth."""
    trace = polled(node, windows[0][0] - S, windows[-1][1] + S)
    asked = [Window(f"training {place}", *window) for place, window in enumerate(windows)]
    joules, held = [], []
    for window, measured in zip(asked, window_energies(trace, asked), strict=True):
        one = next(each.energy for each in measured if each.primary)
        joules.append(np.nan if one.joules is None else one.joules)
        if one.low_j is not None and one.high_j is not None:
            held.append(one.low_j <= node.truth_j(0, window.start_ns, window.end_ns) <= one.high_j)
    return np.array(joules), float(np.mean(held)) if held else None


def polled(node: Node, begin_ns: int, end_ns: int) -> Trace:
    """Return a trace of GPU 0 as a lane of 200 Hz would record it: field 186 and the energy counter."""
    t_ns = np.arange(begin_ns, end_ns, round(POLL_S * S), dtype=np.int64)
    instant = Channel("gpu0.power.instant", node.gpu_uuids[0], "gpu", Kind.POWER, "W", 1e-3, sensor="nvml.field.186")
    parts = [
        series_of(channel, t_ns, node.sensor_values(0, name, t_ns))
        for name, channel in (("instant", instant), ("energy", energy_channel(node, 0)))
    ]
    return Trace.of(parts, meta=meta_of(node))
