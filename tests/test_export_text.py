# SPDX-License-Identifier: Apache-2.0
"""CSV and line protocol, read back by pandas and by parsers that know nothing of the writer."""

import errno
import io
import os
import re
import tracemalloc
from itertools import pairwise

import line_protocol_parser
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from traces import MS, S, channel, polls, series

from powersample import errors, store
from powersample.cli import main
from powersample.export import csv_chunks, influx_chunks, select, windows_csv
from powersample.export.changes import changes
from powersample.export.influx import escaped
from powersample.model import Anchor, Channel, Extent, Kind, RunTable, Series, Trace, Window
from powersample.store.writer import publish

START_NS = 1_750_000_000 * S  # of the time of day at CLOCK_MONOTONIC 0
ANCHORS = [Anchor(0, 0, START_NS, 0, 0), Anchor(100 * S, 0, START_NS + 100 * S + 250 * MS, 0, 0)]  # set forward between
UTIL = Channel("gpu0.utilization", "GPU-0", "gpu", Kind.AUX, "%")


def trace(**more):
    t_ns = polls(1, 3, 10)
    status = np.zeros(len(t_ns), np.uint16)
    status[5:8] = 15
    parts = [
        series(channel(), t_ns, np.arange(len(t_ns)) // 10 * 1000 + 123, status),
        series(channel("gpu0.energy", Kind.ENERGY), t_ns, t_ns // MS),
        series(UTIL, t_ns, np.full(len(t_ns), 42)),
    ]
    return Trace.of(parts, **{"anchors": ANCHORS, "windows": [Window("epoch, 1", 1 * S, 2 * S)]} | more)


def text_of(chunks):
    return b"".join(chunks).decode()


def frame(chosen, **more):
    return pd.read_csv(io.StringIO(text_of(csv_chunks(chosen, **more))), comment="#")


def test_csv_read_by_pandas_equals_the_trace():
    whole = trace()
    found, expected = frame(select(whole)), whole.to_pandas()
    assert found.channel.tolist() == expected.channel.tolist()
    times = pd.to_datetime(found.time_utc, utc=True).astype("datetime64[ns, UTC]")
    assert times.tolist() == expected.time.tolist()
    assert found.monotonic_ns.tolist() == ((expected.t0_ns + expected.t1_ns) // 2).tolist()
    assert found.status.tolist() == expected.status.tolist()
    for column, name in (("power_w", "gpu0.power.instant"), ("energy_j", "gpu0.energy"), ("aux_pct", UTIL.name)):
        mine = found[column][found.channel == name]
        assert np.array_equal(mine, expected.value[expected.channel == name], equal_nan=True)
        assert found[column][found.channel != name].isna().all()
    assert found.power_w[:100].isna().sum() == 3


def test_csv_read_by_pyarrow_has_the_same_rows():
    import pyarrow.csv

    data = b"".join(csv_chunks(select(trace())))
    table = pyarrow.csv.read_csv(io.BytesIO(data), pyarrow.csv.ReadOptions(skip_rows=1))
    assert table.num_rows == 3 * 201
    assert str(table.schema.field("time_utc").type).startswith("timestamp")


def test_csv_of_changes_keeps_the_first_of_equal_ones_failures_and_the_last():
    found = frame(select(trace(), ["gpu0.power.instant"]), only_changes=True)
    at = ((found.monotonic_ns - S) // (10 * MS)).tolist()
    assert at == [0, 5, 8, *range(10, 201, 10)]
    assert found.power_w.isna().tolist() == [False, True] + [False] * (len(at) - 2)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 0, 9])), max_size=60), st.integers(1, 7))
def test_changes_held_forwards_are_the_channel_whatever_the_chunks(readings, size):
    whole = series(channel(), np.arange(len(readings)), [raw for raw, _ in readings], [code for _, code in readings])
    pieces = [whole.take(slice(i, i + size)) for i in range(0, len(whole), size)]
    kept = Series.concat(whole.channel, changes(pieces))
    if not len(whole):
        assert len(kept) == 0
        return
    assert kept.t0_ns[0] == 0
    assert kept.t0_ns[-1] == len(whole) - 1
    held = kept.value[np.searchsorted(kept.t0_ns, whole.t0_ns, "right") - 1]
    assert np.array_equal(held, whole.value, equal_nan=True)
    said = [None if code else raw for raw, code in zip(kept.raw.tolist(), kept.status.tolist(), strict=True)]
    assert all(before != after for before, after in pairwise(said[:-1]))


def test_changes_of_nan_are_none():
    whole = series(channel(raw_dtype="float64"), [1, 2, 3], [np.nan, np.nan, np.nan])
    assert [one.t0_ns.tolist() for one in changes([whole])] == [[1], [3]]


class Long:
    """Two days of one channel at 10 Hz, made chunk by chunk."""

    ROWS = 2 * 86400 * 10

    def chunks(self, chan, start_ns, end_ns):
        for first in range(0, self.ROWS, 1 << 16):
            t_ns = np.arange(first, min(first + (1 << 16), self.ROWS)) * 100 * MS
            yield series(chan, t_ns, t_ns // S)

    def extent(self, chan):
        return Extent(self.ROWS, 0, (self.ROWS - 1) * 100 * MS)


@pytest.mark.parametrize("write", [csv_chunks, influx_chunks])
def test_long_trace_is_written_at_constant_memory(write):
    whole = Trace(Long(), [channel()], anchors=ANCHORS)
    tracemalloc.start()
    try:
        lines = size = 0
        for chunk in write(select(whole)):
            lines, size = lines + chunk.count(b"\n"), size + len(chunk)
            if lines > 2 * (1 << 16):  # the rest is as these, and tracing makes it slow
                break
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert lines > 2 * (1 << 16)
    assert most < 60e6
    assert size > 5e6


@pytest.mark.parametrize(
    ("more", "columns", "first"),
    [
        ({"anchors": []}, ["monotonic_ns"], [1 * S]),
        ({"meta": {"clock": "utc"}}, ["time_utc", "unix_ns"], ["1970-01-01 00:00:01.000000000", 1 * S]),
        ({"meta": {"clock": "local"}}, ["time_local"], ["1970-01-01 00:00:01.000000000"]),
        ({"meta": {"clock": "start"}}, ["since_start_ns"], [1 * S]),
    ],
)
def test_csv_stamps_only_what_the_clock_tells(more, columns, first):
    whole = trace(**{"anchors": []} | more)
    found = frame(select(whole))
    assert found.columns[: found.columns.get_loc("channel")].tolist() == columns
    assert found.loc[0, columns].tolist() == first
    windows = pd.read_csv(io.BytesIO(windows_csv(select(whole))))
    assert windows[[f"start_{one}" for one in columns]].iloc[0].tolist() == first


def test_csv_of_windows_has_names_as_they_are_and_those_left_open():
    windows = [Window('a "b", #1', S, 2 * S), Window("x\udcff\n", S, 3 * S, ("open",), "marks pid 4")]
    found = pd.read_csv(io.BytesIO(windows_csv(select(trace(windows=windows)))))
    assert found.name.tolist() == ['a "b", #1', "x\\udcff\n"]
    assert found.open.tolist() == [0, 1]
    assert found.duration_s.tolist() == [1.0, 2.0]
    assert windows_csv(select(trace(windows=[]))) is None


def test_spans_of_a_meter_have_a_column():
    chan = channel("wall.power", domain="wall", stamp="arrival", span="sample", raw_dtype="float64")
    t_ns = polls(1, 2, 100)
    parts = Series(chan, t_ns, t_ns, t_ns * 0.0, t_ns * 0, t_ns % 7, t_ns % 11 + 1)
    assert frame(select(Trace.of([parts], anchors=ANCHORS))).span_ns.tolist() == (t_ns % 11 + 1).tolist()


def test_simulation_says_so_in_every_format():
    whole = trace(meta={"simulated": True, "simulated_node": {"profile": "h100"}})
    assert text_of(csv_chunks(select(whole))).startswith("# SIMULATED NODE h100, not a measurement\n")
    assert windows_csv(select(whole)).startswith(b"# SIMULATED NODE h100, not a measurement\n")
    assert all(",simulated=true " in line for line in text_of(influx_chunks(select(whole))).splitlines())


def test_simulated_meter_beside_real_boards_is_marked_alone():
    meters = {"meters": [{"name": "GPU-0", "simulated": True}]}
    other = series(channel("gpu1.power", device="GPU-1"), [S], [1])
    whole = Trace.of([series(channel(), [S], [1]), other], anchors=ANCHORS, meta=meters)
    marks = [re.search("simulated=(\\w+)", line)[1] for line in text_of(influx_chunks(select(whole))).splitlines()]
    assert marks == ["true", "false"]
    assert text_of(csv_chunks(select(whole))).startswith("# SIMULATED: GPU-0, not a measurement\n")


# The protocol as its documentation has it: a backslash before a comma, space or equals sign takes its meaning.
WORD = r"((?:\\[,= ]|[^\\,= \n]|\\(?![,= ]))+)"
LINE = re.compile(rf"{WORD}((?:,{WORD}={WORD})*) {WORD}=(-?[0-9][^, ]*) (-?\d+)")


def strictly(line):
    found = LINE.fullmatch(line)
    assert found, line
    tags = dict(pair for pair in re.findall(rf",{WORD}={WORD}", found[2]))

    def plain(word):
        return re.sub(r"\\([,= ])", r"\1", word)

    return plain(found[1]), {plain(k): plain(v) for k, v in tags.items()}, found[5], float(found[6]), int(found[7])


def test_influx_points_are_the_good_readings():
    whole = trace(meta={"host": "node 1"})
    lines = [strictly(line) for line in text_of(influx_chunks(select(whole))).splitlines()]
    power = [line for line in lines if line[0] == "power"]
    expected = whole.series("gpu0.power.instant")
    assert [value for *_, value, _ in power] == expected.value[expected.good].tolist()
    assert power[0][1] == {
        "channel": "gpu0.power.instant",
        "device": "GPU-0",
        "domain": "gpu",
        "host": "node 1",
        "simulated": "false",
    }
    assert {line[2] for line in lines} == {"watts", "joules", "percent"}
    assert power[0][4] == START_NS + 1 * S
    assert power[-1][4] == START_NS + 3 * S


names = st.text(st.characters(codec="utf-8"), min_size=1) | st.text(alphabet=', =\\"\nab\udcff', min_size=1)


@given(names, names)
@example("\\", "a\\, b=")
@example("x\n\r\t", "\udcfe")
def test_influx_escapes_any_name_so_that_two_parsers_read_the_same(device, host):
    whole = Trace.of([series(channel(device=device), [S], [1500])], anchors=ANCHORS, meta={"host": host})
    (line,) = text_of(influx_chunks(select(whole), tags={host: device})).splitlines()
    ours, theirs = strictly(line), line_protocol_parser.parse_line(line)
    assert ours[0] == theirs["measurement"] == "power"
    assert ours[1] == theirs["tags"]
    assert theirs["fields"] == {"watts": 1.5}
    assert theirs["time"] == ours[4] == START_NS + S
    if not re.search(r"[\\\ud800-\udfff]", device) and device.isprintable():
        assert ours[1]["device"] == device


def test_escaped_leaves_plain_names_alone():
    assert escaped("GPU-6b7a") == "GPU-6b7a"
    assert escaped("a b") == "a\\ b"


@pytest.mark.parametrize("clock", [None, "local", "start"])
def test_influx_without_the_time_of_day_is_refused(clock):
    whole = trace(anchors=[], meta={"clock": clock} if clock else {})
    with pytest.raises(errors.InvalidArgument, match="time of day"):
        influx_chunks(select(whole))


def test_select_takes_patterns_truth_only_when_asked_and_refuses_what_is_not_there():
    truth = series(channel("truth.gpu0.energy", Kind.ENERGY), [S], [1])
    whole = Trace.of([truth, series(channel(), [S], [1])])
    assert [one.name for one in select(whole, truth=False).channels] == ["gpu0.power.instant"]
    assert [one.name for one in select(whole, ["truth.*"], truth=False).channels] == ["truth.gpu0.energy"]
    with pytest.raises(errors.DeviceNotFound, match=r"no channel 'gpu9'; it has gpu0.power"):
        select(whole, ["gpu9"])


def test_trace_of_one_sample_or_failures_only_or_nothing_is_written():
    failed = series(channel("gpu1.power"), [S, 2 * S], [0, 0], [15, 15])
    whole = Trace.of([series(channel(), [S], [1]), failed, Series.empty(channel("gpu2.power"))], anchors=ANCHORS)
    found = frame(select(whole))
    assert found.power_w.tolist()[0] == 0.001
    assert found.power_w.isna().tolist() == [False, True, True]
    assert text_of(influx_chunks(select(whole))).count("\n") == 1
    assert len(frame(select(Trace.of([], anchors=ANCHORS)))) == 0


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "run.parquet"
    store.save(trace(), path)
    return path


def test_verb_writes_csv_with_its_windows_and_neither_over_what_is_there(recording, tmp_path, capsys):
    out, beside = tmp_path / "run.csv", tmp_path / "run.windows.csv"
    assert main(["export", str(recording), "-o", str(out), "--start", "0.5", "--end", "1"]) == 0
    found = pd.read_csv(out, comment="#")
    assert found.monotonic_ns.agg(["min", "max"]).tolist() == [1.5 * S, 2 * S]
    assert pd.read_csv(beside).name.tolist() == ["epoch, 1"]
    assert capsys.readouterr().err == f"powersample: wrote {out} and {beside}\n"
    assert main(["export", str(recording), "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert f"{out} exists" in said  # what was asked for, not what comes beside it
    assert "Name another file with -o, or add --force." in said
    out.unlink()
    assert main(["export", str(recording), "-o", str(out)]) == 1
    assert f"run.windows.csv exists, and that is where the windows of {out} go" in capsys.readouterr().err
    assert not out.exists()
    assert main(["export", str(recording), "-o", str(out), "--force"]) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["run.csv", "run.parquet", "run.windows.csv"]


@pytest.mark.parametrize("fails", ["run.csv", "run.windows.csv"])
@pytest.mark.parametrize("what", ["disk", "name"])
def test_verb_writes_csv_and_its_windows_or_neither(recording, tmp_path, monkeypatch, capsys, fails, what):
    """One without the other looks whole: readings without their epochs, or epochs without readings."""
    if what == "disk":

        def full(number, sync=os.fsync):
            if fails + "." in os.readlink(f"/proc/self/fd/{number}"):
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(number)

        monkeypatch.setattr("os.fsync", full)
    else:

        def taken(new, path, *, replace, give=publish):
            if path.name == fails:
                path.write_text("somebody else's")
            give(new, path, replace=replace)

        monkeypatch.setattr("powersample.store.writer.publish", taken)
    assert main(["export", str(recording), "-o", str(tmp_path / "run.csv")]) == 1
    assert ("no space left" if what == "disk" else f"{fails} exists") in capsys.readouterr().err
    left = {one.name: one.read_bytes() for one in tmp_path.iterdir() if one != recording}
    assert left == ({} if what == "disk" else {fails: b"somebody else's"})


def test_verb_writes_text_to_standard_output(recording, capsys):
    assert main(["export", str(recording), "-f", "influx", "-o", "-", "--tag", "job=47 11"]) == 0
    assert capsys.readouterr().out.startswith("power,channel=gpu0.power.instant,device=GPU-0,domain=gpu,job=47\\ 11,")
    assert main(["export", str(recording), "-f", "csv", "--changes", "--channel", "gpu0.u*"]) == 0
    said = capsys.readouterr()
    assert said.out.count("gpu0.utilization") == 2
    assert "1 windows are left out" in said.err


def test_verb_says_that_standard_output_is_full(recording, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["export", str(recording), "-f", "influx"]) == 1
        monkeypatch.undo()
    assert "standard output cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "give -f csv"),
        (["-f", "csv", "--channel", "gpu7"], 1, "no channel 'gpu7'"),
        (["-f", "csv", "--tag", "a=b"], 2, "--tag is of influx only"),
        (["-f", "influx", "--tag", "a"], 2, "KEY=VALUE"),
        (["-f", "csv", "--start", "noon"], 2, "'noon' is neither"),
        (["-f", "csv", "-o", "missing/run.csv"], 1, "missing is not a folder"),
        (["-f", "ptdaemon", "--channel", "a", "--channel", "b"], 2, "give --channel once"),
    ],
)
def test_verb_refuses_with_a_reason(recording, monkeypatch, capsys, words, code, says):
    monkeypatch.chdir(recording.parent)
    assert main(["export", str(recording), *words]) == code
    assert says in capsys.readouterr().err
    assert [one.name for one in recording.parent.iterdir()] == ["run.parquet"]


def test_verb_takes_another_tools_log_and_refuses_totals(tmp_path, monkeypatch, capsys):
    log = tmp_path / "smi.csv"
    head = "timestamp, index, uuid, power.draw [W]"
    log.write_text(f"{head}\n2025/06/15 15:06:40.500, 0, GPU-1, 101.25 W\n2025/06/15 15:06:41.500, 0, GPU-1, [N/A]\n")
    assert main(["export", str(log), "-f", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].startswith("time_local,channel")
    assert rows[2].startswith("2025-06-15 15:06:40.500000000,")
    assert ",101.25," in rows[2]
    assert main(["export", str(log), "-f", "influx"]) == 2
    monkeypatch.setattr("powersample.readers.read", lambda path: RunTable("zeus", None, ()))
    assert main(["export", str(log), "-f", "csv"]) == 2
    assert "totals of runs and no samples" in capsys.readouterr().err


def test_full_disk_leaves_nothing_behind(recording, tmp_path, monkeypatch, capsys):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("powersample.store.replace.os.fsync", full)
    assert main(["export", str(recording), "-o", str(tmp_path / "run.csv")]) == 1
    assert "no space left" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["run.parquet"]
