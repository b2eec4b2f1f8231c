# SPDX-License-Identifier: Apache-2.0
"""What a load really did: the actual begin and end of every burst. The plan is no reference, the log is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument

STALLED = 0.1  # of a burst, from which it is told


@dataclass(frozen=True, slots=True)
class EdgeLog:
    """Bursts of work, by thread.

    Attributes:
        name: what made them, for people.
        rise_ns: int64 (n,), CLOCK_MONOTONIC at which each burst's work began.
        fall_ns: int64 (n,), at which it ended.
        thread: int64 (n,), which thread, or which GPU.
        missed: bursts of the pattern that came to nothing, because the thread did not run in time.
        wrong: rounds of work that gave a wrong result: the machine is not sound.
        late_ns: int64 (n,), how late after its plan each began.
        stalled_ns: time inside bursts in which threads were held up, of all together.
        unpinned: threads that were not let onto their CPU.
    """

    name: str
    rise_ns: NDArray[np.int64]
    fall_ns: NDArray[np.int64]
    thread: NDArray[np.int64]
    late_ns: NDArray[np.int64]
    missed: int = 0
    wrong: int = 0
    stalled_ns: int = 0
    unpinned: int = 0

    def __post_init__(self) -> None:
        if not len(self.rise_ns) == len(self.fall_ns) == len(self.thread) == len(self.late_ns):
            raise InvalidArgument(f"{self.name}: begins, ends and threads are not of one length")
        if not (self.fall_ns >= self.rise_ns).all():
            raise InvalidArgument(f"{self.name}: a burst ends before it begins")

    def __len__(self) -> int:
        return len(self.rise_ns)

    @property
    def trouble(self) -> list[str]:
        """What has to be told of how it ran, a sentence each."""
        said = []
        if self.wrong:
            said.append(f"{self.wrong} rounds of the load gave a wrong result: this machine is not sound")
        if self.missed:
            said.append(f"{self.missed} bursts of the load came to nothing: the machine was too busy")
        if self.unpinned:
            said.append(f"{self.unpinned} threads of the load were not let onto their CPU")
        worked_ns = int((self.fall_ns - self.rise_ns).sum())
        if worked_ns and self.stalled_ns > STALLED * worked_ns:
            said.append(f"the load was held up for {self.stalled_ns / worked_ns:.0%} of its bursts: others run here")
        return said

    def steps(self, rest_ns: int = 1_000_000_000) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return how many threads work, as instants (n,) and levels between them (n - 1,), with rest at both ends.

        Raises:
            InvalidArgument: nothing worked at all.
        """
        if not len(self):
            raise InvalidArgument(f"{self.name}: the load never ran")
        times = np.concatenate((self.rise_ns, self.fall_ns))
        change = np.concatenate((np.ones(len(self)), -np.ones(len(self))))
        t_ns, at = np.unique(times, return_inverse=True)
        level = np.cumsum(np.bincount(at, change))
        ends = ([t_ns[0] - rest_ns], t_ns, [t_ns[-1] + rest_ns])
        return np.concatenate(ends).astype(np.int64), np.concatenate(([0.0], level))
