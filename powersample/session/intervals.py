# SPDX-License-Identifier: Apache-2.0
"""Energies interval by interval while a recording goes on, from the end of what its samplers have written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample._native import api
from powersample.analysis import window_energies
from powersample.model import Channel, Energy, LaneStats, Trace, Window
from powersample.sensors import model_of
from powersample.session.tail import Tail

if TYPE_CHECKING:
    from powersample.session.recording import Recording
    from powersample.store.spool import RawPart

AROUND_S = 5.0  # of readings before an interval: what is near tells what it may be off by
LEAST_S = 0.01
FEW_UPDATES = 10  # in an interval: it is mostly what was before and after it


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of one run.

    Attributes:
        run: its window's name.
        end_s: since the run began.
        duration_s: of it; the last one of a run is shorter.
        energies: of each device and domain by its primary channel; whether fewer than ten updates of its sensor fit.
    """

    run: str
    end_s: float
    duration_s: float
    energies: tuple[tuple[Energy, bool], ...]


class Intervals:
    """Tells the energies of every interval of the runs of a recording, a moment after it has passed.

    Args:
        seconds: length of an interval.
        tell: told each.

    Raises:
        InvalidArgument: shorter than 10 ms.
    """

    def __init__(self, seconds: float, tell: Callable[[Interval], None]) -> None:
        if not LEAST_S <= seconds < float("inf"):
            raise errors.InvalidArgument(f"intervals of {1e3 * seconds:g} ms: at least {1e3 * LEAST_S:g} ms")
        self.seconds = seconds
        self._tell = tell
        self._tail = Tail(AROUND_S + 2 * seconds)
        self._reader: SpoolReader | None = None
        self._margin_ns = 0
        self._run: tuple[str, int] | None = None
        self._next_ns = 0
        self._due: list[tuple[str, int, int, int]] = []  # run, its start, the interval's start and end
        self._about: tuple[list[LaneStats], dict[str, Any]] | None = None

    def attach(self, recording: Recording) -> None:
        """Follow a recording that has started."""
        self._reader = SpoolReader(recording.spool)
        self._margin_ns = round(recording.margin_s * 1e9)

    def begin(self, run: str) -> None:
        """A run begins now."""
        self._next_ns = api.now_ns()
        self._run = run, self._next_ns

    def end(self) -> None:
        """The run has ended; the rest of it is an interval of its own."""
        self._cut(api.now_ns(), rest=True)
        self._run = None

    def _cut(self, now_ns: int, *, rest: bool) -> None:
        if self._run is None:
            return
        run, start_ns = self._run
        step_ns = round(self.seconds * 1e9)
        while self._next_ns + step_ns <= now_ns:
            self._due.append((run, start_ns, self._next_ns, self._next_ns + step_ns))
            self._next_ns += step_ns
        if rest and now_ns > self._next_ns:
            self._due.append((run, start_ns, self._next_ns, now_ns))

    def look(self, *, last: bool = False) -> None:
        """Tell the intervals that have passed and been read.

        Args:
            last: nothing more comes: tell the rest with what there is.
        """
        if self._reader is None:
            return
        self._tail.add(self._reader.take())
        self._cut(api.now_ns(), rest=False)
        end_ns = self._tail.end_ns
        if end_ns is None:
            return
        ready = [one for one in self._due if last or one[3] + self._margin_ns <= end_ns]
        if not ready:
            return
        self._due = self._due[len(ready) :]
        lanes, meta = self._about or self._reader.about()
        if lanes:
            self._about = lanes, meta
        trace = self._tail.trace(lanes, meta)
        windows = [Window(run, start_ns, stop_ns) for run, _, start_ns, stop_ns in ready]
        for (run, begun_ns, _, stop_ns), window, measured in zip(
            ready, windows, window_energies(trace, windows), strict=True
        ):
            energies = tuple((one.energy, few(trace, one.energy, window)) for one in measured if one.primary)
            self._tell(Interval(run, (stop_ns - begun_ns) / 1e9, window.duration_s, energies))

    def close(self) -> None:
        """Close what is open."""
        if self._reader is not None:
            self._reader.close()


def few(trace: Trace, energy: Energy, window: Window) -> bool:
    """Whether an interval holds fewer than ten updates of the sensor behind an energy."""
    model = model_of(trace, trace.channel(energy.channel))
    if model is None or not model.period_s:
        return energy.updates < FEW_UPDATES
    return window.duration_s < FEW_UPDATES * model.period_s


class SpoolReader:
    """Reads what is appended to a spool's raw parts, each record once, also of a part that is converted meanwhile.

    Args:
        directory: The spool.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[int, tuple[RawPart, BinaryIO]] = {}
        self._done: set[int] = set()

    def take(self) -> Iterator[tuple[Channel, NDArray[np.void]]]:
        """Yield the records that are there and were not, by channel."""
        from powersample.store.spool import part_numbers

        numbers = part_numbers(self._directory)
        for number in numbers:
            if number not in self._done and number not in self._open:
                self._begin(number)
        for number, (part, file) in list(self._open.items()):
            closed = not (self._directory / f"part-{number:06d}.open").exists()  # before reading: then this is its end
            yield from _read(part, file)
            if closed:
                file.close()
                del self._open[number]
                self._done.add(number)

    def _begin(self, number: int) -> None:
        from powersample.store.spool import RawPart

        for end in ("open", "part"):
            path = self._directory / f"part-{number:06d}.{end}"
            with contextlib.suppress(FileNotFoundError, errors.BadFormat):  # renamed just now; its header not written
                file = path.open("rb")
                try:
                    part = RawPart(path)
                except BaseException:
                    file.close()
                    raise
                file.seek(part.offset)
                self._open[number] = part, file
                return

    def about(self) -> tuple[list[LaneStats], dict[str, Any]]:
        """Return what the spool says of its lanes, and its metadata."""
        from powersample.store.spool import survey

        found = survey(self._directory, scan=False).description(self._directory)
        return list(found.lanes), dict(found.meta or {})

    def close(self) -> None:
        """Close the parts that are open."""
        for _, file in self._open.values():
            file.close()
        self._open.clear()


def _read(part: RawPart, file: BinaryIO) -> Iterator[tuple[Channel, NDArray[np.void]]]:
    size = part.dtype.itemsize
    start = file.tell()
    data = file.read()
    whole = len(data) - len(data) % size
    file.seek(start + whole)
    records = np.frombuffer(data[:whole], part.dtype)
    for number in np.unique(records["channel"]).tolist():
        if number in part.channels:
            yield part.channels[number], records[records["channel"] == number]
