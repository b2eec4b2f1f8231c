# SPDX-License-Identifier: Apache-2.0
"""A meter's clock against a load that is known: lag, skew and supply lag found again, or refused with a reason."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import sync as made_up
from powersample import store
from powersample.errors import BadFormat, InvalidArgument
from powersample.fit import Cycles, coarse, default_search, envelope, synchronise
from powersample.loads import chirp, prbs, random_edges, square
from powersample.model import Channel, ClockFit, Kind, Knot, Series, Trace

S = made_up.S
FAST = made_up.Meter(20.0, lag_s=0.2)


def fitted(meter=FAST, pattern=None, seed=0, search=None, change=lambda cycles: cycles):
    load = made_up.reference_of(pattern or random_edges(20, seed=seed, cycle_s=1 / meter.hz), made_up.BEGIN_NS)
    cycles, lag_s = made_up.watch(meter, [load], seed)
    return synchronise(change(cycles), [load], search).fit, lag_s


def refused(fit, code):
    assert not fit.accepted
    assert fit.lag_s is None
    assert code in [reason.partition(" ")[0] for reason in fit.reasons]


@pytest.mark.parametrize("hz", made_up.ASKED_MS)
def test_lag_of_a_meter_of_any_rate_is_found_within_what_is_asked_where_the_supply_is_known(hz):
    wrong, over = made_up.errors(hz, range(20), any_tau=False)
    assert len(wrong) == 20
    assert np.sqrt(np.mean(np.square(wrong))) * 1e3 <= made_up.ASKED_MS[hz]
    assert np.sum(np.array(over) <= 3) >= 19


@pytest.mark.parametrize("hz", made_up.ASKED_MS)
def test_lag_behind_any_supply_is_found_within_what_it_claims(hz):
    wrong, over = made_up.errors(hz, range(20), any_tau=True)
    assert len(wrong) == 20
    assert np.sum(np.array(over) <= 3) >= 19


def test_skew_from_two_bursts_an_hour_apart_is_within_one_ppm():
    assert max(abs(made_up.skew(seed)) for seed in range(3)) <= 1.0


@pytest.mark.parametrize("tau_s", [0.0, 0.01, 0.06])
def test_supply_lag_is_told_from_the_clock_where_cycles_are_short(tau_s):
    fit, lag_s = fitted(replace(FAST, tau_s=tau_s), random_edges(60, seed=1), 3)
    assert fit.tau_fitted
    assert fit.tau_s == pytest.approx(tau_s, abs=max(0.0025, 4 * fit.tau_se_s))
    assert abs(fit.lag_s - lag_s) <= max(0.0025, 4 * fit.lag_se_s)


@pytest.mark.parametrize("tau_s", [0.0, 0.04])
def test_supply_lag_that_cannot_be_fitted_is_part_of_the_stated_error(tau_s):
    """A second's cycles do not show it: it looks like a lag, and the error has to hold it."""
    fit, lag_s = fitted(made_up.Meter(1.0, 0.3, tau_s=tau_s), random_edges(60, seed=1, cycle_s=1.0))
    assert not fit.tau_fitted
    assert fit.lag_se_s > 0.012
    assert abs(fit.lag_s - lag_s) <= 3 * fit.lag_se_s


@pytest.mark.parametrize("pattern", [prbs(60), chirp(60)], ids=["prbs", "chirp"])
def test_other_patterns_than_random_edges_serve(pattern):
    fit, lag_s = fitted(FAST, pattern)
    assert abs(fit.lag_s - lag_s) <= max(0.001, 3 * fit.lag_se_s)


def test_many_lags_at_once_are_those_worked_out_one_by_one():
    """Also around a hole in the record, into which nothing may be drawn."""
    load = made_up.reference_of(random_edges(60, seed=1), made_up.BEGIN_NS)
    cycles, _ = made_up.watch(FAST, [load], 1)
    cycles = cycles.take(np.abs(np.arange(len(cycles.value)) - 700) > 60)
    grid = np.arange(-12.0 * S, 12.0 * S, 0.0125 * S)
    exact = coarse.unexplained(cycles, load, grid[500:1000], 0.0)  # as many as are worked out one by one
    at_once = coarse.unexplained(cycles, load, grid, 0.0)[500:1000]
    assert np.argmin(at_once) == np.argmin(exact)
    assert np.abs(at_once - exact).max() < 0.08
    assert np.median(np.abs(at_once - exact)) < 0.01


def test_cycles_that_vary_are_taken_at_their_own_length():
    fit, lag_s = fitted(replace(FAST, spans_s=(0.04, 0.06)), random_edges(60, seed=2))
    assert abs(fit.lag_s - lag_s) <= 3 * fit.lag_se_s


@pytest.mark.parametrize("hz", [4783.0, 100.0, 10.0])
def test_meter_that_tells_instants_and_no_cycles_is_fitted_too(hz):
    """An inline meter's 4.8 kHz, and a plug that is polled."""
    load = made_up.reference_of(random_edges(30, seed=2, cycle_s=0.2), made_up.BEGIN_NS)
    stamps = made_up.BEGIN_NS + np.arange(-2 * S, 32 * S, round(S / hz))
    lag_s = 0.17
    at = stamps - round(lag_s * S) - load.t_ns[0]
    power = 100 + 50 * load.lagged(0.0).power_w(at.astype(np.float64))
    power += np.random.default_rng(1).normal(0, 1, len(power))
    fit = synchronise(Cycles(stamps, np.zeros(len(stamps)), power, "plug"), [load]).fit
    assert fit.accepted
    assert abs(fit.lag_s - lag_s) <= max(0.001, 3 * fit.lag_se_s)


def test_missing_cycles_and_a_line_that_came_twice_do_not_move_the_lag():
    def change(cycles):
        kept = np.random.default_rng(5).random(len(cycles.value)) > 0.1
        kept[100:140] = False
        cycles = cycles.take(kept)
        twice = np.insert(np.arange(len(cycles.value)), 50, 49)
        return Cycles(cycles.stamp_ns[twice], cycles.span_ns[twice], cycles.value[twice], cycles.name)

    fit, lag_s = fitted(FAST, random_edges(60, seed=2), change=change)
    assert abs(fit.lag_s - lag_s) <= 3 * fit.lag_se_s


def test_one_value_far_off_the_others_does_not_move_the_lag():
    """A change of range gives one absurd value."""

    def change(cycles):
        value = cycles.value.copy()
        value[200] = 9000.0
        return replace(cycles, value=value)

    fit, lag_s = fitted(FAST, random_edges(60, seed=2), change=change)
    assert abs(fit.lag_s - lag_s) <= 3 * fit.lag_se_s


@pytest.mark.parametrize("seed", range(8))
def test_meter_that_does_not_follow_the_load_is_refused(seed):
    def change(cycles):
        return replace(cycles, value=np.random.default_rng(seed).normal(200, 5, len(cycles.value)))

    fit, _ = fitted(FAST, seed=seed, change=change)
    refused(fit, "PSQ-SYNC-UNEXPLAINED")


def test_meter_whose_value_stands_still_is_refused():
    fit, _ = fitted(FAST, change=lambda cycles: replace(cycles, value=np.full(len(cycles.value), 230.0)))
    refused(fit, "PSQ-SYNC-FLAT")


def test_meter_that_falls_as_the_load_rises_is_refused():
    fit, _ = fitted(FAST, change=lambda cycles: replace(cycles, value=500 - cycles.value))
    assert not fit.accepted


@pytest.mark.parametrize("period_s", [0.3, 1.0, 4.1])
@pytest.mark.parametrize("hz", [20.0, 2.0, 1.0])
def test_plain_square_wave_is_refused_whatever_its_period(period_s, hz):
    """Also where the searched lags hold no second period: then the pattern itself tells."""
    fit, _ = fitted(replace(FAST, hz=hz), square(30, period_s))
    assert not fit.accepted
    assert "PSQ-SYNC-PERIODIC" in [reason.partition(" ")[0] for reason in fit.reasons]


@pytest.mark.parametrize("lag_s", [-3.0, 3.0])
def test_lag_beyond_those_searched_is_refused(lag_s):
    fit, _ = fitted(replace(FAST, lag_s=lag_s))
    assert not fit.accepted


def test_lag_at_the_end_of_those_searched_is_refused():
    search = default_search(0.05 * S)
    fit, _ = fitted(replace(FAST, lag_s=search.high_ns / S - 0.002), search=search)
    refused(fit, "PSQ-SYNC-BORDER")


def test_search_that_holds_no_other_lag_is_refused_as_unknown():
    search = replace(default_search(0.05 * S), low_ns=0.15 * S, high_ns=0.24 * S)
    fit, _ = fitted(FAST, search=search)
    refused(fit, "PSQ-SYNC-AMBIGUOUS")
    assert fit.second_best_ratio is None


def test_gain_that_no_supply_has_is_refused():
    search = default_search(0.05 * S, gains=(0.8, 1.4))
    fit, _ = fitted(FAST, search=search)
    refused(fit, "PSQ-SYNC-GAIN")


def test_burst_too_short_for_the_meter_is_refused():
    fit, _ = fitted(replace(FAST, hz=0.5), random_edges(10, seed=1))
    refused(fit, "PSQ-SYNC-FEW")


def bursts(ppm, starts_s, seconds=30):
    loads = [
        made_up.reference_of(random_edges(seconds, seed=i), made_up.BEGIN_NS + s * S) for i, s in enumerate(starts_s)
    ]
    cycles, lag_s = made_up.watch(replace(FAST, ppm=ppm), loads, 1)
    return loads, cycles, lag_s


def test_three_bursts_carry_stamps_between_them_and_beyond():
    loads, cycles, lag_s = bursts(80.0, (0, 600, 1500))
    fit = synchronise(cycles, loads, own_clock=True).fit
    assert fit.skew_ppm == pytest.approx(80.0, abs=3)
    assert len(fit.knots) == 3
    for s in (-100, 300, 1000, 2000):
        true_ns = made_up.BEGIN_NS + s * S
        stamp_ns = true_ns + round(lag_s * S + 80e-6 * s * S)
        (mapped,) = fit.to_host_ns(np.array([stamp_ns]))
        assert abs(mapped - true_ns) * 1e-9 <= 4 * fit.error_s(stamp_ns) + 0.0005
    end_ns = int(cycles.stamp_ns[-1])
    assert fit.error_s(end_ns) < fit.error_s(end_ns + 3600 * S) < fit.error_s(end_ns + 36000 * S)


@pytest.mark.parametrize(("apart_s", "least_ppm", "most_ppm"), [(12, 5.0, 40.0), (3600, 0.018, 0.1)])
def test_skew_is_known_no_better_than_two_bursts_are_alike(apart_s, least_ppm, most_ppm):
    """A core's second burst begins tens of microseconds off the first, whatever chance alone says of a quiet meter."""
    loads = [
        made_up.reference_of(random_edges(10, seed=i), made_up.BEGIN_NS + round((i * apart_s + off_s) * S))
        for i, off_s in enumerate((0.0, 40e-6))
    ]
    cycles, _ = made_up.watch(replace(FAST, snr=2000.0, jitter_s=0.0), loads, 1)
    fit = synchronise(cycles, [loads[0], replace(loads[1], t_ns=loads[1].t_ns - 40_000)]).fit
    assert abs(fit.skew_ppm) <= 2 * fit.skew_se_ppm
    assert least_ppm <= fit.skew_se_ppm <= most_ppm


def test_burst_that_fails_is_left_out_and_told():
    loads, cycles, _ = bursts(0.0, (0, 600))
    value = cycles.value.copy()
    value[len(value) // 2 :] = 230 + np.random.default_rng(1).normal(0, 5, len(value) - len(value) // 2)
    fit = synchronise(replace(cycles, value=value), loads).fit
    assert fit.accepted
    assert len(fit.knots) == 1
    assert fit.skew_ppm is None
    assert any("burst 2 of 2" in reason for reason in fit.reasons)


def test_one_burst_of_a_foreign_clock_leaves_room_for_its_drift():
    loads, cycles, _ = bursts(0.0, (0,))
    own, foreign = (synchronise(cycles, loads, own_clock=flag).fit for flag in (False, True))
    hour_ns = int(cycles.stamp_ns[-1]) + 3600 * S
    assert own.error_s(hour_ns) == pytest.approx(own.lag_se_s)
    assert foreign.error_s(hour_ns) == pytest.approx(0.36, rel=0.05)


def test_fit_survives_its_json_and_never_touches_the_series_it_is_applied_to():
    fit, lag_s = fitted()
    again = ClockFit.from_json(fit.as_json())
    assert again == fit
    chan = Channel("wall.power", "wall", "wall", Kind.POWER, "W", raw_dtype="float64", stamp="arrival", span="sample")
    t_ns = made_up.BEGIN_NS + np.arange(3) * S
    series = Series(chan, t_ns, t_ns, np.ones(3), np.zeros(3, np.uint16), np.arange(3, dtype=np.uint32), np.full(3, S))
    moved = again.apply(series)
    assert (series.t1_ns == t_ns).all()
    assert (t_ns - moved.t1_ns) / S == pytest.approx([lag_s] * 3, abs=0.005)
    with pytest.raises(BadFormat, match="malformed"):
        ClockFit.from_json({"channel": "wall.power"})


def test_fit_is_kept_in_a_stored_trace(tmp_path):
    fit, _ = fitted()
    chan = Channel("wall.power", "wall", "wall", Kind.POWER, "W", raw_dtype="float64", stamp="arrival", span="sample")
    t_ns = made_up.BEGIN_NS + np.arange(3) * S
    series = Series(chan, t_ns, t_ns, np.ones(3), np.zeros(3, np.uint16), np.arange(3, dtype=np.uint32), np.full(3, S))
    store.save(Trace.of([series], meta={"clock_fits": {"wall.power": fit.as_json()}}), tmp_path / "run.parquet")
    again = store.load(tmp_path / "run.parquet")
    assert again.clock_fit("wall.power") == fit
    assert (again.series("wall.power").t1_ns == t_ns).all()


def test_refused_fit_maps_nothing():
    fit, _ = fitted(FAST, change=lambda cycles: replace(cycles, value=np.full(len(cycles.value), 230.0)))
    with pytest.raises(ValueError, match="PSQ-SYNC-FLAT"):
        fit.to_host_ns(np.array([0]))


@given(
    lags=st.lists(st.floats(-1, 1), min_size=1, max_size=5),
    at=st.lists(st.integers(0, 10**13), min_size=2, max_size=50),
)
@settings(max_examples=40, deadline=None)
def test_mapping_keeps_the_order_of_stamps(lags, at):
    """Lags change by parts in a million of the time between knots; what came later stays later."""
    knots = tuple(Knot(i * 3600 * S, lag, 1e-3) for i, lag in enumerate(lags))
    skew = (lags[-1] - lags[0]) / (3600 * (len(lags) - 1)) * 1e6 if len(lags) > 1 else None
    fit = ClockFit("m", "r", lags[0], 1e-3, skew, 1.0, 0.0, 0.0, False, 1.0, 1.0, 9.0, True, knots=knots)
    mapped = fit.to_host_ns(np.sort(np.array(at, np.int64)))
    assert (np.diff(mapped) >= 0).all()


LATE = {  # the latency models of the facts: a USB adapter's timer, and a scheduler's rare late wake-ups
    "timer": lambda dice, n: 0.004 + dice.uniform(0, 0.016, n),
    "scheduler": lambda dice, n: 0.004 + 0.0005 * dice.random(n) + (dice.random(n) < 0.01) * dice.uniform(0, 0.09, n),
}


@pytest.mark.parametrize("kind", LATE)
def test_line_under_the_arrivals_tells_the_rate_however_late_they_come(kind):
    dice = np.random.default_rng(1)
    count, cycle_s = 12_000, 0.05
    late_s = LATE[kind](dice, count)
    own_s = np.cumsum(np.full(count, cycle_s))
    arrival_ns = np.rint((1000 + own_s * (1 + 40e-6) + late_s) * 1e9).astype(np.int64)
    found = envelope(arrival_ns, np.full(count, cycle_s))
    assert found.skew_ppm == pytest.approx(40, abs=max(0.5, 4 * found.skew_se_ppm))
    smooth = (found.smooth_ns(arrival_ns) - arrival_ns[0]) * 1e-9
    assert np.std(smooth - own_s * (1 + 40e-6)) < 0.0005 < np.std(late_s)


def test_arrivals_too_few_for_a_line_are_refused():
    with pytest.raises(InvalidArgument, match="too few"):
        envelope(np.arange(10), np.full(10, 0.05))
