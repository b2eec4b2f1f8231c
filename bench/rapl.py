# SPDX-License-Identifier: Apache-2.0
"""What a reading of an energy counter costs: powercap's file by a kept descriptor, and perf's events as one group."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import native
from bench.figure import Bar, Figure, spread

POWERCAP = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
# Where there is no powercap: a number that the kernel prints just so, by the same calls.
OTHER_ATTRIBUTE = Path("/sys/devices/system/cpu/cpu0/topology/core_id")
PMUS = Path("/sys/bus/event_source/devices")
NAMES = ("energy-pkg", "energy-cores", "energy-gpu", "energy-ram", "energy-psys")
KEPT = Bar(">=", 4)
GROUP = Bar("<=", 1.2)
READS = 2_000


@dataclass(frozen=True)
class Pmu:
    """What stands for the PMU "power" and its events, all of which are the same one."""

    what: str
    type: int
    event: str
    counter: int  # of the printed columns, what reading the counter without perf costs


def _files(path: Path, what: str, pairs: int) -> Figure:
    kept, reopened = np.array(native.rows("rapl_read", "file", path, READS, pairs)).T
    return Figure(
        "rapl",
        f"cost of a reading with opening and closing over that by a kept descriptor, {what}",
        "ratio",
        KEPT,
        list(reopened / kept),
        [
            f"{path}" if path.is_relative_to("/sys") else "14 bytes of text",
            f"kept {np.median(kept):.0f} ns, reopened {np.median(reopened):.0f} ns",
            f"quartiles {spread(reopened / kept)}",
        ],
    )


def _pmu() -> Pmu:
    try:
        return Pmu(
            'stand-in: the PMU "msr", event tsc, under every name',
            int((PMUS / "msr/type").read_text()),
            (PMUS / "msr/events/tsc").read_text().strip(),
            3,
        )
    except OSError:
        return Pmu("stand-in: the kernel's software event cpu-clock, under every name", 1, "event=0x00", 4)


def _tree(root: Path, pmu: Pmu, names: tuple[str, ...]) -> Path:
    """Make a sysfs whose PMU "power" is `pmu`."""
    power = root / "bus/event_source/devices/power"
    topology = root / "devices/system/cpu/cpu0/topology"
    (power / "events").mkdir(parents=True)
    topology.mkdir(parents=True)
    (topology / "physical_package_id").write_text("0\n")
    (power / "type").write_text(f"{pmu.type}\n")
    (power / "cpumask").write_text("0\n")
    for name in names:
        for suffix, text in (("", pmu.event), (".scale", "1e-9"), (".unit", "Joules")):
            (power / "events" / f"{name}{suffix}").write_text(f"{text}\n")
    return root


def _groups(folder: Path, pairs: int) -> Figure:
    pmu = _pmu()
    what = f"perf group read of {len(NAMES)} events over one event and as many counter reads"
    trees = (_tree(folder / "one", pmu, NAMES[:1]), _tree(folder / "many", pmu, NAMES))
    try:
        rows = np.array(native.rows("rapl_read", "perf", *trees, READS, pairs))
    except subprocess.CalledProcessError as error:
        return Figure("rapl", what, "ratio", GROUP, skipped=f"perf refuses this user ({error.returncode})")
    one, group, count, counter = rows[:, 0], rows[:, 1], rows[0, 2], rows[:, pmu.counter]
    ratio = group / (one + count * counter)
    return Figure(
        "rapl",
        what,
        "ratio",
        GROUP,
        list(ratio),
        [
            pmu.what,
            f"one event {np.median(one):.0f} ns, group {np.median(group):.0f} ns, "
            f"a counter without perf {np.median(counter):.1f} ns",
            f"{len(NAMES)} events one by one would take {len(NAMES) * np.median(one):.0f} ns",
            f"quartiles {spread(ratio)}",
        ],
    )


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the ratios of powercap's file, of a plain file, and of the group."""
    pairs = 5 if quick else 41
    if os.access(POWERCAP, os.R_OK):
        yield _files(POWERCAP, "powercap", pairs)
    else:
        yield _files(OTHER_ATTRIBUTE, "stand-in for powercap: another attribute of sysfs", pairs)
    with tempfile.TemporaryDirectory(prefix="powersample-bench-") as name:
        plain = Path(name) / "energy_uj"
        plain.write_text("123456789012\n\n")
        yield _files(plain, "plain file", pairs)
        yield _groups(Path(name), pairs)
