# SPDX-License-Identifier: Apache-2.0
"""Reads a marks file into windows; as it grows, only what is new."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from powersample.marks.device import DEVICE, EVENT, UNSYNCHRONISED
from powersample.marks.lines import Line, parse_line
from powersample.marks.writer import RAISED, RANK

if TYPE_CHECKING:
    from powersample.model import Window

FLAGS = (UNSYNCHRONISED, RAISED)  # notes that become a window's flags


@dataclass(frozen=True, slots=True)
class Marks:
    """What a marks file says.

    Attributes:
        windows: in the order of their begin; those never ended bear the flag "open", those whose events were not
            resolved "unresolved".
        events: (name, CLOCK_MONOTONIC ns).
        unknown: lines that are no marks.
        unmatched: ends without a begin.
        other_boot: marks of another boot, whose clock means nothing here.
    """

    windows: tuple[Window, ...]
    events: tuple[tuple[str, int], ...]
    unknown: int
    unmatched: int
    other_boot: int


class Log:
    """A marks file so far.

    Args:
        boot: the recording's boot id; None takes every boot's marks.
    """

    def __init__(self, boot: str | None) -> None:
        self.boot = boot
        self._closed: list[Window] = []
        self._places: dict[tuple[int, int], int] = {}  # of windows marked by events among the closed
        self._edges: dict[tuple[int, int], dict[str, tuple[int, float]]] = {}  # found out, the other one not yet
        self._running: dict[tuple[int, int], Window] = {}  # without their end
        self._never_ended: list[Window] = []
        self._events: list[tuple[str, int]] = []
        self._unknown = self._unmatched = self._other_boot = 0
        self._last_ns = 0

    def feed(self, lines: Iterable[bytes]) -> None:
        """Take the next lines of the file, torn ones included."""
        for line in lines:
            mark = parse_line(line)
            if mark is None:
                self._unknown += bool(line.strip())
            elif self.boot is not None and mark.boot != self.boot:
                self._other_boot += 1
            elif mark.verb == "edge":
                self._edge(mark)
            else:
                self._last_ns = max(self._last_ns, mark.t_ns)
                if mark.verb == "event":
                    self._events.append((mark.name, mark.t_ns))
                elif mark.verb == "begin":
                    self._begin(mark)
                else:
                    self._end(mark)

    def marks(self, end_ns: int | None) -> Marks:
        """Return what the file says.

        Args:
            end_ns: the record's end, where windows that were never ended close; None closes them at the last mark.
        """
        from powersample.model.energy import OPEN

        close_ns = self._last_ns if end_ns is None else end_ns
        windows = self._closed + [
            replace(one, end_ns=max(one.start_ns, close_ns), flags=(OPEN, *one.flags))
            for one in (*self._never_ended, *self._running.values())
        ]
        windows.sort(key=lambda one: (one.start_ns, -one.end_ns))
        return Marks(tuple(windows), tuple(self._events), self._unknown, self._unmatched, self._other_boot)

    def _begin(self, mark: Line) -> None:
        from powersample.model import Window
        from powersample.model.energy import UNRESOLVED

        key = (mark.pid, mark.mark)
        if key in self._running:  # the number came around in a new process of the old one's pid
            self._never_ended.append(self._running[key])
        self._places.pop(key, None)
        self._edges.pop(key, None)
        marked = next((way for way in (DEVICE, EVENT) if way in mark.notes), "")
        flags = tuple(note for note in mark.notes if note in FLAGS)
        rank = next((note.removeprefix(RANK) for note in mark.notes if note.startswith(RANK)), "")
        source = f"marks pid {mark.pid}" + (f" rank {rank}" if rank else "")
        if marked == EVENT:
            flags = (UNRESOLVED, *flags)
        self._running[key] = Window(mark.name, mark.t_ns, mark.t_ns, flags, source, marked)

    def _end(self, mark: Line) -> None:
        key = (mark.pid, mark.mark)
        window = self._running.pop(key, None)
        if window is None:
            self._unmatched += 1
            return
        more = tuple(note for note in mark.notes if note in FLAGS and note not in window.flags)
        if window.marked == EVENT:
            self._places[key] = len(self._closed)
        self._closed.append(replace(window, end_ns=max(window.start_ns, mark.t_ns), flags=window.flags + more))
        self._settle(key)

    def _edge(self, mark: Line) -> None:
        key = (mark.pid, mark.mark)
        try:
            edge, error_ns = mark.notes[0], float(mark.notes[1])
        except (IndexError, ValueError):
            self._unknown += 1
            return
        if not (edge in ("begin", "end") and 0 <= error_ns < math.inf):
            self._unknown += 1
        elif key not in self._places and key not in self._running:
            self._unmatched += 1
        else:
            self._edges.setdefault(key, {})[edge] = (mark.t_ns, error_ns)
            self._settle(key)

    def _settle(self, key: tuple[int, int]) -> None:
        """Put instants that were found out in the place of the host's, once both of an ended window are there."""
        from powersample.model.energy import UNRESOLVED

        found = self._edges.get(key, {})
        if key not in self._places or len(found) < 2:
            return
        (start_ns, first_ns), (end_ns, last_ns) = found["begin"], found["end"]
        place = self._places.pop(key)
        del self._edges[key]
        window = self._closed[place]
        self._closed[place] = replace(
            window,
            start_ns=start_ns,
            end_ns=max(start_ns, end_ns),
            flags=tuple(flag for flag in window.flags if flag != UNRESOLVED),
            edge_errors_ns=(first_ns, last_ns),
        )


def parse(lines: Iterable[bytes], boot: str | None, end_ns: int | None) -> Marks:
    """Read mark lines; see `Log`."""
    log = Log(boot)
    log.feed(lines)
    return log.marks(end_ns)
