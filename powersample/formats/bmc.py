# SPDX-License-Identifier: Apache-2.0
"""What a server's management controller says of its power: `ipmitool dcmi power reading`, Redfish resources.

Both give whole watts of what the supplies measure, averaged over seconds, and often the same value for many seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from powersample.errors import BadFormat, NotSupported

DCMI_LINE = re.compile(r"^\s*([A-Za-z][A-Za-z ]*?)(?:\s+is)?\s*:\s*(.*?)\s*$", re.MULTILINE)
WATTS = re.compile(r"(\d+)\s*Watts?", re.IGNORECASE)
PERIOD = re.compile(r"0*(\d+)\s*(Milliseconds|Seconds|Minutes|Hours|Days)", re.IGNORECASE)
UNITS_S = {"milliseconds": 1e-3, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}


@dataclass(frozen=True, slots=True)
class DcmiReading:
    """One reading.

    Attributes:
        watts: NaN while the controller's power measurement is off.
        stamp: The controller's own time of it, as it writes it; "" where it does not.
        sampling_s: Over how long its minimum, maximum and average are; None where it does not say.
    """

    watts: float
    stamp: str
    sampling_s: float | None


def dcmi(text: str) -> DcmiReading:
    """Return what `ipmitool dcmi power reading` printed.

    Raises:
        BadFormat: There is no instantaneous reading in it.
    """
    lines = {name.strip().lower(): value for name, value in DCMI_LINE.findall(text)}
    reading = WATTS.match(lines.get("instantaneous power reading", ""))
    if reading is None:
        raise BadFormat(f"ipmitool prints {text.strip()[:80]!r}, no instantaneous power reading")
    state = lines.get("power reading state", "activated").lower()
    period = PERIOD.match(lines.get("sampling period", ""))
    return DcmiReading(
        math.nan if state.startswith("deactivated") else float(reading[1]),
        lines.get("ipmi timestamp", ""),
        float(period[1]) * UNITS_S[period[2].lower()] if period else None,
    )


def redfish_watts(resource: Mapping[str, Any]) -> float:
    """Return the watts of an EnvironmentMetrics, a Power or a PowerSupplyUnit-metrics resource.

    EnvironmentMetrics has PowerWatts.Reading; Power (deprecated, and what most controllers have) has
    PowerControl[0].PowerConsumedWatts, which may be null.

    Returns:
        NaN where the field is there and empty.

    Raises:
        NotSupported: It has neither field.
        BadFormat: What it has is no number.
    """
    metrics, control = resource.get("PowerWatts"), resource.get("PowerControl")
    if isinstance(metrics, Mapping) and "Reading" in metrics:
        value = metrics["Reading"]
    elif (
        isinstance(control, list) and control and isinstance(control[0], Mapping) and "PowerConsumedWatts" in control[0]
    ):
        value = control[0]["PowerConsumedWatts"]
    else:
        where = resource.get("@odata.id", "the resource")
        raise NotSupported(f"{where} has neither PowerWatts.Reading nor PowerControl[0].PowerConsumedWatts")
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFormat(f"the controller's power is {value!r}, no number of watts")
    return float(value) if math.isfinite(value) else math.nan


def links(resource: Mapping[str, Any], *names: str) -> list[str]:
    """Return the paths of a resource's links, in the order of `names`; of a collection, its members'."""
    found = []
    for name in names:
        one = resource.get(name)
        members = one if isinstance(one, list) else [one]
        found += [str(link["@odata.id"]) for link in members if isinstance(link, Mapping) and "@odata.id" in link]
    return found
