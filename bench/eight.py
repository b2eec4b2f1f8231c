# SPDX-License-Identifier: Apache-2.0
"""Eight GPUs whose calls take 400 us, at the automatic rate.

What the calls take of every lane's time and of the driver's, and whether a poll fell between every two publications of
every power sensor. Once with calls that exclude each other, as a driver's may, and once without.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.figure import Bar, Figure

GPUS = 8
CALL_S = 400e-6
SETTLE_NS = 500_000_000  # the first pass reads everything once, what comes each five seconds, too
# By the channel's last word: power.usage repeats one of these two and is asked once a second.
SENSORS = ("instant", "average")


def _drained(sampler: Any, lane: int) -> Any:
    from powersample.model import SAMPLE_DTYPE

    out = np.zeros(1 << 17, SAMPLE_DTYPE)
    return out[: sampler.drain(lane, out)]


def _run(one_lock: bool, seconds: float) -> tuple[list[float], list[float], int, int, list[float]]:
    """Return of every lane its share of time in calls and of CPU; publications, those unseen; rates."""
    from powersample._native import api
    from powersample._native.api_nvml import Nvml
    from powersample.sim import Latency, Node

    with Node("h100", gpus=GPUS, latency=Latency.fixed(CALL_S), one_lock=one_lock) as node, api.Sampler() as sampler:
        with Nvml(str(node.library)) as nvml:
            for gpu in range(GPUS):
                sampler.add(nvml.source(gpu))
        sampler.start()
        time.sleep(seconds)
        sampler.stop()
        names = {channel["id"]: channel["name"] for channel in sampler.channels()}
        busy, cpu, rates = [], [], []
        published = unseen = 0
        for lane in range(GPUS):
            stats, samples = sampler.stats(lane), _drained(sampler, lane)
            if stats["slots"] != stats["passes"] + stats["skipped"] or stats["dropped"]:
                raise RuntimeError(f"the lane's account does not add up: {stats}")
            begin_ns = stats["start_ns"] + SETTLE_NS
            span_ns = stats["last_ns"] - begin_ns
            calls = np.unique(samples[samples["t0_ns"] >= begin_ns][["t0_ns", "t1_ns"]])
            busy.append(float((calls["t1_ns"] - calls["t0_ns"]).sum()) / span_ns)
            cpu.append(stats["cpu_ns"] / (stats["last_ns"] - stats["start_ns"]))
            rates.append(stats["rate_hz"])
            for number, name in names.items():
                word = name.rpartition(".")[2]
                if not name.startswith(f"gpu{lane}.power") or word not in SENSORS:
                    continue
                mine = samples[(samples["channel"] == number) & (samples["status"] == 0)]
                # A reading is of some instant within its call.
                at_ns = node.sensor_publications(lane, word, int(mine["t1_ns"][0]), int(mine["t0_ns"][-1]))
                polls = np.searchsorted(mine["t0_ns"], at_ns[1:]) - np.searchsorted(mine["t1_ns"], at_ns[:-1])
                published += len(polls)
                unseen += int((polls < 1).sum())
    return busy, cpu, published, unseen, rates


def figures(quick: bool) -> Iterator[Figure]:
    """Yield shares and unseen updates, with one lock and without."""
    repeats, seconds = (1, 4.0) if quick else (3, 20.0)
    for one_lock in (True, False):
        lanes, driver, cpu, rates = [], [], [], []
        published, unseen = 0, []
        for _ in range(repeats):
            busy, used, count, lost, hz = _run(one_lock, seconds)
            lanes += [100 * one for one in busy]
            driver.append(100 * sum(busy))
            cpu.append(100 * sum(used))
            rates += hz
            published += count
            unseen.append(float(lost))
        how = "calls exclude each other" if one_lock else "calls side by side"
        notes = [
            f"{repeats} runs of {seconds:g} s, {GPUS} simulated h100, calls of 400 us, {how}",
            f"power at {np.median(rates):.1f} Hz",
        ]
        yield Figure("eight", f"time in calls, a lane ({how})", "%", Bar("<=", 2), lanes, notes)
        spent = [*notes, f"CPU time of all lanes {np.median(cpu):.2f} % of a core"]
        yield Figure("eight", f"time in calls, all lanes of the driver ({how})", "%", Bar("<=", 5), driver, spent)
        seen = [
            *notes,
            f"{published} of power.instant and power.average; power.usage repeats one of them",
        ]
        what = f"publications that no poll fell behind before the next ({how})"
        yield Figure("eight", what, "publications", Bar("<=", 0), unseen, seen)
