# SPDX-License-Identifier: Apache-2.0
"""All experiments on the node as the paper describes it, and on nodes of its kind that are drawn at random."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from powersample.errors import InvalidArgument
from powersample.experiments.reproduce.holistic import PRIMES, Holistic, calibrated, holistic, uncaptured_w
from powersample.experiments.reproduce.inputs import Input, inputs
from powersample.experiments.reproduce.tracing import Tracing, settings, traced
from powersample.model import Calibration

PROFILE = "paper-node"
NODES, MOST_NODES = 50, 1000
TRAININGS = 100  # of experiment 1; the paper has 500, and does not say of how many epochs
DRAWN_TRAININGS = 10  # on each of the nodes that are drawn: a hundred epochs
LEAST_TRAININGS = 3  # fewer agree with anything

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OnNode:
    """What became of everything on one node.

    Attributes:
        node_seed: Which one; None for that of the profile.
        calibration: Of it.
        tracings: Experiments 1 and 2c, a setting each.
        one: Experiment 2a, on one GPU.
        four: Experiment 2b, on four.
    """

    node_seed: int | None
    calibration: Calibration
    tracings: tuple[Tracing, ...]
    one: Holistic
    four: Holistic


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The finished study.

    Attributes:
        profile: Of the nodes.
        seed: Of all that is random beside the nodes.
        inputs: All that was put in.
        here: The node of the profile.
        drawn: Nodes of its kind.
        took_s: How long it all took.
    """

    profile: str
    seed: int
    inputs: tuple[Input, ...]
    here: OnNode
    drawn: tuple[OnNode, ...]
    took_s: float


def run_reproduce(
    *, nodes: int = NODES, trainings: int = TRAININGS, seed: int = 1, say: Say = lambda _: None
) -> Reproduction:
    """Hold the experiments, in the nodes' own future: nothing waits.

    Args:
        nodes: How many to draw.
        trainings: Of experiment 1 on the node of the profile.
        seed: Of trainings, the meter's noise and the rungs' order.
        say: Told what happens next.

    Raises:
        InvalidArgument: A number outside its range.
    """
    if not 1 <= nodes <= MOST_NODES:
        raise InvalidArgument(f"{nodes} nodes: it takes 1 to {MOST_NODES}")
    if trainings < LEAST_TRAININGS:
        raise InvalidArgument(f"{trainings} trainings: it takes {LEAST_TRAININGS} or more")
    begin_s = time.monotonic()

    def timed(text: str) -> None:
        say(f"{time.monotonic() - begin_s:3.0f} s: {text}")

    timed(f"{PROFILE}, {trainings} trainings in each of {len(settings())} settings")
    here = on_node(None, trainings, seed)
    drawn = []
    for number in range(1, nodes + 1):
        if number == 1 or number % 10 == 0:
            timed(f"drawn node {number} of {nodes}")
        drawn.append(on_node(number, min(trainings, DRAWN_TRAININGS), seed))
    return Reproduction(
        PROFILE, seed, inputs(PROFILE, nodes, trainings), here, tuple(drawn), time.monotonic() - begin_s
    )


def on_node(node_seed: int | None, trainings: int, seed: int) -> OnNode:
    """Hold all experiments on one node."""
    # Trainings differ from node to node, as boards and supplies do.
    own = seed if node_seed is None else seed + 1000 * node_seed
    calibration = calibrated(PROFILE, node_seed, own)
    busy_w = uncaptured_w(calibration, PRIMES)
    return OnNode(
        node_seed,
        calibration,
        tuple(traced(PROFILE, node_seed, one, count=trainings, seed=own, busy_w=busy_w) for one in settings()),
        holistic(PROFILE, node_seed, calibration, gpus=1, seed=own),
        holistic(PROFILE, node_seed, calibration, gpus=4, seed=own + 1),
    )
