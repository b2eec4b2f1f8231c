# SPDX-License-Identifier: Apache-2.0
"""Works done again and again under a part-time sensor that nothing stands beside: what their scatter tells of each."""

from __future__ import annotations

import math
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.coverage.loads import MS, S
from bench.coverage.scenario import FIELDS
from powersample._native import api_sim
from powersample.analysis import channel_energy, window_energies
from powersample.model import Channel, Energy, Kind, Series, Trace, Window
from powersample.sim.profile import draw_board, driver, load_profile

PROFILES = ("a100", "gh200", "h100", "m40", "p100", "v100")
SPACINGS = ("random", "swept", "locked")
NAME = "gpu0.power.instant"
BEFORE_NS, AFTER_NS = 6 * S, 3 * S


@dataclass(frozen=True, slots=True)
class Repeat:
    """One of several windows of the same work.

    Attributes:
        profile: of the board.
        seed: of the scenario.
        spacing: of the begins: random pauses, steps of an eighth of the update period, or whole periods.
        near: whether the work repeats itself within 15 % of the update period.
        count: of repeats.
        excluded: whether its repeats narrowed its interval.
        fooled: whether they showed that the sensor was fooled.
        covered: whether the interval holds the truth.
        off: whether it is further off than its repeats say, gain and offset taken out.
        narrowed: the reconstruction's half-width with the repeats over that without.
    """

    profile: str
    seed: int
    spacing: str
    near: bool
    count: int
    excluded: bool
    fooled: bool
    covered: bool
    off: bool
    narrowed: float


def rows(profile_name: str, seed: int) -> list[Repeat]:
    """Return the repeats of one scenario."""
    dice = random.Random(f"swept {profile_name} {seed}")
    profile = load_profile(profile_name)
    idle_mw, max_mw = (round(float(profile[f"board.{one}_w"]) * 1000) for one in ("idle", "max"))
    begin_ns = 1000 * S + dice.randrange(S)
    board = draw_board(
        profile, board_seed=seed, gpu=0, seed=seed, branch=driver(profile, None).branch, counter="integrating",
        start_ns=begin_ns - 10 * S,
    )  # fmt: skip
    sensor = board.sensors["instant"]
    near = dice.random() < 0.5
    period_ns = round(sensor.period_ns * dice.uniform(0.85, 1.15) if near else 10 * MS * 100 ** dice.random())
    if near and dice.random() < 0.5:
        period_ns = sensor.period_ns
    count, spacing = dice.randint(4, 28), dice.choice(SPACINGS)
    work_ns = round(0.3 * S * 20 ** dice.random())
    level = [dice.uniform(0.05, 0.4), dice.uniform(0.5, 1.0)]
    share = dice.uniform(0.1, 0.9)
    steps, windows = [], []
    at = begin_ns + BEFORE_NS
    for i in range(count):
        low, high = (round(idle_mw + one * dice.gauss(1, 0.003) * (max_mw - idle_mw)) for one in level)
        steps += [(at, high, low, period_ns, round(share * period_ns)), (at + work_ns, idle_mw, 0, 0, 0)]
        windows.append(Window(f"work {i}", at, at + work_ns))
        at += _apart(dice, spacing, work_ns, sensor.period_ns)
    over_ns = at + AFTER_NS
    with tempfile.TemporaryDirectory() as folder:
        truth = api_sim.Truth.create(Path(folder) / "t", begin_ns - 20 * S, idle_mw, 1 << 12)
        for step in steps:
            truth.append(*step, live=False)
        truths_j = [truth.joules(one.start_ns, one.end_ns) for one in windows]
        t_ns = np.arange(begin_ns, over_ns, round(S / (100 * 10 ** dice.random())), dtype=np.int64)
        published = sensor.publications(begin_ns - 3 * S, over_ns)
        raw = sensor.read(truth, published)[np.searchsorted(published, t_ns, "right") - 1]
        truth.close()
    device = {"uuid": "GPU-X", "name": profile["board.name"], "architecture": profile["board.architecture"]}
    meta: Mapping[str, Any] = {"devices": [device], "driver": driver(profile, None).version}
    channel = Channel(NAME, "GPU-X", "gpu", Kind.POWER, "W", 1e-3, sensor=FIELDS["instant"])
    series = Series(channel, t_ns, t_ns, raw, np.zeros(len(t_ns), np.uint16), np.arange(len(t_ns), dtype=np.uint32))
    trace = Trace.of([series], windows=windows, meta=meta)
    found = []
    for (measured,), window, truth_j in zip(window_energies(trace, windows), windows, truths_j, strict=True):
        one, alone = measured.energy, channel_energy(trace, NAME, window)
        if one.joules is None or one.low_j is None or one.high_j is None:
            continue
        pure_j = (one.joules - board.offset_w * window.duration_s) / board.gain
        found.append(
            Repeat(
                profile_name, seed, spacing, near, count, "repeats" in one.excluded,
                any("follow the phase" in reason for reason in one.reasons), one.low_j <= truth_j <= one.high_j,
                abs(pure_j - truth_j) > _own_j(one), _own_j(one) / _own_j(alone),
            )
        )  # fmt: skip
    return found


def _apart(dice: random.Random, spacing: str, work_ns: int, period_ns: int) -> int:
    """Return how long after a repeat's begin the next one begins."""
    if spacing == "random":
        return work_ns + round(dice.uniform(0.3, 1.3) * S)
    whole = (math.ceil(work_ns / period_ns) + 5) * period_ns
    return whole + (period_ns // 8 if spacing == "swept" else 0)


def _own_j(energy: Energy) -> float:
    return math.hypot(*(term.value_j for term in energy.budget if term.kind == "standard"))


def _some(job: tuple[str, Sequence[int]]) -> list[Repeat]:
    return [one for seed in job[1] for one in rows(job[0], seed)]


def run(seeds: range) -> list[Repeat]:
    """Return the repeats of every seed of every profile whose sensor looks part of the time, in their order."""
    jobs = [(name, seeds[at : at + 25]) for name in PROFILES for at in range(0, len(seeds), 25)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [one for some in pool.map(_some, jobs) for one in some]
