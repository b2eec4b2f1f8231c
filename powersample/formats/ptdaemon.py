# SPDX-License-Identifier: Apache-2.0
r"""The text protocol of SPEC PTDaemon: a command a line, a reply a line, ended by CR LF.

    Hello                     Hello, PTDaemon here!
    Identify                  YokogawaWT310,...,version=1.11.1-...,...
    RR                        Ranges,1,5.000000,1,300.000000         (A auto, A, V auto, V)
    SR,A,2   SR,V,Auto        Range A changed   Range V changed
    Go,1000,0,mark            Starting untimed measurement, maximum ... samples at 1000ms with 0 rampup samples
    RL                        Last 3 samples, and as many lines of spl.txt
    Stop                      Stopping untimed measurement; Error: no measurement to stop

Read in the messages of published runs (MLPerf inference v1.0) and in mlcommons/power-dev; PTDaemon itself is licensed
by SPEC and no part of this package.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from powersample.errors import BadFormat, DeviceError, InvalidArgument

PORT = 8888
HELLO = "Hello, PTDaemon here!"
LAST = re.compile(r"Last (\d+) samples?\b")
STARTED = re.compile(r"Starting untimed measurement\b.* samples at (\d+)ms with (\d+) rampup samples")
VERSION = re.compile(r"version=([^,\s-]+)")
MOST_LINES = 500_000  # the most samples that a measurement holds


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers: PTDaemon's word for the meter, its own version, and the instrument's words where it tells them."""

    model: str
    version: str | None
    instrument: str | None

    @property
    def simulated(self) -> bool:
        """Whether this is PTDaemon's dummy device, which measures nothing."""
        return "dummy" in self.model.lower()


@dataclass(frozen=True, slots=True)
class Ranges:
    """Where the instrument measures: None chooses by itself."""

    amps: float | None
    volts: float | None


def go(interval_ms: int, mark: str, *, rampup: int = 0) -> str:
    """Return the command that starts a measurement.

    Raises:
        InvalidArgument: a mark that would end the field or the line.
    """
    if re.search(r"[,\r\n]", mark) or not mark:
        raise InvalidArgument(f"a mark of PTDaemon holds neither commas nor line ends, {mark!r} does")
    return f"Go,{interval_ms},{rampup},{mark}"


def set_range(what: str, value: float | None) -> str:
    """Return the command that sets the range of "A" or "V"; None lets the instrument choose."""
    return f"SR,{what},{'Auto' if value is None else format(value, 'g')}"


def refused(reply: str) -> bool:
    """Whether a reply says that the command failed."""
    return reply.lower().startswith("error")


def accepted(command: str, reply: str, expected: str) -> str:
    """Return `reply` if it begins as it must.

    Raises:
        DeviceError: PTDaemon refused.
        BadFormat: it says something else.
    """
    if refused(reply):
        raise DeviceError(f"PTDaemon refuses {command!r}: {reply}")
    if not reply.startswith(expected):
        raise BadFormat(f"PTDaemon answers {reply[:80]!r} to {command!r}; expected is {expected!r}")
    return reply


def identity(reply: str) -> Identity:
    """Return who answers to `Identify`.

    Raises:
        BadFormat: no model.
    """
    cells = [cell.strip() for cell in reply.split(",")]
    if len(cells) < 2 or not cells[0] or refused(reply):
        raise BadFormat(f"PTDaemon answers {reply[:80]!r} to 'Identify': no meter is named")
    version = VERSION.search(reply)
    instrument = cells[-1] if ";" in cells[-1] else None
    return Identity(cells[0], version[1] if version else None, instrument)


def ranges(reply: str) -> Ranges:
    """Return the ranges that `RR` answers with; a first figure that is not 0 says that the instrument chooses.

    Raises:
        BadFormat: it answers with something else.
    """
    cells = reply.split(",")
    try:
        if cells[0] != "Ranges":
            raise ValueError("another word")
        amps_auto, amps, volts_auto, volts = (float(cell) for cell in cells[1:5])
    except ValueError as error:
        raise BadFormat(f"PTDaemon answers {reply[:80]!r} to 'RR' instead of Ranges and four figures") from error

    def fixed(auto: float, value: float) -> float | None:
        return value if auto == 0 and math.isfinite(value) and value > 0 else None

    return Ranges(fixed(amps_auto, amps), fixed(volts_auto, volts))


def interval_ms(reply: str) -> int:
    """Return the interval that a measurement was started with.

    Raises:
        DeviceError, BadFormat: it was not started.
    """
    if refused(reply):
        raise DeviceError(f"PTDaemon starts no measurement: {reply}")
    found = STARTED.match(reply)
    if found is None:
        raise BadFormat(f"PTDaemon answers {reply[:80]!r} to 'Go'")
    return int(found[1])


def lines_to_come(reply: str) -> int:
    """Return how many lines follow the first one that `RL` answers with.

    Raises:
        DeviceError, BadFormat: none do.
    """
    if refused(reply):
        raise DeviceError(f"PTDaemon gives no samples: {reply}")
    found = LAST.match(reply)
    if found is None or int(found[1]) > MOST_LINES:
        raise BadFormat(f"PTDaemon answers {reply[:80]!r} to 'RL' instead of 'Last N samples'")
    return int(found[1])
