# SPDX-License-Identifier: Apache-2.0
"""The windows of a `Run`: what a program marks while it is recorded."""

from __future__ import annotations

import os
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from powersample.errors import StateError
from powersample.marks import MarkWriter, WindowMark
from powersample.marks.device import check_mode

if TYPE_CHECKING:
    from powersample.model import Window

PAUSED = "paused"


class Windows:
    """Windows marked now and integrated later; `Run` is one.

    They may nest, overlap and come from several threads and asyncio tasks. In a forked child, and in a worker of a
    torch DataLoader, every mark is a no-op with one warning: the recording belongs to the process that started it.

    How the edges of a window are marked where an accelerator is in use (torch.cuda; without one all are plain marks of
    the host's clock, and so they are where `torch` has not been used yet):

    - "device": each waits until the device has done what was queued by then.
    - "event": the device itself notes the instant at which it gets there. The program is never made to wait; instants
      are mapped to the host's clock when they are asked for, or at the end.
    - "none": not at all. What is queued at an edge is then on the wrong side of it.
    - "auto": "device".
    """

    def __init__(self) -> None:
        self._writer: MarkWriter | None = None
        # Of laps and pauses. A signal handler may come into its own thread's call here, and must not wait for that.
        self._lap_lock = threading.RLock()
        self._laps = self._lap_ns = 0
        self._pause_mark: int | None = None  # None: not paused; 0: paused, and no mark tells of it

    def window(self, name: str, *, sync: str = "auto") -> WindowMark:
        """Return a context manager and decorator that marks a window called `name`.

        Left by an exception the window is ended, and flagged "raised".

        Args:
            name: Need not be unique.
            sync: "auto", "device", "event" or "none"; see the class.

        Raises:
            InvalidArgument: There is no such `sync`.
        """
        check_mode(sync)
        return WindowMark(self, name, sync)

    def step(self, name: str = "step") -> WindowMark:
        """Return the same for one of many short windows, such as a training step: `sync` is "event".

        Its marks are written half a second later at most, by a thread beside; a kill loses those that wait.
        """
        return WindowMark(self, name, "event")

    def begin_window(self, name: str, *, sync: str = "auto") -> int:
        """Begin a window; return its id for `end_window`. In a forked child: 0.

        Args:
            name: The window's.
            sync: See `window`; of "event" both marks are written later, as `step` does.

        Raises:
            InvalidArgument: There is no such `sync`, or the name is no text.
            StateError: The run is not recording.
        """
        return self._marks().begin(name, sync)

    def end_window(self, mark: int, *, raised: bool = False) -> None:
        """End the window that `begin_window` returned.

        Args:
            mark: Its id.
            raised: Flag it as left by an exception.

        Raises:
            StateError: It was ended before, or never begun, or the run is not recording.
        """
        self._marks().end(mark, raised=raised)

    def event(self, name: str) -> None:
        """Mark an instant."""
        self._marks().event(name)

    def pause(self) -> None:
        """Begin a span called "paused", around a checkpoint or validation; recording goes on.

        Nothing is left out of any window by that: `energy("run")` is still everything. `unpaused("run")` is what was
        spent outside of the paused spans.

        Raises:
            StateError: It is paused already, or the run is not recording.
        """
        marks = self._marks()
        if marks.hushed:  # a fork copied the lock, which another thread may have held
            marks.begin(PAUSED)
            return
        with self._lap_lock:
            if self._pause_mark is not None:
                raise StateError("this Run is paused already", "Call resume() first.")
            self._pause_mark = 0  # before the mark: a signal handler that asks meanwhile meets a paused Run
            try:
                mark = marks.begin(PAUSED, "auto")
            except BaseException:
                self._pause_mark = None
                raise
            if self._pause_mark is None:  # the handler has resumed
                marks.end(mark)
            else:
                self._pause_mark = mark

    def resume(self) -> None:
        """End the paused span.

        Raises:
            StateError: It is not paused, or the run is not recording.
        """
        marks = self._marks()
        if marks.hushed:
            return
        with self._lap_lock:
            mark, self._pause_mark = self._pause_mark, None
        if mark is None:
            raise StateError("this Run is not paused", "Call pause() first.")
        marks.end(mark)

    def lap(self) -> Window:
        """End a lap and begin the next, without waiting for anything but the device; return the ended one.

        The first lap begins with the run. Ask its energy whenever it is wanted: `run.energy(lap)`, or
        `run.unpaused(lap)`. In a trace it is called "lap 1", "lap 2" and so on; the last one, that nobody ended, is
        not kept.

        Raises:
            StateError: The run is not recording.
        """
        from powersample.model import Window

        marks = self._marks()
        lock = nullcontext() if marks.hushed else self._lap_lock  # see `pause`
        with lock:  # a lap that a signal handler ends while this one is being ended has the same beginning
            self._laps += 1
            name, start_ns = f"lap {self._laps}", self._lap_ns
            self._lap_ns, marked, flags = marks.span(name, start_ns, "auto")
            return Window(name, start_ns, self._lap_ns, flags, f"marks pid {os.getpid()}", marked)

    def _enter(self, writer: MarkWriter) -> None:
        """Mark where `writer` does from now on."""
        self._writer = writer
        self._laps, self._pause_mark = 0, None
        self._lap_ns = time.monotonic_ns()

    def _marks(self) -> MarkWriter:
        if self._writer is None:
            raise StateError("this Run is not recording; use it inside `with measure() as run:`")
        return self._writer
