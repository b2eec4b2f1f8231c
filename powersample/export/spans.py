# SPDX-License-Identifier: Apache-2.0
"""What a timeline draws as bars: windows, gaps in the readings, and what happened to the clocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from powersample.analysis.clock import clock_events
from powersample.analysis.quality import quality
from powersample.export.selection import Selection, utf8
from powersample.model import TRUTH_PREFIX, Channel

HIDES = 1.5  # periods of the sensor between two good readings, from which an update of it went unread
ENDED = 3.0  # spacings of polls behind a channel's last good reading, from which it is told to have ended


@dataclass(frozen=True, slots=True)
class Span:
    """A bar on CLOCK_MONOTONIC (or the log's own clock); one without length is an instant."""

    name: str
    start_ns: int
    end_ns: int
    details: dict[str, str | int | float] = field(default_factory=dict)


def lanes(spans: Iterable[Span]) -> list[list[Span]]:
    """Return spans laid on as few lanes as a greedy hand finds, so that those of one lane nest or do not touch.

    Viewers draw a lane as a stack: a span that begins inside another must end inside it too. Each lane is in the order
    in which spans begin, the outer before the inner.
    """
    found: list[list[Span]] = []
    stacks: list[list[int]] = []  # of each lane, the ends of the spans that are open
    for one in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)):
        for stack in stacks:
            while stack and stack[-1] <= one.start_ns:
                stack.pop()
        free = (i for i, stack in enumerate(stacks) if not stack or one.end_ns <= stack[-1])
        chosen = next(free, len(found))
        if chosen == len(found):
            found.append([])
            stacks.append([])
        found[chosen].append(one)
        stacks[chosen].append(one.end_ns)
    return found


def window_spans(chosen: Selection) -> list[Span]:
    """Return the selection's windows."""
    spans = []
    for one in chosen.windows:
        details: dict[str, str | int | float] = {"source": utf8(one.source)} if one.source else {}
        if one.flags:
            details["flags"] = utf8(", ".join(one.flags))
        if one.marked:
            details["marked"] = utf8(one.marked)
        spans.append(Span(utf8(one.name), one.start_ns, one.end_ns, details))
    return spans


def clock_spans(chosen: Selection) -> list[Span]:
    """Return what happened to the machine's clocks, each between the two anchors that show it."""
    words = {"suspend": "machine slept {:.3f} s in here", "step": "time of day set by {:+.3f} s in here"}
    spans = []
    for event in clock_events(chosen.trace.anchors):
        if event.kind in words and chosen.touches(event.start_ns, event.end_ns):
            name = words[event.kind].format(event.size_s or 0.0)
            spans.append(Span(name, event.start_ns, event.end_ns))
    return spans


def gap_spans(chosen: Selection, channel: Channel) -> Iterator[Span]:
    """Yield where nothing was read of a channel, so that a viewer that holds its last value does not hide it.

    Of the first 1000 gaps those in which an update of the sensor went by; and from a channel's last good reading to the
    record's end, where that is further than three of its polls. A truth has none: it is told where it changes.
    """
    extent, whole = chosen.trace.extent(channel.name), chosen.extent()
    if channel.name.startswith(TRUTH_PREFIX) or extent is None or whole is None:
        return
    found = quality(chosen.trace, channel.name)
    good = found.polls - sum(found.errors.values()) - found.not_numbers
    if good == 0:
        codes = ", ".join(f"code {code}, {count} times" for code, count in found.errors.items())
        yield Span(f"no reading succeeded: {codes or 'not a number'}", whole[0], whole[1])
        return
    hides_ns = HIDES * 1e9 * (found.missing.period_s or 0.0)
    for gap in found.gaps:
        if gap.end_ns - gap.start_ns > hides_ns and chosen.touches(gap.start_ns, gap.end_ns):
            code = "" if gap.code is None else f", code {gap.code}"
            yield Span(f"gap: {gap.cause}{code}", gap.start_ns, gap.end_ns)
    if found.gaps_total > len(found.gaps):
        last_ns = found.gaps[-1].end_ns
        yield Span(f"{found.gaps_total - len(found.gaps)} more gaps from here on", last_ns, max(last_ns, whole[1]))
    end_ns = _last_good_ns(chosen, channel)
    usual_ns = 1e9 / found.achieved_hz if found.achieved_hz else 0.0
    if end_ns is not None and whole[1] - end_ns > ENDED * usual_ns > 0:
        yield Span("no reading from here on", end_ns, whole[1])


def _last_good_ns(chosen: Selection, channel: Channel) -> int | None:
    last_ns = None
    for piece in chosen.chunks(channel):
        good = piece.t_ns[piece.good]
        last_ns = int(good[-1]) if len(good) else last_ns
    return last_ns
