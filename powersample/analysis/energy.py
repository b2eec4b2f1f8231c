# SPDX-License-Identifier: Apache-2.0
"""Energy of one channel over one window, and the truth beside it.

Counters: the difference along a line through their change points. Averaging power sensors: a value that appears at t
describes the period before t, so published values are held backwards, which is the integral of what polls see, one
period later. Point samples: the trapezoid. Intervals are not rated yet: `low_j` and `high_j` are None, the verdict
"unrated".
"""

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.integrals import CounterDifference, PowerIntegral
from powersample.analysis.updates import Pace, averages, pace
from powersample.errors import InvalidArgument
from powersample.model import TRUTH_PREFIX, Channel, Energy, Kind, Series, Trace, Window
from powersample.model.energy import OPEN

CONTEXT_NS = 30_000_000_000  # read around a window: updates that reach into it lie outside
LEAST_COVERED = 0.5
FAST_COUNTER = 0.7  # changes per poll from which a counter is taken to move at every poll
REACH_PERIODS = 1.5
SURE_OF_ONE = 1.05  # periods in which at least one update must have been published


class _Tally:
    """Counts what lies inside (start, end]."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.polls = 0
        self.changes = 0
        self.errors: Counter[int] = Counter()
        self._last: object = None

    def add(self, chunk: Series, good: NDArray[np.bool_]) -> None:
        t_ns = chunk.t_ns
        first = int(np.searchsorted(t_ns, self._window.start_ns, "right"))
        last = int(np.searchsorted(t_ns, self._window.end_ns, "right"))
        failed = chunk.status[first:last][~good[first:last]]
        if len(failed):
            self.errors.update(
                {int(code): int(n) for code, n in zip(*np.unique(failed, return_counts=True), strict=True)}
            )
        self.polls += last - first
        raw = chunk.raw[first:last][good[first:last]]
        if len(raw):
            before = chunk.raw[:first][good[:first]]
            previous = before[-1] if len(before) else self._last
            self.changes += int(np.count_nonzero(np.diff(raw))) + int(previous is not None and previous != raw[0])
        values = chunk.raw[good]
        if len(values):
            self._last = values[-1]

    def reasons(self) -> list[str]:
        if not self.errors:
            return []
        codes = ", ".join(f"code {code}: {count}" for code, count in sorted(self.errors.items()))
        return [f"PSQ-ERRORS {self.errors.total()} of {self.polls} reads failed ({codes})"]


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
    channel = trace.channel(name)
    if channel.kind is Kind.AUX:
        raise InvalidArgument(f"{name} is in {channel.unit}: only power and energy channels have joules")
    if window.end_ns <= window.start_ns:
        return _energy(channel, window, None, "none", ["PSQ-EMPTY the window has no length"])
    seen = pace(trace, name, window.start_ns - CONTEXT_NS, window.end_ns + CONTEXT_NS)
    if seen.polls == 0:
        return _energy(channel, window, None, "none", ["PSQ-UNCOVERED no reading within 30 s of the window"])
    result = (
        _counter(trace, channel, window, seen) if channel.kind is Kind.ENERGY else _power(trace, channel, window, seen)
    )
    if OPEN in window.flags:
        reason = "PSQ-OPEN the window was never ended; it stands to the record's end"
        result = replace(result, reasons=(*result.reasons, reason))
    return result


def _power(trace: Trace, channel: Channel, window: Window, seen: Pace) -> Energy:
    reasons: list[str] = []
    shift_ns, method = 0, "trapezoid"
    if averages(channel):
        if seen.period_ns is not None:
            shift_ns, method = round(seen.period_ns), "updates held backwards"
        elif seen.changes == 0:
            method = "updates held backwards"
            reasons.append("PSQ-CONSTANT the value never changed: repeats and a stuck sensor look the same")
        else:
            reasons.append("PSQ-UNRESOLVED polls too slow or changes too few to tell the sensor's period")
    # A gap between polls that is shorter than the sensor's period hides no update, and so no energy.
    hides_ns = max(seen.gap_ns, SURE_OF_ONE * shift_ns)
    integral = PowerIntegral(window.start_ns + shift_ns, window.end_ns + shift_ns, hides_ns)
    tally = _Tally(window)
    for chunk in trace.chunks(channel.name, window.start_ns - CONTEXT_NS, window.end_ns + CONTEXT_NS):
        good = chunk.good
        tally.add(chunk, good)
        integral.add(chunk.t_ns[good], chunk.raw[good])
    slack_ns = seen.gap_ns if seen.poll_ns else 0.0
    uncovered_ns = integral.close(slack_ns, slack_ns + shift_ns)
    reasons += tally.reasons()
    if integral.gaps:
        reasons.append(
            f"PSQ-GAP {integral.gaps} gaps between polls hide {integral.bridged_ns / 1e9:.3g} s "
            f"of {window.duration_s:.4g} s; bridged by a line"
        )
    joules = integral.total * channel.scale / 1e9
    return _covered(
        _energy(channel, window, joules, method, reasons),
        window,
        uncovered_ns=uncovered_ns,
        bridged_ns=integral.bridged_ns,
        updates=tally.changes,
    )


def _counter(trace: Trace, channel: Channel, window: Window, seen: Pace) -> Energy:
    every_poll = seen.change_share > FAST_COUNTER
    period_ns = seen.poll_ns if every_poll else (seen.period_ns or seen.change_ns)
    difference = CounterDifference(
        window.start_ns, window.end_ns, every_poll, period_ns or float("inf"), channel.modulus
    )
    tally = _Tally(window)
    for chunk in trace.chunks(channel.name, window.start_ns - CONTEXT_NS, window.end_ns + CONTEXT_NS):
        good = chunk.good
        tally.add(chunk, good)
        difference.add(chunk.t_ns[good], chunk.raw[good])
    reach_ns = REACH_PERIODS * (period_ns or 0.0)
    gained, uncovered_ns = difference.close(reach_ns)
    reasons = tally.reasons()
    method = "counter difference"
    if gained is None:
        if seen.changes == 0:
            reasons.append(f"PSQ-STUCK the counter did not move in {seen.polls} reads")
        else:
            reasons.append("PSQ-UNCOVERED the counter moved too seldom around the window to tell")
        return _energy(channel, window, None, method, reasons)
    if difference.resets:
        reasons.append(f"PSQ-RESET the counter went back {difference.resets} times; what the steps hid is not counted")
    result = _energy(channel, window, gained * channel.scale, method, reasons)
    return _covered(result, window, uncovered_ns=uncovered_ns, bridged_ns=0.0, updates=difference.changes)


def _covered(result: Energy, window: Window, *, uncovered_ns: float, bridged_ns: float, updates: int) -> Energy:
    """Judge what is missing: what is uncovered at the edges is not in the joules, gaps within are bridged."""
    length_ns = window.end_ns - window.start_ns
    missing_ns = uncovered_ns + bridged_ns
    joules, reasons = result.joules, list(result.reasons)
    too_little = missing_ns > (1 - LEAST_COVERED) * length_ns
    if uncovered_ns > 0:
        left_out = f"PSQ-UNCOVERED {uncovered_ns / 1e9:.4g} s of {length_ns / 1e9:.4g} s are outside the record"
        reasons.append(left_out if too_little else f"{left_out}; only the rest is counted")
    return replace(
        result,
        joules=None if too_little else joules,
        reasons=tuple(reasons),
        updates=updates,
        covered_s=max(0.0, length_ns - missing_ns) / 1e9,
    )


def _energy(channel: Channel, window: Window, joules: float | None, method: str, reasons: list[str]) -> Energy:
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


def truth_joules(trace: Trace, device: str, domain: str, window: Window) -> float | None:
    """Return the simulated node's exact energy over a window; None without a truth that covers it.

    The truth's records lie wherever the power changes, so a line between two of them is exact.
    """
    names = [
        name
        for name, channel in trace.channels.items()
        if name.startswith(TRUTH_PREFIX) and channel.device == device and channel.domain == domain
    ]
    for name in names:
        for reach_ns in (CONTEXT_NS, None):  # an idle hour has no record: then look at all of it
            start_ns = None if reach_ns is None else window.start_ns - reach_ns
            end_ns = None if reach_ns is None else window.end_ns + reach_ns
            difference = CounterDifference(window.start_ns, window.end_ns, True, float("inf"))
            for chunk in trace.chunks(name, start_ns, end_ns):
                difference.add(chunk.t_ns, chunk.raw)
            if difference.at_start is not None and difference.at_end is not None:
                return (difference.at_end - difference.at_start) * trace.channel(name).scale
    return None
