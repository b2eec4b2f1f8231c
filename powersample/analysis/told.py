# SPDX-License-Identifier: Apache-2.0
"""What a channel tells of a window, put into words: reasons, coverage, interval and verdict."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from powersample.analysis.arrays import Floats
from powersample.analysis.integrals import Reads
from powersample.analysis.interval import ORDER, Reconstruction, board_terms, half_width_j, limit, verdict
from powersample.marks.device import UNSYNCHRONISED
from powersample.marks.writer import RAISED
from powersample.model import BudgetTerm, Channel, Energy, Kind, SensorModel, Window, amount, duration
from powersample.model.energy import OPEN, UNRESOLVED

FLAGS = {  # what a window's flags mean for its energies
    OPEN: "PSQ-OPEN the window was never ended; it stands to the record's end",
    RAISED: "PSQ-RAISED an exception left the window",
    UNRESOLVED: "PSQ-EVENT when the accelerator came to the window's edges is not known; the host's marks stand, and "
    "what was queued there may be on the wrong side of them",
    UNSYNCHRONISED: "PSQ-ASYNC the accelerator could not be waited for at an edge; what was queued there may be on the "
    "wrong side of it",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows how far off a part-time sensor's energy can be, beside its own values.

    Attributes:
        off_by_j: that far at most.
        words: what shows it.
        fooled: whether it shows that the sensor was fooled: then it may be further off than its own values tell.
    """

    off_by_j: float
    words: str
    fooled: bool = False


class Told(NamedTuple):
    """What one channel tells of one window, with what it takes to compare it with another's.

    A named tuple: tens of thousands are made at once, and a frozen dataclass of so many fields takes four times that.

    Attributes:
        energy: the energy.
        kind: of the channel.
        period_s: spacing of what it publishes, or of the polls where that is not known.
        every_poll: a counter that moves at every poll: when it was published is not seen.
        least_w: least power around the window; NaN for counters.
        most_w: most power around it.
        divisor: how much more seldom it is read than its lane goes round.
        model: of its sensor; None where nothing is known of it, and then the energy has no interval.
        reconstruction: what its reconstruction may be off by.
        missing_j: the most that uncovered parts of the window can have held.
        cap: the best verdict that the window's faults allow.
        phase: from the window's start to the next update, in update periods; NaN where it is not known.
        resolved: whether the update period was measured here.
        evidence: that no load near the update period hides from it.
        doubts: why what might be evidence is none.
    """

    energy: Energy
    kind: Kind
    period_s: float = 0.0
    every_poll: bool = False
    least_w: float = math.nan
    most_w: float = math.nan
    divisor: int = 1
    model: SensorModel | None = None
    reconstruction: Reconstruction | None = None
    missing_j: float = 0.0
    cap: str = "good"
    phase: float = math.nan
    resolved: bool = False
    evidence: tuple[Evidence, ...] = ()
    doubts: tuple[str, ...] = ()


def rated(told: Told, window: Window, evidence: Evidence | None = None) -> Energy:
    """Return the energy with its interval and verdict; as it is where they cannot be told.

    Args:
        told: what the channel tells.
        window: of what.
        evidence: of what its reconstruction is off by at most. That leaves the interval no room for loads near the
            sensor's update period, but never less than it has without them; and more than it had where it shows that
            the sensor was fooled.
    """
    energy, model, unsure = told.energy, told.model, told.reconstruction
    if energy.joules is None:
        return energy.but(verdict="unusable")
    if model is None or unsure is None:
        return energy
    joules, duration_s = energy.joules, window.duration_s
    cap = told.cap if model.known else _unknown_cap(told, window)
    own_j, hidden_j = unsure.half_j, 0.0
    if evidence is not None:
        own_j = min(own_j, max(unsure.unaliased_j, evidence.off_by_j))
        if evidence.fooled and evidence.off_by_j > unsure.half_j:
            hidden_j = math.sqrt(evidence.off_by_j**2 - unsure.half_j**2)
    excluded = evidence.words if evidence is not None and own_j < unsure.half_j else ""
    if not model.known:
        own_j *= limit("unknown_wider")
    share = own_j / unsure.half_j if unsure.half_j else 1.0
    drift_j = limit("clock_ppm") * 1e-6 * joules
    half_j = math.hypot(half_width_j(model, joules, duration_s, own_j), drift_j, hidden_j)
    budget = [*board_terms(model, joules, duration_s), BudgetTerm("clock drift", "standard", drift_j)]
    budget += (
        unsure.terms if share == 1.0 else [BudgetTerm(one.term, one.kind, one.value_j * share) for one in unsure.terms]
    )
    reasons = list(energy.reasons)
    if hidden_j:
        budget.append(BudgetTerm("aliasing that repeats show", "standard", hidden_j))
    if told.missing_j:
        budget.append(BudgetTerm("uncovered", "bound", told.missing_j))
    if evidence is not None and evidence.fooled and not excluded:
        reasons.append(
            f"PSQ-ALIAS {evidence.words}, follow the phase: something that repeats near {duration(told.period_s)} "
            f"hides between updates, and one repeat may be {amount(evidence.off_by_j)} J off"
        )
    elif own_j > limit("alias_worth") * unsure.unaliased_j and own_j > limit("alias_share") * joules:
        narrow_pct = 100 * unsure.unaliased_j / joules if joules > 0 else math.inf
        reasons.append(
            f"PSQ-ALIAS a load that repeats near {duration(told.period_s)} could hide between updates, and samples "
            "need not follow it even where their mean is right; without one reconstruction is good to "
            f"{amount(narrow_pct, 2)} %" + "".join(f"; {doubt}" for doubt in told.doubts)
        )
    if not model.known:
        reasons.append("PSQ-UNKNOWN no table knows this sensor: its interval is a wide default")
    return energy.but(
        low_j=max(0.0, joules - half_j),
        high_j=joules + half_j + told.missing_j,
        budget=tuple(budget),
        verdict=verdict(half_j + told.missing_j, joules, cap),
        reasons=tuple(reasons),
        excluded=excluded,
    )


def _unknown_cap(told: Told, window: Window) -> str:
    """Return the best verdict of a sensor of which no table speaks: what it lags by shows in short windows."""
    brief = window.duration_s < limit("short_periods") * told.period_s
    return max(told.cap, "poor" if brief else "fair", key=ORDER.index)


def plain(channel: Channel, window: Window, joules: float | None, method: str, reasons: Iterable[str]) -> Energy:
    """Return an energy without an interval, of which nothing is known of what it covers."""
    return Energy(
        joules=joules,
        low_j=None,
        high_j=None,
        method=method,
        budget=(),
        verdict="unrated",
        reasons=(*reasons, *_flagged(window)),
        channel=channel.name,
        device=channel.device,
        domain=channel.domain,
        window=window.name,
    )


def _flagged(window: Window) -> list[str]:
    return [text for flag, text in FLAGS.items() if flag in window.flags] if window.flags else []


def briefs(length_ns: Floats, period_ns: float | None) -> list[bool]:
    """Say of every window whether it holds so few updates that its energy is mostly that of its neighbourhood."""
    brief: list[bool] = (length_ns < limit("short_periods") * (period_ns or 0.0)).tolist()
    return brief


def short(window: Window, new: str) -> str:
    """Return the reason that tells of such a window; `new`: the sensor's period, in words."""
    return f"PSQ-SHORT {duration(window.duration_s)}, and the sensor tells something new each {new}"


def guessed(energy: Energy) -> Energy:
    """Return the energy of a window with so few readings that nothing tells its interval."""
    few = f"PSQ-SHORT the window holds {energy.polls} readings: what lay between is anybody's guess"
    return energy.but(reasons=(*energy.reasons, few), verdict="unusable")


def gap(count: int | None, hidden_ns: float, window: Window, what: str) -> str:
    """Return the reason that tells of gaps."""
    gaps = "gaps between polls hide" if count is None else f"{count} gaps between polls hide"
    return f"PSQ-GAP {gaps} {amount(hidden_ns / 1e9)} s of {amount(window.duration_s, 4)} s; {what}"


class Coverage:
    """How much of each window readings speak for: what is outside is not in the joules, gaps within are bridged.

    Worked out for all windows together; each one's energy is then made once.

    Args:
        channel: whose readings.
        windows: the windows.
        reads: counted in them.
        uncovered_ns: of each, what no reading speaks for at its edges.
        bridged_ns: of each, what gaps hide within it.
    """

    def __init__(
        self, channel: Channel, windows: Sequence[Window], reads: Reads, uncovered_ns: Floats, bridged_ns: Floats
    ) -> None:
        length_ns = reads.lengths_ns()
        missing_ns = uncovered_ns + bridged_ns
        self._channel, self._windows, self._reads = channel, windows, reads
        self.uncovered_ns: list[float] = uncovered_ns.tolist()
        self.too_little: list[bool] = (missing_ns > (1 - limit("least_covered")) * length_ns).tolist()
        self._covered_s: list[float] = (np.maximum(length_ns - missing_ns, 0.0) / 1e9).tolist()
        self._bridged_s: list[float] = (np.minimum(bridged_ns, length_ns) / 1e9).tolist()

    def energy(self, i: int, joules: float, method: str, reasons: Iterable[str], more: Iterable[str] = ()) -> Energy:
        """Return a window's energy without an interval; `joules` is None where too little is covered.

        Args:
            i: which window.
            joules: of the part that is covered.
            method: how they were told.
            reasons: what is to be said.
            more: what is to be said after what is uncovered.
        """
        channel, window, reads = self._channel, self._windows[i], self._reads
        said, polls, too_little = [*reasons, *_flagged(window)], reads.good(i), self.too_little[i]
        uncovered_ns = self.uncovered_ns[i]
        if uncovered_ns > 0 and (polls or not reads.within("reads", i)):  # failures say why nothing is covered
            share = f"{amount(uncovered_ns / 1e9, 4)} s of {amount(window.duration_s, 4)} s"
            left_out = f"PSQ-UNCOVERED {share} are outside the record"
            said.append(left_out if too_little else f"{left_out}; only the rest is counted")
        return Energy(
            joules=None if too_little else joules,
            low_j=None,
            high_j=None,
            method=method,
            budget=(),
            verdict="unrated",
            reasons=(*said, *more),
            channel=channel.name,
            device=channel.device,
            domain=channel.domain,
            window=window.name,
            updates=reads.within("changes", i),
            polls=polls,
            covered_s=self._covered_s[i],
            bridged_s=self._bridged_s[i],
        )


def best_verdicts(length_ns: Floats, hidden_ns: Floats | float, least_ns: float) -> list[str]:
    """Return the best verdict that gaps and a window shorter than the sensor's own spans allow, of every window."""
    poor = (hidden_ns > limit("much_hidden") * length_ns) | (length_ns < least_ns)
    return ["poor" if one else "good" for one in poor.tolist()]
