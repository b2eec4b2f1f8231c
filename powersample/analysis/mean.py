# SPDX-License-Identifier: Apache-2.0
"""Energies of one device put together: the mean of repeats of a work, and the sum of stretches that follow each other.

    mean:  h^2 = shared^2 + max(t s / sqrt(m), own)^2      shared_k = sum(term_k) / n, own^2 = sum(own_i^2) / (n m)
    sum:   h^2 = shared^2 + sum(own_i^2)                   shared_k = sum(term_k)

with h half of the 95 % interval, s the scatter of n repeats, m of which do not overlap, and t Student's factor for
m - 1 degrees of freedom: what a dozen processes marked at once was measured once. What a board, a meter or a fit of
clocks is off by is the same in every repeat: no number of repeats makes it smaller. What reconstruction is off by by
chance is part of the scatter that is seen, so the larger of the two counts, not both: few repeats may scatter less than
they can. Source: JCGM 100:2008, 4.2 and 5.2.2.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from powersample.analysis.evidence import student_95
from powersample.analysis.interval import ORDER, verdict
from powersample.errors import InvalidArgument
from powersample.model import BudgetTerm, Energy, amount
from powersample.model.energy import in_words

# Of one sign and size in every repeat of a work, though each energy by itself takes them for chance.
ALIKE = frozenset({"averaging lag at edges", "clock fit", "arrival latency"})


class Rated(Protocol):
    """What an energy, a sum and a mean have in common."""

    @property
    def joules(self) -> float | None:
        """The energy, J; None where it cannot be told."""
        ...

    @property
    def low_j(self) -> float | None:
        """Lower end of its 95 % interval; None without one."""
        ...

    @property
    def high_j(self) -> float | None:
        """Upper end."""
        ...

    @property
    def verdict(self) -> str:
        """good, fair, poor, unusable or unrated."""
        ...


@dataclass(frozen=True, slots=True)
class MeanEnergy:
    """Energy of one device over one of several repeats of a work.

    Attributes:
        joules: the mean of those that could be told; None when none could.
        low_j: lower end of the mean's 95 % interval; None where a repeat has none.
        high_j: its upper end.
        verdict: as an energy's, "unrated" without an interval.
        runs: how many could be told.
        spread_j: standard deviation of single repeats; None of fewer than two.
        budget: half-widths: "scatter of repeats" and "chance in each", of which the larger counts, and what all repeats
            share, term by term.
        reasons: each code once, with the first case.
    """

    joules: float | None
    low_j: float | None
    high_j: float | None
    verdict: str
    runs: int
    spread_j: float | None
    budget: tuple[BudgetTerm, ...]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        scatter = "" if self.spread_j is None else f", one scatters by {amount(self.spread_j)} J"
        return f"{in_words(self.joules, self.low_j, self.high_j)}, {self.verdict}, mean of {self.runs}{scatter}"


def mean_energy(energies: Sequence[Energy], *, apart: int | None = None) -> MeanEnergy:
    """Return the mean of repeats, measured by one device.

    Args:
        energies: one a repeat; those whose joules are None are left out.
        apart: how many of the repeats do not overlap; None where none does.

    Raises:
        InvalidArgument: none, or of several devices.
    """
    if len({(one.device, one.domain) for one in energies}) != 1:
        raise InvalidArgument("a mean is of one device's energies", "Give the energies of one device and domain.")
    told = [one for one in energies if one.joules is not None]
    joules = [one.joules for one in told if one.joules is not None]
    reasons = tuple({reason.split(" ", 1)[0]: reason for one in reversed(energies) for reason in one.reasons}.values())
    if not told:
        return MeanEnergy(None, None, None, "unusable", 0, None, (), reasons)
    n = len(told)
    independent = n if apart is None else max(1, min(n, apart))
    mean_j = math.fsum(joules) / n
    spread_j = math.sqrt(math.fsum((each - mean_j) ** 2 for each in joules) / (n - 1)) if n > 1 else None
    if any(one.low_j is None for one in told):
        return MeanEnergy(mean_j, None, None, "unrated", n, spread_j, (), reasons)
    if n == 1:
        only = told[0]
        return MeanEnergy(mean_j, only.low_j, only.high_j, only.verdict, 1, None, only.budget, reasons)
    shared = {name: value_j / n for name, value_j in shared_j(told).items()}
    own = math.sqrt(math.fsum(own_j(one) ** 2 for one in told) / (n * independent))
    few = independent == 1  # of which nothing scatters but the marks
    scatter_j = 0.0 if few else student_95(independent - 1) * (spread_j or 0.0) / math.sqrt(independent)
    half_j = math.hypot(max(scatter_j, own), *shared.values())
    budget = (
        BudgetTerm("scatter of repeats", "standard", scatter_j),
        BudgetTerm("chance in each", "standard", own),
        *(BudgetTerm(name, "gain", value_j) for name, value_j in shared.items()),
    )
    cap = worst(told)
    return MeanEnergy(
        mean_j, max(0.0, mean_j - half_j), mean_j + half_j, verdict(half_j, mean_j, cap), n, spread_j, budget, reasons
    )


@dataclass(slots=True)
class RunningEnergy:
    """The sum of stretches of one device that do not overlap, for as many as come: it grows by nothing.

    Attributes:
        joules: so far.
        seconds: that the stretches cover together.
        spoken_s: of these that the joules are of: a counter's begin with its first reading.
        untold_s: seconds of stretches whose energy could not be told; they are in no joules.
        rated: whether every stretch had an interval.
    """

    joules: float = 0.0
    seconds: float = 0.0
    spoken_s: float = 0.0
    untold_s: float = 0.0
    rated: bool = True
    _own2: float = 0.0
    _caps: set[str] = field(default_factory=set)
    _shared: dict[str, float] = field(default_factory=dict)

    def add(self, energy: Energy, duration_s: float) -> None:
        """Add a stretch of `duration_s`."""
        if energy.joules is None:
            self.untold_s += duration_s
            return
        self.joules += energy.joules
        self.seconds += duration_s
        self.spoken_s += min(duration_s, energy.covered_s + energy.bridged_s)
        self.rated = self.rated and energy.low_j is not None
        self._caps.add(cap_of(energy))
        self._own2 += own_j(energy) ** 2
        for name, value_j in shared_j([energy]).items():
            self._shared[name] = self._shared.get(name, 0.0) + value_j

    @property
    def cap(self) -> str:
        """The best verdict that the stretches' faults allow."""
        return summed_cap([*self._caps])

    @property
    def half_j(self) -> float | None:
        """Half of the sum's 95 % interval; None where a stretch has none, and before there is one."""
        return math.hypot(math.sqrt(self._own2), *self._shared.values()) if self.rated and self.seconds else None


def shared_j(energies: Sequence[Energy]) -> dict[str, float]:
    """Return the sum of every term that energies of one device have in common."""
    found: dict[str, float] = {}
    for one in energies:
        for term in one.budget:
            if term.kind == "gain" or term.term in ALIKE:
                found[term.term] = found.get(term.term, 0.0) + term.value_j
    return found


def own_j(one: Energy, *, alike: Collection[str] = ALIKE) -> float:
    """Return what is a window's own, half of its 95 % interval: chance in quadrature, bounds linearly.

    Args:
        one: the energy.
        alike: terms that count as shared though each energy takes them for chance.
    """
    own = [term for term in one.budget if term.kind != "gain" and term.term not in alike]
    return math.hypot(*(term.value_j for term in own if term.kind == "standard")) + math.fsum(
        term.value_j for term in own if term.kind == "bound"
    )


def cap_of(one: Rated) -> str:
    """Return the verdict that gaps, shortness or a reset hold an energy down to; "good" where only its width speaks."""
    joules, low_j, high_j = one.joules or 0.0, one.low_j, one.high_j
    if low_j is None or high_j is None or one.verdict not in ORDER:
        return "good"
    wide = verdict(max(high_j - joules, joules - low_j), joules)
    return one.verdict if ORDER.index(one.verdict) > ORDER.index(wide) else "good"


def in_quadrature(parts: Sequence[Rated]) -> tuple[float | None, float | None, str]:
    """Return the interval, J, and the verdict of a sum of devices: their errors are their own.

    What keeps one's verdict below that of its width, such as a counter that was reset, does so of the sum. Where one
    has no interval there is none: "unrated", or "unusable" if one is, for a sleep needs no interval to be one.
    """
    ends = [
        (one.joules, one.joules - one.low_j, one.high_j - one.joules)
        for one in parts
        if one.joules is not None and one.low_j is not None and one.high_j is not None
    ]
    if not ends or len(ends) < len(parts):
        return None, None, "unusable" if any(one.verdict == "unusable" for one in parts) else "unrated"
    joules, below_j, above_j = zip(*ends, strict=True)
    total_j, low_j, high_j = math.fsum(joules), math.hypot(*below_j), math.hypot(*above_j)
    return max(0.0, total_j - low_j), total_j + high_j, verdict(max(low_j, high_j), total_j, worst(parts))


def worst(energies: Sequence[Rated]) -> str:
    """Return the verdict that the faults of one of several energies hold their mean or ratio down to."""
    return max(map(cap_of, energies), key=ORDER.index, default="good")


def summed_cap(caps: Sequence[str]) -> str:
    """Return the best verdict of a sum of pieces that have these caps.

    A reset or a sleep in one piece is in the sum; that a piece was short, or had a gap, is in its interval, and is the
    sum's fault only where all pieces are so.
    """
    found = [*caps] or ["good"]
    return "unusable" if "unusable" in found else min(found, key=ORDER.index)
