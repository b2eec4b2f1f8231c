# SPDX-License-Identifier: Apache-2.0
"""The ladder: which loads in which order, how long each is given, and how long that takes.

Points: arXiv 2505.15631 has idle and a prime search; a slope needs more, and curvature needs the GPUs. Order at random,
so that what drifts does not look like load; idle first and last, so that a drift is seen.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from powersample.errors import InvalidArgument
from powersample.loads.level import parse_level

IDLE = "idle"
GPU = "gpu"
CPU_KERNELS = ("primes", "fma", "stream", "mix")
KERNELS = (IDLE, *CPU_KERNELS, GPU)
MOST_RUNGS = 64

# Loads that cannot run here are left out. Of CPUs alone: 10 points with both idles; with GPUs 17.
FULL = (
    "primes:25,primes:50,primes:75,primes:100,fma:100,stream:50,stream:100,mix:100,"
    "gpu:20,gpu:40,gpu:60,gpu:80,gpu:100,gpu:50+mix:50,gpu:100+mix:100"
)
SHORT = "primes:50,primes:100,stream:100,gpu:100,gpu:50+mix:50,gpu:100+mix:100"  # as many as a node model needs

LONGEST_S = 6 * 3600.0  # of a rung's load: what has lost who asked for it ends some time
LEAST_DWELL_S = 2.2  # 20 updates of a counter that moves every 100 ms: else it does not stand for its GPU
LEAST_DWELL_SHARE = 0.5  # of the window that must be steady
LEAST_CYCLES = 10  # of a meter, to see whether it stands still
BETWEEN_S = 1.0  # to end one load, begin the next, and see what came of it: about


@dataclass(frozen=True, slots=True)
class Rung:
    """One operating point to be.

    Attributes:
        name: "primes 50 %", "gpu 100 % + mix 100 %".
        parts: level, above 0 and up to 1, by kernel; empty for idle.
    """

    name: str
    parts: Mapping[str, float]

    @property
    def kernel(self) -> str:
        """Of `KERNELS`; "gpu" where GPUs work, whatever the CPUs do beside."""
        return GPU if GPU in self.parts else next(iter(self.parts), IDLE)

    @property
    def level(self) -> float:
        """The highest of its parts' levels; 0 of idle."""
        return max(self.parts.values(), default=0.0)


@dataclass(frozen=True, slots=True)
class Times:
    """How long a point is given.

    Attributes:
        window_s: over which the meter must be steady at least; it must be over all of a point.
        limit_pct: by how much it may rise or fall in `per_s`, % of its mean.
        per_s: see `limit_pct`.
        least_s: how long that is not believed after the load has changed: fans begin to move late.
        settle_s: how long that is waited for; then the point is marked "unsteady".
        dwell_s: what a point's means are taken over: the end of that time.
        lost_s: how long a meter that tells nothing is waited for.
    """

    window_s: float = 20.0
    limit_pct: float = 0.1
    per_s: float = 10.0
    least_s: float = 40.0
    settle_s: float = 240.0
    dwell_s: float = 30.0
    lost_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.window_s > 0 or not self.limit_pct > 0 or not self.per_s > 0:
            raise InvalidArgument(f"steady by {self.limit_pct} % in {self.per_s} s over {self.window_s} s: above 0")
        if not self.dwell_s >= LEAST_DWELL_SHARE * self.window_s:
            raise InvalidArgument(f"a point of {self.dwell_s:g} s: {LEAST_DWELL_SHARE * self.window_s:g} s or more")
        if not self.settle_s >= max(self.window_s, self.least_s) or not self.lost_s > 0:
            raise InvalidArgument(f"{self.settle_s:g} s to settle: {max(self.window_s, self.least_s):g} s or more")
        if not self.settle_s + self.dwell_s <= LONGEST_S / 2:  # the rest is for a meter that is waited for
            raise InvalidArgument(
                f"{self.dwell_s:g} s after up to {self.settle_s:g} s: a load lasts {LONGEST_S / 3600:g} h at most",
                f"Keep --settle and --dwell below {LONGEST_S / 2:g} s together.",
            )

    def fitting(self, cycle_s: float) -> Times:
        """Return the times for a meter of such cycles: its steadiness needs some of them."""
        window_s = max(self.window_s, LEAST_CYCLES * cycle_s)
        return replace(
            self, window_s=window_s, settle_s=max(self.settle_s, window_s), dwell_s=max(self.dwell_s, window_s)
        )

    def quicker(self, factor: float) -> Times:
        """Return the times of a node whose fans and supply are so many times as quick; its sensors are not."""
        if factor == 1:
            return self
        return replace(
            self,
            window_s=self.window_s / factor,
            per_s=self.per_s / factor,
            least_s=self.least_s / factor,
            settle_s=self.settle_s / factor,
            dwell_s=max(LEAST_DWELL_S, self.dwell_s / factor),
        )


def rung(parts: Mapping[str, float]) -> Rung:
    """Return a rung by its kernels' levels.

    Raises:
        InvalidArgument: no such kernel or level, or two kernels for the CPUs.
    """
    for kernel, level in parts.items():
        if kernel not in KERNELS or kernel == IDLE:
            raise InvalidArgument(f"no load {kernel!r}; there are {', '.join(KERNELS)}")
        if not 0 < level <= 1:
            raise InvalidArgument(f"{kernel} at {100 * level:g} %: above 0 and up to 100")
    if sum(kernel in CPU_KERNELS for kernel in parts) > 1:
        raise InvalidArgument(f"{' and '.join(parts)} at once: of {', '.join(CPU_KERNELS)} one, beside gpu")
    name = " + ".join(f"{kernel} {100 * level:g} %" for kernel, level in parts.items())
    return Rung(name or IDLE, dict(parts))


def parse_rungs(text: str) -> tuple[Rung, ...]:
    """Return the rungs of "primes:50%,gpu:1+mix:1": levels by kernel, "+" for at once; idle goes without saying.

    Raises:
        InvalidArgument: as `rung` and `parse_level`; twice the same; none, or too many.
    """
    found: dict[str, Rung] = {}
    for word in (word.strip() for word in text.split(",")):
        if word in ("", IDLE):
            continue
        parts: dict[str, float] = {}
        for one in word.split("+"):
            kernel, colon, level = one.partition(":")
            if not colon:
                raise InvalidArgument(f"{one!r} is no load: KERNEL:LEVEL, such as primes:50%")
            if kernel in parts:
                raise InvalidArgument(f"{word}: {kernel} twice")
            parts[kernel] = parse_level(level, kernel)
        made = rung(parts)
        if made.name in found:
            raise InvalidArgument(f"{word} stands there twice")
        found[made.name] = made
    if not 1 <= len(found) <= MOST_RUNGS:
        raise InvalidArgument(f"{len(found)} loads beside idle: from 1 to {MOST_RUNGS}")
    return tuple(found.values())


def ladder(rungs: Sequence[Rung], lacks: Mapping[str, str], seed: int) -> tuple[tuple[Rung, ...], tuple[str, ...]]:
    """Return what is climbed, in order, and a sentence on each load that cannot run here.

    Args:
        rungs: what is wanted, beside idle.
        lacks: why a kernel cannot run, by kernel.
        seed: of the order.
    """
    can = [one for one in rungs if not set(one.parts) & set(lacks)]
    missing = {kernel for one in rungs for kernel in one.parts if kernel in lacks}
    notes = tuple(f"no {kernel} load: {lacks[kernel]}" for kernel in KERNELS if kernel in missing)
    random.Random(seed).shuffle(can)
    return (rung({}), *can, rung({})), notes


def duration_s(count: int, times: Times, beside_s: float = 0.0) -> tuple[float, float]:
    """Return how long so many points take: at least, and at most if none has to be repeated.

    Args:
        count: of points.
        times: of each.
        beside_s: what else, such as bursts to synchronise by.
    """
    span_s = max(times.window_s, times.dwell_s)
    least = BETWEEN_S + max(times.least_s, span_s)
    return beside_s + count * least, beside_s + count * (BETWEEN_S + max(times.settle_s, span_s))
