# SPDX-License-Identifier: Apache-2.0
"""Power analysers that are asked in SCPI: Yokogawa WT, GW Instek GPM, Hioki PW33xx; over VISA or a plain socket.

    wt310:TCPIP::10.0.0.5::INSTR,rate=0.1      gpm:ASRL/dev/ttyACM0::INSTR      hioki:tcp://10.0.0.6

What is read is the mean of the instrument's last update interval, asked for once an interval but not in step with it:
the reading may be an interval old. Options: rate (s), element (1, 2, 3 or SIGMA), timeout (s), backend (of pyvisa).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from powersample import errors
from powersample.formats.scpi import DIALECTS, identity, power
from powersample.meters.contract import MeterInfo, power_channel
from powersample.meters.lines import Lines
from powersample.meters.polled import Polled
from powersample.meters.registry import Address
from powersample.meters.transport import TcpPort, host_of


class Asked(Protocol):
    """A line that questions go over."""

    name: str

    def open(self) -> None:
        """Connect."""

    def write(self, text: str) -> None:
        """Send a line."""

    def ask(self, text: str) -> str:
        """Send a line and return its answer."""

    def close(self) -> None:
        """Disconnect; harmless twice."""


def make(address: Address) -> Polled:
    """Return the driver of an analyser; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, or a rate that the instrument does not.
        ModuleNotFoundError: pyvisa is not installed.
    """
    address.refuse_unknown(("rate", "element", "timeout", "backend"))
    dialect = DIALECTS[address.kind]
    rate_s, timeout_s = address.number("rate", dialect.update_s), address.number("timeout", 2.0)
    if dialect.rates and rate_s not in dialect.rates:
        known = ", ".join(f"{one:g}" for one in dialect.rates)
        raise errors.InvalidArgument(f"meter {address}: rate={rate_s:g} is no update interval; it has {known} s")
    line: Asked
    if address.where.startswith("tcp://"):
        host, port = host_of(address.where, "tcp", dialect.port or 5025)
        line = Lines(TcpPort(host, port), timeout_s=timeout_s)
    elif not address.where:
        raise errors.InvalidArgument(f"meter {address} names no instrument; write {address.kind}:TCPIP::HOST::INSTR")
    else:
        from powersample.meters.visa import VisaLines

        line = VisaLines(address.where, address.options.get("backend", "@py"), timeout_s)
    return Polled(Analyser(address, line, rate_s), rate_s)


class Analyser:
    """An `Instrument` that speaks a dialect of SCPI."""

    def __init__(self, address: Address, line: Asked, rate_s: float) -> None:
        self._address, self._line, self._rate_s = address, line, rate_s
        self._dialect = DIALECTS[address.kind]
        self._element = address.options.get("element", self._dialect.element)

    def connect(self) -> MeterInfo:
        """See `Instrument`."""
        self._line.open()
        try:
            maker, model, serial, firmware = identity(self._line.ask("*IDN?"))
            if not any(word in model.upper() for word in self._dialect.models):
                raise errors.DeviceError(
                    f"{self._line.name} is a {maker} {model}, and {self._address.kind} stands for {self._dialect.what}",
                    "Name the right kind of meter.",
                )
            rate = self._dialect.rates.get(self._rate_s, "")
            for words in self._dialect.setup:
                self._line.write(words.format(element=self._element, rate=rate))
            range_w = self._range_w()
        except errors.PowerSampleError:
            self._line.close()
            raise
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker=maker,
            model=model,
            serial=serial,
            firmware=firmware,
            channels=(power_channel(self._address.name, f"{self._address.kind}.P", span="none"),),
            cycle_s=math.nan,
            latency_class="up to one update interval old, and the time of one question",
            latency_max_s=2 * self._rate_s,
            accuracy=replace(self._dialect.accuracy, range_w=range_w),
            simulated=self._address.simulated,
            settings={"update_interval_s": self._rate_s, "averages_s": self._rate_s, "element": self._element},
            notes=("asked, not in step with its updates: readings are taken for instants",),
        )

    def _range_w(self) -> float | None:
        """Return the product of the ranges; None where the instrument does not tell them."""
        try:
            ranges = [power(self._line.ask(words)) for words in self._dialect.ranges]
        except (errors.Timeout, errors.BadFormat):
            return None
        return math.prod(ranges) if ranges and all(map(math.isfinite, ranges)) else None

    def ask(self) -> tuple[float]:
        """See `Instrument`."""
        return (power(self._line.ask(self._dialect.question.format(element=self._element))),)

    def disconnect(self) -> None:
        """See `Instrument`."""
        self._line.close()
