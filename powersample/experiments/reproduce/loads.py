# SPDX-License-Identifier: Apache-2.0
"""Loads of a whole node in its future: a calibration's ladder, and trainings with what their host does meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from powersample.experiments.calibrate.ground import NodeGround
from powersample.experiments.calibrate.plan import FULL, IDLE, Rung, ladder, parse_rungs
from powersample.experiments.paper.epochs import REST_W, PaperEpoch, load, trainings
from powersample.sim import Node

S = 1_000_000_000
BEGIN_NS = 10**17  # of every node's time, 3 years of uptime: whenever it is asked, the same figures come out
PACKAGES, DRAMS = ("package-0", "package-1"), ("package-0.dram", "package-1.dram")
GPUS = ("gpu0", "gpu1", "gpu2", "gpu3")
HOST_W, MEMORY_W = (110.0, 220.0), (30.0, 50.0)  # assumed: a socket and its memory while a GPU trains
SHARES = (0.85, 1.0)  # assumed: of four GPUs that wait for each other, what each draws of what one alone would
BATCH_S = 4.0  # of trainings of which only the sum is asked for: their insides do not matter, and take time
SETTLE_S, HOLD_S = 300.0, 30.0  # five time constants of the slowest fans; then a point is taken


def rungs(seed: int) -> tuple[Rung, ...]:
    """Return the ladder that `powersample calibrate` climbs, idle first and last."""
    found, _ = ladder(parse_rungs(FULL), {}, seed)
    return found


def climb(node: Node, asked: Sequence[Rung]) -> list[tuple[int, int]]:
    """Give a fresh node the rungs one after the other; return when each is settled and for how long it holds, ns."""
    ground, step_s = NodeGround(node), SETTLE_S + HOLD_S
    steps: dict[str, list[tuple[float, float]]] = {}
    for place, rung in enumerate(asked):
        for name, watts in ground.powers_w(rung).items():
            steps.setdefault(name, []).append((place * step_s, watts))
    start_ns = give(node, steps)
    settled = [start_ns + round((place * step_s + SETTLE_S) * S) for place in range(len(asked))]
    return [(a_ns, a_ns + round(HOLD_S * S)) for a_ns in settled]


def fresh(profile: str, node_seed: int | None, **settings: Any) -> Node:
    """Return a node whose time begins far in the future."""
    return Node(profile, node_seed=node_seed, begin_ns=BEGIN_NS, **settings)


def give(node: Node, steps: Mapping[str, Sequence[tuple[float, float]]]) -> int:
    """Give devices of a fresh node loads that begin with its time; return when, ns."""
    start_ns = BEGIN_NS + S
    for name, each in steps.items():
        node.load_script(name, each, start_ns=start_ns)
    return start_ns


def train(node: Node, epochs: Sequence[PaperEpoch], *, gpus: int, seed: int) -> int:
    """Give a fresh node trainings on so many GPUs, and their host's work from each one's begin to its end.

    Returns:
        When their time begins, ns.
    """
    dice = np.random.default_rng(seed)
    board = load(epochs)
    steps: dict[str, list[tuple[float, float]]] = {}
    for place, name in enumerate(GPUS[:gpus]):
        share = 1.0 if gpus == 1 else float(dice.uniform(*SHARES))
        steps[name] = [(t_s, REST_W + share * (watts - REST_W)) for t_s, watts in board] if place or gpus > 1 else board
    idle_w = NodeGround(node).powers_w(Rung(IDLE, {}))
    for name in (*PACKAGES, *DRAMS):
        steps[name] = [(0.0, idle_w[name])]
    for begin_s, end_s in spans(epochs):
        cpu_w, memory_w = float(dice.uniform(*HOST_W)), float(dice.uniform(*MEMORY_W))
        for name in (*PACKAGES, *DRAMS):
            watts = cpu_w if name in PACKAGES else memory_w
            steps[name] += [(begin_s, watts), (end_s, idle_w[name])]
    return give(node, steps)


def spans(epochs: Sequence[PaperEpoch]) -> list[tuple[float, float]]:
    """Return begin and end of every training, s: from its first epoch's begin to its last one's end."""
    found: dict[int, tuple[float, float]] = {}
    for epoch in epochs:
        begin_s, _ = found.get(epoch.training, (epoch.begin_s, 0.0))
        found[epoch.training] = (begin_s, epoch.end_s)
    return [found[number] for number in sorted(found)]


def coarse(count: int, epochs: int, *, seed: int, lengths_s: tuple[float, float]) -> tuple[PaperEpoch, ...]:
    """Return trainings of which only whole energies are asked for."""
    return tuple(
        replace(one, batch_s=BATCH_S) for one in trainings(count, epochs, seed=seed, call_s=0.0, lengths_s=lengths_s)
    )
