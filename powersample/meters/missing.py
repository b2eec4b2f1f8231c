# SPDX-License-Identifier: Apache-2.0
"""How many cycles of a meter did not arrive: by its own counter, or by the time."""

from __future__ import annotations

from itertools import pairwise

BLOCK = 20  # readings whose earliest is free of the scheduler's delays


class CycleCount:
    """Follows a cycle counter that wraps at 2^16.

    One turn at 20 Hz takes 55 minutes; a hole that is longer is told by the time.
    """

    TURN = 1 << 16

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def step(self, count: int, arrival_ns: int, cycle_s: float) -> int | None:
        """Take the next count.

        Returns:
            Cycles that are missing before it; -1: it is a repeat of the last one; None: the counter began anew.
        """
        before, self._last = self._last, (count, arrival_ns)
        if before is None:
            return 0
        ahead = (count - before[0]) % self.TURN
        elapsed = (arrival_ns - before[1]) / 1e9 / cycle_s
        turns = max(0, round((elapsed - ahead) / self.TURN))
        ahead += turns * self.TURN
        if ahead == 0:
            return -1
        return None if ahead - elapsed > self.TURN / 2 else ahead - 1


class CycleClock:
    """Tells missing cycles from arrivals alone: arrivals are late at times, but never early.

    The earliest of a block, cycle lengths taken off, stays where it is; when it has moved by most of a cycle from one
    block to the next, cycles are missing, and that where the readings lie furthest apart.
    """

    def __init__(self) -> None:
        self._arrivals_ns: list[int] = []
        self._ahead_ns: list[float] = []  # of each: its arrival less the cycles until then
        self._cycles_ns = 0.0
        self._new = 0

    def step(self, arrival_ns: int, cycle_s: float) -> tuple[int, int, int] | None:
        """Take the next arrival; return how many are missing, and between which two arrivals, once that is known."""
        self._cycles_ns += cycle_s * 1e9
        self._arrivals_ns.append(arrival_ns)
        self._ahead_ns.append(arrival_ns - self._cycles_ns)
        self._new += 1
        if self._new < BLOCK or len(self._arrivals_ns) < 2 * BLOCK:
            return None
        self._new = 0
        arrivals_ns, ahead_ns = self._arrivals_ns, self._ahead_ns
        risen_ns = min(ahead_ns[BLOCK:]) - min(ahead_ns[:BLOCK])
        del self._arrivals_ns[:BLOCK], self._ahead_ns[:BLOCK]
        missing = round(risen_ns / (cycle_s * 1e9))
        if missing < 1:
            return None
        _, at = max((after - before, i) for i, (before, after) in enumerate(pairwise(arrivals_ns)))
        return missing, arrivals_ns[at], arrivals_ns[at + 1]
