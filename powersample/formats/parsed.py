# SPDX-License-Identifier: Apache-2.0
"""What every parser of time series returns, and how bad cells and stamps are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import BadFormat
from powersample.model import Channel, Series, duration

BAD_CELL = 60010  # status: a cell that holds no number
BACKWARDS = 60011  # status: a stamp that does not come after the one before it
HOUR_NS = 3600 * 10**9
HOUR_SLACK_NS = 5 * 10**9  # beside an hour and the usual step: what a slow sample may come late by
NO_NUMBER = 60020  # status: a meter said that it has no number
OVER_RANGE = 60021  # status: a meter said that its range is too small
STATUS_TEXT = {
    BAD_CELL: "no number",
    BACKWARDS: "stamp not after the one before",
    NO_NUMBER: "the meter has no number",
    OVER_RANGE: "beyond the range of the meter",
}


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


def continuous(t_ns: NDArray[np.int64], *, back_only: bool = False) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return stamps that keep the zone of the first, and a note for each time that the clock left it.

    A clock without a zone repeats an hour when daylight saving ends, and leaves one out when it begins. Only a step of
    an hour, beside the usual one, is taken for that.

    Args:
        t_ns: shape (n,), of one device's readings in the order of the log.
        back_only: leave a clock that went on by an hour alone: nobody may have logged for so long.
    """
    steps = np.diff(t_ns)
    usual_ns = int(np.median(steps[steps > 0])) if (steps > 0).any() else 0
    notes = []
    moved = np.zeros(len(t_ns), np.int64)
    for sign in (-1,) if back_only else (-1, 1):
        beside_ns = steps - sign * HOUR_NS
        for at in np.flatnonzero((beside_ns > -HOUR_SLACK_NS) & (beside_ns < usual_ns + HOUR_SLACK_NS)):
            moved[at + 1 :] -= sign * HOUR_NS
            did = "on by an hour: daylight saving began" if sign > 0 else "back by an hour: daylight saving ended"
            notes.append((int(at), f"after {_moment(t_ns[at])} the log's clock went {did}; stamps keep the first zone"))
    return t_ns + moved, tuple(note for _, note in sorted(notes))


def went_back(t_ns: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a note for each time that stamps fell back behind others, and how many readings that costs."""
    reached_ns = np.maximum.accumulate(t_ns)
    behind = np.append(False, t_ns[1:] <= reached_ns[:-1])
    begins = np.flatnonzero(behind & ~np.append(False, behind[:-1]))
    ends = [*np.flatnonzero(~behind & np.append(False, behind[:-1])), len(t_ns)]
    notes = []
    for first in begins:
        count = int(min(end for end in ends if end > first) - first)
        by_s = (int(reached_ns[first]) - int(t_ns[first])) / 1e9
        if by_s > 0:  # a stamp that repeats itself is no step of a clock
            notes.append(
                f"after {_moment(reached_ns[first])} the log's clock went back by {duration(by_s, 4)}: {count} "
                "readings until it had caught up are left out"
            )
    return tuple(notes)


def _moment(t_ns: np.int64) -> datetime:
    return datetime(1970, 1, 1) + timedelta(seconds=int(t_ns) // 10**9)


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
