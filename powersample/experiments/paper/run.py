# SPDX-License-Identifier: Apache-2.0
"""The paper's collection loop on short epochs, in real time, with the native sampler beside it on the same epochs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample.capture import Plan
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines import Account, EaHasTracer, Samples
from powersample.experiments.baselines.process import run as run_program
from powersample.experiments.method import Cost, Lap, Method, method_of_trace
from powersample.experiments.paper.epochs import SLEEP_S, PaperEpoch, load, trainings
from powersample.experiments.paper.loop import (
    ALIKE_EPOCHS,
    ALIKE_S,
    ALIKE_TRAININGS,
    COSTS_S,
    EPOCHS,
    Traced,
    as_a_meter,
    curve,
    summed,
)
from powersample.model import Window
from powersample.session.recording import Recording
from powersample.session.simulate import make_node, simulated_plan
from powersample.sim import Latency, Node

TRAININGS = 12
TRIES = 7  # calls by which their cost is measured beforehand
SOON_S = 0.2  # the load begins so long after it was given
LATE_S = 0.03  # an epoch whose tracer began later than that is counted
QUICK_DRIVER = "530.30.02"  # the branch in which power.draw was the instant power


@dataclass(frozen=True, slots=True)
class Paper:
    """What came of it.

    Attributes:
        headline: What was measured: of a simulated node that it is no measurement.
        node: The node's own description.
        meaning: What nvidia-smi's power.draw is there.
        epochs: The epochs, in order of time.
        load: What the GPU drew, as (s from `start_ns`, W from then on).
        start_ns: CLOCK_MONOTONIC of the load's beginning.
        lap: Their windows and exact energies.
        tracer: The tracer as a method; its reason where it could not run.
        native: The native sampler on the same epochs.
        traced: The tracer's figures in real time; None where it could not run.
        told: The native sampler's, energies without a verdict of "unusable" and all.
        call_s: Cost of a call, median of some before the epochs.
        late: Epochs whose tracer began late, because the one before was still reading.
        model: The loop in virtual time at several costs, on the same kind of node.
        quick: The same where power.draw is the instant power, as in driver branch 530.
        alike: The same as `model`, of trainings of 10 epochs that are all about 1 s long.
        alike_quick: Those, as `quick`.
        meter_w: Of every epoch the mean power of its whole 100 ms cycles, as the paper's meter tells them.
        took_s: How long it all took.
    """

    headline: str
    node: dict[str, Any]
    meaning: str
    epochs: tuple[PaperEpoch, ...]
    load: tuple[tuple[float, float], ...]
    start_ns: int
    lap: Lap
    tracer: Method
    native: Method
    traced: Traced | None
    told: Traced
    call_s: float | None
    late: int
    model: tuple[Traced, ...]
    quick: tuple[Traced, ...]
    alike: tuple[Traced, ...]
    alike_quick: tuple[Traced, ...]
    meter_w: tuple[NDArray[np.float64], ...]
    took_s: float

    @property
    def slow_field(self) -> bool:
        """Whether power.draw is a mean over more than its own period there."""
        return self.meaning.startswith("average")


def run_paper(
    *,
    simulate: str = "paper-node",
    board_seed: int | None = None,
    call_us: float | None = None,
    nvidia_smi: str | os.PathLike[str] | None = None,
    count: int = TRAININGS,
    seed: int = 1,
    costs_s: Sequence[float] = COSTS_S,
    say: Callable[[str], None] = lambda _: None,
) -> Paper:
    """Trace `count` short trainings on a simulated node as EA-HAS-Bench did, and record them natively.

    Args:
        simulate: The node, as of `powersample record --simulate`.
        board_seed: Draws its gain, offset and phase; None is a perfect board.
        call_us: How long every call of its driver takes.
        nvidia_smi: Path of NVIDIA's program; None looks on PATH and in the cache.
        count: Trainings of 3 epochs each.
        seed: Draws the epochs.
        costs_s: Costs of a call at which the loop is followed in virtual time.
        say: Told what happens next.

    Raises:
        InvalidArgument: An option is outside its range.
    """
    if not 1 <= count <= 1000:
        raise errors.InvalidArgument(f"{count} trainings: it takes 1 to 1000")
    begin_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="powersample-paper-") as folder, make_node(simulate, board_seed) as node:
        if call_us is not None:
            node.set_latency("any", Latency.fixed(call_us / 1e6))
        epochs, traces, call_s, reason = _ready(node, nvidia_smi, count, seed)
        say(f"{len(epochs)} epochs of {count} trainings, {epochs[-1].end_s:.0f} s")
        recording = Recording(
            simulated_plan(Plan(sources=("nvml",), gpus=("0",)), node), Path(folder) / "paper.parquet", node=node
        )
        with recording:
            recording.start()
            start_ns = node.load_script(0, load(epochs), start_ns=time.monotonic_ns() + round(SOON_S * 1e9))
            samples, late = _follow(epochs, start_ns, traces)
            time.sleep(0.4)  # what the sensors publish of the end
            lap = _lap(node, epochs, start_ns)
            stored = recording.finish()
        published = node.sensor_publications(0, "usage", lap.run.start_ns, lap.run.end_ns)
        meaning = node.power_usage_meaning(0)
        tracer, watts, told_j = _tracer(samples, lap, epochs, meaning, published, reason)
        instant = "instant" if "instant" in node.boards[0].sensors else "usage"
        native = method_of_trace(
            "native", stored, lap, node.sensor_publications(0, instant, lap.run.start_ns, lap.run.end_ns)
        )
        meter_w = as_a_meter(node, epochs, start_ns)
        described, name, board = node.describe(), node.name, f"{node.profile.name}+none"
    say("the loop in virtual time")
    (model, alike), (quick, alike_quick) = (
        _virtual(board, board_seed, driver, costs_s) for driver in (None, QUICK_DRIVER)
    )
    return Paper(
        headline=f"SIMULATED NODE {name}, not a measurement",
        node=described,
        meaning=meaning,
        epochs=epochs,
        load=tuple(load(epochs)),
        start_ns=start_ns,
        lap=lap,
        tracer=tracer,
        native=native,
        traced=None if call_s is None else summed(epochs, call_s, watts, told_j, lap.truth_j, meter_w),
        told=summed(epochs, float("nan"), by_epoch(native), native.epoch_j, lap.truth_j, meter_w),
        call_s=call_s,
        late=late,
        model=model,
        quick=quick,
        alike=alike,
        alike_quick=alike_quick,
        meter_w=meter_w,
        took_s=time.monotonic() - begin_s,
    )


def _virtual(
    board: str, board_seed: int | None, driver: str | None, costs_s: Sequence[float]
) -> tuple[tuple[Traced, ...], tuple[Traced, ...]]:
    """Return the loop on epochs of different lengths, and on such as are all alike long."""
    return (
        curve(board, board_seed, driver=driver, costs_s=costs_s),
        curve(
            board,
            board_seed,
            driver=driver,
            costs_s=costs_s,
            count=ALIKE_TRAININGS,
            epochs_each=ALIKE_EPOCHS,
            lengths_s=ALIKE_S,
        ),
    )


Traces = Callable[[], EaHasTracer] | None


def _ready(
    node: Node, nvidia_smi: str | os.PathLike[str] | None, count: int, seed: int
) -> tuple[tuple[PaperEpoch, ...], Traces, float | None, str | None]:
    """Return the epochs, what makes the tracer of one, the cost of a call, and why there is no tracer."""
    environment = {**os.environ, **node.environment()}
    try:
        program = find_nvidia_smi(nvidia_smi)
        first = EaHasTracer(program, environment)
        first.start()
        first.stop()
    except errors.NotSupported as error:
        return trainings(count, EPOCHS, seed=seed, call_s=0.0), None, None, str(error)
    took_s = []
    for _ in range(TRIES):
        before_s = time.monotonic()
        run_program([program, "-q", "-x"], environment)
        took_s.append(time.monotonic() - before_s)
    call_s = statistics.median(took_s)

    def traces() -> EaHasTracer:
        tracer = EaHasTracer(program, environment)
        tracer.begin(program)
        return tracer

    return trainings(count, EPOCHS, seed=seed, call_s=2 * call_s), traces, call_s, None  # for calls that take longer


def _follow(epochs: Sequence[PaperEpoch], start_ns: int, traces: Traces) -> tuple[list[Samples | None], int]:
    """Live through the epochs, each with a tracer of its own as in the original; return what they read."""
    found: list[Samples | None] = []
    late = 0
    for epoch in epochs:
        _sleep_until(start_ns + round(epoch.begin_s * 1e9))
        late += time.monotonic_ns() > start_ns + round((epoch.begin_s + LATE_S) * 1e9)
        tracer = None if traces is None else traces()
        _sleep_until(start_ns + round(epoch.end_s * 1e9))
        found.append(None if tracer is None else tracer.stop())
    return found, late


def _sleep_until(at_ns: int) -> None:
    time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))


def _lap(node: Node, epochs: Sequence[PaperEpoch], start_ns: int) -> Lap:
    windows = tuple(
        Window(
            f"training {epoch.training} epoch {epoch.number}",
            start_ns + round(epoch.begin_s * 1e9),
            start_ns + round(epoch.end_s * 1e9),
        )
        for epoch in epochs
    )
    run = Window("run", windows[0].start_ns, windows[-1].end_ns)
    state = node.truth_state()
    void = "the simulated load came late or found no space" if state["truth_void"] else None
    truth = np.array([node.truth_j(0, window.start_ns, window.end_ns) for window in windows])
    return Lap(run, windows, truth, node.truth_j(0, run.start_ns, run.end_ns), void)


def by_epoch(method: Method) -> tuple[NDArray[np.float64], ...]:
    """Return what a method read within each epoch of its lap, in W."""
    lap = method.lap
    assert lap is not None
    return tuple(method.watts[(method.t_ns >= w.start_ns) & (method.t_ns <= w.end_ns)] for w in lap.epochs)


def _tracer(
    samples: Sequence[Samples | None],
    lap: Lap,
    epochs: Sequence[PaperEpoch],
    meaning: str,
    published_ns: NDArray[np.int64],
    reason: str | None,
) -> tuple[Method, tuple[NDArray[np.float64], ...], NDArray[np.float64]]:
    """Return the method, and of each epoch its readings and its energy: the mean of all of them times its length."""
    name, reads = EaHasTracer.name, f"power.draw ({meaning})"
    there = [one for one in samples if one is not None]
    watts = tuple(one.watts for one in there)
    if reason is not None or len(there) < len(epochs):
        return Method(name, reads, 1 / SLEEP_S, reason=reason or "it did not run"), watts, np.empty(0)
    told_j = np.array(
        [float(read.mean()) * epoch.seconds if len(read) else np.nan for read, epoch in zip(watts, epochs, strict=True)]
    )
    method = Method(
        name=name,
        reads=reads,
        asked_hz=1 / SLEEP_S,
        lap=lap,
        t_ns=np.concatenate([one.t_ns for one in there]),
        watts=np.concatenate(watts),
        rule=EaHasTracer.rule,
        accounts=tuple(Account(None if np.isnan(one) else one) for one in told_j.tolist()),
        run_j=None,  # it has no word on what lies between its epochs
        published_ns=published_ns,
        failed=sum(one.errors for one in there),
        cost=Cost(sum(one.cpu_s for one in there)),
    )
    return method, watts, told_j
