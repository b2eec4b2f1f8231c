# SPDX-License-Identifier: Apache-2.0
"""Timelines: Chrome's JSON and Perfetto's protobuf, alone and beside a profile of torch, read back event by event."""

import gzip
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timelines import ANCHORS, BASE_NS, START_NS, anchor, chrome, of, torch_of, torch_text, trace
from traces import MS, S, channel, polls, series

from powersample import errors, store
from powersample.cli import main
from powersample.export import chrome_chunks, select
from powersample.export.counters import counters
from powersample.export.spans import Span, gap_spans, lanes
from powersample.model import Kind, Trace, Window

protos = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the package perfetto is not installed"
)


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


def test_chrome_alone_has_the_steps_the_windows_and_the_gap():
    found = chrome(trace(meta={"host": "n1"}))
    events = found["traceEvents"]
    assert found["baseTimeNanoseconds"] == START_NS
    steps = of(events, ph="C", name="gpu0.power.instant")
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


def test_merged_chrome_keeps_torchs_own_text_and_lays_the_edge_at_the_kernels_begin():
    text = torch_text()
    data = b"".join(chrome_chunks(select(trace()), torch_of(text))).decode()
    at = text.rindex("\n  ]")
    assert data.startswith(text[:at])
    assert data.endswith(text[at:])
    found = json.loads(data)
    kernel = of(found["traceEvents"], cat="kernel")[0]
    steps = of(found["traceEvents"], ph="C", name="gpu0.power.instant")
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


def test_profile_and_recording_without_a_common_instant_are_refused():
    with pytest.raises(errors.InvalidArgument, match="share no instant"):
        chrome_chunks(select(trace()), torch_of(torch_text(1000, 1001)))


def test_merging_into_a_record_without_the_time_of_day_is_refused():
    with pytest.raises(errors.InvalidArgument, match="time of day"):
        chrome_chunks(select(trace(anchors=[])), torch_of(torch_text()))


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
