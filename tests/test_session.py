# SPDX-License-Identifier: Apache-2.0
"""`measure()` on simulated nodes: windows, threads, forks, faults, and energies against the exact truth."""

import gc
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import powersample as ps
from powersample import errors, marks, store
from powersample.model import Trace
from powersample.session import recording
from powersample.sim import Node


@pytest.fixture
def node():
    """An H100 under a load that begins before and goes on after every recording here."""
    with Node("h100") as node:
        node.load_wave(0, 300.0, 500.0, period_s=1.0, duty=0.5)
        yield node


def window(run, name):
    return next(w for w in run.windows if w.name == name)


def test_measure_energy_of_the_run_agrees_with_the_truth(node):
    with ps.measure(simulate=node) as run:
        time.sleep(2.2)  # 20 updates of the 100 ms counter make it primary
    energy = run.energy()
    whole = window(run, "run")
    # The counter is read every 100 ms and moves every 100 ms: an edge may be 200 ms off, at a swing of 200 W.
    assert energy.joules == pytest.approx(node.truth_j(0, whole.start_ns, whole.end_ns), abs=0.2 * 200)
    assert energy.verdict in ("good", "fair", "poor")
    assert energy.low_j < node.truth_j(0, whole.start_ns, whole.end_ns) < energy.high_j


def test_measure_tells_every_window_of_a_name_and_all_devices_while_it_goes_on():
    with Node("h100", cpu="intel_icx") as node, ps.measure(simulate=node) as run:
        node.load_wave(0, 300.0, 500.0, period_s=1.0, duty=0.5)
        with pytest.raises(errors.InvalidArgument, match="no window is called 'epoch'"):
            run.energies("epoch")
        with run.window("epoch"), pytest.raises(errors.StateError, match="has ended yet"):
            run.energies("epoch")
        with run.window("epoch"):
            time.sleep(0.3)
        with run.window("epoch"):
            early = run.energies("epoch", "total")
    assert len(early) == 2  # without the one that is open
    devices = [("gpu0", "gpu"), ("package-0", "package"), ("package-0", "dram")]
    every = [run.energies("epoch", name, domain=domain).joules for name, domain in devices]
    assert run.energies("epoch", "total").joules == pytest.approx(np.sum(every, axis=0), rel=1e-9)
    assert early[1].joules == pytest.approx(run.energies("epoch", "total")[1].joules, rel=0.2)
    assert run.energy("run", "total").joules == pytest.approx(run.unpaused().total.joules, rel=1e-9)


def test_measure_trace_carries_its_truth_and_says_it_is_simulated(node):
    with ps.measure(simulate=node) as run:
        time.sleep(0.3)
    trace, whole = run.trace, window(run, "run")
    assert trace.simulated
    truth = trace.series("truth.gpu0.energy", whole.start_ns, whole.end_ns)
    inside = np.interp(
        [whole.start_ns, whole.end_ns],
        trace.series("truth.gpu0.energy").t_ns.astype(float),
        trace.series("truth.gpu0.energy").value,
    )
    assert len(truth)
    assert inside[1] - inside[0] == pytest.approx(node.truth_j(0, whole.start_ns, whole.end_ns), abs=1e-4)
    assert str(run.report()).splitlines()[0] == "SIMULATED NODE h100, not a measurement"
    stored = trace.meta["sensor_models"]["gpu0.power.instant"]  # a later table does not change old energies
    assert (stored["response"], stored["window_s"]) == ("part-time", 0.025)


def test_window_may_nest_overlap_and_repeat(node):
    with ps.measure(simulate=node) as run:
        with run.window("outer"), run.window("inner"):
            pass
        first, second = run.begin_window("a"), run.begin_window("b")
        run.end_window(first)
        run.end_window(second)
        for _ in range(2):
            with run.window("again"):
                pass
    a, b, outer, inner = (window(run, name) for name in ("a", "b", "outer", "inner"))
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns
    assert a.start_ns <= b.start_ns <= a.end_ns <= b.end_ns
    assert sum(w.name == "again" for w in run.windows) == 2
    with pytest.raises(errors.InvalidArgument, match="energies"):
        run.energy("again")
    assert run.energies("again").windows == tuple(w for w in run.windows if w.name == "again")
    assert run.energy([w for w in run.windows if w.name == "again"][1]) is not None


def test_window_of_a_decorated_function_marks_every_call_even_within_itself(node):
    with ps.measure(simulate=node) as run:

        @run.window("depth")
        def recurse(n):
            """Say what it is."""
            return recurse(n - 1) if n else "done"

        assert recurse(2) == "done"
    assert sum(w.name == "depth" for w in run.windows) == 3
    assert recurse.__doc__ == "Say what it is."


def test_window_from_several_threads_is_complete(node):
    with ps.measure(simulate=node) as run:
        mark = run.window("shared")

        def work():
            for _ in range(25):
                with mark:
                    pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(w.name == "shared" for w in run.windows) == 100


def test_window_left_by_an_exception_is_closed_and_the_trace_complete(node):
    with pytest.raises(ZeroDivisionError), ps.measure(simulate=node) as run, run.window("fails"):
        raise ZeroDivisionError
    assert window(run, "fails").flags == ("raised",)


def test_window_never_ended_is_closed_at_the_end_and_flagged(node):
    with ps.measure(simulate=node) as run:
        run.begin_window("open")
    assert "open" in window(run, "open").flags


def test_window_ended_twice_is_refused(node):
    with ps.measure(simulate=node) as run:
        mark = run.begin_window("once")
        run.end_window(mark)
        with pytest.raises(errors.StateError, match="ended before"):
            run.end_window(mark)


def test_window_outside_a_recording_is_refused(node):
    run = ps.measure(simulate=node)
    with pytest.raises(errors.StateError, match="not recording"):
        run.begin_window("too early")
    with run:
        pass
    with pytest.raises(errors.StateError, match="not recording"), run.window("too late"):
        pass


def test_marks_of_a_thread_that_outlives_the_run_leave_the_output_alone(node, tmp_path):
    refused = threading.Event()

    def work():
        try:
            while True:
                with run.window("busy"):
                    pass
        except errors.StateError:
            refused.set()

    with ps.measure(simulate=node, output=tmp_path / "run.parquet") as run:
        thread = threading.Thread(target=work)
        thread.start()
    thread.join()
    assert refused.is_set()
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"]


def test_energy_of_a_finished_window_is_told_while_the_run_goes_on(node):
    """Per-epoch logging needs it before the run has ended."""
    with ps.measure(simulate=node) as run:
        with run.window("epoch"):
            time.sleep(0.5)
        during = run.energy("epoch").joules
    after = run.energy("epoch").joules
    assert during == pytest.approx(after, rel=0.01)  # the sensor's period is known better afterwards


def test_energy_of_an_open_window_or_an_unknown_one_is_refused(node):
    with ps.measure(simulate=node) as run:
        run.begin_window("open")
        with pytest.raises(errors.StateError, match="open"):
            run.energy("open")
        with pytest.raises(errors.InvalidArgument, match="nowhere"):
            run.energy("nowhere")


def test_energy_of_an_unknown_device_lists_those_there_are(node):
    with ps.measure(simulate=node) as run:
        pass
    with pytest.raises(errors.PowerSampleError, match="gpu0"):
        run.energy("run", "gpu7")


def test_two_runs_in_one_process_record_apart(node):
    with Node("v100") as other, ps.measure(simulate=node) as one, ps.measure(simulate=other) as two:
        time.sleep(0.3)
    assert one.trace.meta["simulated_node"]["profile"] == "h100"
    assert two.trace.meta["simulated_node"]["profile"] == "v100"
    assert one.energy().joules > 0
    assert two.energy().joules > 0


def test_run_started_twice_is_refused(node):
    with ps.measure(simulate=node) as run, pytest.raises(errors.StateError, match="started before"):
        run.start()


def test_fork_inside_a_window_leaves_the_parents_recording_alone(node):
    with ps.measure(simulate=node) as run, run.window("parent"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: fork beside threads
            child = os.fork()
        if child == 0:
            code = 1
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    with run.window("child"), run.window("child again"):
                        pass
                    run.stop()
                    code = 0 if len([w for w in caught if "forked child" in str(w.message)]) == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not [w for w in run.windows if w.name.startswith("child")]
    assert window(run, "parent").flags == ()
    assert run.energy().joules > 0


def test_fork_whose_child_exits_as_programs_do_leaves_the_recording_alone(node):
    program = (
        "import os, sys, warnings, powersample as ps\n"
        "warnings.simplefilter('ignore')\n"
        "with ps.measure(simulate='h100') as run:\n"
        "    child = os.fork()\n"
        "    if child == 0: sys.exit(7)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "assert len(run.trace.series('gpu0.power.instant')) > 10\n"
        "print(run.trace.path.parent)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(done.stdout.strip())


def test_start_interrupted_leaves_no_lane_and_no_folder(node, tmp_path, monkeypatch):
    def interrupted(_seconds):
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    run = ps.measure(simulate=node, output=tmp_path / "run.parquet")
    monkeypatch.setattr("powersample.session.run.time.sleep", interrupted)
    tasks = len(os.listdir("/proc/self/task"))
    with pytest.raises(KeyboardInterrupt):
        run.start()
    monkeypatch.undo()
    assert set(threading.enumerate()) == before
    assert len(os.listdir("/proc/self/task")) <= tasks
    assert list(tmp_path.iterdir()) == []
    run.stop()
    with run:
        pass
    assert ps.load(tmp_path / "run.parquet").windows[0].name == "run"


def test_trace_outlives_its_run(node):
    def record():
        with ps.measure(simulate=node) as run:
            pass
        return run.trace

    trace = record()
    gc.collect()
    assert len(trace.series("gpu0.power.instant"))
    folder = trace.path.parent
    del trace
    gc.collect()
    assert not folder.exists()


def test_two_runs_into_one_output_the_second_is_refused_by_name(node, tmp_path, monkeypatch):
    out = tmp_path / "run.parquet"
    with ps.measure(simulate=node, output=out):
        with pytest.raises(errors.OutputExists, match=f"recorded by process {os.getpid()}"):
            ps.measure(simulate=node, output=out).start()
        monkeypatch.setattr(recording, "check_output", lambda *_, **__: None)  # as if it had looked before
        with pytest.raises(errors.OutputExists, match="recorded already"):
            ps.measure(simulate=node, output=out).start()
        with pytest.raises(errors.StateError, match="still being recorded"):
            store.recover(f"{out}.spool")
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"]


def test_run_output_is_written_and_not_replaced(node, tmp_path):
    out = tmp_path / "run.parquet"
    with ps.measure(simulate=node, output=out):
        pass
    assert ps.load(out).simulated
    with pytest.raises(errors.OutputExists, match="exists"), ps.measure(simulate=node, output=out):
        pass
    with ps.measure(simulate=node, output=out, replace=True):
        pass
    assert list(tmp_path.iterdir()) == [out]


def test_run_output_in_a_missing_folder_is_refused_before_recording(node, tmp_path):
    with pytest.raises(errors.AccessDenied, match="create it first"):
        ps.measure(simulate=node, output=tmp_path / "no" / "run.parquet").start()


def test_run_that_cannot_be_finished_says_where_its_spool_is(node, tmp_path, monkeypatch):
    def full(*_args):
        raise errors.DiskFull("no space left")

    out = tmp_path / "run.parquet"
    with pytest.raises(errors.DiskFull) as caught, ps.measure(simulate=node, output=out):
        monkeypatch.setattr(store.Converter, "finish", full)
    assert f"powersample recover {out}.spool" in caught.value.__notes__[0]
    monkeypatch.undo()
    assert store.recover(f"{out}.spool").windows[0].name == "run"


def test_run_saved_trace_opens_again(node, tmp_path):
    with ps.measure(simulate=node) as run:
        time.sleep(0.3)
    run.trace.save(tmp_path / "copy.parquet")
    again = ps.load(tmp_path / "copy.parquet")
    assert again.windows == run.windows
    assert np.array_equal(again.series("gpu0.power.instant").raw, run.trace.series("gpu0.power.instant").raw)


def test_measure_without_a_device_offers_the_simulated_node(tmp_path):
    with pytest.raises(errors.NothingMeasurable, match="simulate"):
        ps.measure(nvml_library=tmp_path / "libnvidia-ml.so.1").start()


@pytest.mark.parametrize("gpus", ["gpu1", "1", 1, ["gpu1"], (1,), " gpu1 , 1"])
def test_measure_takes_one_gpu_or_several_by_any_spelling(gpus):
    with ps.measure(simulate="h100x2", load="idle", sources="nvml", gpus=gpus) as run:
        pass
    assert {name.split(".")[0] for name in run.trace.channels if name.startswith("gpu")} == {"gpu1"}


def test_measure_at_a_rate_that_is_text_is_refused():
    with pytest.raises(errors.InvalidArgument, match="'10' is no number"):
        ps.measure(simulate="h100", rate_hz="10")


def test_lost_gpu_is_recorded_as_statuses_and_comes_back(node):
    with ps.measure(simulate=node, rate_hz=500) as run:
        time.sleep(0.2)
        node.inject("any", 15)
        time.sleep(0.3)
        node.clear_faults()
        time.sleep(1.0)
    series = run.trace.series("gpu0.power.instant")
    lost = np.flatnonzero(series.status == 15)
    assert len(lost)
    assert (series.status[lost[-1] + 1 :] == 0).any()
    channel = next(c for c in run.report().data["channels"] if c["name"] == "gpu0.power.instant")
    assert channel["errors"]["15"] == len(lost)


def test_load_from_own_cpu_use_follows_it():
    with ps.measure(simulate="h100") as run:
        with run.window("busy"):
            begin_s = time.process_time()
            while time.process_time() - begin_s < 0.4:  # of work, however long that takes beside busy neighbours
                pass
        with run.window("idle"):
            time.sleep(0.8)
    truth = run.trace.series("truth.gpu0.energy")

    def watts(name):
        at = window(run, name)
        joules = np.interp([at.start_ns, at.end_ns], truth.t_ns.astype(float), truth.value)
        return float(joules[1] - joules[0]) / at.duration_s

    assert watts("busy") > 1.15 * watts("idle")


def test_load_from_a_recording_repeats_its_power(tmp_path):
    script = tmp_path / "load.csv"
    script.write_text("seconds,watts\n0,400\n")
    with ps.measure(simulate="h100", load=f"script:{script}", output=tmp_path / "first.parquet"):
        time.sleep(0.5)
    with ps.measure(simulate="a100", load=f"trace:{tmp_path / 'first.parquet'}") as run:
        time.sleep(0.5)
    whole = window(run, "run")
    assert run.energy().joules == pytest.approx(400 * whole.duration_s, rel=0.1)


def test_load_from_a_recording_without_power_is_refused(tmp_path):
    store.save(Trace.of([]), tmp_path / "empty.parquet")
    run = ps.measure(simulate="h100", load=f"trace:{tmp_path / 'empty.parquet'}")
    with pytest.raises(errors.BadFormat, match="holds no GPU power"):
        run.start()


def test_marks_by_module_and_of_children_belong_to_the_run_around_them(node):
    """A library marks by `ps.window` and need not know whether `record` or `measure` runs."""
    program = "import powersample as ps\nwith ps.window('child'): pass"
    before = os.environ.get("POWERSAMPLE_MARKS")
    with ps.measure(simulate=node) as run:
        with ps.window("outer"), run.window("inner"), ps.window("innermost"):
            pass
        subprocess.run([sys.executable, "-c", program], check=True)
    assert [w.name for w in run.windows] == ["run", "outer", "inner", "innermost", "child"]
    assert all(w.flags == () for w in run.windows)
    assert os.environ.get("POWERSAMPLE_MARKS") == before
    with ps.window("after"):  # nobody records: nothing happens
        pass


def test_laps_and_what_was_spent_outside_of_pauses():
    with Node("h100", seed=2) as node, ps.measure(simulate=node) as run:
        node.load_wave(0, 400, 100, 0.2, 0.5)
        time.sleep(0.4)
        run.pause()
        time.sleep(0.3)
        run.resume()
        time.sleep(0.3)
        lap = run.lap()
        during = run.unpaused(lap).devices["gpu0", "gpu"].joules
        truths = [node.truth_j(0, one.start_ns, one.end_ns) for one in run.unpaused(lap).spans]
    after = run.unpaused(lap)
    whole, paused = run.energy(lap, "gpu0"), run.energy("paused", "gpu0")
    gpu = after.devices["gpu0", "gpu"]
    assert len(after.spans) == 2
    assert gpu.low_j <= sum(truths) <= gpu.high_j
    assert gpu.joules == pytest.approx(during, rel=0.05)
    assert gpu.joules == pytest.approx(whole.joules - paused.joules, rel=0.05)
    assert run.unpaused().duration_s == pytest.approx(
        window(run, "run").duration_s - window(run, "paused").duration_s, rel=1e-6
    )


def test_signal_handler_that_stops_in_the_midst_of_a_stop_leaves_it_to_that(node):
    """A handler runs in the thread that it interrupts, and must not wait for it."""
    run = ps.measure(simulate=node).start()
    finish, told = run._recording.finish, []

    def interrupted():
        told.append(run.stop())
        return finish()

    run._recording.finish = interrupted
    stopping = threading.Thread(target=run.stop, daemon=True)
    stopping.start()
    stopping.join(20)
    assert (stopping.is_alive(), told) == (False, [None])
    assert window(run, "run").flags == ()


def test_start_in_the_midst_of_a_start_is_refused(node, monkeypatch):
    run, told = ps.measure(simulate=node), []
    begin = recording.Recording.start

    def interrupted(self):
        with pytest.raises(errors.StateError, match="started before"):
            run.start()
        told.append(1)
        begin(self)

    monkeypatch.setattr(recording.Recording, "start", interrupted)
    with run:
        pass
    assert told == [1]


def test_unpaused_leaves_in_what_another_program_calls_paused(node):
    """Ranks, and programs started from a run, mark in its recording."""
    with ps.measure(simulate=node) as run:
        time.sleep(0.2)
        now, path = time.monotonic_ns(), run._recording.marks
        with open(path, "ab") as file:
            for verb, t_ns in (("begin", now - 100_000_000), ("end", now)):
                file.write(marks.lines.line(verb, 1, t_ns, 4, "paused", pid=4))
        run.pause()
        run.resume()
    assert [one.name for one in run.windows].count("paused") == 2
    (mine,) = (one for one in run.windows if one.name == "paused" and one.source.split()[2] != "4")
    whole = window(run, "run")
    assert run.unpaused().duration_s == pytest.approx(whole.duration_s - mine.duration_s, abs=1e-6)
