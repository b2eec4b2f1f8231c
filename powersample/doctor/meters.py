# SPDX-License-Identifier: Apache-2.0
"""Serial ports that a power meter may hang on. None is opened: that alone can reset what is at the other end."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from powersample.doctor.check import OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine, group_of

SECTION = "meters"
PREFIXES = ("ttyUSB", "ttyACM")


def ports(machine: Machine) -> list[Path]:
    """Return the USB serial ports, by their lasting names where udev gives them some."""
    folder = machine.dev / "serial/by-id"
    lasting = [folder / name for name in machine.names(folder)]
    named = {path.resolve().name for path in lasting}
    plain = [n for n in machine.names(machine.dev) if n.startswith(PREFIXES) and n not in named]
    return [*lasting, *(machine.dev / name for name in plain)]


def check_meters(machine: Machine) -> Iterator[Check]:
    """Yield each port."""
    found = ports(machine)
    if not found:
        tried = (Tried(str(machine.dev / "serial/by-id")), *(Tried(str(machine.dev / f"{p}*")) for p in PREFIXES))
        yield Check("PS-METER-02", SKIP, "no USB serial port, so no meter", tried)
    for port in found:
        if os.access(port, os.R_OK | os.W_OK, effective_ids=True):
            yield Check("PS-METER-00", OK, f"serial port {port} may be used; a meter there would be the reference")
            continue
        group = group_of(port) or "dialout"
        what = f"serial port {port} may not be used by this user (group {group})"
        fix = f'sudo usermod -aG {group} "$USER"  # then log in again'
        yield Check("PS-METER-01", WARN, what, (Tried(str(port), errno.EACCES),), fix)
