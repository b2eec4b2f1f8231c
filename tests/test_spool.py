# SPDX-License-Identifier: Apache-2.0
"""Spools: read live, converted while they grow, recovered after a kill; nothing that was on disk is lost."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from powersample import marks, store
from powersample.errors import (
    AccessDenied,
    BadFormat,
    DiskFull,
    InputNotFound,
    InvalidArgument,
    OutputExists,
    StateError,
)
from powersample.model import Channel, Kind, Series
from powersample.store import convert, schema, writer
from powersample.store.lock import SpoolLock, holder
from powersample.store.spool import Known, RawPart

sys.path.insert(0, str(Path(__file__).parent))
import spools

MS = 1_000_000
POWER = spools.channel()
ENERGY = spools.channel("gpu0.energy", 1, unit="J", kind=2)


def part(number, count=100):
    """Both channels, in passes, as a lane writes them."""
    t_ns = (np.arange(count) + number * count + 1) * MS
    both = np.concatenate([spools.records(t_ns, t_ns // MS), spools.records(t_ns + 100, t_ns // MS * 7, 1)])
    return np.sort(both, order="t0_ns")


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "run.parquet.spool"
    folder.mkdir()
    spools.write_session(folder, host="box", simulated=False)
    spools.write_events(
        folder,
        {"event": "anchor", **spools.anchor(5)},
        {"event": "lanes", "lanes": [{"name": "nvml:gpu0", "slots": 1, "skipped": 0}]},
        {"event": "lanes", "lanes": [{"name": "nvml:gpu0", "slots": 9, "skipped": 2}]},
    )
    spools.write_part(folder, 0, part(0), [POWER, ENERGY])
    spools.write_part(folder, 1, part(1), [POWER, ENERGY])
    spools.write_part(folder, 2, part(2), [POWER, ENERGY], suffix="open", tail=b"\x01" * 17)
    lines = [
        f'v1 begin 1 {10 * MS} {spools.BOOT} 5 5 "a"',
        f'v1 end 1 {50 * MS} {spools.BOOT} 5 5 ""',
        f'v1 begin 2 {60 * MS} {spools.BOOT} 5 5 "killed"',
        f'v1 event 3 {70 * MS} {spools.BOOT} 5 5 "now"',
    ]
    (folder / "marks").write_text("\n".join(lines) + "\n")
    return folder


def check_whole(trace, parts=3):
    power, energy = trace.series("gpu0.power.instant"), trace.series("gpu0.energy")
    expected = np.arange(1, 100 * parts + 1)
    assert power.raw.tolist() == expected.tolist()
    assert energy.raw.tolist() == (expected * 7).tolist()
    assert power.t0_ns.tolist() == (expected * MS).tolist()
    assert power.channel.lane == "nvml:gpu0"


def test_read_spool_finds_everything_that_is_there(spool):
    trace = store.read_spool(spool)
    check_whole(trace)
    assert [(w.name, w.end_ns, w.flags) for w in trace.windows] == [
        ("a", 50 * MS, ()),
        ("killed", 300 * MS + 20_100, ("open",)),
    ]
    assert trace.meta["host"] == "box"
    assert trace.meta["events"] == [{"name": "now", "t_ns": 70 * MS}]
    assert [a.monotonic_ns for a in trace.anchors] == [0, 5]
    assert (trace.lanes[0].slots, trace.lanes[0].skipped) == (9, 2)
    assert trace.extent("gpu0.energy").records == 300


def test_read_spool_again_reads_only_what_has_grown(spool, monkeypatch):
    known = Known()
    first = store.read_spool(spool, known)
    read = []
    slices = RawPart.slices

    def counted(self, first=0):
        for records in slices(self, first):
            read.append(len(records))
            yield records

    monkeypatch.setattr(RawPart, "slices", counted)
    opened = spool / "part-000002.open"
    opened.write_bytes(opened.read_bytes()[: 4096 + 200 * 32] + part(3).tobytes())
    again = store.read_spool(spool, known)
    assert sum(read) == 200
    assert again.extent("gpu0.energy").records == first.extent("gpu0.energy").records + 100 == 400
    assert again.extent("gpu0.energy") == store.read_spool(spool).extent("gpu0.energy")
    opened.rename(spool / "part-000002.part")
    store.Converter(spool, spool.with_suffix("")).step()
    assert store.read_spool(spool, known).extent("gpu0.energy") == again.extent("gpu0.energy")
    check_whole(again, parts=4)


def test_read_spool_again_reads_only_marks_that_are_new(spool):
    known, path = Known(), spool / "marks"
    first = store.read_spool(spool, known)
    with path.open("ab") as file:
        for verb in ("begin", "end"):
            file.write(f'v1 {verb} 77 {60 * MS} {spools.BOOT} 7 7 "later"\n'.encode())
        file.write(b"v1 begin 9")  # half of a line
    before, log = known.marks_bytes, known.log
    again = store.read_spool(spool, known)
    assert known.log is log
    assert known.marks_bytes == path.stat().st_size - len(b"v1 begin 9") > before
    assert [window.name for window in again.windows if window not in first.windows] == ["later"]
    assert again.windows == store.read_spool(spool).windows


def test_read_spool_in_time_reads_only_that(spool):
    found = store.read_spool(spool).series("gpu0.power.instant", 99 * MS, 102 * MS)
    assert found.raw.tolist() == [99, 100, 101, 102]


def test_converter_while_recording_leaves_one_trace_at_every_step(spool):
    converter = store.Converter(spool, spool.with_suffix(""))
    early = store.read_spool(spool)  # made before its parts change their names
    assert converter.step() == 2
    assert sorted(path.name for path in spool.glob("part-*")) == [
        "part-000000.parquet",
        "part-000001.parquet",
        "part-000002.open",
    ]
    check_whole(early)
    check_whole(store.read_spool(spool))
    assert converter.step() == 0
    (spool / "part-000002.open").rename(spool / "part-000002.part")
    check_whole(store.read_spool(spool))
    spools.write_events(spool, {"event": "end", "reason": "stop", "discarded": 0})
    out = converter.finish(exit_code=0)
    trace = store.load(out)
    check_whole(trace)
    assert not spool.exists()
    assert trace.meta["exit_code"] == 0
    assert trace.meta["spool_end"]["reason"] == "stop"
    assert trace.windows[0].name == "a"


def test_converter_finish_while_a_program_still_marks_leaves_only_the_output(spool):
    writer = marks.MarkWriter(spool / "marks")
    out = spool.with_suffix("")

    def extra():
        writer.event("late")
        yield from ()

    store.Converter(spool, out).finish(extra())
    writer.event("later")
    assert list(spool.parent.iterdir()) == [out]


def test_converter_finish_whose_cleaning_up_fails_keeps_the_output_and_warns(spool, monkeypatch):
    def busy(_path):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(convert.shutil, "rmtree", busy)
    with pytest.warns(RuntimeWarning, match="recording is complete.*busy"):
        out = store.Converter(spool, spool.with_suffix("")).finish()
    check_whole(store.load(out))


def test_converter_takes_readings_from_elsewhere(spool):
    truth = Channel("truth.gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-9)
    pieces = [Series(truth, [n], [n], [n * n], [0], [n]) for n in range(3)]
    trace = store.load(store.Converter(spool, spool.with_suffix("")).finish(iter(pieces)))
    assert trace.series("truth.gpu0.energy").raw.tolist() == [0, 1, 4]
    check_whole(trace)


def test_recover_after_a_kill_loses_only_the_torn_record(spool):
    trace = store.recover(spool)
    check_whole(trace)
    assert trace.path.name == "run.parquet"
    assert trace.meta["recovered"] is True
    assert trace.meta["spool_end"] is None
    assert not spool.exists()


@pytest.mark.parametrize("leftover", ["part-000000.parquet.new", "run.parquet.new"])
def test_recover_after_a_kill_amid_converting_ignores_half_files(spool, leftover):
    where = spool if leftover.startswith("part") else spool.parent
    (where / leftover).write_bytes(b"PAR1 half a file")
    check_whole(store.recover(spool))


def test_recover_after_a_kill_between_converting_and_deleting_counts_nothing_twice(spool):
    raw = (spool / "part-000000.part").read_bytes()
    store.Converter(spool, spool.with_suffix("")).step()
    (spool / "part-000000.part").write_bytes(raw)
    check_whole(store.read_spool(spool))
    check_whole(store.recover(spool))


def test_recover_of_a_spool_being_recorded_is_refused_and_harms_nothing(spool):
    with SpoolLock(spool), pytest.raises(StateError, match=f"still being recorded by process {os.getpid()}"):
        store.recover(spool)
    assert (spool / "part-000002.open").exists()
    check_whole(store.recover(spool))


def test_lock_of_a_killed_recorder_is_free_again_and_its_children_do_not_hold_it(spool):
    program = (
        "import os, pathlib, signal, subprocess, sys, warnings\n"
        "from powersample.store.lock import SpoolLock\n"
        "lock = SpoolLock(pathlib.Path(sys.argv[1]))\n"
        "started = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid\n"
        "forked = os.fork()\n"
        "if not forked: os.close(1); signal.pause()\n"
        "print(started, forked, flush=True)\n"
        "signal.pause()\n"
    )
    recorder = subprocess.Popen([sys.executable, "-c", program, spool], stdout=subprocess.PIPE, text=True)
    left = [int(pid) for pid in recorder.stdout.readline().split()]
    try:
        assert holder(spool) == str(recorder.pid)
        with pytest.raises(StateError, match=str(recorder.pid)):
            store.recover(spool)
        recorder.kill()
        recorder.communicate()
        assert holder(spool) is None
        check_whole(store.recover(spool))
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def test_recover_with_a_spoiled_part_keeps_the_rest_and_the_spool(spool):
    spoiled = spool / "part-000001.part"
    spoiled.write_bytes(b"garbage" + spoiled.read_bytes()[7:])
    trace = store.recover(spool)
    assert len(trace.series("gpu0.power.instant")) == 200
    assert "part-000001.part" in trace.meta["trouble"][0]
    assert spoiled.exists()


@pytest.mark.parametrize("written", [0, 100, 4095])
def test_recover_with_a_part_killed_in_its_header_goes_on(spool, written):
    opened = spool / "part-000002.open"
    opened.write_bytes(opened.read_bytes()[:written])
    check_whole(store.recover(spool), parts=2)


def test_recover_after_a_power_cut_drops_zeros_at_the_end(spool):
    opened = spool / "part-000002.open"
    opened.write_bytes(opened.read_bytes()[: 4096 + 32 * 200] + bytes(4096))
    check_whole(store.recover(spool))


def test_recover_of_a_recording_without_a_single_part_is_an_empty_trace(tmp_path):
    folder = tmp_path / "run.parquet.spool"
    folder.mkdir()
    spools.write_session(folder, host="box")
    trace = store.recover(folder)
    assert (dict(trace.channels), trace.start_ns, trace.meta["host"]) == ({}, None, "box")


def test_recover_without_lane_statistics_knows_lanes_by_the_parts(spool):
    (spool / "events.jsonl").unlink()
    (lane,) = store.recover(spool).lanes
    assert (lane.name, lane.rate_hz, lane.slots) == ("nvml:gpu0", 1000.0, None)


def test_recover_never_overwrites(spool):
    out = spool.with_suffix("")
    out.write_text("mine")
    with pytest.raises(OutputExists):
        store.recover(spool)
    assert out.read_text() == "mine"
    check_whole(store.recover(spool, replace=True))


def test_converter_output_that_appears_meanwhile_is_not_overwritten(spool):
    converter = store.Converter(spool, spool.with_suffix(""))
    spool.with_suffix("").write_text("mine")
    with pytest.raises(OutputExists):
        converter.finish()
    assert spool.with_suffix("").read_text() == "mine"
    check_whole(store.read_spool(spool))
    assert list(spool.parent.glob("*.new")) == []


def test_converter_on_a_full_disk_keeps_the_raw_part(spool, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.pq.ParquetWriter, "write_table", full)
    with pytest.raises(DiskFull, match="no space left"):
        store.Converter(spool, spool.with_suffix("")).step()
    monkeypatch.undo()
    assert list(spool.glob("*.new")) == []
    check_whole(store.read_spool(spool))


def test_converter_on_a_disk_that_fills_up_at_the_very_end_leaves_no_half_file(spool, monkeypatch):
    opened = pa.OSFile
    monkeypatch.setattr(writer.pa, "OSFile", lambda path, mode: opened("/dev/full" if mode == "wb" else path, mode))
    with pytest.raises(DiskFull, match="no space left"):
        store.Converter(spool, spool.with_suffix("")).step()
    gc.collect()  # pyarrow's own writer tries to close itself once more, and would say so on stderr
    monkeypatch.undo()
    assert list(spool.glob("*.new")) == []
    check_whole(store.read_spool(spool))


def test_converter_that_cannot_even_begin_a_file_leaves_none(spool, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.pq, "ParquetWriter", full)
    with pytest.raises(DiskFull):
        store.Converter(spool, spool.with_suffix("")).finish()
    assert list(spool.glob("*.new")) == []


def test_recover_into_a_missing_folder_says_so_and_keeps_the_spool(spool):
    with pytest.raises(AccessDenied, match="missing is not a folder"):
        store.recover(spool, spool.parent / "missing" / "x.parquet")
    check_whole(store.recover(spool))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda h: h | {"powersample_spool": 2}, "newer"),
        (lambda h: h | {"record_bytes": 40}, "40"),
        (lambda h: h | {"header_bytes": 8192}, "4096"),
        (lambda h: {k: v for k, v in h.items() if k != "channels"}, "channels"),
        (lambda h: h | {"channels": [{"id": 0}]}, "kind"),
    ],
)
def test_read_spool_only_part_malformed_says_why(tmp_path, spoil, what):
    folder = tmp_path / "x.spool"
    folder.mkdir()
    path = spools.write_part(folder, 0, part(0), [POWER, ENERGY])
    head, body = path.read_bytes()[:4096], path.read_bytes()[4096:]
    path.write_bytes(json.dumps(spoil(json.loads(head))).encode().ljust(4095) + b"\n" + body)
    with pytest.raises(BadFormat, match=what):
        store.recover(folder)
    assert path.exists()


def test_read_spool_of_a_record_that_no_header_names_is_refused(tmp_path):
    folder = tmp_path / "x.spool"
    folder.mkdir()
    spools.write_part(folder, 0, part(0), [POWER])
    with pytest.raises(BadFormat, match="channel 1"):
        store.recover(folder)


def test_read_spool_of_something_else_is_refused(tmp_path):
    with pytest.raises(BadFormat, match="not a spool"):
        store.read_spool(tmp_path)
    with pytest.raises(InputNotFound):
        store.read_spool(tmp_path / "none")
    with pytest.raises(InvalidArgument, match=r"\.spool"):
        store.recover(tmp_path)


def test_marks_of_another_boot_make_no_windows(spool):
    text = (spool / "marks").read_text().replace(spools.BOOT, "other")
    (spool / "marks").write_text(text)
    trace = store.read_spool(spool)
    assert trace.windows == ()
    assert trace.meta["marks_left_out"]["other_boot"] == 4


def test_finish_gathers_each_busy_channel_of_all_parts_in_long_row_groups(tmp_path):
    """Footers are held in memory: a row group a part and channel would be hundreds of megabytes after two days."""
    folder = tmp_path / "run.parquet.spool"
    folder.mkdir()
    channels = [spools.channel(f"gpu{n}.power.instant", n) for n in range(3)]
    channels += [spools.channel("gpu0.clock", 3, kind=3), spools.channel("gpu0.temperature", 4, kind=3)]
    counts, rows = (20_000, 20_000, 20_000, 100, 100), np.zeros(5, int)
    for number in range(6):
        # In the last part, cut short, every channel is a quiet one.
        some = [count if number < 5 else 50 for count in counts]
        pieces = [
            spools.records((np.arange(n) + rows[i]) * MS + i, np.arange(n) + rows[i], i) for i, n in enumerate(some)
        ]
        rows += some
        spools.write_part(folder, number, np.sort(np.concatenate(pieces), order="t0_ns"), channels)
    trace = store.load(store.Converter(folder, tmp_path / "run.parquet").finish())
    for i, channel in enumerate(channels):
        assert trace.series(channel["name"]).raw.tolist() == list(range(rows[i]))
    groups = schema.row_groups(pq.read_metadata(trace.path))
    assert sorted((group.first_channel, group.last_channel, group.rows) for group in groups) == [
        ("gpu0.clock", "gpu0.temperature", 1100),
        *((f"gpu{n}.power.instant", f"gpu{n}.power.instant", 100_050) for n in range(3)),
    ]
