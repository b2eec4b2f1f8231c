# SPDX-License-Identifier: Apache-2.0
"""What a point was taken under: temperature and fans by hwmon, and whether the hardware held itself back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from powersample.model import Trace

CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
COUNTERS = "devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
GPU_HEAT = 0x20 | 0x40  # nvml.h: SwThermalSlowdown, HwThermalSlowdown; a power limit is no fault at full load


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One look.

    Attributes:
        temperature_c: The hottest that a CPU's chip tells; None where none does.
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
    chips = list(sysfs.glob("class/hwmon/hwmon*"))
    cpus = [chip for chip in chips if _text(chip / "name") in CPU_CHIPS]
    hot = [value / 1e3 for chip in cpus for file in chip.glob("temp*_input") if (value := _number(file)) is not None]
    fans = [value for chip in chips for file in chip.glob("fan*_input") if (value := _number(file))]
    counts = {str(file.relative_to(sysfs)): _number(file) for file in sysfs.glob(COUNTERS)}
    return Surroundings(
        max(hot, default=None),
        fmean(fans) if fans else None,
        {name: count for name, count in counts.items() if count is not None},
    )


def gpus_held_back(trace: Trace, start_ns: int, end_ns: int) -> bool:
    """Whether a GPU's driver said that heat held it back in that time."""
    for name, channel in trace.channels.items():
        if channel.sensor != "nvml.throttle_reasons" or trace.extent(name) is None:
            continue
        series = trace.series(name, start_ns, end_ns)
        said = series.raw[series.status == 0].astype(np.int64)
        if bool(np.any(said & GPU_HEAT)):
            return True
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
