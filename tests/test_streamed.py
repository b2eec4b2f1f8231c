# SPDX-License-Identifier: Apache-2.0
"""A sampler's stream becomes a spool: however it is cut, wherever it breaks off, and beside another sampler's files."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from rapl_tree import Tree

from powersample import errors, measure, store
from powersample.capture import InProcess, Inventory, sampler_path
from powersample.capture import streamed as room
from powersample.capture.streamed import Beside, Streamed
from powersample.sim import Node
from powersample.store.spool import part_numbers
from powersample.store.stream import SECOND_SAMPLER, StreamSpool

TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def stream():
    """The bytes that a sampler wrote in a third of a second."""
    command = [sampler_path(), "--sources", "scripted:3", "--duration", "0.3", "--spool", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S).stdout


def spooled(folder, pieces, **options):
    """Feed pieces into a new spool; return what received them."""
    folder.mkdir(exist_ok=True)
    spool = StreamSpool(folder, **options)
    for piece in pieces:
        spool.feed(piece)
    spool.close()
    return spool


def cut(data, size):
    return (data[at : at + size] for at in range(0, len(data), size))


def arrays(folder):
    trace = store.read_spool(folder)
    return {name: trace.series(name).raw for name in trace.channels}


@pytest.mark.parametrize("size", [1, 31, 4096, 1 << 20])
def test_stream_however_it_is_cut_becomes_the_same_spool(stream, tmp_path, size):
    got = spooled(tmp_path / "x.spool", cut(stream, size))
    trace = store.read_spool(tmp_path / "x.spool")
    assert got.ended
    assert [line["ready"] for line in got.said] == [True, False]
    assert len(trace.channels) == 3
    (lane,) = trace.lanes
    assert lane.drained == sum(len(trace.series(name)) for name in trace.channels) > 0
    assert len(lane.call_hist) == 40
    assert len(trace.anchors) >= 2
    assert (tmp_path / "x.spool" / "part-000000.part").exists()


def test_stream_broken_off_anywhere_keeps_what_arrived(stream, tmp_path):
    spooled(tmp_path / "whole.spool", [stream])
    whole = arrays(tmp_path / "whole.spool")
    begin = stream.index(b'{"event":"records"')
    before = 0
    for number, end in enumerate(np.linspace(begin, len(stream), 40, dtype=int).tolist()):
        folder = tmp_path / f"{number}.spool"
        got = spooled(folder, [stream[:end]])
        found = arrays(folder)
        for name, raw in found.items():
            np.testing.assert_array_equal(raw, whole[name][: len(raw)])
        count = sum(map(len, found.values()))
        assert count >= before
        before = count
        assert (folder / "part-000000.part").exists() == got.ended
    assert before == sum(map(len, whole.values()))


@pytest.mark.parametrize(
    "garbage",
    [b"hello\n", b"[]\n", b'{"event":"records","bytes":32}\n', b'{"event":"records"}\n', b'{"event":"drained"}\n'],
)
def test_stream_of_something_else_is_refused(tmp_path, garbage):
    with pytest.raises(errors.BadFormat, match="not a sampler's stream"):
        spooled(tmp_path, [garbage])


def test_stream_onto_a_full_disk_is_read_on_and_says_so(stream, tmp_path, monkeypatch):
    """A sampler waits for its reader: who cannot write must go on reading."""
    write, room_left = os.write, [20_000]

    def full(fd, data):
        if room_left[0] < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room_left[0] -= len(data)
        return write(fd, data)

    monkeypatch.setattr("powersample.store.stream.os.write", full)
    got = spooled(tmp_path / "x.spool", cut(stream, 4096))
    monkeypatch.undo()
    assert got.ended
    assert got.failure.errno == errno.ENOSPC
    assert got.discarded_bytes > 0
    assert sum(map(len, arrays(tmp_path / "x.spool").values())) > 0


def test_stream_whose_disk_refuses_to_sync_is_read_on_and_says_so(stream, tmp_path, monkeypatch):
    """A file system on a network tells of its full disk as late as that."""

    def refused(_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr("powersample.store.stream.os.fdatasync", refused)
    folder = tmp_path / "x.spool"
    folder.mkdir()
    got = StreamSpool(folder)
    got._sync_due_ns = 1 << 62  # so that the part's end is the first to ask for it
    got.feed(stream)
    got.close()
    assert got.ended
    assert got.failure.errno == errno.EDQUOT
    assert (folder / "part-000000.part").exists()


def test_stream_of_a_second_sampler_stands_beside_the_first(stream, tmp_path):
    folder = tmp_path / "x.spool"
    spooled(folder, [stream])
    other = stream.replace(b"scripted.power", b"another1.power").replace(b"script:scripted", b"script:another1")
    spooled(folder, [other], first_part=SECOND_SAMPLER)
    assert part_numbers(folder) == [0, SECOND_SAMPLER]
    trace = store.read_spool(folder)
    assert [lane.name for lane in trace.lanes] == ["script:scripted", "script:another1"]
    assert len(trace.channels) == 6
    np.testing.assert_array_equal(trace.series("scripted.power0").raw, trace.series("another1.power0").raw)


# ---- as a recorder ----------------------------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """measure() of a simulated GPU in process and of a package in a sampler of its own, which needs no capability."""
    tree = Tree(tmp_path / "sys")
    tree.zone("intel-rapl:0", "package-0", 30)
    made = []

    def recorder_for(plan, inventory, spool, *, in_process):
        assert in_process
        here, there = replace(inventory, packages=()), Inventory(packages=inventory.packages)
        streamed = Streamed(replace(plan, nvml_library=None), there, spool, beside=True)
        made.append(streamed)
        return Beside(InProcess(plan, here, spool), streamed)

    monkeypatch.setattr("powersample.session.recording.recorder_for", recorder_for)
    with Node("h100") as node, tree.moving():
        node.load_script(0, [(0.0, 300.0)])
        yield made, lambda **more: measure(nvml_library=node.library, sysfs=tree.root, **more)


def process_of(made):
    return made[-1]._process


def test_measure_with_two_samplers_is_one_trace(beside):
    _, start = beside
    with start() as run:
        with run.window("early"):
            time.sleep(0.3)
        live = run.energy("early", "package-0", domain="package").joules  # while both go on
    early = run.energy("early", "package-0", domain="package").joules
    assert live == pytest.approx(early, rel=0.02)
    window = run.report().data["windows"][0]
    assert window["totals"]["cpu_j"] == pytest.approx(30 * window["duration_s"], rel=0.1)
    assert window["totals"]["gpu_j"] > 100
    trace = run.trace
    assert [lane.name for lane in trace.lanes] == ["nvml:gpu0", "rapl:package-0"]
    assert all(lane.records == lane.drained + lane.dropped + lane.in_ring for lane in trace.lanes)
    seq = trace.series("package-0.energy").seq
    np.testing.assert_array_equal(np.diff(seq.astype(np.int64)), 1)
    assert trace.meta["trouble"] == []


def test_measure_with_a_sampler_that_is_killed_keeps_its_records_and_goes_on(beside):
    made, start = beside
    run = start().start()
    time.sleep(0.3)
    process_of(made).kill()
    process_of(made).wait(TIMEOUT_S)
    made[-1].sync()  # does not wait for who cannot answer
    with run.window("after"):
        time.sleep(0.3)
    assert run.energy("after", "gpu0").joules == pytest.approx(90, rel=0.3)
    with pytest.warns(RuntimeWarning, match="ended early with signal SIGKILL"):
        run.stop()
    assert len(run.trace.series("package-0.energy")) > 50
    assert run.energy("after", "gpu0").joules == pytest.approx(90, rel=0.3)


def test_measure_with_a_sampler_that_does_not_end_kills_it_in_time(beside, monkeypatch):
    made, start = beside
    monkeypatch.setattr(room, "STOP_TIMEOUT_S", 0.5)
    run = start().start()
    process = process_of(made)
    process.send_signal(signal.SIGSTOP)
    with pytest.warns(RuntimeWarning, match=r"did not end within 0 s and was killed"):
        run.stop()
    assert process.returncode == -signal.SIGKILL
    assert len(run.trace.series("package-0.energy")) > 0


def test_measure_whose_sampler_does_not_come_up_leaves_nothing_behind(beside, monkeypatch, tmp_path):
    _, start = beside
    monkeypatch.setattr(room, "sampler_arguments", lambda plan, inventory: [str(sampler_path()), "--mode", "wild"])
    with pytest.raises(errors.DeviceError, match="--mode wild: give paced"), start(output=tmp_path / "run.parquet"):
        pass
    assert not list(tmp_path.glob("run.parquet*"))


RECORDED = """
import sys, time
from powersample.capture import Inventory, Plan, discover
from powersample.capture.streamed import Streamed
from pathlib import Path
plan = Plan(sources=("rapl",), sysfs=sys.argv[1])
spool = Path(sys.argv[2])
spool.mkdir()
recorder = Streamed(plan, discover(plan), spool)
recorder.start()
print(recorder._process.pid, flush=True)
time.sleep(60)
"""


def test_recorder_killed_takes_its_sampler_along_and_leaves_a_readable_spool(tmp_path):
    tree = Tree(tmp_path / "sys")
    tree.zone("intel-rapl:0", "package-0", 30)
    spool = tmp_path / "run.parquet.spool"
    with tree.moving():
        recorder = subprocess.Popen(
            [sys.executable, "-c", RECORDED, tree.root, spool], stdout=subprocess.PIPE, text=True
        )
        sampler = int(recorder.stdout.readline())
        time.sleep(0.4)
        killed_ns = time.monotonic_ns()
        recorder.kill()
        recorder.communicate()
    deadline = time.monotonic() + TIMEOUT_S
    while os.path.exists(f"/proc/{sampler}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{sampler}")
    trace = store.recover(spool)
    series = trace.series("package-0.energy")
    assert killed_ns - series.t1_ns[-1] < 1.2e9
    assert len(series) > 100


def test_plan_of_a_sampler_that_cannot_be_run_says_why(monkeypatch, tmp_path):
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Permission denied")):
        monkeypatch.setenv("POWERSAMPLE_SAMPLER", str(path))
        with pytest.raises(errors.NotSupported, match=why):
            sampler_path()
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho powersample-sampler 0.0.1\n")
    other.chmod(0o755)
    monkeypatch.setenv("POWERSAMPLE_SAMPLER", str(other))
    with pytest.raises(errors.NotSupported, match=r"is 0\.0\.1, and this package is"):
        sampler_path()
    monkeypatch.setenv("POWERSAMPLE_SAMPLER", "")
    assert sampler_path().name == "powersample-sampler"
