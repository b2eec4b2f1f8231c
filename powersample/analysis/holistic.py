# SPDX-License-Identifier: Apache-2.0
"""The energy of a whole node: what counters measured, and what a calibration says that they do not see.

Four levels, the first three those of arXiv 2505.15631, section VI.D; D is the window, E_c the energy of the components:

    components  E_c alone: what is missing is unknown
    bounds      E_c + [P_idle, P_busy] D
    load        E_c + P_busy(load) D, where it is known what ran
    model       the integral of f(P_cpu, P_dram, P_gpu): the uncaptured power follows the load

What each may be off by is in node_energy.py. A meter stands beside them and is in none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from powersample.analysis.calibrated import Judged, judge, stored_calibration
from powersample.analysis.course import GROUPS, KEYS, Course, course
from powersample.analysis.interval import ORDER, verdict
from powersample.analysis.mean import cap_of
from powersample.analysis.node_energy import Estimate, before_reasons, by_bounds, by_load, by_model, outside_reasons
from powersample.analysis.primary import Measured, find_window, window_energies
from powersample.analysis.relative import chance_j
from powersample.analysis.settling import Settling
from powersample.analysis.totals import more, totals
from powersample.analysis.truth import truths_joules
from powersample.errors import InvalidArgument
from powersample.model import BudgetTerm, Calibration, Trace, Window

LEVELS = ("components", "bounds", "load", "model")
WALL = "wall"
HELD = ("PSQ-EDGE",)  # what a component's own interval has room for all of


@dataclass(frozen=True, slots=True)
class WallEnergy:
    """An energy at the wall with its 95 % interval, J; the interval None where it is unknown."""

    joules: float
    low_j: float | None
    high_j: float | None


@dataclass(frozen=True, slots=True)
class Holistic:
    """The energy of the whole node over one window.

    Attributes:
        window: its name.
        duration_s: its length.
        level: how the energy is told, one of `LEVELS`.
        components_j: by group ("cpu", "dram", "gpu"), what counters measured; a group without an energy is not there.
        total: at the wall by the calibration; None where only components are known.
        verdict: good, fair, poor, unusable; "unrated" without an interval.
        budget: terms of the interval.
        reasons: coded, what is wrong or unsure.
        bounds_j: E_c + P_idle D and E_c + P_busy D, as the paper has it; None without a calibration of both.
        load: what the window is said to be like; "" where nobody said.
        like: the energy by the uncaptured power of that load.
        meter: what meters at the wall say; None without one.
        truth_j: the simulated node's.
    """

    window: str
    duration_s: float
    level: str
    components_j: Mapping[str, float]
    total: WallEnergy | None = None
    verdict: str = "unrated"
    budget: tuple[BudgetTerm, ...] = ()
    reasons: tuple[str, ...] = ()
    bounds_j: tuple[float, float] | None = None
    load: str = ""
    like: WallEnergy | None = None
    meter: WallEnergy | None = None
    truth_j: float | None = None

    @property
    def measured_j(self) -> float | None:
        """Energy of the components together; None where none has one."""
        return math.fsum(self.components_j.values()) if self.components_j else None

    @property
    def uncaptured_j(self) -> float | None:
        """What the calibration adds to the components."""
        measured_j = self.measured_j
        return None if self.total is None or measured_j is None else self.total.joules - measured_j

    @property
    def node(self) -> WallEnergy | None:
        """What stands for the node: the meter, else the calibration."""
        return self.meter if self.meter is not None else self.total

    @property
    def shares(self) -> dict[str, float] | None:
        """Shares of `node` that counters measured, that the calibration adds, and the rest; None without a whole."""
        measured_j = self.measured_j
        if self.node is None or measured_j is None or not self.node.joules:
            return None
        whole_j, known_j = self.node.joules, measured_j if self.total is None else self.total.joules
        shares_j = {"measured": measured_j, "modelled": known_j - measured_j, "missing": whole_j - known_j}
        return {name: joules / whole_j for name, joules in shares_j.items()}

    @property
    def residual_j(self) -> float | None:
        """The calibration's energy less the meter's; None without both."""
        return None if self.meter is None or self.total is None else self.total.joules - self.meter.joules

    @property
    def budget_j(self) -> float | None:
        """How far calibration and meter may differ towards the side on which they do; None where that is unknown."""
        residual_j, total, meter = self.residual_j, self.total, self.meter
        if residual_j is None or total is None or meter is None:
            return None
        ends = (total.low_j, meter.high_j) if residual_j > 0 else (total.high_j, meter.low_j)
        if ends[0] is None or ends[1] is None:
            return None
        return math.hypot(ends[0] - total.joules, ends[1] - meter.joules)


def holistic(
    trace: Trace,
    window: str | Window = "run",
    calibration: Calibration | None = None,
    *,
    load_like: str | None = None,
    anyway: bool = False,
) -> Holistic:
    """Return the energy of the whole node over a window.

    Args:
        trace: the recording.
        window: a window, or its name if only one bears it.
        calibration: of this node; None takes the recording's own.
        load_like: one of the calibration's loads, which what ran is known to be like.
        anyway: use a calibration of another host, driver or rate all the same.

    Raises:
        InvalidArgument: no such window; the calibration that was given is refused; no such load.
    """
    found, judged = find_window(trace, window), judge_of(trace, calibration, anyway=anyway)
    if calibration is not None and judged.calibration is None:
        raise InvalidArgument(f"the calibration cannot be used for this recording: {'; '.join(judged.reasons)}")
    return holistics(trace, [found], window_energies(trace, [found]), judged, load_like=load_like)[0]


def judge_of(trace: Trace, calibration: Calibration | None = None, origin: str = "", *, anyway: bool = False) -> Judged:
    """Return whether a calibration, or the recording's own where none is given, is used: see `judge`."""
    stored = stored_calibration(trace) if calibration is None else (calibration, origin or "as given")
    return Judged() if stored is None else judge(trace, *stored, anyway=anyway)


def holistics(
    trace: Trace,
    windows: Sequence[Window],
    measured: Sequence[Sequence[Measured]],
    judged: Judged,
    *,
    load_like: str | None = None,
    sums: Sequence[Mapping[str, Any]] | None = None,
) -> list[Holistic]:
    """Return the same for many windows.

    Args:
        trace: the recording.
        windows: the windows.
        measured: what `window_energies` told of each.
        judged: the calibration, if there is one.
        load_like: as `holistic`.
        sums: of `totals`, a window each, where they are known already.

    Raises:
        InvalidArgument: no such load.
    """
    calibration = judged.calibration
    if load_like is not None and load_like not in (calibration.p_busy_w if calibration else {}):
        known = ", ".join(calibration.p_busy_w) if calibration and calibration.p_busy_w else "none"
        raise InvalidArgument(f"no load {load_like!r} was calibrated", f"There is {known}.")
    truths = truths_joules(trace, WALL, WALL, windows) if trace.simulated else [None] * len(windows)
    node = None
    if calibration is not None and windows:
        longest = max(range(len(windows)), key=lambda i: windows[i].duration_s)
        way = course(trace, measured[longest])
        node = _Node(calibration, way, Settling.of(calibration, way), load_like or "")
    found = []
    if sums is None:
        sums = [totals(mine, window) for mine, window in zip(measured, windows, strict=True)]
    for window, mine, summed, truth_j in zip(windows, measured, sums, truths, strict=True):
        joules = {group: float(summed[key]) for group, key in KEYS.items() if summed[key] is not None}
        lacks = tuple(reason for reason in summed["reasons"] if not reason.endswith("no node_j"))
        meter = _meter(summed["node_j"], mine)
        one = Holistic(
            window.name, window.duration_s, "components", joules, reasons=lacks, meter=meter, truth_j=truth_j
        )
        found.append(one if node is None or window.duration_s <= 0 else node.told(one, window, mine))
    return found


def _primaries(measured: Sequence[Measured], domain: str) -> list[Measured]:
    return [one for one in measured if one.primary and not one.spare and one.energy.domain == domain]


def _meter(joules: float | None, measured: Sequence[Measured]) -> WallEnergy | None:
    """Return the meters' energy: limits of error of several add up."""
    if joules is None:
        return None
    ends = [(one.energy.low_j, one.energy.high_j) for one in _primaries(measured, WALL)]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    if len(known) < len(ends):
        return WallEnergy(joules, None, None)
    return WallEnergy(joules, math.fsum(low for low, _ in known), math.fsum(high for _, high in known))


def _own_j(measured: Sequence[Measured], group: str) -> float:
    """Return half of the interval of a group's energy, gain and offset left out; NaN where one device has none."""
    return chance_j([one.energy for one in _primaries(measured, GROUPS[group])])


def _unlike_j(measured: Sequence[Measured], group: str) -> float:
    """Return half of what gains do to a group's energy whose devices did not have equal shares; NaN where unknown."""
    mine = [one.energy for one in _primaries(measured, GROUPS[group])]
    shares_j = [one.joules or 0.0 for one in mine]
    gains_j = [sum(term.value_j for term in one.budget if term.term == "gain") for one in mine]
    if len(mine) < 2:
        return 0.0
    mean_j = math.fsum(shares_j) / len(mine)
    return math.hypot(
        *(gain_j / of_j * (of_j - mean_j) if of_j else 0.0 for gain_j, of_j in zip(gains_j, shares_j, strict=True))
    )


def _parts_cap(measured: Sequence[Measured], groups: Iterable[str]) -> tuple[str, list[str]]:
    """Return the best verdict that the components allow, and the reasons of those that keep it from "good".

    A component's width is in the estimate as far as it matters there; what is below its own width is so for a reason
    that no width has room for, such as a counter that was reset.
    """
    cap, grave = "good", dict[str, list[str]]()
    for energy in (one.energy for group in groups for one in _primaries(measured, GROUPS[group])):
        mine = cap_of(energy)
        if mine != "good":
            cap = max(cap, mine, key=ORDER.index)
            for code, _, words in (reason.partition(" ") for reason in energy.reasons):
                if code not in HELD:
                    grave.setdefault(code, []).append(f"{energy.channel}: {words}")
    return cap, [f"{code} {some[0]}{more(some)}" for code, some in grave.items()]


def _told(estimate: Estimate) -> WallEnergy:
    low_j, high_j = estimate.interval_j or (None, None)
    return WallEnergy(estimate.joules, low_j, high_j)


@dataclass(frozen=True, slots=True)
class _Node:
    """A calibrated node and the course of its components' powers."""

    calibration: Calibration
    course: Course
    settling: Settling
    load: str

    def told(self, one: Holistic, window: Window, measured: Sequence[Measured]) -> Holistic:
        """Return a window's energy with what the calibration tells of it."""
        calibration = self.calibration
        if missing := [group for group in calibration.groups if group not in one.components_j]:
            words = f"the calibration takes the energy of {' and '.join(missing)}, which cannot be told here"
            return replace(one, reasons=(*one.reasons, f"PSQ-CAL-GROUPS {words}"))
        bins = self.course.of(window, {group: one.components_j[group] for group in calibration.groups})
        own = {group: _own_j(measured, group) for group in calibration.groups}
        unlike = {group: _unlike_j(measured, group) for group in calibration.groups}
        like = by_load(calibration, self.load, bins, own) if self.load else None
        base_j, bounds_w = float(bins.seconds @ bins.sum_w), calibration.bounds_w
        level, estimate = "components", like
        if calibration.model is not None:
            level = "model"
            unsettled = self.settling.of_window(window)
            estimate = by_model(calibration, calibration.model, bins, own, unlike, unsettled)
        elif like is not None:
            level = "load"
        elif bounds_w is not None:
            level, estimate = "bounds", by_bounds(calibration, bounds_w, bins, own)
        if estimate is None:
            return one
        total = _told(estimate)
        cap, grave = _parts_cap(measured, calibration.groups)
        rated, before = "unrated", []
        if total.low_j is not None and total.high_j is not None:
            half_j = max(total.joules - total.low_j, total.high_j - total.joules)
            rated = verdict(half_j, total.joules, cap)
            before = before_reasons(estimate, verdict(half_j, total.joules))
        return replace(
            one,
            level=level,
            total=total,
            verdict=rated,
            budget=estimate.budget,
            reasons=(*one.reasons, *grave, *outside_reasons(calibration, bins), *before),
            bounds_j=None
            if bounds_w is None
            else (base_j + bounds_w[0] * window.duration_s, base_j + bounds_w[1] * window.duration_s),
            load=self.load,
            like=None if like is None else _told(like),
        )
