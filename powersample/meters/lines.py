# SPDX-License-Identifier: Apache-2.0
"""Questions and answers of one line each over a port, in bounded time."""

from __future__ import annotations

import time

from powersample import errors
from powersample.meters.link import Link, LinkLost
from powersample.meters.transport import Port

MOST_BYTES = 1 << 20  # of one line: what is longer is none


class Lines:
    """A port that speaks in lines.

    Args:
        port: Where.
        end: What ends a line that is sent; lines that come end with LF, and CR before it is dropped.
        timeout_s: How long an answer may take.
    """

    def __init__(self, port: Port, end: str = "\r\n", timeout_s: float = 2.0) -> None:
        self._link, self._end, self.timeout_s = Link(port), end, timeout_s
        self._rest = b""
        self.name = port.name

    def open(self) -> None:
        """Open the port. Raises as `Port.open`."""
        self._rest = b""
        self._link.open()

    def write(self, text: str) -> None:
        """Send a line.

        Raises:
            LinkLost, Timeout: It cannot be sent.
        """
        self._link.write((text + self._end).encode("ascii"))

    def ask(self, text: str) -> str:
        """Send a line and return the answer; what came before is forgotten.

        Raises:
            LinkLost, Timeout, BadFormat: There is no answer, or none that is a line of text.
        """
        self._rest = b""
        self._link.discard()
        self.write(text)
        return self.line(text)

    def line(self, what: str = "") -> str:
        """Return the next line.

        Raises:
            Timeout: It does not come, or not to its end.
            LinkLost: The port is gone.
            BadFormat: It has no end, or is no text.
        """
        deadline_s = time.monotonic() + self.timeout_s
        while b"\n" not in self._rest:
            if len(self._rest) > MOST_BYTES:
                self._rest = b""
                raise errors.BadFormat(f"{self.name} sends {MOST_BYTES} bytes without the end of a line")
            chunk = self._link.read(deadline_s - time.monotonic())
            if chunk is not None:
                self._rest += chunk.data
            elif self._link.lost:
                raise LinkLost(f"{self.name}: {self._link.lost}")
            elif time.monotonic() >= deadline_s:
                cut = f" but half a line, {self._rest[:40]!r}" if self._rest else ""
                self._rest = b""
                raise errors.Timeout(f"{self.name} does not answer {what!r} within {self.timeout_s:g} s{cut}")
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            return line.rstrip(b"\r").decode("ascii")
        except UnicodeDecodeError as error:
            raise errors.BadFormat(f"{self.name} answers {line[:40]!r}, which is no text") from error

    def close(self) -> None:
        """Close the port; harmless twice."""
        self._link.close()
