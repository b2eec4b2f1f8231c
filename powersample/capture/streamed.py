# SPDX-License-Identifier: Apache-2.0
"""Lanes in a sampler executable that may not write files of its own, because it bears capabilities.

Its output comes through a pipe, and a thread here puts it into the spool. `divide` decides which lanes run where.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from powersample import errors
from powersample._native.api import now_ns
from powersample.capture.plan import FIFO_ROUTE, Inventory, Plan
from powersample.capture.recorder import (
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Executable,
    InProcess,
    Recorder,
    launch,
    outcome,
    sampler_arguments,
    sources_of,
    spool_trouble,
)

if TYPE_CHECKING:
    from powersample.store.stream import SamplerStream

SYNC_TIMEOUT_S = 5.0
PIPE_BYTES = 1 << 20  # of its output, should this process be held up: beside the rings, seconds more
READ_BYTES = 1 << 16


class Piped:
    """Lanes in a `powersample-sampler` process that writes to a pipe.

    When this process is stopped the pipe fills, then the sampler's rings, then records are dropped and counted; when it
    is killed the sampler ends, too.

    Args:
        plan: What to record.
        inventory: What of it there is.
        open_stream: Makes what takes the stream, once the sampler is to be started.
    """

    def __init__(self, plan: Plan, inventory: Inventory, open_stream: Callable[[], SamplerStream]) -> None:
        self._arguments = [*sampler_arguments(plan, inventory), "--spool", "-"]
        self._open_stream = open_stream
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: SamplerStream | None = None
        self._thread: threading.Thread | None = None
        self._news = threading.Condition()
        self._over = False
        self._pid = os.getpid()
        self._failure: str | None = None

    def start(self, keep: Sequence[int] = ()) -> None:
        """Start it and wait for its ready line; it keeps nothing, as it ends with this process.

        Raises:
            DeviceError: It did not come up; the message is its own.
        """
        self._stream = self._open_stream()
        self._process = launch(self._arguments)
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # a user's limit on pipes: then it is a small one
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = threading.Thread(target=self._read, name="powersample-stream", daemon=True)
        self._thread.start()
        with self._news:
            self._news.wait_for(lambda: self._over or self._ready(), START_TIMEOUT_S)
        if not self._ready():
            text = self._end(ask=False)
            raise errors.DeviceError(text or f"powersample-sampler was not ready within {START_TIMEOUT_S:.0f} s")

    def _ready(self) -> bool:
        return self._stream is not None and any(line.get("ready") for line in self._stream.said)

    def _read(self) -> None:
        process, stream = self._process, self._stream
        assert process is not None
        assert process.stdout is not None
        assert stream is not None
        try:
            while data := os.read(process.stdout.fileno(), READ_BYTES):
                stream.feed(data)
                with self._news:
                    self._news.notify_all()
        except errors.BadFormat as error:
            self._failure = str(error)
        finally:
            process.stdout.close()  # a sampler that is still there ends by it
            stream.close()
            with self._news:
                self._over = True
                self._news.notify_all()

    def sync(self) -> None:
        """Wait until the sampler says that all it has recorded before this call has come; a while, for it may hang."""
        if self._stream is None or self._pid != os.getpid():
            return
        asked_ns, stream = now_ns(), self._stream
        with self._news:
            self._news.wait_for(lambda: self._over or stream.drained_ns >= asked_ns, SYNC_TIMEOUT_S)

    def stop(self) -> None:
        """Ask it to end and take its last words; a forked child has none and does nothing."""
        if self._process is not None and self._pid == os.getpid():
            trouble = self._end(ask=True)
            self._failure = self._failure or trouble or None

    def _end(self, *, ask: bool) -> str:
        """See the process to its end; return what went wrong."""
        process, thread, stream = self._process, self._thread, self._stream
        assert process is not None
        assert process.stderr is not None
        assert thread is not None
        assert stream is not None
        self._process = None
        early = process.poll() is not None
        if not early:
            process.send_signal(signal.SIGTERM if ask else signal.SIGKILL)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        thread.join(STOP_TIMEOUT_S)  # the end of its output, which it cannot reach before we have taken the rest
        late = False
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            process.wait()
        thread.join()
        said = process.stderr.read().decode("utf-8", "replace").strip()
        process.stderr.close()
        if late:
            return f"powersample-sampler did not end within {STOP_TIMEOUT_S:.0f} s and was killed"
        if ask and early:
            return f"powersample-sampler ended early with {outcome(process.returncode)}" + (f": {said}" if said else "")
        if process.returncode != 0 or not ask:
            return said or f"powersample-sampler ended with {outcome(process.returncode)}"
        return _disk_trouble(stream) or spool_trouble(stream.said[-1]) or ""

    def failure(self) -> str | None:
        """Return why it ended early, or what went wrong with its records."""
        if self._process is not None and self._pid == os.getpid():
            if self._process.poll() is not None:
                return f"powersample-sampler ended early with {outcome(self._process.returncode)}"
            if self._stream is not None and (trouble := _disk_trouble(self._stream)):
                return trouble
        return self._failure


class Streamed(Piped):
    """Lanes in such a process, whose stream becomes a spool's files.

    Args:
        plan: What to record.
        inventory: What of it there is.
        spool: The spool to put it into.
        beside: Whether another sampler writes into the same spool.
    """

    def __init__(self, plan: Plan, inventory: Inventory, spool: Path, *, beside: bool = False) -> None:
        def open_stream() -> SamplerStream:
            from powersample.store.stream import SECOND_SAMPLER, StreamSpool

            return StreamSpool(spool, first_part=SECOND_SAMPLER if beside else 0)

        super().__init__(plan, inventory, open_stream)


def _disk_trouble(stream: SamplerStream) -> str | None:
    return None if stream.failure is None else f"the spool stopped writing: {stream.failure.strerror}"


class Beside:
    """Two recorders of one recording."""

    def __init__(self, first: Recorder, second: Recorder) -> None:
        self._both = (first, second)

    def start(self, keep: Sequence[int] = ()) -> None:
        """Start both, or neither."""
        first, second = self._both
        first.start(keep)
        try:
            second.start(keep)
        except BaseException:
            first.stop()
            raise

    def sync(self) -> None:
        """See `Recorder`."""
        for one in self._both:
            one.sync()

    def stop(self) -> None:
        """Stop both, whatever becomes of the first."""
        first, second = self._both
        try:
            first.stop()
        finally:
            second.stop()

    def failure(self) -> str | None:
        """Return the trouble of either."""
        return "; ".join(text for one in self._both if (text := one.failure())) or None


@dataclass(frozen=True, slots=True)
class Share:
    """Lanes that run in one place.

    Attributes:
        inventory: What they read.
        plan: How.
        piped: They are the executable's, which writes to a pipe; else the recorder's own.
    """

    inventory: Inventory
    plan: Plan
    piped: bool


def divide(plan: Plan, inventory: Inventory, *, in_process: bool) -> tuple[Share, ...]:
    """Return which lanes of what was found run where: one share, or our own and the executable's.

    Packages that need a capability of the executable's are read in it. In process, everything else stays here. Else one
    executable does both, and loads NVML after it has dropped its capabilities; a library of the caller's own choice
    never comes into that process, so then there are two. All lanes are the executable's when only that one may put them
    under SCHED_FIFO.
    """
    own, whole = Share(inventory, plan, piped=False), Share(inventory, plan, piped=True)
    if not sources_of(inventory):
        return (own,)
    if any(one.route == FIFO_ROUTE for one in inventory.privileges):
        return (whole,)
    privileged = tuple(one for one in inventory.packages if one.privileged)
    if not privileged:
        return (own,)
    if not in_process and plan.nvml_library is None:
        return (whole,)
    there = Share(Inventory(packages=privileged), replace(plan, nvml_library=None), piped=True)
    here = replace(inventory, packages=tuple(one for one in inventory.packages if not one.privileged))
    return (Share(here, plan, piped=False), there) if sources_of(here) else (there,)


def recorder_for(plan: Plan, inventory: Inventory, spool: Path, *, in_process: bool) -> Recorder:
    """Return the recorder of what was found; see `divide`. Without a source, beside meters, there is no executable."""
    ordinary = InProcess if in_process or not sources_of(inventory) else Executable
    first, *more = divide(plan, inventory, in_process=in_process)
    if first.piped:
        return Streamed(first.plan, first.inventory, spool)
    recorder: Recorder = ordinary(first.plan, first.inventory, spool)
    for one in more:
        recorder = Beside(recorder, Streamed(one.plan, one.inventory, spool, beside=True))
    return recorder
