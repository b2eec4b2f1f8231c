# SPDX-License-Identifier: Apache-2.0
"""Parquet files: lossless, sparing, pruned when read, and clear about what they are not."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample import store
from powersample.errors import AccessDenied, BadFormat, DiskFull, InputNotFound, OutputExists
from powersample.model import Anchor, Channel, Kind, LaneStats, Series, Trace, Window
from powersample.store import schema, stored

MS = 1_000_000
S = 1000 * MS
INT64 = st.integers(-(2**63), 2**63 - 1)


def power(name="gpu0.power.instant", **more):
    return Channel(name, "GPU-0", "gpu", Kind.POWER, "W", 1e-3, **more)


def busy(channel, count, seed=0, wake_ns=5_000, call_ns=20_000):
    """A 100 ms sensor polled at 1 kHz by a thread that wakes late, as real ones do."""
    rng = np.random.default_rng(seed)
    t0_ns = 10**15 + np.arange(count) * MS + np.abs(rng.normal(0, wake_ns, count)).astype(np.int64)
    t1_ns = t0_ns + (call_ns * np.exp(rng.normal(0, 0.1, count))).astype(np.int64)
    raw = np.repeat(rng.normal(300_000, 20_000, count // 100 + 1).astype(np.int64), 100)[:count]
    return Series(channel, t0_ns, t1_ns, raw, np.zeros(count), np.arange(count) * 6)


def same(left, right):
    assert left.channel == right.channel
    for name in ("t0_ns", "t1_ns", "raw", "status", "seq"):
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert (left.span_ns is None) == (right.span_ns is None)
    if left.span_ns is not None:
        assert left.span_ns.tolist() == right.span_ns.tolist()


@st.composite
def any_series(draw, name):
    count = draw(st.integers(0, 30))
    raw_dtype = draw(st.sampled_from(["int64", "float64"]))
    span = draw(st.sampled_from(["none", "fixed", "sample"]))
    channel = Channel(
        name, "d", "wall", Kind.POWER, "W", draw(st.floats(1e-9, 1e9)), raw_dtype, "arrival", span, lane="ä"
    )
    values = st.floats(allow_nan=True) if raw_dtype == "float64" else INT64

    def column(strategy, dtype):
        return np.array(draw(st.lists(strategy, min_size=count, max_size=count)), dtype)

    t0_ns = np.sort(column(st.integers(0, 2**62), np.int64))
    t1_ns = t0_ns + np.sort(column(st.integers(0, 2**61), np.int64))
    return Series(
        channel,
        t0_ns,
        t1_ns,
        column(values, raw_dtype),
        column(st.integers(0, 2**16 - 1), np.uint16),
        column(st.integers(0, 2**32 - 1), np.uint32),
        column(st.integers(0, 2**62), np.int64) if span == "sample" else None,
    )


@given(one=any_series("meter"), two=any_series("gpu0.power"))
@settings(max_examples=60, deadline=None)
def test_save_and_load_any_readings_are_lossless(tmp_path_factory, one, two):
    with np.errstate(over="ignore", invalid="ignore"):
        trace = Trace.of([one, two])
        path = tmp_path_factory.mktemp("store") / "x.parquet"
        store.save(trace, path)
        again = store.load(path)
    same(one, again.series("meter"))
    same(two, again.series("gpu0.power"))
    assert (again.start_ns, again.end_ns) == (trace.start_ns, trace.end_ns)


def test_save_and_load_keep_all_that_is_no_reading(tmp_path):
    trace = Trace.of(
        [busy(power(lane="nvml:gpu0", modulus=7), 10)],
        windows=[Window("épreuve", 1, 2, ("open",), "marks pid 1")],
        anchors=[Anchor(1, 2, 3, 4, 5)],
        lanes=[LaneStats("nvml:gpu0", slots=3, errors={15: 2}, call_hist=(0, 4))],
        meta={"simulated": True, "devices": [{"uuid": "GPU-SIM-1"}]},
    )
    store.save(trace, tmp_path / "x.parquet")
    again = store.load(tmp_path / "x.parquet")
    assert dict(again.channels) == dict(trace.channels)
    assert (again.windows, again.anchors, again.lanes) == (trace.windows, trace.anchors, trace.lanes)
    assert again.meta == trace.meta
    assert again.simulated


def test_file_of_a_slow_sensor_polled_fast_takes_4_bytes_a_record(tmp_path):
    """Times carry noise that cannot be compressed away; everything else must be next to free."""
    count = 300_000
    store.save(Trace.of([busy(power(), count)]), tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size / count <= 4.0


def test_file_opens_in_plain_pyarrow_with_si_values(tmp_path):
    series = Series(power(), [1, 2], [3, 4], [1500, 7], [0, 9], [0, 1])
    store.save(Trace.of([series]), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["channel", "t0_ns", "t1_ns", "raw", "value", "status", "seq", "span_ns"]
    assert table["value"].to_pylist() == [1.5, None]
    assert table["channel"].to_pylist() == ["gpu0.power.instant"] * 2
    metadata = pq.read_metadata(tmp_path / "x.parquet").metadata
    assert json.loads(metadata[b"powersample"])["schema_version"] == 1


def test_load_reads_only_the_row_groups_it_needs(tmp_path, monkeypatch):
    quiet = [busy(power(f"gpu0.aux{n}"), 50) for n in range(5)]
    store.save(Trace.of([busy(power(), 1_200_000), busy(power("gpu1.power.instant"), 300_000), *quiet]), tmp_path / "x")
    trace = store.load(tmp_path / "x")
    read = []
    real = pq.ParquetFile.iter_batches

    def counted(self, rows, groups, *more, **options):
        for batch in real(self, rows, groups, *more, **options):
            read.append((groups, len(batch)))
            yield batch

    monkeypatch.setattr(stored.pq.ParquetFile, "iter_batches", counted)
    start_ns = 10**15 + 200 * S
    found = trace.series("gpu0.power.instant", start_ns, start_ns + S)
    assert len(found) == pytest.approx(1000, abs=2)
    assert read == [([0], 1 << 17)] * 2  # and no further in it than there
    read.clear()
    assert len(trace.series("gpu0.aux3")) == 50
    assert len(read) == 1
    read.clear()
    assert trace.end_ns is not None
    assert read == []


def test_row_groups_hold_one_busy_channel_or_several_quiet_ones_sorted(tmp_path):
    series = [busy(power(f"gpu0.aux{n}"), 50) for n in (2, 0, 1)]
    store.save(Trace.of([*series, busy(power(), 1_200_000)]), tmp_path / "x")
    groups = schema.row_groups(pq.read_metadata(tmp_path / "x"))
    assert [(g.first_channel, g.last_channel, g.rows) for g in groups] == [
        ("gpu0.power.instant", "gpu0.power.instant", 1 << 20),
        ("gpu0.power.instant", "gpu0.power.instant", 1_200_000 - (1 << 20)),
        ("gpu0.aux0", "gpu0.aux2", 150),
    ]


def test_save_never_overwrites_unless_asked(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("mine")
    trace = Trace.of([busy(power(), 10)])
    with pytest.raises(OutputExists):
        store.save(trace, path)
    assert path.read_text() == "mine"
    store.save(trace, path, replace=True)
    again = store.load(path)
    with pytest.raises(OutputExists):
        again.save(path)
    again.save(tmp_path / "y.parquet")
    same(store.load(tmp_path / "y.parquet").series("gpu0.power.instant"), trace.series("gpu0.power.instant"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.parquet", "y.parquet"]


def test_save_and_load_under_a_name_that_is_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"r\xe9sultat.parquet")
    store.save(Trace.of([busy(power(), 10)]), path)
    assert len(store.load(path).series("gpu0.power.instant")) == 10


def test_save_of_a_stored_trace_on_a_full_disk_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    store.save(Trace.of([busy(power(), 10)]), tmp_path / "x.parquet")
    trace = store.load(tmp_path / "x.parquet")

    def full(_source, target):
        target.touch()
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(stored.shutil, "copyfile", full)
    with pytest.raises(DiskFull, match=r"y\.parquet"):
        trace.save(tmp_path / "y.parquet")
    monkeypatch.undo()
    with pytest.raises(AccessDenied, match="missing is not a folder"):
        trace.save(tmp_path / "missing" / "y.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]


def test_save_that_fails_leaves_nothing(tmp_path):
    class Gone:
        def chunks(self, *_args):
            raise RuntimeError("gone")

        def extent(self, _channel):
            return None

    with pytest.raises(RuntimeError, match="gone"):
        store.save(Trace(Gone(), [power()]), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_load_of_what_is_no_recording_names_file_and_reason(tmp_path):
    text, plain, newer, odd = (tmp_path / name for name in ("text", "plain", "newer", "odd"))
    text.write_text("hello")
    table = pa.table({"a": [1]})
    pq.write_table(table, plain)
    pq.write_table(table.replace_schema_metadata({"powersample": json.dumps({"schema_version": 2})}), newer)
    pq.write_table(table.replace_schema_metadata({"powersample": "{}"}), odd)
    for path, what in ((text, "not a Parquet"), (plain, "metadata"), (newer, "newer"), (odd, "malformed")):
        with pytest.raises(BadFormat, match=what) as caught:
            store.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(InputNotFound):
        store.load(tmp_path / "none")
    with pytest.raises(BadFormat, match="recover"):
        store.load(tmp_path)


def test_load_of_a_cut_file_is_refused(tmp_path):
    store.save(Trace.of([busy(power(), 1000)]), tmp_path / "x")
    (tmp_path / "cut").write_bytes((tmp_path / "x").read_bytes()[:-100])
    with pytest.raises(BadFormat, match="not a Parquet"):
        store.load(tmp_path / "cut")
