# SPDX-License-Identifier: Apache-2.0
"""The simulated node's power meters as the kernel shows them: hwmon's ACPI power meter and INA3221, and a battery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powersample._native import api_files, api_sim
from powersample._native.api_files import MovedFile
from powersample.sim import cpu
from powersample.sim.profile import Profile, stable_hash
from powersample.sim.tree import Tree, link

WIDTH = 16  # of a moved text
PER_PACKAGE = ("package", "core", "uncore", "dram", "socket", "module")
MODE = 0o444


@dataclass(frozen=True, slots=True)
class Meter:
    """One power that a meter shows.

    Attributes:
        name: Of its text, such as "hwmon0.power1", "hwmon0.curr2" or "BAT0.power".
        device: The truth that it tells: "node", "module-0", "package-0.core" ...
        label: What the file beside it calls it; "" where nothing does.
        told_as: Device and domain that powersample's hwmon source makes of it.
        shown_in: Where below class it is: "hwmon/hwmon0" or "power_supply/BAT0".
        sensor: How it looks at the truth.
    """

    name: str
    device: str
    label: str
    told_as: tuple[str, str]
    shown_in: str
    sensor: api_sim.Sensor


def meter_names(profile: Profile) -> tuple[str, ...]:
    """Return the names of a CPU profile's meters."""
    return tuple(dict.fromkeys(key.split(".")[1] for key in profile.figures if key.startswith("meter.")))


def build(
    tree: Tree, profile: Profile, packages: int, sums: Mapping[str, tuple[str, ...]], *, seed: int
) -> tuple[Meter, ...]:
    """Make the meters of a CPU profile in a node's /sys; each becomes texts of `tree`."""
    builder = _Builder(tree, sums, seed)
    for name in meter_names(profile):
        figures = _below(profile, f"meter.{name}.")
        if figures["kind"] == "ina3221":
            builder.ina3221(figures)
        elif figures["kind"] == "battery":
            builder.battery(figures)
        else:
            for package in range(packages if figures["of"] in PER_PACKAGE else 1):
                builder.acpi(figures, package)
    return tuple(builder.meters)


def _below(profile: Profile, prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in profile.figures.items() if key.startswith(prefix)}


def device_of(of: str, package: int) -> str:
    """Return the device whose power `of` means, at a package."""
    if of == "package":
        return f"package-{package}"
    if of in ("core", "uncore", "dram"):
        return f"package-{package}.{of}"
    return f"{of}-{package}" if of in PER_PACKAGE else of


class _Builder:
    def __init__(self, tree: Tree, sums: Mapping[str, tuple[str, ...]], seed: int) -> None:
        self._tree, self._sums, self._seed = tree, sums, seed
        self.meters: list[Meter] = []
        self._hwmons = 0

    @staticmethod
    def _firmware(device: str, chip: str) -> tuple[str, str]:
        place, _, domain = device.partition(".")
        what, _, number = place.partition("-")
        if what == cpu.NODE:
            return chip, "psys"
        if what == "module":
            return device, "module"
        return f"package-{number}", domain or "package"  # Grace's own meter includes its memory

    def acpi(self, figures: Mapping[str, Any], package: int) -> None:
        """Add an ACPI power meter: the mean of an interval, in uW."""
        number = self._hwmons
        folder = self._hwmon(f"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI000D:{number:02X}", "power_meter")
        label = figures["oem_info"].format(package=package)
        (folder / "power1_average_interval").write_text(f"{round(figures['window_ms'])}\n")
        (folder / "power1_oem_info").write_text(f"{label}\n")
        (folder / "power1_is_battery").write_text("0\n")
        device = device_of(figures["of"], package)
        told = self._firmware(device, f"power_meter-ACPI000D-{number:02X}")
        self._power(folder / "power1_average", f"hwmon{number}.power1", device, label, told, figures, (1000, 1))

    def ina3221(self, figures: Mapping[str, Any]) -> None:
        """Add an INA3221: of each rail a voltage in mV, which holds, and a current in mA, which moves."""
        number = self._hwmons
        address = f"1-00{0x40 + number:02x}"
        folder = self._hwmon(f"devices/platform/bus@0/c240000.i2c/i2c-1/{address}", "ina3221")
        for rail in sorted({key.split(".")[1] for key in figures if key.startswith("rail.")}):
            its = {key.split(".")[2]: value for key, value in figures.items() if key.startswith(f"rail.{rail}.")}
            (folder / f"in{rail}_label").write_text(f"{its['label']}\n")
            (folder / f"in{rail}_enable").write_text("1\n")
            (folder / f"in{rail}_input").write_text(f"{its['voltage_mv']}\n")
            name, device = f"hwmon{number}.curr{rail}", device_of(its["of"], 0)
            amperes = (1000, its["voltage_mv"])  # mW to mA
            told = (f"ina3221-{address}:{its['label']}", "supply")
            self._power(folder / f"curr{rail}_input", name, device, its["label"], told, figures, amperes)

    def battery(self, figures: Mapping[str, Any]) -> None:
        """Add a battery that the node drains."""
        folder = self._tree.sysfs / "devices/LNXSYSTM:00/LNXSYBUS:00/PNP0C0A:00/power_supply/BAT0"
        folder.mkdir(parents=True)
        for name, text in (("type", "Battery"), ("status", "Discharging"), ("present", "1")):
            (folder / name).write_text(f"{text}\n")
        (folder / "voltage_now").write_text(f"{figures['voltage_mv'] * 1000}\n")
        self._class("power_supply", folder)
        told = ("BAT0", "supply")
        self._power(folder / "power_now", "BAT0.power", device_of(figures["of"], 0), "", told, figures, (1000, 1))

    def _hwmon(self, device: str, driver: str) -> Path:
        folder = self._tree.sysfs / device / "hwmon" / f"hwmon{self._hwmons}"
        self._hwmons += 1
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{driver}\n")
        link(folder / "device", self._tree.sysfs / device)
        self._class("hwmon", folder)
        return folder

    def _class(self, kind: str, folder: Path) -> None:
        links = self._tree.sysfs / "class" / kind
        links.mkdir(parents=True, exist_ok=True)
        link(links / folder.name, folder)

    def _power(
        self,
        path: Path,
        name: str,
        device: str,
        label: str,
        told: tuple[str, str],
        figures: Mapping[str, Any],
        per_mw: tuple[int, int],
    ) -> None:
        sensor = api_sim.Sensor(
            kind=api_sim.GAUGE,
            period_ns=round(figures["period_ms"] * 1e6),
            window_ns=round(figures["window_ms"] * 1e6),
            seed=stable_hash("meter", name, self._seed),
            quantum=figures["quantum_mw"],
        )
        self._tree.texts[name] = self._tree.add(
            MovedFile(
                path=path,
                kind=api_files.GAUGE,
                truths=self._tree.indices(self._sums[device]),
                mode=MODE,
                width=WIDTH,
                gauge_num=per_mw[0],
                gauge_den=per_mw[1],
                sensor=sensor,
            )
        )
        self.meters.append(Meter(name, device, label, told, f"{path.parent.parent.name}/{path.parent.name}", sensor))
