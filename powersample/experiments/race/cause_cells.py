# SPDX-License-Identifier: Apache-2.0
"""How each cause is told apart: by neighbouring runs with and without it, or from the sensor's model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample._native import api
from powersample._native.api_nvml import Nvml
from powersample.experiments.baselines import PynvmlThread
from powersample.experiments.baselines.binding import NvmlBinding
from powersample.experiments.baselines.process import run as run_program
from powersample.experiments.interpreter import free_threaded
from powersample.experiments.race.aliasing import PHASES, RATES_HZ, aliasing, ideal
from powersample.experiments.workload import prepare_until
from powersample.model import SAMPLE_DTYPE
from powersample.sim import Latency, Node

LEAST, CELL_S = 3, 4.0  # a cell is left after so many runs and this time
PACED_HZ, BESIDE_S = 1000.0, 0.4
BARE = ("true",)  # a program that does nothing
POWER = ("--query-gpu=power.draw", "--format=csv,noheader,nounits", "-i", "0")
WHOLE = ("-q", "-x")
MS, LATE, PCT = "ms a reading", "ms late (p99)", "% of readings lost"
OLD, UNSEEN = "ms old", "% of the time"
ALIASING = "aliasing"


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, for one way of reading.

    Attributes:
        cause: What is told of.
        method: The way of reading that it concerns.
        what: How it was told apart.
        unit: Of the figures.
        median: Median of the differences, or the figure that was worked out; of aliasing the worst.
        low: Their lower quartile; of aliasing the least error; None of what was worked out.
        high: Their upper quartile, or the greatest.
        count: How many there were; 0 of what was worked out.
        call_us: Injected duration of a driver call, us; None where none was injected.
        rate_hz: Polls a second, where it is about those.
    """

    cause: str
    method: str
    what: str
    unit: str
    median: float
    low: float | None = None
    high: float | None = None
    count: int = 0
    call_us: float | None = None
    rate_hz: float | None = None


# ---- processes ----------------------------------------------------------------------------------------------------


def processes(node: Node, program: Path, rounds: int, calls_s: Sequence[float]) -> list[Cause]:
    """Return what a process for every reading costs, and a driver's calls in it.

    Raises:
        NotSupported: nvidia-smi does not work here.
    """
    environment = {**os.environ, **node.environment()}

    def took(*arguments: str | os.PathLike[str]) -> Callable[[], float]:
        def once() -> float:
            before_s = time.perf_counter()
            done = run_program(arguments, environment)
            if done.code != 0:
                raise errors.NotSupported(done.trouble(str(arguments[0]), 0.0) or "it failed")
            return time.perf_counter() - before_s

        return once

    power, whole = took(program, *POWER), took(program, *WHOLE)
    bare_s, power_s, whole_s = by_turns((took(*BARE), power, whole), rounds)
    spawn, tracer = "nvidia-smi-spawn", "ea-has-tracer"
    found = [
        _cause("process start", spawn, "a process that does nothing", bare_s),
        _cause("its and NVML's start", spawn, "nvidia-smi for power.draw, less that", power_s - bare_s),
        _cause("the whole XML", tracer, "nvidia-smi -q -x, less nvidia-smi for power.draw", whole_s - power_s),
    ]
    for call_s in calls_s:
        for name, once in ((spawn, power), (tracer, whole)):
            less_s, more_s = by_turns((once, _with(node, call_s, once)), rounds)
            found.append(_cause("driver calls", name, "with it less without it", more_s - less_s, call_s))
    return found


@contextmanager
def _calls_of(node: Node, call_s: float) -> Iterator[None]:
    """Let every call of the node's driver take so long, until the end, however that comes."""
    node.set_latency("any", Latency.fixed(call_s) if call_s else Latency.none())
    try:
        yield
    finally:
        node.set_latency("any", Latency.none())


def _with(node: Node, call_s: float, once: Callable[[], float]) -> Callable[[], float]:
    def slowed() -> float:
        with _calls_of(node, call_s):
            return once()

    return slowed


def by_turns(cells: Sequence[Callable[[], float]], rounds: int) -> tuple[NDArray[np.float64], ...]:
    """Run every cell once a round; return their figures, shape (n,) each, neighbours of one round at one index."""
    rows: list[list[float]] = []
    begin_s = time.monotonic()
    while len(rows) < rounds and (len(rows) < LEAST or time.monotonic() < begin_s + CELL_S):
        rows.append([cell() for cell in cells])
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def _cause(cause: str, method: str, what: str, seconds: NDArray[np.float64], call_s: float | None = None) -> Cause:
    return _told(cause, method, what, MS, 1e3 * seconds, call_s)


def _told(
    cause: str, method: str, what: str, unit: str, values: NDArray[np.float64], call_s: float | None = None
) -> Cause:
    low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Cause(cause, method, what, unit, median, low, high, len(values), None if call_s is None else 1e6 * call_s)


# ---- calls --------------------------------------------------------------------------------------------------------


def initialisation(node: Node, rounds: int) -> list[Cause]:
    """Return what NVML's start and end cost by themselves."""

    def once() -> float:
        binding = NvmlBinding(node.library)
        before_s = time.perf_counter()
        binding.open()
        binding.close()
        return time.perf_counter() - before_s

    (taken_s,) = by_turns((once,), rounds)
    return [_cause("NVML init alone", "any process", "nvmlInit and nvmlShutdown in this process", taken_s)]


def calls(node: Node, calls_s: Sequence[float]) -> list[Cause]:
    """Return what a reading inside this process costs, of calls of every duration."""
    found = []
    for call_s in (0.0, *calls_s):
        with _calls_of(node, call_s):
            taken = {"pynvml-thread": _pynvml_s(node, call_s), "native": _lane_s(node, call_s)}
        what = "one reading; a lane's has the board's instant and average power"
        found += [_cause("driver calls", name, what, each_s, call_s) for name, each_s in taken.items()]
    return found


def _pynvml_s(node: Node, call_s: float) -> NDArray[np.float64]:
    binding = NvmlBinding(node.library)
    pynvml = binding.open()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        taken: list[float] = []
        for _ in range(_count(call_s)):
            before_s = time.perf_counter()
            pynvml.nvmlDeviceGetPowerUsage(handle)
            taken.append(time.perf_counter() - before_s)
    finally:
        binding.close()
    return np.array(taken)


def _lane_s(node: Node, call_s: float) -> NDArray[np.float64]:
    options = api.LaneOptions(mode="tight", max_passes=_count(call_s), ring_records=1 << 14)
    with api.Sampler() as sampler:
        with Nvml(node.library) as nvml:
            sampler.add(nvml.source(0), options)
        sampler.start()
        while sampler.running:
            time.sleep(0.005)
        sampler.stop()
        t0_ns, t1_ns = _drained(sampler)
    return (t1_ns - t0_ns) / 1e9


def _count(call_s: float) -> int:
    return int(max(20, min(500, 0.3 / max(call_s, 1e-6))))


def _drained(sampler: api.Sampler) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return when the readings of the first power channel began and ended."""
    rows = np.zeros(1 << 14, SAMPLE_DTYPE)
    rows = rows[: sampler.drain(0, rows)]
    first = next(channel["id"] for channel in sampler.channels() if channel["kind"] == "power")
    good = (rows["channel"] == first) & (rows["status"] == 0)
    return np.asarray(rows["t0_ns"][good], np.int64), np.asarray(rows["t1_ns"][good], np.int64)


# ---- beside a program ---------------------------------------------------------------------------------------------


def beside(node: Node, rounds: int) -> list[Cause]:
    """Return what comes late, and what is lost, beside a program that sleeps and one that is busy in Python.

    An interpreter without a global lock holds nobody up: of it only the first is told.
    """

    def idle() -> None:
        time.sleep(BESIDE_S)

    def busy() -> None:
        prepare_until(time.monotonic() + BESIDE_S)

    ways: dict[str, Callable[[Callable[[], None]], NDArray[np.int64]]] = {
        "native": lambda load: _lane_ns(node, load),
        "pynvml-thread": lambda load: _thread_ns(node, load),
    }
    loads = (("idle", idle),) if free_threaded() else (("idle", idle), ("busy", busy))
    kept: dict[tuple[str, str], list[float]] = {}
    late: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            for load, do in loads:
                t_ns = way(do)
                gaps_ms = np.diff(t_ns) / 1e6
                kept.setdefault((name, load), []).append(100 * len(t_ns) / (BESIDE_S * PACED_HZ))
                late.setdefault((name, load), []).append(float(np.percentile(gaps_ms, 99)) - 1e3 / PACED_HZ)
    found = []
    for name in ways:
        what = "p99 of the spacing at 1 kHz beyond 1 ms, program asleep"
        found.append(_told("scheduling", name, what, LATE, np.array(late[name, "idle"])))
    for name in () if free_threaded() else ways:
        more_ms = np.array(late[name, "busy"]) - np.array(late[name, "idle"])
        lost = np.array(kept[name, "idle"]) - np.array(kept[name, "busy"])
        found.append(_told("interpreter's lock", name, "the same beside pure Python, less that", LATE, more_ms))
        found.append(_told("interpreter's lock", name, "readings lost beside pure Python, at 1 kHz", PCT, lost))
    return found


def _lane_ns(node: Node, load: Callable[[], None]) -> NDArray[np.int64]:
    with api.Sampler() as sampler:
        with Nvml(node.library) as nvml:
            sampler.add(nvml.source(0), api.LaneOptions(rate_hz=PACED_HZ, ring_records=1 << 14))
        sampler.start()
        load()
        sampler.stop()
        return _drained(sampler)[0]


def _thread_ns(node: Node, load: Callable[[], None]) -> NDArray[np.int64]:
    method = PynvmlThread(node.library, asked_hz=PACED_HZ)
    method.start()
    load()
    return method.stop().t_ns


# ---- the sensor ---------------------------------------------------------------------------------------------------


def sensor(node: Node) -> list[Cause]:
    """Return what the board's own sensors withhold, from their model: T, W and delay; no polling changes it."""
    found = []
    for kind, name in (("instant", "field 186"), ("average", "field 185")):
        model = node.boards[0].sensors.get(kind)
        if model is None:
            continue
        period_ms, window_ms = model.period_ns / 1e6, model.window_ns / 1e6
        age_ms = window_ms / 2 + (model.delay_ns + model.tau_ns) / 1e6 + period_ms / 2
        unseen = max(0.0, 100 * (1 - window_ms / period_ms))
        found += [
            Cause("the sensor", name, "mean age of what a poll tells: W/2 + lag + delay + T/2", OLD, age_ms),
            Cause("the sensor", name, "of the time no value tells: 1 - W/T", UNSEEN, unseen),
        ]
    model = node.boards[0].sensors.get("instant")
    if model is None or model.window_ns >= model.period_ns:
        return found
    shows = (
        lambda t_ns: node.sensor_values(0, "instant", t_ns),
        ideal(node, model.period_ns, model.window_ns),
    )
    for name, errors_pct in zip(("field 186", "no lag, jitter"), aliasing(node, model.period_ns, shows), strict=True):
        for rate_hz, (least, greatest) in zip(RATES_HZ, errors_pct, strict=True):
            what = f"energy of a load of the sensor's period polled at {rate_hz:g}/s, worst of {PHASES} phases"
            found.append(Cause(ALIASING, name, what, "% of energy", least, least, greatest, PHASES, rate_hz=rate_hz))
    return found
