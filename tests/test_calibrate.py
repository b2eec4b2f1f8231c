# SPDX-License-Identifier: Apache-2.0
"""From operating points to models of a node: closed forms, other people's measurements, and what must be refused."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample import errors
from powersample.fit.calibrate import calibrate, from_sheet
from powersample.fit.follows import unsure
from powersample.fit.node_model import fit_model
from powersample.fit.ridge import Prior, solve
from powersample.model import OperatingPoint

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured"
TRUE = {"1": 700.0, "cpu": 1.12, "dram": 1.05, "gpu": 1.15, "sum^2": 4e-5}
LADDER = [("idle", 0.0, 100, 30, 200)]
LADDER += [(f"primes {level}", level, 100 + 600 * level, 30 + 10 * level, 200) for level in (0.25, 0.5, 0.75, 1.0)]
LADDER += [(f"stream {level}", level, 100 + 300 * level, 30 + 120 * level, 200) for level in (0.5, 1.0)]
LADDER += [(f"gpu {level}", level, 140, 34, 200 + 1000 * level) for level in (0.2, 0.4, 0.6, 0.8, 1.0)]


def wall_of(cpu, dram, gpu):
    linear = TRUE["cpu"] * cpu + TRUE["dram"] * dram + TRUE["gpu"] * gpu
    return TRUE["1"] + linear + TRUE["sum^2"] * (cpu + dram + gpu) ** 2


def point(name, level, cpu, dram, gpu, wall=None, **more):
    parts = {"cpu": float(cpu), "dram": float(dram), "gpu": float(gpu)}
    wall_w = float(wall_of(cpu, dram, gpu) if wall is None else wall)
    return OperatingPoint(name, name.split()[0], level, parts, dict.fromkeys(parts, 0.0), wall_w, 0.0, **more)


def ladder(wall=wall_of):
    return [point(*rung, wall=wall(*rung[2:])) for rung in LADDER]


def table(path, wall, **columns):
    """Points of a measured table, a row each."""
    if not MEASURED.exists():
        pytest.skip(f"{MEASURED} is not there")
    rows = list(csv.DictReader((MEASURED / path).read_text().splitlines()))
    parts = [{group: float(row[column]) for group, column in columns.items()} for row in rows]
    return [
        OperatingPoint(f"row {number}", "other", None, part, dict.fromkeys(part, 0.0), float(row[wall]), 0.0)
        for number, (row, part) in enumerate(zip(rows, parts, strict=True))
    ]


# ---- closed forms ------------------------------------------------------------------------------------------------


def test_node_model_of_exact_points_is_the_truth():
    found = calibrate(ladder())
    assert found.accepted
    assert found.best == "node"
    assert dict(zip(found.node.terms, found.node.coefficients, strict=True)) == pytest.approx(TRUE, rel=1e-3)
    assert found.leave_one_out_max_pct < 0.01


def test_affine_model_of_exact_points_is_the_truth():
    found = calibrate(ladder(lambda cpu, dram, gpu: 650 + 1.2 * (cpu + dram + gpu)))
    assert found.affine.coefficients == pytest.approx((650, 1.2))
    assert found.affine.leave_one_out_max_pct < 1e-9


def test_bounds_are_the_papers_difference():
    found = calibrate(ladder())
    assert found.p_idle_w == pytest.approx(wall_of(100, 30, 200) - 330)
    assert found.p_busy_w["primes"][0] == pytest.approx(wall_of(700, 40, 200) - 940)
    assert set(found.p_busy_w) == {"primes", "stream"}  # GPUs idle in the paper's calibration
    assert found.bounds_w == (found.p_idle_w, found.p_busy_w["primes"][0])


def test_limits_of_the_meter_are_in_what_is_said_of_idle():
    points = [point(*rung, accuracy_w=3.0) for rung in LADDER]
    assert calibrate(points).p_idle_u_w == pytest.approx(3 / 3**0.5)


def test_two_points_give_bounds_and_no_model():
    found = calibrate([point(*LADDER[0]), point(*LADDER[4])])
    assert (found.accepted, found.best, found.affine, found.node) == (True, "bounds", None, None)


def test_group_that_one_point_lacks_is_left_out():
    points = ladder()
    short = OperatingPoint("fma", "fma", 1.0, {"cpu": 700.0, "gpu": 200.0}, {}, wall_of(700, 0, 200), 0.0)
    found = calibrate([*points, short])
    assert found.groups == ("cpu", "gpu")
    assert "dram" not in found.node.terms


def test_memory_that_never_moved_keeps_the_slope_that_is_expected():
    points = [point(name, level, cpu, 30, gpu) for name, level, cpu, _, gpu in LADDER]
    found = calibrate(points)
    assert found.reasons[0].startswith("PSQ-CAL-STILL: dram moved by 0.0 W only: its slope is what is expected")
    node = found.node
    place = node.terms.index("dram")
    assert node.coefficients[place] == pytest.approx(1.08, abs=0.05)
    assert node.covariance[place][place] ** 0.5 == pytest.approx(0.15, abs=0.05)


def test_gpus_that_were_never_loaded_get_no_node_model_and_the_reason():
    """A square of what was never seen grows without end: a line is not far off, and says that it was not measured."""
    found = calibrate([point(name, level, cpu, dram, 200) for name, level, cpu, dram, _ in LADDER])
    assert (found.best, found.node) == ("affine", None)
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("PSQ-CAL-STILL: gpu moved by 0.0 W only: what a GPU's watt costs")


def test_misfit_is_what_the_fit_leaves_and_chance_is_no_part_of_it():
    """Errors at points that were left out hold what coefficients are unsure of, which the covariance has already."""
    dice = np.random.default_rng(3)
    bent = [point(*rung, wall=wall_of(*rung[2:]) * (1 + dice.normal(0, 0.01))) for rung in LADDER]
    found = calibrate(bent).node
    left_w = np.array([one.wall_w - float(found.predict(one.components_w)[0]) for one in bent])
    free = len(LADDER) - np.count_nonzero(found.coefficients)
    assert found.misfit_w == pytest.approx(np.sqrt(np.sum(left_w**2) / free), rel=1e-6)
    known = [replace(one, wall_u_w=0.02 * one.wall_w) for one in bent]
    assert calibrate(known).node.misfit_w == 0


def test_loads_on_idle_gpus_bound_the_uncaptured_power_by_their_own_names():
    """What runs on GPUs is no part of the paper's bounds, whatever it is called; without any other it has to be."""
    both = OperatingPoint(
        "gpu 50 % + mix 50 %", "other", 0.5, {"cpu": 400.0, "dram": 60.0, "gpu": 700.0}, {}, 2000.0, 0.0
    )
    own = OperatingPoint("linpack", "other", None, {"cpu": 650.0, "dram": 60.0, "gpu": 200.0}, {}, 1850.0, 0.0)
    assert set(calibrate([*ladder(), both, own]).p_busy_w) == {"primes", "stream", "linpack"}
    gpus = [one for one in ladder() if one.kernel in ("idle", "gpu")]
    assert set(calibrate(gpus).p_busy_w) == {"gpu"}


def test_points_that_are_not_used_are_kept_and_change_nothing():
    wrong = point("fma 1", 1.0, 700, 40, 200, wall=9000, used=False, marks=("disturbed",))
    found, plain = calibrate([*ladder(), wrong]), calibrate(ladder())
    assert found.node == plain.node
    assert found.points[-1].marks == ("disturbed",)


def test_leave_one_out_takes_repeats_of_a_point_out_together():
    """Idle at start and end are one operating point: the second would tell the first's power."""
    bent = [point(*rung, wall=wall_of(*rung[2:]) + (40 if rung[0] == "idle" else 0)) for rung in LADDER]
    assert calibrate([*bent, bent[0]]).node.leave_one_out_max_pct > 2


# ---- noise, invariants -------------------------------------------------------------------------------------------


def test_covariance_is_what_the_coefficients_scatter_by():
    dice = np.random.default_rng(1)
    off = []
    for _ in range(25):
        walls = {rung[0]: 650 + 1.2 * sum(rung[2:]) + dice.normal(0, 2) for rung in LADDER}
        parts = [point(*rung, wall=walls[rung[0]]) for rung in LADDER]
        model = fit_model("affine", parts, ("cpu", "dram", "gpu"))
        watts, u_w = model.predict({"cpu": 400.0, "dram": 40.0, "gpu": 600.0})
        off.append((watts - (650 + 1.2 * 1040)) / u_w)
    assert 0.6 < np.std(off) < 1.6


@given(st.lists(st.floats(-5, 5), min_size=12, max_size=12), st.floats(0.5, 3.0))
def test_solution_is_never_negative_and_none_of_its_neighbours_is_better(noise, slope):
    dice = np.random.default_rng(0)
    rows = np.column_stack((np.ones(12), dice.uniform(0, 10, (12, 2))))
    values = rows @ np.array([3.0, slope, 0.0]) + np.array(noise)
    prior = Prior(np.zeros(3), np.full(3, np.inf), np.ones(3, np.bool_))
    found, _ = solve(rows, values, np.ones(12), prior)
    assert (found >= 0).all()
    cost = np.sum((values - rows @ found) ** 2)
    for place in range(3):
        for step in (-1e-3, 1e-3):
            beside = np.maximum(found + step * np.eye(3)[place], 0)
            assert np.sum((values - rows @ beside) ** 2) >= cost - 1e-9


@pytest.mark.parametrize("square", [0.0, 0.02, 0.04])  # up to one standard deviation above the boundary
def test_interval_holds_the_truth_where_a_term_is_held_at_the_boundary(square):
    """A line and a square that cannot be negative, told beyond the points; only fits that hold it at 0 are counted."""
    dice, x = np.random.default_rng(7), np.linspace(0, 10, 8)
    rows = np.column_stack((np.ones(8), x, x**2))
    truth, at = np.array([3.0, 1.0, square]), np.array([1.0, 12.0, 144.0])
    prior = Prior(np.zeros(3), np.full(3, np.inf), np.array([False, True, True]))
    held, narrow = [], []
    for _ in range(1500):
        found, covariance = solve(rows, rows @ truth + dice.standard_normal(8), np.ones(8), prior)
        if found[2] == 0:
            off = abs(float(at @ (found - truth)))
            held.append(off <= 1.96 * np.sqrt(at @ covariance @ at))
            line = np.linalg.inv(rows[:, :2].T @ rows[:, :2])  # as if 0 were known
            narrow.append(off <= 1.96 * np.sqrt(at[:2] @ line @ at[:2]))
    assert len(held) > 100
    assert np.mean(held) >= 0.95
    if square == 0.04:
        assert np.mean(narrow) < 0.7


def test_covariance_of_terms_that_points_do_not_tell_apart_is_of_those_that_are_not_held():
    rows = np.column_stack((np.ones(4), np.arange(4.0), np.arange(4.0)))  # two terms are one
    found, covariance = solve(
        rows, 2 + np.arange(4.0), np.ones(4), Prior(np.zeros(3), np.full(3, np.inf), np.ones(3, bool))
    )
    assert sum(found[1:]) == pytest.approx(1)
    assert np.isfinite(covariance).all()


# ---- other people's ----------------------------------------------------------------------------------------------


def test_threadripper_steps_give_what_plain_least_squares_gives():
    points = table("codecarbon/threadripper_all_cores.csv", "tapo_power", cpu="rapl_power")
    rows = np.array([[1.0, one.components_w["cpu"]] for one in points])
    plain = np.linalg.lstsq(rows, np.array([one.wall_w for one in points]), rcond=None)[0]
    found = calibrate(points, source="file")
    assert found.accepted
    assert found.affine.coefficients == pytest.approx(plain, rel=1e-9)
    assert found.affine.coefficients == pytest.approx((127.6, 0.929), rel=1e-3)  # as the data's README


def test_wall_column_that_does_not_follow_the_card_is_refused_with_its_reason():
    points = table("dos_gpu_power/L4.csv", "power_meter_active_power_w_mean", gpu="power_draw_watts_mean")
    found = calibrate(points, source="file")
    assert (found.accepted, found.best, found.affine) == (False, "none", None)
    assert found.reasons[0].startswith("PSQ-CAL-FLAT: the meter does not follow the load")
    assert "r -0.19" in found.reasons[0]


# ---- what must be refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "code"),
    [
        (ladder(lambda cpu, dram, gpu: 400.0), "PSQ-CAL-WIRING"),  # less than the parts
        (ladder(lambda cpu, dram, gpu: 3000 - cpu - gpu), "PSQ-CAL-FLAT"),  # falls as they rise
        (ladder(lambda cpu, dram, gpu: 900 + 4 * (cpu + dram + gpu)), "PSQ-CAL-FLAT"),  # several nodes behind it
        ([point(f"idle {n}", 0, 100 + n, 30, 200) for n in range(5)], "PSQ-CAL-FLAT"),  # nothing was loaded
        ([point("idle", 0, 100, 30, 200)], "PSQ-CAL-FEW"),
        (ladder(lambda cpu, dram, gpu: float("nan")), "PSQ-CAL-FEW"),
    ],
)
def test_points_that_tell_nothing_are_refused(points, code):
    found = calibrate(points)
    assert not found.accepted
    assert found.model is None
    assert found.reasons[0].startswith(code)


def test_points_that_had_not_settled_are_told_and_most_of_them_refused():
    points = ladder()
    some = calibrate([replace(points[0], marks=("unsteady",)), *points[1:]])
    assert some.accepted
    assert some.reasons[0].startswith("PSQ-CAL-UNSTEADY: 1 of 12 points had not settled (idle)")
    most = calibrate([replace(one, marks=("unsteady",)) for one in points[:7]] + points[7:])
    assert not most.accepted
    assert most.reasons[0].startswith("PSQ-CAL-UNSTEADY: 7 of 12 points had not settled: such powers")


def test_points_that_heat_held_back_are_fitted_and_told():
    points = ladder()
    found = calibrate([*points[:4], replace(points[4], marks=("throttled",)), *points[5:]])
    assert found.accepted
    assert found.node == calibrate(points).node
    assert found.reasons[0].startswith(
        f"PSQ-CAL-THROTTLED: 1 of 12 points were held back by heat ({points[4].name}): they are fitted"
    )


def test_idle_node_that_drifted_is_told():
    later = point("idle", 0.0, 100, 30, 200, wall=wall_of(100, 30, 200) + 12)
    reasons = calibrate([*ladder(), later]).reasons
    assert reasons[0].startswith("PSQ-CAL-DRIFT: idle, +12.0 W")


def test_rows_of_a_table_have_no_order_in_time_that_could_drift():
    later = point("idle", 0.0, 100, 30, 200, wall=wall_of(100, 30, 200) + 12)
    assert not [one for one in calibrate([*ladder(), later], source="file").reasons if "DRIFT" in one]


@pytest.mark.parametrize(("less_w", "chance_w", "told"), [(5.0, 0.0, True), (5.0, 3.0, False), (-5.0, 0.0, False)])
def test_load_whose_uncaptured_power_is_below_that_of_idle_is_told(less_w, chance_w, told):
    """Beyond chance: no supply or fan takes less under load."""
    idle_w = wall_of(100, 30, 200) - 330
    points = [replace(one, wall_u_w=chance_w) for one in ladder()]
    points = [replace(one, wall_w=one.sum_w + idle_w - less_w) if "stream 1" in one.name else one for one in points]
    reasons = [one for one in calibrate(points).reasons if one.startswith("PSQ-CAL-BUSY")]
    assert bool(reasons) is told
    if told:
        assert reasons[0].startswith("PSQ-CAL-BUSY: P_busy of stream is 5.0 W below P_idle")


def test_data_sheet_whose_bounds_are_the_wrong_way_round_is_told():
    assert (
        from_sheet(("cpu",), 811.0, {"primes": 783.0}).reasons[1].startswith("PSQ-CAL-BUSY: P_busy of primes is 28.0")
    )


def test_points_whose_chance_nobody_knows_are_told_and_fitted():
    points = [replace(ladder()[0], marks=unsure([0.1, math.nan])), *ladder()[1:]]
    found = calibrate(points)
    assert found.reasons[0].startswith("PSQ-CAL-UNSURE: of 1 of 12 points")
    assert found.node == calibrate(ladder()).node
    assert unsure([0.1, 0.2]) == ()


def test_bounds_of_a_data_sheet_are_labelled():
    found = calibrate([point(*LADDER[0]), point(*LADDER[4])], source="data sheet")
    assert found.reasons[0].startswith("PSQ-CAL-SHEET")


def test_no_point_at_all_is_an_error():
    with pytest.raises(errors.InvalidArgument, match="no operating point"):
        calibrate([])
