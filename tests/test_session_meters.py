# SPDX-License-Identifier: Apache-2.0
"""Meters beside the lanes of a recording: one trace, gaps with causes, and a meter's faults hurt nothing else."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from meter_tools import constant_w

import powersample as ps
from powersample import errors, store
from powersample.capture import Plan
from powersample.meters import lmg, lmg_dialogue, make_meter, parse_addresses
from powersample.meters.contract import MeterBatch, MeterGap, MeterInfo, MeterReading, power_channel
from powersample.meters.recorder import MeterRecorder
from powersample.model import METER_DTYPE
from powersample.session import recording
from powersample.session.command import Setup, record_command, record_for
from powersample.session.meters import asked_meters
from powersample.session.simulate import simulated_plan
from powersample.sim import Node
from powersample.sim.lmg import LmgSimulator
from powersample.store.meter_spool import METERS, MeterSpool

CHANNEL = power_channel("wall", "test.P")


@pytest.fixture(autouse=True)
def short_margin(monkeypatch):
    """The lanes' margin; a meter's own, two cycles and its latency, is longer."""
    monkeypatch.setattr(recording, "MARGIN_S", 0.05)


@pytest.fixture
def node():
    with Node("h100") as node:
        yield node


@pytest.fixture
def meter(monkeypatch):
    monkeypatch.setattr(lmg_dialogue, "QUIET_S", 0.03)
    monkeypatch.setattr(lmg, "RETRY_S", 0.1)
    with LmgSimulator(constant_w) as sim:
        yield sim


def told(trace, name="wall"):
    return next(one for one in trace.meta["meters"] if one["name"] == name)


def test_measure_records_a_meter_beside_the_lanes(node, meter):
    with ps.measure(simulate=node, meters=[f"lmg450:{meter.address}"]) as run:
        time.sleep(0.4)
        assert len(run.trace.series("wall.power")) > 2  # so far
    trace = run.trace
    series, info = trace.series("wall.power"), told(trace)
    assert len(series) >= 15
    assert series.value == pytest.approx(783.5, rel=1e-5)
    assert set(series.span_ns) == {40_000_000, 60_000_000}
    assert list(series.seq) == list(range(len(series)))
    assert trace.channel("wall.power").stamp == "arrival"
    assert (info["model"], info["simulated"], info["gaps"]) == ("LMG450", True, [])
    assert info["accuracy"]["reading_pct"] == 0.07
    assert len(trace.series("gpu0.power.instant")) > 100
    assert trace.meta["trouble"] == []


def test_unplugged_while_recording_is_a_gap_with_its_cause_and_the_lanes_go_on(node, meter):
    with ps.measure(simulate=node, meters=[f"rack=lmg450:{meter.address}"]) as run:
        time.sleep(0.15)
        meter.unplug()
        time.sleep(0.3)
        meter.plug()
        time.sleep(0.4)
        deadline = time.monotonic() + 5
        while told(run.trace, "rack")["gaps"][-1]["end_ns"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
    trace = run.trace
    series, (gap,) = trace.series("rack.power"), told(trace, "rack")["gaps"]
    assert (gap["cause"], gap["missing"]) == ("unplugged", None)
    assert 0.3e9 < gap["end_ns"] - gap["start_ns"] < 3e9
    assert (np.diff(series.seq.astype(int)) > 1).sum() == 1
    assert series.t1_ns[-1] > gap["end_ns"]
    assert np.diff(trace.series("gpu0.power.instant").t0_ns).max() < 0.3e9  # nobody waited for it
    assert trace.meta["trouble"] == []


def test_meter_that_cannot_be_used_is_refused_before_anything_is_recorded(node, tmp_path):
    output = tmp_path / "x.parquet"
    with pytest.raises(errors.DeviceNotFound, match="no such port"):
        ps.measure(simulate=node, meters="lmg450:/dev/nowhere", output=output).start()
    assert list(tmp_path.iterdir()) == []


def test_first_meter_is_given_back_when_the_second_cannot_be_used(node, meter, tmp_path):
    with pytest.raises(errors.DeviceNotFound):
        ps.measure(simulate=node, meters=[f"lmg450:{meter.address}", "lmg450:/dev/nowhere"]).start()
    with ps.measure(simulate=node, meters=f"lmg450:{meter.address}") as run:
        pass
    assert len(run.trace.series("wall.power"))


def test_meter_of_the_configuration_that_is_not_there_is_a_note(node, tmp_path, monkeypatch):
    folder = tmp_path / "powersample"
    folder.mkdir()
    (folder / "config.toml").write_text(f'meters = ["lmg450:/dev/nowhere"]\nnvml_lib = "{node.library}"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with ps.measure(sources="nvml") as run:
        pass
    assert any("left out" in note and "/dev/nowhere" in note for note in run.trace.meta["notes"])
    assert "wall.power" not in run.trace.channels


def test_wrong_address_in_the_configuration_names_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "powersample"
    folder.mkdir()
    (folder / "config.toml").write_text('meters = ["lmg9999:/dev/x"]\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(errors.ConfigurationError, match=r"config\.toml: meters: .*unknown kind"):
        ps.measure()


def test_simulated_meter_without_a_node_is_refused():
    with pytest.raises(errors.InvalidArgument, match="--simulate"):
        ps.measure(meters="sim", sources="nvml", nvml_library="/nowhere").start()


def test_simulated_nodes_own_meter_tells_its_wall_power(node):
    node.load_wave(0, 250.0, 350.0, period_s=0.4, duty=0.5)
    with ps.measure(simulate=node, meters="sim") as run:
        time.sleep(0.6)
    trace = run.trace
    whole = next(one for one in trace.windows if one.name == "run")
    true_j = node.wall.joules(whole.start_ns, whole.end_ns)
    found = ps.energy(trace, whole, "wall", domain="wall")
    assert found.joules == pytest.approx(true_j, rel=0.02)
    assert found.low_j < true_j < found.high_j
    assert told(trace)["simulated"]
    assert trace.simulated
    assert trace.meta["simulated_node"]["meter"]["skew_ppm"] == node.describe()["meter"]["skew_ppm"]


def test_simulated_node_has_one_meter(node):
    with pytest.raises(errors.InvalidArgument, match="has one meter, not wall and rack"):
        ps.measure(simulate=node, meters=["sim", "rack=sim"]).start()


def test_driver_that_fails_ends_its_meter_and_nothing_else(node, meter, monkeypatch, caplog):
    def broken(self, timeout_s):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(lmg.Lmg, "read", broken)
    run = ps.measure(simulate=node, meters=f"lmg450:{meter.address}").start()
    time.sleep(0.1)
    with pytest.warns(RuntimeWarning, match="meter wall ended early: a mistake"):
        run.stop()
    assert len(run.trace.series("gpu0.power.instant")) > 100
    assert "a mistake" in caplog.text


def test_meter_that_ends_early_is_told_while_the_program_runs_and_is_a_gap_from_then_on(meter, tmp_path, monkeypatch):
    """The record said so after its end only, which may be days later."""
    read, said = lmg.Lmg.read, []

    def broken(self, timeout_s):
        batch = read(self, timeout_s)
        if read_before := self._stream.counts.get("asked", 0):
            raise ZeroDivisionError("a mistake")
        self._stream.counts["asked"] = read_before + bool(batch.readings)
        return batch

    monkeypatch.setattr(lmg.Lmg, "read", broken)
    ready = tmp_path / "told"

    def on_trouble(text):
        said.append(text)
        ready.touch()

    until_told = f"for _ in $(seq 500); do [ -e '{ready}' ] && break; sleep 0.02; done"
    with Node("h100") as node:
        plan = simulated_plan(Plan(), node)
        asked = asked_meters([f"lmg450:{meter.address}"], None)
        command = ["sh", "-c", until_told]
        setup = Setup(plan, tmp_path / "x.parquet", node, "idle", meters=asked)
        result = record_command(setup, command, on_trouble=on_trouble)
    assert said == ["meter wall ended early: a mistake"]
    assert result.trouble == tuple(said)
    series, (gap,) = result.trace.series("wall.power"), told(result.trace)["gaps"]
    assert (gap["start_ns"], gap["end_ns"], gap["cause"]) == (series.t1_ns[-1], None, "ended")
    assert gap["text"] == "its driver failed: a mistake"


def test_meter_that_ends_early_ends_no_recording_and_is_told_while_it_goes_on(node, meter, tmp_path, monkeypatch):
    def broken(self, timeout_s):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(lmg.Lmg, "read", broken)
    said = []
    asked = asked_meters([f"lmg450:{meter.address}"], None)
    plan = simulated_plan(Plan(), node)
    result = record_for(Setup(plan, tmp_path / "x.parquet", node, meters=asked), 0.6, on_trouble=said.append)
    assert said == ["meter wall ended early: a mistake"]
    assert result.trace.windows[0].duration_s >= 0.6


class Scripted:
    """A driver that gives one batch, and fails as it is closed."""

    def __init__(self, batch):
        self.batch = batch

    def open(self):
        return MeterInfo("wall", "test", "test:", "", "", "", "", (CHANNEL,), 0.05)

    def start(self):
        pass

    def read(self, timeout_s):
        batch, self.batch = self.batch, MeterBatch()
        return batch

    def stop(self):
        pass

    def close(self):
        raise OSError(errno.EIO, "the port will not close")

    def counts(self):
        return {"losses": 3}


def test_driver_that_fails_as_it_is_closed_loses_nothing_of_what_it_told(tmp_path, caplog):
    """The thread ended before it wrote its counts, with a traceback over the program's output."""
    recorder = MeterRecorder((Scripted(MeterBatch()),))
    recorder.open()
    recorder.start(tmp_path)
    recorder.stop()
    assert recorder.trouble() == ["meter wall: not closed: [Errno 5] the port will not close"]
    assert '"losses": 3' in next(tmp_path.glob("events-*")).read_text()
    refusing = MeterRecorder((Scripted(MeterBatch()), make_meter(parse_addresses(["wattsup:/dev/nowhere"])[0])))
    with pytest.raises(errors.DeviceNotFound):  # and not what closing the first one failed with
        refusing.open()


def test_driver_that_fails_as_it_is_stopped_loses_no_reading_and_is_counted_on(tmp_path):
    at_ns = np.array([10**9], np.int64)
    rest = MeterBatch((MeterReading(at_ns, np.full(1, 0.05), np.ones(1), np.zeros(1, np.uint16)),))

    class Stubborn(Scripted):
        def stop(self):
            self.batch = rest
            raise OSError(errno.EIO, "it goes on")

        def counts(self):
            raise KeyError("losses")

    recorder = MeterRecorder((Stubborn(MeterBatch()),))
    recorder.open()
    recorder.start(tmp_path)
    recorder.stop()
    assert [text.partition(": ")[2] for text in recorder.trouble()] == [
        "not stopped: [Errno 5] it goes on",
        "not closed: [Errno 5] the port will not close",
        "its counts: 'losses'",
    ]
    (part,) = tmp_path.glob("part-*.part")
    data = part.read_bytes()
    header = json.loads(data[: data.index(b"\n")])
    assert len(data) == header["header_bytes"] + header["record_bytes"]


@pytest.mark.parametrize("order", [1, -1])
def test_two_gaps_that_end_at_one_reading_leave_the_hole_that_was_counted(tmp_path, order):
    at_ns = np.array([10**9, 2 * 10**9], np.int64)
    reading = MeterReading(at_ns, np.full(2, 0.05), np.ones(2), np.zeros(2, np.uint16))
    gaps = (MeterGap(10**9, 2 * 10**9, "missing cycles", 7), MeterGap(10**9 - 5, 2 * 10**9, "silent"))
    recorder = MeterRecorder((Scripted(MeterBatch((reading,), gaps[::order])),))
    recorder.open()
    recorder.start(tmp_path)
    recorder.stop()
    (part,) = tmp_path.glob("part-*.part")
    data = part.read_bytes()
    records = np.frombuffer(data[json.loads(data[: data.index(b"\n")])["header_bytes"] :], METER_DTYPE)
    assert list(records["seq"]) == [0, 8]


def test_killed_recording_brings_its_meter_back(meter, tmp_path):
    code = (
        "import sys, time, powersample as ps\n"
        "run = ps.measure(simulate='h100+none', meters=sys.argv[1], output='x.parquet').start()\n"
        "run.begin_window('one'); open('ready', 'w'); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"lmg450:{meter.address}"], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    trace = store.recover(tmp_path / "x.parquet.spool")
    series = trace.series("wall.power")
    assert len(series) >= 5
    assert set(series.span_ns) <= {40_000_000, 60_000_000}
    assert told(trace)["serial"] == "SIM-0000"
    assert "open" in trace.windows[-1].flags


# ---- the spool by itself --------------------------------------------------------------------------------------------


def write(spool, start, count, before=None):
    t_ns = np.arange(start, start + count, dtype=np.int64) * 50_000_000
    spans = np.full(count, 50_000_000, np.int64)
    spool.readings("wall.power", t_ns, spans, t_ns * 1e-9, np.zeros(count, np.uint16), before or {})


def test_spool_parts_rotate_and_keep_every_reading_and_span(tmp_path, monkeypatch):
    monkeypatch.setattr("powersample.store.meter_spool.PART_RECORDS", 100)
    folder = tmp_path / "x.spool"
    folder.mkdir()
    spool = MeterSpool(folder, [CHANNEL])
    for start in range(1, 1000, 10):
        write(spool, start, 10, {start * 50_000_000: 2} if start == 501 else None)
    assert len(store.read_spool(folder).series("wall.power")) == 1000
    spool.close()
    spool.close()
    assert len(list(folder.glob("*.part"))) == 11
    trace = store.recover(folder, tmp_path / "x.parquet")
    series = trace.series("wall.power")
    assert series.value == pytest.approx(np.arange(1, 1001) * 0.05)
    assert (series.span_ns == 50_000_000).all()
    assert np.flatnonzero(np.diff(series.seq.astype(int)) == 3).tolist() == [499]


def test_spool_torn_by_a_kill_loses_the_torn_record_only(tmp_path):
    folder = tmp_path / "x.spool"
    folder.mkdir()
    spool = MeterSpool(folder, [CHANNEL])
    spool.event("meter", "wall", meter={"name": "wall"})
    write(spool, 1, 10)
    spool._end_part()
    part = folder / f"part-{METERS:06d}.part"
    part.write_bytes(part.read_bytes()[:-7])
    with (folder / f"events-{METERS:06d}.jsonl").open("a") as file:
        file.write('{"event":"meter_gap","na')
    trace = store.recover(folder, tmp_path / "x.parquet")
    assert len(trace.series("wall.power")) == 9
    assert trace.meta["meters"] == [{"name": "wall", "gaps": [], "gaps_total": 0, "counts": {}}]


def test_spool_on_a_full_disk_stops_writing_and_counts(tmp_path, monkeypatch):
    spool = MeterSpool(tmp_path, [CHANNEL])
    write(spool, 1, 10)

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("powersample.store.meter_spool.write_all", full)
    write(spool, 11, 10)
    write(spool, 21, 10)
    spool.event("meter_counts", "wall", counts={})
    spool.close()
    assert spool.failure.errno == 28
    assert spool.discarded == 10
    assert len(store.read_spool(tmp_path).series("wall.power")) == 10


def test_spool_lists_gaps_once_and_at_most_so_many(tmp_path, monkeypatch):
    monkeypatch.setattr("powersample.store.spool.MOST_GAPS", 2)
    folder = tmp_path / "x.spool"
    folder.mkdir()
    spool = MeterSpool(folder, [CHANNEL])
    spool.event("meter", "wall", meter={"name": "wall"})
    for start_ns, end_ns in ((1, None), (1, 5), (7, 8), (9, 10)):
        spool.event("meter_gap", "wall", gap={"start_ns": start_ns, "end_ns": end_ns, "cause": "unplugged"})
    spool.close()
    (one,) = store.read_spool(folder).meta["meters"]
    assert [(gap["start_ns"], gap["end_ns"]) for gap in one["gaps"]] == [(1, 5), (7, 8)]
    assert one["gaps_total"] == 3


# ---- the command line -----------------------------------------------------------------------------------------------

RECORD = (sys.executable, "-m", "powersample.cli", "record")


def test_record_beside_a_program_prints_the_walls_energy(meter, tmp_path):
    done = subprocess.run(
        [*RECORD, "--simulate", "h100+none", "--meter", f"lmg450:{meter.address},i=10,ipeak=30", "-o", "x.parquet",
         "--", "sleep", "0.3"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stderr.splitlines() if line.startswith(("run, ", "wall "))]
    (seconds, joules) = (float(row[1]) for row in rows)
    assert joules == pytest.approx(783.5 * seconds, rel=1e-3)
    assert store.load(tmp_path / "x.parquet").channel("wall.power").span == "sample"


def test_record_with_a_meter_that_is_not_there_starts_no_program(tmp_path):
    done = subprocess.run(
        [*RECORD, "--simulate", "h100+none", "--meter", "lmg450:/dev/nowhere", "--", "touch", "started"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/dev/nowhere: no such port" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_record_lists_the_kinds_of_meters(tmp_path):
    done = subprocess.run([*RECORD, "--meter", "help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "lmg450" in done.stdout
    assert "sim" in done.stdout
