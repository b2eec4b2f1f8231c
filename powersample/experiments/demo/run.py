# SPDX-License-Identifier: Apache-2.0
"""The demonstration: one training run on the simulated node, measured several ways at once, each against the truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from powersample import errors
from powersample.analysis import truth_void
from powersample.experiments.baselines import Baseline, NvidiaSmiLoop, PynvmlThread
from powersample.experiments.method import Lap, Method, method_of_samples, method_of_trace, power_channel
from powersample.experiments.workload import Network, plan, train
from powersample.session import measure
from powersample.sim import Node

if TYPE_CHECKING:
    from powersample.store import StoredTrace

EPOCHS, EPOCH_S = 12, 1.2


@dataclass(frozen=True, slots=True)
class Demo:
    """The finished demonstration.

    Attributes:
        trace: What the native sampler recorded, truth included.
        lap: The run that all methods measured, with its truth.
        methods: Every method, those that could not run with their reason.
        node: What the simulated node is, as in the trace's metadata.
    """

    trace: StoredTrace
    lap: Lap
    methods: tuple[Method, ...]
    node: dict[str, Any]


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
        InvalidArgument: Number or length of the epochs is outside its range.
        OutputExists, AccessDenied: `output` cannot be written.
    """
    planned = plan([epoch_s], epochs)
    with Node(profile, board_seed=board_seed) as node:
        meaning = node.power_usage_meaning(0)
        baselines: list[Baseline] = [
            PynvmlThread(node.library, asked_hz=1000.0, meaning=meaning),
            NvidiaSmiLoop(nvidia_smi, {**os.environ, **node.environment()}, meaning=meaning),
        ]
        refused: dict[str, str] = {}
        with measure(simulate=node, output=output, replace=replace) as run:
            for baseline in baselines:
                try:
                    baseline.start()
                except errors.NotSupported as error:
                    refused[baseline.name] = str(error)
            say(f"training, {epochs} x {epoch_s:g} s ...")
            trained = train(planned, Network(), node=node, window=run.window)
            collected = {b.name: b.stop() for b in baselines if b.name not in refused}
        trace = run.trace
        lap = _lap(trace, node, trained.lengths_s)
        quick = "instant" if power_channel(trace).endswith("instant") else "usage"
        published = {
            name: node.sensor_publications(0, name, lap.run.start_ns, lap.run.end_ns) for name in (quick, "usage")
        }
        methods = [method_of_trace("native", trace, lap, published[quick])]
        for one in baselines:
            if one.name in refused:
                methods.append(Method(one.name, one.reads, one.asked_hz, reason=refused[one.name]))
            else:
                methods.append(method_of_samples(one, collected[one.name], lap, published["usage"]))
        return Demo(trace, lap, tuple(methods), dict(trace.meta["simulated_node"]))


def _lap(trace: StoredTrace, node: Node, lengths_s: tuple[float, ...]) -> Lap:
    """Return the run as the trace has it, with its truth."""
    whole = next(w for w in trace.windows if w.name == "run")
    chosen = tuple(w for w in trace.windows if w.name.startswith("epoch "))
    truth_j = np.array([node.truth_j(0, w.start_ns, w.end_ns) for w in chosen])
    void = "the simulated load came late or found no space" if truth_void(trace.meta) else None
    return Lap(whole, chosen, truth_j, node.truth_j(0, whole.start_ns, whole.end_ns), void, lengths_s)
