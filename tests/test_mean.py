# SPDX-License-Identifier: Apache-2.0
"""Means of repeats and running sums: what number shrinks, what it cannot, and whether the truth is inside."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample.analysis import RunningEnergy, add, mean_energy
from powersample.analysis.evidence import student_95
from powersample.errors import InvalidArgument
from powersample.model import BudgetTerm, Energy


def energy(joules, own_j=0.0, gain_j=0.0, verdict="good", **more):
    half_j = math.hypot(own_j, gain_j)
    budget = (BudgetTerm("gain", "gain", gain_j), BudgetTerm("edge alignment", "standard", own_j))
    ends = (None, None) if joules is None else (joules - half_j, joules + half_j)
    reasons = more.pop("reasons", ())
    return Energy(joules, *ends, "counter difference", budget, verdict, reasons, "gpu0.energy", "GPU-0", "gpu", **more)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622)])
def test_student_of_few_repeats_is_the_tables(freedom, quantile):
    assert student_95(freedom) == pytest.approx(quantile, rel=0.01)


def test_mean_of_windows_that_were_marked_at_once_is_no_surer_than_of_one():
    """Four processes' marks of the same 16 works: 64 windows, 16 measurements."""
    repeats = [energy(100.0, own_j=4.0, gain_j=3.0)] * 64
    assert mean_energy(repeats, apart=16).high_j == pytest.approx(100 + math.hypot(3.0, 4.0 / 4))
    assert mean_energy(repeats, apart=1).high_j == pytest.approx(100 + math.hypot(3.0, 4.0))


@pytest.mark.parametrize(
    ("verdicts", "told"), [(("good", "good"), "good"), (("good", "unusable"), "unusable"), (("good", "poor"), "good"),
                           (("poor", "poor"), "poor")],
)  # fmt: skip
def test_sum_of_what_a_reset_voided_is_unusable_and_of_some_short_pieces_is_not(verdicts, told):
    pieces = [energy(100.0, own_j=1.0, verdict=one, reasons=(f"PSQ-{one.upper()} why",)) for one in verdicts]
    found, running = add(pieces), RunningEnergy()
    for piece in pieces:
        running.add(piece, 1.0)
    assert (found.verdict, running.cap) == (told, told)
    assert {reason.split()[0] for reason in found.reasons} == {f"PSQ-{one.upper()}" for one in verdicts}


def test_sum_of_a_meters_energies_has_its_limits_of_error_in_full():
    limits = (BudgetTerm("meter's limits of error", "gain", 3.0), BudgetTerm("clock fit", "standard", 1.0))
    wall = replace(energy(100.0), budget=limits, low_j=100 - math.hypot(3, 1), high_j=100 + math.hypot(3, 1))
    assert add([wall] * 4).high_j == pytest.approx(400 + math.hypot(12.0, 4.0))
    assert mean_energy([wall] * 4).high_j == pytest.approx(100 + math.hypot(3.0, 1.0))


def test_mean_of_equal_repeats_keeps_the_gain_and_shrinks_chance_by_the_root_of_their_number():
    found = mean_energy([energy(100.0, own_j=4.0, gain_j=3.0)] * 16)
    assert found.high_j - found.joules == pytest.approx(math.hypot(3.0, 4.0 / 4))


def test_mean_of_scattered_repeats_has_students_interval():
    values = (98.0, 100.0, 102.0)
    found = mean_energy([energy(one, own_j=0.1, gain_j=3.0) for one in values])
    assert found.spread_j == pytest.approx(2.0)
    assert found.joules - found.low_j == pytest.approx(math.hypot(3.0, 4.3027 * 2 / math.sqrt(3)), rel=1e-3)


def test_mean_keeps_what_is_alike_in_every_repeat_though_each_takes_it_for_chance():
    lagging = replace(energy(100.0), budget=(BudgetTerm("averaging lag at edges", "standard", 5.0),), high_j=105.0)
    found = mean_energy([lagging] * 100)
    assert found.high_j - found.joules == pytest.approx(5.0)


def test_mean_of_one_is_that_energy_and_has_no_spread():
    one = energy(100.0, own_j=4.0, gain_j=3.0, verdict="fair")
    found = mean_energy([one])
    assert (found.low_j, found.high_j, found.verdict, found.spread_j) == (95.0, 105.0, "fair", None)


def test_mean_leaves_out_what_cannot_be_told_and_says_so():
    lost = replace(energy(None), reasons=("PSQ-STUCK the counter did not move",))
    found = mean_energy([energy(100.0), lost, energy(100.0)])
    assert (found.joules, found.runs) == (100.0, 2)
    assert found.reasons == lost.reasons
    nothing = mean_energy([lost])
    assert (nothing.joules, nothing.low_j, nothing.verdict) == (None, None, "unusable")


def test_mean_with_a_repeat_without_interval_has_none():
    found = mean_energy([energy(100.0), replace(energy(101.0), low_j=None, high_j=None)])
    assert (found.joules, found.low_j, found.verdict) == (100.5, None, "unrated")
    assert found.spread_j is not None


def test_mean_is_no_better_than_what_gaps_leave_of_its_worst_repeat():
    found = mean_energy([energy(100.0, own_j=1.0)] * 9 + [energy(100.0, own_j=1.0, verdict="poor")])
    assert found.verdict == "poor"
    wide = mean_energy([energy(100.0, own_j=20.0, verdict="poor")] * 100)
    assert wide.verdict == "good"  # poor by chance alone, and that is gone


def test_mean_of_two_devices_is_refused():
    with pytest.raises(InvalidArgument, match="one device"):
        mean_energy([energy(1.0), replace(energy(1.0), device="GPU-1")])
    with pytest.raises(InvalidArgument, match="one device"):
        mean_energy([])


@pytest.mark.parametrize("count", [2, 3, 5, 20])
@pytest.mark.parametrize(("work_w", "chance_w", "gain"), [(0.0, 1.0, 0.0), (1.0, 0.2, 0.0), (0.3, 0.3, 0.02)])
def test_mean_interval_holds_the_truth_95_times_in_100(count, work_w, chance_w, gain):
    """Boards with a gain of their own measure works that differ from run to run, 1000 times."""
    rng, trials, truth_j = np.random.default_rng(count), 1000, 100.0
    board = 1 + gain * rng.standard_normal((trials, 1))
    runs = truth_j + work_w * rng.standard_normal((trials, count))
    seen = board * runs + chance_w * rng.standard_normal((trials, count))
    inside = 0
    for row in seen:
        found = mean_energy([energy(float(one), 1.96 * chance_w, 1.96 * gain * float(one)) for one in row])
        inside += found.low_j <= truth_j <= found.high_j
    assert inside / trials >= 0.93


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20))
def test_running_sum_adds_gains_and_squares_chance_whatever_comes(parts):
    total = RunningEnergy()
    for joules, own_j, gain_j in parts:
        total.add(energy(joules, own_j, gain_j), 1.0)
    own = math.hypot(*(one for _, one, _ in parts))
    assert total.joules == pytest.approx(sum(one for one, _, _ in parts))
    assert total.half_j == pytest.approx(math.hypot(own, sum(one for _, _, one in parts)))
    assert total.seconds == len(parts)


def test_running_sum_keeps_apart_what_could_not_be_told():
    total = RunningEnergy()
    assert total.half_j is None
    total.add(energy(5.0, 1.0), 1.0)
    total.add(energy(None), 2.0)
    assert (total.joules, total.seconds, total.untold_s, total.half_j) == (5.0, 1.0, 2.0, 1.0)
    total.add(replace(energy(5.0), low_j=None, high_j=None), 1.0)
    assert total.half_j is None
