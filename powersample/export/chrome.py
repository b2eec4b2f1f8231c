# SPDX-License-Identifier: Apache-2.0
"""A trace as Chrome's trace events: alone, or written into a profile of torch, whose own text stays as it is.

Counters are `"ph":"C"`, their series named by the unit, which Perfetto puts behind the name; windows, gaps and the
clock's events are `"ph":"X"` on threads of a process of their own. Times are microseconds after a base of the time of
day, to the ns: since 1970 they would lose digits in a viewer's float64.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.export.counters import Counter, counters
from powersample.export.selection import Selection, clock_of, headline, realtime_ns, utf8
from powersample.export.spans import Span, clock_spans, gap_spans, lanes, window_spans
from powersample.formats.torch_trace import TorchTrace
from powersample.model import Trace

PID = 4_200_000  # above the kernel's highest, 2^22: no process of a profile has it


def refuse_apart(chosen: Selection, torch: TorchTrace) -> None:
    """Refuse a profile that cannot be laid beside a recording.

    Raises:
        InvalidArgument: the recording does not know UTC, or the two share no instant.
    """
    if clock_of(chosen.trace) not in ("monotonic", "utc"):
        raise InvalidArgument("this record does not know the time of day, by which a profile is laid beside it")
    extent = chosen.extent()
    if extent is None or torch.start_ns is None or torch.end_ns is None:
        return
    first_ns, last_ns = _real_ns(chosen.trace, np.array(extent, np.int64)).tolist()
    if last_ns < torch.start_ns or torch.end_ns < first_ns:
        times = [np.datetime64(at_ns, "ns").astype("datetime64[ms]") for at_ns in (first_ns, last_ns)]
        other = [np.datetime64(at_ns, "ns").astype("datetime64[ms]") for at_ns in (torch.start_ns, torch.end_ns)]
        raise InvalidArgument(
            f"the recording ({times[0]} to {times[1]} UTC) and the profile ({other[0]} to {other[1]}) share no instant",
            "Are they of one run, and of machines whose clocks agree?",
        )


def chrome_chunks(chosen: Selection, torch: tuple[str, TorchTrace] | None = None) -> Iterator[bytes]:
    """Yield the file in pieces; alone at bounded memory.

    Args:
        chosen: what is written.
        torch: a profile's text and what is known of it (`readers.read_torch`): the events are put behind its own.

    Raises:
        InvalidArgument: as `refuse_apart`.
    """
    if torch is not None:
        refuse_apart(chosen, torch[1])
    return _chunks(chosen, torch)


def _chunks(chosen: Selection, torch: tuple[str, TorchTrace] | None) -> Iterator[bytes]:
    if torch is not None:
        text, known = torch
        base_ns, comma = known.base_ns, known.events > 0
        pid = next(pid for pid in range(PID, PID + len(known.pids) + 1) if pid not in known.pids)
        head, tail = text[: known.insert_at], text[known.insert_at :]
    else:
        extent = chosen.extent() or (0, 0)
        base_ns = int(_real_ns(chosen.trace, np.array(extent[:1], np.int64))[0])
        of_day = clock_of(chosen.trace) in ("monotonic", "utc")
        known_base = f'"baseTimeNanoseconds":{base_ns},' if of_day else ""
        head, tail, comma, pid = f'{{"displayTimeUnit":"ms",{known_base}"traceEvents":[', "\n]}\n", False, PID
    yield head.encode("utf-8", "surrogateescape")
    for events in _events(chosen, base_ns, pid):
        text = ",\n".join(events)
        if text:
            yield ((",\n" if comma else "\n") + text).encode()
            comma = True
    yield tail.encode("utf-8", "surrogateescape")


def _events(chosen: Selection, base_ns: int, pid: int) -> Iterator[Iterable[str]]:
    said = headline(chosen.trace)
    host = chosen.trace.meta.get("host")
    words = ["powersample", *([utf8(str(host))] if host else []), *([said] if said else [])]
    yield [_meta(pid, 0, "process_name", name=": ".join(words)), _meta(pid, 0, "process_sort_index", sort_index=-1)]
    tid = 0
    for title, spans in [("windows", window_spans(chosen)), ("clock", clock_spans(chosen))]:
        for lane in lanes(spans):
            tid += 1
            yield [_meta(pid, tid, "thread_name", name=title), *_bars(chosen.trace, lane, base_ns, pid, tid)]
    for channel in chosen.channels:
        for counter in counters(chosen, channel):
            yield from _counter(chosen.trace, counter, base_ns, pid)
        for lane in lanes(gap_spans(chosen, channel)):
            tid += 1
            title = utf8(f"not read: {channel.name}")
            yield [_meta(pid, tid, "thread_name", name=title), *_bars(chosen.trace, lane, base_ns, pid, tid)]


def _meta(pid: int, tid: int, what: str, **values: str | int) -> str:
    return json.dumps({"ph": "M", "pid": pid, "tid": tid, "name": what, "args": values})


def _counter(trace: Trace, counter: Counter, base_ns: int, pid: int) -> Iterator[list[str]]:
    title, unit = json.dumps(counter.title), json.dumps(counter.unit)
    head = f'{{"ph":"C","pid":{pid},"tid":0,"name":{title},"ts":'
    for t_ns, values in counter.pieces:
        times = _real_ns(trace, t_ns) - base_ns
        pairs = zip(times.tolist(), values.tolist(), strict=True)
        yield [f'{head}{_us(at)},"args":{{{unit}:{value!r}}}}}' for at, value in pairs]


def _bars(trace: Trace, lane: list[Span], base_ns: int, pid: int, tid: int) -> Iterator[str]:
    edges = np.array([[one.start_ns, one.end_ns] for one in lane], np.int64)
    starts, ends = (_real_ns(trace, times) - base_ns for times in edges.T)
    for one, start, end in zip(lane, starts.tolist(), ends.tolist(), strict=True):
        shared: dict[str, Any] = {"cat": "powersample", "name": one.name, "pid": pid, "tid": tid, "args": one.details}
        text = json.dumps(shared)[:-1]
        if end > start:
            yield f'{text}, "ph": "X", "ts": {_us(start)}, "dur": {_us(end - start)}}}'
        else:
            yield f'{text}, "ph": "i", "s": "t", "ts": {_us(start)}}}'


def _us(ns: int) -> str:
    """Return microseconds with all digits of the ns."""
    whole, rest = divmod(abs(ns), 1000)
    return f"{'-' if ns < 0 else ''}{whole}.{rest:03}"


def _real_ns(trace: Trace, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the time of day; where nobody knows it, the trace's own clock."""
    found = realtime_ns(trace, t_ns)
    return t_ns if found is None else found
