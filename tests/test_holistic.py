# SPDX-License-Identifier: Apache-2.0
"""The energy of a whole node against closed forms: a wall that is a known quadratic of its components' powers."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import COEFFICIENTS, FULL, HOST, IDLE, METER, calibration, ladder, model, trace, wall_w
from traces import S

from powersample.analysis import energy, holistic, judge
from powersample.analysis.settling import LEAST_LOSS, TAU_S
from powersample.errors import InvalidArgument
from powersample.fit.calibrate import calibrate, from_sheet
from powersample.model import Anchor, LaneStats, Trace, Window
from powersample.report import build
from powersample.session.simulate import make_node

STEADY = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}
RUN = ("run", 10, 50)
SIMULATED = {"simulated": True, "simulated_node": {"profile": "h100", "gpus": 1}}


def wave(low, high, seconds, count):
    """Steps between two states."""
    powers = {group: [low[group], high[group]] * count for group in low}
    return trace(np.full(2 * count, float(seconds)), powers, windows=[("run", 0, 2 * count * seconds)])


def test_steady_power_gives_the_models_energy_exactly_and_its_terms_by_their_formulas():
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", calibration())
    wall = wall_w(300.0, 40.0, 200.0)
    assert told.level == "model"
    assert told.total.joules == pytest.approx(40 * wall, rel=1e-6)
    assert told.measured_j == pytest.approx(40 * 540, rel=1e-6)
    assert told.uncaptured_j == pytest.approx(40 * (wall - 540), rel=1e-5)
    terms = {one.term: one.value_j for one in told.budget}
    x = 40 * np.array([1, 300, 40, 200, 540**2]) * np.array(COEFFICIENTS) * 1e-4
    t = 2.042  # Student's, 30 degrees of freedom
    assert terms["the calibration's coefficients"] == pytest.approx(t * np.sqrt((x**2).sum()), rel=2e-3)
    assert terms["the calibration's misfit"] == pytest.approx(t * 1.0 * 40, rel=2e-3)
    assert terms["the meter's limits of error"] == pytest.approx(0.001 * told.total.joules)
    assert terms["power within bins"] == pytest.approx(0, abs=0.1)
    assert terms["outside of what was calibrated"] == 0


def test_gain_of_components_that_are_loaded_as_at_the_calibration_is_not_in_the_interval():
    """The model was fitted to the same counters."""
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", calibration())
    own = next(one.value_j for one in told.budget if one.term.startswith("the components' own"))
    assert own < 0.001 * told.measured_j  # gain and offset of a board alone are 8 %


@pytest.mark.parametrize(("one_w", "other_w"), [(100.0, 100.0), (150.0, 50.0), (180.0, 20.0)])
def test_gains_of_boards_that_are_loaded_unlike_each_other_are_in_the_interval(one_w, other_w):
    """The model knows the mean of their gains, for they were loaded alike when it was fitted; closed form."""
    made = trace([60.0], STEADY | {"gpu": [one_w], "gpu1": [other_w]}, windows=[RUN])
    told = holistic(made, "run", calibration(host={**HOST, "gpus": ["GPU-0", "GPU-1"]}))
    unlike = next(one.value_j for one in told.budget if one.term.startswith("gains of devices"))
    board = energy(made, "run", "gpu0")
    gain = next(one.value_j for one in board.budget if one.term == "gain") / board.joules
    slope = COEFFICIENTS[3] + 2 * COEFFICIENTS[4] * 540
    assert unlike == pytest.approx(slope * gain * 40 * np.hypot(one_w - 100, other_w - 100), rel=0.01, abs=1e-6)
    assert told.total.low_j < 40 * wall_w(300.0, 40.0, 200.0) < told.total.high_j


def test_square_of_the_sum_is_integrated_over_bins_and_not_taken_of_the_mean():
    """600 s of 2 s steps, faster than fans: what is told lies between f(mean) and the mean of f, closed form."""
    told = holistic(wave(IDLE, FULL, 2, 150), Window("late", 300 * S, 600 * S), calibration())
    each = (wall_w(**IDLE) + wall_w(**FULL)) / 2
    mean = wall_w(**{group: (IDLE[group] + FULL[group]) / 2 for group in IDLE})
    assert told.total.joules == pytest.approx(300 * (each + mean) / 2, rel=3e-4)
    assert told.total.high_j > 300 * each
    assert told.total.low_j < 300 * mean


def test_fans_that_lag_behind_a_step_are_half_counted_and_lie_in_the_interval():
    """Idle, then full power: over the window the integral of u(Q) - u(P) has a closed form for a linear u.

    What every supply loses at once does not lag.
    """
    linear = (400.0, 1.1, 1.05, 1.12, 0.0)
    powers = {group: [IDLE[group], FULL[group]] for group in IDLE}
    made = trace([100.0, 100.0], powers, windows=[("run", 100, 160)])
    told = holistic(made, "run", calibration(node=model(coefficients=linear)))
    step_w = sum((c - 1 - LEAST_LOSS) * (FULL[group] - IDLE[group]) for c, group in zip(linear[1:4], IDLE, strict=True))
    lacks_j = step_w * TAU_S * (1 - np.exp(-60 / TAU_S))
    settled_j = 60 * wall_w(**FULL, coefficients=linear)
    assert told.total.joules == pytest.approx(settled_j - lacks_j / 2, rel=1e-4)
    assert told.total.low_j < settled_j - lacks_j
    assert told.total.high_j > settled_j


def test_what_ran_before_the_recording_is_unknown_and_widens_to_the_side_where_it_may_have_been():
    """Idle from the begin on: nothing can have been lower, but fans may still be fast; and the other way round."""
    steady = {"idle": IDLE, "full": FULL, "middle": {group: (IDLE[group] + FULL[group]) / 2 for group in IDLE}}
    told = {}
    for name, powers in steady.items():
        one = holistic(trace([60.0], {group: [w] for group, w in powers.items()}, windows=[RUN]), "run", calibration())
        told[name] = (one.total.joules - one.total.low_j, one.total.high_j - one.total.joules)
    assert told["idle"][1] > 3 * told["idle"][0]
    assert told["full"][0] > 3 * told["full"][1]
    assert told["middle"] == pytest.approx(told["middle"][::-1], rel=0.2)  # not quite: u has a square
    assert min(told["middle"]) > 2 * told["idle"][0]


@pytest.mark.parametrize("late_s", [0, 100, 400])
def test_fans_still_fast_from_what_ended_before_the_record_are_in_the_interval_until_they_have_settled(late_s):
    """A linear u, an idle record: from the top, u(Q) - u(P) = step exp(-t / tau), and all of it may follow heat."""
    linear = (400.0, 1.1, 1.05, 1.12, 0.0)
    found = calibration(node=model(misfit_w=0.0, scale=0.0, coefficients=linear), accuracy_pct=0.0)
    made = trace([500.0], {group: [one] for group, one in IDLE.items()})
    told = holistic(made, Window("w", late_s * S, (late_s + 60) * S), found)
    step_w = sum((c - 1 - LEAST_LOSS) * (FULL[group] - IDLE[group]) for c, group in zip(linear[1:4], IDLE, strict=True))
    most_j = step_w * TAU_S * (np.exp(-late_s / TAU_S) - np.exp(-(late_s + 60) / TAU_S))
    assert told.total.high_j - told.total.joules == pytest.approx(most_j, rel=1e-2, abs=2)
    assert told.total.joules - told.total.low_j == pytest.approx(0, abs=2)  # what counters' edges may hide
    before = next(one for one in told.budget if one.term == "what ran before the recording")
    assert (before.kind, before.value_j) == ("bound", pytest.approx(most_j, rel=1e-2, abs=2))


@pytest.mark.parametrize(("late_s", "verdict", "codes"), [(0, "fair", ["PSQ-CAL-BEFORE"]), (300, "good", [])])
def test_window_right_at_the_begin_says_why_it_is_told_less_well_than_the_same_later(late_s, verdict, codes):
    made = trace([400.0], {group: [one] for group, one in IDLE.items()})
    told = holistic(made, Window("w", late_s * S, (late_s + 30) * S), calibration())
    assert (told.verdict, [one.split(" ")[0] for one in told.reasons]) == (verdict, codes)


def with_reset(made, name="package-0.energy", at_ns=30 * S, dead_ns=10 * S):
    """A counter that fails for a while and starts again at 0."""
    one = made.series(name)
    raw, status, back = one.raw.copy(), one.status.copy(), np.searchsorted(one.t0_ns, at_ns + dead_ns)
    raw[back:] -= raw[back]
    status[(one.t0_ns >= at_ns) & (one.t0_ns < at_ns + dead_ns)] = 5
    others = [made.series(other) for other in made.channels if other != name]
    broken = replace(one, raw=raw, status=status)
    return Trace.of([broken, *others], meta=made.meta, windows=made.windows, anchors=made.anchors, lanes=made.lanes)


def slept(made):
    """The machine is asleep for ten minutes after 40 s."""
    anchors = [
        Anchor(monotonic_ns=t, monotonic_raw_ns=t, realtime_ns=10**18 + t + off, boottime_ns=t + off, width_ns=100)
        for t, off in ((0, 0), (20 * S, 0), (40 * S, 600 * S), (60 * S, 600 * S))
    ]
    series = [made.series(name) for name in made.channels]
    return Trace.of(series, meta=made.meta, windows=made.windows, anchors=anchors, lanes=made.lanes)


@pytest.mark.parametrize(("spoil", "code"), [(with_reset, "PSQ-RESET"), (slept, "PSQ-SUSPEND")])
def test_node_over_a_component_that_is_unusable_is_so_too_and_says_why(spoil, code):
    """Its width says nothing of that: the joules which a restart or a sleep hid are in no interval."""
    whole = trace([60.0], STEADY, windows=[RUN])
    assert holistic(whole, "run", calibration()).verdict == "good"
    told = holistic(spoil(whole), "run", calibration())
    assert told.verdict == "unusable"
    assert [one for one in told.reasons if one.startswith(f"{code} package-0.energy")]
    assert not [one for one in told.reasons if one.startswith("PSQ-EDGE")]
    assert build(spoil(whole), calibration=calibration()).data["windows"][0]["holistic"]["verdict"] == "unusable"


def test_misfit_is_the_same_however_many_states_a_window_goes_through():
    """Half of the time near idle and half near full power: a law that bends otherwise may do so in all of them."""

    def misfit_j(made, window):
        told = holistic(made, window, calibration(node=model(misfit_w=5.0)))
        return next(one.value_j for one in told.budget if one.term == "the calibration's misfit")

    both = wave(IDLE, FULL, 20, 5)
    assert misfit_j(both, Window("w", 0, 200 * S)) == pytest.approx(2.042 * 5 * 200, rel=2e-3)
    assert misfit_j(both, Window("w", 0, 20 * S)) == pytest.approx(2.042 * 5 * 20, rel=2e-3)


def test_limit_of_the_meters_error_is_that_of_points_which_drew_as_much():
    """0.1 % of the reading and 3 W of the range: in percent most when idle, and not so for the run."""
    points = tuple(replace(one, accuracy_w=3 + 0.001 * one.wall_w) for one in calibration().points)
    found = calibration(points=points, accuracy_pct=100 * points[0].accuracy_w / points[0].wall_w)
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", found)
    limit_j = next(one.value_j for one in told.budget if one.term == "the meter's limits of error")
    assert limit_j == pytest.approx(3 * 40 + 0.001 * told.total.joules, rel=1e-3)


def test_bounds_are_the_papers_and_the_middle_is_told_without_a_model():
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", calibration(best="bounds"))
    found = calibration()
    low_w, high_w = found.p_idle_w, found.p_busy_w["mix"][0]
    assert told.level == "bounds"
    assert told.bounds_j == pytest.approx((40 * (540 + low_w), 40 * (540 + high_w)), rel=1e-6)
    assert told.total.joules == pytest.approx(sum(told.bounds_j) / 2)
    assert told.total.low_j < told.bounds_j[0] < told.bounds_j[1] < told.total.high_j


def test_load_that_is_known_takes_its_own_uncaptured_power_and_pays_for_other_components():
    powers = {group: [one] for group, one in {**IDLE, "cpu": 500.0}.items()}
    made, found = trace([60.0], powers, windows=[RUN]), calibration(best="bounds")
    told = holistic(made, "run", found, load_like="primes")
    assert told.level == "load"
    assert told.total == told.like
    assert told.total.joules == pytest.approx(40 * wall_w(500.0, 20.0, 60.0), rel=1e-6)
    other = holistic(trace([60.0], STEADY, windows=[RUN]), "run", found, load_like="primes")
    term = next(one for one in other.budget if one.term == "other power than primes drew")
    assert term.value_j == pytest.approx(0.2 * 40 * (580 - 540), rel=1e-3)
    beside = holistic(made, "run", calibration(), load_like="primes")
    assert (beside.level, beside.like) == ("model", told.like)
    with pytest.raises(InvalidArgument, match="no load 'linpack'"):
        holistic(made, "run", found, load_like="linpack")


def test_power_outside_of_what_was_calibrated_widens_the_interval_and_says_so():
    told = holistic(trace([60.0], {**STEADY, "gpu": [440.0]}, windows=[RUN]), "run", calibration())
    assert any(reason.startswith("PSQ-CAL-HULL gpu drew 440") for reason in told.reasons)
    term = next(one for one in told.budget if one.term == "outside of what was calibrated")
    assert (term.kind, term.value_j) == ("bound", pytest.approx(0.2 * 40 * 100, rel=1e-3))
    assert told.total.high_j - told.total.joules > term.value_j


def test_no_calibration_tells_components_only():
    told = holistic(trace([60.0], STEADY, windows=[RUN]))
    assert (told.level, told.total, told.node, told.shares) == ("components", None, None, None)
    assert set(told.components_j) == {"cpu", "dram", "gpu"}


def test_meter_without_a_calibration_tells_what_is_missing():
    told = holistic(trace([60.0], STEADY, windows=[RUN], meter=1.0))
    wall = wall_w(300.0, 40.0, 200.0)
    assert told.meter.joules == pytest.approx(40 * wall, rel=1e-6)
    assert told.shares["missing"] == pytest.approx(1 - 540 / wall, rel=1e-4)
    assert told.shares["modelled"] == 0


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.05, False)])
def test_meter_beside_the_model_tells_how_far_they_are_apart(factor, agrees):
    told = holistic(trace([100.0], STEADY, windows=[("run", 40, 90)], meter=factor), "run", calibration())
    assert told.residual_j == pytest.approx(50 * (1 - factor) * wall_w(300.0, 40.0, 200.0), rel=1e-3, abs=1)
    assert (abs(told.residual_j) <= told.budget_j) is agrees
    assert told.node == told.meter


def test_meter_of_unknown_accuracy_has_no_interval_and_no_budget():
    made = trace([60.0], STEADY, windows=[RUN], meter=1.0)
    unknown = [{**METER, "accuracy": None, "channels": made.meta["meters"][0]["channels"]}]
    told = holistic(trace([60.0], STEADY, windows=[RUN], meter=1.0, meters=unknown), "run", calibration())
    assert (told.meter.low_j, told.budget_j) == (None, None)


def test_components_without_an_energy_leave_the_model_out_and_say_so():
    told = holistic(trace([60.0], STEADY), Window("late", 55 * S, 80 * S), calibration())
    assert told.total is None
    assert {"PSQ-PARTIAL", "PSQ-CAL-GROUPS"} <= {reason.split(" ")[0] for reason in told.reasons}


def test_accuracy_of_the_meter_that_nobody_knows_leaves_no_interval():
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", calibration(accuracy_pct=None, accuracy_w=None))
    assert told.total.joules > 0
    assert (told.total.low_j, told.verdict) == (None, "unrated")


@pytest.mark.parametrize("source", ["data sheet", "bmc"])
def test_bounds_that_no_meter_gave_have_no_interval(source):
    """Nobody states what they are worth: bounds and their middle are told, and rated by nobody."""
    sheet = replace(from_sheet(("cpu", "dram", "gpu"), 400.0, {"primes": 440.0}, host=HOST), source=source)
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", sheet)
    assert told.bounds_j == pytest.approx((40 * 940, 40 * 980), rel=1e-6)
    assert told.total.joules == pytest.approx(40 * 960, rel=1e-6)
    assert (told.total.low_j, told.verdict) == (None, "unrated")


# ---- whose it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"host": {**HOST, "id": "9"}}, "PSQ-CAL-HOST", "it is of a, and the recording of a"),
        ({"host": {"name": "b"}}, "PSQ-CAL-HOST", "it is of b, and the recording of a"),
        ({"host": {**HOST, "name": "b"}}, "PSQ-CAL-HOST", "both with one machine-id, as cloned images have it"),
        ({"host": None}, "PSQ-CAL-HOST", "nothing tells they are one"),
        ({"host": {**HOST, "gpus": ["GPU-0", "GPU-1"]}}, "PSQ-CAL-HOST", "2 GPUs were calibrated, and of those 1"),
        ({"host": {**HOST, "driver": "550.5"}}, "PSQ-CAL-OLD", "under driver 550.5"),
        ({"rates_hz": {"rapl": 100.0}}, "PSQ-CAL-RATE", "read at 100 Hz for it, and at 1,000 Hz here"),
        ({"accepted": False, "reasons": ("PSQ-CAL-FLAT no",)}, "PSQ-CAL-REFUSED", "PSQ-CAL-FLAT no"),
    ],
)
def test_calibration_of_another_host_driver_or_rate_is_refused_unless_overridden(change, code, words):
    made = trace([60.0], STEADY, windows=[RUN])
    judged = judge(made, calibration(**change), "x")
    assert judged.calibration is None
    assert judged.reasons[0].startswith(code)
    assert words in judged.reasons[0]
    with pytest.raises(InvalidArgument, match=code):
        holistic(made, "run", calibration(**change))
    anyway = judge(made, calibration(**change), "x", anyway=True)
    assert (anyway.calibration is not None, anyway.overridden, anyway.reasons) == (True, True, judged.reasons)


@pytest.mark.parametrize(
    ("change", "meta", "code"),
    [
        ({"simulated": "h100x1"}, {}, "PSQ-CAL-HOST"),
        ({}, SIMULATED, "PSQ-CAL-HOST"),
        ({"simulated": "h100x1-node3"}, SIMULATED, "PSQ-CAL-HOST"),
        ({"node": None, "best": "none", "p_idle_w": None}, {}, "PSQ-CAL-REFUSED"),
        ({"groups": ("cpu", "dram")}, {}, "PSQ-CAL-GROUPS"),
        ({"groups": ("cpu", "dram", "gpu", "psys")}, {}, "PSQ-CAL-GROUPS"),
    ],
)
def test_calibration_of_a_simulation_or_of_other_parts_is_refused_and_nobody_can_override_it(change, meta, code):
    made = trace([60.0], STEADY, windows=[RUN], **meta)
    judged = judge(made, calibration(**change), "x", anyway=True)
    assert judged.calibration is None
    assert judged.reasons[0].startswith(code)


def test_calibration_of_the_same_simulated_node_host_or_rate_is_used():
    assert judge(trace([60.0], STEADY, **SIMULATED), calibration(simulated="h100x1")).calibration is not None
    near = (LaneStats("rapl", rate_hz=700.0), LaneStats("nvml", rate_hz=1000.0))
    assert judge(trace([60.0], STEADY, lanes=near), calibration()).refusals == ()


def test_rate_of_one_of_several_like_lanes_that_timed_its_calls_badly_refuses_nothing():
    """Automatic rates follow what calls took at the start: one lane's odd one is a small part of the reading."""
    lanes = tuple(LaneStats(f"rapl:package-{number}", rate_hz=1000.0) for number in range(2))
    odd = {"rapl:package-0": 1000.0, "rapl:package-1": 48.0}
    made = trace([60.0], STEADY, windows=[RUN], lanes=lanes)
    assert judge(made, calibration(rates_hz=odd), "x").calibration is not None
    both = judge(made, calibration(rates_hz=dict.fromkeys(odd, 48.0)), "x")
    assert "the 2 lanes of rapl together were read at 96 Hz" in both.reasons[0]


def test_calibration_without_memory_serves_a_recording_with_it():
    """Memory is then among what is uncaptured, as where no counter shows it."""
    without = replace(model(), groups=("cpu", "gpu"), terms=("1", "cpu", "gpu", "sum^2"))
    without = replace(without, coefficients=(440.0, 1.1, 1.12, 0.0), covariance=tuple(((0.0,) * 4,) * 4))
    found = calibration(groups=("cpu", "gpu"), node=without)
    told = holistic(trace([60.0], STEADY, windows=[RUN]), "run", found)
    assert told.total.joules == pytest.approx(40 * (440 + 1.1 * 300 + 1.12 * 200), rel=1e-5)
    assert told.measured_j == pytest.approx(40 * 540, rel=1e-6)


# ---- what always holds -------------------------------------------------------------------------------------------

powers = st.fixed_dictionaries({group: st.lists(st.floats(20, 600), min_size=6, max_size=6) for group in IDLE})


@settings(max_examples=25, deadline=None)
@given(powers, st.floats(0.5, 3), st.integers(1, 58))
def test_value_lies_in_its_interval_adds_up_over_adjoining_windows_and_grows_with_them(watts, factor, cut_s):
    made = trace(np.full(6, 10.0), watts)
    found = calibration(node=model(misfit_w=factor))
    spans = {"head": (0, cut_s), "tail": (cut_s, 60), "all": (0, 60), "longer": (0, cut_s + 1)}
    told = {name: holistic(made, Window(name, a * S, b * S), found) for name, (a, b) in spans.items()}
    for one in told.values():
        assert 0 <= one.total.low_j <= one.total.joules <= one.total.high_j
        assert one.bounds_j[0] <= one.bounds_j[1]
        assert one.shares["measured"] + one.shares["modelled"] == pytest.approx(1)
    parts = told["head"].total.joules + told["tail"].total.joules
    assert parts == pytest.approx(told["all"].total.joules, rel=1e-5)
    assert told["longer"].total.joules > told["head"].total.joules


def test_drawn_nodes_under_loads_that_were_on_no_rung_are_held_by_their_intervals():
    """Virtual time: fans lag behind by 15 to 60 s, supplies differ, and short runs follow an idle node."""
    held = [one for seed in (1, 2, 3) for one in _held(seed)]
    assert len(held) == 18
    assert sum(held) >= 16  # of intervals of 95 %


def _held(seed):
    """Yield whether the interval holds the truth, window by window."""
    with make_node("paper-node", node_seed=seed) as node:
        found = calibrate(ladder(node), host=HOST)
    dice = np.random.default_rng(seed)
    shares = {"cpu": dice.random(4), "dram": dice.random(4), "gpu": dice.random(4)}
    seconds = np.array([200.0, 20.0, 40.0, 120.0, 60.0])
    with make_node("paper-node", node_seed=seed) as node:
        ranges = {name: (low / 1e3, high / 1e3) for name, (low, high) in node._ranges_mw().items()}
        powers = {group: np.zeros(5) for group in shares}
        start_ns, begins_s = time.monotonic_ns() + 2 * S, np.cumsum(seconds) - seconds
        for name, (low, high) in ranges.items():
            group = "gpu" if name.startswith("gpu") else "dram" if name.endswith(".dram") else "cpu"
            if name.startswith(("gpu", "package")):
                watts = low + np.append(0.0, shares[group]) * (high - low)
                powers[group] += watts
                node.load_script(name, list(zip(begins_s.tolist(), watts.tolist(), strict=True)), start_ns=start_ns)
        made = trace(seconds, powers)
        for begin_s, end_s in ((200, 220), (200, 260), (220, 260), (200, 440), (380, 440), (260, 380)):
            told = holistic(made, Window("w", begin_s * S, end_s * S), found).total
            truth_j = node.truth_j("wall", start_ns + begin_s * S, start_ns + end_s * S)
            assert told.joules == pytest.approx(truth_j, rel=0.05)
            yield told.low_j < truth_j < told.high_j
