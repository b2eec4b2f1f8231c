# SPDX-License-Identifier: Apache-2.0
"""What nodes do that nobody calibrated: shares of every part's range, changing all the time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("one GPU", "all GPUs", "CPUs", "memory", "everything", "steady")
LENGTHS_S = (120.0, 900.0)
STEPS_S = (0.5, 5.0)  # of what a GPU does at a time
STRETCHES_S = (5.0, 60.0)  # of what a host does


@dataclass(frozen=True, slots=True)
class Course:
    """A load.

    Attributes:
        kind: of `KINDS`.
        duration_s: of it.
        steps: (seconds, shares of their ranges by part or kind of part), times rising from 0.
    """

    kind: str
    duration_s: float
    steps: tuple[tuple[float, Mapping[str, float]], ...]


def draw(kind: str, gpus: int, seed: str) -> Course:
    """Return a load of a kind, for a node of so many GPUs."""
    dice = random.Random(seed)
    low_s, high_s = LENGTHS_S
    duration_s = low_s * (high_s / low_s) ** dice.random()
    if kind == "steady":
        shares = {"package": dice.random(), "dram": dice.random(), "gpu": dice.choice((0.0, dice.random()))}
        return Course(kind, duration_s, ((0.0, shares),))
    busy = {"one GPU": 1, "all GPUs": gpus, "everything": gpus}.get(kind, 0)
    levels = [dice.uniform(0.2, 1.0) for _ in range(busy)]
    host = {"CPUs": (0.1, 1.0), "memory": (0.3, 0.8), "everything": (0.0, 1.0)}.get(kind, (0.05, 0.5))
    memory = {"memory": (0.5, 1.0), "everything": (0.0, 1.0)}.get(kind, (0.0, 0.3))
    steps, at_s, until_s = [], 0.0, 0.0
    package = dram = 0.0
    while at_s < duration_s:
        if at_s >= until_s:  # another stretch of the host's, and for independent GPUs another level
            until_s = at_s + dice.uniform(*STRETCHES_S)
            package, dram = dice.uniform(*host), dice.uniform(*memory)
            if kind == "everything":
                levels = [dice.choice((0.0, dice.uniform(0.1, 1.0))) for _ in range(busy)]
        dip = dice.random() < 0.15  # between steps of a training, and where its data are late
        boards = {
            f"gpu{i}": min(1.0, level * (dice.uniform(0.1, 0.4) if dip else dice.uniform(0.85, 1.05)))
            for i, level in enumerate(levels)
        }
        steps.append((at_s, {"package": package, "dram": dram, **boards}))
        at_s += dice.uniform(*STEPS_S) if busy else until_s - at_s
    return Course(kind, duration_s, tuple(steps))
