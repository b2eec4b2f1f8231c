# SPDX-License-Identifier: Apache-2.0
"""The byte stream of an ElmorLabs PMD-USB inline meter, recorded as it came or coming in.

18 bytes a sample: a 16-bit tick counter and, for four connectors, voltage and current as 12-bit signed values in the
upper bits of little-endian words, whose low 4 bits are 0. Scales as published (JimZeyuYang/GPU_Power_Benchmark): 7.568
mV and 48.8 mA a step, 2933.5 ticks a ms, negative readings taken as 0. The 3.3 V rail is not seen.

Commands are one byte each, some with arguments (ElmorLabs/PMDLogger and the benchmark above): 0 asks for its name, 1
for its identity, 7 switches the stream, 8 sets the line.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from powersample.errors import BadFormat
from powersample.formats.parsed import Parsed, series_of
from powersample.model import Channel, Kind

FRAME_BYTES = 18
WORDS = FRAME_BYTES // 2
VOLTS, AMPERES, TICKS_PER_MS = 7.568e-3, 48.8e-3, 2933.5
TICKS_A_TURN = 1 << 16
LOW_BITS = 0xF
SURE_FRAMES = 8  # in a row with clean low bits: in step with the stream
LEAST_CLEAN = 0.5

NAME = b"ElmorLabs PMD-USB"
ASK_NAME, ASK_IDENTITY = b"\x00", b"\x01"
MAKER_ID, IDENTITY_BYTES = b"\xee\x0a", 3  # and a version
STREAM_ON = b"\x07\x01\x02\xff"  # on, two bytes of tick, every channel
STREAM_OFF = b"\x07\x00\x00\x00"


def set_line(baud: int) -> bytes:
    """Return the command that sets the device's line to `baud`, 8N1: four words, of which 2 says "no parity"."""
    return struct.pack("<B4I", 8, baud, 2, 0, 0)


def looks_like(data: bytes) -> bool:
    """Whether the beginning of a file is such a stream."""
    frames = np.frombuffer(data[: len(data) // FRAME_BYTES * FRAME_BYTES], "<u2").reshape(-1, WORDS)[:200]
    return len(frames) >= SURE_FRAMES and bool(np.all(frames[:, 1:] & LOW_BITS == 0)) and bool(frames[:, 1].any())


class Stream:
    """Takes the stream in pieces, cut anywhere, and gives the same frames as for one.

    Bytes that are out of step are skipped until 8 frames in a row are clean.

    Attributes:
        skipped: How many bytes were.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._held = b""
        self._in_step = False

    def feed(self, data: bytes, *, last: bool = False) -> NDArray[np.uint16]:
        """Return the frames, shape (n, 9), that are complete with `data`.

        Args:
            data: What came.
            last: Nothing comes after it: fewer clean frames than 8 at its end are in step, too.
        """
        held, pieces = self._held + data, []
        while len(held) >= FRAME_BYTES:
            if not self._in_step:
                at, self._in_step = _in_step_at(held, last)
                self.skipped += at
                held = held[at:]
                if not self._in_step:
                    break
            frames = np.frombuffer(held, "<u2", len(held) // FRAME_BYTES * WORDS).reshape(-1, WORDS)
            torn = np.flatnonzero((frames[:, 1:] & LOW_BITS).any(axis=1))
            count = int(torn[0]) if len(torn) else len(frames)
            pieces.append(frames[:count])
            held = held[count * FRAME_BYTES :]
            if len(torn):
                self._in_step = False
                held, self.skipped = held[1:], self.skipped + 1
        self._held = held
        return np.concatenate(pieces) if pieces else np.empty((0, WORDS), np.uint16)

    @property
    def pending(self) -> int:
        """How many bytes are held, of a frame that is not complete or not yet sure."""
        return len(self._held)


def _in_step_at(data: bytes, last: bool) -> tuple[int, bool]:
    """Return where the first sure frame begins; without one, what can be skipped, and False."""
    clean = np.frombuffer(data, np.uint8) & LOW_BITS == 0
    places = len(data) - FRAME_BYTES + 1
    whole = np.ones(places, np.bool_)  # whether a clean frame would begin here
    for word in range(1, WORDS):
        whole &= clean[2 * word : 2 * word + places]
    sure = whole.copy()
    for frame in range(1, SURE_FRAMES):
        further = whole[frame * FRAME_BYTES :]
        sure[: len(further)] &= further
        sure[len(further) :] &= last  # of a stream that goes on, nobody knows yet
    found = np.flatnonzero(sure)
    if len(found):
        return int(found[0]), True
    # A run of clean frames that reaches the end of what there is may still become sure.
    for start in range(max(0, len(data) - SURE_FRAMES * FRAME_BYTES + 1), len(data)):
        if whole[start:places:FRAME_BYTES].all():
            return start, False
    return len(data), False


def ticks_of(frames: NDArray[np.uint16], before: int | None = None) -> NDArray[np.int64]:
    """Return how many ticks each frame is after the one before, int64; the first one's after the tick `before`."""
    ticks = frames[:, 0].astype(np.int64)
    first = ticks[:1] if before is None else np.array([before])
    return np.mod(np.diff(ticks, prepend=first), TICKS_A_TURN)


def watts_of(frames: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return the sum of the connectors' powers, W."""
    values = np.maximum(frames[:, 1:].view(np.int16) >> 4, 0).astype(np.float64)
    return np.asarray((values[:, 0::2] * VOLTS * values[:, 1::2] * AMPERES).sum(axis=1))


def parse(data: bytes, where: str) -> Parsed:
    """Return the sum of the connectors' powers.

    Bytes that are out of step are skipped until 8 frames in a row are clean; how many is told.

    Raises:
        BadFormat: less than half of the bytes are such frames.
    """
    stream = Stream()
    frames = stream.feed(data, last=True)
    if len(frames) * FRAME_BYTES < LEAST_CLEAN * len(data) or not len(frames):
        raise BadFormat(f"{where} is no PMD-USB stream: {len(frames)} clean frames in {len(data)} bytes")
    t_ns = np.rint(np.cumsum(ticks_of(frames)) * (1e6 / TICKS_PER_MS)).astype(np.int64)
    watts = watts_of(frames)
    channel = Channel(
        "pmd.power", "pmd-usb", "gpu", Kind.POWER, "W", raw_dtype="float64", stamp="instant", sensor="pmd"
    )
    notes = [f"{stream.skipped} bytes out of step are left out"] if stream.skipped else []
    if stream.pending:
        notes.append("a cut last frame is left out")
    status = np.zeros(len(watts), np.uint16)
    return Parsed((series_of(channel, t_ns, watts, status),), "start", (), tuple(notes), {"tool": "PMD-USB"})
