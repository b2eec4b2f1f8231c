# SPDX-License-Identifier: Apache-2.0
"""hwmon from files to report: boards, firmware meters and batteries as folders, and what is told of their faults."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from traces import S, channel, polls, series
from unprivileged import as_nobody, list_as_nobody

from powersample import errors, measure, store
from powersample.analysis import energies_in, energy, totals
from powersample.capture import Plan, discover
from powersample.model import Kind, Trace, Window
from powersample.report.build import build
from powersample.sim import Node

RAIL = "ina3221-1-0040.vdd_in.power"
MODULE = "module-0.power_meter-ACPI000D-00.power.average"


class Tree:
    """A folder that stands for /sys, with chips whose devices lie where the kernel has them."""

    def __init__(self, root):
        self.root = root
        self.hwmons = self.meters = 0

    def chip(self, name, device, **files):
        folder = self.root / "devices" / device
        folder.mkdir(parents=True, exist_ok=True)
        place = self.root / "class" / "hwmon" / f"hwmon{self.hwmons}"
        self.hwmons += 1
        place.mkdir(parents=True)
        (place / "device").symlink_to(folder)
        for file, text in {"name": name, **files}.items():
            (place / file).write_text(f"{text}\n")
        return place

    def ina3221(self, **files):
        rail = {"in1_input": 5000, "curr1_input": 2000, "in1_label": "VDD_IN", "in1_enable": 1}
        return self.chip("ina3221", "i2c-1/1-0040", **rail | files)

    def meter(self, oem, **files):
        device = f"LNXSYSTM:00/ACPI000D:{self.meters:02}"
        self.meters += 1
        usual = {"power1_average": 90_000_000, "power1_average_interval": 100, "power1_oem_info": oem}
        return self.chip("power_meter", device, **usual | files)

    def battery(self, **files):
        place = self.root / "class" / "power_supply" / "BAT0"
        place.mkdir(parents=True)
        usual = {"type": "Battery", "status": "Discharging", "power_now": 12_000_000}
        for file, text in (usual | files).items():
            (place / file).write_text(f"{text}\n")
        return place


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "sys")


@pytest.fixture
def open_tree():
    """A tree in a folder that any user may enter, as /sys is."""
    folder = Path(tempfile.mkdtemp(prefix="powersample-hwmon-"))
    folder.chmod(0o755)
    yield Tree(folder)
    shutil.rmtree(folder)


def plan(tree, **options):
    return Plan(sources=("hwmon",), sysfs=str(tree.root), **options)


def recording(tree, **options):
    return measure(sources=("hwmon",), sysfs=tree.root, **options)


def entry(report, name):
    return next(one for one in report.data["windows"][0]["energies"] if one["channel"] == name)


# ---- energy through to the report -------------------------------------------------------------------------------


def test_report_rail_meter_and_battery_each_by_a_lane_of_its_own(tree):
    place = tree.ina3221()
    tree.meter("Module Power Socket 0")
    tree.battery()
    with recording(tree, rate_hz=100) as run:
        time.sleep(0.4)
        (place / "curr1_input").write_text("6000\n")  # 10 W until here, 30 W from here
        time.sleep(0.4)
    report = run.report()
    seconds = report.data["windows"][0]["duration_s"]
    assert [lane.name for lane in run.trace.lanes] == [
        "hwmon:ina3221-1-0040",
        "hwmon:power_meter-ACPI000D-00",
        "hwmon:BAT0",
    ]
    assert entry(report, RAIL)["joules"] == pytest.approx(20 * seconds, rel=0.2)
    assert entry(report, MODULE)["joules"] == pytest.approx(90 * seconds, rel=0.01)
    assert entry(report, "BAT0.power")["joules"] == pytest.approx(12 * seconds, rel=0.01)
    assert all(entry(report, name)["primary"] for name in (RAIL, MODULE, "BAT0.power"))
    assert {value for key, value in report.data["windows"][0]["totals"].items() if key.endswith("_j")} == {None}
    assert set(run.trace.series("BAT0.status").raw) == {2}
    rail = run.trace.channels[RAIL]
    assert (rail.domain, rail.device, rail.sensor) == (
        "supply",
        "ina3221-1-0040:VDD_IN",
        "hwmon.ina3221.in1*curr1:VDD_IN",
    )
    module = run.trace.channels[MODULE]
    assert (module.domain, module.span, module.span_ns) == ("module", "fixed", 100_000_000)
    told = next(one for one in report.data["channels"] if one["name"] == MODULE)
    assert told["averaging_window_s"] == 0.1
    assert [one["id"] for one in run.trace.meta["chips"]] == ["ina3221-1-0040", "power_meter-ACPI000D-00", "BAT0"]


def test_automatic_rate_follows_what_the_chip_publishes(tree):
    tree.ina3221()
    tree.meter("CPU Power Socket 0")
    with recording(tree) as run:
        time.sleep(0.1)
    rates = {lane.name: lane.rate_hz for lane in run.trace.lanes}
    assert rates["hwmon:ina3221-1-0040"] <= 100
    assert rates["hwmon:power_meter-ACPI000D-00"] <= 30  # three polls in 100 ms


def test_record_command_by_the_executable_reads_chips(tree, tmp_path):
    tree.meter("Grace Power Socket 0")
    command = [sys.executable, "-m", "powersample.cli", "record", "--sources", "hwmon", "--sysfs", str(tree.root)]
    done = subprocess.run(
        [*command, "-o", "grace.parquet", "--", "sleep", "0.4"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    trace = store.load(tmp_path / "grace.parquet")
    window = build(trace).data["windows"][0]
    assert window["totals"]["cpu_j"] == pytest.approx(90 * window["duration_s"], rel=0.01)
    assert trace.channels["package-0.power_meter-ACPI000D-00.power.average"].span_ns == 100_000_000


def test_simulated_graces_meters_agree_with_their_truth():
    with Node(cpu="grace") as node:
        with measure(sources=("hwmon",), sysfs=node.sysfs) as run:
            time.sleep(0.4)
        window = run.report().data["windows"][0]
        found = {one["domain"]: one["joules"] for one in window["energies"]}
        for domain, device in (("module", "module-0"), ("package", "socket-0"), ("core", "package-0.core")):
            truth_j = node.truth_j(device, window["start_ns"], window["end_ns"])
            assert found[domain] == pytest.approx(truth_j, rel=0.03)
    assert run.trace.simulated


# ---- nothing twice ----------------------------------------------------------------------------------------------


def rapl_beside(device="package-0", counter_mj=100, hwmon_mj=110):
    """Ten seconds of RAPL's counter at 100 W and hwmon's at 110 W, each of the same package."""
    t_ns = polls(0, 10, 10)
    made = [(f"{device}.energy", device, f"rapl:{device}", counter_mj)]
    made.append(("package-0.amd_energy-0.energy", "package-0", "hwmon:amd_energy-0", hwmon_mj))
    return [
        series(channel(name, Kind.ENERGY, place, "package", lane=lane), t_ns, t_ns // 1_000_000 * mj)
        for name, place, lane, mj in made
    ]


def test_totals_take_rapl_before_hwmon_of_the_same_package():
    trace, window = Trace.of(rapl_beside()), Window("w", 2 * S, 4 * S)
    measured = energies_in(trace, window)
    assert [one.energy.channel for one in measured if one.primary] == ["package-0.energy"]
    assert totals(measured, window)["cpu_j"] == pytest.approx(200)
    assert energy(trace, window, "package-0", domain="package").channel == "package-0.energy"


def test_totals_leave_hwmons_package_out_where_its_dies_are_measured():
    parts = [*rapl_beside("package-0-die-0"), rapl_beside("package-0-die-1")[0]]
    window = Window("w", 2 * S, 4 * S)
    found = totals(energies_in(Trace.of(parts), window), window)
    assert found["cpu_j"] == pytest.approx(400)
    assert found["reasons"] == []


def test_totals_take_hwmon_where_rapl_stands_still():
    trace, window = Trace.of(rapl_beside(counter_mj=0)), Window("w", 2 * S, 4 * S)
    measured = energies_in(trace, window)
    assert [one.energy.channel for one in measured if one.primary] == ["package-0.amd_energy-0.energy"]
    assert totals(measured, window)["cpu_j"] == pytest.approx(220)


def test_totals_are_not_swayed_by_hwmon_in_a_window_of_few_updates():
    """The counter moved 15 times: among its own a power would stand for it, hwmon's does not."""
    t_ns = polls(0, 10, 10)
    counter, _ = rapl_beside()
    power = channel("package-0.power_meter-a.power.average", device="package-0", domain="package", lane="hwmon:a")
    trace = Trace.of([counter, series(power, t_ns, [130_000] * len(t_ns))])
    assert energy(trace, Window("w", 2 * S, 2 * S + S // 7), domain="package").channel == "package-0.energy"


# ---- faults -----------------------------------------------------------------------------------------------------


def test_chip_that_vanishes_leaves_errors_and_comes_back_under_another_number(tree):
    place = tree.ina3221()
    run = recording(tree, rate_hz=100)
    run.start()
    time.sleep(0.2)
    for file in ("in1_input", "curr1_input"):
        os.truncate(place / file, 0)
    away = place.rename(place.with_name("hwmon7"))
    shutil.copytree(away, tree.root / "copy", symlinks=True)
    shutil.rmtree(away)
    time.sleep(0.2)
    for file in ("in1_input", "curr1_input"):
        (tree.root / "copy" / file).write_text("1000\n")
    (tree.root / "copy").rename(place.with_name("hwmon9"))
    time.sleep(0.4)
    time.sleep(0.4)
    run.stop()
    found = run.trace.series(RAIL)
    assert run.trace.lanes[0].reopens == 1
    assert found.status[0] == 0
    assert errno.ENODATA in set(found.status)
    assert found.status[-1] == 0
    assert found.raw[-1] == 1_000_000
    assert any(reason.startswith("PSQ-ERRORS") for reason in entry(run.report(), RAIL)["reasons"])


@pytest.mark.parametrize(
    ("text", "code"), [("nonsense\n", errno.EBADMSG), ("", errno.ENODATA), ("99999999999999999999\n", errno.EBADMSG)]
)
def test_text_that_is_no_number_is_told_and_gives_no_energy(tree, text, code):
    (tree.ina3221(in2_input=1000, curr2_input=1000) / "curr1_input").write_text(text)
    with recording(tree, rate_hz=50) as run:
        time.sleep(0.2)
    report = run.report()
    told = next(one for one in report.data["channels"] if one["name"] == RAIL)
    assert told["errors"] == {str(code): told["polls"]}
    assert entry(report, RAIL)["joules"] is None
    assert entry(report, "ina3221-1-0040.2.power")["joules"] is not None
    assert any("in1_input" in note and f"errno {code}" in note for note in run.trace.meta["notes"])


def test_battery_that_begins_to_charge_gives_negative_power(tree):
    place = tree.battery()
    with recording(tree, rate_hz=50) as run:
        time.sleep(0.2)
        (place / "status").write_text("Charging\n")
        time.sleep(0.2)
    assert run.trace.series("BAT0.power").raw[0] == 12_000_000
    assert run.trace.series("BAT0.power").raw[-1] == -12_000_000
    assert run.trace.series("BAT0.status").raw[-1] == 1


def test_meter_that_knows_nothing_is_missing_and_not_four_megawatts(tree):
    """All ones from the firmware are 4294967.295 W to a driver that passes them on."""
    place = tree.meter("Module Power Socket 0")
    with recording(tree, rate_hz=50) as run:
        time.sleep(0.1)
        (place / "power1_average").write_text("4294967295000\n")
        time.sleep(0.2)
    found = run.trace.series(MODULE)
    assert found.status[-1] == errno.ENODATA
    assert max(found.raw) == 90_000_000


# ---- what is there ----------------------------------------------------------------------------------------------


def test_discover_says_what_is_left_out_and_why(tree):
    tree.ina3221(in3_input=5000, curr3_input=10, in3_enable=0)
    tree.meter("Chipthrot DDR Throttle (samples x1000) socket 0")
    found = discover(plan(tree))
    assert [(one.id, one.answering) for one in found.chips] == [("ina3221-1-0040", 1)]
    assert found.notes == (
        "hwmon: ina3221-1-0040: in3_enable: it is switched off (0)",
        "hwmon: power_meter-ACPI000D-00 is left out: power1_average: "
        '"Chipthrot DDR Throttle (samples x1000) socket 0" is no power',
    )


def test_discover_sleeping_gpu_is_kept_asleep_and_a_note(tree):
    tree.ina3221()
    place = tree.chip("amdgpu", "pci0000:00/0000:03:00.0", power1_average="read me and I wake")
    (place / "device" / "power").mkdir()
    status = place / "device" / "power" / "runtime_status"
    status.write_text("suspended\n")
    found = discover(plan(tree))
    assert [(one.id, one.asleep) for one in found.chips] == [("ina3221-1-0040", False), ("amdgpu-0000-03-00-0", True)]
    assert len(found.notes) == 1
    assert "is not woken" in found.notes[0]
    with recording(tree, rate_hz=50) as run:
        time.sleep(0.2)
        (place / "power1_average").write_text("25000000\n")
        status.write_text("active\n")
        time.sleep(0.2)
    gpu = run.trace.series("amdgpu-0000-03-00-0.power.average")
    assert gpu.status[0] == 60101
    assert (gpu.status[-1], gpu.raw[-1]) == (0, 25_000_000)
    assert run.trace.channels["amdgpu-0000-03-00-0.power.average"].domain == "gpu"
    assert run.trace.lanes[1].reopens == 0


def test_discover_closed_files_says_code_and_a_rule(open_tree):
    files = {"energy1_label": "Esocket0", "energy1_input": 5}
    place = open_tree.chip("amd_energy", "platform/amd_energy.0", **files)
    with as_nobody(place / "energy1_input"), pytest.raises(errors.NothingMeasurable) as caught:
        discover(plan(open_tree))
    for words in ("amd_energy-0 is left out", "energy1_input", "errno 13", 'ATTR{name}=="amd_energy"', "chgrp GROUP"):
        assert words in str(caught.value)


def test_sampler_unprivileged_ends_with_3_and_the_reason(open_tree):
    place = open_tree.chip("psu", "usb/1", power1_input=5)
    (place / "power1_input").chmod(0o400)
    done = list_as_nobody("hwmon", open_tree.root)
    assert done.returncode == 3
    assert "hwmon psu-1: open" in done.stderr
    assert "code 13" in done.stderr


def test_discover_nothing_at_all_says_where_it_looked(tree):
    with pytest.raises(errors.NothingMeasurable, match=r"hwmon: .*class/hwmon"):
        discover(plan(tree))


def test_discover_chips_that_say_nothing_are_nothing(tree):
    tree.ina3221(curr1_input="")
    with pytest.raises(errors.NothingMeasurable, match="in1_input"):
        discover(plan(tree))


def test_discover_beside_a_simulated_gpu_leaves_this_machines_chips_out():
    with Node("h100") as node:
        found = discover(Plan(sources=("nvml", "hwmon"), nvml_library=str(node.library)), {})
    assert found.simulated
    assert found.chips == ()
    assert found.notes == ()
