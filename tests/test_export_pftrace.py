# SPDX-License-Identifier: Apache-2.0
"""Perfetto's protobuf, read back packet by packet by the package `perfetto`; the archive beside a profile of torch."""

import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timelines import (
    ANCHORS,
    BASE_NS,
    BESIDE,
    BOOT,
    MONO,
    REAL,
    SLEPT_NS,
    START_NS,
    anchor,
    chrome,
    of,
    torch_of,
    torch_text,
    trace,
)  # fmt: skip
from traces import MS, S, channel, polls, series

from powersample.export import archive_chunks, perfetto_chunks, select
from powersample.model import Trace, Window, to_boottime_ns

protos = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the package perfetto is not installed"
)


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
    assert units == {"gpu0.power.instant": "W", "gpu0.energy": "J", "gpu0.energy: mean power over 1 s": "W"}
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


def archive(whole, text):
    """Return the manifest, the power's packets and the profile's text of an archive."""
    data = b"".join(archive_chunks(select(whole), torch_of(text)))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        held = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}
    assert list(held) == ["perfetto_manifest.json", "power.pftrace", "torch.json"]
    assert b"".join(held["perfetto_manifest.json"].split()).startswith(b'{"perfetto_manifest"')  # how it is known
    told = json.loads(held["perfetto_manifest.json"])["perfetto_manifest"]
    return told, protos.Trace.FromString(held["power.pftrace"]).packet, held["torch.json"].decode()


def test_archive_tells_power_in_torchs_own_numbers_and_a_manifest_says_which_instants_they_are():
    """A trace processor without manifests lays torch's numbers beside the power's as they are."""
    text = torch_text()
    told, packets, held = archive(trace(), text)
    assert held == text
    assert told["version"] == 1
    torch, power = told["files"]
    assert (torch["path"], power) == ("torch.json", {"path": "power.pftrace"})
    assert torch["clocks"]["sync_to"] == {"file": "power.pftrace", "clock": "REALTIME"}
    assert packets[0].clock_snapshot.primary_trace_clock == BESIDE
    clocks = {one.clock_id: one.timestamp for one in packets[0].clock_snapshot.clocks}
    assert clocks == {BESIDE: START_NS - BASE_NS, BOOT: 5 * S, MONO: 0, REAL: START_NS}
    assert {p.timestamp_clock_id for p in packets if p.HasField("track_event")} == {BESIDE}
    rise_ns = next(t_ns for t_ns, watts in points(packets, "gpu0.power.instant") if watts == 100)
    kernel = json.loads(text)["traceEvents"][0]
    assert rise_ns == pytest.approx(kernel["ts"] * 1000, abs=1)
    assert rise_ns - clocks[BESIDE] + clocks[REAL] == pytest.approx(rise_ns + torch["clocks"]["offset_ns"], abs=1)
    bars = {name: (begin, end) for _, name, begin, end in slices(packets)}
    assert bars["epoch"] == pytest.approx((kernel["ts"] * 1000, (kernel["ts"] + kernel["dur"]) * 1000), abs=1)


@pytest.mark.parametrize(
    ("anchors", "torch"),
    [
        ([anchor(0), anchor(2 * S, set_ns=-S), anchor(10 * S, set_ns=-5 * S)], {}),  # the time of day is set back
        (ANCHORS, {"first_s": -13, "last_s": -11, "baseTimeNanoseconds": START_NS + S}),  # the record begins before it
    ],
)
def test_archive_of_instants_that_torchs_numbers_cannot_tell_keeps_perfettos_clock(anchors, torch):
    """Numbers below 0 do not exist there, and a slice would end before it begins."""
    text = torch_text(**torch)
    told, packets, _ = archive(trace(anchors=anchors), text)
    assert told["files"][0]["clocks"]["offset_ns"] == json.loads(text)["baseTimeNanoseconds"]
    assert {p.timestamp_clock_id for p in packets if p.HasField("track_event")} == {BOOT}
    assert packets[0].clock_snapshot.primary_trace_clock == BOOT
    assert all(begin <= end for _, _, begin, end in slices(packets))


def test_archive_of_a_record_that_knows_utc_alone_tells_power_in_torchs_numbers_too():
    t_ns = START_NS + polls(0, 4, 10)
    log = Trace.of([series(channel(), t_ns, np.full(len(t_ns), 20_000))], meta={"clock": "utc"})
    _, packets, _ = archive(log, torch_text())
    clocks = {one.clock_id: one.timestamp for one in packets[0].clock_snapshot.clocks}
    assert clocks == {BESIDE: START_NS - BASE_NS, REAL: START_NS}
    assert points(packets, "gpu0.power.instant")[0] == (START_NS - BASE_NS, 20)
