# SPDX-License-Identifier: Apache-2.0
"""Spans in which a channel must have published something and nobody read it, and the energy that they could hide.

Nothing is filled in: these spans are what intervals make room for and verdicts are capped by.

    power    (greatest - least value within a second of the hole) x its length; before the first and after the last
             poll, where nothing is counted at all, the greatest value x the time
    meter    of cycles: (greatest - least value of the record) x (its length less the cycle that its end was read for):
             alike ends of seconds say nothing of what lay between. A cycle that came late, and none lost, is no hole
    counter  nothing while both ends of a hole are inside the window, for the counter goes on counting; all that it
             gained across the hole where an edge of the window lies in it
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.averaging import update_period_ns
from powersample.analysis.clock import clock_events
from powersample.analysis.energy import channel_energies
from powersample.analysis.gaps import LISTED, STILL_NS, Gaps, Hole, Still, joined
from powersample.analysis.integrals import Reads
from powersample.analysis.interval import NORMAL_95, limit
from powersample.analysis.meter import gaps_of, info_of, is_meter
from powersample.analysis.polls import NONE_NS, polls
from powersample.analysis.sweep import CONTEXT_NS, edges
from powersample.analysis.turns import Turns
from powersample.analysis.updates import RESOLVED_POLLS, SURE_OF_ONE, Pace, pace
from powersample.model import TRUTH_PREFIX, Channel, Kind, Response, SensorModel, Trace, Window
from powersample.sensors import model_of

NEAR_NS = 1_000_000_000
COUNT_SLACK = 1e-3  # of an update, which whole numbers of periods may lack
STUCK_SPACINGS = 20
TURN_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Dropout:
    """A span in which at least one update must have been published and none was read.

    Attributes:
        start_ns: the last that is known before it.
        end_ns: the first that is known after it.
        cause: of a hole between polls "errors", "dropped" (a full ring) or "skipped" (nobody asked); "late start" and
            "early end" of what was read; "stuck": a value that stood still though its device moved; "reset" and
            "wrap": a counter that started again, or may have; "suspend", "clock set" and "reboot" of the machine.
        updates_missed: published within; the read at its end may show the last of them, late. None where unknown.
        energy_j: the most that it could hide, as far as the values around it tell; None where they do not.
        code: of the first read that failed in it, where it was errors.
    """

    start_ns: int
    end_ns: int
    cause: str
    updates_missed: int | None
    energy_j: float | None
    code: int | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Lost:
    """A dropout as the whole record knows it, before a window cuts it.

    Attributes:
        whole: the dropout.
        cut_j: what it could hide of a window whose edge it holds; None for its share by time.
    """

    whole: Dropout
    cut_j: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Everything that was found missing of a channel.

    Attributes:
        period_s: spacing of its updates; None where it is not known.
        origin: how it is known: "changes" of value, the sensor "table", the "cycle" of a meter, or the spacing of its
            "polls".
        lost: the 1000 worst holes, and all else, in the order of time.
        reach_ns: how far those up to each one of them reach.
        total: how many there are.
        first_ns: first good poll; None without any.
        last_ns: last one.
        slack_ns: how far they may be off a window's edges.
        most_w: greatest power around; None for AUX channels.
    """

    period_s: float | None
    origin: str | None
    lost: tuple[Lost, ...]
    reach_ns: tuple[int, ...]
    total: int
    first_ns: int | None
    last_ns: int
    slack_ns: float
    most_w: float | None

    def within(self, window: Window) -> tuple[Dropout, ...]:
        """Return the dropouts that touch a window, cut to it, in the order of time."""
        start_ns, end_ns = window.start_ns, window.end_ns
        first = bisect_right(self.reach_ns, start_ns)  # thousands of windows ask, of up to thousands
        last = bisect_left(self.lost, end_ns, key=lambda one: one.whole.start_ns)
        found = [self._cut(one, window) for one in self.lost[first:last] if _touches(one.whole, window)]
        if not found and self.first_ns is not None and self.first_ns <= start_ns <= end_ns <= self.last_ns:
            return ()
        first_ns, last_ns = (end_ns, end_ns) if self.first_ns is None else (self.first_ns, self.last_ns)
        if min(first_ns, end_ns) - start_ns > (0.0 if first_ns >= end_ns else self.slack_ns):
            found.append(self._beyond(start_ns, min(first_ns, end_ns), "late start"))
        if end_ns - max(last_ns, start_ns) > (0.0 if last_ns <= start_ns else self.slack_ns):
            found.append(self._beyond(max(last_ns, start_ns), end_ns, "early end"))
        return tuple(sorted(found, key=lambda one: (one.start_ns, one.end_ns)))

    def expected(self, duration_s: float) -> int | None:
        """Return how many updates a span holds; None where their spacing is unknown."""
        return round(duration_s / self.period_s) if self.period_s else None

    def _beyond(self, start_ns: int, end_ns: int, cause: str) -> Dropout:
        energy_j = None if self.most_w is None else self.most_w * (end_ns - start_ns) / 1e9
        return Dropout(start_ns, end_ns, cause, _count(start_ns, end_ns, self.period_s), energy_j)

    def _cut(self, lost: Lost, window: Window) -> Dropout:
        whole = lost.whole
        start_ns, end_ns = max(whole.start_ns, window.start_ns), min(whole.end_ns, window.end_ns)
        if (start_ns, end_ns) == (whole.start_ns, whole.end_ns):
            return whole
        energy_j, missed = lost.cut_j, whole.updates_missed
        if energy_j is None and whole.energy_j is not None:
            energy_j = whole.energy_j * (end_ns - start_ns) / (whole.end_ns - whole.start_ns)
        if missed:
            missed = _count(start_ns, end_ns, self.period_s)
        return Dropout(start_ns, end_ns, whole.cause, missed, energy_j, whole.code)


def dropouts(trace: Trace, name: str, window: Window | None = None) -> tuple[Dropout, ...]:
    """Return a channel's dropouts.

    Args:
        trace: the recording.
        name: the channel.
        window: the span, whose uncovered ends count as dropouts; None takes the whole record.

    Returns:
        They, in the order of time; of holes between polls the 1000 worst.

    Raises:
        DeviceNotFound: there is no such channel.
    """
    seen, extent = pace(trace, name), trace.extent(name)
    if window is None:
        if trace.start_ns is None or trace.end_ns is None:
            return ()
        window = Window("run", trace.start_ns, trace.end_ns)
    for reach_ns in (CONTEXT_NS, None):
        reach = (None, None) if reach_ns is None else (window.start_ns - reach_ns, window.end_ns + reach_ns)
        run = scan(trace, name, seen)
        for chunk, kept in joined(trace.chunks(name, *reach)):
            run.add(chunk, kept)
        run.close()
        # A hole longer than what was read around the window has its ends further out.
        before = extent is not None and (run.first_ns is None or run.first_ns > window.start_ns)
        after = extent is not None and (run.first_ns is None or run.last_ns < window.end_ns)
        if reach_ns is None or extent is None:
            break
        if not (before and extent.first_ns < window.start_ns - reach_ns) and not (
            after and extent.last_ns > window.end_ns + reach_ns
        ):
            break
    return missing(trace, name, seen, run).within(window)


def scan(trace: Trace, name: str, seen: Pace) -> Gaps:
    """Return the pass that finds what a channel misses, not yet run."""
    channel = trace.channel(name)
    period_ns, _ = _period_ns(channel, model_of(trace, channel), seen)
    hides_ns = seen.gap_ns
    if period_ns is not None:
        plain = seen.followed_ns is None and period_ns >= RESOLVED_POLLS * (seen.poll_ns or 0.0)
        hides_ns = SURE_OF_ONE * period_ns if plain else max(seen.gap_ns, SURE_OF_ONE * period_ns)
    near_ns = max(NEAR_NS, round(5 * (period_ns or 0.0)))
    known = None
    if channel.span == "sample" and info_of(trace, name) is not None:  # cycles follow each other, a lost one is told
        known = np.array([gap[:2] for gap in gaps_of(trace, name)], np.int64).reshape(-1, 2)
    return Gaps(channel, seen, seq_step=_seq_step(trace, name), hides_ns=hides_ns, near_ns=near_ns, known=known)


def missing(trace: Trace, name: str, seen: Pace, run: Gaps) -> Missing:
    """Judge what a closed pass found."""
    channel = trace.channel(name)
    period_ns, origin = _period_ns(channel, model_of(trace, channel), seen)
    meter = info_of(trace, name) if is_meter(trace, channel) else None
    if meter is not None and math.isfinite(meter.cycle_s):  # of true lengths that alternate, arrivals tell another one
        period_ns, origin = meter.cycle_s * 1e9, "cycle"
    period_s = None if period_ns is None else period_ns / 1e9
    most_w = _most_w(channel, run)
    lost = [_hole(channel, hole, period_s) for hole in run.holes]
    if channel.span == "sample":
        lost = [_of_cycles(one, (run.most_raw - run.least_raw) * channel.scale, period_s) for one in lost]
    if channel.kind is Kind.ENERGY:
        if channel.modulus is not None and _may_wrap(channel, run):
            lost = _wrapped(trace, channel, seen.gap_ns, lost)
        if run.back:
            lost += _resets(trace, channel, most_w)
    lost += [Lost(one) for one in _stuck(trace, channel, run, seen, period_s, most_w)]
    lost += [Lost(one) for one in _clock(trace)]
    slack_ns = max(seen.gap_ns if seen.poll_ns else 0.0, SURE_OF_ONE * (period_ns or 0.0))
    lost.sort(key=lambda one: (one.whole.start_ns, one.whole.end_ns))
    return Missing(
        period_s=period_s,
        origin=origin,
        lost=tuple(lost),
        reach_ns=tuple(accumulate((one.whole.end_ns for one in lost), max)),
        total=len(lost) - len(run.holes) + run.holes_total,
        first_ns=run.first_ns,
        last_ns=run.last_ns,
        slack_ns=slack_ns,
        most_w=most_w,
    )


def _hole(channel: Channel, hole: Hole, period_s: float | None) -> Lost:
    gap, cut_j = hole.gap, None
    energy_j: float | None = None
    if channel.kind is Kind.POWER:
        energy_j = hole.range_raw * channel.scale * (gap.end_ns - gap.start_ns) / 1e9
    elif channel.kind is Kind.ENERGY:
        energy_j, cut_j = 0.0, max(0.0, hole.step_raw) * channel.scale
    missed = _count(gap.start_ns, gap.end_ns, period_s)
    return Lost(Dropout(gap.start_ns, gap.end_ns, gap.cause, missed, energy_j, gap.code), cut_j)


def _of_cycles(lost: Lost, range_w: float, cycle_s: float | None) -> Lost:
    """Return a hole of a meter's with what it hides, as its energy's interval has it: see `meter`."""
    hidden_s = max(0.0, lost.whole.duration_s - (cycle_s or 0.0))
    missed = None if lost.whole.updates_missed is None else max(0, lost.whole.updates_missed - 1)
    return replace(lost, whole=replace(lost.whole, energy_j=range_w * hidden_s, updates_missed=missed))


def _may_wrap(channel: Channel, run: Gaps) -> bool:
    """Whether a hole is worth a look: at the record's mean power it lasts a twentieth of a turn."""
    longest_ns = max((one.gap.end_ns - one.gap.start_ns for one in run.holes), default=0)
    return longest_ns * run.known_raw > TURN_LOOK * (channel.modulus or 0) * run.known_ns


def _wrapped(trace: Trace, channel: Channel, gap_ns: float, lost: list[Lost]) -> list[Lost]:
    """Return holes, with those longer than half a turn of the counter as what whole turns may have hidden in."""
    assert channel.modulus is not None
    holes = [Window(one.whole.cause, one.whole.start_ns, one.whole.end_ns) for one in lost]
    turns = Turns(edges(holes), gap_ns, channel.modulus)
    for piece in polls(trace.chunks(channel.name), counter=True):
        turns.add(piece.t_ns, piece.raw, piece.omitted)
    found = []
    for one, hole, turn_ns in zip(lost, holes, turns.turns_ns(), strict=True):
        length_ns = hole.end_ns - hole.start_ns
        if length_ns > turn_ns / 2:
            turn_j = channel.modulus * channel.scale
            hidden_j = turn_j * math.ceil(length_ns / turn_ns)
            whole = Dropout(hole.start_ns, hole.end_ns, "wrap", one.whole.updates_missed, hidden_j, one.whole.code)
            found.append(Lost(whole, hidden_j))
        else:
            found.append(one)
    return found


def _resets(trace: Trace, channel: Channel, most_w: float | None) -> list[Lost]:
    """Return where a counter began again: the step itself is not counted."""
    found: list[Lost] = []
    t_ns, raw = NONE_NS, np.empty(0, channel.raw_dtype)
    for piece in polls(trace.chunks(channel.name), counter=True):
        t_ns, raw = np.concatenate((t_ns[-1:], piece.t_ns)), np.concatenate((raw[-1:], piece.raw))
        step = np.diff(raw)
        for i in np.flatnonzero(step < 0):
            wrapped = -1 if channel.modulus is None else int(step[i]) + channel.modulus
            if wrapped < 0 or wrapped >= (channel.modulus or 0) // 2:
                start_ns, end_ns = int(t_ns[i]), int(t_ns[i + 1])
                energy_j = None if most_w is None else most_w * (end_ns - start_ns) / 1e9
                found.append(Lost(Dropout(start_ns, end_ns, "reset", None, energy_j), energy_j))
        if len(found) > LISTED:
            break
    return found


def still_and_stuck(trace: Trace, name: str, run: Gaps, seen: Pace) -> list[Still]:
    """Return the standstills of a channel that should have moved.

    A counter always moves. A power is stuck where another of the same device moved meanwhile, and where a counter of it
    gained what the constant power does not explain.
    """
    channel = trace.channel(name)
    quiet_ns = max(STILL_NS, STUCK_SPACINGS * (seen.period_ns or seen.change_ns or 0.0))
    stills = [one for one in run.stills() if one.end_ns - one.start_ns > quiet_ns]
    if channel.kind is Kind.ENERGY or not stills:
        return stills
    if channel.kind is Kind.AUX:
        return []
    siblings = [
        one
        for one in trace.channels.values()
        if (one.device, one.domain) == (channel.device, channel.domain)
        and one.name != name
        and not one.name.startswith(TRUTH_PREFIX)
    ]
    moved = np.zeros(len(stills), np.bool_)
    for other in siblings:
        if other.kind is Kind.POWER:
            moved |= _moved(trace, other, stills)
        elif other.kind is Kind.ENERGY:
            moved |= _gained(trace, channel, other, stills, (seen.period_ns or seen.poll_ns or 0.0) / 1e9)
    return [one for one, is_stuck in zip(stills, moved, strict=True) if is_stuck]


def _moved(trace: Trace, other: Channel, stills: Sequence[Still]) -> NDArray[np.bool_]:
    """Say during which standstills another power moved, once it had had the time to come to rest."""
    spans = [Window("", one.start_ns + STILL_NS, one.end_ns) for one in stills]
    reads = Reads(edges(spans))
    for piece in polls(trace.chunks(other.name, spans[0].start_ns, spans[-1].end_ns), counter=False):
        reads.add(piece)
    return np.array([reads.within("changes", i) > 0 for i in range(len(spans))])


def _gained(
    trace: Trace, channel: Channel, counter: Channel, stills: Sequence[Still], period_s: float
) -> NDArray[np.bool_]:
    """Say during which standstills a counter gained more, or less, than the constant power explains."""
    spans = [Window("", one.start_ns, one.end_ns) for one in stills]
    model = model_of(trace, channel)
    offset_w = 2 * NORMAL_95 * (model.offset_sd_w if model else 0.0)
    found = np.zeros(len(stills), np.bool_)
    for i, (one, told, span) in enumerate(
        zip(stills, channel_energies(trace, counter.name, spans), spans, strict=True)
    ):
        gained_j, constant_j = told.energy.joules, one.raw * channel.scale * span.duration_s
        if gained_j is None or told.energy.covered_s < span.duration_s:
            continue
        most_j = max(gained_j, constant_j)
        edges_j = 2 * (period_s + told.period_s) * most_j / span.duration_s
        found[i] = abs(gained_j - constant_j) > limit("explained") * most_j + edges_j + offset_w * span.duration_s
    return found


def _stuck(
    trace: Trace, channel: Channel, run: Gaps, seen: Pace, period_s: float | None, most_w: float | None
) -> Iterator[Dropout]:
    """Yield the spans of a stuck channel.

    What a counter did not count is the greatest power x the time, less the step with which it came back; what a power
    that stood still did not show is its distance from the range that was seen of it, x the time.
    """
    for one in still_and_stuck(trace, channel.name, run, seen):
        seconds, energy_j = (one.end_ns - one.start_ns) / 1e9, None
        if channel.kind is Kind.ENERGY and most_w:
            energy_j = max(0.0, most_w * seconds - max(0.0, one.step_raw) * channel.scale)
        elif channel.kind is Kind.POWER and run.most_raw > run.least_raw:
            energy_j = max(run.most_raw - one.raw, one.raw - run.least_raw) * channel.scale * seconds
        yield Dropout(one.start_ns, one.end_ns, "stuck", _count(one.start_ns, one.end_ns, period_s), energy_j)


def _clock(trace: Trace) -> Iterator[Dropout]:
    """Yield what the anchors tell: a machine asleep reads nothing, and CLOCK_MONOTONIC does not see the time."""
    for event in clock_events(trace.anchors):
        if event.kind == "step":  # stamps are CLOCK_MONOTONIC: nothing is lost, and other logs do not fit any more
            yield Dropout(event.start_ns, event.end_ns, "clock set", 0, 0.0)
        elif event.kind in ("suspend", "boot"):
            yield Dropout(event.start_ns, event.end_ns, "suspend" if event.kind == "suspend" else "reboot", None, None)


def _period_ns(channel: Channel, model: SensorModel | None, seen: Pace) -> tuple[float | None, str | None]:
    """Return the spacing of a channel's updates, and how it is known: see `Missing`."""
    if seen.period_ns is not None:
        return seen.period_ns, "changes"
    if model is not None and model.response is not Response.POINT and channel.kind is not Kind.AUX:
        return update_period_ns(model, seen), "table"
    if seen.followed_ns:
        return seen.followed_ns, "changes"
    return seen.poll_ns, None if seen.poll_ns is None else "polls"


def _most_w(channel: Channel, run: Gaps) -> float | None:
    """Return the greatest power that was seen, a counter's mean power while it moved; None where there is none."""
    if channel.kind is Kind.POWER:
        return None if run.first_ns is None else run.most_raw * channel.scale
    if channel.kind is Kind.AUX:
        return None
    stills = run.stills()
    moving_ns = run.known_ns - sum(one.end_ns - one.start_ns for one in stills)
    gained = run.known_raw - sum(max(0.0, one.step_raw) for one in stills)
    return gained / moving_ns * 1e9 * channel.scale if moving_ns > 0 else None


def _count(start_ns: int, end_ns: int, period_s: float | None) -> int | None:
    return int((end_ns - start_ns) / 1e9 / period_s + COUNT_SLACK) if period_s else None


def _touches(one: Dropout, window: Window) -> bool:
    return one.start_ns < window.end_ns and one.end_ns > window.start_ns


def _seq_step(trace: Trace, name: str) -> float:
    """Return by how much a lane's record number grows from one poll of a channel to the next."""
    first = next(trace.chunks(name), None)
    steps = np.diff(first.seq) / (1 + first.left_out[1:]) if first is not None and len(first) > 1 else np.ones(1)
    return float(np.median(steps))
