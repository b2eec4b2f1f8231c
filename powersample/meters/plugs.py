# SPDX-License-Identifier: Apache-2.0
"""Metering plugs behind HTTP: Shelly of the second generation and later, Tasmota.

    shelly:http://10.0.0.7,component=switch:0      tasmota:http://10.0.0.8,period=1

Options: component (Shelly: which power, where it has several), period (s), timeout (s).
"""

from __future__ import annotations

from typing import Any

from powersample import errors
from powersample.formats.plugs import shelly_components, shelly_watts, tasmota_watts
from powersample.meters.http import Http, HttpMeter
from powersample.meters.polled import Polled
from powersample.meters.registry import Address
from powersample.model import Accuracy

FACTS: dict[str, Any] = {
    "latency_class": "up to 1 s old, and the time of one request",
    "latency_max_s": 1.5,
    "accuracy": Accuracy(1.0, floor_w=1.0, origin="a common claim for metering plugs; no maker gives limits of error"),
}
STATUS = "/rpc/Shelly.GetStatus"


def make_shelly(address: Address) -> Polled:
    """Return the driver of a Shelly; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, or no address.
    """
    address.refuse_unknown(("component", "period", "timeout"))
    chosen = address.options.get("component", "")

    def find(http: Http) -> tuple[dict[str, str], str]:
        nonlocal chosen
        device = http.get("/rpc/Shelly.GetDeviceInfo")
        if not chosen:
            there = shelly_components(http.get(STATUS))
            if len(there) != 1:
                what = f"it has {', '.join(there)}; choose: component={there[0]}" if there else "it does not meter"
                raise errors.NotSupported(f"meter {address}: which power is not certain: {what}")
            chosen = there[0]
        told = {"maker": "Shelly", "model": str(device.get("model", "")), "serial": str(device.get("mac", ""))}
        return told | {"firmware": str(device.get("ver", ""))}, STATUS

    http = Http(address.where, address.number("timeout", 2.0))
    meter = HttpMeter(address, http, find, lambda status: (shelly_watts(status, chosen),), FACTS)
    return Polled(meter, address.number("period", 1.0))


def make_tasmota(address: Address) -> Polled:
    """Return the driver of a Tasmota plug; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, or no address.
    """
    address.refuse_unknown(("period", "timeout"))

    def find(http: Http) -> tuple[dict[str, str], str]:
        firmware = http.get("/cm?cmnd=Status%202").get("StatusFWR", {})
        version = str(firmware.get("Version", "")) if isinstance(firmware, dict) else ""
        return {"maker": "Tasmota", "firmware": version}, "/cm?cmnd=Status%208"

    http = Http(address.where, address.number("timeout", 2.0))
    return Polled(HttpMeter(address, http, find, tasmota_watts, FACTS), address.number("period", 1.0))
