# SPDX-License-Identifier: Apache-2.0
"""The newest readings of everything that is read, in memory: so many seconds of them, for as long as it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.model import Channel, LaneStats, Trace
from powersample.store.spool import series_of

LOST_NS = 2_000_000_000  # a lane that is so much behind the others is not waited for


class Tail:
    """What came last of every channel.

    Args:
        seconds: that are kept; what is older goes piece by piece, as it came.
    """

    def __init__(self, seconds: float) -> None:
        self._keep_ns = round(seconds * 1e9)
        self._channels: dict[str, Channel] = {}
        self._pieces: dict[str, deque[NDArray[np.void]]] = {}

    def add(self, pieces: Iterable[tuple[Channel, NDArray[np.void]]]) -> None:
        """Take the newest records, as rings and spools have them, in order within a channel; at least one each."""
        for channel, records in pieces:
            mine = self._pieces.setdefault(channel.name, deque())
            self._channels[channel.name] = channel
            mine.append(records)
            oldest_ns = int(records["t1_ns"][-1]) - self._keep_ns
            while int(mine[0]["t1_ns"][-1]) < oldest_ns:
                mine.popleft()

    @property
    def end_ns(self) -> int | None:
        """Up to where every lane that reads on has read; None before the first record."""
        ends: dict[str, int] = {}
        for name, mine in self._pieces.items():
            lane = self._channels[name].lane  # of its channels some are read seldom
            ends[lane] = max(ends.get(lane, 0), int(mine[-1]["t1_ns"][-1]))
        newest = max(ends.values(), default=0)
        return min((one for one in ends.values() if one >= newest - LOST_NS), default=None)

    def trace(self, lanes: Sequence[LaneStats], meta: Mapping[str, Any]) -> Trace:
        """Return a trace of what is kept."""
        return Trace.of(
            (series_of(self._channels[name], np.concatenate(mine)) for name, mine in self._pieces.items()),
            lanes=lanes,
            meta=meta,
        )
