# SPDX-License-Identifier: Apache-2.0
"""A trace as Perfetto's protobuf: a counter track a channel, and slices for windows, gaps and the clock's events.

Instants are CLOCK_BOOTTIME, Perfetto's own clock: a machine that slept leaves the hole that the sleep was, where
CLOCK_MONOTONIC would lay what came before and after side by side. A snapshot of the clocks at the first anchor, and at
each at which one was set or the machine had slept, tells CLOCK_REALTIME and CLOCK_MONOTONIC.

Beside a file of Chrome's JSON, which has no clock, instants are ns after the profile's base of the time of day, on a
clock that the same snapshots tell: a trace processor takes such a file's numbers as they are.

A counter holds its last value until the next: where nothing was read, a slice beneath it says so.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import clock_events
from powersample.errors import NotSupported
from powersample.export.counters import Counter, counters
from powersample.export.selection import Selection, clock_of, headline, realtime_ns, utf8
from powersample.export.spans import Span, clock_spans, gap_spans, lanes, window_spans
from powersample.model import Anchor, to_boottime_ns

REALTIME, MONOTONIC, BOOTTIME = 1, 3, 6  # perfetto.protos.BuiltinClock
BESIDE = 9  # TSC there: of those that may be a trace's own clock, one that nothing else in our files is told by
CLOCKS = {"monotonic": BOOTTIME, "unanchored": MONOTONIC, "utc": REALTIME}  # of others nobody knows: Perfetto's own
SEQUENCE = 0x70730001  # of the packets: one writer
MOVED_NS = 1_000_000  # of a distance between two clocks, from which a snapshot is due


def perfetto_chunks(chosen: Selection, base_ns: int | None = None) -> Iterator[bytes]:
    """Yield the file in pieces, at bounded memory.

    Args:
        chosen: what is written.
        base_ns: tell instants in ns after this time of day, ns since 1970; None: by Perfetto's own clock. It is passed
            over where an instant lies before it, or the time of day was set back: there is no such clock then.

    Raises:
        NotSupported: the package `perfetto` is not installed.
    """
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
    except ImportError as error:
        raise NotSupported(
            f"this format needs the package perfetto ({error})", "Install it: pip install 'powersample[export]'"
        ) from None
    sink = io.BytesIO()
    return _Writer(chosen, protos, StreamingTraceProtoBuilder(sink), sink, base_ns).chunks()


class _Writer:
    def __init__(
        self, chosen: Selection, protos: Any, builder: Any, sink: io.BytesIO, base_ns: int | None = None
    ) -> None:
        self._chosen, self._protos, self._builder, self._sink = chosen, protos, builder, sink
        self._base_ns = base_ns if base_ns is not None and rises_from(chosen, base_ns) else None
        self._clock = CLOCKS.get(clock_of(chosen.trace)) if self._base_ns is None else BESIDE
        self._rank = 0
        self._first = True

    def chunks(self) -> Iterator[bytes]:
        chosen = self._chosen
        self._snapshots()
        said, host = headline(chosen.trace), chosen.trace.meta.get("host")
        words = ["powersample", *([utf8(str(host))] if host else []), *([said] if said else [])]
        root = self._track(": ".join(words), None)
        for title, spans in [("windows", window_spans(chosen)), ("clock", clock_spans(chosen))]:
            yield from self._bars(title, spans, root)
        for channel in chosen.channels:
            for counter in counters(chosen, channel):
                yield from self._counter(counter, root)
            yield from self._bars(utf8(f"not read: {channel.name}"), gap_spans(chosen, channel), root)
        yield self._taken()

    def _taken(self) -> bytes:
        data = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return data

    def _packet(self) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = SEQUENCE
        if self._first:
            packet.sequence_flags = self._protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
            self._first = False
        return packet

    def _snapshots(self) -> None:
        chosen = self._chosen
        if self._clock is None:
            return
        extent = chosen.extent() or (0, 0)
        if clock_of(chosen.trace) != "monotonic":  # the only clock there is, and thus the timeline's
            beside = [] if self._base_ns is None else [(BESIDE, extent[0] - self._base_ns)]
            self._snapshot([*beside, (CLOCKS[clock_of(chosen.trace)], extent[0])])
            return
        for one in moved(chosen.trace.anchors):
            clocks = [(BOOTTIME, one.boottime_ns), (MONOTONIC, one.monotonic_ns), (REALTIME, one.realtime_ns)]
            beside = [] if self._base_ns is None else [(BESIDE, one.realtime_ns - self._base_ns)]
            self._snapshot([*beside, *clocks])

    def _snapshot(self, clocks: Iterable[tuple[int, int]]) -> None:
        packet = self._packet()
        packet.clock_snapshot.primary_trace_clock = self._clock
        for number, at_ns in clocks:
            clock = packet.clock_snapshot.clocks.add()
            clock.clock_id, clock.timestamp = number, at_ns
        self._builder.write_packet(packet)

    def _track(self, title: str, parent: int | None, unit: str | None = None) -> int:
        """Describe a track and return its number."""
        self._rank += 1
        said = f"{self._chosen.trace.meta.get('host')} {self._chosen.trace.start_ns} {self._rank} {title}"
        packet = self._packet()
        track = packet.track_descriptor
        track.uuid = int.from_bytes(hashlib.sha256(said.encode("utf-8", "backslashreplace")).digest()[:8]) or 1
        track.name, track.sibling_order_rank = title, self._rank
        if parent is None:
            track.child_ordering = self._protos.TrackDescriptor.EXPLICIT
        else:
            track.parent_uuid = parent
        if unit is not None:
            track.counter.unit_name = unit
        self._builder.write_packet(packet)
        return int(track.uuid)

    def _at(self, packet: Any, at_ns: int) -> None:
        packet.timestamp = at_ns
        if self._clock is not None:
            packet.timestamp_clock_id = self._clock

    def _placed(self, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._base_ns is not None:
            of_day = realtime_ns(self._chosen.trace, t_ns)
            return t_ns if of_day is None else of_day - self._base_ns
        found = to_boottime_ns(self._chosen.trace.anchors, t_ns) if self._clock == BOOTTIME else None
        return t_ns if found is None else found

    def _counter(self, counter: Counter, root: int) -> Iterator[bytes]:
        packet = self._packet()
        event = packet.track_event
        event.type = self._protos.TrackEvent.TYPE_COUNTER
        event.track_uuid = self._track(counter.title, root, counter.unit)
        for t_ns, values in counter.pieces:
            for at_ns, value in zip(self._placed(t_ns).tolist(), values.tolist(), strict=True):
                self._at(packet, at_ns)
                event.double_counter_value = value
                self._builder.write_packet(packet)
            yield self._taken()

    def _bars(self, title: str, spans: Iterable[Span], root: int) -> Iterator[bytes]:
        for lane in lanes(spans):
            track = self._track(title, root)
            ends: list[int] = []
            for one in lane:
                while ends and ends[-1] <= one.start_ns:
                    self._edge(track, ends.pop(), self._protos.TrackEvent.TYPE_SLICE_END)
                if one.end_ns > one.start_ns:
                    self._edge(track, one.start_ns, self._protos.TrackEvent.TYPE_SLICE_BEGIN, one)
                    ends.append(one.end_ns)
                else:
                    self._edge(track, one.start_ns, self._protos.TrackEvent.TYPE_INSTANT, one)
            while ends:
                self._edge(track, ends.pop(), self._protos.TrackEvent.TYPE_SLICE_END)
            yield self._taken()

    def _edge(self, track: int, t_ns: int, kind: int, span: Span | None = None) -> None:
        packet = self._packet()
        self._at(packet, int(self._placed(np.array([t_ns], np.int64))[0]))
        event = packet.track_event
        event.type, event.track_uuid = kind, track
        if span is not None:
            event.name = span.name
            for name, value in span.details.items():
                note = event.debug_annotations.add()
                note.name, note.string_value = name, str(value)
        self._builder.write_packet(packet)


def rises_from(chosen: Selection, base_ns: int) -> bool:
    """Whether the time of day is known, is never before an instant, and rises all the time."""
    trace, extent = chosen.trace, chosen.extent()
    edges = [*(extent or ()), *(at_ns for one in chosen.windows for at_ns in (one.start_ns, one.end_ns))]
    if extent is None or clock_of(trace) not in ("monotonic", "utc"):
        return False
    of_day = realtime_ns(trace, np.array([min(edges)], np.int64))
    events = clock_events(trace.anchors)
    set_back = any(one.kind == "boot" or (one.kind == "step" and (one.size_s or 0.0) < 0) for one in events)
    before = any(one.realtime_ns < base_ns for one in trace.anchors)
    return of_day is not None and bool(of_day[0] >= base_ns) and not (set_back or before)


def moved(anchors: Sequence[Anchor]) -> list[Anchor]:
    """Return the first anchor, and each at which BOOTTIME or REALTIME had moved against MONOTONIC since the last."""
    found: list[Anchor] = []
    distances: list[Callable[[Anchor], int]] = [
        lambda one: one.boottime_ns - one.monotonic_ns,
        lambda one: one.realtime_ns - one.monotonic_ns,
    ]
    for one in anchors:
        if not found or any(abs(far(one) - far(found[-1])) > MOVED_NS for far in distances):
            found.append(one)
    return found
