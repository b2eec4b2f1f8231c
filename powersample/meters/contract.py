# SPDX-License-Identifier: Apache-2.0
"""What every meter's driver gives, and what it promises.

A driver is a protocol (pure, in `formats`) on a link (`meters.link`), or a poller of a file or an HTTP server.
Garbage, silence and unplugging are ordinary: a driver tells them as gaps and recovers by itself, in bounded time. It
raises from `open` only, where the user still waits for an answer, with what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from powersample.formats.parsed import NO_NUMBER, OVER_RANGE  # a reading's flags, its `status` in a trace
from powersample.model import Accuracy, Channel, Kind, MeterInfo

__all__ = [
    "NO_NUMBER",
    "OVER_RANGE",
    "Accuracy",
    "Meter",
    "MeterBatch",
    "MeterGap",
    "MeterInfo",
    "MeterReading",
    "PowerFunction",
    "power_channel",
]

STILL = "; it lasts: "

PowerFunction = Callable[[int, int], float]  # mean W over [start_ns, end_ns) of CLOCK_MONOTONIC


@dataclass(frozen=True, slots=True, eq=False)
class MeterReading:
    """Readings of one channel, in the order of their arrival. Arrays of one length.

    Attributes:
        arrival_ns: int64, shape (n,): CLOCK_MONOTONIC as a reading's last byte was here; not descending. The cycle
            that it averages ended before.
        cycle_s: float64: the cycle's true length where the meter tells it, else the nominal one; NaN for an instant.
        watts: float64; NaN where there is a flag.
        flags: uint16: 0, `NO_NUMBER` or `OVER_RANGE`, or a driver's own above 60030.
        channel: Which of `MeterInfo.channels`.
    """

    arrival_ns: NDArray[np.int64]
    cycle_s: NDArray[np.float64]
    watts: NDArray[np.float64]
    flags: NDArray[np.uint16]
    channel: int = 0

    def __len__(self) -> int:
        return len(self.arrival_ns)


@dataclass(frozen=True, slots=True)
class MeterGap:
    """Time for which there are no readings, and why.

    Attributes:
        start_ns: About when it began: the arrival of the last reading before.
        end_ns: The arrival of the first one after; None as long as there is none.
        cause: "missing cycles", "unplugged", "silent", "garbage" or another word for it.
        missing: How many readings, where the meter's own count or the time tells; None when nobody knows.
        text: A sentence, for the report.
    """

    start_ns: int
    end_ns: int | None
    cause: str
    missing: int | None = None
    text: str = ""

    def still(self, why: str) -> MeterGap:
        """Return the gap with why it lasts, in place of what was told of that before."""
        return replace(self, text=f"{self.text.partition(STILL)[0]}{STILL}{why}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class MeterBatch:
    """What came since the last call; both empty when nothing did.

    A gap may come twice: open, and when it has ended; its `start_ns` is the same.
    """

    readings: tuple[MeterReading, ...] = ()
    gaps: tuple[MeterGap, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.readings or self.gaps)


class Meter(Protocol):
    """An instrument. One thread calls `open`, `start`, `read` again and again, `stop`, `close`, in this order."""

    def open(self) -> MeterInfo:
        """Connect, identify and set up, in bounded time.

        Raises:
            DeviceNotFound: No such port, host or meter.
            AccessDenied: The port may not be used; the message names the group.
            Timeout: Nothing answers, or nothing that makes sense.
            DeviceError: It refuses, or is another model.
            InvalidArgument: It cannot do what was asked for.
        """

    def start(self) -> None:
        """Begin to measure."""

    def read(self, timeout_s: float) -> MeterBatch:
        """Return what has come, waiting at most `timeout_s` for anything. Raises nothing for a meter that is gone."""

    def stop(self) -> None:
        """End the measurement; `read` may be called once more for what was under way. Bounded, and harmless twice."""

    def close(self) -> None:
        """Give the port back. Harmless twice, and after a failed `open`."""

    def counts(self) -> Mapping[str, int]:
        """Return what went wrong so far, by name: garbage_bytes, bad_lines, missing_cycles, reconnects ..."""


def power_channel(name: str, sensor: str, *, part: str = "", span: str = "sample", domain: str = "wall") -> Channel:
    """Return the channel of a meter's power.

    Args:
        name: The meter's name: "wall".
        sensor: Where the value comes from, in the meter's words: "lmg450.P".
        part: "" for the total that stands for the meter, else the part's name: "ch2", which is in no total.
        span: "sample" when readings average their cycle, "none" when they are instants.
        domain: What it measures, when that is not the whole node: "gpu" for an inline meter.
    """
    return Channel(
        name=f"{name}.power.{part}" if part else f"{name}.power",
        device=f"{name}.{part}" if part else name,
        domain="supply" if part else domain,
        kind=Kind.POWER,
        unit="W",
        raw_dtype="float64",
        stamp="arrival",
        span=span,
        sensor=sensor,
    )
