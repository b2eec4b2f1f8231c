# SPDX-License-Identifier: Apache-2.0
"""The demonstration: one training run on the simulated node, measured several ways at once, each against the truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample.analysis import energy
from powersample.analysis.agreement import agreement
from powersample.experiments.baselines import Baseline, NvidiaSmiLoop, PynvmlThread, Samples, trapezoid_j
from powersample.experiments.demo.workload import train
from powersample.session import measure
from powersample.sim import Node

if TYPE_CHECKING:
    from powersample.model import Window
    from powersample.store import StoredTrace

EPOCHS, EPOCH_S = 12, 1.2
FEW = 10  # the paper's count: epochs with no more samples than this


@dataclass(frozen=True, slots=True)
class Method:
    """One way of sampling and what it made of the run.

    Attributes:
        name: As in the machine-readable output.
        reads: What it reads, in plain words.
        reason: Why it could not run, or None.
        asked_hz: Readings a second it tried for.
        t_ns: When it read, int64, shape (n,).
        watts: What it read in W, float64, shape (n,).
        cpu_s: CPU time it cost; None where it cannot be told.
        epoch_j: Energy of each epoch in J, NaN where it had none.
        run_j: Energy of the run in J, or None.
        updates: Values that the sensor published and this method saw, within the run.
    """

    name: str
    reads: str
    reason: str | None
    asked_hz: float
    t_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    watts: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    cpu_s: float | None = None
    epoch_j: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    run_j: float | None = None
    updates: int = 0


@dataclass(frozen=True, slots=True)
class Demo:
    """The finished demonstration.

    Attributes:
        trace: What the native sampler recorded, truth included.
        run: Window of the whole run.
        epochs: Windows of the epochs.
        truth_j: Exact energy of each epoch in J.
        run_truth_j: Exact energy of the run in J.
        methods: Every method, those that could not run with their reason.
        node: What the simulated node is, as in the trace's metadata.
        published: Values that the sensor behind the native readings published within the run.
    """

    trace: StoredTrace
    run: Window
    epochs: tuple[Window, ...]
    truth_j: NDArray[np.float64]
    run_truth_j: float
    methods: tuple[Method, ...]
    node: dict[str, Any]
    published: int


def run_demo(
    output: Path,
    *,
    profile: str = "h100",
    board_seed: int | None = None,
    epochs: int = EPOCHS,
    epoch_s: float = EPOCH_S,
    nvidia_smi: str | os.PathLike[str] | None = None,
    replace: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Demo:
    """Train on a simulated GPU and measure it with the native sampler, a pynvml thread and an nvidia-smi loop.

    The GPU's load is this process's own use of a CPU core.

    Args:
        output: Parquet file of the native trace.
        profile: The simulated board.
        board_seed: Draws its gain, offset and phase; None is a perfect board.
        epochs: Number of epochs.
        epoch_s: About how long each takes.
        nvidia_smi: Path of NVIDIA's program; None looks on PATH and in the cache.
        replace: Replace `output`.
        say: Told what happens next.

    Raises:
        OutputExists, AccessDenied: `output` cannot be written.
    """
    with Node(profile, board_seed=board_seed) as node:
        node.follow(0, capacity_cpus=1.0)
        baselines: list[Baseline] = [
            PynvmlThread(node.library, asked_hz=1000.0),
            NvidiaSmiLoop(nvidia_smi, {**os.environ, **node.environment()}),
        ]
        refused: dict[str, str] = {}
        with measure(simulate=node, output=output, replace=replace) as run:
            for baseline in baselines:
                try:
                    baseline.start()
                except errors.NotSupported as error:
                    refused[baseline.name] = str(error)
            say(f"training, {epochs} x {epoch_s:g} s ...")
            train(epochs, epoch_s, run.window)
            collected = {b.name: b.stop() for b in baselines if b.name not in refused}
        trace = run.trace
        whole = next(w for w in trace.windows if w.name == "run")
        quick = "instant" if "gpu0.power.instant" in trace.channels else "usage"
        published = len(node.sensor_publications(0, quick, whole.start_ns, whole.end_ns))
        chosen = tuple(w for w in trace.windows if w.name.startswith("epoch "))
        truth = np.array([node.truth_j(0, w.start_ns, w.end_ns) for w in chosen])
        methods = [_native(trace, whole, chosen)]
        for baseline in baselines:
            samples = collected.get(baseline.name)
            reads = {"pynvml-thread": "PowerUsage", "nvidia-smi-lms": "power.draw"}[baseline.name]
            reads += f" ({node.power_usage_meaning(0)})"
            methods.append(_sampled(baseline, reads, refused.get(baseline.name), samples, whole, chosen))
        return Demo(
            trace=trace,
            run=whole,
            epochs=chosen,
            truth_j=truth,
            run_truth_j=node.truth_j(0, whole.start_ns, whole.end_ns),
            methods=tuple(methods),
            node=dict(trace.meta["simulated_node"]),
            published=published,
        )


def _native(trace: StoredTrace, whole: Window, epochs: tuple[Window, ...]) -> Method:
    name = next(n for n in ("gpu0.power.instant", "gpu0.power.usage") if n in trace.channels)
    series = trace.series(name, whole.start_ns, whole.end_ns)
    good = series.status == 0
    values = [energy(trace, window, "gpu0").joules for window in epochs]
    lane = next(lane for lane in trace.lanes if lane.name == trace.channels[name].lane)
    cpu_ns = -1 if lane.cpu_ns is None else lane.cpu_ns
    return Method(
        name="native",
        reads=" and ".join(["field 186" if name.endswith("instant") else "PowerUsage", *_counter_of(trace)]),
        reason=None,
        asked_hz=lane.rate_hz or float("nan"),
        t_ns=series.t_ns[good],
        watts=series.value[good],
        cpu_s=None if cpu_ns < 0 else cpu_ns / 1e9,
        epoch_j=np.array([np.nan if v is None else v for v in values]),
        run_j=energy(trace, whole, "gpu0").joules,
        updates=_changes(series.value[good]),
    )


def _counter_of(trace: StoredTrace) -> list[str]:
    return ["the energy counter"] if "gpu0.energy" in trace.channels else []


def _sampled(
    baseline: Baseline,
    reads: str,
    reason: str | None,
    samples: Samples | None,
    whole: Window,
    epochs: tuple[Window, ...],
) -> Method:
    if samples is None or reason is not None:
        return Method(baseline.name, reads, reason or "it did not run", baseline.asked_hz)
    inside = (samples.t_ns >= whole.start_ns) & (samples.t_ns <= whole.end_ns)
    values = [trapezoid_j(samples, w.start_ns, w.end_ns) for w in epochs]
    return Method(
        name=baseline.name,
        reads=reads,
        reason=None,
        asked_hz=baseline.asked_hz,
        t_ns=samples.t_ns[inside],
        watts=samples.watts[inside],
        cpu_s=samples.cpu_s,
        epoch_j=np.array([np.nan if v is None else v for v in values]),
        run_j=trapezoid_j(samples, whole.start_ns, whole.end_ns),
        updates=_changes(samples.watts[inside]),
    )


def _changes(values: NDArray[np.float64]) -> int:
    return int(np.count_nonzero(np.diff(values))) + 1 if len(values) else 0


def method_json(demo: Demo, method: Method) -> dict[str, Any]:
    """Return the method as the `methods[]` entry of the machine-readable output; missing values are None."""
    if method.reason is not None:
        return {"name": method.name, "available": False, "reason": method.reason, "asked_hz": method.asked_hz}
    duration_s = (demo.run.end_ns - demo.run.start_ns) / 1e9
    gaps_ms = np.diff(method.t_ns) / 1e6
    error_pct = 100 * (method.epoch_j / demo.truth_j - 1)
    known = np.abs(error_pct[np.isfinite(error_pct)])
    pairs = agreement(method.epoch_j, demo.truth_j)
    seconds = np.array([(w.end_ns - w.start_ns) / 1e9 for w in demo.epochs])
    power = agreement(method.epoch_j / seconds, demo.truth_j / seconds)
    per_epoch = [_inside(method, window) for window in demo.epochs]

    def at(values: NDArray[np.float64], q: float) -> float | None:
        return float(np.percentile(values, q)) if len(values) else None

    return {
        "name": method.name,
        "available": True,
        "reason": None,
        "reads": method.reads,
        "asked_hz": method.asked_hz,
        "achieved_hz": len(method.t_ns) / duration_s,
        "polls": len(method.t_ns),
        "updates_seen": method.updates,
        "updates_published": demo.published,
        "gap_p50_ms": at(gaps_ms, 50),
        "gap_p99_ms": at(gaps_ms, 99),
        "gap_max_ms": at(gaps_ms, 100),
        "epochs": len(demo.epochs),
        "epochs_at_most_10_polls": sum(len(values) <= FEW for values in per_epoch),
        "epochs_at_most_10_updates": sum(_changes(values) <= FEW for values in per_epoch),
        "run_energy_j": method.run_j,
        "run_error_pct": None if method.run_j is None else 100 * (method.run_j / demo.run_truth_j - 1),
        "epoch_energy_j": [None if np.isnan(v) else float(v) for v in method.epoch_j],
        "epoch_error_pct": {"median": at(known, 50), "p95": at(known, 95), "max": at(known, 100)},
        "pearson": pairs.pearson,
        "spearman": pairs.spearman,
        "ks_p": pairs.ks_p,
        "bias_w": power.bias,
        "cpu_s": None if method.cpu_s is None or np.isnan(method.cpu_s) else method.cpu_s,
    }


def _inside(method: Method, window: Window) -> NDArray[np.float64]:
    return method.watts[(method.t_ns >= window.start_ns) & (method.t_ns <= window.end_ns)]
