# SPDX-License-Identifier: Apache-2.0
"""Updates out of polls, cells, lag, long averages, and what the interval is made of: closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import MS, S, channel, polls, published, series

from powersample.analysis import channel_energies, channel_energy, energies_in, window_energies
from powersample.analysis.interval import NAMES, NORMAL_95, _table, beats_often, verdict
from powersample.analysis.published import Published
from powersample.model import Kind, Response, SensorModel, Trace, Window

NAME = "gpu0.power.instant"


def trace_of(raw, t_ns, model, name=NAME, **more):
    return Trace.of([series(channel(name), t_ns, raw)], meta={"sensor_models": {name: model.as_json()}, **more})


def none_omitted(t_ns):
    return np.zeros(len(t_ns), np.uint32)


def step_response(t_ns, edge_ns, low, high, tau_ns):
    since = np.maximum(t_ns - edge_ns, 0)
    return np.rint(low + (high - low) * -np.expm1(-since / tau_ns)).astype(np.int64)


# ---- updates ----


def test_published_puts_repeats_back_at_the_sensors_spacing():
    """Idle for 1 s at T = 100 ms, then a step: nine updates repeat the first."""
    t_ns = polls(0, 1.5, 1)
    raw = np.where(t_ns < 1 * S, 5, 9)
    maker = Published(100 * MS, 150 * MS)
    first, last = maker.add(t_ns, raw, none_omitted(t_ns)), maker.close()
    t = np.concatenate((first.t_ns, last.t_ns))
    assert list(np.concatenate((first.value, last.value))) == [5] * len(first.t_ns) + [9] * len(last.t_ns)
    assert abs(int(last.t_ns[0]) - 1 * S) <= MS
    assert np.diff(t) == pytest.approx(100 * MS, rel=0.06)


def test_published_does_not_invent_updates_where_nobody_polled():
    """Equal values on both sides of 2 s without a poll; but not where a recording left the repeats out."""
    t_ns = np.concatenate((polls(0, 1, 10), polls(3, 4, 10)))
    omitted = none_omitted(t_ns)
    for left_out, count in ((0, 22), (199, 40)):
        omitted[101] = left_out
        maker = Published(100 * MS, 150 * MS)
        first, last = maker.add(t_ns, np.full(len(t_ns), 7), omitted), maker.close()
        assert len(first.t_ns) + len(last.t_ns) == pytest.approx(count, abs=2)


@given(
    values=st.lists(st.integers(1, 5), min_size=2, max_size=60),
    cuts=st.lists(st.integers(1, 999), max_size=6),
    poll_ms=st.sampled_from([1, 7, 40, 250]),
)
@settings(max_examples=80, deadline=None)
def test_published_in_chunks_equals_in_one_piece(values, cuts, poll_ms):
    t_ns = polls(0, len(values) * 0.1, poll_ms)
    raw = published(t_ns, np.asarray(values), 100 * MS, 13 * MS)
    whole = Published(100 * MS, 500 * MS)
    one = [whole.add(t_ns, raw, none_omitted(t_ns)), whole.close()]
    parts = Published(100 * MS, 500 * MS)
    at = sorted({min(len(t_ns) - 1, cut * len(t_ns) // 1000) for cut in cuts})
    pieces = zip(np.split(t_ns, at), np.split(raw, at), strict=True)
    some = [*(parts.add(t, r, none_omitted(t)) for t, r in pieces), parts.close()]
    for key in ("t_ns", "value"):
        together = np.concatenate([getattr(piece, key) for piece in one])
        cut = np.concatenate([getattr(piece, key) for piece in some])
        assert np.array_equal(cut, together)
    t = np.concatenate([piece.t_ns for piece in some])
    assert np.all(np.diff(t) > 0)


# ---- estimators ----


@pytest.mark.parametrize("end_s", [3.2, 4.0, 5.7])
def test_logarithmic_sensor_lag_is_undone_exactly(end_s):
    """tau 100 ms: a window that begins at the step loses tau x 200 W = 20 J without the correction."""
    t_ns = polls(0, 8, 1)
    raw = step_response(t_ns // (15 * MS) * (15 * MS), 3 * S, 100_000, 300_000, 100 * MS)
    model = SensorModel(Response.LOGARITHMIC, 0.015, 0.0, tau_s=0.1)
    found = channel_energy(trace_of(raw, t_ns, model), NAME, Window("w", 3 * S, round(end_s * S)))
    assert found.joules == pytest.approx(300 * (end_s - 3), rel=0.02)


@pytest.mark.parametrize(("start_s", "end_s"), [(4.0, 4.6), (3.7, 5.2), (4.0, 7.0), (2.5, 8.4)])
def test_long_average_is_inverted(start_s, end_s):
    """A trailing mean of 1 s smears a step over 1 s; laid end to end, with the rest in the calm, it does not."""
    t_ns = polls(0, 14, 1)
    at = t_ns // (100 * MS) * 100 * MS
    raw = np.rint(100_000 + 200_000 * np.clip((at - 4 * S) / S, 0, 1)).astype(np.int64)
    model = SensorModel(Response.AVERAGE, 0.1, 1.0)
    found = channel_energy(trace_of(raw, t_ns, model), NAME, Window("w", round(start_s * S), round(end_s * S)))
    truth_j = 100 * (end_s - start_s) + 200 * (end_s - max(start_s, 4.0))
    assert found.joules == pytest.approx(truth_j, rel=0.02)
    assert found.method == "long average inverted"
    assert found.low_j < truth_j < found.high_j


def test_long_average_shorter_than_its_window_says_so():
    t_ns = polls(0, 5, 1)
    trace = trace_of(t_ns // (100 * MS) % 2 + 100_000, t_ns, SensorModel(Response.AVERAGE, 0.1, 1.0))
    found = channel_energy(trace, NAME, Window("w", 2 * S, 2 * S + 300 * MS))
    assert "PSQ-AVERAGED" in found.codes
    assert found.verdict in ("poor", "unusable")


def test_window_beyond_the_record_has_room_for_what_was_not_seen():
    t_ns = polls(0, 5, 1)
    raw = published(t_ns, 100_000 + np.arange(60) % 2 * 100_000, 100 * MS)
    trace = trace_of(raw, t_ns, SensorModel(Response.CONTIGUOUS, 0.1, 0.1))
    found = channel_energy(trace, NAME, Window("w", 2 * S, 6 * S))
    assert found.joules == pytest.approx(450, rel=0.05)
    assert found.high_j > 450 + 190 * 0.9  # up to 200 W for the missing second
    assert found.low_j > 400


# ---- interval and verdict ----


def test_interval_terms_add_up_to_it():
    model = SensorModel(Response.PART_TIME, 0.1, 0.025, gain_sd=0.04, offset_sd_w=4.0)
    t_ns = polls(0, 12, 1)
    raw = published(t_ns, np.random.default_rng(1).integers(60_000, 300_000, 130), 100 * MS)
    found = channel_energy(trace_of(raw, t_ns, model), NAME, Window("w", 3 * S, 8 * S))
    budget = {term.term: term.value_j for term in found.budget}
    assert set(budget) <= {"gain", "offset", "clock drift", *NAMES.values()}
    assert budget["clock drift"] == pytest.approx(50e-6 * found.joules)
    assert budget["gain"] == pytest.approx(NORMAL_95 * 0.04 * found.joules)
    assert budget["offset"] == pytest.approx(NORMAL_95 * 4.0 * 5)
    half_j = np.sqrt(sum(value**2 for value in budget.values()))
    assert found.high_j - found.joules == pytest.approx(half_j)
    assert found.joules - found.low_j == pytest.approx(half_j)


def test_alias_near_the_update_period_is_named_and_excluded_by_an_agreeing_average():
    """A part-time sensor cannot see what runs at its own period; a long average of the same board can."""
    t_ns = polls(0, 30, 1)
    quick = published(t_ns, np.random.default_rng(2).integers(50_000, 250_000, 310), 100 * MS)
    mean = np.full(len(t_ns), 150_000) + t_ns // (100 * MS) % 2
    names = (NAME, "gpu0.power.average")
    models = (SensorModel(Response.PART_TIME, 0.1, 0.025), SensorModel(Response.AVERAGE, 0.1, 1.0))
    meta = {"sensor_models": {name: model.as_json() for name, model in zip(names, models, strict=True)}}
    parts = [series(channel(name), t_ns, raw) for name, raw in zip(names, (quick, mean), strict=True)]
    window = Window("w", 5 * S, 25 * S)
    alone = channel_energy(Trace.of(parts[:1], meta=meta), NAME, window)
    assert "PSQ-ALIAS" in alone.codes
    beside = next(one.energy for one in energies_in(Trace.of(parts, meta=meta), window) if one.energy.channel == NAME)
    assert "PSQ-ALIAS" not in beside.codes
    assert beside.high_j - beside.low_j < 0.5 * (alone.high_j - alone.low_j)

    fooled = [parts[0], series(channel(names[1]), t_ns, mean + 60_000)]  # 60 W that the quick field never saw
    found = next(one.energy for one in energies_in(Trace.of(fooled, meta=meta), window) if one.energy.channel == NAME)
    assert "PSQ-ALIAS" in found.codes


def test_part_time_energy_beside_an_average_is_as_wide_as_the_average_shows():
    """The truth lies in the average's interval; a locked alias of 4 % that it cannot rule out stays inside."""
    t_ns = polls(0, 30, 1)
    quick = 80_000 + t_ns // (100 * MS) % 2 * 200_000
    mean = np.full(len(t_ns), 187_000) + t_ns // (100 * MS) % 2  # 4 % more than the quick field's mean of 180 W
    names = (NAME, "gpu0.power.average")
    models = (SensorModel(Response.PART_TIME, 0.1, 0.025), SensorModel(Response.AVERAGE, 0.1, 1.0))
    meta = {"sensor_models": {name: model.as_json() for name, model in zip(names, models, strict=True)}}
    parts = [series(channel(name), t_ns, raw) for name, raw in zip(names, (quick, mean), strict=True)]
    window = Window("w", 5 * S, 25 * S)
    found = next(one.energy for one in energies_in(Trace.of(parts, meta=meta), window) if one.energy.channel == NAME)
    (alone,) = channel_energies(Trace.of(parts, meta=meta), NAME, [window])
    assert alone.energy.joules + alone.reconstruction.unaliased_j < 187 * 20 < found.high_j
    assert found.high_j - found.joules < 0.9 * alone.reconstruction.half_j


def test_lag_longer_than_the_update_period_widens_the_edge_by_what_it_smears():
    """The step is 35 ms before the window: outside 1.5 T, inside the lag's reach."""
    t_ns = polls(0, 10, 1)
    raw = step_response(t_ns // (20 * MS) * (20 * MS), 4 * S - 35 * MS, 100_000, 300_000, 30 * MS)
    halves = []
    for tau_s in (0.005, 0.03):
        model = SensorModel(Response.PART_TIME, 0.02, 0.01, tau_s=tau_s)
        (told,) = channel_energies(trace_of(raw, t_ns, model), NAME, [Window("w", 4 * S, 6 * S)])
        halves.append({term.term: term.value_j for term in told.reconstruction.terms}["averaging lag at edges"])
    assert halves[1] > 2 * halves[0]


def test_meter_without_two_readings_in_the_window_has_no_interval():
    t_ns = polls(0, 20, 1000)
    meter = channel("meter.power", sensor="mllog")
    trace = Trace.of([series(meter, t_ns, np.full(len(t_ns), 200_000))])
    short = channel_energy(trace, "meter.power", Window("w", 5 * S + 200 * MS, 6 * S + 100 * MS))
    long = channel_energy(trace, "meter.power", Window("w", 5 * S + 200 * MS, 9 * S))
    assert (short.low_j, short.verdict) == (None, "unusable")
    assert "PSQ-SHORT" in short.codes
    assert long.low_j < 200 * 3.8 < long.high_j


@pytest.mark.parametrize(
    ("relative", "cap", "expected"),
    [
        (0.05, "good", "good"),
        (0.051, "good", "fair"),
        (0.15, "good", "fair"),
        (0.16, "good", "poor"),
        (0.51, "good", "unusable"),
        (0.01, "poor", "poor"),
        (0.9, "poor", "unusable"),
    ],
)
def test_verdict_by_width_and_cap(relative, cap, expected):
    assert verdict(relative * 200, 200, cap) == expected


def test_verdict_of_no_energy_is_unusable():
    assert verdict(1.0, 0.0) == "unusable"


def test_table_of_weights_has_every_class_with_known_terms():
    table = _table()
    for name in ("slow_part_time", "fast_part_time", "contiguous", "average", "logarithmic"):
        assert set(table[name]["weights"]) <= set(NAMES)
        assert len(table[name]["k"]) == 3


def test_window_with_much_of_it_in_gaps_is_poor_at_best():
    t_ns = np.concatenate((polls(0, 4, 1), polls(5, 20, 1)))
    raw = published(t_ns, np.full(210, 100_000) + np.arange(210) % 2, 100 * MS)
    trace = trace_of(raw, t_ns, SensorModel(Response.CONTIGUOUS, 0.1, 0.1))
    found = channel_energy(trace, NAME, Window("w", 2 * S, 8 * S))
    assert found.joules == pytest.approx(600, rel=1e-3)
    assert "PSQ-GAP" in found.codes
    assert found.verdict == "poor"


# ---- counters ----


def counter_trace(t_ns, mj, period_ms=100):
    name = "gpu0.energy"
    model = SensorModel(Response.COUNTER, period_ms / 1e3, gain_sd=0.05)
    return Trace.of([series(channel(name, Kind.ENERGY), t_ns, mj)], meta={"sensor_models": {name: model.as_json()}})


def test_counter_interval_is_narrow_where_power_is_steady_and_holds_a_step():
    t_ns = polls(0, 20, 1)
    at = t_ns // (100 * MS) * 100 * MS
    mj = (at // MS * 100 + np.maximum(at - 10 * S, 0) // MS * 200).astype(np.int64)  # 100 W, from 10 s on 300 W
    trace = counter_trace(t_ns, mj)
    (steady,) = channel_energies(trace, "gpu0.energy", [Window("w", 2 * S + 30 * MS, 8 * S + 40 * MS)])
    (edge,) = channel_energies(trace, "gpu0.energy", [Window("w", 2 * S + 30 * MS, 10 * S + 50 * MS)])
    assert steady.reconstruction.half_j < 0.03 * steady.energy.joules
    truth_j = 100 * 8.02 + 200 * 0.05
    assert abs(edge.energy.joules - truth_j) <= edge.reconstruction.half_j


def test_counter_that_was_reset_is_unusable():
    t_ns = polls(0, 10, 10)
    mj = np.where(t_ns < 5 * S, t_ns // MS * 100, (t_ns - 5 * S) // MS * 100)
    found = channel_energy(counter_trace(t_ns, mj, 10), "gpu0.energy", Window("w", 2 * S, 8 * S))
    assert "PSQ-RESET" in found.codes
    assert found.verdict == "unusable"


@pytest.mark.parametrize("ends_s", [5.0, 5.2, 8.0])
def test_long_average_at_the_end_of_the_record_needs_no_context_behind_it(ends_s):
    """The last whole average of a window is published right after it: only the rest needs a calm place, before."""
    t_ns = polls(0, ends_s, 1)
    at = t_ns // (100 * MS) * 100 * MS
    raw = np.rint(100_000 + 200_000 * np.clip((at - 4 * S) / S, 0, 1)).astype(np.int64)
    trace = trace_of(raw, t_ns, SensorModel(Response.AVERAGE, 0.1, 1.0))
    found = channel_energy(trace, NAME, Window("w", 4 * S, 4 * S + 900 * MS))
    assert found.joules == pytest.approx(270, rel=0.01)
    assert found.covered_s == pytest.approx(0.9)


def test_long_average_of_a_window_that_the_record_cuts_off_is_not_told_from_what_came_before():
    t_ns = polls(0, 4.5, 1)
    at = t_ns // (100 * MS) * 100 * MS
    raw = np.rint(100_000 + 200_000 * np.clip((at - 4 * S) / S, 0, 1)).astype(np.int64)
    trace = trace_of(raw, t_ns, SensorModel(Response.AVERAGE, 0.1, 1.0))
    found = channel_energy(trace, NAME, Window("w", 4 * S, 5 * S + 500 * MS))
    assert found.joules is None
    assert "PSQ-UNCOVERED" in found.codes


@pytest.mark.parametrize("hole_ms", [0, 160])
def test_primary_is_the_counter_where_it_is_surer_than_a_part_time_sensor(hole_ms):
    """1.5 s of an H100: fifteen updates of either, and no telling what the sensor did not look at.

    Nor does it help the sensor that the counter went unread for 160 ms about the window's begin.
    """
    t_ns = polls(0, 20, 1)
    rng = np.random.default_rng(7)
    watts = 200_000 + rng.integers(-30_000, 30_000, 210)
    quick = published(t_ns, watts, 100 * MS)
    mj = published(t_ns, np.cumsum(watts) // 10, 100 * MS)
    names = (NAME, "gpu0.energy")
    models = (SensorModel(Response.PART_TIME, 0.1, 0.025), SensorModel(Response.COUNTER, 0.1))
    meta = {"sensor_models": {name: model.as_json() for name, model in zip(names, models, strict=True)}}
    read = abs(t_ns - 5 * S) > hole_ms // 2 * MS if hole_ms else t_ns >= 0
    counter = series(channel(names[1], Kind.ENERGY), t_ns[read], mj[read])
    trace = Trace.of([series(channel(), t_ns, quick), counter], meta=meta)
    (chosen,) = [one for one in energies_in(trace, Window("w", 5 * S, 6 * S + 500 * MS)) if one.primary]
    assert chosen.energy.channel == "gpu0.energy"
    assert chosen.why == "the counter is surer here than the power"


@pytest.mark.parametrize(
    ("load_period_s", "duration_s", "excluded"),
    [
        (0.37, 60.0, True),  # iterations of 370 ms beat with 100 ms often enough in a minute
        (0.1, 60.0, False),  # in step with the sensor: nothing beats
        (0.0995, 20.0, False),  # one beat each 20 s
        (0.37, 3.0, False),
        (0.5, 600.0, False),  # its fifth harmonic is the sensor's own
    ],
)
def test_a_known_load_period_excludes_aliasing_where_its_harmonics_beat_often(load_period_s, duration_s, excluded):
    model = SensorModel(Response.PART_TIME, 0.1, 0.025)
    assert beats_often(model, 0.1, (load_period_s, load_period_s), duration_s) is excluded


def test_alias_is_not_named_where_the_loads_period_excludes_it():
    t_ns = polls(0, 30, 1)
    raw = published(t_ns, np.random.default_rng(2).integers(20_000, 300_000, 310), 100 * MS)
    trace = trace_of(raw, t_ns, SensorModel(Response.PART_TIME, 0.1, 0.025))
    window = Window("w", 5 * S, 25 * S)
    ((unknown,),) = window_energies(trace, [window])
    ((known,),) = window_energies(trace, [window], load_period_s=0.37)
    assert "PSQ-ALIAS" in unknown.energy.codes
    assert "PSQ-ALIAS" not in known.energy.codes
    assert known.energy.high_j < unknown.energy.high_j


@pytest.mark.parametrize(("seconds", "told"), [(0.6, False), (2.2, False), (5.0, True)])
def test_polls_slower_than_the_sensor_tell_no_interval_of_a_window_that_holds_two(seconds, told):
    """nvidia-smi -l 1 of a 1 s average: what two of its lines say of two seconds is anybody's guess."""
    t_ns = polls(0, 60, 1000)
    watts = np.random.default_rng(3).integers(90_000, 300_000, len(t_ns))
    trace = trace_of(watts, t_ns, SensorModel(Response.AVERAGE, 0.1, 1.0, gain_sd=0.04))
    found = channel_energy(trace, NAME, Window("w", 20 * S + 300 * MS, round((20.3 + seconds) * S)))
    assert (found.low_j is not None) == told
    assert told or (found.verdict == "unusable" and "PSQ-SHORT" in found.codes)
