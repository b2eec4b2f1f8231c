# SPDX-License-Identifier: Apache-2.0
"""What nodes do that nobody calibrated: shares of every part's range, changing all the time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("one GPU", "some GPUs", "all GPUs", "CPUs", "memory", "everything", "steady")
LENGTHS_S = (120.0, 900.0)
STEPS_S = (0.5, 5.0)  # of what a GPU does at a time
STRETCHES_S = (5.0, 60.0)  # of what a host does
RESTED = "rested"  # an idle node before
STARTS = (RESTED, "from the top")  # and one at full power, whose fans are still fast
PAUSES_S = (6.0, 20.0)  # between a load and the next one "from the top"


@dataclass(frozen=True, slots=True)
class Course:
    """A load.

    Attributes:
        kind: of `KINDS`.
        start: of `STARTS`.
        pause_s: idle between what ran before and the load.
        duration_s: of it.
        steps: (seconds, shares of their ranges by part or kind of part), times rising from 0.
    """

    kind: str
    start: str
    pause_s: float
    duration_s: float
    steps: tuple[tuple[float, Mapping[str, float]], ...]


def draw(kind: str, gpus: int, seed: str, start: str = RESTED) -> Course:
    """Return a load of a kind, for a node of so many GPUs; the same after every start."""
    pause_s = 0.0 if start == RESTED else random.Random(f"{seed} {start}").uniform(*PAUSES_S)
    duration_s, steps = _steps(kind, gpus, random.Random(seed))
    return Course(kind, start, pause_s, duration_s, steps)


def _steps(kind: str, gpus: int, dice: random.Random) -> tuple[float, tuple[tuple[float, Mapping[str, float]], ...]]:
    low_s, high_s = LENGTHS_S
    duration_s = low_s * (high_s / low_s) ** dice.random()
    if kind == "steady":
        shares = {"package": dice.random(), "dram": dice.random(), "gpu": dice.choice((0.0, dice.random()))}
        return duration_s, ((0.0, shares),)
    some = dice.randint(1, max(1, gpus - 1))
    busy = {"one GPU": 1, "some GPUs": some, "all GPUs": gpus, "everything": gpus}.get(kind, 0)
    boards_of = dice.sample(range(gpus), busy)
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
            f"gpu{board}": min(1.0, level * (dice.uniform(0.1, 0.4) if dip else dice.uniform(0.85, 1.05)))
            for board, level in zip(boards_of, levels, strict=True)
        }
        steps.append((at_s, {"package": package, "dram": dram, **boards}))
        at_s += dice.uniform(*STEPS_S) if busy else until_s - at_s
    return duration_s, tuple(steps)
