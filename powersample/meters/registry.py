# SPDX-License-Identifier: Apache-2.0
"""From a meter's address on the command line to its driver, which is loaded only then.

[NAME=]KIND:WHERE[,KEY=VALUE...]      lmg450:/dev/ttyUSB0,baud=57600,i=10     rack=shelly:http://10.0.0.7
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from powersample.errors import InvalidArgument, NotSupported, did_you_mean

if TYPE_CHECKING:
    from powersample.meters.contract import Meter

SIMULATED = "sim"  # the simulated node's own meter: whoever has a node resolves it


@dataclass(frozen=True, slots=True)
class Driver:
    """Where a kind's driver is: `module:factory`, called with (address); `extra` names what must be installed.

    `name` is what its channels are called by where the user does not say: "wall" for what hangs on the wall.
    """

    where: str
    what: str
    extra: str = ""
    name: str = "wall"


DRIVERS: Mapping[str, Driver] = {
    "lmg450": Driver("powersample.meters.lmg:make", "ZES ZIMMER LMG450: lmg450:/dev/ttyUSB0 or lmg450:tcp://HOST:2101"),
    "lmg500": Driver("powersample.meters.lmg:make", "ZES ZIMMER LMG500, likewise"),
    "lmg95": Driver("powersample.meters.lmg:make", "ZES ZIMMER LMG95, likewise"),
    "lmg600": Driver("powersample.meters.lmg:make", "ZES ZIMMER LMG600 series: lmg600:tcp://HOST"),
    "wt310": Driver("powersample.meters.scpi:make", "Yokogawa WT310/WT330: wt310:TCPIP::HOST::INSTR", "visa"),
    "wt5000": Driver("powersample.meters.scpi:make", "Yokogawa WT3000/WT5000, likewise", "visa"),
    "gpm": Driver("powersample.meters.scpi:make", "GW Instek GPM: gpm:ASRL/dev/ttyACM0::INSTR", "visa"),
    "hioki": Driver("powersample.meters.scpi:make", "Hioki PW3335/PW3336/PW3337: hioki:tcp://HOST", "visa"),
    "sdm120": Driver("powersample.meters.modbus:make", "Eastron SDM120: sdm120:/dev/ttyUSB0 or tcp://HOST", "modbus"),
    "sdm230": Driver("powersample.meters.modbus:make", "Eastron SDM230, likewise", "modbus"),
    "sdm72": Driver("powersample.meters.modbus:make", "Eastron SDM72D-M, likewise", "modbus"),
    "sdm630": Driver("powersample.meters.modbus:make", "Eastron SDM630, likewise", "modbus"),
    "ptd": Driver("powersample.meters.ptdaemon:make", "SPEC PTDaemon and its analyser: ptd:HOST[:8888]"),
    "pmd": Driver("powersample.meters.pmd:make", "ElmorLabs PMD-USB: pmd:/dev/ttyUSB0", name="pmd"),
    "wattsup": Driver("powersample.meters.wattsup:make", "Watts Up? Pro: wattsup:/dev/ttyUSB0"),
    "shelly": Driver("powersample.meters.plugs:make_shelly", "Shelly Gen2 and later: shelly:http://HOST"),
    "tasmota": Driver("powersample.meters.plugs:make_tasmota", "Tasmota plug: tasmota:http://HOST"),
    "dcmi": Driver("powersample.meters.bmc:make_dcmi", "IPMI by ipmitool: dcmi: or dcmi:HOST"),
    "redfish": Driver("powersample.meters.bmc:make_redfish", "management controller: redfish:https://HOST"),
}

# Power meters that are files of the kernel: the sampler reads them beside the processors' counters, in C.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("hwmon", "acpi", "battery", "ina", "ina226", "ina3221"), "hwmon"),
    "rapl": "rapl",
    "nvml": "nvml",
}

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
ADDRESS = re.compile(r"(?:(?P<name>[^=:,/]*)=)?(?P<kind>[A-Za-z0-9-]+)(?::(?P<where>[^,]*))?(?P<options>(?:,.*)?)")


@dataclass(frozen=True, slots=True)
class Address:
    """A meter's address, taken apart.

    Attributes:
        name: What its channels shall be called by.
        kind: A key of `DRIVERS`, or "sim".
        where: Port, URL, host; "" where the kind needs none.
        options: The KEY=VALUE behind it.
        simulated: Whether there is no such device, only a simulator at that port.
    """

    name: str
    kind: str
    where: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False

    def __str__(self) -> str:
        return ",".join([f"{self.kind}:{self.where}", *(f"{key}={value}" for key, value in self.options.items())])

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Raise for an option that the driver does not have.

        Raises:
            InvalidArgument: There is one; the message lists those it has.
        """
        unknown = [key for key in self.options if key not in known]
        if unknown:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InvalidArgument(f"meter {self}: unknown option {', '.join(unknown)}; {has}")

    def number(self, key: str, default: float) -> float:
        """Return an option's number.

        Raises:
            InvalidArgument: It is none, or not above 0.
        """
        text = self.options.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise InvalidArgument(f"meter {self}: {key}={text} is no number above 0")
        return value


def parse_addresses(texts: Sequence[str]) -> tuple[Address, ...]:
    """Return the addresses of several meters, each with a name of its own: "wall", "wall1" ... where none is given.

    Raises:
        InvalidArgument: One has no such form, or an unknown kind (the message lists those there are); a name twice.
    """
    found: list[Address] = []
    plain: Counter[str] = Counter()
    for text in texts:
        match = ADDRESS.fullmatch(text.strip())
        if match is None:
            raise InvalidArgument(f"meter {text!r} is no address; write [NAME=]KIND:WHERE, as lmg450:/dev/ttyUSB0")
        name, kind = match["name"], match["kind"].lower()
        if kind in ELSEWHERE:
            source = ELSEWHERE[kind]
            raise InvalidArgument(
                f"meter {text!r}: {kind} is no external meter; the sampler reads it itself, with its source {source}",
                f"Record without --meter, or with --sources {source}; `powersample doctor` lists what it finds.",
            )
        if kind not in DRIVERS and kind != SIMULATED:
            known = known_kinds()
            raise InvalidArgument(
                f"meter {text!r}: unknown kind {kind!r}; known are {', '.join(known)}", did_you_mean(kind, known)
            )
        if name is None:
            base = DRIVERS[kind].name if kind in DRIVERS else "wall"
            name = f"{base}{plain[base] or ''}"
            plain[base] += 1
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"meter {text!r}: {name!r} is no name; use letters, digits, - and _")
        if any(one.name == name for one in found):
            raise InvalidArgument(f"two meters are called {name!r}; name them: `--meter NAME={text.strip()}`")
        options: dict[str, str] = {}
        for word in match["options"].split(",")[1:]:
            key, equals, value = word.partition("=")
            if not equals or not key.strip():
                raise InvalidArgument(f"meter {text!r}: {word!r} is no option; write KEY=VALUE")
            options[key.strip()] = value.strip()
        found.append(Address(name, kind, match["where"] or "", options))
    return tuple(found)


def known_kinds() -> tuple[str, ...]:
    """Return every kind there is."""
    return (*DRIVERS, SIMULATED)


def make_meter(address: Address) -> Meter:
    """Return an address's driver; nothing is opened.

    Raises:
        InvalidArgument: Unknown kind or option, or a simulated meter without a simulated node.
        NotSupported: A package that it needs is not installed; the message names it.
    """
    if address.kind == SIMULATED:
        raise InvalidArgument("meter sim is the simulated node's: add --simulate NODE, or name a real meter's port")
    driver = DRIVERS.get(address.kind)
    if driver is None:
        raise InvalidArgument(f"unknown meter kind {address.kind!r}; known are {', '.join(known_kinds())}")
    module, _, factory = driver.where.partition(":")
    try:
        meter: Meter = getattr(import_module(module), factory)(address)
    except ModuleNotFoundError as error:
        if not driver.extra or (error.name or "").startswith("powersample"):
            raise
        raise NotSupported(
            f"meter {address} needs the package {error.name}", f"Install it: pip install 'powersample[{driver.extra}]'"
        ) from error
    return meter
