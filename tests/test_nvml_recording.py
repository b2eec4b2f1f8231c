# SPDX-License-Identifier: Apache-2.0
"""What a recording keeps of the driver's own samples and stamps, and how it comes through a driver's troubles."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

import powersample as ps
from powersample import errors
from powersample.capture import Plan, discover
from powersample.sim import Node

MS = 1_000_000


def test_driver_samples_are_recorded_at_their_own_instants():
    """Times of the driver's wall clock become ours, to the microsecond of its stamps; each sample is there once."""
    with Node("v100") as node:
        node.load_wave(0, 60, 200, period_s=0.3, duty=0.5)
        with ps.measure(simulate=node) as run:
            time.sleep(0.9)  # the ring is read each 0.8 s
        series = run.trace.series("gpu0.power.driver")
        publications = node.sensor_publications(
            0, "samples", int(series.t0_ns[0]) - 5 * MS, int(series.t0_ns[-1]) + 5 * MS
        )
        values = node.sensor_values(0, "samples", publications)
    assert run.trace.channel("gpu0.power.driver").stamp == "instant"
    assert run.trace.lanes[0].note == ""
    assert (series.status == 0).all()
    assert np.array_equal(series.t0_ns, series.t1_ns)
    assert len(series) == len(publications) > 20
    assert np.abs(series.t0_ns - publications).max() < MS / 2
    assert series.raw.tolist() == np.rint(values * 1e3).tolist()
    quality = next(one for one in run.report().data["channels"] if one["name"] == "gpu0.power.driver")
    assert (quality["asked_hz"], quality["gaps_total"], quality["dropped"]) == (None, 0, 0)
    assert quality["achieved_hz"] == pytest.approx(50, rel=0.05)


def test_driver_samples_stand_for_the_board_only_where_nothing_else_does():
    with Node("k40m") as node, ps.measure(simulate=node) as run, run.window("all"):
        time.sleep(0.6)
    energies = {one["channel"]: one["primary"] for one in run.report().data["windows"][0]["energies"]}
    assert energies["gpu0.power.usage"] is True
    assert energies["gpu0.power.driver"] is False


def test_no_ring_no_channel_and_the_recording_says_why():
    with Node("h100") as node, ps.measure(simulate=node) as run:
        time.sleep(0.1)
    assert "gpu0.power.driver" not in run.trace.channels
    assert run.trace.lanes[0].note == "no power.driver: nvmlDeviceGetSamples says Not Supported"


def test_field_stamps_that_move_are_recorded_beside_the_power():
    """On the wall clock, in s: with the anchors they say when each polled value was published."""
    with Node("gh200") as node:
        with ps.measure(simulate=node, rate_hz=200) as run:
            time.sleep(0.3)
        now_ns = time.monotonic_ns()
        publications = node.sensor_publications(0, "instant", now_ns - 5_000 * MS, now_ns)
    power, stamp = (run.trace.series(name) for name in ("gpu0.power.instant", "gpu0.power.instant.stamp"))
    assert np.array_equal(power.t0_ns, stamp.t0_ns)
    anchor = run.trace.anchors[0]
    published_ns = stamp.raw * 1000 - (anchor.realtime_ns - anchor.monotonic_ns)
    nearest = publications[np.clip(np.searchsorted(publications, published_ns - MS), 0, len(publications) - 1)]
    assert np.abs(nearest - published_ns).max() < MS
    assert (published_ns <= power.t1_ns).all()
    assert 3 <= len(set(stamp.raw)) <= 12


def test_call_that_hangs_and_comes_back_costs_its_slots_and_nothing_else():
    """As 10 s would, in a shorter time: slots counted exactly, a gap, and no value made up for it."""
    with Node("h100", gpus=2, one_lock=False) as node, ps.measure(simulate=node, rate_hz=200) as run:
        time.sleep(0.2)
        node.inject("field_values", gpu=0, hang_s=0.4, to_s=0.1)
        time.sleep(0.4)
        node.clear_faults()
        time.sleep(0.3)
    hung, other = run.trace.lanes
    assert hung.skipped >= 40
    assert all(lane.slots == lane.passes + lane.skipped for lane in (hung, other))
    assert other.skipped < hung.skipped
    channel = next(one for one in run.report().data["channels"] if one["name"] == "gpu0.power.instant")
    before, after = sorted(channel["gaps"], key=lambda gap: gap["start_ns"] - gap["end_ns"])[:2]
    assert (
        before["cause"] == after["cause"] == "skipped"
    )  # on either side of the call, whose value stands in its middle
    assert sum(gap["end_ns"] - gap["start_ns"] for gap in (before, after)) > 300 * MS
    assert channel["errors"] == {}
    energies = run.report().data["windows"][0]["energies"]
    energy = next(one for one in energies if one["channel"] == "gpu0.power.instant")
    assert energy["joules"] == pytest.approx(energy["truth_j"], rel=0.02)  # of a board at rest all the while
    assert any(reason.startswith("PSQ-GAP") for reason in energy["reasons"])


def test_mig_board_is_recorded_whole_and_flagged():
    """Nothing in NVML divides the power among instances, so nothing here does."""
    with Node("h100", gpus=2, mig=("3g.40gb", "1g.10gb")) as node:
        plan = Plan(sources=("nvml",), nvml_library=str(node.library))
        inventory = discover(plan, {"CUDA_VISIBLE_DEVICES": node.mig_uuids[1][0]})
        with pytest.raises(errors.DeviceNotFound, match="a slice of a GPU"):
            discover(replace(plan, gpus=(node.mig_uuids[0][0],)), {})
        with ps.measure(simulate=node) as run:
            time.sleep(0.1)
        truth_j = run.report().data["windows"][0]["energies"][0]["truth_j"]
    assert [device.mig for device in inventory.devices] == [True, True]
    assert sum("the whole board's" in note for note in inventory.notes) == 3  # the selection, and each of two boards
    checks = [one for one in run.report().data["checks"] if one["code"] == "PSQ-MIG"]
    assert [one["what"].split()[0] for one in checks] == ["gpu0", "gpu1"]
    assert "PSQ-MIG" in str(run.report())
    assert run.energy("run", "gpu0").joules == pytest.approx(truth_j, rel=0.2)
    assert "gpu0.utilization.gpu" not in run.trace.channels  # NVML refuses it there


@pytest.mark.parametrize("trouble", ["reload", "upgrade"])
def test_recording_goes_on_after_a_driver_reload_and_an_upgrade(trouble):
    """The lane initialises again by itself; the counter's fresh start is a reset and no loss of what was before."""
    with Node("a100") as node, ps.measure(simulate=node, rate_hz=200) as run:
        time.sleep(0.2)
        if trouble == "reload":
            node.reload_driver()
        else:
            node.version_mismatch()
            time.sleep(0.1)
            node.clear_faults()
        time.sleep(0.8)
    series = run.trace.series("gpu0.power.instant")
    failed = np.flatnonzero(series.status)
    assert set(series.status[failed]) <= {1, 18}
    assert len(failed)
    assert (series.status[failed[-1] + 1 :] == 0).sum() > 10
    assert run.trace.lanes[0].reopens == 1
    energy = run.trace.series("gpu0.energy")
    assert (np.diff(energy.raw[energy.status == 0]) < 0).sum() == 1
    reasons = [reason for one in run.report().data["windows"][0]["energies"] for reason in one["reasons"]]
    assert any(reason.startswith("PSQ-RESET") for reason in reasons)
    samples = run.trace.series("gpu0.power.driver")  # the driver begins with an empty ring
    assert (samples.status[-5:] == 0).all()
