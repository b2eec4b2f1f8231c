# SPDX-License-Identifier: Apache-2.0
"""External meters beside a live view: their newest power, and the sum of their cycles with their limits of error."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from powersample import errors
from powersample._native import api
from powersample.analysis.interval import verdict
from powersample.meters import make_meter
from powersample.report.top import MINUTE_S, SPARKS, Gauge
from powersample.session.meters import Asked, plugged_in

if TYPE_CHECKING:
    from powersample.capture import Lanes
    from powersample.meters.contract import Meter, MeterReading
    from powersample.model import MeterInfo
    from powersample.sim import Node

OLD_CYCLES, OLD_S = 3.0, 3.0  # from when a reading is no present power
SPACINGS, FIRST_S = 21, 20.0  # the usual one is the median of so many; before there is one, the slowest meters'


@dataclass(slots=True)
class _Watched:
    """One meter and what it told so far."""

    meter: Meter
    info: MeterInfo
    joules: float = 0.0
    counted_s: float = 0.0
    first_ns: int = 0
    newest_ns: int = 0
    watts: float | None = None
    polls: int = 0
    errors: int = 0
    gaps: set[int] = field(default_factory=set)
    gap: str = ""
    spacings_s: deque[float] = field(default_factory=lambda: deque(maxlen=SPACINGS))  # of the newest readings
    spark: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SPARKS))

    def take(self) -> None:
        """Take what has come."""
        batch = self.meter.read(0.0)
        for gap in batch.gaps:
            self.gaps.add(gap.start_ns)
            self.gap = "" if gap.end_ns is not None else gap.text or gap.cause
        for reading in batch.readings:
            if reading.channel == 0 and len(reading):
                self._add(reading)

    def _add(self, reading: MeterReading) -> None:
        good = (reading.flags == 0) & np.isfinite(reading.watts)
        self.polls += len(reading)
        self.errors += int(np.count_nonzero(~good))
        cycle_s = np.where(np.isfinite(reading.cycle_s), reading.cycle_s, 0.0)
        if not self.newest_ns:
            self.first_ns = int(reading.arrival_ns[0] - cycle_s[0] * 1e9)
        instants = ~np.isfinite(reading.cycle_s)
        since_s = np.diff(reading.arrival_ns, prepend=self.newest_ns or reading.arrival_ns[0]) / 1e9
        usual_s = float(np.median(self.spacings_s)) if self.spacings_s else FIRST_S
        self.spacings_s.extend(since_s[since_s > 0].tolist())
        since_s = np.where(since_s > max(OLD_S, OLD_CYCLES * usual_s), 0.0, since_s)  # an outage that none speaks for
        span_s = np.where(instants, since_s, cycle_s)
        self.joules += float(np.sum(reading.watts[good] * span_s[good]))
        self.counted_s += float(np.sum(span_s[good]))
        self.newest_ns = int(reading.arrival_ns[-1])
        self.watts = float(reading.watts[-1]) if good[-1] else None
        if np.any(good) and (not self.spark or self.newest_ns - self.spark[-1][0] >= MINUTE_S * 1e9 / SPARKS):
            self.spark.append((self.newest_ns, float(np.mean(reading.watts[good]))))

    def gauge(self, now_ns: int) -> Gauge:
        """Return its present state."""
        accuracy, info = self.info.accuracy, self.info
        half_j = None
        if accuracy is not None and accuracy.offset_w is not None and self.counted_s:
            half_j = accuracy.reading_pct / 100 * self.joules + accuracy.offset_w * self.counted_s
        age_s = (now_ns - self.newest_ns) / 1e9 if self.newest_ns else None
        cycle_s = info.cycle_s if np.isfinite(info.cycle_s) else None
        old = age_s is None or age_s > max(OLD_S, OLD_CYCLES * (cycle_s or 0.0))
        seconds = (now_ns - self.first_ns) / 1e9 if self.first_ns else 0.0
        rated = "unrated" if self.counted_s else ""
        return Gauge(
            name=info.name,
            kind="wall",
            model=f"{info.maker} {info.model}".strip(),
            power_w=None if old else self.watts,
            age_s=age_s,
            window_s=cycle_s,
            period_s=cycle_s,
            joules=self.joules if self.counted_s else None,
            mean_w=self.joules / self.counted_s if self.counted_s else None,
            half_j=half_j,
            verdict=verdict(half_j, self.joules) if half_j is not None and self.joules > 0 else rated,
            seconds=seconds,
            unseen_s=max(0.0, seconds - self.counted_s - 2 * (cycle_s or 0.0)),
            spark=tuple((ago_s, w) for t_ns, w in self.spark if (ago_s := (now_ns - t_ns) / 1e9) <= MINUTE_S),
            polls=self.polls,
            errors=self.errors,
            error=self.gap,
            dropouts=len(self.gaps),
        )


def start_together(meters: TopMeters, lanes: Lanes) -> None:
    """Return once every meter and lane runs; where one cannot, no meter does.

    Raises:
        PowerSampleError: A device or a meter cannot be read.
    """
    meters.start()
    try:
        lanes.start()
    except BaseException:
        meters.close()
        raise


class TopMeters:
    """The meters of a live view.

    Args:
        asked: Their addresses.
        node: The simulated node that "sim" is the meter of; None on real devices.

    Raises:
        InvalidArgument: "sim" without a node or twice, an unknown option.
        NotSupported: A package is missing.
    """

    def __init__(self, asked: Asked, node: Node | None) -> None:
        self._from_file = asked.from_file
        self._made = [make_meter(one) for one in plugged_in(asked.addresses, node)]
        self._watched: list[_Watched] = []
        self.notes: tuple[str, ...] = ()

    def start(self) -> None:
        """Open and start all; those of a configuration file that are not there become notes.

        Raises:
            PowerSampleError: A meter that was asked for by name cannot be used; none is open then.
        """
        for meter in self._made:
            try:
                info = meter.open()
                meter.start()
            except errors.PowerSampleError as error:
                meter.close()
                if not self._from_file:
                    self.close()
                    raise
                self.notes += (f"a meter from {self._from_file} is left out: {error}",)
                continue
            self._watched.append(_Watched(meter, info))

    def take(self) -> None:
        """Take what has come."""
        for one in self._watched:
            one.take()

    def gauges(self) -> list[Gauge]:
        """Return each meter's present state."""
        now_ns = api.now_ns()
        return [one.gauge(now_ns) for one in self._watched]

    def trouble(self) -> list[str]:
        """Return what keeps meters from telling anything now."""
        return [f"{one.info.name}: {one.gap}" for one in self._watched if one.gap]

    def close(self) -> None:
        """Stop all; harmless when repeated."""
        watched, self._watched = self._watched, []
        for one in watched:
            with contextlib.suppress(errors.PowerSampleError, OSError):  # it is gone, and we leave
                one.meter.stop()
            with contextlib.suppress(errors.PowerSampleError, OSError):
                one.meter.close()
