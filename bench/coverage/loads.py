# SPDX-License-Identifier: Apache-2.0
"""What boards are made to do: true power as steps, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.coverage import measured

MS = 1_000_000
S = 1000 * MS
LOADS = ("constant", "square", "square", "ramp", "burst", "training")
METERED = ("square_3090", "step_a100")  # real boards' power by a wired meter, where the published traces are
METERED_PERIOD_S = 0.0995
Steps = list[tuple[int, int, int, int, int]]  # t_ns, p1_mw, p2_mw, period_ns, on_ns; constant where period_ns is 0


@dataclass(frozen=True, slots=True)
class Load:
    """What a board is made to do.

    Attributes:
        kind: of `LOADS` or `METERED`.
        steps: its power, ending with idle.
        period_s: after which it repeats itself exactly; None where it does not.
    """

    kind: str
    steps: Steps
    period_s: float | None


def draw(dice: random.Random, start_ns: int, end_ns: int, idle_mw: int, max_mw: int) -> Load:
    """Return a load from start_ns to end_ns; each kind as likely, square waves twice."""
    kind = dice.choice(LOADS + METERED if measured.there() else LOADS)
    low = round(dice.uniform(idle_mw, idle_mw + 0.3 * (max_mw - idle_mw)))
    high = round(dice.uniform(low + 0.2 * (max_mw - low), max_mw))
    make = MAKERS.get(kind) or partial(_metered, kind)
    steps = [step for step in make(dice, start_ns, end_ns, low, high) if step[0] < end_ns]
    period_s = {"square": steps[0][3] / S, "square_3090": METERED_PERIOD_S}.get(kind)
    return Load(kind, [*steps, (end_ns, idle_mw, 0, 0, 0)], period_s)


def _log(dice: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** dice.random())


def _constant(dice: random.Random, start: int, end: int, low: int, high: int) -> Steps:
    return [(start, high, 0, 0, 0)]


def _square(dice: random.Random, start: int, end: int, low: int, high: int) -> Steps:
    period = round(_log(dice, 10 * MS, 10 * S))
    return [(start, high, low, period, round(period * dice.uniform(0.2, 0.8)))]


def _ramp(dice: random.Random, start: int, end: int, low: int, high: int) -> Steps:
    count = max(2, min(400, (end - start) // (5 * MS)))
    ends = (low, high) if dice.random() < 0.5 else (high, low)
    level = [round(ends[0] + (ends[1] - ends[0]) * i / (count - 1)) for i in range(count)]
    return [(start + (end - start) * i // count, level[i], 0, 0, 0) for i in range(count)]


def _burst(dice: random.Random, start: int, end: int, low: int, high: int) -> Steps:
    def some() -> Iterator[tuple[int, int, int, int, int]]:
        at = start
        while at < end:
            yield (at, high, 0, 0, 0)
            at += round(_log(dice, 5 * MS, 500 * MS))
            yield (at, low, 0, 0, 0)
            at += round(dice.expovariate(1.0) * 500 * MS) + MS

    return list(some())


def _training(dice: random.Random, start: int, end: int, low: int, high: int) -> Steps:
    """Iterations of 30 to 600 ms, each with a dip, in epochs of 1 to 20 s with a calm stretch between."""
    iteration, epoch = _log(dice, 30 * MS, 600 * MS), _log(dice, S, 20 * S)
    busy, calm = dice.uniform(0.6, 0.95), dice.uniform(0.1, 0.6) * S

    def some() -> Iterator[tuple[int, int, int, int, int]]:
        at = float(start)
        while at < end:
            over = at + epoch
            while at < min(over, end):
                length = iteration * dice.uniform(0.95, 1.05)
                yield (round(at), high, 0, 0, 0)
                yield (round(at + busy * length), low, 0, 0, 0)
                at += length
            yield (round(at), low, 0, 0, 0)
            at += calm

    return list(some())


def _metered(name: str, dice: random.Random, start: int, end: int, low: int, high: int) -> Steps:
    """A metered load, from anywhere in it on and round and round."""
    begins, level = measured.shape(name)
    length = int(begins[-1])
    mw = np.rint(low + (high - low) * level).astype(np.int64).tolist()
    at = start - dice.randrange(length)
    steps: Steps = []
    while at < end:
        times = np.maximum(at + begins[:-1], start).tolist()
        first = int(np.searchsorted(at + begins[1:], start, "right"))
        steps += [(t, p, 0, 0, 0) for t, p in zip(times[first:], mw[first:], strict=True) if t < end]
        at += length
    return steps


MAKERS = {"constant": _constant, "square": _square, "ramp": _ramp, "burst": _burst, "training": _training}
