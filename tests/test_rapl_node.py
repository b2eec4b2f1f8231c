# SPDX-License-Identifier: Apache-2.0
"""RAPL by powercap and registers on the simulated node: its exact energy, through wraps, and faults while recording."""

import errno
import os
import subprocess
import time

import pytest

from powersample import errors, measure
from powersample.capture import Plan, discover, sampler_path
from powersample.report import build
from powersample.sim import Node


def registers_only(node, folder):
    """Return a sysfs of the node's topology without powercap, so that only registers are left."""
    root = folder / "sys"
    root.mkdir()
    (root / "devices").symlink_to(node.sysfs / "devices")
    (root / "powersample-simulated").symlink_to(node.sysfs / "powersample-simulated")
    return root


def assert_truth(run, node, channel, truth, rel):
    """Assert that a channel's energy over the run is the truth's."""
    window = run.report().data["windows"][0]
    told = next(one for one in window["energies"] if one["channel"] == channel)
    truth_j = node.truth_j(truth, window["start_ns"], window["end_ns"])
    assert told["joules"] == pytest.approx(truth_j, rel=rel), told["reasons"]
    return told


def energy_channels(run):
    return {one["channel"] for one in run.report().data["windows"][0]["energies"]}


# ---- the truth --------------------------------------------------------------------------------------------------


def test_registers_of_sapphire_rapids_tell_package_memory_and_platform(tmp_path):
    """Three units in one package: 2^-14 J, DRAM's the same and not 15.3 uJ, and whole joules for the platform."""
    with Node(cpu="intel_spr", packages=2, wrap_after_j=20.0) as node:  # all of them turn within the test
        node.load_script("package-0", [(0.0, 300.0)])
        root = registers_only(node, tmp_path)
        found = discover(Plan(sources=("rapl",), sysfs=str(root), devfs=str(node.devfs)))
        assert found.simulated
        assert [one.route for one in found.packages] == ["msr", "msr"]
        assert dict(found.packages[0].routes) == {"package": "msr", "dram": "msr", "psys": "msr"}
        with measure(sources=("rapl",), sysfs=root, devfs=node.devfs) as run:
            time.sleep(0.5)
        assert energy_channels(run) == {
            "package-0.energy",
            "package-0.dram.energy",
            "package-1.energy",
            "package-1.dram.energy",
            "psys.energy",
        }
        assert_truth(run, node, "package-0.energy", "package-0", 0.02)
        assert_truth(run, node, "package-0.dram.energy", "package-0.dram", 0.02)
        assert_truth(run, node, "package-1.energy", "package-1", 0.02)
        assert_truth(run, node, "psys.energy", "psys", 0.05)  # whole joules, some 400 of them
        totals = run.report().data["windows"][0]["totals"]
        begin, end = run.windows[0].start_ns, run.windows[0].end_ns
        both_j = sum(node.truth_j(f"package-{i}", begin, end) for i in (0, 1))
        assert totals["cpu_j"] == pytest.approx(both_j, rel=0.02)  # neither memory nor platform in it
        assert totals["node_j"] is None  # psys is what its maker made of it, and no meter
        assert run.trace.channels["package-0.energy"].modulus == 1 << 32
        assert {lane.cpu for lane in run.trace.lanes} <= {0, 56, -1}  # where the registers are, if this machine has it


def test_amd_package_by_powercap_and_the_sum_of_its_cores_by_registers():
    """Powercap's core zone is one core's counter: sixteen times too little."""
    with Node(cpu="amd_milan", wrap_after_j=1.0) as node:
        node.load_script("package-0", [(0.0, 140.0)])
        with measure(sources=("rapl",), sysfs=node.sysfs, devfs=node.devfs) as run:
            time.sleep(0.8)
        package = run.trace.meta["packages"][0]
        assert dict(package["routes"]) == {"package": "powercap", "core": "msr"}
        assert energy_channels(run) == {"package-0.energy", "package-0.core.energy"}
        assert_truth(run, node, "package-0.energy", "package-0", 0.02)
        assert_truth(run, node, "package-0.core.energy", "package-0.core", 0.05)  # read ten times a second
        assert run.trace.channels["package-0.core.energy"].divisor > 1
        alone = measure(sources=("rapl",), sysfs=node.sysfs)
        with alone:
            time.sleep(0.1)
        assert alone.trace.meta["notes"] == []  # no total lacks it; the reason is kept all the same
        (reason,) = [one for one in alone.trace.meta["packages"][0]["refused"] if one.startswith("powercap: core: ")]
        assert "one core's" in reason


def test_client_by_powercap_counts_core_and_uncore_in_the_package_only():
    with Node(cpu="intel_client", wrap_after_j=0.5) as node:
        node.load_script("package-0", [(0.0, 60.0)])
        with measure(sources=("rapl",), sysfs=node.sysfs) as run:
            time.sleep(0.5)
        told = assert_truth(run, node, "package-0.energy", "package-0", 0.02)
        assert_truth(run, node, "package-0.core.energy", "package-0.core", 0.03)
        assert run.report().data["windows"][0]["totals"]["cpu_j"] == told["joules"]


# ---- faults -----------------------------------------------------------------------------------------------------


def test_msr_nodes_that_vanish_leave_errors_and_come_back(tmp_path):
    """As when all CPUs of a package are taken offline and brought back."""
    with Node(cpu="intel_spr") as node:
        run = measure(sources=("rapl",), sysfs=registers_only(node, tmp_path), devfs=node.devfs)
        run.start()
        time.sleep(0.3)
        node.remove("msr-0")
        time.sleep(0.3)
        node.restore("msr-0")
        time.sleep(0.7)
        run.stop()
        series = run.trace.series("package-0.energy")
        assert {errno.ENODATA, errno.ENOENT} & set(series.status)
        assert series.status[0] == series.status[-1] == 0
        assert run.trace.lanes[0].reopens >= 1
        window = run.report().data["windows"][0]
        told = next(one for one in window["energies"] if one["channel"] == "package-0.energy")
        assert any(reason.startswith("PSQ-ERRORS") for reason in told["reasons"])


def test_zone_that_vanishes_while_recording_leaves_the_others_alone():
    with Node(cpu="intel_spr", packages=2) as node:
        run = measure(sources=("rapl",), sysfs=node.sysfs)
        run.start()
        time.sleep(0.2)
        node.remove("package-1")
        time.sleep(0.4)
        run.stop()
        assert run.trace.series("package-1.energy").status[-1] != 0
        assert not run.trace.series("package-0.energy").status.any()
        totals = run.report().data["windows"][0]["totals"]
        assert totals["cpu_j"] is None  # half a node is no total
        assert any("package-1" in reason for reason in totals["reasons"])


def test_counter_reset_by_a_driver_that_was_reloaded_is_told_and_not_counted():
    with Node(cpu="intel_spr") as node:
        node.load_script("package-0", [(0.0, 200.0)])
        run = measure(sources=("rapl",), sysfs=node.sysfs)
        run.start()
        time.sleep(0.3)
        node.reset_counter("package-0")
        time.sleep(0.3)
        run.stop()
        told = assert_truth(run, node, "package-0.energy", "package-0", 0.05)
        assert any(reason.startswith("PSQ-RESET") for reason in told["reasons"])


def test_stuck_register_is_told_by_channel_and_the_others_count(tmp_path):
    with Node(cpu="intel_spr") as node:
        node.freeze("package-0.dram")
        with measure(sources=("rapl",), sysfs=registers_only(node, tmp_path), devfs=node.devfs) as run:
            time.sleep(0.3)
        package = run.trace.meta["packages"][0]
        assert list(package["still"]) == ["package-0.dram.energy"]
        assert package["moved"]
        assert any("package-0.dram.energy by msr stood still" in note for note in run.trace.meta["notes"])
        window = run.report().data["windows"][0]
        told = next(one for one in window["energies"] if one["channel"] == "package-0.dram.energy")
        assert told["reasons"][0].startswith("PSQ-STUCK")
        channels = {one["name"]: one for one in run.report().data["channels"]}
        assert channels["package-0.dram.energy"]["stuck"]
        assert not channels["package-0.energy"]["stuck"]
        assert "PSQ-STUCK" in {check["code"] for check in run.report().data["checks"]}
        assert window["totals"]["dram_j"] is None
        assert window["totals"]["cpu_j"] is not None


def test_rate_at_which_a_counter_could_turn_twice_is_refused_with_the_lowest_that_does():
    """Half a joule a turn, and a package may draw 1000 W: it must be read twice in 0.5 ms."""
    with Node(cpu="intel_spr", counter_bits=13) as node:
        with pytest.raises(errors.InvalidArgument, match="turn round twice between two reads; give at least") as caught:
            measure(sources=("rapl",), sysfs=node.sysfs, rate_hz=100).start()
        least_hz = float(str(caught.value).split("at least ")[1].split()[0])
        assert least_hz == pytest.approx(2 * 1000 * 16384 / (1 << 13), rel=0.02)
        done = subprocess.run(
            [sampler_path(), "--sources", "rapl", "--sysfs", node.sysfs, "--rate", "100", "--duration", "0.1"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "could turn round twice" in done.stderr
        assert "give at least" in done.stderr


def test_automatic_rate_keeps_above_what_the_counters_need():
    with Node(cpu="intel_spr", counter_bits=16) as node:  # 4 J a turn: 500 Hz
        with measure(sources=("rapl",), sysfs=node.sysfs) as run:
            time.sleep(0.2)
        package = run.trace.meta["packages"][0]
        assert run.trace.lanes[0].rate_hz >= package["min_hz"] > 400


def test_environment_names_the_sysfs_and_an_option_goes_before_it(tmp_path, monkeypatch):
    with Node(cpu="intel_spr") as node:
        monkeypatch.setenv("POWERSAMPLE_SYSFS_ROOT", str(node.sysfs))
        listed = subprocess.run([sampler_path(), "--sources", "rapl", "--list"], capture_output=True, text=True)
        assert "package-0.energy" in listed.stdout
        with measure(sources=("rapl",)) as run:
            time.sleep(0.1)
        assert run.trace.simulated
        assert "package-0.energy" in run.trace.channels
        other = subprocess.run(
            [sampler_path(), "--sources", "rapl", "--sysfs", tmp_path, "--list"], capture_output=True, text=True
        )
        assert other.returncode == 3
        assert f"no intel-rapl zone in {str(tmp_path)[:60]}" in other.stderr  # the message holds so much for sure


def test_record_takes_devfs_and_its_child_reads_registers(tmp_path):
    from powersample import store
    from powersample.cli import main

    with Node(cpu="intel_spr") as node:
        root = registers_only(node, tmp_path)
        out = tmp_path / "cpu.parquet"
        options = ["--sources", "rapl", "--sysfs", str(root), "--devfs", str(node.devfs), "-o", str(out)]
        assert main(["record", "-q", *options, "--", "sleep", "0.4"]) == 0
        trace = store.load(out)
        assert trace.channels["package-0.energy"].sensor == "msr.0x611"
        assert trace.simulated
        assert "SIMULATED" in str(build(trace)).splitlines()[0]
    assert os.path.exists(out)
