# SPDX-License-Identifier: Apache-2.0
"""Energies of one channel over windows.

Counters: the difference along a line through their change points. Power of sensors that the table knows: averaging.py.
Power of others: the trapezoid, or values held backwards where they are known to be averages; nothing is known of what
such a sensor may be off by, so its energies have no interval and are "unrated". Meters whose values average a cycle of
their own: meter.py.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges
from powersample.analysis.averaging import METHODS, NEAR_NS, WIDE_NS, Averaging
from powersample.analysis.cells import Cells, Reach
from powersample.analysis.clock import ClockEvent, asleep, clock_events
from powersample.analysis.integrals import CounterDifference, PowerIntegral, Reads
from powersample.analysis.interval import NORMAL_95, Reconstruction, counter_reconstructions, limit, reconstructions
from powersample.analysis.meter import is_meter, meter_energies
from powersample.analysis.polls import Polls
from powersample.analysis.published import Updates
from powersample.analysis.sweep import Pass, edges, sweep
from powersample.analysis.told import Coverage, Told, best_verdicts, briefs, gap, guessed, plain, rated, short
from powersample.analysis.turns import Turns
from powersample.analysis.updates import SURE_OF_ONE, Pace, averages, pace
from powersample.errors import InvalidArgument
from powersample.model import (
    BudgetTerm,
    Channel,
    ClockFit,
    Energy,
    Kind,
    Response,
    SensorModel,
    Trace,
    Window,
    duration,
)
from powersample.sensors import model_of

METHOD = "counter difference"
FAST_COUNTER = 0.7  # changes per poll from which a counter is taken to move at every poll
REACH_PERIODS = 1.5
FASTEST_NS = 15_000_000  # no averaging sensor is known to publish faster: arXiv 2312.02741, Kepler


def channel_energy(trace: Trace, name: str, window: Window) -> Energy:
    """Return the energy that one channel tells for one window.

    Args:
        trace: the recording.
        name: a POWER or ENERGY channel.
        window: the span.

    Returns:
        The energy; `joules` is None, with reasons, when less than half of the window is covered.

    Raises:
        InvalidArgument: the channel is of another kind.
        DeviceNotFound: there is no such channel.
    """
    return rated(channel_energies(trace, name, [window])[0], window)


def channel_energies(trace: Trace, name: str, windows: Sequence[Window]) -> list[Told]:
    """Return the same for many windows, in one pass over the channel."""
    channel = trace.channel(name)
    if channel.kind is Kind.AUX:
        raise InvalidArgument(f"{name} is in {channel.unit}: only power and energy channels have joules")
    long = [window for window in windows if window.end_ns > window.start_ns]
    told = iter(meter_energies(trace, name, long) if is_meter(trace, channel) else _swept(trace, channel, long))
    events, fit = clock_events(trace.anchors), trace.clock_fit(name)
    if fit is not None and fit.accepted and fit.own_clock:
        told = map(partial(_placed, fit.placed()), told, long)
    return [
        _awake(_marked(next(told), window), window, events)
        if window.end_ns > window.start_ns
        else _empty(channel, window)
        for window in windows
    ]


def _swept(trace: Trace, channel: Channel, windows: Sequence[Window]) -> list[Told]:
    """Return what polls of a sensor tell of every window, which has a length."""
    seen = pace(trace, channel.name)
    model = model_of(trace, channel)
    make: Callable[[Sequence[Window]], Pass[Told]]
    if channel.kind is Kind.ENERGY:
        make = partial(_Counter, channel, model, seen)
    elif model is not None and model.response in METHODS:
        make = partial(Averaging, channel, model, seen)
    else:
        make = partial(_Power, channel, model, seen)
    return sweep(trace, channel.name, windows, make)


def _placed(fit: ClockFit, told: Told, window: Window) -> Told:
    """Return the same with what readings of another clock may be misplaced by; a meter's energy has that already."""
    unsure, joules = told.reconstruction, told.energy.joules
    if unsure is None or joules is None:
        return told
    across_w = told.most_w - told.least_w
    at_most_w = across_w if math.isfinite(across_w) else joules / window.duration_s
    off_j = NORMAL_95 * max(fit.error_s(window.start_ns), fit.error_s(window.end_ns)) * at_most_w
    return _wider(told, unsure, "clock fit", off_j)


def _marked(told: Told, window: Window) -> Told:
    """Return the same with what the accelerator's marks may be misplaced by: that long at the power of the edge.

    That is at most the most power around the window; where that is not told, its mean is taken for it.
    """
    unsure, joules = told.reconstruction, told.energy.joules
    if unsure is None or joules is None or not any(window.edge_errors_ns):
        return told
    edge_w = told.most_w if math.isfinite(told.most_w) else joules / window.duration_s
    return _wider(told, unsure, "event marks", NORMAL_95 * math.hypot(*window.edge_errors_ns) / 1e9 * abs(edge_w))


def _wider(told: Told, unsure: Reconstruction, term: str, off_j: float) -> Told:
    more = Reconstruction(
        math.hypot(unsure.half_j, off_j),
        math.hypot(unsure.unaliased_j, off_j),
        (*unsure.terms, BudgetTerm(term, "standard", off_j)),
    )
    return told._replace(reconstruction=more)


def _awake(told: Told, window: Window, events: Sequence[ClockEvent]) -> Told:
    """Return the same with the reason, and the worst verdict, where the machine slept."""
    reason = asleep(events, window)
    if reason is None:
        return told
    energy = told.energy.but(reasons=(*told.energy.reasons, reason), verdict="unusable")
    return told._replace(energy=energy, cap="unusable")


class _Power:
    """A power channel's pass."""

    def __init__(self, channel: Channel, model: SensorModel | None, seen: Pace, windows: Sequence[Window]) -> None:
        self._channel, self._model, self._windows, self._seen = channel, model, windows, seen
        self._shift_ns = round(seen.period_ns) if averages(channel) and seen.period_ns is not None else 0
        # A gap between polls that is shorter than the sensor's period hides no update, and so no energy.
        fastest_ns = FASTEST_NS if averages(channel) and seen.period_ns is None else 0
        hides_ns = max(seen.gap_ns, SURE_OF_ONE * self._shift_ns, fastest_ns)
        self._integral = PowerIntegral(edges(windows, self._shift_ns), hides_ns)
        self._cells: Cells | None = None
        if model is not None and model.response is Response.POINT and seen.poll_ns:
            reach = Reach(edge_ns=round(1.5 * seen.poll_ns), near_ns=NEAR_NS, wide_ns=WIDE_NS)
            self._cells = Cells(edges(windows), spacing_ns=seen.poll_ns, window_ns=0.0, reach=reach)
        self._reads = Reads(edges(windows), channel.sensor)

    def add(self, piece: Polls) -> None:
        self._reads.add(piece)
        self._integral.add(piece.t_ns, piece.raw, piece.omitted)
        if self._cells is not None:
            self._cells.add(Updates(piece.t_ns, piece.raw.astype(np.float64)))

    def lacks(self) -> NDArray[np.bool_]:
        return self._integral.lacks()

    def results(self) -> list[Told]:
        seen, scale, reads = self._seen, self._channel.scale, self._reads
        slack_ns = seen.gap_ns if seen.poll_ns else 0.0
        total, uncovered_ns, hidden_ns, gaps = self._integral.close(slack_ns, slack_ns + self._shift_ns)
        coverage = Coverage(self._channel, self._windows, reads, uncovered_ns, hidden_ns)
        least, most = self._integral.extremes()
        period_s = (seen.period_ns or seen.poll_ns or 0.0) / 1e9
        unsure, most_w = self._unsure()
        brief, new = briefs(reads.lengths_ns(), seen.period_ns), duration((seen.period_ns or 0.0) / 1e9)
        columns = (
            (total * scale / 1e9).tolist(),
            hidden_ns.tolist(),
            gaps.tolist(),
            (least * scale).tolist(),
            (most * scale).tolist(),
            (most_w * uncovered_ns / 1e9).tolist(),
            best_verdicts(reads.lengths_ns(), hidden_ns, 0.0),
        )
        found = []
        for i, (window, joules, hidden, count, least_w, greatest_w, missing_j, cap) in enumerate(
            zip(self._windows, *columns, strict=True)
        ):
            method, reasons = self._method(i)
            reasons += reads.reasons(i)
            if count:
                reasons.append(gap(count, hidden, window, "bridged by a line"))
            if brief[i]:
                reasons.append(short(window, new))
            energy = coverage.energy(i, joules, method, reasons)
            told = bool(unsure) and reads.good(i) >= limit("least_samples")
            if unsure and not told:
                energy = guessed(energy)
            found.append(
                Told(
                    energy,
                    Kind.POWER,
                    period_s,
                    False,
                    least_w,
                    greatest_w,
                    self._channel.divisor,
                    self._model if told else None,
                    unsure[i] if told else None,
                    missing_j,
                    cap,
                )
            )
        return found

    def _unsure(self) -> tuple[list[Reconstruction], float]:
        """Return what the trapezoid may be off by in every window, and the most power seen; none where unknown."""
        if self._cells is None or self._model is None or not self._seen.poll_ns:
            return [], 0.0
        sums, spacing_s = self._cells.close(self._seen.gap_ns), self._seen.poll_ns / 1e9
        found = reconstructions(
            self._model,
            sums,
            scale=self._channel.scale,
            duration_s=self._reads.lengths_ns() / 1e9,
            period_s=spacing_s,
            spacing_s=spacing_s,
            quantum_w=0.0,
        )
        return found, max(0.0, float(sums.wide_most.max(initial=0.0))) * self._channel.scale

    def _method(self, window: int) -> tuple[str, list[str]]:
        if not averages(self._channel):
            return "trapezoid", []
        if self._seen.period_ns is not None:
            return "updates held backwards", []
        if self._reads.good(window) == 0:
            return "updates held backwards", []
        if self._reads.within("changes", window) == 0:
            why = "PSQ-CONSTANT the value never changed: repeats and a stuck sensor look the same"
            return "updates held backwards", [why]
        return "trapezoid", ["PSQ-UNRESOLVED polls too slow or changes too few to tell the sensor's period"]


def counter_pace(seen: Pace) -> tuple[bool, float, float]:
    """Return whether a counter moves at every poll, its period in ns (0 when unknown), and the spacing of a gap."""
    every_poll = seen.change_share > FAST_COUNTER
    period_ns = (seen.poll_ns if every_poll else (seen.period_ns or seen.change_ns)) or 0.0
    return every_poll, period_ns, max(seen.gap_ns, SURE_OF_ONE * period_ns)


def counter_difference(channel: Channel, seen: Pace, edges: Edges) -> CounterDifference:
    """Return the sums that tell what a counter gained between edges."""
    every_poll, period_ns, gap_ns = counter_pace(seen)
    return CounterDifference(
        edges, every_poll=every_poll, period_ns=period_ns or float("inf"), gap_ns=gap_ns, modulus=channel.modulus
    )


class _Counter:
    """A counter's pass."""

    def __init__(self, channel: Channel, model: SensorModel | None, seen: Pace, windows: Sequence[Window]) -> None:
        self._channel, self._model, self._seen, self._windows = channel, model, seen, windows
        self._every_poll, self._period_ns, gap_ns = counter_pace(seen)
        self._difference = counter_difference(channel, seen, edges(windows))
        self._turns = None if channel.modulus is None else Turns(edges(windows), gap_ns, channel.modulus)
        self._reads = Reads(edges(windows), channel.sensor)

    def add(self, piece: Polls) -> None:
        self._reads.add(piece)
        self._difference.add(piece.t_ns, piece.raw, piece.omitted)
        if self._turns is not None:
            self._turns.add(piece.t_ns, piece.raw, piece.omitted)

    def lacks(self) -> NDArray[np.bool_]:
        return self._difference.lacks()

    def results(self) -> list[Told]:
        gained, uncovered_ns = self._difference.close(REACH_PERIODS * self._period_ns)
        hidden_ns = self._difference.hidden_ns()
        coverage = Coverage(self._channel, self._windows, self._reads, uncovered_ns, hidden_ns)
        wraps = [[] for _ in self._windows] if self._turns is None else self._turns.reasons()
        new = duration(self._period_ns / 1e9)
        edge = (f"PSQ-EDGE either edge may be off by one update ({new})",) if self._every_poll else ()
        brief = briefs(self._reads.lengths_ns(), self._period_ns)
        columns = (
            (gained * self._channel.scale).tolist(),
            self._difference.resets().tolist(),
            hidden_ns.tolist(),
            (self._difference.rates.most_w(self._channel.scale) * uncovered_ns / 1e9).tolist(),
            self._unsure(),
            best_verdicts(self._reads.lengths_ns(), 0.0, self._period_ns),
        )
        found = []
        for i, (window, joules, resets, hidden, missing_j, unsure, cap) in enumerate(
            zip(self._windows, *columns, strict=True)
        ):
            if math.isnan(joules):
                energy = plain(self._channel, window, None, METHOD, self._why_none(i))
            else:
                reasons = self._reasons(i, window, resets, hidden)
                if brief[i]:
                    reasons.append(short(window, new))
                more = () if coverage.too_little[i] else (*wraps[i], *edge)
                energy = coverage.energy(i, joules, METHOD, reasons, more)
            found.append(
                Told(
                    energy,
                    Kind.ENERGY,
                    self._period_ns / 1e9,
                    self._every_poll,
                    model=self._model,
                    reconstruction=unsure,
                    missing_j=missing_j,
                    cap="unusable" if resets or wraps[i] else cap,
                )
            )
        return found

    def _unsure(self) -> Sequence[Reconstruction | None]:
        """Return what the counter's steps may be off by in every window; None where nothing is known of the sensor."""
        if self._model is None:
            return [None] * len(self._windows)
        poll_ns, rates = self._seen.poll_ns or 0.0, self._difference.rates
        bracket_ns = poll_ns if self._every_poll else min(poll_ns, self._period_ns)
        edge_j = rates.uncertainty_j(self._channel.scale, bracket_ns)
        # An edge with no point behind it (a window to the record's end): a whole step of the counter may be missing.
        edge_j = np.where(np.isfinite(edge_j), edge_j, rates.most_w(self._channel.scale) * self._model.period_s)
        seconds = self._reads.lengths_ns() / 1e9
        return counter_reconstructions(self._model, edge_j, seconds, resolved=not self._every_poll)

    def _why_none(self, i: int) -> list[str]:
        """Return why a window's gain cannot be told."""
        reasons, good = self._reads.reasons(i), self._reads.good(i)
        if self._reads.within("reads", i) == 0:
            reasons.append("PSQ-UNCOVERED the window holds no reading of the counter")
        elif good and self._reads.within("changes", i) == 0:
            reasons.append(f"PSQ-STUCK the counter did not move in {good} reads")
        elif good:
            reasons.append("PSQ-UNCOVERED the counter moved too seldom around the window to tell")
        return reasons

    def _reasons(self, i: int, window: Window, resets: int, hidden_ns: float) -> list[str]:
        reasons = self._reads.reasons(i)
        if resets:
            reasons.append(f"PSQ-RESET the counter went back {resets} times; what the steps hid is not counted")
        if hidden_ns:
            count = 1 if self._reads.within("reads", i) == 0 else None
            reasons.append(gap(count, hidden_ns, window, "at its edges; shared out by a line"))
        return reasons


def _empty(channel: Channel, window: Window) -> Told:
    return Told(plain(channel, window, None, "none", ["PSQ-EMPTY the window has no length"]), channel.kind)
