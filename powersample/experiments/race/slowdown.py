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
LEAST_RATED = 6  # of fewer not even the least and the greatest hold their median 95 times in 100: 1 - 2^(1 - n)


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Median of the pairs' slowdown in %, and its 95 % interval by bootstrap; None of fewer than 6 pairs."""

    median_pct: float
    low_pct: float | None
    high_pct: float | None
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
    low, high = median_interval(pct) or (None, None)
    return Slowdown(float(np.median(pct)), low, high, len(pct))


def lost_in(one: Slowdown, noise: Slowdown | None) -> bool:
    """Whether a slowdown is no more than what nothing at all (A/A) comes to: their 95 % intervals meet.

    False where one of them has no interval: nothing is known then.
    """
    if noise is None or one.low_pct is None or one.high_pct is None or noise.low_pct is None or noise.high_pct is None:
        return False
    return one.low_pct <= noise.high_pct and noise.low_pct <= one.high_pct


def median_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % interval of a median by bootstrap, in the values' unit; None of fewer than 6 values.

    Args:
        values: Independent of each other, shape (n,).
    """
    if len(values) < LEAST_RATED:
        return None
    draw = np.random.default_rng(1).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(draw, axis=1), [2.5, 97.5])
    return float(low), float(high)


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
