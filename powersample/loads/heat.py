# SPDX-License-Identifier: Apache-2.0
"""How warm the CPUs are under a load and how fast they run, and the rule that ends a load by it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from powersample.errors import NotSupported

EVERY_S = 1.0  # reading a frequency may interrupt that CPU


def _none() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Heat:
    """Readings of a machine under load.

    Attributes:
        t_ns: int64 (n,), CLOCK_MONOTONIC.
        temperature_c: float64 (n,), the warmest CPU package; NaN where nobody tells.
        hz: float64 (n,), mean frequency of the load's CPUs; NaN likewise.
    """

    t_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    temperature_c: NDArray[np.float64] = field(default_factory=_none)
    hz: NDArray[np.float64] = field(default_factory=_none)

    def during(self, begin_ns: int, end_ns: int) -> tuple[float | None, float | None]:
        """Return a span's highest temperature in degrees C and mean frequency in Hz; None for what is not known."""
        inside = (self.t_ns >= begin_ns) & (self.t_ns <= end_ns)
        warm, fast = (values[inside & np.isfinite(values)] for values in (self.temperature_c, self.hz))
        return float(warm.max()) if len(warm) else None, float(fast.mean()) if len(fast) else None


class Watch:
    """Reads temperature and frequency once a second while a load runs.

    Args:
        cpus: whose frequencies.
        max_temperature_c: from which the load is to end; None for no such rule.
        sysfs: where to look; None is /sys.

    Raises:
        NotSupported: there is a rule, and no temperature to go by.
    """

    def __init__(
        self, cpus: Sequence[int], max_temperature_c: float | None, sysfs: str | os.PathLike[str] | None = None
    ) -> None:
        from powersample._native.api_load import Heat as Sensors

        self._sensors = Sensors(cpus, sysfs)
        self._max_c = max_temperature_c
        self._next_s = 0.0
        self._rows: list[tuple[int, float, float]] = []
        if max_temperature_c is not None and math.isnan(self._sensors.read()[1]):
            self.close()
            raise NotSupported(
                "this machine tells no temperature of its CPUs (hwmon's coretemp, k10temp and the like): "
                "no load can be ended by it",
                "Leave the highest temperature out, or load the driver.",
            )

    def look(self) -> str:
        """Read if it is time; return why the load must end, or nothing."""
        if (now_s := time.monotonic()) < self._next_s:
            return ""
        self._next_s = now_s + EVERY_S
        row = self._sensors.read()
        warm_c = row[1]
        if not all(map(math.isnan, row[1:])):
            self._rows.append(row)
        if self._max_c is None or warm_c < self._max_c:
            return ""
        if math.isnan(warm_c):
            return "the CPUs' temperature can no longer be read, and a highest one was asked for"
        return f"the CPUs are at {warm_c:.1f} degrees C, and {self._max_c:g} were to be the most"

    def heat(self) -> Heat:
        """Return what was read."""
        t_ns, temperature_c, hz = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        return Heat(np.array(t_ns, np.int64), np.array(temperature_c, np.float64), np.array(hz, np.float64))

    def close(self) -> None:
        """Close the files."""
        self._sensors.close()
