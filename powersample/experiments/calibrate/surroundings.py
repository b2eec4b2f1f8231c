# SPDX-License-Identifier: Apache-2.0
"""What a point was taken under: temperature and fans by hwmon, and whether the hardware held itself back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from powersample._native.api_load import Heat
from powersample.loads.cpus import allowed

if TYPE_CHECKING:
    from powersample.model import Trace

COUNTERS = "devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
GPU_HEAT = 0x20 | 0x40  # nvml.h: SwThermalSlowdown, HwThermalSlowdown; a power limit is no fault at full load


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One look.

    Attributes:
        temperature_c: The warmest CPU package; None where nobody tells.
        fan_rpm: Mean speed of the fans that turn; None where none is told.
        throttled: Times that CPUs were held back by heat, by file.
    """

    temperature_c: float | None
    fan_rpm: float | None
    throttled: dict[str, int]

    def held_back(self, later: Surroundings) -> bool:
        """Whether a CPU was held back until `later`."""
        return any(count > self.throttled.get(name, count) for name, count in later.throttled.items())


def look(sysfs: Path) -> Surroundings:
    """Return what hwmon and the CPUs tell; what cannot be read is left out."""
    sensors = Heat(allowed()[:1], sysfs)
    try:
        _, warmest_c, _ = sensors.read()
    finally:
        sensors.close()
    fans = [value for file in sysfs.glob("class/hwmon/hwmon*/fan*_input") if (value := _number(file))]
    counts = {str(file.relative_to(sysfs)): _number(file) for file in sysfs.glob(COUNTERS)}
    return Surroundings(
        None if math.isnan(warmest_c) else warmest_c,
        fmean(fans) if fans else None,
        {name: count for name, count in counts.items() if count is not None},
    )


def gpus_held_back(trace: Trace, start_ns: int, end_ns: int) -> bool:
    """Whether a GPU's driver said that heat held it back in that time."""
    said = _told(trace, ".throttle", start_ns, end_ns)
    return any(bool(np.any(one.astype(np.int64) & GPU_HEAT)) for one in said)


def gpu_busy_pct(trace: Trace, start_ns: int, end_ns: int) -> float:
    """Return the share of that time in which the busiest GPU worked, %; 0 where no driver tells."""
    return max((float(np.mean(one)) for one in _told(trace, ".utilization.gpu", start_ns, end_ns)), default=0.0)


def _told(trace: Trace, name: str, start_ns: int, end_ns: int) -> Iterator[NDArray[np.float64]]:
    """Yield what channels of that name's end told in that time, where they told something."""
    for channel in trace.channels:
        if channel.endswith(name) and trace.extent(channel) is not None:
            series = trace.series(channel, start_ns, end_ns)
            values = series.value[series.good]
            if len(values):
                yield values


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
