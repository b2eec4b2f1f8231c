# SPDX-License-Identifier: Apache-2.0
"""Lanes without a spool: every record arrives once, in order, and what nobody takes is bounded and counted."""

import subprocess
import time

import numpy as np
import pytest

from powersample import errors
from powersample.capture import Plan, discover, live, live_lanes, sampler_path
from powersample.capture.live import AllLanes, LiveStream, OwnLanes, PipedLanes
from powersample.capture.streamed import Share
from powersample.session.simulate import simulated_plan
from powersample.sim import Node

TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def stream():
    """The bytes that a sampler wrote in a third of a second."""
    command = [sampler_path(), "--sources", "scripted:3", "--duration", "0.3", "--spool", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S).stdout


def collect(lanes, enough, timeout_s=TIMEOUT_S):
    """Return name -> records, taken until `enough` of them says so."""
    got = {}
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for piece in lanes.take():
            before = got.get(piece.channel.name)
            got[piece.channel.name] = piece.records if before is None else np.concatenate((before, piece.records))
        if enough(got):
            return got
        time.sleep(0.02)
    raise AssertionError(f"not enough within {timeout_s} s: { {name: len(one) for name, one in got.items()} }")


def test_own_lanes_hand_on_every_record_of_gpu_and_package_once():
    with Node("h100", gpus=2, cpu="intel_spr") as node:
        plan = simulated_plan(Plan(rate_hz=100.0, keep="changes"), node)
        lanes = live_lanes(plan, discover(plan))
        lanes.start()
        try:
            got = collect(lanes, lambda got: len(got.get("gpu1.power.instant", ())) >= 20)
            names = {channel.name for channel in lanes.channels()}
            assert {"gpu0.energy", "gpu1.power.instant", "package-0.energy"} <= names
            assert {channel.lane for channel in lanes.channels()} == {lane.name for lane in lanes.stats()}
        finally:
            lanes.stop()
            lanes.stop()
        by_lane = {}
        for channel in lanes.channels():
            if channel.name in got:
                by_lane.setdefault(channel.lane, []).append(got[channel.name]["seq"])
        for seqs in by_lane.values():
            every = np.sort(np.concatenate(seqs))
            assert np.array_equal(every, np.arange(len(every)))
        assert all(lane.dropped == 0 for lane in lanes.stats())
        assert lanes.take() == []


@pytest.mark.parametrize("size", [1, 31, 4096, 1 << 20])
def test_stream_however_it_is_cut_gives_the_same_records(stream, size):
    whole, cut = LiveStream(), LiveStream()
    whole.feed(stream)
    for at in range(0, len(stream), size):
        cut.feed(stream[at : at + size])
    ours, theirs = cut.take(), whole.take()
    assert [piece.channel for piece in ours] == [piece.channel for piece in theirs]
    assert all(np.array_equal(a.records, b.records) for a, b in zip(ours, theirs, strict=True))
    assert sum(len(piece.records) for piece in ours) == sum(lane.records for lane in cut.lanes)


def test_stream_that_nobody_takes_forgets_the_oldest_and_counts_them(stream, monkeypatch):
    monkeypatch.setattr(live, "HELD_BYTES", 32 * 100)
    held = LiveStream()
    for at in range(0, len(stream), 512):
        held.feed(stream[at : at + 512])
    kept = held.take()
    assert 0 < sum(len(piece.records) for piece in kept) <= 100
    assert sum(len(piece.records) for piece in kept) + held.forgotten == sum(lane.records for lane in held.lanes)


def test_executables_lanes_arrive_through_the_pipe():
    with Node("h100", cpu=None) as node:
        plan = simulated_plan(Plan(sources=("nvml",), rate_hz=200.0), node)
        lanes = PipedLanes(Share(discover(plan), plan, piped=True))
        lanes.start()
        try:
            got = collect(lanes, lambda got: len(got.get("gpu0.power.instant", ())) >= 20)
        finally:
            lanes.stop()
        assert lanes.failure() is None
        assert np.all(np.diff(got["gpu0.power.instant"]["t0_ns"]) > 0)
        assert lanes.stats()[0].records > 0


def test_second_that_cannot_start_stops_the_first():
    with Node("h100", cpu=None) as node:
        plan = simulated_plan(Plan(sources=("nvml",)), node)
        found = discover(plan)
        first = OwnLanes(Share(found, plan, piped=False))
        gone = PipedLanes(Share(found, Plan(nvml_library="/nowhere/libnvidia-ml.so.1"), piped=True))
        with pytest.raises(errors.PowerSampleError):
            AllLanes([first, gone]).start()
        assert first.take() == []
