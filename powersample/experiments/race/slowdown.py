# SPDX-License-Identifier: Apache-2.0
"""How much a method slows the training: the same work with and without it in turns, and without it twice (A/A)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.experiments.workload import Training

BLOCK_S = 0.1
CALIBRATE_S = 0.15
WARM_STEPS = 5
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Median of the pairs' slowdown in %, and its 95 % interval by bootstrap."""

    median_pct: float
    low_pct: float
    high_pct: float
    pairs: int


def slowdown(with_s: Sequence[float], without_s: Sequence[float]) -> Slowdown | None:
    """Return the slowdown of paired durations; None without a pair.

    Args:
        with_s: Duration of each pair's block beside the method, s.
        without_s: Duration of the same work without it, s.
    """
    pct: NDArray[np.float64] = 100 * (np.asarray(with_s, np.float64) / np.asarray(without_s, np.float64) - 1)
    if not len(pct):
        return None
    draw = np.random.default_rng(1).choice(pct, (RESAMPLES, len(pct)))
    low, high = np.percentile(np.median(draw, axis=1), [2.5, 97.5])
    return Slowdown(float(np.median(pct)), float(low), float(high), len(pct))


class Block:
    """A fixed amount of the training's work, of about 0.1 s."""

    def __init__(self, network: Training) -> None:
        self._step: Callable[[], object] = network.step
        begin_s, steps = time.monotonic(), 0
        while time.monotonic() < begin_s + CALIBRATE_S:
            self._step()
            steps += 1
        self._steps = max(1, round(steps * BLOCK_S / (time.monotonic() - begin_s)))

    def run(self) -> float:
        """Do the work and return how long it took, s."""
        for _ in range(min(WARM_STEPS, self._steps)):
            self._step()
        begin_s = time.monotonic()
        for _ in range(self._steps):
            self._step()
        return time.monotonic() - begin_s
