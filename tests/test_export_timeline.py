# SPDX-License-Identifier: Apache-2.0
"""Timelines: Chrome's JSON and Perfetto's protobuf, alone and beside a profile of torch, read back event by event."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import MS, S, channel, polls, series

from powersample import errors, store
from powersample.cli import main
from powersample.export import archive_chunks, chrome_chunks, perfetto_chunks, select
from powersample.export.counters import counters
from powersample.export.spans import Span, gap_spans, lanes
from powersample.formats import torch_trace
from powersample.model import Anchor, Kind, Trace, Window, to_boottime_ns
from powersample.readers import read_torch

protos = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the package perfetto is not installed"
)

START_NS = 1_750_000_000 * S  # of the time of day at CLOCK_MONOTONIC 0
SLEPT_NS = 3600 * S
BOOT, REAL, MONO = 6, 1, 3


def anchor(at_ns, slept_ns=0, set_ns=0):
    return Anchor(at_ns, at_ns, START_NS + at_ns + slept_ns + set_ns, 5 * S + at_ns + slept_ns, 100)


ANCHORS = [anchor(0), anchor(10 * S)]


def trace(seconds=4, **more):
    """A load of 100 W from 1 s to 3 s, read every 10 ms, with a hole and failures."""
    t_ns = polls(0, seconds, 10)
    watts = np.where((t_ns >= 1 * S) & (t_ns < 3 * S), 100_000, 20_000)
    status = np.where((t_ns > 2 * S) & (t_ns < 2 * S + 200 * MS), 15, 0).astype(np.uint16)
    energy = series(channel("gpu0.energy", Kind.ENERGY), t_ns, t_ns // (100 * MS) * 2000)
    parts = [series(channel(), t_ns, watts, status), energy]
    windows = [
        Window("run", 0, seconds * S),
        Window("epoch", 1 * S, 3 * S),
        Window("overlaps", 2 * S, 3 * S + 500 * MS),
        Window("now", 2 * S, 2 * S),
        Window("left", 3 * S, seconds * S, ("open",), "marks pid 7"),
    ]
    return Trace.of(parts, **{"anchors": ANCHORS, "windows": windows} | more)


# Spans on lanes


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), max_size=25))
def test_lanes_hold_every_span_once_and_only_nest(pairs):
    spans = [Span(str(i), start, start + length) for i, (start, length) in enumerate(pairs)]
    found = lanes(spans)
    assert sorted(one.name for lane in found for one in lane) == sorted(one.name for one in spans)
    for lane in found:
        for i, one in enumerate(lane):
            for other in lane[i + 1 :]:
                assert other.start_ns >= one.start_ns
                assert other.start_ns >= one.end_ns or other.end_ns <= one.end_ns


def test_gap_in_which_no_update_went_by_is_none():
    """A sensor of 100 ms, read every 10 ms: 60 ms without a reading hide nothing, 300 ms do."""
    t_ns = polls(0, 4, 10)
    t_ns = t_ns[((t_ns <= S) | (t_ns >= S + 60 * MS)) & ((t_ns <= 2 * S) | (t_ns >= 2 * S + 300 * MS))]
    nvml = channel(sensor="nvml.field.186")
    whole = Trace.of(
        [series(nvml, t_ns, t_ns // (100 * MS))], meta={"devices": [{"uuid": "GPU-0", "name": "NVIDIA A100"}]}
    )
    assert [(one.name, one.start_ns, one.end_ns) for one in gap_spans(select(whole), nvml)] == [
        ("gap: skipped", 2 * S, 2 * S + 300 * MS)
    ]


# Chrome's JSON


def chrome(whole, torch=None):
    return json.loads(b"".join(chrome_chunks(select(whole), torch)))


def of(events, **wanted):
    return [one for one in events if all(one.get(key) == value for key, value in wanted.items())]


def test_chrome_alone_has_the_steps_the_windows_and_the_gap():
    found = chrome(trace(meta={"host": "n1"}))
    events = found["traceEvents"]
    assert found["baseTimeNanoseconds"] == START_NS
    steps = of(events, ph="C", name="gpu0.power.instant (W)")
    assert [(one["ts"], one["args"]["W"]) for one in steps] == [
        (0.0, 20.0),
        (1e6, 100.0),
        (2.2e6, 100.0),  # behind the failures
        (3e6, 20.0),
        (4e6, 20.0),
    ]
    bars = {one["name"]: one for one in of(events, ph="X")}
    assert (bars["epoch"]["ts"], bars["epoch"]["dur"]) == (1e6, 2e6)
    assert bars["overlaps"]["tid"] != bars["epoch"]["tid"] == bars["run"]["tid"]
    assert bars["left"]["args"] == {"source": "marks pid 7", "flags": "open"}
    gap = bars["gap: errors, code 15"]
    assert (gap["ts"], gap["dur"]) == (2e6, 200e3)
    assert of(events, ph="i")[0]["name"] == "now"
    names = {one["args"]["name"] for one in of(events, ph="M", name="thread_name")}
    assert names == {"windows", "not read: gpu0.power.instant"}
    assert of(events, ph="M", name="process_name")[0]["args"] == {"name": "powersample: n1"}


def test_chrome_of_names_that_are_no_utf8_is_json_for_anybody():
    whole = trace(windows=[Window('a"\udcff\n', 0, S)], meta={"host": "h\udcfe"})
    data = b"".join(chrome_chunks(select(whole)))
    assert "\\\\udcff" in data.decode("ascii")
    assert of(json.loads(data)["traceEvents"], ph="X")[0]["name"] == 'a"\\udcff\n'


def test_chrome_times_keep_the_ns():
    whole = Trace.of([series(channel(), [1_234_567, 1_234_568], [1, 2])], anchors=ANCHORS)
    data = b"".join(chrome_chunks(select(whole))).decode()
    assert '"ts":0.000,' in data
    assert '"ts":0.001,' in data


def test_counter_of_energy_tells_the_mean_power_of_its_bins():
    """RAPL-like: an update a millisecond, 100 W, from 1 s on 300 W; of a hole the counter still knows the mean."""
    t_ns = polls(0, 2, 1)
    t_ns = t_ns[(t_ns <= 1500 * MS) | (t_ns >= 1800 * MS)]
    joules = np.where(t_ns < S, t_ns * 100, S * 100 + (t_ns - S) * 300) // 10**6  # in mJ
    package = channel("package-0.energy", Kind.ENERGY, "package-0", "package")
    truth = channel("truth.package-0.energy", Kind.ENERGY, "package-0", "package")
    whole = Trace.of([series(package, t_ns, joules), series(truth, [0, S], [0, 100_000])], anchors=ANCHORS)
    curves = {counter.title: counter for chan in whole.channels.values() for counter in counters(select(whole), chan)}
    assert sorted(curves) == ["package-0.energy", "package-0.energy: mean power over 20 ms", "truth.package-0.energy"]
    power = curves["package-0.energy: mean power over 20 ms"]
    assert power.unit == "W"
    ((at_ns, watts),) = power.pieces
    assert np.allclose(watts[at_ns < S], 100)
    assert np.allclose(watts[at_ns >= S], 300)
    assert np.all(np.diff(at_ns) == 20 * MS)
    assert [(one.start_ns, one.end_ns) for one in gap_spans(select(whole), package)] == [(1500 * MS, 1800 * MS)]


# A profile of torch

BASE_NS = START_NS - 12_345_678_901
TORCH_PIDS = [4711, 4_200_000, "Spans"]  # the second one is ours, were it free


def torch_text(first_s=1.0, last_s=3.0, **more):
    """A profile as torch writes it, whose kernel lasts from first_s to last_s of CLOCK_MONOTONIC 0."""
    ts = (START_NS + round(first_s * S) - BASE_NS) / 1000
    events = [
        {"ph": "X", "cat": "kernel", "name": "gemm", "pid": pid, "tid": 7, "ts": ts, "dur": (last_s - first_s) * 1e6}
        for pid in TORCH_PIDS
    ]
    head = {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": BASE_NS}
    return json.dumps(head | {"traceEvents": events, "traceName": "x.json"} | more, indent=2)


def torch_of(text):
    return text, torch_trace.parse(text, "torch.json")


def test_merged_chrome_keeps_torchs_own_text_and_lays_the_edge_at_the_kernels_begin():
    text = torch_text()
    data = b"".join(chrome_chunks(select(trace()), torch_of(text))).decode()
    at = text.rindex("\n  ]")
    assert data.startswith(text[:at])
    assert data.endswith(text[at:])
    found = json.loads(data)
    kernel = of(found["traceEvents"], cat="kernel")[0]
    steps = of(found["traceEvents"], ph="C", name="gpu0.power.instant (W)")
    rise = next(one for one in steps if one["args"]["W"] == 100.0)
    fall = next(one for one in steps[2:] if one["args"]["W"] == 20.0)
    assert rise["ts"] == pytest.approx(kernel["ts"], abs=1e-3)
    assert fall["ts"] == pytest.approx(kernel["ts"] + kernel["dur"], abs=1e-3)
    assert rise["pid"] == 4_200_001  # no other's
    assert all(isinstance(one["ts"], float) for one in steps)


def test_merged_chrome_of_a_clock_that_was_set_meanwhile_follows_the_nearer_anchor():
    """The time of day is put 60 s forward; a kernel behind the step is stamped by the clock as it is then."""
    anchors = [anchor(0), anchor(10 * S, set_ns=60 * S), anchor(20 * S, set_ns=60 * S)]
    t_ns = polls(0, 20, 10)
    load = series(channel(), t_ns, np.where((t_ns >= 8 * S) & (t_ns < 12 * S), 100_000, 20_000))
    found = chrome(Trace.of([load], anchors=anchors), torch_of(torch_text(68, 72)))
    kernel = of(found["traceEvents"], cat="kernel")[0]
    rise = next(one for one in of(found["traceEvents"], ph="C") if one["args"]["W"] == 100.0)
    assert rise["ts"] == pytest.approx(kernel["ts"], abs=1e-3)
    assert of(found["traceEvents"], ph="X", name="time of day set by +60.000 s in here")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("events", [[], [{"ph": "M", "name": "only metadata", "pid": 1}]])
def test_merging_into_a_profile_without_timed_events_gives_ours(events, indent):
    text = json.dumps({"traceEvents": events, "baseTimeNanoseconds": BASE_NS}, indent=indent)
    found = chrome(trace(), torch_of(text))
    assert found["traceEvents"][: len(events)] == events
    assert of(found["traceEvents"], ph="C")


@pytest.mark.parametrize("cut", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_torn_profile_is_refused_wherever_it_was_cut(cut):
    text = torch_text()
    with pytest.raises(errors.BadFormat, match=r"t.json (ends in the middle|is no JSON)"):
        torch_trace.parse(text[: int(len(text) * cut)], "t.json")


def test_profile_cut_right_behind_an_event_is_torn_too():
    text = torch_text()
    with pytest.raises(errors.BadFormat, match="ends in the middle"):
        torch_trace.parse(text[: text.index("},") + 1], "t.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no list of traceEvents"),
        ("{}", "no list of traceEvents"),
        ('{"traceEvents": 3, "baseTimeNanoseconds": 1}', "no list of traceEvents"),
        ('{"traceEvents": []}', "baseTimeNanoseconds is missing.*torch 2.4"),
        ('{"traceEvents": [], "baseTimeNanoseconds": "1"}', "baseTimeNanoseconds is missing"),
        ('{"traceEvents": [], "baseTimeNanoseconds": 1} x}', "is no JSON"),
        ('{"traceEvents": [1 2], "baseTimeNanoseconds": 1}', "is no JSON"),
        ("hello}", "is no JSON"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_reason(text, says):
    with pytest.raises(errors.BadFormat, match=says):
        torch_trace.parse(text, "t.json")


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(allow_nan=False), st.lists, max_leaves=5))
def test_parse_finds_the_end_of_events_among_whatever_else_there_is(other):
    text = json.dumps({"other": other, "traceEvents": [{"ph": "X", "ts": 1, "pid": 3, "x": other}], "z": other})
    text = text[:-1] + ', "baseTimeNanoseconds": 5}'
    found = torch_trace.parse(text, "t.json")
    assert (found.start_ns, found.end_ns, found.pids, found.events) == (1005, 1005, {3}, 1)
    again = json.loads(text[: found.insert_at] + ", 42" + text[found.insert_at :])
    assert again["traceEvents"][1] == 42
    assert again["z"] == json.loads(text)["z"]


def test_profile_is_read_gzipped_and_byte_for_byte(tmp_path):
    data = torch_text().replace("gemm", "g\u00e4mm").encode("latin-1")  # bytes that are no UTF-8
    for path, written in ((tmp_path / "t.json", data), (tmp_path / "t.json.gz", gzip.compress(data))):
        path.write_bytes(written)
        text, _ = read_torch(path)
        assert text.encode("utf-8", "surrogateescape") == data
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(errors.BadFormat, match="torn"):
        read_torch(tmp_path / "t.json.gz")


def test_profile_and_recording_without_a_common_instant_are_refused():
    with pytest.raises(errors.InvalidArgument, match="share no instant"):
        chrome_chunks(select(trace()), torch_of(torch_text(1000, 1001)))


def test_merging_into_a_record_without_the_time_of_day_is_refused():
    with pytest.raises(errors.InvalidArgument, match="time of day"):
        chrome_chunks(select(trace(anchors=[])), torch_of(torch_text()))


# Perfetto's protobuf


def perfetto(whole):
    found = protos.Trace()
    found.ParseFromString(b"".join(perfetto_chunks(select(whole))))
    return found.packet


def tracks(packets):
    return {p.track_descriptor.uuid: p.track_descriptor for p in packets if p.HasField("track_descriptor")}


def points(packets, name):
    (uuid,) = (uuid for uuid, one in tracks(packets).items() if one.name == name)
    kind = protos.TrackEvent.TYPE_COUNTER
    events = [p for p in packets if p.track_event.track_uuid == uuid and p.track_event.type == kind]
    return [(p.timestamp, p.track_event.double_counter_value) for p in events]


def slices(packets):
    """Return (track's name, slice's name, begin, end), as a reader stacks them; every begin must have its end."""
    found, stacks, named = [], {}, tracks(packets)
    kinds = protos.TrackEvent
    for p in packets:
        event = p.track_event
        if event.type == kinds.TYPE_SLICE_BEGIN:
            stacks.setdefault(event.track_uuid, []).append((event.name, p.timestamp))
        elif event.type == kinds.TYPE_SLICE_END:
            name, begin = stacks[event.track_uuid].pop()
            found.append((named[event.track_uuid].name, name, begin, p.timestamp))
        elif event.type == kinds.TYPE_INSTANT:
            found.append((named[event.track_uuid].name, event.name, p.timestamp, p.timestamp))
    assert not any(stacks.values())
    return found


def test_perfetto_has_the_steps_in_boottime_with_units():
    packets = perfetto(trace())
    expected = [(0, 20), (1 * S, 100), (2200 * MS, 100), (3 * S, 20), (4 * S, 20)]
    assert points(packets, "gpu0.power.instant") == [(5 * S + t_ns, watts) for t_ns, watts in expected]
    units = {one.name: one.counter.unit_name for one in tracks(packets).values() if one.HasField("counter")}
    assert units == {"gpu0.power.instant": "W", "gpu0.energy": "J", "gpu0.energy: mean power over 1000 ms": "W"}
    assert {p.timestamp_clock_id for p in packets if p.HasField("track_event")} == {BOOT}
    assert packets[0].sequence_flags == protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    (root,) = (one for one in tracks(packets).values() if not one.parent_uuid)
    assert {one.parent_uuid for one in tracks(packets).values()} == {0, root.uuid}


def test_perfetto_windows_nest_overlaps_have_a_track_of_their_own_and_gaps_are_told():
    packets = perfetto(trace())
    found = {name: (track, begin - 5 * S, end - 5 * S) for track, name, begin, end in slices(packets)}
    assert found["epoch"] == ("windows", 1 * S, 3 * S)
    assert found["overlaps"] == ("windows", 2 * S, 3500 * MS)
    assert found["now"] == ("windows", 2 * S, 2 * S)
    assert found["gap: errors, code 15"] == ("not read: gpu0.power.instant", 2 * S, 2200 * MS)
    assert sum(one.name == "windows" for one in tracks(packets).values()) == 2
    notes = [p.track_event.debug_annotations for p in packets if p.track_event.name == "left"]
    assert {note.name: note.string_value for note in notes[0]} == {"source": "marks pid 7", "flags": "open"}


def test_perfetto_of_a_machine_that_slept_leaves_the_hole_and_tells_the_clocks_again():
    anchors = [anchor(0), anchor(10 * S), anchor(20 * S, SLEPT_NS), anchor(30 * S, SLEPT_NS)]
    packets = perfetto(trace(30, anchors=anchors, windows=[Window("night", 1 * S, 29 * S)]))
    snapshots = [
        {clock.clock_id: clock.timestamp for clock in p.clock_snapshot.clocks}
        for p in packets
        if p.HasField("clock_snapshot")
    ]
    assert snapshots == [
        {BOOT: one.boottime_ns, MONO: one.monotonic_ns, REAL: one.realtime_ns} for one in (anchors[0], anchors[2])
    ]
    found = {name: (begin, end) for _, name, begin, end in slices(packets)}
    assert found["night"] == (6 * S, 34 * S + SLEPT_NS)
    assert found["machine slept 3600.000 s in here"] == (15 * S, 25 * S + SLEPT_NS)
    stamps = np.array([t_ns for t_ns, _ in points(packets, "gpu0.energy")])
    assert np.diff(stamps).max() == SLEPT_NS + 100 * MS
    assert np.diff(stamps).min() > 0


@given(st.lists(st.integers(0, 40 * S), min_size=1, max_size=20))
def test_boottime_only_grows(t_ns):
    anchors = [anchor(0), anchor(10 * S), anchor(20 * S, SLEPT_NS), anchor(30 * S, SLEPT_NS)]
    t_ns = np.sort(np.array(t_ns, np.int64))
    found = to_boottime_ns(anchors, t_ns)
    assert np.all(np.diff(found) >= np.diff(t_ns))
    assert np.all((found - t_ns == 5 * S) | (found - t_ns == 5 * S + SLEPT_NS))


@pytest.mark.parametrize(("clock", "number"), [("utc", REAL), (None, MONO)])
def test_perfetto_of_a_record_with_one_clock_names_it(clock, number):
    packets = perfetto(trace(anchors=[], meta={"clock": clock} if clock else {}))
    (snapshot,) = (p.clock_snapshot for p in packets if p.HasField("clock_snapshot"))
    assert snapshot.primary_trace_clock == number
    assert [clock.clock_id for clock in snapshot.clocks] == [number]
    assert {p.timestamp_clock_id for p in packets if p.HasField("track_event")} == {number}


def test_perfetto_of_a_log_without_a_zone_claims_no_clock():
    packets = perfetto(trace(anchors=[], meta={"clock": "local"}))
    assert not any(p.HasField("clock_snapshot") or p.HasField("timestamp_clock_id") for p in packets)


def test_timelines_of_failures_only_one_sample_and_nothing_say_so():
    failed = series(channel("gpu1.power"), [0, S], [0, 0], [15, 15])
    died = series(channel("gpu2.power"), polls(0, 2, 10), polls(0, 2, 10))
    lived = series(channel("gpu3.power"), polls(0, 4, 10), polls(0, 4, 10))
    once = series(channel("gpu4.power"), [S], [7000])
    whole = Trace.of([failed, died, lived, once], anchors=ANCHORS)
    packets = perfetto(whole)
    found = {(track, name): (begin - 5 * S, end - 5 * S) for track, name, begin, end in slices(packets)}
    assert found == {
        ("not read: gpu1.power", "no reading succeeded: code 15, 2 times"): (0, 4 * S),
        ("not read: gpu2.power", "no reading from here on"): (2 * S, 4 * S),
    }
    assert points(packets, "gpu1.power") == []
    assert points(packets, "gpu4.power") == [(6 * S, 7.0)]
    assert perfetto(Trace.of([])) is not None
    assert chrome(Trace.of([]))["traceEvents"][0]["name"] == "process_name"


def test_simulation_is_named_so_on_the_tracks():
    whole = trace(meta={"simulated": True, "simulated_node": {"profile": "h100"}})
    said = "powersample: SIMULATED NODE h100, not a measurement"
    assert said in [one.name for one in tracks(perfetto(whole)).values()]
    assert of(chrome(whole)["traceEvents"], name="process_name")[0]["args"]["name"] == said


def test_archive_relates_the_clocks_so_that_the_edge_lies_at_the_kernels_begin():
    """What Perfetto does with it, by its documentation: a time T of torch.json is T + offset_ns on CLOCK_REALTIME."""
    text = torch_text()
    data = b"".join(archive_chunks(select(trace()), torch_of(text)))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        held = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}
    assert held["torch.json"].decode() == text
    assert b"".join(held["perfetto_manifest.json"].split()).startswith(b'{"perfetto_manifest"')  # how it is known
    told = json.loads(held["perfetto_manifest.json"])["perfetto_manifest"]
    assert told["version"] == 1
    torch, power = told["files"]
    assert torch["clocks"]["sync_to"] == {"file": power["path"], "clock": "REALTIME"}
    packets = protos.Trace.FromString(held[power["path"]]).packet
    clocks = {one.clock_id: one.timestamp for one in packets[0].clock_snapshot.clocks}
    rise_ns = next(t_ns for t_ns, watts in points(packets, "gpu0.power.instant") if watts == 100)
    kernel = json.loads(text)["traceEvents"][0]
    kernel_ns = round(kernel["ts"] * 1000) + torch["clocks"]["offset_ns"]
    assert rise_ns - clocks[BOOT] + clocks[REAL] == pytest.approx(kernel_ns, abs=1)


# The verb


@pytest.fixture
def folder(tmp_path, monkeypatch):
    store.save(trace(), tmp_path / "run.parquet")
    (tmp_path / "torch.json").write_text(torch_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_verb_knows_the_form_by_the_outputs_name(folder):
    for words in (
        ["-o", "power.json"],
        ["-o", "power.pftrace"],
        ["--merge", "torch.json", "-o", "both.json"],
        ["--merge", "torch.json", "-o", "both.json.gz"],
        ["--merge", "torch.json", "-o", "both.tar"],
        ["-o", "run.csv.gz"],
    ):
        assert main(["export", "run.parquet", *words]) == 0
    assert "gemm" not in (folder / "power.json").read_text()
    assert gzip.decompress((folder / "both.json.gz").read_bytes()) == (folder / "both.json").read_bytes()
    assert of(json.loads((folder / "both.json").read_text())["traceEvents"], name="gemm")
    assert protos.Trace.FromString((folder / "power.pftrace").read_bytes()).packet
    with tarfile.open(folder / "both.tar") as tar:
        assert tar.getnames() == ["perfetto_manifest.json", "power.pftrace", "torch.json"]
    assert gzip.decompress((folder / "run.csv.gz").read_bytes()).startswith(b"# powersample")
    assert (folder / "run.windows.csv").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["-f", "perfetto"], 2, "-o"),
        (["-f", "csv", "--merge", "torch.json"], 2, "--merge is of chrome and perfetto only"),
        (["--merge", "none.json", "-o", "both.json"], 1, "there is no file none.json"),
        (["--merge", "run.parquet", "-o", "both.json"], 1, "is no JSON"),
        (["--merge", "torch.json", "-o", "both.pftrace"], 2, "let its name end in .tar"),
        (["-o", "power.tar"], 2, "let its name end in .pftrace"),
        (["-f", "csv", "-o", "./run.parquet", "--force"], 2, "is what is read"),
        (["--merge", "torch.json", "-o", "torch.json", "--force"], 2, "is what is read"),
        (["-f", "csv", "-o", "torch.json"], 1, "torch.json exists"),
    ],
)
def test_verb_refuses_with_a_reason(folder, capsys, words, code, says):
    assert main(["export", "run.parquet", *words]) == code
    assert says in capsys.readouterr().err
    assert sorted(one.name for one in folder.iterdir()) == ["run.parquet", "torch.json"]


def test_verb_without_the_package_names_the_extra(folder, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "perfetto.trace_builder.proto_builder", None)
    assert main(["export", "run.parquet", "-o", "run.pftrace"]) == 1
    assert "pip install 'powersample[export]'" in capsys.readouterr().err
