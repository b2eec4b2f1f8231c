# SPDX-License-Identifier: Apache-2.0
"""Statements about one board, in which its gain and offset are the same unknown: ratios and sums of windows.

Gain cancels in a ratio, offset only as far as the mean powers are alike; in a sum both add up linearly, as do a meter's
limits of error. What reconstruction may be off by is each window's own. Source: the law of propagation with fully
correlated and uncorrelated parts (JCGM 100:2008, 5.2.2).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from powersample.analysis.interval import verdict
from powersample.analysis.mean import cap_of, own_j, shared_j, summed_cap, worst
from powersample.analysis.totals import TOTAL
from powersample.errors import InvalidArgument
from powersample.model import Energy, Window
from powersample.model.energy import in_words

NAMED = 3  # windows of a stretch that its name tells


@dataclass(frozen=True, slots=True)
class Relative:
    """How many times as much energy one window took as another of the same board.

    Attributes:
        ratio: of the energies.
        low: lower end of its 95 % interval.
        high: upper end.
        verdict: good, fair, poor or unusable, by the relative half-width.
    """

    ratio: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Energy of several windows of one board together.

    Attributes:
        joules: the sum; what windows overlap or touch is counted once.
        low_j: lower end of its 95 % interval; None where one window has none.
        high_j: upper end.
        verdict: as an energy's.
        pieces: the energies that were added: one a stretch of windows that touch.
        reasons: of each code the first that a piece has.
    """

    joules: float
    low_j: float | None
    high_j: float | None
    verdict: str
    pieces: tuple[Energy, ...]
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{in_words(self.joules, self.low_j, self.high_j)}, {self.verdict}"


def relative(one: Energy, other: Energy) -> Relative:
    """Return one / other, two windows of one board by one channel.

    Raises:
        InvalidArgument: no two energies, other boards or channels, one that is missing, 0, or without an interval.
    """
    for each in (one, other):
        if not isinstance(each, Energy):
            raise InvalidArgument(
                f"a ratio is of two energies, and one is {type(each).__name__}",
                'Take them from `powersample.analysis.energy(trace, "window")` or `run.energy("window")`.',
            )
    if (one.device, one.channel) != (other.device, other.channel):
        raise InvalidArgument(
            f"{one.channel} of {one.device} and {other.channel} of {other.device} do not share their errors",
            "Compare windows of one board by the same channel.",
        )
    if one.device == TOTAL:
        raise InvalidArgument(
            "two totals do not share one error: each device has its own share of each",
            "Compare windows of one board.",
        )
    own, shared = [], []
    for energy_ in (one, other):
        if not energy_.joules or energy_.low_j is None:
            raise InvalidArgument(f"the energy of {energy_.window!r} is missing, 0, or has no interval")
        joules = energy_.joules
        own.append(own_j(energy_, alike=()) / joules)
        shared.append({term.term: term.value_j / joules for term in energy_.budget if term.kind == "gain"})
    # Of what both share the part that is in proportion to the energy cancels.
    apart = [shared[0].get(name, 0.0) - shared[1].get(name, 0.0) for name in {**shared[0], **shared[1]}]
    half = math.hypot(*own, *apart)
    ratio = (one.joules or 0.0) / (other.joules or 1.0)
    told = verdict(half, 1.0, worst((one, other)))
    return Relative(ratio, max(0.0, ratio * (1 - half)), ratio * (1 + half), told)


def stretches(windows: Iterable[Window]) -> list[Window]:
    """Return what windows cover, in the order of time: those that touch or overlap are one, called "a + b"."""
    groups: list[list[Window]] = []
    end_ns = 0
    for one in sorted(windows, key=lambda one: one.start_ns):
        if groups and one.start_ns <= end_ns:
            groups[-1].append(one)
            end_ns = max(end_ns, one.end_ns)
        else:
            groups.append([one])
            end_ns = one.end_ns
    return [_joined(some) if len(some) > 1 else some[0] for some in groups]


def _joined(windows: Sequence[Window]) -> Window:
    names = [one.name for one in windows]
    name = " + ".join(names if len(names) <= NAMED else [*names[: NAMED - 1], "...", names[-1]])
    return Window(name, windows[0].start_ns, max(one.end_ns for one in windows))


def add(pieces: Sequence[Energy]) -> Sum:
    """Return the sum of energies of one board, or of all devices' totals, over windows that do not touch.

    Of totals the interval is rather too wide: each device's gain is its own, and here they add up as one.

    Raises:
        InvalidArgument: an energy that cannot be told.
    """
    total = 0.0
    for piece in pieces:
        if piece.joules is None:
            raise InvalidArgument(f"the energy of {piece.window!r} cannot be told: {'; '.join(piece.reasons)}")
        total += piece.joules
    reasons = tuple({reason.split(" ", 1)[0]: reason for one in reversed(pieces) for reason in one.reasons}.values())
    if any(piece.low_j is None for piece in pieces):
        void = any(piece.verdict == "unusable" for piece in pieces)
        return Sum(total, None, None, "unusable" if void else "unrated", tuple(pieces), reasons)
    half_j = math.hypot(*map(own_j, pieces), *shared_j(pieces).values())
    told = verdict(half_j, total, summed_cap([*map(cap_of, pieces)]))
    return Sum(total, max(0.0, total - half_j), total + half_j, told, tuple(pieces), reasons)


def chance_j(energies: Sequence[Energy]) -> float:
    """Return half of the 95 % interval of a sum of devices' energies by chance, gain and offset left out.

    NaN where one of them has no interval: what is unknown of one is unknown of all together.
    """
    rated = all(one.low_j is not None for one in energies)
    return math.hypot(*(own_j(one, alike=()) for one in energies)) if rated else math.nan
