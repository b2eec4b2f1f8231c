# SPDX-License-Identifier: Apache-2.0
"""What tests of meters share: a meter by its address, its next readings and gaps, and the far end of a serial line."""

import os
import pty
import select
import socket
import threading
import time
import tty
from contextlib import suppress

from powersample.meters import make_meter, parse_addresses


def meter(text):
    return make_meter(parse_addresses([text])[0])


def opened(text):
    made = meter(text)
    info = made.open()
    made.start()
    return made, info


def first(made, limit_s=5.0):
    """Return the next batch that holds a reading."""
    return until(made, lambda batch: batch.readings, limit_s)


def first_gap(made, limit_s=5.0):
    """Return the next gap."""
    return until(made, lambda batch: batch.gaps, limit_s).gaps[0]


def until(made, holds, limit_s):
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        batch = made.read(0.1)
        if holds(batch):
            return batch
    raise AssertionError(f"nothing came in {limit_s} s; counts: {made.counts()}")


class Terminal:
    """A serial line's far end, on a pseudo-terminal: `answer(bytes so far) -> (taken, reply)` is asked as bytes come.

    The near end is kept open, so that the line does not hang up before, or between, its users.
    """

    def __init__(self, answer=lambda held: (len(held), b"")):
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.answer, self.seen = answer, b""
        self._wake = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        held = b""
        with suppress(OSError):  # closed
            # Not in a bare read: a descriptor that one is under way on does not hang up as it is closed.
            while self._wake[0] not in select.select([self.master, self._wake[0]], [], [])[0]:
                data = os.read(self.master, 4096)
                self.seen += data
                held += data
                while held:
                    taken, reply = self.answer(held)
                    if reply:
                        os.write(self.master, reply)
                    if not taken:
                        break
                    held = held[taken:]

    def send(self, data):
        while data:
            data = data[os.write(self.master, data) :]

    def close(self):
        """Pull the plug: the near end is told so. Harmless twice."""
        if self.master < 0:
            return
        os.write(self._wake[1], b"x")
        self.thread.join(5)
        for one in (self._slave, self.master, *self._wake):
            os.close(one)
        self.master = -1


class LineServer:
    """A TCP server that answers lines: `answer(line)` gives text, bytes to send as they are, or None."""

    def __init__(self):
        self.asked, self._connections, self._threads = [], [], []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._spawn(self._serve)

    def answer(self, line):
        raise NotImplementedError

    def _spawn(self, run, *arguments):
        self._threads.append(threading.Thread(target=run, args=arguments, daemon=True))
        self._threads[-1].start()

    def _serve(self):
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self._connections.append(one)
                self._spawn(self._talk, one)

    def _talk(self, one):
        with one, one.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                self.asked.append(line.decode().strip())
                answer = self.answer(self.asked[-1])
                if answer is not None:
                    one.sendall(answer if isinstance(answer, bytes) else f"{answer}\r\n".encode())

    def hang_up(self):
        for one in self._connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for one in self._threads:
            one.join(5)
