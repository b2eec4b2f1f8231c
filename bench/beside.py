# SPDX-License-Identifier: Apache-2.0
"""Sampling at 1 kHz beside a main thread that is busy in Python.

The native lane and a pynvml thread, each also beside an idle main thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from bench import native
from bench.figure import Bar, Figure, spread

RATE_HZ = 1000.0


def _idle(seconds: float) -> None:
    time.sleep(seconds)


def _busy(seconds: float) -> None:
    """Pure Python, never giving up the interpreter by itself."""
    end_s, total = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        for i in range(1000):
            total += i * i % 7


def _native_lane(load: Callable[[float], None], seconds: float) -> float:
    """Return the share of slots served; the identities must hold."""
    from powersample._native import api
    from powersample._native.api_nvml import Nvml

    with api.Sampler() as sampler:
        with Nvml(native.stub_library()) as nvml:
            sampler.add(nvml.source(0), api.LaneOptions(rate_hz=RATE_HZ))
        sampler.start()
        load(seconds)
        sampler.stop()
        stats = sampler.stats(0)
    if stats["slots"] != stats["passes"] + stats["skipped"] or stats["dropped"]:
        raise RuntimeError(f"the lane's account does not add up: {stats}")
    return stats["passes"] / stats["slots"]


def _pynvml_thread(load: Callable[[float], None], seconds: float) -> float:
    """Return readings over those asked for."""
    from powersample.experiments.baselines.pynvml_thread import PynvmlThread

    thread = PynvmlThread(native.stub_library(), asked_hz=RATE_HZ)
    begin_s = time.monotonic()
    thread.start()
    load(seconds)
    took_s = time.monotonic() - begin_s
    return len(thread.stop().t_ns) / (took_s * RATE_HZ)


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the shares of both, busy and idle in turns."""
    repeats, seconds = (2, 0.5) if quick else (5, 2.0)
    shares: dict[str, list[float]] = {
        "native busy": [],
        "native idle": [],
        "pynvml busy": [],
        "pynvml idle": [],
    }
    for _ in range(repeats):
        for method, run in (("native", _native_lane), ("pynvml", _pynvml_thread)):
            for name, load in (("idle", _idle), ("busy", _busy)):
                shares[f"{method} {name}"].append(run(load, seconds))
    where = f"{repeats} runs of {seconds:g} s at 1 kHz, stand-in: the stub library"
    for method, what, bar in (
        ("native", "slots served by the native lane beside a Python-busy main thread", Bar(">=", 0.98)),
        ("pynvml", "readings of a pynvml thread over those asked for, beside the same", None),
    ):
        busy, idle = shares[f"{method} busy"], shares[f"{method} idle"]
        notes = [where, f"beside an idle main thread: {np.median(idle):.4f}", f"quartiles {spread(busy)}"]
        yield Figure("beside", what, "share", bar, busy, notes)
