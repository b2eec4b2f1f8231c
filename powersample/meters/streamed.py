# SPDX-License-Identifier: Apache-2.0
"""Meters that send by themselves, over a serial line: silence, garbage and unplugging, and the way back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from powersample import errors
from powersample.meters.contract import MeterBatch, MeterGap, MeterInfo, MeterReading
from powersample.meters.link import Chunk, Link

RETRY_S = 0.5
CHUNKS_A_READ = 256


class Sender(Protocol):
    """A device that sends. Every call ends in bounded time, and raises as `Meter.open`.

    Attributes:
        link: Its line.
        silence_s: For how long it may send nothing before it is taken for gone.
    """

    link: Link
    silence_s: float

    def connect(self) -> MeterInfo:
        """Open the line, identify and set up."""

    def begin(self) -> None:
        """Make it send."""

    def take(self, chunk: Chunk) -> MeterReading | None:
        """Return the readings that are complete with these bytes; None when none is."""

    def end(self) -> None:
        """Make it stop."""

    def counts(self) -> Mapping[str, int]:
        """Return what was wrong in what came."""


class Streamed:
    """A `Meter` around a device that sends."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._counts: Counter[str] = Counter()
        self._streaming = False
        self._heard_s = 0.0
        self._retry_s = 0.0
        self._last_ns = 0
        self._gap: MeterGap | None = None
        self._gaps: list[MeterGap] = []

    def open(self) -> MeterInfo:
        """See `Meter`."""
        try:
            return self._sender.connect()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """See `Meter`; a device that is gone already is told as a gap."""
        self._streaming, self._last_ns = True, time.monotonic_ns()
        self._heard_s = time.monotonic()
        try:
            self._sender.begin()
        except errors.PowerSampleError as error:
            self._lose("unplugged", str(error))

    def read(self, timeout_s: float) -> MeterBatch:
        """See `Meter`; where the line must be opened anew it may take a few seconds longer."""
        link = self._sender.link
        if self._streaming and link.lost:
            self._lose("unplugged", f"{link.port.name}: {link.lost}")
            self._come_back(timeout_s)
        readings: list[MeterReading] = []
        for turn in range(CHUNKS_A_READ):
            chunk = link.read(0.0 if turn or link.lost else timeout_s)
            if chunk is None:
                break
            taken = self._sender.take(chunk)
            if taken is not None and len(taken):
                self._hear(int(taken.arrival_ns[0]), int(taken.arrival_ns[-1]))
                readings.append(taken)
        silent_s = time.monotonic() - self._heard_s
        if self._streaming and not link.lost and silent_s > self._sender.silence_s:
            self._lose("silent", f"{link.port.name}: nothing that is a reading came for {silent_s:.1f} s")
            link.close()
        gaps, self._gaps = tuple(self._gaps), []
        return MeterBatch(tuple(readings), gaps)

    def stop(self) -> None:
        """See `Meter`."""
        was_streaming, self._streaming = self._streaming, False
        if was_streaming and not self._sender.link.lost:
            with suppress(errors.PowerSampleError):  # it may be gone by now
                self._sender.end()

    def close(self) -> None:
        """See `Meter`."""
        self.stop()
        self._sender.link.close()

    def counts(self) -> Mapping[str, int]:
        """See `Meter`."""
        return {**self._counts, **self._sender.counts(), "dropped_bytes": self._sender.link.dropped_bytes}

    def _hear(self, first_ns: int, last_ns: int) -> None:
        self._heard_s, self._last_ns = time.monotonic(), last_ns
        if self._gap is not None:
            self._gaps.append(MeterGap(self._gap.start_ns, first_ns, self._gap.cause, None, self._gap.text))
            self._gap = None

    def _lose(self, cause: str, text: str) -> None:
        """Open a gap, unless there is one."""
        if self._gap is None:
            self._gap = MeterGap(self._last_ns, None, cause, None, text)
            self._gaps.append(self._gap)
            self._counts["losses"] += 1

    def _come_back(self, timeout_s: float) -> None:
        """Try to open the line anew, each `RETRY_S` at most."""
        wait_s = self._retry_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return
        try:
            self._sender.connect()
            self._sender.begin()
        except errors.PowerSampleError as error:
            self._sender.link.close()
            if self._gap is not None and (lasting := self._gap.still(str(error))) != self._gap:
                self._gap = lasting
                self._gaps.append(lasting)
        else:
            self._counts["reconnects"] += 1
            self._heard_s = time.monotonic()
        self._retry_s = time.monotonic() + RETRY_S
