# SPDX-License-Identifier: Apache-2.0
"""The ladder's rungs, order and times; a meter's steadiness; others on the CPUs; surroundings; the journal."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import load_tree
import numpy as np
import pytest

from powersample import errors
from powersample.experiments.calibrate import ground as ground_module
from powersample.experiments.calibrate.disturbance import Accounts, Watch
from powersample.experiments.calibrate.ground import MachineGround, NodeGround
from powersample.experiments.calibrate.journal import Journal
from powersample.experiments.calibrate.plan import FULL, SHORT, Times, duration_s, ladder, parse_rungs, rung
from powersample.experiments.calibrate.steadiness import Readings, last_trend, trend
from powersample.experiments.calibrate.surroundings import gpu_busy_pct, gpus_held_back, look
from powersample.model import Channel, Kind, Series, Trace
from powersample.sim import Node

S = 1_000_000_000


# ---- rungs


def test_rungs_of_the_defaults_have_what_a_node_model_needs():
    full = parse_rungs(FULL)
    kernels = [one.kernel for one in full]
    assert len(full) + 2 >= 12
    assert 4 <= kernels.count("primes") + kernels.count("fma") <= 6
    assert kernels.count("stream") == 2
    assert kernels.count("gpu") >= 5
    assert any(one.parts == {"gpu": 1.0, "mix": 1.0} for one in full)  # all at once: else every run is beyond the hull
    assert {one.name for one in parse_rungs(SHORT)} < {one.name for one in full}


def test_rung_tells_its_name_kernel_and_level():
    both = parse_rungs("mix:50+gpu:100")[0]
    assert (both.name, both.kernel, both.level) == ("mix 50 % + gpu 100 %", "gpu", 1.0)
    assert (rung({}).name, rung({}).kernel, rung({}).level) == ("idle", "idle", 0.0)


@pytest.mark.parametrize(
    "text", ["primes:50,gpu:100+mix:25", "primes:50%,gpu:100%+mix:25%", "primes:0.5,gpu:1+mix:0.25"]
)
def test_levels_are_shares_or_percents(text):
    """The same as of `powersample stress` and of the sampler: 1 is all, and a whole number from 2 on a percent."""
    assert [one.name for one in parse_rungs(text)] == ["primes 50 %", "gpu 100 % + mix 25 %"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 loads"),
        ("idle", "0 loads"),
        ("primes", "no load"),
        ("primes:x", "a level is a number from 0 to 1, or 0% to 100%"),
        ("primes:0", "above 0"),
        ("primes:101", "0% to 100%"),
        ("primes:1.5", "0% to 100%"),
        ("primes:50%x", "0% to 100%"),
        ("primes:nan", "a level is"),
        ("linpack:50", "there are idle, primes"),
        ("primes:50+fma:50", "of primes, fma, stream, mix one"),
        ("primes:50+primes:60", "twice"),
        ("primes:50,primes:50", "twice"),
        (",".join(f"primes:{i}" for i in range(2, 68)), "66 loads"),
    ],
)
def test_rungs_that_are_none_are_refused(text, words):
    with pytest.raises(errors.InvalidArgument, match=words):
        parse_rungs(text)


def test_ladder_begins_and_ends_idle_and_is_the_same_for_the_same_seed():
    rungs = parse_rungs(FULL)
    first, notes = ladder(rungs, {}, 1)
    assert first == ladder(rungs, {}, 1)[0] != ladder(rungs, {}, 2)[0]
    assert first[0].name == first[-1].name == "idle"
    assert sorted(one.name for one in first[1:-1]) == sorted(one.name for one in rungs)
    assert notes == ()


def test_ladder_without_gpus_says_so_once_and_keeps_the_rest():
    rungs, notes = ladder(parse_rungs(FULL), {"gpu": "torch is not installed"}, 0)
    assert not any("gpu" in one.parts for one in rungs)
    assert len(rungs) == 10
    assert notes == ("no gpu load: torch is not installed",)


def test_times_of_a_quick_node_keep_what_its_sensors_need():
    quick = Times().quicker(20).fitting(0.05)
    assert (quick.window_s, quick.per_s, quick.settle_s, quick.dwell_s) == (1.0, 0.5, 12.0, 2.2)
    assert Times().quicker(1) == Times()
    slow = Times().fitting(5.0)
    assert (slow.window_s, slow.dwell_s) == (50.0, 50.0)


@pytest.mark.parametrize("wrong", [{"dwell_s": 5.0}, {"settle_s": 1.0}, {"limit_pct": 0.0}, {"window_s": math.nan}])
def test_times_that_cannot_be_are_refused(wrong):
    with pytest.raises(errors.InvalidArgument):
        Times(**wrong)


def test_duration_lies_between_all_steady_at_once_and_none():
    least_s, most_s = duration_s(10, Times(), 60.0)
    assert least_s == 60 + 10 * 41
    assert most_s == 60 + 10 * 241


# ---- steadiness


def readings(watts, cycle_s=1.0, start_s=1000):
    watts = np.asarray(watts, np.float64)
    t_ns = (start_s + np.arange(1, len(watts) + 1) * cycle_s) * S
    return Readings(t_ns.astype(np.int64), np.full(len(watts), cycle_s), watts)


def test_trend_of_a_line_is_that_line():
    line = trend(readings(800 + 0.5 * np.arange(21)))
    assert line.slope_w_s == pytest.approx(0.5)
    assert line.slope_se_w_s == pytest.approx(0, abs=1e-9)
    assert line.mean_w == pytest.approx(805)
    assert line.drift_pct(10) == pytest.approx(100 * 5 / 805)


def test_trend_error_is_what_repeats_scatter_by():
    dice = np.random.default_rng(3)
    lines = [trend(readings(800 + dice.normal(0, 2, 20))) for _ in range(2000)]
    assert np.std([one.slope_w_s for one in lines]) == pytest.approx(
        np.mean([one.slope_se_w_s for one in lines]), rel=0.05
    )


@pytest.mark.parametrize(("slope_w_s", "steady"), [(0.0, True), (0.075, True), (0.085, False), (-0.085, False)])
def test_steady_is_a_tenth_of_a_percent_in_ten_seconds(slope_w_s, steady):
    t = np.arange(20)
    assert trend(readings(800 + slope_w_s * (t - t.mean()))).steady(Times()) is steady


def test_steady_of_a_coarse_meter_is_what_cannot_be_told_from_it():
    """A management controller tells whole watts: 0 and 1 W of 400 by turns is no drift."""
    assert trend(readings(400 + np.arange(40) % 2)).steady(Times())
    noise = np.random.default_rng(0).normal(0, 200, 20)
    assert not trend(readings(400 + noise)).steady(Times())  # nothing can be told at all


def test_last_trend_needs_readings_for_all_of_its_window():
    some = readings(np.full(30, 500.0))
    end_ns = int(some.t_ns[-1])
    begin_ns = end_ns - 25 * S
    assert last_trend(some, end_ns, begin_ns, 20) is not None
    assert last_trend(some, end_ns, begin_ns, 26) is None  # the load was another
    hole = np.r_[0:15, 17:30]
    assert last_trend(Readings(some.t_ns[hole], some.span_s[hole], some.watts[hole]), end_ns, begin_ns, 20) is None
    instants = Readings(some.t_ns, np.zeros(30), some.watts)
    assert last_trend(instants, end_ns, begin_ns, 20) is not None


# ---- others


def proc(root, *, idle, own, child=(), cpus=4):
    """Write a /proc: idle ticks of all CPUs, ticks of process 100, and of its child."""
    total = f"cpu  999 0 0 {idle} 7 0 0 3 0 0\n" + "".join(f"cpu{i} 1 0 0 1 0 0 0 0 0 0\n" for i in range(cpus))
    root.mkdir(exist_ok=True)
    (root / "stat").write_text(total + "intr 5\n")
    for pid, ticks, children in [(100, own, [200] if child else []), *((200, one, []) for one in child)]:
        task = root / str(pid) / "task" / str(pid)
        task.mkdir(parents=True, exist_ok=True)
        (task / "children").write_text("".join(f"{one} " for one in children))
        (root / str(pid) / "stat").write_text(f"{pid} (odd ) name) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5\n")
    return root


def test_watch_counts_what_is_neither_idle_nor_own(tmp_path):
    hz = os.sysconf("SC_CLK_TCK")
    watch = Watch(proc(tmp_path / "proc", idle=1000, own=100, child=[50]), 100)
    before = watch.look(0)
    # 10 s of 4 CPUs: 25 s idle, 8 s own, 4 s of its child: 3 s of others
    proc(tmp_path / "proc", idle=1000 + 25 * hz, own=100 + 8 * hz, child=[50 + 4 * hz])
    assert before.others_cpus(watch.look(10 * S)) == pytest.approx(0.3)
    assert watch.cpus == 4
    assert watch.limit_cpus == pytest.approx(0.1)


def test_watch_child_that_ended_and_was_waited_for_is_own(tmp_path):
    hz = os.sysconf("SC_CLK_TCK")
    watch = Watch(proc(tmp_path / "proc", idle=1000, own=0, child=[5 * hz]), 100)
    before = watch.look(0)
    proc(tmp_path / "proc", idle=1000 + 30 * hz, own=15 * hz)  # the child's 5 s, and 5 more, lie in its parent's
    (tmp_path / "proc" / "200" / "stat").unlink()
    assert before.others_cpus(watch.look(10 * S)) == pytest.approx(0.0)


def test_watch_takes_no_child_of_ours_for_others():
    """What a child did, by the scheduler's own count, is what two watches differ by of whom one does not know it."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def looks(now_ns):
        with open(f"/proc/{child.pid}/schedstat", encoding="ascii") as file:
            return watch.look(now_ns), blind.look(now_ns), int(file.read().split()[0]) / S + time.process_time()

    try:
        watch, blind = Watch(), Watch(pid=1 << 30)
        before, blind_before, used_s = looks(time.monotonic_ns())
        time.sleep(0.4)
        now, blind_now, used_now_s = looks(time.monotonic_ns())
        elapsed_s = (now.at_ns - before.at_ns) / S
        difference_s = (blind_before.others_cpus(blind_now) - before.others_cpus(now)) * elapsed_s
        assert difference_s == pytest.approx(used_now_s - used_s, abs=0.06)
    finally:
        child.kill()
        child.wait()


def test_watch_where_nothing_is_counted_is_refused(tmp_path):
    root = proc(tmp_path / "proc", idle=1, own=0)
    (root / "stat").write_text("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n")
    with pytest.raises(errors.NotSupported, match="does not count"):
        Watch(root, 100)
    (root / "stat").write_text("nonsense\n")
    with pytest.raises(errors.BadFormat):
        Watch(root, 100)
    (root / "stat").unlink()
    with pytest.raises(errors.NotSupported, match="errno 2"):
        Watch(root, 100)


def test_accounts_never_tell_less_than_nothing():
    assert Accounts(0, 2, 0.0, 0.0).others_cpus(Accounts(10 * S, 2, 25.0, 0.0)) == 0.0
    assert Accounts(0, 2, 0.0, 0.0).others_cpus(Accounts(0, 2, 0.0, 0.0)) == 0.0


# ---- surroundings


def test_surroundings_are_the_hottest_cpu_and_the_fans_that_turn(tmp_path):
    for chip, files in {
        "hwmon0": {"name": "coretemp", "temp1_input": "61000", "temp2_input": "64000", "temp3_input": "gone"},
        "hwmon1": {"name": "nvme", "temp1_input": "80000"},
        "hwmon2": {"name": "nct6798", "fan1_input": "3000", "fan2_input": "0", "fan3_input": "5000"},
    }.items():
        folder = tmp_path / "class" / "hwmon" / chip
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text + "\n")
    throttle = tmp_path / "devices" / "system" / "cpu" / "cpu3" / "thermal_throttle"
    throttle.mkdir(parents=True)
    (throttle / "core_throttle_count").write_text("7\n")
    before = look(tmp_path)
    assert (before.temperature_c, before.fan_rpm) == (64.0, 4000.0)
    assert not before.held_back(look(tmp_path))
    (throttle / "core_throttle_count").write_text("8\n")
    assert before.held_back(look(tmp_path))


def test_surroundings_of_a_machine_without_hwmon_are_unknown(tmp_path):
    here = look(tmp_path)
    assert (here.temperature_c, here.fan_rpm, here.throttled) == (None, None, {})


def told_by_driver(name, values, status=0):
    channel = Channel(name=name, device="GPU-1", domain="gpu", kind=Kind.AUX, unit="1", sensor="nvml")
    count = len(values)
    t_ns = np.arange(count, dtype=np.int64) * S
    return Series(channel, t_ns, t_ns + 1000, np.array(values), np.full(count, status, np.uint16), np.arange(count))


def test_gpus_are_held_back_by_heat_and_not_by_their_power_limit():
    """nvml.h: 0x4 is the software's power cap, 0x40 the hardware's thermal slowdown, 0x20 the software's."""
    for reason, heat in ((0x1, False), (0x4, False), (0x40, True), (0x24, True)):
        trace = Trace.of([told_by_driver("gpu0.throttle", [0x1, reason, 0x1])])
        assert gpus_held_back(trace, 0, 3 * S) is heat
    assert not gpus_held_back(trace, 2 * S, 3 * S)  # it was before
    refused = Trace.of([told_by_driver("gpu0.throttle", [0x40], status=3)])
    assert not gpus_held_back(refused, 0, S)


def test_busiest_gpu_is_told_and_none_is_not_busy():
    trace = Trace.of(
        [told_by_driver("gpu0.utilization.gpu", [0, 2, 4]), told_by_driver("gpu1.utilization.gpu", [0, 60, 90])]
    )
    assert gpu_busy_pct(trace, 0, 3 * S) == 50
    assert gpu_busy_pct(Trace.of([]), 0, 3 * S) == 0


# ---- journal


def test_journal_keeps_points_over_a_kill_and_cuts_what_was_torn(tmp_path):
    path, about = tmp_path / "new" / "host.journal", {"host": "a", "ladder": ["idle", "primes 50 %"]}
    with Journal(path, about) as journal:
        assert journal.kept == ()
        journal.add({"name": "idle", "wall_w": 1.0})
        journal.add({"name": "primes 50 %", "wall_w": 2.0})
    with path.open("ab") as file:
        file.write(b'{"point": {"name": "tor')
    with Journal(path, about) as journal:
        assert [one["name"] for one in journal.kept] == ["idle", "primes 50 %"]
        journal.add({"name": "idle", "wall_w": 3.0})
    with Journal(path, about) as journal:
        assert len(journal.kept) == 3
        journal.remove()
    assert not path.exists()


def test_journal_killed_while_it_writes_keeps_all_whole_points(tmp_path):
    code = (
        "import sys; from pathlib import Path; from powersample.experiments.calibrate.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), {'host': 'a'})\n"
        "for i in range(10**6): journal.add({'name': str(i)}); print(i, flush=True)\n"
    )
    path = tmp_path / "journal"
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    seen = [int(child.stdout.readline()) for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with Journal(path, {"host": "a"}) as journal:
        assert [int(one["name"]) for one in journal.kept[:20]] == seen


@pytest.mark.parametrize("other", [{"host": "b"}, {"host": "a", "more": 1}])
def test_journal_of_another_calibration_is_refused_by_what_differs_and_kept(tmp_path, other):
    path = tmp_path / "journal"
    with Journal(path, {"host": "a"}) as journal:
        journal.add({"name": "idle"})
    before = path.read_bytes()
    differs = "host" if other["host"] == "b" else "more"
    with pytest.raises(errors.StateError, match=rf"keeps 1 point of.*differs in {differs}.*--restart"):
        Journal(path, other)
    assert path.read_bytes() == before
    with Journal(path, other, restart=True) as journal:
        assert journal.kept == ()


@pytest.mark.parametrize(
    ("changed", "differs"), [({"GPUs": ["GPU-1"]}, "GPUs"), ({"meters": ["LMG450 2"]}, "meters"), ({}, None)]
)
def test_journal_goes_on_only_by_the_devices_that_its_points_were_measured_by(tmp_path, changed, differs):
    """A card or a meter that was swapped between the interruption and the next try."""
    path, devices = tmp_path / "journal", {"GPUs": ["GPU-0"], "meters": ["LMG450 1"]}
    with Journal(path, {"host": "a"}) as journal:
        journal.match_devices(devices)
        journal.add({"name": "idle"})
    before = path.read_bytes()
    with Journal(path, {"host": "a"}) as journal:
        if differs is None:
            journal.match_devices(devices)
        else:
            with pytest.raises(errors.StateError, match=rf"keeps 1 point of.*differs in {differs}.*--restart"):
                journal.match_devices({**devices, **changed})
    assert path.read_bytes() == before
    with Journal(path, {"host": "a"}, restart=True) as journal:
        journal.match_devices({**devices, **changed})


def test_journal_without_a_point_gives_way_to_any_other(tmp_path):
    Journal(tmp_path / "journal", {"host": "a"}).close()
    with Journal(tmp_path / "journal", {"host": "b"}) as journal:
        journal.add({"name": "idle"})
    assert json.loads((tmp_path / "journal").read_text().splitlines()[0])["about"] == {"host": "b"}


def test_journal_that_another_process_holds_is_refused(tmp_path):
    with Journal(tmp_path / "journal", {}), pytest.raises(errors.StateError, match="going on"):
        Journal(tmp_path / "journal", {})


def test_journal_that_is_none_is_told_and_left_alone(tmp_path):
    path = tmp_path / "journal"
    path.write_text("my diary\n")
    with pytest.raises(errors.BadFormat, match="--restart"):
        Journal(path, {})
    assert path.read_text() == "my diary\n"


def test_journal_on_a_full_disk_says_so(tmp_path):
    with Journal(tmp_path / "journal", {}) as journal:
        os.dup2(os.open("/dev/full", os.O_WRONLY), journal._fd)
        with pytest.raises(errors.DiskFull, match="No space left"):
            journal.add({"name": "idle"})


# ---- grounds


def test_node_ground_powers_are_exact_and_the_board_follows_all_others():
    with Node("h100", gpus=2, cpu="intel_spr") as node:
        ground = NodeGround(node)
        assert ground.lacks == {}
        idle = ground.powers_w(rung({}))
        assert idle == {"gpu0": 48, "gpu1": 48, "package-0": 100, "package-0.dram": 12, "board": 170}
        full = ground.powers_w(parse_rungs("gpu:100+mix:100")[0])
        assert full == pytest.approx({"gpu0": 350, "gpu1": 350, "package-0": 350, "package-0.dram": 45, "board": 215})
        primes = ground.powers_w(parse_rungs("primes:50")[0])
        assert primes["package-0"] == 225
        assert primes["package-0.dram"] == 12
        assert 170 < primes["board"] < 215
        ground.begin(parse_rungs("primes:50")[0])
        later_ns = time.monotonic_ns() + S
        assert node.truth_power_w("package-0", later_ns) == 225
        assert ground.end() == []
        assert node.truth_power_w("node", time.monotonic_ns() + S) == pytest.approx(sum(idle.values()))
        assert not node.truth_state()["truth_void"]


def test_node_without_cpus_lacks_their_loads():
    with Node("h100") as node:
        assert set(NodeGround(node).lacks) == {"primes", "fma", "stream", "mix"}


def test_machine_ground_works_until_it_is_ended_and_says_what_it_lacks():
    ground = MachineGround()
    if "gpu" in ground.lacks:
        assert "torch" in ground.lacks["gpu"]
    before_s = time.process_time()
    ground.begin(parse_rungs("primes:100")[0])
    time.sleep(0.3)
    ground.check()
    told = ground.end()
    assert time.process_time() - before_s > 0.05
    after_s = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - after_s < 0.05  # nothing works on
    assert all(isinstance(one, str) for one in told)
    assert ground.end() == []


def test_machine_ground_load_that_became_too_warm_ends_it_with_the_temperature(tmp_path, monkeypatch):
    """A point of idle CPUs would stand under the load's name."""
    from powersample import loads

    load_tree.chip(tmp_path, 71250, "k10temp", "Tctl")
    real = loads.run
    monkeypatch.setattr(loads, "run", lambda *what, **how: real(*what, **how, sysfs=tmp_path))
    ground = MachineGround(71.0)
    ground.begin(parse_rungs("primes:10%")[0])
    for thread in threading.enumerate():
        if thread.name == "powersample-primes":
            thread.join()
    with pytest.raises(
        errors.DeviceError, match=r"primes load was ended: .*71.2 degrees C, and 71 were.*Points are kept"
    ):
        ground.check()


def test_machine_ground_load_that_cannot_run_is_raised_where_it_is_asked_after(monkeypatch):
    from powersample import loads

    def refuse(*_, **__):
        raise errors.OutOfMemory("stream would take more than half of the memory")

    monkeypatch.setattr(loads, "run", refuse)
    ground = MachineGround()
    ground.begin(parse_rungs("stream:100")[0])
    ground.end()
    with pytest.raises(errors.OutOfMemory, match="half of the memory"):
        ground.check()


def test_machine_ground_load_that_ends_by_itself_is_a_failure_and_no_idle_point(monkeypatch):
    """What was measured after its end would stand under the load's name; the next load is none the worse for it."""
    monkeypatch.setattr(ground_module, "LONGEST_S", 0.05)
    ground = MachineGround()
    ground.begin(parse_rungs("primes:100")[0])
    for thread in threading.enumerate():
        if thread.name == "powersample-primes":
            thread.join()
    with pytest.raises(errors.DeviceError, match="primes load ended by itself"):
        ground.check()
    monkeypatch.setattr(ground_module, "LONGEST_S", 60.0)
    ground.begin(parse_rungs("primes:100")[0])
    ground.check()
    ground.end()
    ground.check()


@pytest.mark.parametrize("times", [{"settle_s": 20_000.0}, {"dwell_s": 12_000.0}])
def test_times_beyond_what_a_load_lasts_are_refused_at_once(times):
    with pytest.raises(errors.InvalidArgument, match=r"lasts 6 h at most.*--settle"):
        Times(**times)
