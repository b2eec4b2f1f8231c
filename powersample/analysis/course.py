# SPDX-License-Identifier: Apache-2.0
"""The course of the components' powers over a recording, by group, as the model of a node takes them.

A group is the sum of its devices: all CPU packages, all memory, all GPUs. The powers of a window's bins are moved by
what their energy lacks to the window's own, so that nothing but the shape comes from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Floats
from powersample.analysis.bins import LEAST_S, binned_w, grid_of
from powersample.analysis.primary import Measured
from powersample.model import Trace, Window

GROUPS = {"cpu": "package", "dram": "dram", "gpu": "gpu"}  # by the domain whose primaries they sum
KEYS = {"cpu": "cpu_j", "dram": "dram_j", "gpu": "gpu_j"}  # in `totals`


@dataclass(frozen=True, slots=True)
class Course:
    """Mean powers over the bins of a grid.

    Attributes:
        grid_ns: int64 (n + 1,), the bins' edges.
        watts: float64 (n,) by group, NaN where one of its devices tells nothing.
    """

    grid_ns: NDArray[np.int64]
    watts: Mapping[str, Floats]

    def of(self, window: Window, joules: Mapping[str, float]) -> Bins:
        """Return the bins of a window, with its own energies in them.

        Args:
            window: it; it has a length.
            joules: its energy by group; the groups that are to be told.
        """
        first, last = self._reach(window)
        edges = np.clip(self.grid_ns[first : last + 1], window.start_ns, window.end_ns)
        if last <= first:  # beyond the record
            edges = np.array([window.start_ns, window.end_ns])
        edges[0], edges[-1] = window.start_ns, window.end_ns
        seconds = np.diff(edges) / 1e9
        watts = {}
        for group, energy_j in joules.items():
            mean_w = energy_j / window.duration_s
            shape = self.watts.get(group, np.empty(0))[first:last]
            shape = np.where(np.isfinite(shape), shape, mean_w) if len(shape) else np.full(len(seconds), mean_w)
            watts[group] = shape + (mean_w - float(shape @ seconds) / window.duration_s)
        return Bins(seconds, watts)

    def _reach(self, window: Window) -> tuple[int, int]:
        """Return the first bin that a window touches, and the one after the last."""
        if len(self.grid_ns) < 2:
            return 0, 0
        first = int(np.searchsorted(self.grid_ns, window.start_ns, "right")) - 1
        last = int(np.searchsorted(self.grid_ns, window.end_ns, "left"))
        return min(max(first, 0), len(self.grid_ns) - 1), min(max(last, 0), len(self.grid_ns) - 1)


@dataclass(frozen=True, slots=True)
class Bins:
    """Powers of a window.

    Attributes:
        seconds: float64 (n,), how long each bin is within the window.
        watts: float64 (n,) by group.
    """

    seconds: Floats
    watts: Mapping[str, Floats]

    @property
    def sum_w(self) -> Floats:
        """float64 (n,): all groups together."""
        return np.asarray(np.sum(list(self.watts.values()), axis=0))

    def halved(self) -> Bins:
        """Return the same with every two neighbouring bins as one: what is lost by that tells what bins lose."""
        starts = np.arange(0, len(self.seconds), 2)
        seconds = np.add.reduceat(self.seconds, starts)
        joules = {group: np.add.reduceat(one * self.seconds, starts) for group, one in self.watts.items()}
        return Bins(seconds, {group: one / np.maximum(seconds, 1e-12) for group, one in joules.items()})


def course(trace: Trace, measured: Sequence[Measured], least_s: float = LEAST_S) -> Course:
    """Return the course of a recording.

    Args:
        trace: it.
        measured: the energies of its longest window: their primaries stand for their devices.
        least_s: the least width of a bin; sensors that average 1 s know nothing shorter.
    """
    grid_ns = grid_of(trace, least_s)
    watts: dict[str, Floats] = {}
    for group, domain in GROUPS.items():
        names = [
            one.energy.channel for one in measured if one.primary and not one.spare and one.energy.domain == domain
        ]
        if names and len(grid_ns):
            watts[group] = np.sum([binned_w(trace, name, grid_ns) for name in names], axis=0)
    return Course(grid_ns, watts)
