# SPDX-License-Identifier: Apache-2.0
"""Meters that are asked: one question a period, and what becomes of answers that fail.

An instrument that does not answer, or not with a number, costs its reading and opens a gap; it is asked again at the
next period, connected anew when the connection is lost or three answers in a row failed, and left alone for up to five
seconds between attempts.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np

from powersample import errors
from powersample.meters.contract import NO_NUMBER, OVER_RANGE, MeterBatch, MeterGap, MeterInfo, MeterReading

FAILURES_TO_RECONNECT = 3
MOST_PAUSE_S = 5.0


class Instrument(Protocol):
    """Something that answers with watts. Every call ends in bounded time."""

    def connect(self) -> MeterInfo:
        """Connect, identify and set up. Raises as `Meter.open`."""

    def ask(self) -> Sequence[float]:
        """Return the watts of each channel: NaN where there is no number, infinity where it is out of range.

        Raises:
            Timeout: No answer.
            BadFormat: An answer that is none.
            DeviceError, DeviceNotFound: It is gone, or refuses.
        """

    def disconnect(self) -> None:
        """Give back what `connect` took. Harmless twice."""


class Polled:
    """A `Meter` that asks an instrument once a period.

    Args:
        instrument: Whom.
        period_s: How often. A question that takes longer costs the periods that it takes.
    """

    def __init__(self, instrument: Instrument, period_s: float) -> None:
        self._instrument, self._period_s = instrument, period_s
        self._counts: Counter[str] = Counter()
        self._due_s = 0.0
        self._pause_s = 0.0
        self._failures = 0
        self._connected = False
        self._last_ns: int | None = None
        self._gap: MeterGap | None = None

    def open(self) -> MeterInfo:
        """See `Meter`; asks once, so that an instrument without power is refused here."""
        info = self._instrument.connect()
        try:
            self._instrument.ask()
        except errors.PowerSampleError:
            self._instrument.disconnect()
            raise
        self._connected = True
        return info

    def start(self) -> None:
        """See `Meter`."""
        self._due_s = time.monotonic()
        self._last_ns = time.monotonic_ns()

    def read(self, timeout_s: float) -> MeterBatch:
        """See `Meter`; a question that is under way is waited for, as long as the instrument's own timeout."""
        now_s = time.monotonic()
        wait_s = min(max(0.0, timeout_s), self._due_s - now_s)
        if wait_s > 0:
            time.sleep(wait_s)
        if time.monotonic() < self._due_s:
            return MeterBatch()
        try:
            if not self._connected:
                self._instrument.connect()
                self._connected = True
                self._counts["reconnects"] += 1
            watts = self._instrument.ask()
        except errors.PowerSampleError as error:
            return self._failed(error)
        return self._answered(time.monotonic_ns(), watts)

    def stop(self) -> None:
        """See `Meter`."""

    def close(self) -> None:
        """See `Meter`."""
        self._connected = False
        self._instrument.disconnect()

    def counts(self) -> Mapping[str, int]:
        """See `Meter`."""
        return dict(self._counts)

    def _answered(self, arrival_ns: int, watts: Sequence[float]) -> MeterBatch:
        self._failures, self._pause_s = 0, 0.0
        self._next()
        gaps: tuple[MeterGap, ...] = ()
        if self._gap is not None:
            gone = self._gap
            gaps = (MeterGap(gone.start_ns, arrival_ns, gone.cause, None, gone.text),)
            self._gap = None
        self._last_ns = arrival_ns
        return MeterBatch(tuple(reading(arrival_ns, one, channel) for channel, one in enumerate(watts)), gaps)

    def _failed(self, error: errors.PowerSampleError) -> MeterBatch:
        silent, garbage = isinstance(error, errors.Timeout), isinstance(error, errors.BadFormat)
        cause = "silent" if silent else "garbage" if garbage else "lost"
        self._counts[{"silent": "timeouts", "garbage": "bad_answers", "lost": "losses"}[cause]] += 1
        self._failures += 1
        if cause == "lost" or self._failures >= FAILURES_TO_RECONNECT:
            self._connected = False
            with suppress(errors.PowerSampleError):
                self._instrument.disconnect()
            self._pause_s = min(MOST_PAUSE_S, max(self._period_s, 2 * self._pause_s))
        self._next()
        if self._gap is not None:
            return MeterBatch()
        self._gap = MeterGap(self._last_ns or time.monotonic_ns(), None, cause, None, str(error))
        return MeterBatch((), (self._gap,))

    def _next(self) -> None:
        """Go to the next period in the future; those that passed meanwhile are counted, never caught up with."""
        now_s = time.monotonic()
        missed = max(0, math.ceil((now_s - self._due_s) / self._period_s) - 1)
        self._counts["missed_periods"] += missed if not self._failures else 0
        self._due_s = max(self._due_s + (1 + missed) * self._period_s, now_s + self._pause_s)


def reading(arrival_ns: int, watts: float, channel: int = 0, cycle_s: float = math.nan) -> MeterReading:
    """Return one reading; what is no number, or out of range, is flagged as such."""
    flag = OVER_RANGE if math.isinf(watts) else NO_NUMBER if math.isnan(watts) else 0
    return MeterReading(
        np.array([arrival_ns], np.int64),
        np.array([cycle_s]),
        np.array([math.nan if flag else watts]),
        np.array([flag], np.uint16),
        channel,
    )
