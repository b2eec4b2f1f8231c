# SPDX-License-Identifier: Apache-2.0
"""What the paper's instruments say of a simulated node, at any instants of its future and without waiting for them.

Counters and meter as the node was drawn: gains of packages and of the meter, its noise, the boards' sensors. Left out
is what is far below all that: a RAPL counter's unit (61 uJ) and its millisecond, the LMG450's resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from powersample.experiments.reproduce.loads import GPUS
from powersample.experiments.reproduce.recorded import counted_parts, rapl_j
from powersample.sim import Node

CYCLE_S = 0.05  # that the node's meter noise is of
READING_SHARE, RANGE_SHARE = 0.0007, 0.0004  # the paper's 0.07 % + 0.04 %, of reading and range
RANGE_W = 5000.0  # assumed: the paper does not tell its range


@dataclass
class Tools:
    """The instruments of one node.

    Attributes:
        node: With its load given.
        seed: Of the meter's noise.
    """

    node: Node
    seed: int = 0
    _meter: dict[str, float] = field(init=False)
    _dice: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._meter = self.node.describe()["meter"]
        self._dice = np.random.default_rng(self.seed)

    def wall_j(self, spans: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """Return what the meter's cycles add up to over each span, J, shape (n,)."""
        exact = np.array([self.node.truth_j("wall", a_ns, b_ns) for a_ns, b_ns in spans])
        seconds, gain = self.seconds(spans), 1 + self._meter["gain_pct"] / 100
        noise = self.noise_w(seconds) * seconds * self._dice.standard_normal(len(spans))
        return np.asarray(gain * exact + noise, np.float64)

    def noise_w(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation of the meter's mean over spans of such lengths, W."""
        cycles = np.maximum(seconds, CYCLE_S) / CYCLE_S
        return np.asarray(self._meter["noise_w"] / np.sqrt(cycles), np.float64)

    @staticmethod
    def accuracy_w(watts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the LMG450's limit of error at readings, W: of these and of a range that holds them all."""
        return np.asarray(READING_SHARE * watts + RANGE_SHARE * RANGE_W, np.float64)

    @staticmethod
    def seconds(spans: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """Return the spans' lengths, s, shape (n,)."""
        return np.diff(np.array(spans, np.float64)).ravel() / 1e9

    def rapl_j(self, spans: Sequence[tuple[int, int]]) -> dict[str, NDArray[np.float64]]:
        """Return what RAPL counts over each span, J: "cpu" and "dram", the sums of the packages."""
        edges = np.array(spans, np.int64)
        return {
            group: np.asarray(np.sum([_grown(rapl_j(self.node, one, edges.ravel())) for one in names], axis=0))
            for group, names in counted_parts(self.node).items()
        }

    def nvml_j(self, spans: Sequence[tuple[int, int]], gpu: int | None = None) -> NDArray[np.float64]:
        """Return by how much the boards' energy counters grow over each span, J: one board's, or all of them."""
        edges = np.array(spans, np.int64)
        chosen = range(len(GPUS)) if gpu is None else (gpu,)
        return np.asarray(
            np.sum([_grown(self.node.sensor_values(one, "energy", edges.ravel())) for one in chosen], axis=0)
        )

    def components_j(self, spans: Sequence[tuple[int, int]]) -> dict[str, NDArray[np.float64]]:
        """Return what all counters tell over each span, J, by "cpu", "dram" and "gpu"."""
        return self.rapl_j(spans) | {"gpu": self.nvml_j(spans)}


def _grown(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the growth from the first to the second, the third to the fourth, and so on."""
    return counts[1::2] - counts[::2]
