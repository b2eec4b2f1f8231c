# SPDX-License-Identifier: Apache-2.0
"""Writes marks: at once, or for windows as short as a training step in batches, beside the program."""

from __future__ import annotations

import itertools
import os
import threading
import time
import warnings
import weakref
from collections import deque
from pathlib import Path

from powersample.errors import InvalidArgument, StateError
from powersample.marks import lines
from powersample.marks.device import EVENT, check_mode, cuda, in_data_worker, synchronise
from powersample.marks.events import EventClock
from powersample.marks.job import local_rank

WRITE_EVERY_S = 0.5  # what a kill may cost of the marks that wait
MOST_WAITING = 4096
RAISED = "raised"  # the window was left by an exception
RANK = "rank="


_Mark = tuple[str, int, int, int, str, tuple[str, ...]]  # verb, id, CLOCK_MONOTONIC, thread, name, notes


def check_name(name: str) -> None:
    """Raise InvalidArgument for a name that is no text."""
    if not isinstance(name, str):
        raise InvalidArgument(f"{name!r} cannot name a window", "Give text, such as f'epoch {epoch}'.")


class MarkWriter:
    """Appends marks to one file. Thread-safe; silent, after one warning, in a forked child and in a DataLoader worker.

    A window with `sync="event"` is one of many: its marks wait in memory, at most half a second and 4096 of them, for
    a thread that writes them together; a kill loses them. All others are written at once, after what waits, so that
    marks lie in the file as they were made.

    The file is opened for each write: a descriptor that is kept could, in a program that closes what it does not know,
    come to mean another file. It is never created: once the recorder has taken it away, the recording is over, and a
    file made anew would only stand in the way of its clean-up.

    A signal handler may mark, too: it runs in its thread's midst, also in the midst of a call here. So locks are
    reentrant, and whatever they guard is in order before anything is called that a handler may come into.

    Args:
        path: the marks file, which the recorder has made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open: dict[int, str] = {}  # how each is marked
        self._waiting: deque[_Mark] = deque()
        self._lock = threading.RLock()
        self._write_lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._ticking = False
        self._clock: EventClock | None = None
        self._lost = False
        self.ended = False  # whether its recording is over
        rank = local_rank()
        self._rank = () if rank is None else (f"{RANK}{rank}",)
        self._pid = os.getpid()
        self._tell = ""  # to be warned of once
        self._silent = lines.time_is_shifted()
        if self._silent:
            warnings.warn(
                "powersample: in a shifted time namespace marks would lie; this process writes none",
                RuntimeWarning,
                stacklevel=2,
            )
        elif in_data_worker():
            self._hush("a DataLoader worker")
        _WRITERS.add(self)

    def begin(self, name: str, sync: str = "none") -> int:
        """Begin a window; return the id for `end`: 0 in a child whose windows are not recorded.

        Args:
            name: the window's.
            sync: "device" waits for the accelerator before either mark, "event" has it note the instant, "auto" is
                "device" where it is in use; see `Run.window`.

        Raises:
            InvalidArgument: the name is no text, or there is no such way.
        """
        check_name(name)
        if self._silent:
            self._warn()
            return 0
        mark = next(_NUMBERS)
        way, notes = (sync, ()) if sync == "none" else self._edge(sync, mark, "begin")
        self._open[mark] = way
        now = time.monotonic_ns()
        self._put(("begin", mark, now, threading.get_native_id(), name, notes + self._rank), later=way == EVENT)
        return mark

    def end(self, mark: int, *, raised: bool = False) -> None:
        """End the window that `begin` returned.

        Args:
            mark: its id; 0, a window that is not recorded, is let pass.
            raised: an exception left it, which the window then tells.

        Raises:
            StateError: it was ended before, or never begun.
        """
        if mark == 0 or self.hushed:
            return
        way = self._open.pop(mark, None)
        if way is None:
            raise StateError(f"window {mark} was ended before, or never begun", "End each window once.")
        if self._silent:
            return
        notes = () if way == "none" else self._edge(way, mark, "end")[1]
        now = time.monotonic_ns()
        if raised:
            notes = (*notes, RAISED)
        self._put(("end", mark, now, threading.get_native_id(), "", notes), later=way == EVENT)

    def span(self, name: str, start_ns: int, sync: str) -> tuple[int, str, tuple[str, ...]]:
        """Mark a window that began at `start_ns` and ends now; return its end, how it is marked, and its flags."""
        if self._silent:
            self._warn()
            return time.monotonic_ns(), "", ()
        mark, tid = next(_NUMBERS), threading.get_native_id()
        _, notes = self._edge(sync, mark, "end")
        now = time.monotonic_ns()
        self._put(("begin", mark, start_ns, tid, name, notes + self._rank), later=True)
        self._put(("end", mark, now, tid, "", notes), later=False)
        return now, notes[0] if notes else "", notes[1:]

    def event(self, name: str) -> None:
        """Mark an instant.

        Raises:
            InvalidArgument: the name is no text.
        """
        check_name(name)
        if self._silent:
            self._warn()
            return
        now = time.monotonic_ns()
        mark = next(_NUMBERS)
        self._put(("event", mark, now, threading.get_native_id(), name, ()), later=False)

    def holds(self, mark: int) -> bool:
        """Whether a window is open here; 0, that is nowhere, is."""
        return mark == 0 or mark in self._open

    @property
    def hushed(self) -> bool:
        """Whether this is a process whose windows are not recorded."""
        return self._pid == 0

    def flush(self) -> None:
        """Write what waits.

        A signal handler that marks in its midst writes what is left by then, before what was taken already: windows are
        whole by that, unless it ends the recording, which costs what was taken.
        """
        with self._write_lock:
            batch = []
            while self._waiting:
                batch.append(self._waiting.popleft())
            if self._clock is not None:
                batch += self._edges(self._clock)
            if batch and not self._silent:
                self._write(b"".join(lines.line(*mark, pid=self._pid) for mark in batch))

    def find_out(self, *, wait: bool = False) -> None:
        """Find out the instants of the events so far, and write what waits.

        Args:
            wait: for the device to come to all of them, ten seconds at most; without, those it has come to.
        """
        used = cuda()
        if self._clock is not None and used is not None and not self._silent:
            self._clock.find_out(used, wait=wait)
        self.flush()

    def close(self) -> None:
        """Find out and write what waits, and wait for nothing more."""
        self._ended.set()
        self._ticking = False
        self.find_out(wait=True)

    def _edge(self, sync: str, mark: int, edge: str) -> tuple[str, tuple[str, ...]]:
        """Have the device mark an edge, or wait for it; return how that is done, and what the mark tells of it."""
        used = cuda()
        if sync != EVENT:
            check_mode(sync)
            return ("none", ()) if used is None or sync == "none" else ("device", synchronise(used))
        if used is None:
            return sync, ()
        clock = self._clock
        if clock is None:
            with self._lock:
                clock = self._clock = self._clock or EventClock()
        clock.record(used, mark, edge)
        return sync, (EVENT,)

    def _edges(self, clock: EventClock) -> list[_Mark]:
        """Return what was found out of events, as marks."""
        found, lost = clock.take()
        if lost and not self._lost:
            self._lost = True
            warnings.warn(
                f"powersample: the device's events are lost, windows stand by the host's marks: {lost}",
                RuntimeWarning,
                stacklevel=4,
            )
        tid = threading.get_native_id()
        return [("edge", one.mark, one.t_ns, tid, "", (one.edge, f"{one.error_ns:.1f}")) for one in found]

    def _put(self, mark: _Mark, *, later: bool) -> None:
        self._waiting.append(mark)
        if later and self._ticking and len(self._waiting) < MOST_WAITING:
            return
        if not later or not self._started() or len(self._waiting) >= MOST_WAITING:
            self.flush()

    def _started(self) -> bool:
        """Whether there is a thread that will write what waits."""
        if self._thread is None and not self._ended.is_set():
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(
                        target=_write_now_and_then, args=(weakref.ref(self), self._ended), daemon=True
                    )
                    thread.name = "powersample-marks"
                    self._thread = thread  # before its start: a signal handler that marks meanwhile starts no second
                    try:
                        thread.start()
                    except RuntimeError:  # no more threads, or the interpreter ends
                        self._thread = None
                        return False
                    self._ticking = True
        return not self._ended.is_set()

    def _write(self, text: bytes) -> None:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                while text:
                    text = text[os.write(file, text) :]
            finally:
                os.close(file)
        except FileNotFoundError:  # the recording has ended before this program
            self._silent = self.ended = True
        except OSError as error:  # the measured program matters more than its marks
            self._silent = True
            warnings.warn(f"powersample: no more marks, {self.path}: {error.strerror}", RuntimeWarning, stacklevel=5)

    def _hush(self, what: str) -> None:
        self._silent, self._pid = True, 0
        self._tell = f"powersample: this is {what}; its windows are not recorded, its parent's are"

    def _warn(self) -> None:
        if self._tell:
            text, self._tell = self._tell, ""
            warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _forked(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._write_lock = threading.RLock()
        self._waiting = deque()  # its parent writes them
        self._thread, self._ticking = None, False
        if not self.hushed:
            self._hush("a forked child")


def _write_now_and_then(writer: weakref.ref[MarkWriter], ended: threading.Event) -> None:
    while not ended.wait(WRITE_EVERY_S):
        alive = writer()
        if alive is None:
            return
        alive.flush()
        del alive


_WRITERS: weakref.WeakSet[MarkWriter] = weakref.WeakSet()
_NUMBERS = itertools.count(1)  # of this process: a window may end in another recording than it began in


def writer_of(mark: int) -> MarkWriter | None:
    """Return the writer where a window is open."""
    return next((writer for writer in list(_WRITERS) if mark in writer._open), None)


def _after_fork() -> None:
    for writer in list(_WRITERS):
        writer._forked()


os.register_at_fork(after_in_child=_after_fork)
