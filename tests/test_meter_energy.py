# SPDX-License-Identifier: Apache-2.0
"""Energies of a meter whose values average cycles of their own, against powers whose energy is known exactly."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_tools import sine_w

from powersample.analysis import channel_energy, energies_in, totals
from powersample.analysis.meter import METHOD
from powersample.meters.contract import NO_NUMBER, power_channel
from powersample.model import Accuracy, ClockFit, Knot, MeterInfo, Series, Trace, Window
from powersample.report import build

S = 10**9
START_NS = 1000 * S
CHANNEL = power_channel("wall", "lmg450.P")
ACCURACY = Accuracy(0.07, 0.04, 6000.0)


def info(**more):
    given = {"cycle_s": 0.05, "latency_s": 0.003, "latency_max_s": 0.05, "accuracy": ACCURACY} | more
    return MeterInfo("wall", "lmg450", "x", "ZES", "LMG450", "1", "2", (CHANNEL,), **given)


def cycles(power, seconds, *, late_s=None, cycle_ns=50_000_000, mains_ns=20_000_000, lag_s=0.003, drop=(), bad=()):
    """Return the series of a meter that measures `power` from START_NS on, and where its cycles end."""
    ends = START_NS + np.arange(1, int(seconds * S / cycle_ns) + 1) * cycle_ns
    ends = START_NS - (-(ends - START_NS) // mains_ns) * mains_ns
    starts = np.concatenate(([START_NS], ends[:-1]))
    watts = np.array([power(int(a), int(b)) for a, b in zip(starts, ends, strict=True)])
    late_ns = np.zeros(len(ends)) if late_s is None else np.asarray(late_s)[: len(ends)] * S
    arrival = np.maximum.accumulate(ends + int(lag_s * S) + late_ns.astype(np.int64))
    seq = np.arange(len(ends), dtype=np.uint32)
    status = np.zeros(len(ends), np.uint16)
    status[list(bad)] = NO_NUMBER
    watts[list(bad)] = np.nan
    keep = np.setdiff1d(np.arange(len(ends)), np.asarray(drop, int))
    return Series(CHANNEL, arrival, arrival, watts, status, seq, (ends - starts)).take(keep)


def traced(series, gaps=(), meter=None, **meta):
    meters = (
        []
        if meter is False
        else [(meter or info()).as_json() | {"gaps": list(gaps), "gaps_total": len(gaps), "counts": {}}]
    )
    return Trace.of([series], meta={"meters": meters, **meta})


def window(start_s, end_s, name="w"):
    return Window(name, START_NS + round(start_s * S), START_NS + round(end_s * S))


def joules(power, one):
    return power(one.start_ns, one.end_ns) * one.duration_s


def step_w(at_s, low=300.0, high=700.0):
    """Mean of a power that steps up at an instant."""

    def mean(start_ns, end_ns):
        above = min(max(0.0, end_ns - (START_NS + at_s * S)), end_ns - start_ns)
        return low + (high - low) * above / (end_ns - start_ns)

    return mean


def test_energy_of_a_known_function_is_exact_between_cycle_ends():
    """0.05 % is what is asked for; sums of cycles lose nothing."""
    trace = traced(cycles(sine_w, 20))
    one = window(2.0, 18.0)  # 50 Hz: cycles end there
    found = channel_energy(trace, "wall.power", one)
    assert found.joules == pytest.approx(joules(sine_w, one), rel=1e-6)
    assert found.method == METHOD
    assert found.covered_s == pytest.approx(16.0)


@pytest.mark.parametrize(("start_s", "end_s"), [(1.013, 9.027), (2.031, 2.531), (5.0, 5.07)])
def test_edges_inside_cycles_take_their_share_and_the_interval_holds_the_truth(start_s, end_s):
    trace = traced(cycles(sine_w, 20))
    found = channel_energy(trace, "wall.power", window(start_s, end_s))
    true_j = joules(sine_w, window(start_s, end_s))
    assert found.joules == pytest.approx(true_j, rel=0.02)
    assert found.low_j < true_j < found.high_j


def test_window_shorter_than_a_cycle_is_no_good_number():
    found = channel_energy(traced(cycles(sine_w, 20)), "wall.power", window(5.0, 5.03))
    assert found.joules is not None
    assert found.verdict in ("poor", "unusable")


def test_limits_of_error_add_up_linearly_over_time():
    """dP = 0.07 % of the reading + 0.04 % of the range, the same all the time: 0.56 + 2.4 W at 800 W."""
    trace = traced(cycles(lambda a, b: 800.0, 120))
    for seconds in (10.0, 100.0):
        found = channel_energy(trace, "wall.power", window(10.0, 10.0 + seconds))
        half_j = (found.high_j - found.low_j) / 2
        assert half_j == pytest.approx((0.56 + 2.4) * seconds, rel=0.002)
    assert next(term for term in found.budget if term.kind == "gain").value_j == pytest.approx(296.0)
    assert found.verdict == "good"


def test_late_arrivals_move_nothing():
    """A scheduler's tail and a USB adapter's timer: cycles lie where the earliest of their neighbours say."""
    rng = np.random.default_rng(1)
    late_s = np.abs(rng.normal(0, 0.002, 400)) + np.where(rng.random(400) < 0.02, 0.3 * rng.random(400), 0)
    true_j = joules(sine_w, window(2.0, 18.0))
    on_time = channel_energy(traced(cycles(sine_w, 20)), "wall.power", window(2.0, 18.0)).joules
    late = channel_energy(traced(cycles(sine_w, 20, late_s=late_s)), "wall.power", window(2.0, 18.0)).joules
    assert late == pytest.approx(on_time, abs=0.002 * 400)
    assert late == pytest.approx(true_j, rel=5e-4)


def test_missing_cycles_are_bridged_counted_and_told_by_their_cause():
    gaps = [
        {"start_ns": START_NS + 5 * S, "end_ns": START_NS + 6 * S, "cause": "missing cycles", "missing": 7, "text": ""}
    ]
    trace = traced(cycles(sine_w, 20, drop=range(100, 107)), gaps)
    one = window(2.0, 18.0)
    found = channel_energy(trace, "wall.power", one)
    assert found.covered_s == pytest.approx(16.0 - 0.35, abs=0.06)
    assert any("PSQ-GAP" in reason and "(missing cycles once)" in reason for reason in found.reasons)
    assert found.low_j < joules(sine_w, one) < found.high_j
    whole = channel_energy(traced(cycles(sine_w, 20)), "wall.power", one)
    assert found.high_j - found.low_j > whole.high_j - whole.low_j


def test_hole_that_only_the_driver_knows_of_counts_as_one():
    """Without a cycle counter missing cycles are found later, and no `seq` tells them."""
    whole = cycles(lambda a, b: 800.0, 20, drop=range(100, 107))
    series = Series(
        CHANNEL,
        whole.t0_ns,
        whole.t1_ns,
        whole.raw,
        whole.status,
        np.arange(len(whole), dtype=np.uint32),
        whole.span_ns,
    )
    one = window(2.0, 18.0)
    gap = {"start_ns": int(series.t1_ns[99]), "end_ns": int(series.t1_ns[100]), "cause": "missing cycles", "missing": 7}
    found = channel_energy(traced(series, [gap]), "wall.power", one)
    assert found.joules == pytest.approx(800.0 * 16, rel=1e-6)
    assert found.covered_s == pytest.approx(16 - 0.35, abs=0.02)
    blind = channel_energy(traced(series), "wall.power", one)
    assert blind.joules < 800.0 * 15.9


def test_values_that_are_none_are_hidden_time_and_never_zero_watts():
    trace = traced(cycles(lambda a, b: 800.0, 20, bad=range(100, 110)))
    found = channel_energy(trace, "wall.power", window(2.0, 18.0))
    assert found.joules == pytest.approx(800.0 * 16)
    assert found.covered_s == pytest.approx(15.5)
    assert any(
        "PSQ-ERRORS 10 of 320 reads failed (code 60020, the meter has no number: 10)" in reason
        for reason in found.reasons
    )


def test_meter_that_was_gone_most_of_the_window_tells_no_energy():
    trace = traced(cycles(sine_w, 20, drop=range(60, 340)))
    found = channel_energy(trace, "wall.power", window(2.0, 18.0))
    assert (found.joules, found.verdict) == (None, "unusable")


def test_window_beyond_the_record_is_said_and_not_filled():
    found = channel_energy(traced(cycles(lambda a, b: 800.0, 10)), "wall.power", window(4.0, 11.0))
    assert found.joules == pytest.approx(800.0 * 6, rel=1e-6)
    assert any(reason.startswith("PSQ-UNCOVERED") for reason in found.reasons)
    assert found.high_j > 800.0 * 7


def test_step_at_an_edge_costs_what_the_latency_leaves_open():
    """Without a clock fit a value may be 47 ms older than it looks: at a step of 400 W that is 19 J."""
    trace = traced(cycles(step_w(5.0), 20))
    wide = channel_energy(trace, "wall.power", window(5.0, 15.0))
    calm = channel_energy(trace, "wall.power", window(6.0, 16.0))
    late = next(term for term in wide.budget if term.term == "arrival latency")
    assert late.value_j == pytest.approx(400 * 0.047, rel=1e-6)
    assert next(term for term in calm.budget if term.term == "arrival latency").value_j == 0


def test_clock_fit_takes_the_place_of_the_unknown_latency():
    """40 ms of firmware: unfitted, the step's energy is 15 J off and the interval has room for it; fitted, neither."""
    series = cycles(step_w(5.013), 20, lag_s=0.043)
    fit = ClockFit(
        "wall.power", "load", 0.043, 0.0005, None, None, 0.0, 0.0, False, 1.0, 0.99, 3.0, True,
        knots=(Knot(START_NS + S, 0.043, 0.0005),),
    )  # fmt: skip
    one, power = window(5.2, 15.0), step_w(5.013)
    plain = channel_energy(traced(series), "wall.power", window(5.0, 15.0))
    assert plain.low_j < joules(power, window(5.0, 15.0)) < plain.high_j
    fits = json.loads(json.dumps({"wall.power": fit.as_json()}))
    fitted = channel_energy(traced(series, clock_fits=fits), "wall.power", one)
    assert fitted.joules == pytest.approx(joules(power, one), rel=1e-4)
    assert {term.term for term in fitted.budget} >= {"clock fit"}
    assert "arrival latency" not in {term.term for term in fitted.budget}


@pytest.mark.parametrize("meter", [False, info(accuracy=None), info(accuracy=Accuracy(0.07, 0.04, None))])
def test_meter_of_unknown_limits_has_no_interval_and_says_so(meter):
    found = channel_energy(traced(cycles(sine_w, 20), meter=meter), "wall.power", window(2.0, 18.0))
    assert (found.low_j, found.verdict) == (None, "unrated")
    assert any(reason.startswith("PSM-ACCURACY") for reason in found.reasons)


def test_unknown_latency_has_room_and_says_so():
    trace = traced(cycles(sine_w, 20), meter=info(latency_max_s=None))
    found = channel_energy(trace, "wall.power", window(2.0, 18.0))
    assert any(reason.startswith("PSM-LATENCY") for reason in found.reasons)
    assert next(term for term in found.budget if term.term == "arrival latency").value_j > 100


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 399), max_size=6),
    st.sets(st.integers(0, 399), max_size=20),
    st.sets(st.integers(0, 399), max_size=10),
    st.floats(0.0, 19.0),
    st.floats(0.01, 19.0),
)
def test_energy_does_not_depend_on_how_the_record_is_cut(cuts, drop, bad, start_s, length_s):
    series = cycles(sine_w, 20, drop=sorted(drop), bad=sorted(bad))
    whole = traced(series)

    class Cut:
        def chunks(self, channel, start_ns, end_ns):
            bounds = [0, *sorted(cuts), len(series)]
            for first, last in pairwise(bounds):
                piece = series.take(slice(first, last))
                if len(piece):
                    yield piece

        def extent(self, channel):
            return whole.extent(channel.name)

    one = window(start_s, start_s + length_s)
    a = channel_energy(whole, "wall.power", one)
    b = channel_energy(Trace(Cut(), [CHANNEL], meta=dict(whole.meta)), "wall.power", one)
    for name in ("joules", "low_j", "high_j", "covered_s"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        if x is not None:
            assert x == pytest.approx(y, rel=1e-9, abs=1e-6)


def test_interval_holds_the_truth_in_many_windows_of_a_rough_load():
    """Steps at any instant, windows of any place and length, jitter, a lag within what the meter admits."""
    rng = np.random.default_rng(7)
    at = np.sort(rng.uniform(0, 60, 80))
    level = rng.uniform(200, 900, 81)
    energy = np.concatenate(([0.0], np.cumsum(level[:-1] * np.diff(np.concatenate(([0.0], at))))))

    def so_far(t_s):
        i = int(np.searchsorted(at, t_s, "right"))
        return energy[i] + level[i] * (t_s - (at[i - 1] if i else 0.0))

    def power(start_ns, end_ns):
        a, b = (start_ns - START_NS) / S, (end_ns - START_NS) / S
        return (so_far(b) - so_far(a)) / (b - a)

    held = 0
    series = [cycles(power, 60, lag_s=lag, late_s=np.abs(rng.normal(0, 0.002, 1200))) for lag in (0.004, 0.02, 0.045)]
    for i in range(150):
        start_s = rng.uniform(1, 50)
        one = window(start_s, start_s + rng.uniform(0.1, 9))
        found = channel_energy(traced(series[i % 3]), "wall.power", one)
        held += found.low_j <= joules(power, one) <= found.high_j
    assert held >= 0.95 * 150


INSTANTS = power_channel("plug", "shelly.apower", span="none")


def polled(power_w, seconds, every_s=1.0, drop=()):
    """Return readings of the moment of a power given at instants, s."""
    t_ns = START_NS + (np.arange(0, seconds, every_s) * S).astype(np.int64)
    keep = np.setdiff1d(np.arange(len(t_ns)), np.asarray(drop, int))
    watts = np.array([power_w((one - START_NS) / S) for one in t_ns])
    seq = np.arange(len(t_ns), dtype=np.uint32)
    return Series(INSTANTS, t_ns, t_ns, watts, np.zeros(len(t_ns), np.uint16), seq).take(keep)


def traced_plug(series, **more):
    given = {"cycle_s": math.nan, "latency_s": 0.0, "latency_max_s": 3.0, "accuracy": Accuracy(1.0, floor_w=0.5)} | more
    plug = MeterInfo("plug", "shelly", "x", "Shelly", "Plug", "1", "2", (INSTANTS,), **given)
    return traced(series, meter=plug)


def test_readings_of_the_moment_are_joined_by_lines_with_room_for_steps_and_latency():
    ramp = traced_plug(polled(lambda t: 100 + 10 * t, 60))
    found = channel_energy(ramp, "plug.power", window(10.5, 20.5))
    assert found.joules == pytest.approx(255.0 * 10)  # a line is exact for a ramp
    assert found.method == "trapezoid"
    accuracy = next(term for term in found.budget if term.kind == "gain")
    assert accuracy.value_j == pytest.approx(0.01 * 2550 + 0.5 * 10)
    assert next(term for term in found.budget if term.term == "arrival latency").value_j > 10 * 3 * 10
    calm = channel_energy(traced_plug(polled(lambda t: 200.0, 60)), "plug.power", window(10.0, 50.0))
    assert (calm.joules, calm.verdict) == (pytest.approx(8000.0), "good")
    assert calm.high_j - calm.joules == pytest.approx(0.01 * 8000 + 0.5 * 40, rel=0.01)
    steps = channel_energy(traced_plug(polled(lambda t: 200.0 + 100 * (t >= 30), 60)), "plug.power", window(10.0, 50.0))
    between = next(term for term in steps.budget if term.term == "between readings")
    assert between.value_j == pytest.approx(1.96 * 50 * 2**0.5 / 12**0.5)
    assert steps.low_j < 200 * 20 + 300 * 20 < steps.high_j


def test_readings_of_the_moment_that_are_missing_are_a_hole():
    found = channel_energy(
        traced_plug(polled(lambda t: 200.0, 60, drop=range(30, 35))), "plug.power", window(10.0, 50.0)
    )
    assert found.joules == pytest.approx(8000.0)
    assert found.covered_s == pytest.approx(34.0)
    assert any("PSQ-GAP" in reason for reason in found.reasons)


def test_report_of_readings_of_the_moment_is_plain_json():
    report = build(traced_plug(polled(lambda t: 200.0, 60)), [window(10.0, 50.0)])
    assert json.loads(json.dumps(report.data, allow_nan=False))["channels"][0]["averaging_window_s"] is None
    assert "Meter: Shelly Plug; its values are taken for instants." in report.explained()


def test_every_reading_of_a_meter_is_news():
    report = build(traced(cycles(lambda a, b: 800.0, 20)), [window(2.0, 18.0)])
    (channel,) = report.data["channels"]
    assert (channel["stale_share"], channel["updates"], channel["meter"]) == (None, 400, "ZES LMG450")
    assert (channel["sensor_period_s"], channel["updates_expected"]) == (0.05, pytest.approx(400, abs=2))
    assert "Meter: ZES LMG450; each value averages its own cycle, nominally 50 ms." in report.explained()
    assert report.data["windows"][0]["energies"][0]["updates"] == 320


def test_wall_stands_in_its_own_row_and_is_added_to_nothing():
    trace = traced(cycles(lambda a, b: 800.0, 20))
    one = window(2.0, 18.0)
    (measured,) = energies_in(trace, one)
    assert measured.primary
    sums = totals([measured], one)
    assert sums["node_j"] == pytest.approx(800.0 * 16)
    assert (sums["gpu_j"], sums["cpu_j"], sums["low_j"]) == (None, None, None)


def test_report_of_a_meter_that_never_came_back_says_so():
    gap = {"start_ns": START_NS + 15 * S, "end_ns": None, "cause": "unplugged", "missing": None, "text": ""}
    trace = traced(cycles(lambda a, b: 100.0, 15), [gap])
    said = " ".join(str(build(trace, [window(2.0, 18.0)])).split())
    assert "1 gap (1 unplugged), the last to the record's end" in said


def test_difference_of_two_clocks_is_no_gap():
    """A tenth of a millisecond in a window was "the meter gave no values for 0.000128 s"."""
    series = cycles(lambda a, b: 100.0, 20)
    slow = series.t1_ns + ((series.t1_ns - series.t1_ns[0]) * 60e-6).astype(np.int64)
    found = channel_energy(traced(replace(series, t0_ns=slow, t1_ns=slow)), "wall.power", window(2.0, 18.0))
    assert found.joules == pytest.approx(1600.0, rel=1e-3)
    assert [reason for reason in found.reasons if "PSQ-GAP" in reason] == []


def test_end_of_a_recording_says_which_meter_told_too_little_and_what_helps():
    """A meter that was lost half way left no line at all, or a bare "No energy can be told."."""
    trace = traced(cycles(lambda a, b: 100.0, 6))
    windows = [window(2.0, 18.0, "run"), window(3.0, 5.0, "epoch 0"), window(7.0, 18.0, "epoch 1")]
    said = " ".join(build(trace, windows).brief().split())
    assert "no energy by wall.power in run: it covers 4.00" in said
    assert "1 window was marked after the record's end and cannot be told: epoch 1" in said
    assert "s of 16.00 s (PSQ-UNCOVERED 12 s of 16 s are outside the record)" in said
    assert "An energy needs half of its window: keep the source there all the time, and record for longer." in said
    assert "200.0" in said  # epoch 0 has its own
    assert "no energy" not in build(trace, windows[1:2]).brief()


def test_report_tells_the_meter_its_gaps_and_its_limits():
    gap = {
        "start_ns": START_NS + 5 * S,
        "end_ns": START_NS + 5 * S + 350_000_000,
        "cause": "unplugged",
        "missing": 7,
        "text": "",
    }
    trace = traced(cycles(lambda a, b: 100.0, 20, drop=range(100, 107)), [gap])
    report = build(trace, [window(2.0, 18.0)])
    said = " ".join(str(report).split())
    assert "meter wall: ZES LMG450 1, cycles of 50 ms, good to 0.07 % of the reading + 0.04 % of 6,000 W" in said
    assert "clock not fitted, values up to 50 ms late" in said
    assert "1 gap (1 unplugged, 7 cycles in all), 350 ms at most" in said
    assert {check["code"] for check in report.data["checks"]} >= {"PSM-GAP", "PSM-UNCERTAINTY"}
    (channel,) = report.data["channels"]
    assert [one["cause"] for one in channel["gaps"]] == ["unplugged"]
    assert channel["averaging_window_s"] == 0.05
    assert math.isfinite(json.loads(json.dumps(report.data))["windows"][0]["energies"][0]["high_j"])


def test_simulated_meter_beside_real_devices_heads_the_report():
    trace = traced(cycles(sine_w, 20), meter=info(simulated=True))
    report = build(trace, [window(2.0, 18.0)])
    assert str(report).splitlines()[0] == "SIMULATED METER wall, not a measurement"
    told = ("simulated", "simulated_node", "simulated_meters")
    assert [report.data[key] for key in told] == [True, False, ["wall"]]
    real = build(traced(cycles(sine_w, 20)), [window(2.0, 18.0)]).data
    assert [real[key] for key in told] == [False, False, []]
    assert any(check["code"] == "PSM-SIMULATED" for check in report.data["checks"])


def square_w(period_s, low=100.0, high=600.0, first=0.5):
    """Mean of a power that is high for `first` of each period, then low."""

    def so_far(t_s):
        turns, rest = divmod(t_s, period_s)
        return turns * period_s * (first * high + (1 - first) * low) + (
            high * min(rest, first * period_s) + low * max(0.0, rest - first * period_s)
        )

    def mean(start_ns, end_ns):
        a, b = (start_ns - START_NS) / S, (end_ns - START_NS) / S
        return (so_far(b) - so_far(a)) / (b - a)

    return mean


@pytest.mark.parametrize("as_bad", [False, True])
@pytest.mark.parametrize(("start_s", "end_s"), [(4.5, 9.0), (6.5, 11.0), (5.0, 13.0)])
def test_gap_whose_ends_lie_alike_has_room_for_all_that_the_power_was_seen_to_do(start_s, end_s, as_bad):
    """A square of 4 s; both ends low: a line between them lies at an end of the range."""
    power = square_w(4.0)
    gone = range(round(start_s * 20), round(end_s * 20))
    trace = traced(cycles(power, 24, **{"bad" if as_bad else "drop": gone}))
    for one in (window(2.0, 18.0), window(1.0, (start_s + end_s) / 2), window((start_s + end_s) / 2, 20.0)):
        found = channel_energy(trace, "wall.power", one)
        assert found.low_j <= joules(power, one) <= found.high_j
        term = next(term for term in found.budget if term.term == "gaps")
        assert term.kind == "bound"
        assert found.high_j - found.low_j >= 500.0 * found.bridged_s


def test_gap_says_the_same_of_what_it_hides_wherever_a_report_tells_it():
    """ "(part)" stood beside "bridged by a line", and 24 J that it might hide beside a term of 1960 J."""
    report = build(traced(cycles(square_w(4.0), 24, drop=range(90, 180))), [window(2.0, 18.0)])
    (energy,), (channel,) = report.data["windows"][0]["energies"], report.data["channels"]
    (gap,) = channel["dropouts"]
    assert gap["energy_j"] == pytest.approx(500 * 4.5, rel=0.01)
    assert energy["high_j"] - energy["low_j"] == pytest.approx(gap["energy_j"], rel=0.1)
    shown = str(report)
    assert "(bridged)" in shown
    assert "(part)" not in shown
    assert "bridged by a line" in " ".join(shown.split())


@pytest.mark.parametrize("told", [False, True])
def test_late_arrival_of_a_meter_that_lost_no_cycle_is_no_dropout(told):
    """Three "unread" updates and 88 J that they might hide stood beside "200 of about 200 updates seen"."""
    late_s = np.zeros(400)
    late_s[100:104] = (0.2, 0.15, 0.1, 0.05)  # three cycles and more came at once
    series = cycles(sine_w, 20, late_s=late_s)
    gap = {"start_ns": int(series.t1_ns[98]), "end_ns": int(series.t1_ns[101]), "cause": "garbage", "missing": 1}
    report = build(traced(series, [gap] if told else []), [window(2.0, 18.0)])
    (channel,) = report.data["channels"]
    assert channel["dropouts_total"] == channel["gaps_total"] == int(told)
    assert channel["updates_missed"] == (4 if told else 0)
    assert channel["updates_expected"] == channel["updates"] + channel["updates_missed"]
    lost = build(traced(cycles(sine_w, 20, drop=range(100, 104))), [window(2.0, 18.0)])
    assert [lost.data["channels"][0][key] for key in ("dropouts_total", "updates_missed")] == [1, 4]
