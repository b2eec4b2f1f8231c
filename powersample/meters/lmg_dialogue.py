# SPDX-License-Identifier: Apache-2.0
"""Questions and answers with an LMG: bounded waits, and the way back to a known state from any other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from powersample import errors
from powersample.formats.lmg import SCPI, SHORT, Identity, Line, LineReader, Words, error_in, identity_in
from powersample.meters.link import Link, LinkLost

REPLY_S = 2.0
QUIET_S = 0.15  # without a byte: an older stream has run dry
DRAIN_S = 2.0
IDENTIFY_TRIES = 2


class Dialogue:
    """One conversation over a link; the reader's state is that of the format spoken.

    Attributes:
        until_s: Of time.monotonic: beyond it no answer is waited for, whatever is asked.
    """

    def __init__(self, link: Link, end: bytes) -> None:
        self.link = link
        self.reader = LineReader()
        self.until_s = math.inf
        self._end = end

    def say(self, words: str) -> None:
        """Send a line. Raises LinkLost, Timeout."""
        self.link.write(words.encode("ascii") + self._end)

    def lines(self, timeout_s: float) -> Iterator[Line]:
        """Yield what comes for so long."""
        deadline = min(time.monotonic() + timeout_s, self.until_s)
        while (left := deadline - time.monotonic()) > 0:
            chunk = self.link.read(left)
            if chunk is not None:
                yield from self.reader.feed(chunk.data, chunk.arrival_ns)
            elif self.link.lost:
                raise LinkLost(f"{self.link.port.name}: {self.link.lost}")

    def ask(self, words: str, accept: Callable[[Line], bool] = lambda _: True, timeout_s: float | None = None) -> Line:
        """Return the first line that `accept` takes for an answer.

        Raises:
            Timeout: None came.
            LinkLost: The port has gone.
        """
        timeout_s = REPLY_S if timeout_s is None else timeout_s
        self.say(words)
        for line in self.lines(timeout_s):
            if accept(line):
                return line
        raise errors.Timeout(
            f"{self.link.port.name}: the meter does not answer {words!r} within {timeout_s:g} s",
            "Switch it off and on, and look whether another program or a person at its panel uses it.",
        )

    def settle(self, words: str) -> None:
        """Send a setting and wait until it is done. Raises Timeout, LinkLost."""
        self.ask(f"{words};*OPC?", lambda line: line.word == "1")

    def run_dry(self) -> None:
        """Wait until nothing comes any more, and forget what came."""
        deadline = min(time.monotonic() + DRAIN_S, self.until_s)
        while time.monotonic() < deadline and self.link.read(QUIET_S) is not None:
            continue
        self.link.discard()
        self.reader.reset()

    def reset(self) -> None:
        """End whatever the meter was doing: SCPI, ASCII, nothing streaming, the error queue empty.

        A break does that by itself; where there is none (TCP servers, pseudo-terminals) the words of both languages do,
        of which one is an error to it.
        """
        self.link.port.send_break()
        self.reader.packed = False
        for words in (SHORT.off, SCPI.off, SHORT.ascii, SCPI.ascii):
            self.say(words)
        self.run_dry()
        self.say("*CLS")
        self.say("*RST")

    def identify(self, baud: int | None) -> Identity:
        """Return who is there.

        Raises:
            Timeout: Nobody, or what answers cannot be read.
        """
        before = self.reader.fed_bytes
        for _ in range(IDENTIFY_TRIES):
            self.say("*IDN?")
            for line in self.lines(REPLY_S):
                who = identity_in(line.word)
                if who is not None:
                    return who
        where, at = self.link.port.name, f" at {baud} baud" if baud else ""
        if unreadable := self.reader.fed_bytes - before:
            raise errors.Timeout(
                f"{where}: {unreadable} bytes came{at} that are no answer to *IDN?",
                "Is the meter's own baud rate that one? Name another: KIND:PORT,baud=57600.",
            )
        raise errors.Timeout(
            f"{where}: nobody answers *IDN?{at}",
            "Is the meter on, its interface RS232 with RTS/CTS at that baud rate (else name its own: baud=57600), and "
            "the cable on that port?"
            if baud
            else "Is the meter on, and its interface set to this address?",
        )

    def speak(self, words: Words) -> None:
        """Change from SCPI to another language: both spellings, of which one is an error to each model."""
        if words.name == "short":
            self.say(":SYST:LANG SHORT")
            self.say("*zlang short")
        self.settle("*CLS")

    def check_errors(self, words: Words, after: str) -> None:
        """Raise for what the meter holds against what it was told.

        Raises:
            DeviceError: The error queue is not empty.
        """
        trouble = error_in(self.ask(words.errors, lambda line: "," in line.text).text)
        if trouble is not None:
            raise errors.DeviceError(
                f"{self.link.port.name}: the meter refuses {after}: error {trouble}", "Correct the meter's options."
            )
