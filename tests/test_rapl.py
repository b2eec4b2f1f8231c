# SPDX-License-Identifier: Apache-2.0
"""CPU energy from a folder that looks like /sys, all the way to the report."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from rapl_tree import MODULUS_UJ, Tree, closed_register, software_pmu
from unprivileged import as_nobody, list_as_nobody

from powersample import errors, measure, store
from powersample._native.api import LaneOptions, Sampler, Script, Spool, scripted_source
from powersample.capture import Plan, discover, sampler_path
from powersample.model import Window
from powersample.report import build
from powersample.sim import Node


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "sys")


@pytest.fixture
def open_tree():
    """A tree in a folder that any user may enter, as /sys is."""
    folder = Path(tempfile.mkdtemp(prefix="powersample-rapl-"))
    folder.chmod(0o755)
    yield Tree(folder)
    shutil.rmtree(folder)


def rapl(tree, **options):
    return Plan(sources=("rapl",), sysfs=str(tree.root), **options)


def entry(window, channel):
    return next(one for one in window["energies"] if one["channel"] == channel)


# ---- energy through to the report -------------------------------------------------------------------------------


def test_report_two_packages_that_wrap_add_up_and_count_nothing_twice(tree):
    tree.zone("intel-rapl:0", "package-0", 40, start_uj=7_900_000)
    tree.zone("intel-rapl:0:0", "core", 25)
    tree.zone("intel-rapl:0:1", "dram", 10)
    tree.zone("intel-rapl:1", "package-1", 20)
    tree.zone("intel-rapl:2", "psys", 90)
    tree.zone("intel-rapl-mmio:0", "package-0", 40)
    with tree.moving(), measure(sources=("rapl",), sysfs=tree.root) as run, run.window("work"):
        time.sleep(1.0)
    data = run.report().data
    window = next(one for one in data["windows"] if one["name"] == "work")
    seconds = window["duration_s"]
    watts = {
        "package-0.energy": 40,
        "package-0.core.energy": 25,
        "package-0.dram.energy": 10,
        "package-1.energy": 20,
        "psys.energy": 90,
    }
    assert {one["channel"] for one in window["energies"]} == set(watts)
    for channel, power in watts.items():
        one = entry(window, channel)
        assert one["joules"] == pytest.approx(power * seconds, rel=0.06)  # the thread that moves them may be late
        assert one["primary"]
        assert not [reason for reason in one["reasons"] if reason.startswith("PSQ-RESET")]
    totals = window["totals"]
    assert totals["cpu_j"] == pytest.approx(60 * seconds, rel=0.06)
    assert totals["dram_j"] == pytest.approx(10 * seconds, rel=0.06)
    assert totals["gpu_j"] is None
    assert run.energy("work", "package-1", domain="package").joules == entry(window, "package-1.energy")["joules"]
    assert run.trace.channels["package-0.energy"].modulus == MODULUS_UJ
    assert [one["route"] for one in data["meta"]["packages"]] == ["powercap", "powercap"]
    assert "total: CPU" in run.report().every_channel()


def test_dies_of_a_package_add_up_to_the_total_and_their_parts_do_not(tree):
    tree.zone("intel-rapl:0", "package-0-die-0", 30)
    tree.zone("intel-rapl:0:0", "core", 20)
    tree.zone("intel-rapl:0:1", "dram", 4)
    tree.zone("intel-rapl:1", "package-0-die-1", 25)
    tree.zone("intel-rapl:1:0", "uncore", 5)
    tree.zone("intel-rapl:1:1", "dram", 6)
    with tree.moving(), measure(sources=("rapl",), sysfs=tree.root) as run:
        time.sleep(0.5)
    window = run.report().data["windows"][0]
    assert window["totals"]["cpu_j"] == pytest.approx(55 * window["duration_s"], rel=0.06)
    assert window["totals"]["dram_j"] == pytest.approx(10 * window["duration_s"], rel=0.06)
    die = run.energy("run", "package-0-die-1", domain="package")
    assert die.joules == pytest.approx(25 * window["duration_s"], rel=0.06)


def test_wrapping_counter_keeps_exact_energy_from_lane_to_report(tmp_path):
    """In simulated time: 1234 uJ a millisecond, 40 wraps, no joule more or less."""
    modulus, step, passes = 100_003, 1234, 3300
    script = Script(steps=((0, 0, 0, 99_000, step, 0),), kind="energy", raw_modulus=modulus, scale=1e-6)
    sampler = Sampler()
    sampler.add(scripted_source("package-0", script), LaneOptions(mode="virtual", rate_hz=1000, max_passes=passes))
    sampler.start()
    with Spool(tmp_path, sampler) as spool:
        spool.start()
        while sampler.running:
            time.sleep(0.01)
        sampler.stop()
        spool.stop()
    sampler.close()
    (tmp_path / "session.json").write_text("{}")
    trace = store.read_spool(tmp_path)
    assert trace.channels["package-0.energy0"].modulus == modulus
    ms = 1_000_000
    window = Window("middle", 100 * ms, 3100 * ms, (), "test")
    found = build(trace, [window]).data["windows"][0]["energies"][0]
    assert found["joules"] == pytest.approx(3000 * step * 1e-6, abs=1e-9)
    assert [reason.split()[0] for reason in found["reasons"]] == ["PSQ-EDGE"]  # it moves at every poll


def test_record_command_by_the_executable_reads_packages(tree, tmp_path):
    tree.zone("intel-rapl:0", "package-0", 30)
    command = [sys.executable, "-m", "powersample.cli", "record", "--sources", "rapl", "--sysfs", str(tree.root)]
    with tree.moving():
        done = subprocess.run(
            [*command, "-o", "cpu.parquet", "--", "sleep", "0.5"], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    window = build(store.load(tmp_path / "cpu.parquet")).data["windows"][0]
    assert window["totals"]["cpu_j"] == pytest.approx(30 * window["duration_s"], rel=0.1)


def test_sampler_reads_gpus_and_packages_side_by_side(tree):
    tree.zone("intel-rapl:0", "package-0", 0)
    with Node("h100") as node:
        done = subprocess.run(
            [sampler_path(), "--nvml-lib", node.library, "--sysfs", tree.root, "--list"], capture_output=True, text=True
        )
    names = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert {"gpu0.power.instant", "package-0.energy"} <= set(names)


def test_perf_counts_through_to_the_report_and_powercap_stays_out(tree):
    software_pmu(tree)
    tree.zone("intel-rapl:0", "package-0", 50)
    with tree.moving():
        if discover(rapl(tree)).packages[0].route != "perf":
            pytest.skip("perf refuses this user")
        for _ in range(5):  # a machine so busy that the lane starves at the window's edges tells no total
            with measure(sources=("rapl",), sysfs=tree.root) as run:
                time.sleep(0.4)
            window = run.report().data["windows"][0]
            if window["totals"]["cpu_j"] is not None:
                break
    assert [one["channel"] for one in window["energies"]] == ["package-0.energy"]
    assert window["totals"]["cpu_j"] == pytest.approx(window["duration_s"], rel=0.005)
    assert run.trace.lanes[0].cpu == 0


# ---- faults -----------------------------------------------------------------------------------------------------


def test_counter_that_never_moves_is_stuck_and_never_primary(tree):
    tree.zone("intel-rapl:0", "package-0", 0)
    tree.zone("intel-rapl:1", "package-1", 20)
    with tree.moving(), measure(sources=("rapl",), sysfs=tree.root) as run:
        time.sleep(0.4)
    window = run.report().data["windows"][0]
    still = entry(window, "package-0.energy")
    assert still["joules"] is None
    assert not still["primary"]
    assert still["reasons"][0].startswith("PSQ-STUCK")
    assert entry(window, "package-1.energy")["primary"]
    assert window["totals"]["cpu_j"] is None  # half a node is no total
    assert any("package-0" in note and "stood still" in note for note in run.trace.meta["notes"])


def test_file_that_vanishes_leaves_errors_and_comes_back(tree):
    path = tree.zone("intel-rapl:0", "package-0", 20)
    away = tree.root / "away"
    run = measure(sources=("rapl",), sysfs=tree.root)
    with tree.moving():
        run.start()
        time.sleep(0.3)
    shutil.copy(path, away)
    os.truncate(path, 0)
    path.unlink()
    time.sleep(0.3)
    away.rename(path)
    time.sleep(0.6)
    run.stop()
    series = run.trace.series("package-0.energy")
    assert run.trace.lanes[0].reopens == 1
    assert series.status[0] == 0
    assert {errno.ENODATA, errno.ENOENT} <= set(series.status)
    assert series.status[-1] == 0
    window = run.report().data["windows"][0]
    assert any(reason.startswith("PSQ-ERRORS") for reason in entry(window, "package-0.energy")["reasons"])


GARBAGE = pytest.mark.parametrize(
    ("text", "code"), [("nonsense\n", errno.EBADMSG), ("", errno.ENODATA), ("-1\n", errno.EBADMSG)]
)


@GARBAGE
def test_text_that_is_no_number_from_the_start_leaves_the_domain_out_with_its_reason(tree, text, code):
    tree.zone("intel-rapl:0", "package-0", 20)
    path = tree.zone("intel-rapl:0:0", "dram", 5)
    del tree.zones[path]
    path.write_text(text)
    with tree.moving(), measure(sources=("rapl",), sysfs=tree.root) as run:
        time.sleep(0.2)
    data = run.report().data
    assert [one["channel"] for one in data["windows"][0]["energies"]] == ["package-0.energy"]
    assert data["windows"][0]["totals"]["dram_j"] is None
    (note,) = run.trace.meta["notes"]
    assert note.startswith("rapl: package-0: dram left out: powercap: read: ")
    assert note.endswith(f"intel-rapl:0:0/energy_uj: {os.strerror(code)} [errno {code}]")


@GARBAGE
def test_text_that_becomes_no_number_is_told_and_gives_no_energy_from_there_on(tree, text, code):
    tree.zone("intel-rapl:0", "package-0", 20)
    path = tree.zone("intel-rapl:0:0", "dram", 5)
    del tree.zones[path]
    run = measure(sources=("rapl",), sysfs=tree.root)
    with tree.moving():
        run.start()
        path.write_text(text)
        time.sleep(0.2)
        run.stop()
    window = run.report().data["windows"][0]
    assert entry(window, "package-0.energy")["primary"]
    broken = entry(window, "package-0.dram.energy")
    assert broken["joules"] is None
    assert not broken["primary"]
    channel = next(one for one in run.report().data["channels"] if one["name"] == "package-0.dram.energy")
    assert channel["errors"][str(code)] > 0.5 * channel["polls"]
    assert window["totals"]["dram_j"] is None


# ---- what is there ----------------------------------------------------------------------------------------------


def test_discover_closed_files_says_code_and_both_ways_out(open_tree):
    path = open_tree.zone("intel-rapl:0", "package-0", 0)
    with as_nobody(path), pytest.raises(errors.NothingMeasurable) as caught:
        discover(rapl(open_tree))
    text = str(caught.value)
    for words in ("powercap: open", "energy_uj", "errno 13", "CVE-2020-8694", "udev", "--simulate h100"):
        assert words in text


def test_discover_perf_refusal_names_the_setting(open_tree):
    software_pmu(open_tree)
    path = open_tree.zone("intel-rapl:0", "package-0", 0)
    with as_nobody(path):
        try:
            found = discover(rapl(open_tree))
        except errors.NothingMeasurable as error:
            found, text = None, str(error)
    if found is not None:
        pytest.skip("perf lets every user count system-wide here")
    for words in ("perf: perf_event_open", "energy-pkg", "perf_event_paranoid", "CAP_PERFMON", "CVE-2020-8694"):
        assert words in text


def test_discover_closed_registers_name_the_capability(open_tree):
    devfs = closed_register(open_tree)
    path = open_tree.zone("intel-rapl:0", "package-0", 0)
    with as_nobody(path), pytest.raises(errors.NothingMeasurable) as caught:
        discover(rapl(open_tree, devfs=str(devfs)))
    for words in ("msr: open", "cpu/0/msr", "errno 13", "CAP_SYS_RAWIO", "powercap: open"):
        assert words in str(caught.value)


def test_sampler_unprivileged_ends_with_3_and_every_routes_refusal(open_tree):
    software_pmu(open_tree)
    devfs = closed_register(open_tree)
    path = open_tree.zone("intel-rapl:0", "package-0", 0)
    path.chmod(0o400)
    done = list_as_nobody("rapl", open_tree.root, "--devfs", str(devfs))
    if done.returncode == 0:
        pytest.skip("perf lets every user count system-wide here")
    assert done.returncode == 3
    for route, call in (("perf", "perf_event_open"), ("powercap", "open"), ("msr", "open")):
        line = next(line for line in done.stderr.splitlines() if f"rapl package-0 by {route}: {call}: " in line)
        assert "PS_E_ACCESS, code 13" in line


def test_discover_nothing_at_all_lists_every_source(tmp_path):
    with pytest.raises(errors.NothingMeasurable) as caught:
        discover(Plan(sysfs=str(tmp_path), nvml_library=str(tmp_path / "libnvidia-ml.so.1")))
    assert "nvml:" in str(caught.value)
    assert "rapl:" in str(caught.value)
    assert str(tmp_path / "class" / "powercap")[:60] in str(caught.value)


def test_discover_counters_that_all_stand_still_are_nothing(tree):
    tree.zone("intel-rapl:0", "package-0", 0)
    with pytest.raises(errors.NothingMeasurable, match="stood still"):
        discover(rapl(tree))


def test_discover_gpus_asked_for_by_library_are_not_replaced_by_packages(tree, tmp_path):
    tree.zone("intel-rapl:0", "package-0", 20)
    with tree.moving(), pytest.raises(errors.NothingMeasurable, match="GPUs that were asked for"):
        discover(Plan(sysfs=str(tree.root), nvml_library=str(tmp_path / "libnvidia-ml.so.1")))


def test_discover_beside_a_simulated_gpu_leaves_this_machines_packages_out():
    with Node("h100") as node:
        found = discover(Plan(nvml_library=str(node.library)), {})
    assert found.simulated
    assert found.packages == ()
    assert found.notes == ()  # on a machine without RAPL as on one with it


def test_measure_gpu_and_package_together_give_both_totals(tree):
    tree.zone("intel-rapl:0", "package-0", 30)
    with Node("h100") as node, tree.moving():
        node.load_script(0, [(0.0, 300.0)])
        with measure(nvml_library=node.library, sysfs=tree.root) as run:
            time.sleep(0.6)
    window = run.report().data["windows"][0]
    assert window["totals"]["cpu_j"] == pytest.approx(30 * window["duration_s"], rel=0.1)
    assert window["totals"]["gpu_j"] > 100
    assert [lane.name for lane in run.trace.lanes] == ["nvml:gpu0", "rapl:package-0"]


def test_discover_without_gpus_goes_on_with_packages_and_a_note(tree, monkeypatch):
    def refuse(library):
        raise errors.DeviceNotFound("libnvidia-ml.so.1: there is no NVIDIA driver")

    monkeypatch.setattr("powersample.capture.plan.Nvml", refuse)
    tree.zone("intel-rapl:0", "package-0", 20)
    with tree.moving():
        found = discover(Plan(sources=("nvml", "rapl"), sysfs=str(tree.root)))
    assert [one.number for one in found.packages] == [0]
    assert found.driver is None
    assert found.notes == ("nvml: libnvidia-ml.so.1: there is no NVIDIA driver",)


def test_simulate_without_a_simulated_source_is_refused():
    with pytest.raises(errors.InvalidArgument, match="add nvml"), measure(simulate="h100+none", sources=("rapl",)):
        pass


def test_channels_in_the_spool_header_say_where_they_wrap(tree, tmp_path):
    tree.zone("intel-rapl:0", "package-0", 20)
    spool = tmp_path / "spool"
    with tree.moving():
        subprocess.run(
            [sampler_path(), "--sources", "rapl", "--sysfs", tree.root, "--duration", "0.1", "--spool", spool],
            check=True,
            capture_output=True,
        )
    with (spool / "part-000000.part").open("rb") as file:
        header = json.loads(file.readline())
    assert [one["modulus"] for one in header["channels"]] == [MODULUS_UJ]
