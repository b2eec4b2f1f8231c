# SPDX-License-Identifier: Apache-2.0
"""Ratios and sums of one board's windows, and plans: closed forms, and a board that reads 10 % high."""

from dataclasses import replace

import numpy as np
import pytest
from traces import MS, S, channel, polls, published, series

from powersample.analysis import channel_energy, energies, plan, relative
from powersample.analysis.evidence import sweep_of
from powersample.analysis.told import Told
from powersample.errors import InvalidArgument, NotSupported
from powersample.model import BudgetTerm, Energy, Kind, Response, SensorModel, Trace, Window
from powersample.sensors import look_up

NAME = "gpu0.power.instant"
BASE = Energy(100.0, 90.0, 110.0, "m", (BudgetTerm("gaps", "standard", 3.0),), "fair", (), "c", "d", "gpu", "w")
MODEL = SensorModel(Response.CONTIGUOUS, 0.1, 0.1, gain_sd=0.04, offset_sd_w=4.0)


def recording(gain=1.0):
    t_ns = polls(0, 40, 1)
    watts = 100_000 + np.arange(410) % 3 * 1000 + (np.arange(410) >= 200) * 200_000
    raw = published(t_ns, np.rint(watts * gain).astype(np.int64), 100 * MS)
    meta = {"sensor_models": {NAME: MODEL.as_json()}}
    windows = [Window("a", 5 * S, 10 * S), Window("b", 10 * S, 15 * S), Window("c", 25 * S, 35 * S)]
    return Trace.of([series(channel(NAME), t_ns, raw)], meta=meta, windows=windows)


def energies_of(trace):
    return [channel_energy(trace, NAME, window) for window in trace.windows]


def test_relative_cancels_the_gain_and_keeps_the_offsets_difference():
    energy = energies_of(recording(gain=1.1))
    found = relative(energy[2], energy[0])
    assert found.low < 2 * 301 / 101 < found.high
    gained = np.sqrt(2) * 0.0784
    offset = 1.96 * 4 * (5 / energy[0].joules - 10 / energy[2].joules)
    half = (found.high - found.low) / 2 / found.ratio
    assert offset < half < gained
    assert half == pytest.approx(offset, rel=0.2)


def test_relative_of_equal_mean_power_has_no_offset():
    a, b, _ = energies_of(recording())
    found = relative(a, b)
    assert (found.high - found.low) / 2 < 0.04  # two reconstructions; the gain alone would make 0.11
    assert found.verdict == "good"


def test_relative_of_other_boards_or_without_interval_is_refused():
    a, b, _ = energies_of(recording())
    with pytest.raises(InvalidArgument, match="do not share"):
        relative(a, replace(b, device="GPU-9"))
    with pytest.raises(InvalidArgument, match="no interval"):
        relative(a, replace(b, low_j=None))
    with pytest.raises(InvalidArgument, match="missing"):
        relative(replace(a, joules=None), b)
    for wrong in ("a", None, 3.0):
        with pytest.raises(InvalidArgument, match="two energies"):
            relative(a, wrong)


def test_sum_integrates_windows_that_touch_as_one_and_adds_board_terms_linearly():
    trace = recording()
    found = energies(trace, ["a", "b", "c"]).sum()
    assert [piece.window for piece in found.pieces] == ["a + b", "c"]
    assert found.joules == pytest.approx(10 * 101 + 10 * 301, rel=0.002)
    shared = 0.04 * 1.96 * found.joules, 4 * 1.96 * 20
    assert found.high_j - found.joules == pytest.approx(np.hypot(*shared), rel=0.02)


def test_sum_counts_an_overlap_once():
    trace = recording()
    twice = energies(trace, [Window("x", 5 * S, 12 * S), Window("y", 8 * S, 15 * S)])
    assert twice.sum().joules == pytest.approx(energies(trace, ["a", "b"]).sum().joules)
    assert twice.joules.sum() > 1.3 * twice.sum().joules


def test_sum_without_windows_or_energy_is_refused():
    with pytest.raises(InvalidArgument, match="no windows"):
        energies(recording(), [])
    with pytest.raises(InvalidArgument, match="cannot be told"):
        energies(recording(), [Window("later", 100 * S, 101 * S)]).sum()


def test_relative_uses_bounds_in_full():
    bound = replace(BASE, budget=(*BASE.budget, BudgetTerm("uncovered", "bound", 7.0)))
    assert relative(bound, BASE).high == pytest.approx(1 + np.hypot(0.10, 0.03))


def test_plan_needs_longer_for_less_error_and_says_what_the_board_limits():
    h100 = look_up("instant", architecture="hopper", name="NVIDIA H100 PCIe")
    rough, fine = plan(h100, 0.15), plan(h100, 0.05)
    assert 0.1 < rough.seconds < fine.seconds < 1e4
    assert rough.phase_steps == rough.repeats_swept == 8  # no longer than W, and as many as the analysis asks for
    assert rough.board_pct == pytest.approx(7.84)
    assert (rough.reachable, fine.reachable) == (True, False)


def test_plan_of_a_contiguous_sensor_needs_no_phase_sweep_and_less_time():
    ada = look_up("instant", architecture="ada", name="NVIDIA L40")
    assert plan(ada, 0.05).phase_steps == plan(ada, 0.05).repeats_swept == 1
    assert plan(ada, 0.05).seconds < plan(look_up("instant", architecture="hopper"), 0.05).seconds


def test_plan_of_bursts_averages_repeats():
    model = look_up("instant", architecture="hopper")
    one, two = plan(model, 0.10, burst_s=0.2), plan(model, 0.05, burst_s=0.2)
    assert two.repeats == pytest.approx(4 * one.repeats, rel=0.02)
    assert plan(model, 0.5, burst_s=1000.0).repeats == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": 0.0},
        {"error": 0.1, "burst_s": -1.0},
        {"error": float("nan")},
        {"error": "5 %"},
        {"error": True},
        {"error": 0.1, "power_w": None},
        {"error": 0.1, "burst_s": "1"},
    ],
)
def test_plan_of_figures_outside_their_range_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="must be a number above 0"):
        plan(MODEL, **wrong)


@pytest.mark.parametrize("wrong", ["h100", None, {"period_s": 0.1}])
def test_plan_of_what_is_no_model_says_where_to_take_one(wrong):
    with pytest.raises(InvalidArgument, match=r"look_up\("):
        plan(wrong, 0.05)


def test_plan_of_a_sweep_is_what_the_analysis_takes_for_one():
    """Repeats at the planned phases exclude aliasing, one fewer does not."""
    model = look_up("instant", architecture="hopper", name="NVIDIA H100 PCIe")
    steps = plan(model, 0.05).phase_steps
    for count, excluded in ((steps, True), (steps - 1, False)):
        made = [
            Told(replace(BASE, joules=100.0 + i), Kind.POWER, model.period_s, model=model, phase=i / steps)
            for i in range(count)
        ]
        windows = [Window(f"w {i}", 10 * i * S, (10 * i + 2) * S) for i in range(count)]
        assert (sweep_of(made, windows).doubt == "") is excluded


def test_plan_of_a_counter_is_refused():
    with pytest.raises(NotSupported):
        plan(SensorModel(Response.COUNTER, 0.1), 0.05)
