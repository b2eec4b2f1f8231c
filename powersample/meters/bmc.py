# SPDX-License-Identifier: Apache-2.0
"""What a server's management controller says: IPMI DCMI by `ipmitool`, Redfish by HTTPS.

    dcmi:                               in band: /dev/ipmi0, mostly for root only
    dcmi:HOST                           over the network (lanplus)
    redfish:https://HOST,path=/redfish/v1/Chassis/1/Power

Names and passwords come from the environment: POWERSAMPLE_METER_USER and POWERSAMPLE_METER_PASSWORD. ipmitool gets the
password by its own variable, IPMI_PASSWORD. Certificates are verified; `insecure=yes` says not to, and the record says
so. Options: period (s), timeout (s), path, insecure.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from powersample import errors
from powersample.formats.bmc import DcmiReading, dcmi, links, redfish_watts
from powersample.meters.contract import MeterInfo, power_channel
from powersample.meters.http import PASSWORD, USER, Http, HttpMeter
from powersample.meters.polled import Polled
from powersample.meters.registry import Address

LATENCY: dict[str, Any] = {
    "latency_class": "1 to 60 s old: the controller averages, and publishes when it likes",
    "latency_max_s": 60.0,
    "accuracy": None,
}
ROOT = "/redfish/v1"


def make_redfish(address: Address) -> Polled:
    """Return the driver of a controller's Redfish; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, no address, a password that would go over http.
    """
    address.refuse_unknown(("path", "period", "timeout", "insecure"))
    word = address.options.get("insecure", "no")
    if word not in ("yes", "no"):
        raise errors.InvalidArgument(f"meter {address}: insecure={word}; say yes or no")

    def find(http: Http) -> tuple[dict[str, str], str]:
        if path := address.options.get("path"):
            return {}, path
        members = links(http.get(f"{ROOT}/Chassis"), "Members")
        for member in members:
            chassis = http.get(member)
            for link in links(chassis, "EnvironmentMetrics", "Power"):
                try:
                    redfish_watts(http.get(link))
                except errors.NotSupported:
                    continue
                told = {"maker": "Manufacturer", "model": "Model", "serial": "SerialNumber"}
                return {ours: str(chassis.get(theirs) or "") for ours, theirs in told.items()}, link
        what = f"meter {address}: none of its {len(members)} chassis tells a power"
        raise errors.NotSupported(what, "Name the resource: path=/redfish/v1/...")

    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    secret = None if user is None else (user, password or "")
    http = Http(address.where, address.number("timeout", 5.0), secret, insecure=word == "yes")
    meter = HttpMeter(address, http, find, lambda one: (redfish_watts(one),), LATENCY)
    return Polled(meter, address.number("period", 1.0))


def make_dcmi(address: Address) -> Polled:
    """Return the driver of `ipmitool dcmi power reading`; nothing is run.

    Raises:
        InvalidArgument: An option that it does not have.
    """
    address.refuse_unknown(("period", "timeout"))
    return DcmiMeter(DcmiTool(address), address.number("period", 1.0))


class DcmiMeter(Polled):
    """Counts the answers that are the controller's last one again."""

    def __init__(self, tool: DcmiTool, period_s: float) -> None:
        super().__init__(tool, period_s)
        self._tool = tool

    def counts(self) -> Mapping[str, int]:
        """See `Meter`."""
        return {**super().counts(), **self._tool.counts}


class DcmiTool:
    """An `Instrument` that is a program run once a question."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._timeout_s = address.number("timeout", 5.0)
        self._command = ["ipmitool", "dcmi", "power", "reading"]
        self._environment = dict(os.environ)
        if address.where:
            self._environment["IPMI_PASSWORD"] = os.environ.get(PASSWORD, "")
            who = ["-I", "lanplus", "-H", address.where, "-U", os.environ.get(USER, ""), "-E"]
            self._command = ["ipmitool", *who, "dcmi", "power", "reading"]
        self._stamp = ""
        self.counts: Counter[str] = Counter()

    def connect(self) -> MeterInfo:
        """See `Instrument`."""
        first = self._reading()
        settings = {"sampling_period_s": first.sampling_s, "command": "ipmitool dcmi power reading"}
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker="",
            model="IPMI DCMI",
            serial="",
            firmware="",
            channels=(power_channel(self._address.name, "dcmi.instantaneous", span="none"),),
            cycle_s=math.nan,
            simulated=self._address.simulated,
            settings=settings,
            notes=("whole watts of the supplies' own meter, without limits of error; often stale",),
            **LATENCY,
        )

    def ask(self) -> tuple[float]:
        """See `Instrument`."""
        found = self._reading()
        self.counts["stale"] += bool(found.stamp) and found.stamp == self._stamp
        self._stamp = found.stamp
        return (found.watts,)

    def disconnect(self) -> None:
        """See `Instrument`; nothing runs between questions."""

    def _reading(self) -> DcmiReading:
        try:
            code, out, err = self._run()
        except FileNotFoundError as error:
            raise errors.DeviceNotFound("there is no ipmitool", "Install it (package ipmitool).") from error
        except subprocess.TimeoutExpired as error:
            raise errors.Timeout(f"ipmitool does not end within {self._timeout_s:g} s") from error
        except OSError as error:
            raise errors.DeviceError(f"ipmitool cannot be run: {error}", code=error.errno) from error
        said = err.decode("utf-8", "replace").strip()
        if code != 0:
            if "open device" in said or "ermission denied" in said:
                raise errors.AccessDenied(f"ipmitool: {said[:200]}", "Only root may use /dev/ipmi0 on most systems.")
            if "nvalid command" in said or "not supported" in said.lower():
                raise errors.NotSupported(f"ipmitool: {said[:200]}", "This controller has no DCMI power reading.")
            raise errors.DeviceError(f"ipmitool: {said[:200] or 'no reason'}", code=code)
        return dcmi(out.decode("utf-8", "replace"))

    def _run(self) -> tuple[int, bytes, bytes]:
        """Return the program's exit code and what it said; where it takes too long, end it with all that it started."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            process_group=0,
        ) as process:
            try:
                out, err = process.communicate(timeout=self._timeout_s)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
                raise
            return process.returncode, out, err
