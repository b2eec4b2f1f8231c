# SPDX-License-Identifier: Apache-2.0
"""Energies of a meter: sums of power x cycle, with shares at the edges, or of lines between readings of the moment.

The half-width of the 95 % interval, with E the energy, D the window, T the cycle, R the range of power at an edge:

    accuracy   reading_pct E + range_pct range_w D + floor_w D: limits of error of one meter, the same all the time
    cycle      R T / 4 an edge: a step lies anywhere in the cycle that the edge cuts
    clock fit  1.96 se (range at both edges), where the meter's clock has been fitted; else
    latency    (latest - known latency) x (the same), added linearly: values lie so much earlier at most
    gaps       a bound, added linearly: all of the hidden time at the least, or the most, power of the window and what
               lies around it; the line between a gap's ends may lie anywhere in that range, so the two sides differ
    between    1.96 / sqrt(12) sqrt(sum of (step x spacing)^2), of readings of the moment: a step lies between two
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges, Floats
from powersample.analysis.integrals import Reads
from powersample.analysis.interval import NORMAL_95, limit, verdict
from powersample.analysis.meter_time import MeterPiece, meter_pieces
from powersample.analysis.sweep import edges, sweep
from powersample.analysis.told import Coverage, Told, best_verdicts
from powersample.model import BudgetTerm, Channel, ClockFit, Energy, Kind, MeterInfo, Trace, Window, amount

METHOD = "sum of power x cycle"
METHOD_OF_INSTANTS = "trapezoid"
UNKNOWN_LATENCY_S = 1.0
NO_GAP = 0.5  # of a cycle: what two clocks differ by within a window is bridged, too, and no gap
TIMES = {1: "once", 2: "twice"}
NEIGHBOURHOOD_NS = 500_000_000  # around a window, in which its extremes are looked for


@dataclass(frozen=True, slots=True)
class _Meter:
    """What a trace knows of a meter's channel; `gaps` are (start, end, cause)."""

    info: MeterInfo | None
    fit: ClockFit | None
    gaps: tuple[tuple[int, int, str], ...]

    @property
    def latency_s(self) -> float:
        return self.info.latency_s if self.info else 0.0

    @property
    def unsure_s(self) -> float:
        """How much later than `latency_s` values may come, where no fit tells."""
        latest_s = self.info.latency_max_s if self.info else None
        return UNKNOWN_LATENCY_S if latest_s is None else max(0.0, latest_s - self.latency_s)


def is_meter(trace: Trace, channel: Channel) -> bool:
    """Whether a channel is the power of a meter: its values average cycles of their own, or the trace says so."""
    if channel.kind is not Kind.POWER:
        return False
    return channel.span == "sample" or (channel.span == "none" and info_of(trace, channel.name) is not None)


def info_of(trace: Trace, name: str) -> MeterInfo | None:
    """Return the meter that a channel is of; None where the trace does not tell."""
    for one in trace.meta.get("meters") or ():
        if any(channel.get("name") == name for channel in one.get("channels") or ()):
            return MeterInfo.from_json(one)
    return None


def gaps_of(trace: Trace, name: str) -> tuple[tuple[int, int, str], ...]:
    """Return the gaps that a channel's meter told of itself: (start, end, cause); one without an end lasts on."""
    return tuple(
        (int(gap["start_ns"]), int(gap["end_ns"] or trace.end_ns or 0), str(gap["cause"]))
        for one in trace.meta.get("meters") or ()
        if any(each.get("name") == name for each in one.get("channels") or ())
        for gap in one.get("gaps") or ()
    )


def meter_energies(trace: Trace, name: str, windows: Sequence[Window]) -> list[Told]:
    """Return what a meter's channel tells of every window, which has a length, in one pass."""
    channel, fit = trace.channel(name), trace.clock_fit(name)
    fit = fit if fit is not None and fit.accepted else None
    fit = fit.placed() if fit is not None and fit.own_clock else fit  # its readings come placed
    gaps = gaps_of(trace, name)
    meter = _Meter(info_of(trace, name), fit, gaps)
    latency_ns = meter.latency_s * 1e9

    def lag(t_ns: NDArray[np.int64]) -> Floats:
        return np.full(len(t_ns), latency_ns) if fit is None else fit.lag_ns(t_ns)

    ends = np.array([end_ns for _, end_ns, _ in gaps], np.int64)
    return sweep(
        trace, name, windows, partial(_Sums, channel, meter), partial(meter_pieces, lag=lag, hole_ends_ns=ends)
    )


class _Sums:
    """The pass."""

    def __init__(self, channel: Channel, meter: _Meter, windows: Sequence[Window]) -> None:
        self._channel, self._meter, self._windows = channel, meter, windows
        self._edges: Edges = edges(windows)
        shape = self._edges.shape
        self._joules = self._hidden = self._bridge = 0.0
        self._joules_at, self._hidden_at, self._bridge_at = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._steps, self._steps_at = 0.0, np.zeros(shape)  # J^2
        self._end_w = np.nan
        self._first_ns: int | None = None
        self._last_ns = 0
        self._least_at, self._most_at = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._least, self._most = np.full(shape[1], np.inf), np.full(shape[1], -np.inf)
        self._spans: list[float] = []
        self._reads = Reads(self._edges)

    def add(self, piece: MeterPiece) -> None:
        """See `Pass`."""
        self._reads.add(piece.polls)
        t_ns = piece.t_ns
        if self._first_ns is None:
            self._first_ns = int(t_ns[0])
        self._last_ns = int(t_ns[-1])
        joules = np.concatenate(([0.0], np.cumsum(piece.joules))) + self._joules
        hidden = np.concatenate(([0.0], np.cumsum(piece.hidden_ns))) + self._hidden
        bridged = piece.watts * piece.hidden_ns * 1e-9
        bridge = np.concatenate(([0.0], np.cumsum(bridged))) + self._bridge
        mine = (self._edges >= t_ns[0]) & (self._edges < t_ns[-1])
        since = (t_ns - t_ns[0]).astype(np.float64)
        at = (self._edges[mine] - t_ns[0]).astype(np.float64)
        self._joules_at[mine] = np.interp(at, since, joules)
        self._hidden_at[mine] = np.interp(at, since, hidden)
        self._bridge_at[mine] = np.interp(at, since, bridge)
        self._joules, self._hidden, self._bridge = float(joules[-1]), float(hidden[-1]), float(bridge[-1])
        step_w = np.diff(piece.watts, prepend=piece.watts[0] if np.isnan(self._end_w) else self._end_w)
        squares = np.cumsum((step_w * np.diff(t_ns) * 1e-9) ** 2)
        steps = np.concatenate(([0.0], squares)) + self._steps
        self._steps_at[mine] = np.interp(at, since, steps)
        self._steps, self._end_w = float(steps[-1]), float(piece.watts[-1])
        lengths = np.diff(t_ns)[piece.hidden_ns == 0]
        if len(lengths):
            self._spans.append(float(np.median(lengths)))
        cycle_ns = round(self._cycle_ns)
        unsure_ns = round(self._meter.unsure_s * 1e9) if self._meter.fit is None else 0
        self._extremes(piece, self._edges - 2 * cycle_ns, self._edges + 2 * cycle_ns + unsure_ns, at_edges=True)
        around = (self._edges[0] - NEIGHBOURHOOD_NS, self._edges[1] + NEIGHBOURHOOD_NS)
        self._extremes(piece, *around, at_edges=False)

    @property
    def _cycle_ns(self) -> float:
        if self._meter.info is not None and np.isfinite(self._meter.info.cycle_s):
            return self._meter.info.cycle_s * 1e9
        return float(np.median(self._spans)) if self._spans else 0.0

    def _extremes(self, piece: MeterPiece, low_ns: Edges, high_ns: Edges, *, at_edges: bool) -> None:
        """Take the extremes of the segments that touch [low, high] into those of edges, or of windows."""
        first = np.searchsorted(piece.t_ns[1:], low_ns, "left")
        end = np.searchsorted(piece.t_ns[:-1], high_ns, "right")
        some = first < end
        if not some.any():
            return
        pairs = np.stack((first[some], end[some]), axis=-1).ravel()  # every second stretch is an edge's
        least, most = (self._least_at, self._most_at) if at_edges else (self._least, self._most)
        most_w, least_w = (np.concatenate((each, each[-1:])) for each in (piece.most_w, piece.least_w))
        most[some] = np.maximum(most[some], np.maximum.reduceat(most_w, pairs)[::2])
        least[some] = np.minimum(least[some], np.minimum.reduceat(least_w, pairs)[::2])

    def lacks(self) -> NDArray[np.bool_]:
        """See `Pass`."""
        if self._first_ns is None:
            return np.ones(self._edges.shape, np.bool_)
        return np.stack((self._edges[0] < self._first_ns, self._edges[1] > self._last_ns))

    def results(self) -> list[Told]:
        """See `Pass`."""
        beyond = self._edges >= self._last_ns
        self._joules_at[beyond], self._hidden_at[beyond] = self._joules, self._hidden
        self._steps_at[beyond], self._bridge_at[beyond] = self._steps, self._bridge
        hidden_ns, outside_ns = self._hidden_at[1] - self._hidden_at[0], self._reads.lengths_ns()
        if self._first_ns is not None:
            beside_ns = np.stack((self._first_ns - self._edges[0], self._edges[1] - self._last_ns))
            outside_ns = np.minimum(outside_ns, np.maximum(beside_ns, 0).astype(np.float64).sum(axis=0))
        coverage = Coverage(self._channel, self._windows, self._reads, outside_ns, hidden_ns)
        caps = best_verdicts(self._reads.lengths_ns(), hidden_ns, 2 * self._cycle_ns)
        return [self._told(i, window, coverage, float(hidden_ns[i]), caps[i]) for i, window in enumerate(self._windows)]

    def _told(self, i: int, window: Window, coverage: Coverage, hidden_ns: float, cap: str) -> Told:
        joules = float(self._joules_at[1, i] - self._joules_at[0, i])
        outside_ns = coverage.uncovered_ns[i]
        reasons = self._reads.reasons(i)
        if hidden_ns > NO_GAP * self._cycle_ns:
            reasons.append(self._gap_reason(i, window, hidden_ns))
        least, most = self._least[i], self._most[i]
        hidden_j = (0.0, 0.0)  # by which the bridge may be too high, and too low
        if hidden_ns and np.isfinite(most):
            bridge_j = float(self._bridge_at[1, i] - self._bridge_at[0, i])
            hidden_s = hidden_ns / 1e9
            hidden_j = (max(0.0, bridge_j - float(least) * hidden_s), max(0.0, float(most) * hidden_s - bridge_j))
        instants = self._channel.span == "none"
        result = coverage.energy(i, joules, METHOD_OF_INSTANTS if instants else METHOD, reasons)
        result = replace(result, updates=result.polls)  # every reading is news, also one that is equal
        missing_j = max(0.0, float(most)) * outside_ns / 1e9 if outside_ns and np.isfinite(most) else 0.0
        if result.joules is None:
            result = replace(result, verdict="unusable")
        else:
            result = self._rated(result, window, i, hidden_j, missing_j, cap)
        return Told(result, Kind.POWER, self._cycle_ns / 1e9, False, float(least), float(most), cap=cap)

    def _gap_reason(self, i: int, window: Window, hidden_ns: float) -> str:
        causes = Counter(c for start, end, c in self._meter.gaps if start < window.end_ns and window.start_ns < end)
        why = ", ".join(f"{cause} {TIMES.get(count, f'{count} times')}" for cause, count in sorted(causes.items()))
        spans = f"{amount(hidden_ns / 1e9)} s of {amount(window.duration_s, 4)} s"
        return f"PSQ-GAP the meter gave no values for {spans}{f' ({why})' if why else ''}; bridged by a line"

    def _rated(
        self, energy: Energy, window: Window, i: int, hidden_j: tuple[float, float], missing_j: float, cap: str
    ) -> Energy:
        info, reasons = self._meter.info, list(energy.reasons)
        accuracy = info.accuracy if info else None
        offset_w = accuracy.offset_w if accuracy else None
        if accuracy is None or offset_w is None:
            reasons.append("PSM-ACCURACY the meter's limits of error are not known, so there is no interval")
            return replace(energy, reasons=tuple(reasons))
        joules, duration_s = energy.joules or 0.0, window.duration_s
        known = np.isfinite(self._most_at[:, i])
        at_j = np.where(known, self._most_at[:, i] - self._least_at[:, i], 0.0) * self._cycle_ns / 4e9
        most_w, least_w = np.where(known, self._most_at[:, i], 0.0), np.where(known, self._least_at[:, i], 0.0)
        across_w = float(most_w.max() - least_w.min())
        fit = self._meter.fit
        fit_s = 0.0 if fit is None else max(fit.error_s(window.start_ns), fit.error_s(window.end_ns))
        late_j = across_w * min(self._meter.unsure_s, duration_s) if fit is None else 0.0
        terms = [
            BudgetTerm("meter's limits of error", "gain", accuracy.reading_pct / 100 * joules + offset_w * duration_s),
            BudgetTerm("cycle at the start", "standard", float(at_j[0])),
            BudgetTerm("cycle at the end", "standard", float(at_j[1])),
            BudgetTerm("gaps", "bound", max(hidden_j)),
            BudgetTerm("clock drift", "standard", limit("clock_ppm") * 1e-6 * joules),
        ]
        if self._channel.span == "none":
            steps = max(0.0, float(self._steps_at[1, i] - self._steps_at[0, i]))
            terms.append(BudgetTerm("between readings", "standard", NORMAL_95 * (steps / 12) ** 0.5))
        if fit is not None:
            terms.append(BudgetTerm("clock fit", "standard", NORMAL_95 * fit_s * across_w))
        half_j = float(np.sqrt(sum(term.value_j**2 for term in terms if term.kind != "bound"))) + late_j
        if fit is None:
            terms.append(BudgetTerm("arrival latency", "bound", late_j))
        if info is not None and info.latency_max_s is None and fit is None:
            reasons.append(
                f"PSM-LATENCY nobody knows how late this meter's values come; up to {UNKNOWN_LATENCY_S:g} s is assumed"
            )
        if missing_j:
            terms.append(BudgetTerm("uncovered", "bound", missing_j))
        return replace(
            energy,
            low_j=max(0.0, joules - half_j - hidden_j[0]),
            high_j=joules + half_j + hidden_j[1] + missing_j,
            budget=tuple(terms),
            verdict=verdict(half_j + max(hidden_j) + missing_j, joules, cap),
            reasons=tuple(reasons),
        )
