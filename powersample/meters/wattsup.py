# SPDX-License-Identifier: Apache-2.0
"""Watts Up? Pro and .Net over USB serial: one reading a second, tenths of a watt.

wattsup:/dev/ttyUSB0        no options
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from powersample import errors
from powersample.formats.wattsup import (
    ASK_FIELDS,
    ASK_VERSION,
    DEFAULT_FIELDS,
    FULL_HANDLING,
    STOP,
    Packet,
    Packets,
    start,
    watts,
)
from powersample.meters.contract import NO_NUMBER, MeterInfo, MeterReading, power_channel
from powersample.meters.link import Chunk, Link
from powersample.meters.registry import Address
from powersample.meters.streamed import Streamed
from powersample.meters.transport import SerialPort
from powersample.model import Accuracy

BAUD = 115200
ANSWER_S = 1.0
INTERVAL_S = 1
ACCURACY = Accuracy(1.5, floor_w=0.3, origin="maker's claim: 1.5 % and three counts of 0.1 W; worse below 60 W")


def make(address: Address) -> Streamed:
    """Return the driver of a Watts Up?; nothing is opened.

    Raises:
        InvalidArgument: An option, of which it has none, or no port.
    """
    address.refuse_unknown(())
    if not address.where:
        raise errors.InvalidArgument(f"meter {address} names no port; write wattsup:/dev/ttyUSB0")
    return Streamed(WattsUp(address))


class WattsUp:
    """A `Sender`."""

    silence_s = 5.0

    def __init__(self, address: Address) -> None:
        self._address = address
        self.link = Link(SerialPort(address.where, BAUD))
        self._packets = Packets()
        self._lost: Mapping[str, int] = {}  # of connections before
        self._fields: tuple[str, ...] = DEFAULT_FIELDS

    def connect(self) -> MeterInfo:
        """See `Sender`."""
        self.link.close()
        self.link.open()
        self._lost = self.counts()
        self._packets = Packets()
        self.link.write(STOP)
        version = self._ask(ASK_VERSION, "v")
        named = self._ask(ASK_FIELDS, "h")
        if version is None and named is None:
            raise errors.Timeout(
                f"{self._address.where}: no Watts Up? answers within {ANSWER_S:g} s", "Is it another device, or off?"
            )
        if named is not None:
            self._fields = named.values
        if "W" not in self._fields:
            raise errors.NotSupported(f"{self._address.where}: the Watts Up? gives {', '.join(self._fields)}, no W")
        told = version.values if version is not None else ()
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker="Electronic Educational Devices",
            model=f"Watts Up? {told[0]}" if told else "Watts Up?",
            serial="",
            firmware=".".join(told[3:5]),
            channels=(power_channel(self._address.name, "wattsup.W", span="none"),),
            cycle_s=math.nan,
            latency_class="up to 1 s old",
            latency_max_s=2.0,
            accuracy=ACCURACY,
            simulated=self._address.simulated,
            settings={"interval_s": INTERVAL_S, "fields": list(self._fields)},
            notes=("what one reading averages is not declared: readings are taken for instants",),
        )

    def begin(self) -> None:
        """See `Sender`."""
        self.link.write(FULL_HANDLING)
        self.link.write(start(INTERVAL_S))

    def take(self, chunk: Chunk) -> MeterReading | None:
        """See `Sender`."""
        found = np.array([watts(one, self._fields) for one in self._packets.feed(chunk.data) if one.letter == "d"])
        if not len(found):
            return None
        arrival_ns = chunk.arrival_ns + np.arange(len(found), dtype=np.int64)
        flags = np.where(np.isnan(found), NO_NUMBER, 0).astype(np.uint16)
        return MeterReading(arrival_ns, np.full(len(found), math.nan), found, flags)

    def end(self) -> None:
        """See `Sender`."""
        self.link.write(STOP)

    def counts(self) -> Mapping[str, int]:
        """See `Sender`."""
        now = {"garbage_bytes": self._packets.garbage_bytes, "bad_packets": self._packets.bad_packets}
        return {name: count + self._lost.get(name, 0) for name, count in now.items()}

    def _ask(self, question: bytes, letter: str) -> Packet | None:
        """Return the answer with this letter; None when none comes. Readings that are under way are passed over."""
        self.link.write(question)
        deadline_s = time.monotonic() + ANSWER_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            chunk = self.link.read(left_s)
            if chunk is None:
                break
            for one in self._packets.feed(chunk.data):
                if one.letter == letter:
                    return one
        return None
