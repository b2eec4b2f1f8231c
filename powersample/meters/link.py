# SPDX-License-Identifier: Apache-2.0
"""A port's bytes, each stamped as it arrives.

A `Link` reads in a thread of its own that does nothing but stamp: however busy the parser's thread is, a stamp is late
by the scheduler only, and never early. What nobody takes is bounded, and counted when it is lost.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from powersample import errors
from powersample.meters.transport import Port

READ_BYTES = 1 << 16
QUEUE_BYTES = 1 << 22  # six minutes of a full 115200 baud line
WRITE_TIMEOUT_S = 2.0


class LinkLost(errors.DeviceError):
    """The port or the connection is gone; `Link.reopen` tries again."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes, and CLOCK_MONOTONIC as they were here."""

    arrival_ns: int
    data: bytes


class Link:
    """A port's bytes, stamped as they arrive.

    Attributes:
        lost: Why the port is gone; None while it is there.
        dropped_bytes: What came and nobody took in time.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        self.lost: str | None = "not opened"
        self.dropped_bytes = 0
        self._fd = -1
        self._chunks: deque[Chunk] = deque()
        self._held = 0
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None

    def open(self) -> None:
        """Open the port and start reading. Raises as `Port.open`."""
        self.close()
        self._fd = self.port.open()
        self.lost = None
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        name = f"powersample-{Path(self.port.name).name}"
        self._thread = threading.Thread(target=self._read, args=(self._fd, self._wake[0]), name=name, daemon=True)
        self._thread.start()

    def _read(self, fd: int, wake: int) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        why = "closed"
        while True:
            if wake in dict(poll.poll()):
                break
            try:
                data = os.read(fd, READ_BYTES)
                now_ns = time.monotonic_ns()  # not before: held up between both, it would be early for what is read
            except BlockingIOError:
                continue
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                break
            if not data:  # a pulled USB adapter, a closed connection
                why = "the other end is gone"
                break
            self._put(Chunk(now_ns, data))
        with self._news:
            self.lost = why
            self._news.notify_all()

    def _put(self, chunk: Chunk) -> None:
        with self._news:
            if self._held + len(chunk.data) > QUEUE_BYTES:
                self.dropped_bytes += len(chunk.data)
                return
            self._held += len(chunk.data)
            self._chunks.append(chunk)
            self._news.notify_all()

    def read(self, timeout_s: float) -> Chunk | None:
        """Return the next bytes, waiting at most so long; None when none came, or the link is lost and empty."""
        with self._news:
            self._news.wait_for(lambda: self._chunks or self.lost, max(0.0, timeout_s))
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._held -= len(chunk.data)
            return chunk

    def discard(self) -> int:
        """Forget what has come; return how many bytes."""
        with self._news:
            count, self._held = self._held, 0
            self._chunks.clear()
            return count

    def write(self, data: bytes, timeout_s: float = WRITE_TIMEOUT_S) -> None:
        """Send bytes.

        Raises:
            LinkLost: The port is gone.
            Timeout: The other side takes none: its handshake forbids it.
        """
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        while data:
            if self.lost is not None:
                raise LinkLost(f"{self.port.name}: {self.lost}")
            poll.register(self._fd, select.POLLOUT)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
                raise errors.Timeout(
                    f"{self.port.name} took no data for {timeout_s:g} s", "Check the cable and the handshake (RTS/CTS)."
                )
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkLost(f"{self.port.name}: {error.strerror}") from error

    def reopen(self) -> bool:
        """Try to open a lost port again; return whether it is there."""
        try:
            self.open()
        except errors.PowerSampleError:
            return False
        return True

    def close(self) -> None:
        """End the reading and close the port; harmless twice."""
        thread, self._thread = self._thread, None
        wake, self._wake = self._wake, None
        if wake is not None:
            with suppress(OSError):
                os.write(wake[1], b"x")
        if thread is not None:
            thread.join()  # it never waits for anything but these two descriptors
        if wake is not None:
            for one in wake:
                os.close(one)
        self.port.close()
        self._fd = -1
        self.lost = self.lost or "closed"
        self.discard()
