# SPDX-License-Identifier: Apache-2.0
"""Power recorded by ST's X-NUCLEO-LPM01A as MLPerf Tiny keeps it: 0xF1, sample rate (float32), then float32 mW."""

from __future__ import annotations

import struct

import numpy as np

from powersample.errors import BadFormat
from powersample.formats.parsed import BAD_CELL, Parsed, series_of
from powersample.model import Channel, Kind

MAGIC, HEADER_BYTES = 0xF1, 5
FASTEST_HZ = 200_000


def looks_like(data: bytes) -> bool:
    """Whether a file that begins so is such a record."""
    if len(data) < HEADER_BYTES + 4 or data[0] != MAGIC:
        return False
    (rate_hz,) = struct.unpack_from("<f", data, 1)
    return bool(0 < rate_hz <= FASTEST_HZ)


def parse(data: bytes, where: str) -> Parsed:
    """Return the power; sample i is at i / rate.

    Raises:
        BadFormat: another first byte, or a rate that is none.
    """
    if not looks_like(data):
        raise BadFormat(f"{where} is no LPM01A record: it must begin with 0xF1 and a sample rate in Hz")
    (rate_hz,) = struct.unpack_from("<f", data, 1)
    count = (len(data) - HEADER_BYTES) // 4
    milliwatts = np.frombuffer(data, "<f4", count, HEADER_BYTES).astype(np.float64)
    t_ns = np.rint(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)
    good = np.isfinite(milliwatts)
    status = np.where(good, 0, BAD_CELL).astype(np.uint16)
    channel = Channel(
        "board.power", "lpm01a", "wall", Kind.POWER, "W", 1e-3, raw_dtype="float64", stamp="instant", sensor="lpm01a"
    )
    notes = ("a cut last sample is left out",) if (len(data) - HEADER_BYTES) % 4 else ()
    series = series_of(channel, t_ns, np.where(good, milliwatts, 0.0), status)
    return Parsed((series,), "start", (), notes, {"tool": "LPM01A", "rate_hz": float(rate_hz)})
