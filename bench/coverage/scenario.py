# SPDX-License-Identifier: Apache-2.0
"""One scenario: a board that the analysis does not know, a load, polls with faults, a window and its exact truth."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.coverage import loads
from powersample._native import api_sim
from powersample.model import Channel, Kind, Series, Trace, Window
from powersample.sim.profile import Board, draw_board, driver, load_profile

MS, S = loads.MS, loads.S
BEFORE_NS, AFTER_NS = 6 * S, 3 * S
FIELDS = {"instant": "nvml.field.186", "average": "nvml.field.185", "usage": "nvml.power_usage"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was drawn, and the trace that it gives.

    Attributes:
        profile: of the board.
        load: kind of load.
        window: to be told.
        truth_j: its exact energy.
        board: what the board is really like.
        trace: one channel a field of the board.
    """

    profile: str
    load: str
    window: Window
    truth_j: float
    board: Board
    trace: Trace


def draw(profile_name: str, seed: int, *, gain_spread: float = 1.0) -> Scenario:
    """Return scenario number `seed` of a profile; gain_spread widens the board's gain and offset beyond the table's."""
    dice = random.Random(f"{profile_name} {seed}")
    profile = load_profile(profile_name)
    versions = driver(profile, None)
    board = draw_board(
        profile, board_seed=seed, gpu=0, seed=seed, branch=versions.branch, counter="integrating", start_ns=0
    )
    board = _spread(board, gain_spread)
    length_ns = round(0.05 * S * (60 / 0.05) ** dice.random())
    start_ns = 1000 * S + dice.randrange(S)
    end_ns = start_ns + length_ns
    idle_mw, max_mw = (round(float(profile[f"board.{name}_w"]) * 1000) for name in ("idle", "max"))
    own = dice.random() < 0.5  # the window is the load; else it is cut out of one that runs
    margin = (0, 0) if own else (dice.randrange(2 * S), dice.randrange(2 * S))
    kind, steps = loads.draw(dice, start_ns - margin[0], end_ns + margin[1], idle_mw, max_mw)
    marks = [round(dice.uniform(-MS, MS)) if own else 0 for _ in range(2)]
    window = Window("w", start_ns + marks[0], end_ns + marks[1])
    begin_ns, over_ns = start_ns - BEFORE_NS, end_ns + AFTER_NS
    with tempfile.TemporaryDirectory() as folder:
        truth = api_sim.Truth.create(Path(folder) / "t", begin_ns - 20 * S, idle_mw, 1 << 16)
        for t_ns, p1, p2, period_ns, on_ns in steps:
            truth.append(t_ns, p1, p2, period_ns, on_ns, live=False)
        truth_j = truth.joules(window.start_ns, window.end_ns)
        parts = list(_channels(dice, board, truth, begin_ns, over_ns))
        truth.close()
    uuid = {"uuid": "GPU-X", "name": profile["board.name"], "architecture": profile["board.architecture"]}
    meta: Mapping[str, Any] = {"devices": [uuid], "driver": versions.version}
    return Scenario(profile_name, kind, window, truth_j, board, Trace.of(parts, meta=meta))


def _spread(board: Board, factor: float) -> Board:
    if factor == 1.0:
        return board
    gain, offset_w = 1 + (board.gain - 1) * factor, board.offset_w * factor
    sensors = {
        name: replace(one, gain=gain, offset_mw=one.offset_mw * factor if one.offset_mw else 0.0)
        for name, one in board.sensors.items()
    }
    return Board(gain, offset_w, board.noise_w, sensors)


def _polls(dice: random.Random, begin_ns: int, end_ns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the stamps and statuses of one lane's polls."""
    step = 1e9 / (10 * 100 ** dice.random())
    random_state = np.random.default_rng(dice.randrange(1 << 30))
    t = begin_ns + np.arange(int((end_ns - begin_ns) / step)) * step
    t = t + np.abs(random_state.normal(0, 0.03 * step, len(t)))
    keep = np.ones(len(t), bool)
    if dice.random() < 0.4:
        at = begin_ns
        while at < end_ns:
            at += random_state.exponential(4 * S)
            stall = min(random_state.exponential(0.15 * S), 2 * S)
            keep &= ~((t > at) & (t < at + stall))
            at += stall
    t = t[keep].astype(np.int64)
    status = np.zeros(len(t), np.uint16)
    if dice.random() < 0.3:
        status[random_state.random(len(t)) < 0.01] = 999
    return t, status


def _channels(dice: random.Random, board: Board, truth: api_sim.Truth, begin_ns: int, end_ns: int) -> Iterator[Series]:
    t, status = _polls(dice, begin_ns, end_ns)
    stamp = t // MS * MS if dice.random() < 0.3 else t
    for name, sensor in board.sensors.items():
        if name not in FIELDS:
            continue
        published = sensor.publications(begin_ns - 3 * S, end_ns)
        value = sensor.read(truth, published)
        raw = value[np.searchsorted(published, t, "right") - 1]
        channel = Channel(f"gpu0.power.{name}", "GPU-X", "gpu", Kind.POWER, "W", 1e-3, sensor=FIELDS[name])
        yield Series(channel, stamp, stamp, raw, status, np.arange(len(t)))
