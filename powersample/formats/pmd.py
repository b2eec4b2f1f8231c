# SPDX-License-Identifier: Apache-2.0
"""The byte stream of an ElmorLabs PMD-USB inline meter, recorded as it came.

18 bytes a sample: a 16-bit tick counter and, for four connectors, voltage and current as 12-bit signed values in the
upper bits of little-endian words, whose low 4 bits are 0. Scales as published (JimZeyuYang/GPU_Power_Benchmark): 7.568
mV and 48.8 mA a step, 2933.5 ticks a ms, negative readings taken as 0. The 3.3 V rail is not seen.
"""

from __future__ import annotations

import numpy as np

from powersample.errors import BadFormat
from powersample.formats.parsed import Parsed, series_of
from powersample.model import Channel, Kind

FRAME_BYTES = 18
VOLTS, AMPERES, TICKS_PER_MS = 7.568e-3, 48.8e-3, 2933.5
LOW_BITS = 0xF
SURE_FRAMES = 8  # in a row with clean low bits: in step with the stream
LEAST_CLEAN = 0.5


def looks_like(data: bytes) -> bool:
    """Whether the beginning of a file is such a stream."""
    frames = np.frombuffer(data[: len(data) // FRAME_BYTES * FRAME_BYTES], "<u2").reshape(-1, 9)[:200]
    return len(frames) >= SURE_FRAMES and bool(np.all(frames[:, 1:] & LOW_BITS == 0)) and bool(frames[:, 1].any())


def parse(data: bytes, where: str) -> Parsed:
    """Return the sum of the connectors' powers.

    Bytes that are out of step are skipped until 8 frames in a row are clean; how many is told.

    Raises:
        BadFormat: less than half of the bytes are such frames.
    """
    pieces, at, skipped = [], 0, 0
    while len(data) - at >= FRAME_BYTES:
        frames = np.frombuffer(data, "<u2", (len(data) - at) // FRAME_BYTES * 9, at).reshape(-1, 9)
        torn = np.flatnonzero((frames[:, 1:] & LOW_BITS).any(axis=1))
        count = int(torn[0]) if len(torn) else len(frames)
        if count >= min(SURE_FRAMES, len(frames)) and count:
            pieces.append(frames[:count])
            at += count * FRAME_BYTES
        else:
            at, skipped = at + 1, skipped + 1
    frames = np.concatenate(pieces) if pieces else np.empty((0, 9), np.uint16)
    if len(frames) * FRAME_BYTES < LEAST_CLEAN * len(data) or not len(frames):
        raise BadFormat(f"{where} is no PMD-USB stream: {len(frames)} clean frames in {len(data)} bytes")
    ticks = frames[:, 0].astype(np.int64)
    step = np.mod(np.diff(ticks, prepend=ticks[:1]), 65536)
    t_ns = np.rint(np.cumsum(step) * (1e6 / TICKS_PER_MS)).astype(np.int64)
    values = np.maximum(frames[:, 1:].view(np.int16) >> 4, 0).astype(np.float64)
    watts = (values[:, 0::2] * VOLTS * values[:, 1::2] * AMPERES).sum(axis=1)
    channel = Channel(
        "pmd.power", "pmd-usb", "gpu", Kind.POWER, "W", raw_dtype="float64", stamp="instant", sensor="pmd"
    )
    notes = [f"{skipped} bytes out of step are left out"] if skipped else []
    if (len(data) - skipped) % FRAME_BYTES:
        notes.append("a cut last frame is left out")
    status = np.zeros(len(watts), np.uint16)
    return Parsed((series_of(channel, t_ns, watts, status),), "start", (), tuple(notes), {"tool": "PMD-USB"})
