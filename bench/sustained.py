# SPDX-License-Identifier: Apache-2.0
"""Some seconds of sampling by one method beside one load, and what came of it: readings, gaps, values, CPU time.

The other tools' methods are those of powersample.experiments.baselines. What is read is a simulated board, whose sensor
publishes each 100 ms; or a stub that answers a constant at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RING_RECORDS = 1 << 19  # 10 kHz of a board with some channels, for seconds


def idle(seconds: float) -> None:
    """The main thread has nothing to do."""
    time.sleep(seconds)


def busy(seconds: float) -> None:
    """The main thread is in pure Python, never giving up the interpreter by itself."""
    end_s, total = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        for i in range(1000):
            total += i * i % 7


LOADS: dict[str, Callable[[float], None]] = {"idle": idle, "python": busy}


def interpreter_has_a_lock() -> bool:
    """Whether this Python's threads exclude each other; what is compared beside a busy one rests on that."""
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return enabled()


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What one method took in some seconds.

    Attributes:
        asked_hz: readings a second that were asked for.
        seconds: how long it was left to.
        t_ns: when it read, int64, shape (n,).
        values: what it read, shape (n,).
        cpu_s: CPU time of everything it ran meanwhile.
        errors: readings that failed.
        slots: of a lane with a grid: instants due.
        passes: of those, served.
    """

    asked_hz: float
    seconds: float
    t_ns: NDArray[np.int64]
    values: NDArray[Any]
    cpu_s: float
    errors: int = 0
    slots: int | None = None
    passes: int | None = None

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def gaps_us(self) -> NDArray[np.float64]:
        """Spacings of the readings, in us, shape (n - 1,)."""
        return np.diff(self.t_ns) / 1e3

    def gap_us(self, percent: float) -> float:
        """Return a percentile of the spacings in us; infinite with fewer than two readings."""
        return float(np.percentile(self.gaps_us, percent)) if len(self) > 1 else float("inf")

    @property
    def cpu_us_each(self) -> float:
        """CPU time of one reading in us."""
        return self.cpu_s * 1e6 / max(1, len(self))

    def as_json(self) -> dict[str, float | int | None]:
        """Return what pytest-benchmark keeps of it. Gaps beyond 1.5 periods are counted, never bins that stay empty: a
        reading that is merely late would leave one bin empty and fill the next one twice.
        """
        long_gaps = int((self.gaps_us > 1.5e6 / self.asked_hz).sum())
        changes = int((np.diff(self.values) != 0).sum())
        return {
            "asked_hz": self.asked_hz,
            "readings": len(self),
            "rate_hz": round(len(self) / self.seconds, 3),
            "share_of_asked": round(len(self) / (self.seconds * self.asked_hz), 5),
            "gap_p50_us": _round(self.gap_us(50)),
            "gap_p99_us": _round(self.gap_us(99)),
            "gap_max_us": _round(self.gap_us(100)),
            "gaps_over_1_5_periods": long_gaps,
            "value_changes": changes,
            "cpu_us_a_reading": _round(self.cpu_us_each),
            "cpu_share_of_a_core": round(self.cpu_s / self.seconds, 6),
            "errors": self.errors,
            "slots": self.slots,
            "passes": self.passes,
        }


def _round(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def lane(library: str | os.PathLike[str], rate_hz: float, load: Callable[[float], None], seconds: float) -> Taken:
    """Take by the native sampler in this process; its account must add up."""
    from powersample._native import api
    from powersample._native.api_nvml import Nvml
    from powersample.model import SAMPLE_DTYPE

    with api.Sampler() as sampler:
        with Nvml(library) as nvml:
            sampler.add(nvml.source(0), api.LaneOptions(rate_hz=rate_hz, ring_records=RING_RECORDS))
        sampler.start()
        begin_s = time.monotonic()
        load(seconds)
        took_s = time.monotonic() - begin_s
        sampler.stop()
        stats, names = sampler.stats(0), [one["name"] for one in sampler.channels()]
        records = np.zeros(RING_RECORDS, SAMPLE_DTYPE)
        records = records[: sampler.drain(0, records)]
    if stats["slots"] != stats["passes"] + stats["skipped"] or stats["dropped"]:
        raise RuntimeError(f"the lane's account does not add up: {stats}")
    quick = next((name for name in names if name.endswith("power.instant")), "gpu0.power.usage")
    mine = records[records["channel"] == names.index(quick)]
    good = mine[mine["status"] == 0]
    return Taken(
        rate_hz,
        took_s,
        good["t1_ns"].copy(),
        good["raw"].copy(),
        stats["cpu_ns"] / 1e9,
        len(mine) - len(good),
        stats["slots"],
        stats["passes"],
    )


def baseline(method: Any, load: Callable[[float], None], seconds: float) -> Taken:
    """Take by one of the other methods.

    Raises:
        NotSupported: it cannot run here; says why.
    """
    method.start()
    begin_s = time.monotonic()
    try:
        load(seconds)
    finally:
        took_s = time.monotonic() - begin_s
        samples = method.stop()
    return Taken(method.asked_hz, took_s, samples.t_ns, samples.watts, samples.cpu_s, samples.errors)


@dataclass(frozen=True, slots=True)
class Board:
    """What is read: an NVML library, and the environment in which a child's NVML is that one."""

    library: Path
    environment: dict[str, str]
    what: str
    node: Any

    def published(self, method: str, start_ns: int, end_ns: int) -> int:
        """Return how many values the sensor that a method reads published in (start_ns, end_ns]."""
        sensor = "instant" if method in ("native", "pynvml-instant") else "usage"
        return len(self.node.sensor_publications(0, sensor, start_ns, end_ns))


@contextmanager
def simulated_board() -> Iterator[Board]:
    """Yield a simulated H100 whose power changes all the time, its calls as fast as the stand-in is."""
    from powersample.sim import Node

    with Node("h100", board_seed=1) as node:
        node.load_wave(0, 90, 650, period_s=0.73, duty=0.5)
        yield Board(node.library, os.environ | node.environment(), "stand-in: simulated H100", node)


METHODS = ("native", "pynvml-thread", "pynvml-instant", "cuda-bindings", "nvidia-smi-lms", "nvidia-smi-spawn")


def take(name: str, board: Board, rate_hz: float, load: Callable[[float], None], seconds: float) -> Taken:
    """Take by a method of `METHODS` at a rate.

    Raises:
        NotSupported: it cannot run here, or not at such a rate.
    """
    from powersample.errors import NotSupported
    from powersample.experiments import baselines
    from powersample.experiments.baselines.pynvml_thread import CudaBindingsThread

    if name == "native":
        return lane(board.library, rate_hz, load, seconds)
    if name == "pynvml-thread":
        return baseline(baselines.PynvmlThread(board.library, asked_hz=rate_hz), load, seconds)
    if name == "pynvml-instant":
        return baseline(baselines.PynvmlInstant(board.library, asked_hz=rate_hz), load, seconds)
    if name == "cuda-bindings":
        return baseline(CudaBindingsThread(board.library, asked_hz=rate_hz), load, seconds)
    if name == "nvidia-smi-spawn":
        return baseline(baselines.NvidiaSmiSpawn(environment=board.environment, period_s=1 / rate_hz), load, seconds)
    if rate_hz > 1000:
        raise NotSupported("nvidia-smi's loop takes whole milliseconds: 1 kHz at most")
    loop = baselines.NvidiaSmiLoop(environment=board.environment, period_ms=round(1000 / rate_hz))
    return baseline(loop, load, seconds)
