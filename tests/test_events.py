# SPDX-License-Identifier: Apache-2.0
"""Edges that a device marks by events, against the true instants of a queue that runs behind the program."""

import sys

import pytest
from fake_cuda import Gpu, VirtualTime
from hypothesis import given, settings
from hypothesis import strategies as st

import powersample as ps
from powersample import marks
from powersample.marks import MarkWriter
from powersample.marks.events import MOST_EVENTS, EventClock
from powersample.model import Window
from powersample.sim import Node


def recorded(clock, gpu, count=1, *, apart_s=0.0, kernel_s=0.003):
    """Mark `count` kernels; return the true spans."""
    truth = []
    for mark in range(count):
        clock.record(gpu, mark, "begin")
        truth.append(gpu.launch(kernel_s))
        clock.record(gpu, mark, "end")
        gpu.wait_until(gpu.now_ns() + round(apart_s * 1e9))
    return truth


@settings(max_examples=40, deadline=None)
@given(
    drift_ppm=st.floats(-200, 200),
    apart_s=st.sampled_from([0.0, 0.5, 12.0, 400.0]),
    kernel_s=st.floats(1e-5, 0.2),
    call_ns=st.integers(50, 20_000),
)
def test_instants_are_those_of_the_queue_within_their_errors(drift_ppm, apart_s, kernel_s, call_ns):
    time = VirtualTime(call_ns)
    gpu = Gpu(time, drift=drift_ppm * 1e-6)
    clock = EventClock(time.now_ns, time.sleep)
    truth = recorded(clock, gpu, 30, apart_s=apart_s, kernel_s=kernel_s)
    clock.find_out(gpu, wait=True)
    found, lost = clock.take()
    assert (len(found), lost) == (60, "")
    for one in found:
        true_ns = truth[one.mark][one.edge == "end"]
        slack_ns = gpu.launch_ns + 4 * call_ns  # between the launch's instant and the event's
        assert abs(one.t_ns - true_ns) <= slack_ns + 4 * one.error_ns
        assert one.error_ns < 20_000 + 4 * call_ns


def test_recording_never_waits_for_the_queue():
    time = VirtualTime()
    gpu = Gpu(time)
    clock = EventClock(time.now_ns, time.sleep)
    recorded(clock, gpu, 200, kernel_s=1.0)  # 200 s of work, queued in a moment
    assert gpu.busy_until_ns - time.ns > 190e9
    assert gpu.waited_ns < 1e6
    clock.find_out(gpu, wait=False)
    assert len(clock.take()[0]) <= 2  # of what it has not come to nothing is said


def test_events_are_used_again_and_bounded():
    time = VirtualTime()
    gpu = Gpu(time)
    clock = EventClock(time.now_ns, time.sleep)
    truth = recorded(clock, gpu, MOST_EVENTS, kernel_s=1e-5, apart_s=2e-5)
    assert gpu.events < MOST_EVENTS + 200
    clock.find_out(gpu, wait=True)
    found, _ = clock.take()
    assert len(found) == 2 * MOST_EVENTS
    assert all(abs(one.t_ns - truth[one.mark][one.edge == "end"]) < 50_000 for one in found)


def test_queue_that_is_too_long_keeps_the_hosts_marks():
    time = VirtualTime()
    gpu = Gpu(time)
    clock = EventClock(time.now_ns, time.sleep)
    recorded(clock, gpu, MOST_EVENTS, kernel_s=10.0)
    assert gpu.events < MOST_EVENTS + 200
    gpu.busy_until_ns = 0
    clock.find_out(gpu, wait=False)
    assert len(clock.take()[0]) <= 2


@pytest.mark.parametrize("call", ["record", "query", "elapsed_time", "synchronize"])
def test_device_that_fails_loses_its_events_and_raises_nothing(call):
    time = VirtualTime()
    gpu = Gpu(time)
    clock = EventClock(time.now_ns, time.sleep)
    recorded(clock, gpu)
    gpu.fails.add(call)
    recorded(clock, gpu)
    clock.find_out(gpu, wait=True)
    assert clock.take() == ([], "CUDA error: device lost")
    gpu.fails.clear()
    recorded(clock, gpu)  # it is not asked again
    clock.find_out(gpu, wait=True)
    assert clock.take() == ([], "CUDA error: device lost")


def test_program_goes_on_marking_while_another_thread_waits_for_the_queue():
    """The wait is for what was queued when it began, not for what the program queues meanwhile, for ever."""
    time = VirtualTime()
    gpu = Gpu(time)
    clock: EventClock

    def sleep(seconds):  # where the program's own thread runs
        time.sleep(seconds)
        recorded(clock, gpu, kernel_s=0.02)
        clock.find_out(gpu, wait=False)

    clock = EventClock(time.now_ns, sleep)
    recorded(clock, gpu, kernel_s=0.05)
    before = time.ns
    clock.find_out(gpu, wait=True)
    assert time.ns - before < 1e9
    assert len(clock.take()[0]) >= 2


def test_device_that_hangs_is_waited_for_ten_seconds_at_most():
    time = VirtualTime()
    gpu = Gpu(time)
    clock = EventClock(time.now_ns, time.sleep)
    recorded(clock, gpu, kernel_s=1e6)
    before = time.ns
    clock.find_out(gpu, wait=True)
    assert 9e9 < time.ns - before < 12e9
    assert [one.edge for one in clock.take()[0]] == ["begin"]


def test_event_that_would_be_earlier_than_its_recording_is_not_believed(monkeypatch):
    time = VirtualTime()
    gpu = Gpu(time)
    clock = EventClock(time.now_ns, time.sleep)
    recorded(clock, gpu)
    for one in clock._devices[0].pending:
        one.event.t_ns -= 10**8
    clock.find_out(gpu, wait=True)
    assert clock.take()[0] == []


@pytest.fixture
def gpu(monkeypatch):
    made = Gpu()
    monkeypatch.setitem(sys.modules, "torch", made.as_torch())
    return made


def test_capture_of_a_graph_is_left_alone(gpu, tmp_path):
    (tmp_path / "marks").touch()
    writer = MarkWriter(tmp_path / "marks")
    gpu.capturing = True
    writer.end(writer.begin("step", "event"))
    writer.close()
    assert gpu.events == 0
    (window,) = marks.parse((tmp_path / "marks").read_bytes().splitlines(keepends=True), None, None).windows
    assert (window.marked, window.flags) == ("event", ("unresolved",))


def test_device_lost_warns_once_and_flags_its_windows(gpu, tmp_path):
    (tmp_path / "marks").touch()
    writer = MarkWriter(tmp_path / "marks")
    gpu.fails.add("record")
    for _ in range(3):
        writer.end(writer.begin("step", "event"))
    with pytest.warns(RuntimeWarning, match="device lost") as warned:
        writer.close()
    assert len(warned) == 1
    windows = marks.parse((tmp_path / "marks").read_bytes().splitlines(keepends=True), None, None).windows
    assert [window.flags for window in windows] == [("unresolved",)] * 3


def test_asynchronous_queue_host_marks_bill_to_the_wrong_window_and_events_do_not(gpu):
    """Work is queued behind other work: on the host both steps are over before the device has come to the first."""
    with Node("h100", seed=3) as node, ps.measure(simulate=node) as run:
        gpu.busy_until_ns = gpu.now_ns() + 300_000_000
        truth = gpu.busy_until_ns, gpu.busy_until_ns + 400_000_000
        node.load_script(0, [(0.0, 600.0), (0.4, 100.0)], start_ns=truth[0])
        for name, seconds in (("busy", 0.4), ("rest", 0.2)):
            with run.step(name), run.window(f"host {name}", sync="none"):
                gpu.launch(seconds)
        true_j = node.truth_j(0, *truth)
        during = run.energy("busy")  # while the run goes on: it waits for the device
    windows = {window.name: window for window in run.windows}
    busy, host, rest = windows["busy"], windows["host busy"], windows["rest"]
    assert host.end_ns < truth[0]
    assert (busy.start_ns, busy.end_ns, rest.start_ns) == pytest.approx((*truth, truth[1]), abs=5e5)
    assert (busy.marked, busy.flags) == ("event", ())
    assert windows["run"].end_ns >= rest.end_ns  # the run's end waited for the device
    found = run.energy("busy")
    assert found.low_j <= true_j <= found.high_j
    assert found.joules == pytest.approx(during.joules, rel=0.05)
    assert "event marks" in [term.term for term in found.budget]
    # What the host's marks of the same work tell is another matter, at the same length.
    shifted = Window("host", host.start_ns, host.start_ns + (truth[1] - truth[0]))
    assert run.energy(shifted).joules < 0.8 * true_j
