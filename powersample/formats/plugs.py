# SPDX-License-Identifier: Apache-2.0
"""What metering plugs and energy meters answer over HTTP: Shelly (Gen2 and later), Tasmota. Absent is not 0.

Shelly: `/rpc/Shelly.GetStatus` has a component a meter: `switch:0` (`apower`), `em:0` (`total_act_power` of three
phases), `em1:0` (`act_power`), `pm1:0` (`apower`). Tasmota: `/cm?cmnd=Status%208` has StatusSNS.ENERGY.Power, a number
or a list of them; in whole watts unless WattRes is set.
"""

from __future__ import annotations

import json
import math
from typing import Any

from powersample.errors import BadFormat, NotSupported

SHELLY_FIELDS = {"switch": "apower", "em": "total_act_power", "em1": "act_power", "pm1": "apower", "cover": "apower"}


def parsed(body: bytes, where: str) -> dict[str, Any]:
    """Return the object that an answer holds.

    Raises:
        BadFormat: It is no JSON object.
    """
    try:
        found = json.loads(body)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadFormat(f"{where} answers {body[:60]!r}, which is no JSON") from error
    if not isinstance(found, dict):
        raise BadFormat(f"{where} answers {body[:60]!r}, which is no JSON object")
    return found


def shelly_components(status: dict[str, Any]) -> tuple[str, ...]:
    """Return the components that give a power, such as "switch:0"; empty when the device does not meter."""
    return tuple(
        name
        for name, one in status.items()
        if isinstance(one, dict) and SHELLY_FIELDS.get(name.partition(":")[0], "") in one
    )


def shelly_watts(status: dict[str, Any], component: str) -> float:
    """Return a component's watts; NaN when it gives none now.

    Raises:
        NotSupported: There is no such component, or it has no power: a plug without metering.
        BadFormat: Its power is no number.
    """
    one, field = status.get(component), SHELLY_FIELDS.get(component.partition(":")[0])
    if field is None or not isinstance(one, dict) or field not in one:
        there = ", ".join(shelly_components(status)) or "none: this device does not meter"
        raise NotSupported(f"the Shelly has no power of {component!r}; components with power: {there}")
    return _number(one[field], f"{component}.{field}")


def tasmota_watts(status: dict[str, Any]) -> tuple[float, ...]:
    """Return the watts of each of a Tasmota's outlets.

    Raises:
        NotSupported: It has no ENERGY: a plug without metering.
        BadFormat: Its power is no number.
    """
    sensors = status.get("StatusSNS")
    if not isinstance(sensors, dict):
        raise BadFormat("the Tasmota's answer to 'Status 8' has no StatusSNS; is a password set (--meter option)?")
    energy = sensors.get("ENERGY")
    if not isinstance(energy, dict) or "Power" not in energy:
        raise NotSupported("the Tasmota has no ENERGY.Power: this device does not meter")
    power = energy["Power"]
    return tuple(_number(one, "ENERGY.Power") for one in (power if isinstance(power, list) else [power]))


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFormat(f"{where} is {value!r}, no number of watts")
    return float(value) if math.isfinite(value) else math.nan
