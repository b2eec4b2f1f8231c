# SPDX-License-Identifier: Apache-2.0
"""What was published and not read: where, why, how many updates, and how much energy that could hide."""

import numpy as np
import pytest
from test_follow import FOLLOWING, followed_at, publications, seen
from traces import MS, S, channel, polls, published, series

from powersample.analysis import dropouts, quality, rate_sensitivity
from powersample.errors import InvalidArgument, NotSupported
from powersample.model import Anchor, Kind, LaneStats, Response, SensorModel, Series, Trace, Window

NAME = "gpu0.power.instant"
PERIOD_NS = 100 * MS
MODEL = SensorModel(Response.CONTIGUOUS, 0.1, 0.1)
LANE = LaneStats("nvml:gpu0", mode="paced", rate_hz=1000.0, period_ns=MS)


def steps(t_ns, low=100_000, high=300_000):
    """Return what a sensor of T = 100 ms shows of a load that alternates every update."""
    return published(t_ns, np.where(np.arange(2000) % 2, high, low), PERIOD_NS)


def recording(keep=slice(None), status=None, seconds=20, seq=None, **more):
    t_ns = polls(0, seconds, 1)
    status = np.zeros(len(t_ns), np.uint16) if status is None else status
    chan = channel(lane="nvml:gpu0")
    zeros = np.zeros(len(t_ns))
    whole = Series(chan, t_ns, t_ns, steps(t_ns), status + zeros, np.arange(len(t_ns)) if seq is None else seq)
    meta = {"sensor_models": {NAME: MODEL.as_json()}}
    return Trace.of([whole.take(keep)], lanes=[LANE], meta=meta, **more)


def without(*spans_ms, seconds=20):
    t_ms = polls(0, seconds, 1) // MS
    keep = np.ones(len(t_ms), bool)
    for start, end in spans_ms:
        keep &= (t_ms <= start) | (t_ms >= end)
    return keep


def test_recording_without_faults_has_no_dropout():
    assert dropouts(recording(), NAME) == ()


@pytest.mark.parametrize(("length_ms", "missed"), [(50, None), (99, None), (110, 1), (1000, 10)])
def test_gap_shorter_than_the_update_period_hides_none(length_ms, missed):
    """50 ms are 50 polls of a sensor of 100 ms: a gap, and no update can have been in it for sure."""
    trace = recording(without((5000, 5000 + length_ms)))
    assert quality(trace, NAME).gaps_total == 1
    assert [one.updates_missed for one in dropouts(trace, NAME)] == ([] if missed is None else [missed])


def test_gap_of_power_could_hide_the_range_around_it():
    """1 s between 100 and 300 W near: at most 200 J, cut to 80 J by a window that holds 0.4 s of it."""
    trace = recording(without((5000, 6000)))
    (found,) = dropouts(trace, NAME)
    assert (found.start_ns, found.end_ns, found.cause) == (5 * S, 6 * S, "dropped")
    assert found.energy_j == pytest.approx(200)
    (cut,) = dropouts(trace, NAME, Window("w", S, int(5.4 * S)))
    assert (cut.start_ns, cut.end_ns, cut.updates_missed) == (5 * S, int(5.4 * S), 4)
    assert cut.energy_j == pytest.approx(80)
    assert dropouts(trace, NAME, Window("w", 7 * S, 9 * S)) == ()


def test_gap_of_constant_power_hides_nothing_as_far_as_its_neighbourhood_tells():
    t_ns = polls(0, 20, 1)
    raw = np.where(t_ns < 10 * S, steps(t_ns), 200_000)
    keep = without((15_000, 16_000))
    trace = Trace.of([series(channel(), t_ns[keep], raw[keep])])
    (found,) = dropouts(trace, NAME)
    assert found.energy_j == 0


def test_error_spans_bear_the_code_of_their_first_failure():
    status = np.zeros(20_001, np.uint16)
    status[5000:5400] = 15
    status[5100:5200] = 3
    status[9000:9050] = 15  # shorter than an update
    (found,) = dropouts(recording(status=status), NAME)
    assert (found.cause, found.code, found.updates_missed) == ("errors", 15, 4)


def test_skipped_slots_and_dropped_records_are_told_apart():
    keep = without((5000, 5500), (9000, 9500))
    seq = np.arange(20_001)
    seq[9500:] -= 499  # nobody asked: the lane counted nothing
    assert [one.cause for one in dropouts(recording(keep, seq=seq), NAME)] == ["dropped", "skipped"]


def test_polls_that_were_not_kept_because_they_repeat_are_no_dropout():
    t_ns = np.array([0, 1, 2, 3]) * 5 * S
    left_out = np.array([0, 4999, 4999, 4999], np.uint32)
    one = Series(channel(), t_ns, t_ns, [5, 5, 5, 5], np.zeros(4), np.arange(4) * 5000, None, left_out)
    assert dropouts(Trace.of([one]), NAME) == ()


def test_pauses_of_a_lane_that_follows_are_no_dropouts_and_a_missed_update_is_one():
    published_ns, values = publications()
    at_ns = followed_at(published_ns)
    trace = Trace.of([series(channel(lane="nvml:gpu0"), at_ns, seen(at_ns, published_ns, values))], lanes=[FOLLOWING])
    run = Window("run", int(at_ns[0]), int(at_ns[-1]))
    assert dropouts(trace, NAME, run) == ()
    awake = (at_ns < published_ns[99] + 2 * MS) | (at_ns > published_ns[101] + 20 * MS)
    less = series(channel(lane="nvml:gpu0"), at_ns[awake], seen(at_ns[awake], published_ns, values))
    (found,) = dropouts(Trace.of([less], lanes=[FOLLOWING]), NAME, run)
    assert (found.start_ns // S, found.updates_missed) == (9, 2)


def test_late_start_and_early_end_of_a_window_hold_the_greatest_power():
    trace = recording(seconds=10)
    found = dropouts(trace, NAME, Window("w", -2 * S, 11 * S))
    assert [(one.cause, one.start_ns, one.end_ns) for one in found] == [
        ("late start", -2 * S, 0),
        ("early end", 10 * S, 11 * S),
    ]
    assert [one.energy_j for one in found] == pytest.approx([600, 300])
    assert [one.updates_missed for one in found] == [20, 10]


def test_channel_that_begins_after_its_siblings_starts_late():
    t_ns = polls(0, 10, 1)
    other = channel("gpu0.power.average")
    late = t_ns[t_ns >= 3 * S]
    trace = Trace.of([series(other, t_ns, steps(t_ns)), series(channel(), late, steps(late))])
    assert [one.cause for one in dropouts(trace, NAME)] == ["late start"]
    assert dropouts(trace, other.name) == ()


def test_window_outside_the_record_is_one_dropout():
    (found,) = dropouts(recording(seconds=5), NAME, Window("w", 60 * S, 70 * S))
    assert (found.start_ns, found.end_ns, found.cause) == (60 * S, 70 * S, "early end")


def test_channel_without_a_good_poll_hides_what_nobody_knows():
    trace = recording(status=np.full(20_001, 15, np.uint16))
    (found,) = dropouts(trace, NAME)
    assert (found.start_ns, found.end_ns, found.energy_j) == (0, 20 * S, None)


# ---- counters ----


def counter(t_ns, mj, **more):
    return Trace.of([series(channel("gpu0.energy", Kind.ENERGY, **more), t_ns, mj)])


def test_gap_of_a_counter_loses_nothing_inside_a_window_and_its_gain_at_an_edge():
    """100 W: the counter goes on through 10 s without a poll; a window that begins in them may lack up to 1000 J."""
    t_ns = polls(0, 60, 10)
    keep = (t_ns <= 20 * S) | (t_ns >= 30 * S)
    trace = counter(t_ns[keep], (t_ns // MS * 100)[keep])
    assert [one.energy_j for one in dropouts(trace, "gpu0.energy")] == [0]
    (cut,) = dropouts(trace, "gpu0.energy", Window("w", 25 * S, 50 * S))
    assert (cut.start_ns, cut.end_ns) == (25 * S, 30 * S)
    assert cut.energy_j == pytest.approx(1000)


def test_counter_that_starts_again_is_a_reset_and_a_single_wrong_read_is_none():
    t_ns = polls(0, 10, 100)
    raw = np.arange(len(t_ns)) * 10_000
    glitch = raw.copy()
    glitch[30] = 0
    assert dropouts(counter(t_ns, glitch), "gpu0.energy") == ()
    raw[60:] -= raw[60]
    (found,) = dropouts(counter(t_ns, raw), "gpu0.energy")
    assert (found.cause, found.start_ns, found.end_ns) == ("reset", 5900 * MS, 6000 * MS)
    assert found.energy_j == pytest.approx(10)  # 100 W for the one step that nobody saw


def test_counter_that_wraps_by_its_modulus_has_no_dropout():
    t_ns = polls(0, 10, 100)
    raw = (np.arange(len(t_ns)) * 20_000 + 900_000) % (1 << 20)
    assert dropouts(counter(t_ns, raw, modulus=1 << 20), "gpu0.energy") == ()


def test_hole_in_which_whole_turns_of_a_counter_may_be_missing_is_bounded_by_turns():
    """At 200 W a counter of 1048.6 J turns every 5.2 s: 12 s without a reading hide up to three turns."""
    t_ns = polls(0, 30, 100)
    raw = (np.arange(len(t_ns)) * 20_000) % (1 << 20)
    read = (t_ns < 10 * S) | (t_ns >= 22 * S)
    (found,) = dropouts(counter(t_ns[read], raw[read], modulus=1 << 20), "gpu0.energy")
    assert found.cause == "wrap"
    assert found.energy_j == pytest.approx(3 * 1048.576)
    short = (t_ns < 10 * S) | (t_ns >= 11 * S)
    (found,) = dropouts(counter(t_ns[short], raw[short], modulus=1 << 20), "gpu0.energy")
    assert found.cause != "wrap"


def test_counter_that_stood_still_and_caught_up_hides_nothing_and_one_that_did_not_hides_its_power():
    t_ns = polls(0, 60, 10)
    mj = t_ns // MS * 100
    held = (t_ns > 20 * S) & (t_ns < 40 * S)
    (found,) = dropouts(counter(t_ns, np.where(held, 2_000_000, mj)), "gpu0.energy")
    assert (found.cause, found.energy_j) == ("stuck", pytest.approx(0, abs=2))
    lost = np.where(t_ns >= 40 * S, mj - 2_000_000, np.where(held, 2_000_000, mj))
    (found,) = dropouts(counter(t_ns, lost), "gpu0.energy")
    assert found.energy_j == pytest.approx(2000, rel=0.01)


# ---- stuck power ----


@pytest.mark.parametrize(("counter_w", "stuck"), [(100, False), (110, False), (250, True), (20, True)])
def test_constant_power_is_stuck_where_the_counter_moved_by_more_than_it_explains(counter_w, stuck):
    t_ns = polls(0, 60, 10)
    power = series(channel(), t_ns, np.full(len(t_ns), 100_000))
    energy = series(channel("gpu0.energy", Kind.ENERGY), t_ns, t_ns // MS * counter_w)
    trace = Trace.of([power, energy])
    assert [one.cause for one in dropouts(trace, NAME)] == (["stuck"] if stuck else [])
    assert quality(trace, NAME).stuck is stuck


def test_power_that_stood_still_for_a_while_is_stuck_there_and_not_at_the_end():
    t_ns = polls(0, 60, 10)
    raw = np.where((t_ns > 20 * S) & (t_ns < 40 * S), 100_000, steps(t_ns))
    trace = Trace.of([series(channel(), t_ns, raw), series(channel("gpu0.power.average"), t_ns, steps(t_ns))])
    (found,) = dropouts(trace, NAME)
    assert (found.cause, round(found.duration_s)) == ("stuck", 20)
    assert found.energy_j == pytest.approx(200 * 20, rel=0.02)
    assert quality(trace, NAME).stuck is False
    alone = Trace.of([series(channel(), t_ns, raw)])
    assert dropouts(alone, NAME) == ()


# ---- the machine's clocks ----


def test_suspend_and_a_set_clock_are_told_from_the_anchors():
    def anchor(second, real_s=0.0, boot_s=0.0):
        t_ns = second * S
        return Anchor(t_ns, t_ns, t_ns + int((real_s + boot_s) * S), t_ns + int(boot_s * S), 100)

    anchors = [anchor(0), anchor(10, boot_s=30), anchor(20, real_s=5, boot_s=30)]
    found = dropouts(recording(anchors=anchors), NAME)
    assert [(one.cause, one.start_ns // S, one.updates_missed, one.energy_j) for one in found] == [
        ("suspend", 0, None, None),
        ("clock set", 10, 0, 0.0),
    ]


# ---- the pass ----


@pytest.mark.parametrize("chunk", [7, 997, 60_000])
def test_dropouts_in_chunks_are_the_same(monkeypatch, chunk):
    status = np.zeros(20_001, np.uint16)
    status[5000:5400] = 15
    keep = without((200, 900), (9000, 9500), (9700, 9900))
    whole = dropouts(recording(keep, status), NAME)
    assert len(whole) == 4
    monkeypatch.setattr("powersample.model.trace.MEMORY_CHUNK", chunk)
    assert dropouts(recording(keep, status), NAME) == whole


def test_thousands_of_dropouts_are_counted_and_the_worst_are_told():
    """Every second update of an hour is missed; the longest hole is among the thousand that are listed."""
    t_ns = polls(0, 3600, 10)
    keep = (t_ns // (150 * MS) % 2 == 0) & ((t_ns < 1800 * S) | (t_ns > 1801 * S))
    rng = np.random.default_rng(1)
    raw = published(t_ns, rng.integers(100_000, 300_000, 40_000), PERIOD_NS)
    meta = {"sensor_models": {NAME: MODEL.as_json()}}
    trace = Trace.of([series(channel(), t_ns[keep], raw[keep])], meta=meta)
    found = quality(trace, NAME).missing
    assert found.total > 10_000
    assert len(found.lost) == 1000
    assert max(one.whole.duration_s for one in found.lost) > 1


def test_expected_and_seen_updates_and_what_nobody_read_add_up():
    """200 updates of 20 s: 190 seen, 10 in a hole of 1 s, whose last one the read at its end shows."""
    trace = recording(without((5050, 6050)))
    found = quality(trace, NAME)
    (hole,) = dropouts(trace, NAME)
    assert found.missing.expected(20.0) == 200
    assert abs(found.updates + hole.updates_missed - 200) <= 1


# ---- does polling faster change the answer? ----


def test_rate_sensitivity_of_a_sensor_polled_often_enough():
    found = rate_sensitivity(recording(), NAME, Window("w", 5 * S, 15 * S))
    assert [one.every for one in found.rates] == [1, 2, 4, 8]
    assert [one.poll_hz for one in found.rates] == pytest.approx([1000, 500, 250, 125])
    assert found.verdict == "insensitive"
    assert found.enough_hz == pytest.approx(125)
    assert found.rates[3].most_j - found.rates[0].least_j < found.half_j


def test_rate_sensitivity_of_bursts_that_a_slow_poll_misses_is_told():
    """Points read at 100 Hz: 20 ms bursts of 500 W stand in every reading of theirs, and every eighth misses most."""
    t_ns = polls(0, 20, 10)
    raw = np.where(t_ns % (1 * S) < 20 * MS, 500_000, 50_000)
    model = SensorModel(Response.POINT, 0.01)
    trace = Trace.of([series(channel(), t_ns, raw)], meta={"sensor_models": {NAME: model.as_json()}})
    found = rate_sensitivity(trace, NAME, Window("w", 5 * S + 500 * MS, 6 * S + 500 * MS))
    assert found.verdict == "sensitive"
    assert found.rates[3].least_j < found.rates[0].least_j - found.half_j


def test_rate_sensitivity_puts_back_the_polls_that_were_not_kept():
    t_ns = polls(0, 20, 1)
    raw = steps(t_ns)
    kept = np.flatnonzero(np.diff(raw, prepend=raw[0] + 1) | np.diff(raw, append=raw[-1] + 1))
    left_out = np.diff(kept, prepend=-1) - 1
    one = Series(channel(), t_ns[kept], t_ns[kept], raw[kept], np.zeros(len(kept)), kept, None, left_out)
    meta = {"sensor_models": {NAME: MODEL.as_json()}}
    window = Window("w", 5 * S, 15 * S)
    changes = rate_sensitivity(Trace.of([one], meta=meta), NAME, window)
    whole = rate_sensitivity(Trace.of([series(channel(), t_ns, raw)], meta=meta), NAME, window)
    assert changes.rates == whole.rates


def test_rate_sensitivity_of_an_unknown_sensor_or_without_energy_is_unknown():
    t_ns = polls(0, 20, 10)
    trace = Trace.of([series(channel(), t_ns, steps(t_ns))])
    assert rate_sensitivity(trace, NAME, Window("w", S, 2 * S)).verdict == "unknown"
    assert rate_sensitivity(recording(), NAME, Window("w", 60 * S, 70 * S)).verdict == "unknown"


def test_rate_sensitivity_of_what_has_no_rate_is_refused():
    published_ns, values = publications()
    at_ns = followed_at(published_ns)
    trace = Trace.of([series(channel(lane="nvml:gpu0"), at_ns, seen(at_ns, published_ns, values))], lanes=[FOLLOWING])
    with pytest.raises(NotSupported, match="no rate"):
        rate_sensitivity(trace, NAME, Window("w", S, 2 * S))
    with pytest.raises(InvalidArgument, match="no length"):
        rate_sensitivity(recording(), NAME, Window("w", S, S))
    aux = Trace.of([series(channel("gpu0.clock", Kind.AUX), polls(0, 1, 10), np.arange(101))])
    with pytest.raises(InvalidArgument, match="only power and energy"):
        rate_sensitivity(aux, "gpu0.clock", Window("w", 0, S))
