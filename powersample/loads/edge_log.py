# SPDX-License-Identifier: Apache-2.0
"""What a load really did: the actual begin and end of every burst. The plan is no reference, the log is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.loads.heat import Heat

STALLED = 0.1  # of a burst, from which it is told
SHORT = 0.01  # of a step's time, by which CPU time may miss its level,
LEAST_STEP_S = 2.0  # from steps of that length on: a short one is told by its edges

Ints = NDArray[np.int64]


def _none() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Step:
    """What all threads together did between two planned edges.

    Attributes:
        begin_ns: CLOCK_MONOTONIC, as planned.
        end_ns: the same, or when the load was stopped.
        level: the share of the time that each thread was to work, 0 to 1.
        threads: how many kept to it.
        cpu_ns: their CPU time by their own clocks, in bursts and in waiting for them.
        bursts: that they logged.
        missed: that came to nothing.
        wrong: rounds of work with a wrong result.
    """

    begin_ns: int
    end_ns: int
    level: float
    threads: int
    cpu_ns: int
    bursts: int = 0
    missed: int = 0
    wrong: int = 0

    @property
    def duration_s(self) -> float:
        """From begin to end."""
        return (self.end_ns - self.begin_ns) * 1e-9

    @property
    def duty(self) -> float:
        """The level that was reached: CPU time over that of all threads together; NaN for a step of no length."""
        whole_ns = self.threads * (self.end_ns - self.begin_ns)
        return self.cpu_ns / whole_ns if whole_ns > 0 else math.nan


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
        kernel: what the work was; "" where it is not said.
        vectors: that fma worked in; "" for other kernels.
        cpus: the CPU of each thread; empty where none is pinned.
        reached: what was reached of every step; empty where CPU time is not known.
        step: int64 (n,), which step each burst is of; empty where there are none.
        cpu_ns: int64 (n,), each burst's CPU time; empty where it is not known.
        heat: temperature and frequency meanwhile.
        ended: why it ended before its time; "" when it did not.
    """

    name: str
    rise_ns: Ints
    fall_ns: Ints
    thread: Ints
    late_ns: Ints
    missed: int = 0
    wrong: int = 0
    stalled_ns: int = 0
    unpinned: int = 0
    kernel: str = ""
    vectors: str = ""
    cpus: tuple[int, ...] = ()
    reached: tuple[Step, ...] = ()
    step: Ints = field(default_factory=_none)
    cpu_ns: Ints = field(default_factory=_none)
    heat: Heat = field(default_factory=Heat)
    ended: str = ""

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
        said = [f"the load was ended: {self.ended}"] if self.ended else []
        if self.wrong:
            said.append(f"{self.wrong} rounds of the load gave a wrong result: this machine is not sound")
        if self.missed:
            said.append(f"{self.missed} bursts of the load came to nothing: the machine was too busy")
        if self.unpinned:
            said.append(f"{self.unpinned} threads of the load were not let onto their CPU")
        if short := [one for one in self.reached if one.duration_s >= LEAST_STEP_S and one.level - one.duty > SHORT]:
            worst = max(short, key=lambda one: one.level - one.duty)
            said.append(
                f"{len(short)} of {len(self.reached)} steps were not reached, such as {worst.duty:.1%} of CPU time for "
                f"{worst.level:.1%}: others run here"
            )
        worked_ns = int((self.fall_ns - self.rise_ns).sum())
        if worked_ns and self.stalled_ns > STALLED * worked_ns:
            said.append(f"the load was held up for {self.stalled_ns / worked_ns:.0%} of its bursts: others run here")
        return said

    def steps(self, rest_ns: int = 1_000_000_000) -> tuple[Ints, NDArray[np.float64]]:
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
