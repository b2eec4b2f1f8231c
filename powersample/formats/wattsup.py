# SPDX-License-Identifier: Apache-2.0
"""Packets of the Watts Up? Pro and .Net: `#`, a letter, a second one or `-`, a count, that many values, `;`.

#h,-,18,W,V,A,...;      the names of the values
#d,-,18,1191,1203,97,...;   tenths of a W and of a V, mA ...; `_` where there is none
#L,W,3,E,,1;            to it: send one packet a second
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_BYTES = 512  # of a packet: what is longer is none
DEFAULT_FIELDS = ("W", "V", "A")
TENTHS = 0.1

ASK_VERSION, ASK_FIELDS = b"#V,R,0;", b"#H,R,0;"
FULL_HANDLING = b"#O,W,1,3;"  # when its memory is full: go on, overwrite
STOP = b"#L,R,0;"


def start(interval_s: int = 1) -> bytes:
    """Return the command that makes it send."""
    return f"#L,W,3,E,,{interval_s};".encode()


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its letter, and its values as they stand in it."""

    letter: str
    values: tuple[str, ...]


class Packets:
    """Takes bytes in pieces, cut anywhere, and gives packets.

    Attributes:
        garbage_bytes: What belonged to none.
        bad_packets: Packets whose count does not fit, or that are no text.
    """

    def __init__(self) -> None:
        self.garbage_bytes = self.bad_packets = 0
        self._held = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that are complete with `data`."""
        held, found = self._held + data, []
        while True:
            begin = held.find(b"#")
            if begin < 0:
                self._skip(held)
                held = b""
                break
            self._skip(held[:begin])
            held = held[begin:]
            end = held.find(b";")
            again = held.find(b"#", 1)
            if again > 0 and (end < 0 or again < end):  # its end was lost
                self.bad_packets += 1
                held = held[again:]
                continue
            if end < 0:
                if len(held) > MOST_BYTES:
                    self.bad_packets += 1
                    held = b""
                break
            packet = _packet(held[1:end])
            if packet is None:
                self.bad_packets += 1
            else:
                found.append(packet)
            held = held[end + 1 :]
        self._held = held
        return found

    def _skip(self, data: bytes) -> None:
        self.garbage_bytes += len(data.strip(b"\r\n\0 "))


def _packet(body: bytes) -> Packet | None:
    """Return what stands between # and ;, or None when it is no packet."""
    try:
        cells = [cell.strip() for cell in body.decode("ascii").split(",")]
        if len(cells) < 3 or len(cells[0]) != 1 or len(cells) - 3 != int(cells[2]):
            return None
    except ValueError:  # a UnicodeDecodeError is one
        return None
    return Packet(cells[0], tuple(cells[3:]))


def watts(packet: Packet, fields: Sequence[str] = DEFAULT_FIELDS) -> float:
    """Return a data packet's watts; NaN where there are none."""
    try:
        return int(packet.values[list(fields).index("W")]) * TENTHS
    except (ValueError, IndexError):  # `_`, no such field, or fewer values than names
        return math.nan
