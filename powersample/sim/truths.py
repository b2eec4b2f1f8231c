# SPDX-License-Identifier: Apache-2.0
"""The part of `Node` that knows: exact energies and powers of all parts, their sums, and the wall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample._native import api_sim
from powersample._native.api_files import MovedFiles
from powersample._native.api_wall import Wall
from powersample.errors import StateError

WALL = "wall"


class TruthControl:
    """What devices really drew: GPUs by index or as "gpu0", parts, sums such as "node", and "wall"."""

    load_origin: str | None = None  # where the load came from, for who reads a recording; whoever gives it may say

    _truths: Mapping[str, api_sim.Truth]
    _wall: Wall | None = None
    _moved: MovedFiles | None = None
    _follow: api_sim.Follow | None = None
    _followed: api_sim.FollowStats | None = None

    def _truths_of(self, device: int | str) -> tuple[api_sim.Truth, ...]:
        raise NotImplementedError

    @property
    def wall(self) -> Wall:
        """What the plug gives: all parts and the fans behind a supply with losses and a lag.

        Its `mean_w(start_ns, end_ns)` is what a meter that averages that span sees.

        Raises:
            StateError: The node is closed.
        """
        if self._wall is None:
            raise StateError("the simulated node is closed")
        return self._wall

    def truth_j(self, device: int | str, a_ns: int, b_ns: int) -> float:
        """Return the true energy of [a_ns, b_ns], J; in the future it holds if no load is added.

        Args:
            device: A GPU's index, or a name of `devices`: "wall" is what the plug gives, "node" all parts behind the
                supply, "psys" those but the GPUs.
            a_ns: CLOCK_MONOTONIC.
            b_ns: The same, not before `a_ns`.
        """
        if device == WALL:
            return self.wall.joules(a_ns, b_ns)
        return sum(truth.joules(a_ns, b_ns) for truth in self._truths_of(device))

    def truth_power_w(self, device: int | str, t_ns: ArrayLike) -> NDArray[np.float64]:
        """Return the true power at each of `t_ns`, W."""
        if device == WALL:
            return self.wall.power_w(t_ns)
        powers = [truth.power_mw(t_ns).astype(np.float64) for truth in self._truths_of(device)]
        return np.asarray(np.sum(powers, axis=0) / 1e3)

    def truth_counter(
        self, device: int | str, a_ns: int, b_ns: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (instants, ns; true energy since a_ns, nJ) in pieces: a_ns, every change of power, b_ns.

        Wall power moves all the time: its instants are so dense that a line between two is within 1 mJ.
        """
        if device == WALL:
            return self.wall.counter(a_ns, b_ns)
        return api_sim.counter(self._truths_of(device), a_ns, b_ns)

    def truth_state(self) -> dict[str, Any]:
        """Return whether the truth can be trusted, ready for JSON.

        `truth_void` is true when power was published after its own instant (`truth_late` times,
        `truth_late_max_ns` at worst) or could not be stored (`truth_full`); `follow` tells what was followed, `files`
        what the thread that moves the files of /sys and /dev did, `load` where the load came from if somebody said.
        """
        states = [truth.state() for truth in self._truths.values()]
        stats = self._follow.stats() if self._follow is not None else self._followed
        late = sum(state.late for state in states)
        full = any(state.full for state in states)
        return {
            "truth_void": late > 0 or full,
            "truth_late": late,
            "truth_late_max_ns": max((state.late_max_ns for state in states), default=0),
            "truth_full": full,
            "follow": None if stats is None else asdict(stats),
            "files": None if self._moved is None else asdict(self._moved.stats()),
            "load": self.load_origin,
        }
