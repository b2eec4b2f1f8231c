# SPDX-License-Identifier: Apache-2.0
"""Lanes whose records are taken as they come and kept nowhere, at bounded memory for as long as they run.

The same lanes as a recording's, without its spool: for who watches a node instead of measuring a program.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from powersample._native.api import Sampler
from powersample.capture.plan import Inventory, Plan
from powersample.capture.recorder import add_lanes
from powersample.capture.streamed import Piped, Share, divide
from powersample.model import SAMPLE_DTYPE, Channel, LaneStats
from powersample.store.spool import channel_of
from powersample.store.stream import SamplerStream

BATCH_RECORDS = 4096
HELD_BYTES = 8 << 20  # of a sampler's records that nobody has taken yet: then the oldest are dropped and counted


@dataclass(frozen=True, slots=True)
class Piece:
    """A channel's newest records, `SAMPLE_DTYPE`, in order."""

    channel: Channel
    records: NDArray[np.void]


class Lanes(Protocol):
    """Lanes that run, and what they have read since it was asked for last."""

    def start(self) -> None:
        """Return once every lane runs."""

    def take(self) -> list[Piece]:
        """Return the records since the last call, without waiting for a device."""

    def channels(self) -> tuple[Channel, ...]:
        """Return the channels that are read."""

    def stats(self) -> list[LaneStats]:
        """Return the lanes' statistics; those of the executable are up to ten seconds old."""

    def failure(self) -> str | None:
        """Return what ended lanes early, or None."""

    def stop(self) -> None:
        """Stop the lanes; harmless when repeated."""


class OwnLanes:
    """Lanes as threads of this process."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._sampler: Sampler | None = None
        self._channels: dict[int, Channel] = {}
        self._buffer = np.empty(BATCH_RECORDS, SAMPLE_DTYPE)
        self._lock = threading.Lock()  # `stats` from any thread, against `stop`
        self._last: list[LaneStats] = []

    def start(self) -> None:
        """Add one lane a GPU, a CPU package and a chip, and start all."""
        sampler = Sampler()
        try:
            add_lanes(sampler, self._share.plan, self._share.inventory)
            sampler.start()
        except BaseException:
            sampler.close()
            raise
        self._sampler = sampler
        names = [lane.name for lane in self.stats()]
        self._channels = {
            int(one["id"]): channel_of(one | {"modulus": one["modulus"] or None}, names) for one in sampler.channels()
        }

    def take(self) -> list[Piece]:
        """Drain the rings."""
        sampler = self._sampler
        if sampler is None:
            return []
        taken: dict[int, list[NDArray[np.void]]] = {}
        for lane in range(sampler.lanes):
            count = len(self._buffer)
            while count == len(self._buffer):
                count = sampler.drain(lane, self._buffer)
                _sort(self._buffer[:count], taken)
        return _pieces(taken, self._channels)

    def channels(self) -> tuple[Channel, ...]:
        """Return the channels that are read."""
        return tuple(self._channels.values())

    def stats(self) -> list[LaneStats]:
        """Return the lanes' statistics; the last ones once they are stopped."""
        with self._lock:
            if self._sampler is not None:
                every = map(self._sampler.stats, range(self._sampler.lanes))
                self._last = [LaneStats.from_json(one) for one in every]
            return self._last

    def failure(self) -> str | None:
        """Return None: a lane that hangs shows by its readings, which end."""
        return None

    def stop(self) -> None:
        """Stop the lanes; one that hangs in a device call is left behind."""
        if self._sampler is None:
            return
        self._sampler.stop()
        self.stats()
        with self._lock:
            self._sampler.close()
            self._sampler = None


class LiveStream(SamplerStream):
    """A sampler's records, held until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._torn = b""
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Lock()  # the reader's thread, and who takes
        self.channels: dict[int, Channel] = {}
        self.lanes: list[LaneStats] = []
        self.forgotten = 0  # records that nobody took in time

    def _begin_part(self, line: bytes, header: dict[str, Any]) -> None:
        lanes = [one if isinstance(one, str) else one["name"] for one in header.get("lanes", ())]
        self.channels = {int(one["id"]): channel_of(one, lanes) for one in header["channels"]}

    def _write_records(self, piece: bytes) -> None:
        data = self._torn + piece
        whole = len(data) - len(data) % SAMPLE_DTYPE.itemsize
        self._torn = data[whole:]
        with self._lock:
            self._waiting.append(data[:whole])
            self._waiting_bytes += whole
            while self._waiting_bytes > HELD_BYTES:
                oldest = self._waiting.popleft()
                self._waiting_bytes -= len(oldest)
                self.forgotten += len(oldest) // SAMPLE_DTYPE.itemsize

    def _write_event(self, line: bytes, event: dict[str, Any]) -> None:
        if "lanes" in event:
            self.lanes = [LaneStats.from_json(one) for one in event["lanes"]]

    def take(self) -> list[Piece]:
        """Return what has come since the last call."""
        with self._lock:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        taken: dict[int, list[NDArray[np.void]]] = {}
        _sort(np.frombuffer(data, SAMPLE_DTYPE), taken)
        return _pieces(taken, self.channels)


class PipedLanes(Piped):
    """Lanes in a sampler process that may read what this one may not."""

    def __init__(self, share: Share) -> None:
        self._live = LiveStream()
        super().__init__(share.plan, share.inventory, lambda: self._live)

    def take(self) -> list[Piece]:
        """Return what the sampler has sent."""
        return self._live.take()

    def channels(self) -> tuple[Channel, ...]:
        """Return the channels that are read; none before the first records."""
        return tuple(self._live.channels.values())

    def stats(self) -> list[LaneStats]:
        """Return what the sampler said of its lanes last; records that were forgotten here count as dropped."""
        lanes = self._live.lanes
        lost = self._live.forgotten
        return [replace(lanes[0], dropped=(lanes[0].dropped or 0) + lost), *lanes[1:]] if lanes and lost else lanes


class AllLanes:
    """Several of them as one."""

    def __init__(self, parts: Iterable[Lanes]) -> None:
        self._parts = tuple(parts)

    def start(self) -> None:
        """Start all, or none."""
        try:
            for part in self._parts:
                part.start()
        except BaseException:
            self.stop()
            raise

    def take(self) -> list[Piece]:
        """See `Lanes`."""
        return [piece for part in self._parts for piece in part.take()]

    def channels(self) -> tuple[Channel, ...]:
        """See `Lanes`."""
        return tuple(channel for part in self._parts for channel in part.channels())

    def stats(self) -> list[LaneStats]:
        """See `Lanes`."""
        return [lane for part in self._parts for lane in part.stats()]

    def failure(self) -> str | None:
        """Return the trouble of all."""
        return "; ".join(text for part in self._parts if (text := part.failure())) or None

    def stop(self) -> None:
        """Stop all, whatever becomes of one."""
        _stop_each(self._parts)


def live_lanes(plan: Plan, inventory: Inventory) -> Lanes:
    """Return the lanes of what was found, each where it may read; nothing runs yet.

    Every reading is handed on: what repeats itself is left out of files only.
    """
    shares = divide(replace(plan, keep="all"), inventory, in_process=True)
    return AllLanes(PipedLanes(share) if share.piped else OwnLanes(share) for share in shares)


def _stop_each(parts: Sequence[Lanes]) -> None:
    if parts:
        try:
            parts[0].stop()
        finally:
            _stop_each(parts[1:])


def _sort(records: NDArray[np.void], into: dict[int, list[NDArray[np.void]]]) -> None:
    for number in np.unique(records["channel"]).tolist():
        into.setdefault(number, []).append(records[records["channel"] == number])  # a copy: the buffer is used again


def _pieces(taken: dict[int, list[NDArray[np.void]]], channels: dict[int, Channel]) -> list[Piece]:
    return [Piece(channels[number], np.concatenate(mine)) for number, mine in taken.items() if number in channels]
