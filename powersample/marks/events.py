# SPDX-License-Identifier: Apache-2.0
"""When CUDA events were, on the host's clock.

A device's events are timed by a clock of its own, of which only differences are told (float32 ms, in steps of half a
microsecond). References tie it to the host's: an event on a stream that has nothing else to do, so that waiting for it
waits for nothing of the program's, between two readings of CLOCK_MONOTONIC. Between two references, ten seconds apart
where marks are made, the clocks' relation is taken to be a line; that takes care of drift, and of float32.

Nothing here waits for the program's work unless it is asked to, and nothing raises what the device raises: its edges
then stay the host's.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

REFER_EVERY_NS = 10_000_000_000
TRIES = 3  # of a reference; the narrowest counts
MOST_EVENTS = 8192  # whose instants nobody has asked for
BATCH = 128  # found out at once where there are more
STEP_NS = 500.0  # CUDA: "resolution of around 0.5 microseconds"
FLOAT32 = 2.0**-24  # rounding of an elapsed time, as a share
LINE = 0.01  # as far as the clocks' rates may differ; more is no clock
SURE = 6.0  # standard errors by which an event may seem to be earlier than it was recorded
PATIENCE_S = 10.0  # for work that was queued; a device that hangs must not hang the end of the program


class Edge(NamedTuple):
    """An instant found out: the edge ("begin" or "end") of window `mark` was at `t_ns`, standard error `error_ns`."""

    mark: int
    edge: str
    t_ns: int
    error_ns: float


class _Reference(NamedTuple):
    event: Any
    t_ns: float
    error_ns: float


class _Pending(NamedTuple):
    mark: int
    edge: str
    event: Any
    before_ns: int  # the event cannot be earlier


@dataclass(slots=True)
class _Device:
    """One device's events."""

    stream: Any  # of the references
    references: list[_Reference] = field(default_factory=list)
    pending: deque[_Pending] = field(default_factory=deque)
    free: list[Any] = field(default_factory=list)
    lost: str = ""  # why there is nothing more to be had of it


class EventClock:
    """The events at windows' edges, from their recording until their instants are known. Thread-safe.

    Args:
        now_ns: CLOCK_MONOTONIC.
        sleep: how to wait for queued work, s.
    """

    def __init__(
        self, now_ns: Callable[[], int] = time.monotonic_ns, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._now_ns, self._sleep = now_ns, sleep
        self._devices: dict[int, _Device] = {}
        self._found: list[Edge] = []
        # A signal handler that marks may come into its own thread's work here. That work is in no order then: `_busy`
        # tells, and the handler's edges stay the host's.
        self._lock = threading.RLock()
        self._busy = False

    def record(self, cuda: Any, mark: int, edge: str) -> None:
        """Have the current device note when it gets to here on the current stream.

        That is a launch: nothing is waited for but, every ten seconds, an event on an empty stream.

        Args:
            cuda: torch.cuda, in use.
            mark: the window.
            edge: "begin" or "end".
        """
        with self._lock:
            if self._busy:
                return
            device, self._busy = None, True
            try:
                if cuda.is_current_stream_capturing():  # an event in a graph is no instant
                    return
                index = cuda.current_device()
                device = self._devices.get(index)
                if device is None:
                    device = self._devices[index] = _Device(cuda.Stream(index))
                if device.lost:
                    return
                before_ns = self._now_ns()
                last = device.references[-1].t_ns if device.references else -math.inf
                if before_ns - last > REFER_EVERY_NS:
                    self._refer(cuda, device)
                if len(device.pending) >= MOST_EVENTS:
                    oldest = itertools.islice(device.pending, BATCH)
                    self._find(cuda, device, list(itertools.takewhile(lambda one: one.event.query(), oldest)))
                    if len(device.pending) >= MOST_EVENTS:
                        return
                event = device.free.pop() if device.free else cuda.Event(enable_timing=True)
                event.record()
                device.pending.append(_Pending(mark, edge, event, before_ns))
            except Exception as error:
                self._lose(device, error)
            finally:
                self._busy = False

    def find_out(self, cuda: Any, *, wait: bool) -> None:
        """Find out the instants of the events that the devices have come to; `take` them then.

        Args:
            cuda: torch.cuda.
            wait: wait until they have come to all, ten seconds at most.
        """
        deadline_ns = self._now_ns() + (round(PATIENCE_S * 1e9) if wait else 0)
        with self._lock:
            if self._busy:
                return
            asked = {index: list(device.pending) for index, device in self._devices.items()}
        while self._now_ns() < deadline_ns:  # without the lock, for which the program's own marks would wait
            with self._lock:
                if not any(self._is_ahead(cuda, index, pending) for index, pending in asked.items()):
                    break
            self._sleep(1e-3)
        with self._lock:
            if self._busy:  # whoever is at it finds out, or the next
                return
            self._busy = True
            try:
                self._find_all(cuda)
            finally:
                self._busy = False

    def _find_all(self, cuda: Any) -> None:
        for index, device in self._devices.items():
            try:
                with cuda.device(index):
                    if not device.lost and device.pending:
                        self._find(cuda, device, [one for one in device.pending if one.event.query()])
            except Exception as error:
                self._lose(device, error)

    def _is_ahead(self, cuda: Any, index: int, asked: Sequence[_Pending]) -> bool:
        """Whether a device has not come to an event yet that it will come to.

        One that another thread found out meanwhile is no longer asked: its event may mark a later edge by now.
        """
        device = self._devices[index]
        if device.lost:
            return False
        waiting = {id(one) for one in device.pending}
        try:
            with cuda.device(index):
                return any(not one.event.query() for one in asked if id(one) in waiting)
        except Exception as error:
            self._lose(device, error)
            return False

    def take(self) -> tuple[list[Edge], str]:
        """Return what was found out since the last time, and why nothing more will be where that is so."""
        with self._lock:
            found, self._found = self._found, []
            return found, "; ".join(sorted({one.lost for one in self._devices.values() if one.lost}))

    def _lose(self, device: _Device | None, error: Exception) -> None:
        if device is not None:
            device.lost = str(error).splitlines()[0] if str(error) else type(error).__name__
            device.pending.clear()

    def _refer(self, cuda: Any, device: _Device) -> None:
        made = []
        for _ in range(TRIES):
            event = device.free.pop() if device.free else cuda.Event(enable_timing=True)
            before_ns = self._now_ns()
            event.record(device.stream)
            event.synchronize()
            after_ns = self._now_ns()
            made.append(_Reference(event, (before_ns + after_ns) / 2, (after_ns - before_ns) / math.sqrt(12)))
        made.sort(key=lambda one: one.error_ns)
        device.references.append(made[0])
        device.free += [one.event for one in made[1:]]

    def _find(self, cuda: Any, device: _Device, done: Sequence[_Pending]) -> None:
        """Map events that are past: each lies between two references, for the last is made now."""
        if not done:
            return
        self._refer(cuda, device)
        spans = [
            _Span(first, last, first.event.elapsed_time(last.event) * 1e6)
            for first, last in zip(device.references, device.references[1:], strict=False)
        ]
        place = 0
        for one in done:
            place, found = _map(spans, place, one)
            if found is not None and found.t_ns >= one.before_ns - SURE * found.error_ns:
                self._found.append(found)
            device.free.append(one.event)
        gone = {id(one.event) for one in done}
        device.pending = deque(one for one in device.pending if id(one.event) not in gone)
        keep = place if device.pending else len(spans)
        device.free += [one.event for one in device.references[:keep]]
        del device.references[:keep]


class _Span(NamedTuple):
    first: _Reference
    last: _Reference
    length_ns: float  # by the device's clock


def _map(spans: Sequence[_Span], place: int, one: _Pending) -> tuple[int, Edge | None]:
    """Return in which span an event lies, at `place` or near it, and its instant; None where no line joins them."""
    since_ns = spans[place].first.event.elapsed_time(one.event) * 1e6
    while since_ns < 0 and place > 0:
        place -= 1
        since_ns = spans[place].first.event.elapsed_time(one.event) * 1e6
    while since_ns > spans[place].length_ns and place + 1 < len(spans):
        place += 1
        since_ns = spans[place].first.event.elapsed_time(one.event) * 1e6
    first, last, length_ns = spans[place]
    if not length_ns > 0:
        return place, None
    rate = (last.t_ns - first.t_ns) / length_ns
    if abs(rate - 1) > LINE and abs(last.t_ns - first.t_ns - length_ns) > SURE * (first.error_ns + last.error_ns):
        return place, None
    share = min(1.0, max(0.0, since_ns / length_ns))
    if share <= 0.5:
        t_ns, far_ns = first.t_ns + rate * since_ns, since_ns
    else:  # from the nearer one: float32 loses less
        far_ns = one.event.elapsed_time(last.event) * 1e6
        t_ns = last.t_ns - rate * far_ns
    rounding_ns = math.hypot(STEP_NS / math.sqrt(6), FLOAT32 * abs(far_ns) / math.sqrt(3))
    error_ns = math.hypot((1 - share) * first.error_ns, share * last.error_ns, rounding_ns)
    return place, Edge(one.mark, one.edge, round(t_ns), error_ns)
