# SPDX-License-Identifier: Apache-2.0
"""Energies of one channel over windows.

Counters: the difference along a line through their change points. Averaging power sensors: a value that appears at t
describes the period before t, so published values are held backwards, which is the integral of what polls see, one
period later. Point samples: the trapezoid. Intervals are not rated yet: `low_j` and `high_j` are None, the verdict
"unrated".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.integrals import CounterDifference, PowerIntegral, Reads
from powersample.analysis.polls import Polls
from powersample.analysis.sweep import edges, sweep
from powersample.analysis.turns import Turns
from powersample.analysis.updates import SURE_OF_ONE, Pace, averages, pace
from powersample.errors import InvalidArgument
from powersample.model import Channel, Energy, Kind, Trace, Window
from powersample.model.energy import OPEN

LEAST_COVERED = 0.5
FAST_COUNTER = 0.7  # changes per poll from which a counter is taken to move at every poll
REACH_PERIODS = 1.5
SHORT_PERIODS = 3.0
FASTEST_NS = 15_000_000  # no averaging sensor is known to publish faster: arXiv 2312.02741, Kepler


@dataclass(frozen=True, slots=True)
class Told:
    """What one channel tells of one window, with what it takes to compare it with another's.

    Attributes:
        energy: the energy.
        kind: of the channel.
        period_s: spacing of what it publishes, or of the polls where that is not known.
        every_poll: a counter that moves at every poll: when it was published is not seen.
        least_w: least power around the window; NaN for counters.
        most_w: most power around it.
        divisor: how much more seldom it is read than its lane goes round.
    """

    energy: Energy
    kind: Kind
    period_s: float = 0.0
    every_poll: bool = False
    least_w: float = math.nan
    most_w: float = math.nan
    divisor: int = 1


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
    return channel_energies(trace, name, [window])[0].energy


def channel_energies(trace: Trace, name: str, windows: Sequence[Window]) -> list[Told]:
    """Return the same for many windows, in one pass over the channel."""
    channel = trace.channel(name)
    if channel.kind is Kind.AUX:
        raise InvalidArgument(f"{name} is in {channel.unit}: only power and energy channels have joules")
    seen = pace(trace, name)
    make = _Counter if channel.kind is Kind.ENERGY else _Power
    long = [window for window in windows if window.end_ns > window.start_ns]
    told = iter(sweep(trace, name, long, partial(make, channel, seen)))
    return [next(told) if window.end_ns > window.start_ns else _empty(channel, window) for window in windows]


class _Power:
    """A power channel's pass."""

    def __init__(self, channel: Channel, seen: Pace, windows: Sequence[Window]) -> None:
        self._channel, self._windows, self._seen = channel, windows, seen
        self._shift_ns = round(seen.period_ns) if averages(channel) and seen.period_ns is not None else 0
        # A gap between polls that is shorter than the sensor's period hides no update, and so no energy.
        fastest_ns = FASTEST_NS if averages(channel) and seen.period_ns is None else 0
        hides_ns = max(seen.gap_ns, SURE_OF_ONE * self._shift_ns, fastest_ns)
        self._integral = PowerIntegral(edges(windows, self._shift_ns), hides_ns)
        self._reads = Reads(edges(windows))

    def add(self, piece: Polls) -> None:
        self._reads.add(piece)
        self._integral.add(piece.t_ns, piece.raw, piece.omitted)

    def lacks(self) -> NDArray[np.bool_]:
        return self._integral.lacks()

    def results(self) -> list[Told]:
        seen, scale = self._seen, self._channel.scale
        slack_ns = seen.gap_ns if seen.poll_ns else 0.0
        total, uncovered_ns, hidden_ns, gaps = self._integral.close(slack_ns, slack_ns + self._shift_ns)
        least, most = self._integral.extremes()
        period_s = (seen.period_ns or seen.poll_ns or 0.0) / 1e9
        found = []
        for i, window in enumerate(self._windows):
            method, reasons = self._method(i)
            reasons += self._reads.reasons(i)
            if gaps[i]:
                reasons.append(_gap(int(gaps[i]), float(hidden_ns[i]), window, "bridged by a line"))
            reasons += _short(window, seen.period_ns)
            result = _energy(self._channel, window, float(total[i]) * scale / 1e9, method, reasons)
            result = _covered(result, window, float(uncovered_ns[i]), float(hidden_ns[i]), self._reads, i)
            range_w = (float(least[i]) * scale, float(most[i]) * scale)
            found.append(Told(result, Kind.POWER, period_s, False, *range_w, self._channel.divisor))
        return found

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


class _Counter:
    """A counter's pass."""

    def __init__(self, channel: Channel, seen: Pace, windows: Sequence[Window]) -> None:
        self._channel, self._windows = channel, windows
        self._every_poll = seen.change_share > FAST_COUNTER
        self._period_ns = (seen.poll_ns if self._every_poll else (seen.period_ns or seen.change_ns)) or 0.0
        gap_ns = max(seen.gap_ns, SURE_OF_ONE * self._period_ns)
        self._difference = CounterDifference(
            edges(windows),
            every_poll=self._every_poll,
            period_ns=self._period_ns or float("inf"),
            gap_ns=gap_ns,
            modulus=channel.modulus,
        )
        self._turns = None if channel.modulus is None else Turns(edges(windows), gap_ns, channel.modulus)
        self._reads = Reads(edges(windows))

    def add(self, piece: Polls) -> None:
        self._reads.add(piece)
        self._difference.add(piece.t_ns, piece.raw, piece.omitted)
        if self._turns is not None:
            self._turns.add(piece.t_ns, piece.raw, piece.omitted)

    def lacks(self) -> NDArray[np.bool_]:
        return self._difference.lacks()

    def results(self) -> list[Told]:
        gained, uncovered_ns = self._difference.close(REACH_PERIODS * self._period_ns)
        hidden_ns, resets = self._difference.hidden_ns(), self._difference.resets()
        wraps = [] if self._turns is None else self._turns.reasons()
        found = []
        for i, window in enumerate(self._windows):
            result = self._one(window, i, float(gained[i]), int(resets[i]), float(hidden_ns[i]))
            if result.joules is not None:
                result = _covered(result, window, float(uncovered_ns[i]), float(hidden_ns[i]), self._reads, i)
            if result.joules is not None and wraps:
                result = replace(result, reasons=(*result.reasons, *wraps[i]))
            if result.joules is not None and self._every_poll:
                edge = f"PSQ-EDGE either edge may be off by one update ({self._period_ns / 1e9:.3g} s)"
                result = replace(result, reasons=(*result.reasons, edge))
            found.append(Told(result, Kind.ENERGY, self._period_ns / 1e9, self._every_poll))
        return found

    def _one(self, window: Window, i: int, gained: float, resets: int, hidden_ns: float) -> Energy:
        reasons = self._reads.reasons(i)
        reads, good = self._reads.within("reads", i), self._reads.good(i)
        if math.isnan(gained):
            if reads == 0:
                reasons.append("PSQ-UNCOVERED the window holds no reading of the counter")
            elif good and self._reads.within("changes", i) == 0:
                reasons.append(f"PSQ-STUCK the counter did not move in {good} reads")
            elif good:
                reasons.append("PSQ-UNCOVERED the counter moved too seldom around the window to tell")
            return _energy(self._channel, window, None, "counter difference", reasons)
        if resets:
            reasons.append(f"PSQ-RESET the counter went back {resets} times; what the steps hid is not counted")
        if hidden_ns:
            reasons.append(_gap(1 if reads == 0 else None, hidden_ns, window, "at its edges; shared out by a line"))
        reasons += _short(window, self._period_ns)
        return _energy(self._channel, window, gained * self._channel.scale, "counter difference", reasons)


def _short(window: Window, period_ns: float | None) -> list[str]:
    """Say when a window holds so few updates that its energy is mostly that of its neighbourhood."""
    if not period_ns or window.end_ns - window.start_ns >= SHORT_PERIODS * period_ns:
        return []
    return [f"PSQ-SHORT {window.duration_s:.3g} s, and the sensor tells something new each {period_ns / 1e9:.3g} s"]


def _gap(count: int | None, hidden_ns: float, window: Window, what: str) -> str:
    gaps = "gaps between polls hide" if count is None else f"{count} gaps between polls hide"
    return f"PSQ-GAP {gaps} {hidden_ns / 1e9:.3g} s of {window.duration_s:.4g} s; {what}"


def _covered(
    result: Energy, window: Window, uncovered_ns: float, bridged_ns: float, reads: Reads, index: int
) -> Energy:
    """Judge what is missing: what is uncovered at the edges is not in the joules, gaps within are bridged."""
    length_ns = window.end_ns - window.start_ns
    missing_ns = uncovered_ns + bridged_ns
    joules, reasons = result.joules, list(result.reasons)
    too_little = missing_ns > (1 - LEAST_COVERED) * length_ns
    all_failed = reads.within("reads", index) > 0 and reads.good(index) == 0
    if uncovered_ns > 0 and not all_failed:
        left_out = f"PSQ-UNCOVERED {uncovered_ns / 1e9:.4g} s of {length_ns / 1e9:.4g} s are outside the record"
        reasons.append(left_out if too_little else f"{left_out}; only the rest is counted")
    return replace(
        result,
        joules=None if too_little else joules,
        reasons=tuple(reasons),
        updates=reads.within("changes", index),
        covered_s=max(0.0, length_ns - missing_ns) / 1e9,
    )


def _empty(channel: Channel, window: Window) -> Told:
    return Told(_energy(channel, window, None, "none", ["PSQ-EMPTY the window has no length"]), channel.kind)


def _energy(channel: Channel, window: Window, joules: float | None, method: str, reasons: list[str]) -> Energy:
    if OPEN in window.flags:
        reasons = [*reasons, "PSQ-OPEN the window was never ended; it stands to the record's end"]
    return Energy(
        joules=joules,
        low_j=None,
        high_j=None,
        method=method,
        budget=(),
        verdict="unrated",
        reasons=tuple(reasons),
        channel=channel.name,
        device=channel.device,
        domain=channel.domain,
        window=window.name,
    )
