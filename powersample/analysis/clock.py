# SPDX-License-Identifier: Apache-2.0
"""What a recording's anchors say of the machine's clocks: set, slept, slewed, started anew.

CLOCK_MONOTONIC and CLOCK_REALTIME are slewed together, so their distance moves only when the time of day is set, and
when the machine sleeps, which CLOCK_BOOTTIME counts and neither CLOCK_MONOTONIC nor any reading sees
(clock_gettime(2), adjtimex(2)). CLOCK_MONOTONIC_RAW is never slewed: against it the rate of CLOCK_MONOTONIC shows.
An instant is known as well as the anchors are apart, 10 s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from powersample.model import Anchor, Window, duration
from powersample.model.clock import SLEW_LIMIT, STEP_SLACK_NS

SLEEP_NS = 1_000_000  # BOOTTIME gains nothing else on MONOTONIC
RATE_PPM = 5.0
EVENTS_LISTED = 1000


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """What happened to a clock between two anchors.

    Attributes:
        kind: "step": the time of day was set; "suspend": the machine slept; "rate": CLOCK_MONOTONIC goes at another
            rate; "boot": the anchors are of two boots, and stamps on either side cannot be compared.
        start_ns: CLOCK_MONOTONIC of the anchor before.
        end_ns: of the anchor after.
        size_s: step: how far the time of day was put forward; suspend: how long it slept; None else.
        change_ppm: rate: by how much CLOCK_MONOTONIC has become faster; None else.
    """

    kind: str
    start_ns: int
    end_ns: int
    size_s: float | None = None
    change_ppm: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def clock_events(anchors: Sequence[Anchor]) -> list[ClockEvent]:
    """Return what happened between the anchors, which are in the order of time.

    A rate is that of CLOCK_MONOTONIC against CLOCK_MONOTONIC_RAW from anchor to anchor; a change of it is told when it
    is beyond 5 ppm and what the anchors' widths leave unsure (0.02 ppm at 100 ns and 10 s). A slow drift is told each
    time that it has gathered so much.
    """
    return [*_events(anchors)]


def _events(anchors: Sequence[Anchor]) -> Iterator[ClockEvent]:
    rate_ppm: float | None = None
    rate_unsure_ppm = 0.0
    for before, after in pairwise(anchors):
        span = (before.monotonic_ns, after.monotonic_ns)
        if after.boottime_ns < before.boottime_ns or after.monotonic_raw_ns < before.monotonic_raw_ns:
            yield ClockEvent("boot", *span)
            rate_ppm = None
            continue
        unsure_ns = before.width_ns + after.width_ns
        elapsed_ns = after.boottime_ns - before.boottime_ns
        asleep_ns = elapsed_ns - (after.monotonic_ns - before.monotonic_ns)
        if asleep_ns > SLEEP_NS + unsure_ns:
            yield ClockEvent("suspend", *span, size_s=asleep_ns / 1e9)
        set_ns = after.realtime_ns - before.realtime_ns - elapsed_ns
        if abs(set_ns) > SLEW_LIMIT * elapsed_ns + STEP_SLACK_NS + unsure_ns:
            yield ClockEvent("step", *span, size_s=set_ns / 1e9)
        raw_ns = after.monotonic_raw_ns - before.monotonic_raw_ns
        if raw_ns <= 0:
            continue
        now_ppm = ((after.monotonic_ns - before.monotonic_ns) / raw_ns - 1) * 1e6
        now_unsure_ppm = unsure_ns / raw_ns * 1e6
        if rate_ppm is None:
            rate_ppm, rate_unsure_ppm = now_ppm, now_unsure_ppm
        elif abs(now_ppm - rate_ppm) > RATE_PPM + rate_unsure_ppm + now_unsure_ppm:
            yield ClockEvent("rate", *span, change_ppm=now_ppm - rate_ppm)
            rate_ppm, rate_unsure_ppm = now_ppm, now_unsure_ppm


def asleep(events: Sequence[ClockEvent], window: Window) -> str | None:
    """Return the reason of a window in which the machine may have slept; None where it did not."""
    sleeps = [
        one for one in events if one.kind == "suspend" and one.start_ns < window.end_ns and one.end_ns > window.start_ns
    ]
    if not sleeps:
        return None
    slept_s = sum(one.size_s or 0.0 for one in sleeps)
    inside = all(window.start_ns <= one.start_ns and one.end_ns <= window.end_ns for one in sleeps)
    where = "inside this window" if inside else "inside this window or within 10 s of it"
    times = f"{len(sleeps)} times, {duration(slept_s)} in all," if len(sleeps) > 1 else f"for {duration(slept_s)}"
    return f"PSQ-SUSPEND the machine slept {times} {where}; neither that time nor its energy is counted"


def clock_json(anchors: Sequence[Anchor]) -> dict[str, Any]:
    """Return the counts of steps, suspends, changes of rate and boots, the time asleep, and the first 1000 events."""
    events = clock_events(anchors)

    def count(kind: str) -> int:
        return sum(one.kind == kind for one in events)

    return {
        "steps": count("step"),
        "suspends": count("suspend"),
        "asleep_s": sum(one.size_s or 0.0 for one in events if one.kind == "suspend"),
        "rate_changes": count("rate"),
        "boots": 1 + count("boot"),
        "events": [one.as_json() for one in events[:EVENTS_LISTED]],
    }
