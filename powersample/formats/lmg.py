# SPDX-License-Identifier: Apache-2.0
"""What a ZES ZIMMER LMG says on its line: replies and streams, ASCII and packed, cut and spoilt as they come.

A line ends in LF, or CR LF. In ASCII its items are separated by `;`, and a string in quotes may hold separators and
line ends. Packed, it is one or several blocks `#`, number of digits, number of bytes, bytes: little-endian float32, or
int32 for counters on some firmware; even a reply such as `*OPC?`'s comes so (`#5000011`).

Command words and shapes of replies: public drivers (lmgd, PowerTracer, PMLib, lmgtools). Pure: bytes in, lines out.
"""

from __future__ import annotations

import math
import re
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

LINE_LIMIT = 4096  # no line is longer: what is, is garbage
QUOTE_LIMIT = 512  # nor any string in it
BLOCK_LIMIT = 1024
NOT_A_NUMBER = 9.91e37
INFINITE = 9.9e37  # both are sent as readings; float32 moves them by 1e-7
NEAR = 1e-5
MOST_COUNT = 1 << 24  # whole numbers beyond are none any more in float32
BREAKS = re.compile(rb"[\n\"]")
BEGINS = re.compile(rb"[#;\r\n]")
ITEMS = re.compile(r'(?:"[^"]*"|[^;"])+|(?<=;)(?=;|$)')


class Verdict(Enum):
    """What the beginning of some bytes is."""

    VALID = "valid"
    INVALID = "invalid"
    MORE = "need more"


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        text: Without its end; "" where it is packed.
        payload: The bytes of its blocks, one after the other; None where it is text.
        arrival_ns: When the last of its bytes was here.
    """

    text: str = ""
    payload: bytes | None = None
    arrival_ns: int = 0

    @property
    def items(self) -> tuple[str, ...]:
        """The text's items; those in quotes keep them."""
        return tuple(item.strip() for item in ITEMS.findall(self.text))

    def values(self, types: str) -> tuple[float, ...] | None:
        """Return the numbers, or None where they are not as many as expected, or none.

        Args:
            types: "f" or "i" an item: what a packed one is.
        """
        if self.payload is not None:
            if len(self.payload) != 4 * len(types):
                return None
            return tuple(float(value) for value in struct.unpack(f"<{types}", self.payload))
        items = self.items
        if len(items) != len(types):
            return None
        try:
            return tuple(float(item) for item in items)
        except ValueError:
            return None

    @property
    def word(self) -> str:
        """The line as a reply to one question: its text, or what its blocks hold as text."""
        return self.text.strip() if self.payload is None else self.payload.decode("latin-1").strip()


def is_infinite(value: float) -> bool:
    """Whether a number stands for "out of range"."""
    return abs(value) > INFINITE * (1 - NEAR) and not is_no_number(value)


def is_no_number(value: float) -> bool:
    """Whether a number stands for "not a number", or is none."""
    return math.isnan(value) or abs(value - NOT_A_NUMBER) < NEAR * NOT_A_NUMBER


Taken = tuple[Verdict, int, Line | None]


def take_line(data: bytes | bytearray, *, packed: bool) -> Taken:
    """Look at the beginning of what has come.

    Whether more is needed never hangs on where the bytes were cut, so a stream gives the same lines however it is.

    Args:
        data: The bytes.
        packed: Whether a packed line is expected: then what is none is garbage up to the next `#`.

    Returns:
        VALID, the bytes it takes, and the line; INVALID, the bytes to leave out, and None; MORE, 0, and None.
    """
    if not data:
        return Verdict.MORE, 0, None
    if data[0] in b"\r\n;":  # an empty line, or the rest of one
        return Verdict.VALID, 1, None
    if data[0:1] == b"#":
        verdict, used, line = _take_blocks(data)
        if verdict is not Verdict.INVALID or packed:
            return verdict, used, line
    elif packed:
        found = BEGINS.search(data)
        return Verdict.INVALID, found.start() if found else len(data), None
    return _take_text(data)


def _take_blocks(data: bytes | bytearray) -> Taken:
    pieces, at = [], 0
    while True:
        verdict, start, end = _take_head(data, at)
        if verdict is Verdict.VALID and len(data) <= end:
            verdict = Verdict.MORE
        if verdict is Verdict.VALID:
            pieces.append(bytes(data[start:end]))
            rest = bytes(data[end : end + 2])
            for line_end in (b"\n", b"\r\n"):
                if rest.startswith(line_end):
                    return Verdict.VALID, end + len(line_end), Line(payload=b"".join(pieces))
            if rest.startswith((b"#", b";#")):
                at = end + rest.index(b"#")
                continue
            verdict = Verdict.MORE if rest in (b"\r", b";") else Verdict.INVALID
        # The next `#` may be inside what looked like a block: look again from there.
        return verdict, 1 if verdict is Verdict.INVALID else 0, None


def _take_head(data: bytes | bytearray, at: int) -> tuple[Verdict, int, int]:
    """Return where a block's bytes begin and end."""
    head = bytes(data[at + 1 : at + 2])
    if not head:
        return Verdict.MORE, 0, 0
    if head not in b"123456789":
        return Verdict.INVALID, 0, 0
    size = bytes(data[at + 2 : at + 2 + int(head)])
    if size and not size.isdigit():
        return Verdict.INVALID, 0, 0
    if len(size) < int(head):
        return Verdict.MORE, 0, 0
    start = at + 2 + int(head)
    end = start + int(size)
    wrong = int(size) > BLOCK_LIMIT or end > LINE_LIMIT
    return (Verdict.INVALID if wrong else Verdict.VALID), start, end


def _take_text(data: bytes | bytearray) -> Taken:
    at = 0
    while (found := BREAKS.search(data, at, LINE_LIMIT)) is not None:
        at = found.end()
        if found[0] == b"\n":
            return Verdict.VALID, at, Line(text=bytes(data[: at - 1]).decode("latin-1").rstrip("\r"))
        end = data.find(b'"', at, at + QUOTE_LIMIT)
        if end < 0:
            if len(data) < at + QUOTE_LIMIT:
                return Verdict.MORE, 0, None
            return Verdict.INVALID, at, None  # a stray quote
        at = end + 1
    return (Verdict.INVALID, LINE_LIMIT, None) if len(data) >= LINE_LIMIT else (Verdict.MORE, 0, None)


class LineReader:
    """Gathers bytes into lines; each is stamped by the piece that brought its last byte.

    Attributes:
        packed: What is expected, see `take_line`; may be changed at any time.
        fed_bytes: What has come, in all.
        garbage_bytes: What of it was left out.
    """

    def __init__(self, *, packed: bool = False) -> None:
        self.packed = packed
        self.fed_bytes = self.garbage_bytes = 0
        self._held = bytearray()
        self._stamps: deque[tuple[int, int]] = deque()  # (end of a piece in bytes since the beginning, arrival)
        self._begun = 0  # bytes since the beginning up to what is held

    def feed(self, data: bytes, arrival_ns: int = 0) -> Iterator[Line]:
        """Take the next bytes, cut wherever they may be, and yield the lines that are whole now."""
        self.fed_bytes += len(data)
        if data:
            self._held += data
            self._stamps.append((self._begun + len(self._held), arrival_ns))
        while True:
            verdict, used, line = take_line(self._held, packed=self.packed)
            if verdict is Verdict.MORE:
                return
            del self._held[:used]
            self._begun += used
            if verdict is Verdict.INVALID:
                self.garbage_bytes += used
            while self._stamps and self._stamps[0][0] < self._begun:
                self._stamps.popleft()
            if line is not None:
                yield Line(line.text, line.payload, self._stamps[0][1])

    def reset(self) -> None:
        """Forget what is held: the line was cut."""
        self._begun += len(self._held)
        self._held.clear()
        self._stamps.clear()


# ---- words --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """A command language: how each thing is said in it. `{}` takes a number."""

    name: str
    cycle: str
    ranges: tuple[str, ...]  # of volts, then of amperes; {u} and {i}, {n} a channel
    per_channel: bool
    trigger: str
    list_words: str
    power: str
    count: str | None
    cycle_length: str | None
    ascii: str
    packed: str
    on: str
    off: str
    errors: str


SHORT = Words(
    name="short",
    cycle="CYCL {}",
    ranges=("UAM MANUAL;URNG {u}", "IAM MANUAL;IRNG {i}"),
    per_channel=False,
    trigger="INIM",
    list_words="ACTN",
    power="P{}?",
    count="COUNT?",
    cycle_length="CYCR?",
    ascii="FRMT ASCII",
    packed="FRMT PACKED",
    on="CONT ON",
    off="CONT OFF",
    errors="ERRALL?",
)
SHORT_600 = replace(SHORT, ranges=("UAUTO{n} 0;URNG{n} {u}", "IAUTO{n} 0;IRNG{n} {i}"), per_channel=True)
SCPI = Words(
    name="scpi",
    cycle=":SENS:SWE:TIME {}",
    ranges=(":SENS:VOLT:RANG:AUTO{n} 0;:SENS:VOLT:RANG{n} {u}", ":SENS:CURR:RANG:AUTO{n} 0;:SENS:CURR:RANG{n} {i}"),
    per_channel=True,
    trigger=":INIT:IMM",
    list_words=":TRIG:ACT",
    power=":FETC:POW:ACT{}?",
    count=None,
    cycle_length=None,
    ascii=":FORM:DATA 0",
    packed=":FORM:DATA 1",
    on=":INIT:CONT ON",
    off=":INIT:CONT OFF",
    errors=":SYST:ERR:ALL?",
)


def error_in(reply: str) -> str | None:
    """Return the first error that a reply to the error queue's question tells; None for `0,"No error"`."""
    found = re.match(r'\s*([+-]?\d+)\s*,\s*"([^"]*)"', reply)
    if found is None:
        return f"unreadable: {reply[:80]!r}"
    return None if int(found[1]) == 0 else f"{found[1]}, {found[2]}"


@dataclass(frozen=True, slots=True)
class Identity:
    """What `*IDN?` answers."""

    maker: str
    model: str
    serial: str
    firmware: str


def identity_in(reply: str) -> Identity | None:
    """Return who answers; None where it is no such answer."""
    fields = [one.strip().strip('"') for one in reply.split(",")]
    if len(fields) != 4 or not fields[1] or not all(one.isprintable() for one in fields):
        return None
    return Identity(*fields)


def line_bytes(values: int, *, packed: bool) -> int:
    """Return how long a line of so many values is: packed exact for one block, ASCII 12 bytes a value."""
    return 4 * values + len("#500000") + 1 if packed else 12 * values


def count_type(payload: bytes) -> str:
    """Return "i" or "f": what the counter is that a packed line begins with; "" where this one cannot tell.

    No two readings are mistaken for each other: every whole number below a thousand million is, as the bits of a
    float32, between 0 and 1, where no count is but 0, which is the same in both.
    """
    (real,) = struct.unpack("<f", payload[:4])
    if 0 < real < 1:
        return "i"
    return "f" if 1 <= real < MOST_COUNT and real == int(real) else ""


def pack(blocks: Sequence[bytes]) -> bytes:
    """Return a packed line of these blocks."""
    return b"".join(b"#5%05d" % len(one) + one for one in blocks) + b"\n"
