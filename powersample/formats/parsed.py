# SPDX-License-Identifier: Apache-2.0
"""What every parser of time series returns, and how bad cells and stamps are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import BadFormat
from powersample.model import Channel, Series

BAD_CELL = 60010  # status: a cell that holds no number
BACKWARDS = 60011  # status: a stamp that does not come after the one before it
STATUS_TEXT = {BAD_CELL: "no number", BACKWARDS: "stamp not after the one before"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed log.

    Attributes:
        series: one a channel.
        clock: what stamps count: "utc" (ns since 1970), "local" (the same, of a clock without a zone), "start" (ns
            since the record began).
        windows: name, start and end on that clock, where the log marks any.
        notes: what a reader should know of it.
        meta: what the log tells of devices and tools.
    """

    series: tuple[Series, ...]
    clock: str
    windows: tuple[tuple[str, int, int], ...] = ()
    notes: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


def series_of(channel: Channel, t_ns: NDArray[np.int64], raw: NDArray[Any], status: NDArray[np.uint16]) -> Series:
    """Return readings whose stamps rise: one that does not is kept, marked, at the stamp that it falls back behind."""
    reached_ns = np.maximum.accumulate(t_ns) if len(t_ns) else t_ns
    back = np.zeros(len(t_ns), np.bool_)
    back[1:] = t_ns[1:] <= reached_ns[:-1]
    status = np.where(back & (status == 0), BACKWARDS, status).astype(np.uint16)
    return Series(channel, reached_ns, reached_ns, raw, status, np.arange(len(t_ns), dtype=np.uint32))


def counted(notes: Mapping[str, int]) -> tuple[str, ...]:
    """Return "3 lines ..." for every note that was met."""
    return tuple(f"{count} {what}" for what, count in notes.items() if count)


def as_text(data: bytes, where: str) -> str:
    """Return a log's text.

    Raises:
        BadFormat: it is no text.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFormat(f"{where} is no text file: {error}") from error


def moment_ns(text: str) -> int:
    """Return an ISO 8601 time as ns; without a zone as if it were UTC.

    Raises:
        ValueError: it is none.
    """
    when = datetime.fromisoformat(text.strip())
    naive = when.replace(tzinfo=None) - (when.utcoffset() or (when - when))
    since = naive - datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
