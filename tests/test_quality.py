# SPDX-License-Identifier: Apache-2.0
"""How well a channel was read: rates, stale readings, gaps and their causes, channels that no longer move."""

import numpy as np
import pytest
from recordings import AUX, ENERGY, MS, POWER, S, recording, series

from powersample.analysis import quality
from powersample.model import Channel, Kind, Series, Trace


def test_quality_of_a_sensor_polled_faster_than_it_publishes():
    found = quality(recording(), POWER.name)
    assert (found.asked_hz, found.polls, found.updates) == (1000, 10_001, 100)
    assert found.achieved_hz == pytest.approx(1000)
    assert found.update_period_s == pytest.approx(0.1, rel=1e-3)
    assert found.stale_share == pytest.approx(0.99, abs=1e-3)
    assert (found.stuck, found.gaps, found.stalls, found.skipped, found.dropped) == (False, (), 0, 11, 0)


def test_quality_rate_of_a_channel_read_now_and_then_is_its_share_of_the_lane():
    found = quality(recording(), ENERGY.name)
    assert found.asked_hz == found.achieved_hz == pytest.approx(100)
    assert quality(recording(), AUX.name).stuck is None


def test_quality_gaps_know_their_cause_and_stalls_are_not_gaps():
    t_ns = np.arange(0, 10 * S, 10 * MS)
    status = np.zeros(len(t_ns), np.uint16)
    status[100:110] = 15  # failed reads
    seq = np.arange(len(t_ns)) * 3
    keep = np.ones(len(t_ns), bool)
    keep[300:310] = False  # dropped: seq goes on
    keep[500:510] = False  # skipped: seq does not
    seq[510:] -= 30
    keep[700] = False  # a stall
    trace = Trace.of([series(POWER, t_ns[keep], np.arange(keep.sum()), status[keep], seq[keep])])
    found = quality(trace, POWER.name)
    assert [gap.cause for gap in found.gaps] == ["errors", "dropped", "skipped"]
    assert found.gaps[0].start_ns == 99 * 10 * MS
    assert (found.gaps_total, found.stalls, found.errors) == (3, 1, {15: 10})


def test_quality_in_chunks_is_the_same(monkeypatch):
    whole = quality(recording(), POWER.name)
    monkeypatch.setattr("powersample.model.trace.MEMORY_CHUNK", 997)
    assert quality(recording(), POWER.name) == whole


def test_quality_of_a_channel_that_stops_moving_is_stuck():
    t_ns = np.arange(0, 30 * S, 10 * MS)
    raw = np.minimum(t_ns // MS, 10_000)
    assert quality(Trace.of([series(ENERGY, t_ns, raw)]), ENERGY.name).stuck
    assert quality(Trace.of([series(ENERGY, t_ns, t_ns // MS)]), ENERGY.name).stuck is False


@pytest.mark.parametrize(("other", "stuck"), [(None, False), ("constant", False), ("moving", True), ("before", False)])
def test_quality_of_constant_power_is_stuck_only_where_another_power_moved(other, stuck):
    t_ns = np.arange(0, 60 * S, 10 * MS)
    parts = [series(POWER, t_ns, np.full(len(t_ns), 100_000)), series(ENERGY, t_ns, t_ns // MS * 100)]
    values = {"constant": t_ns * 0, "moving": t_ns // S, "before": np.minimum(t_ns // S, 5)}
    if other:
        average = Channel("gpu0.power.average", "GPU-0", "gpu", Kind.POWER, "W", 1e-3)
        parts.append(series(average, t_ns, values[other]))
    assert quality(Trace.of(parts), POWER.name).stuck is stuck


def test_quality_of_failed_reads_and_of_no_numbers():
    t_ns = np.arange(0, 30 * S, 10 * MS)
    failed = series(POWER, t_ns, np.zeros(len(t_ns)), np.full(len(t_ns), 3))
    found = quality(Trace.of([failed]), POWER.name)
    assert (found.stuck, found.errors, found.not_numbers) == (None, {3: 3000}, 0)
    meter = Channel("wall.power", "wall", "wall", Kind.POWER, "W", raw_dtype="float64")
    found = quality(Trace.of([series(meter, t_ns, np.full(len(t_ns), np.nan))]), "wall.power")
    assert (found.stuck, found.errors, found.not_numbers) == (None, {}, 3000)


def test_quality_of_nothing_is_none():
    found = quality(Trace.of([Series.empty(POWER)]), POWER.name)
    assert (found.polls, found.achieved_hz, found.stale_share, found.stuck) == (0, None, None, None)
