# SPDX-License-Identifier: Apache-2.0
"""ElmorLabs PMD-USB: the power of a card's and a board's cables, 4.8 thousand samples a second over a USB serial line.

    pmd:/dev/ttyUSB0            options: baud (921600; the line must carry 86 kB/s)

It counts ticks of its own, 341 ns each, in 16 bits: within what arrives at once, samples are placed by them; each
arrival is stamped here. What the card draws from the slot is not seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from powersample import errors
from powersample.formats.pmd import (
    ASK_IDENTITY,
    ASK_NAME,
    FRAME_BYTES,
    IDENTITY_BYTES,
    MAKER_ID,
    NAME,
    STREAM_OFF,
    STREAM_ON,
    TICKS_PER_MS,
    Stream,
    set_line,
    ticks_of,
    watts_of,
)
from powersample.meters.contract import MeterInfo, MeterReading, power_channel
from powersample.meters.link import Chunk, Link
from powersample.meters.registry import Address
from powersample.meters.streamed import Streamed
from powersample.meters.transport import SerialPort, latency_timer_ms

FIRST_BAUD = 115200  # after it was plugged in
RATE_HZ = 4780.0  # what it sends with every channel on
ANSWER_S = 0.5
SETTLE_S = 0.05  # for a command without an answer
NS_A_TICK = 1e6 / TICKS_PER_MS


def make(address: Address) -> Streamed:
    """Return the driver of a PMD-USB; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, no port, or a line too slow for the stream.
    """
    address.refuse_unknown(("baud",))
    if not address.where:
        raise errors.InvalidArgument(f"meter {address} names no port; write pmd:/dev/ttyUSB0")
    baud = int(address.number("baud", 921600))
    if baud < RATE_HZ * FRAME_BYTES * 10:
        raise errors.InvalidArgument(f"meter {address}: {baud} baud do not carry its stream", "Use baud=921600.")
    return Streamed(Pmd(address, baud))


class Pmd:
    """A `Sender`."""

    silence_s = 3.0  # 14,000 samples: no busy machine's doing

    def __init__(self, address: Address, baud: int) -> None:
        self._address, self._baud = address, baud
        self.link = Link(SerialPort(address.where, FIRST_BAUD))
        self._stream = Stream()
        self._garbage = 0  # of streams before
        self._tick: int | None = None
        self._last_ns = 0

    def connect(self) -> MeterInfo:
        """See `Sender`: greets it at the rate that it has after plugging in, or at the one that it was left at."""
        greeted = self._greet(FIRST_BAUD)
        if greeted:
            self._say(set_line(self._baud))
        if not self._greet(self._baud):
            at = f"{FIRST_BAUD} and {self._baud} baud" if not greeted else f"{self._baud} baud, but at {FIRST_BAUD}"
            raise errors.DeviceError(
                f"{self._address.where}: no PMD-USB answers at {at}", "Is it another device? Plug it in anew."
            )
        self.link.write(ASK_IDENTITY)
        identity = self._answer(IDENTITY_BYTES)
        if not identity.startswith(MAKER_ID):
            raise errors.DeviceError(f"{self._address.where}: a PMD-USB of unknown identity {identity.hex() or 'none'}")
        notes = ["the power through its cables: what a card draws from the slot is not in it"]
        timer_ms = latency_timer_ms(self._address.where)
        if timer_ms is not None and timer_ms > 1:
            notes.append(f"the USB adapter holds bytes back for up to {timer_ms} ms: write 1 to its latency_timer")
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker="ElmorLabs",
            model="PMD-USB",
            serial="",
            firmware=str(identity[IDENTITY_BYTES - 1]),
            channels=(power_channel(self._address.name, "pmd", span="none", domain="gpu"),),
            cycle_s=math.nan,
            latency_s=FRAME_BYTES * 10 / self._baud,
            latency_class="below 50 ms: the line, and the adapter's timer",
            latency_max_s=0.05,
            accuracy=None,
            simulated=self._address.simulated,
            settings={"baud": self._baud, "ticks_per_ms": TICKS_PER_MS, "rate_hz": RATE_HZ},
            notes=tuple(notes),
        )

    def begin(self) -> None:
        """See `Sender`."""
        self._garbage += self._stream.skipped
        self._stream, self._tick = Stream(), None
        self.link.discard()
        self.link.write(STREAM_ON)

    def take(self, chunk: Chunk) -> MeterReading | None:
        """See `Sender`: the last sample of a piece arrived with it, those before by their ticks earlier."""
        frames = self._stream.feed(chunk.data)
        if not len(frames):
            return None
        steps = ticks_of(frames, self._tick)
        self._tick = int(frames[-1, 0])
        after_ns = (steps[::-1].cumsum()[::-1] - steps) * NS_A_TICK  # from each sample to the last one
        arrival_ns = chunk.arrival_ns - np.rint(after_ns).astype(np.int64)
        arrival_ns = np.maximum(arrival_ns, self._last_ns + 1 + np.arange(len(frames)))  # stamps rise
        self._last_ns = int(arrival_ns[-1])
        count = len(frames)
        return MeterReading(arrival_ns, np.full(count, math.nan), watts_of(frames), np.zeros(count, np.uint16))

    def end(self) -> None:
        """See `Sender`: quiet, and at the rate that other programs expect."""
        self._say(STREAM_OFF)
        self._say(set_line(FIRST_BAUD))

    def counts(self) -> Mapping[str, int]:
        """See `Sender`."""
        return {"garbage_bytes": self._garbage + self._stream.skipped}

    def _greet(self, baud: int) -> bool:
        self.link.close()
        self.link.port = SerialPort(self._address.where, baud)
        self.link.open()
        self._say(STREAM_OFF)  # it may still be sending
        self.link.discard()
        self.link.write(ASK_NAME)
        return self._answer(len(NAME)) == NAME

    def _say(self, command: bytes) -> None:
        self.link.write(command)
        time.sleep(SETTLE_S)

    def _answer(self, count: int) -> bytes:
        """Return the next `count` bytes, or as many as come in time."""
        found, deadline_s = b"", time.monotonic() + ANSWER_S
        while len(found) < count and (left_s := deadline_s - time.monotonic()) > 0:
            chunk = self.link.read(left_s)
            if chunk is None:
                break
            found += chunk.data
        return found[:count]
