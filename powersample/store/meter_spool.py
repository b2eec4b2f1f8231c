# SPDX-License-Identifier: Apache-2.0
"""Writes what meters tell into a spool beside the sampler's parts: a kill loses what was not written yet, no more.

Parts as a sampler's, but each record has the span that its value averages; events (who they are, gaps) in a file.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.marks import boot_id
from powersample.model import METER_DTYPE, Channel
from powersample.store.stream import write_all

METERS = 700_000  # their parts' numbers begin here, beyond all that samplers come to
PART_RECORDS = 1 << 20  # 40 MB: half a day at 20 Hz
HEADER_STEP = 4096
SYNC_NS = 1_000_000_000
EVENTS = f"events-{METERS:06d}.jsonl"


class MeterSpool:
    """The meters' part of a spool. Any thread may write; a full disk ends the writing, not the measuring.

    Args:
        directory: The spool.
        channels: Of all meters.

    Attributes:
        failure: What writing failed with, or None.
        discarded: Readings that came after that.
    """

    def __init__(self, directory: Path, channels: Sequence[Channel]) -> None:
        self._directory, self._channels = directory, tuple(channels)
        self._ids = {channel.name: number for number, channel in enumerate(self._channels)}
        self._seq = dict.fromkeys(self._ids, 0)
        self._lock = threading.Lock()
        self._number = METERS
        self._part: int | None = None
        self._events: int | None = None
        self._records = 0
        self._sync_due_ns = 0
        self.failure: OSError | None = None
        self.discarded = 0
        with self._lock, self._noting_failure():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._events = os.open(directory / EVENTS, flags, 0o666)
            self._begin_part()

    def event(self, kind: str, name: str, **more: Any) -> None:
        """Write down what happened to a meter: "meter", "meter_gap" or "meter_counts"."""
        line = json.dumps({"event": kind, "name": name, **more}).encode() + b"\n"
        with self._lock, self._noting_failure():
            if self._events is not None and self.failure is None:
                write_all(self._events, line)

    def readings(
        self,
        channel: str,
        arrival_ns: NDArray[np.int64],
        span_ns: NDArray[np.int64],
        watts: NDArray[np.float64],
        flags: NDArray[np.uint16],
        before: Mapping[int, int],
    ) -> None:
        """Write down readings of a channel.

        Args:
            channel: Its name.
            arrival_ns: Their stamps.
            span_ns: What each averages; 0 for an instant.
            watts: Their values.
            flags: Their status.
            before: By arrival, how many are missing before one: a hole in `seq`.
        """
        records = np.zeros(len(arrival_ns), METER_DTYPE)
        records["t0_ns"] = records["t1_ns"] = arrival_ns
        records["raw"] = watts.astype(np.float64).view(np.int64)
        records["span_ns"], records["status"], records["channel"] = span_ns, flags, self._ids[channel]
        step = np.ones(len(records), np.int64)
        for t_ns, missing in before.items():
            at = int(np.searchsorted(arrival_ns, t_ns, "left"))
            if at < len(step) and arrival_ns[at] == t_ns:
                step[at] += missing
        with self._lock:
            seq = self._seq[channel] + np.cumsum(step)
            records["seq"] = (seq - 1) % 2**32
            self._seq[channel] = int(seq[-1]) if len(seq) else self._seq[channel]
            if self._part is None:
                self.discarded += len(records)
                return
            with self._noting_failure():
                write_all(self._part, records.tobytes())
                self._records += len(records)
                if self._records >= PART_RECORDS:
                    self._end_part()
                    self._begin_part()
                elif time.monotonic_ns() >= self._sync_due_ns:
                    self._sync_due_ns = time.monotonic_ns() + SYNC_NS
                    os.fdatasync(self._part)

    def _begin_part(self) -> None:
        path = self._directory / f"part-{self._number:06d}.open"
        self._part = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._records = 0
        write_all(self._part, self._header())

    def _header(self) -> bytes:
        data: dict[str, Any] = {
            "powersample_spool": 1,
            "header_bytes": 0,
            "record_bytes": METER_DTYPE.itemsize,
            "spans": True,
            "part": self._number,
            "boot_id": boot_id(),
            "channels": [channel.as_json() | {"id": number} for number, channel in enumerate(self._channels)],
        }
        room = len(json.dumps(data)) + 16
        data["header_bytes"] = size = -(-room // HEADER_STEP) * HEADER_STEP
        return json.dumps(data).encode().ljust(size - 1) + b"\n"

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        try:
            os.fdatasync(part)
        finally:
            os.close(part)
        opened = self._directory / f"part-{self._number:06d}.open"
        opened.rename(opened.with_suffix(".part"))
        self._number += 1

    def close(self) -> None:
        """Close the files; harmless twice."""
        with self._lock, self._noting_failure():
            self._end_part()
        with self._lock:  # a driver's thread that was left behind may be writing; never into another file's number
            events, self._events = self._events, None
            if events is not None:
                os.close(events)

    @contextlib.contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            with contextlib.suppress(OSError):  # what is on the disk stays, closed like any part
                self._end_part()
