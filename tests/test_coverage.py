# SPDX-License-Identifier: Apache-2.0
"""A small, seeded deck of the validation campaign: intervals hold the truth about as often as they say."""

import random
from dataclasses import replace

import numpy as np
import pytest

from bench.coverage import deck, fit, loads, measured, misspecified, scenario, swept, table
from powersample.sim.profile import load_profile

SEEDS = range(500_000, 500_016)


@pytest.fixture(scope="module")
def matched():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "there", lambda: False)  # the same deck with and without the published traces
        return [row for name in deck.PROFILES for seed in SEEDS for row in deck.rows("matched", name, seed)]


def test_coverage_of_a_small_deck_is_what_intervals_say(matched):
    good = table.told(matched)
    assert len(good) >= 300
    assert len(good) >= 0.98 * len(matched)
    assert 0.93 <= table.cover(good) <= 0.995
    assert {row.field for row in good} == {"instant", "average", "usage", "module", "energy"}


def test_coverage_widths_are_of_use(matched):
    """Wide enough is easy: half of the intervals of 5 s and more are within 15 %."""
    long = [row.half_j / row.truth_j for row in table.told(matched) if row.decade == 2]
    assert np.median(long) < 0.15


def test_error_is_a_fraction_of_the_trapezoids(matched):
    assert table.against(table.comparable(matched), known=True) <= 0.4


def test_coverage_would_miss_if_intervals_were_a_quarter_as_wide(matched):
    """The deck can fail."""
    narrow = [replace(row, covered=abs(row.joules - row.truth_j) <= row.half_j / 4) for row in table.told(matched)]
    assert table.cover(narrow) < 0.9


def test_scenario_is_the_same_whenever_it_is_drawn(matched, monkeypatch):
    monkeypatch.setattr(measured, "there", lambda: False)
    again = deck.rows("matched", "h100", SEEDS[3])
    assert again == [row for row in matched if (row.profile, row.seed) == ("h100", SEEDS[3])]


def test_misspecified_boards_differ_from_what_the_analysis_is_told():
    drawn = [misspecified.draw(name, seed) for name in deck.PROFILES for seed in range(20)]
    listed = {words for some in misspecified.EXCEPTIONS.values() for words, *_ in some}
    assert {one.exception for one in drawn} == listed | {"wider spreads alone"}
    for one in drawn:
        plain = load_profile(one.profile.name)
        assert one.profile["spread.gain_sd"] == pytest.approx(1.5 * plain["spread.gain_sd"])
    eighteen = next(one for one in drawn if one.exception == "W of 18 ms")
    assert eighteen.profile["sensor.instant.window_ms"] == 18.0


@pytest.mark.skipif(not measured.there(), reason="the published traces (../shared/data) are not here")
def test_metered_load_is_a_truth_of_the_boards_own_range():
    shape_ns, level = measured.shape("square_3090")
    assert len(shape_ns) == len(level) + 1
    assert (level.min(), level.max()) == (0.0, 1.0)
    rows = deck.real(30, 5)
    assert len(rows) == 30 * 3
    assert table.cover(table.told(rows)) >= 0.9


def test_factors_are_the_quantile_of_errors_that_they_are_to_hold():
    """|error| / u uniform in 0 .. 1: k is 0.965, of the class and, with a profile twice as bad, of that."""
    count = 3000
    ratio = np.tile(np.linspace(0, 1, count // 3), 3)
    some = fit.Set(
        ("floor",), np.ones((1, count)), ratio, np.ones(count), np.zeros(count), np.repeat([0, 1, 2], count // 3),
        np.array(["a"] * count), np.zeros(count, np.bool_),
    )  # fmt: skip
    every = np.ones(count, np.bool_)
    assert fit.factors(some, {"floor": 1.0}, every) == pytest.approx([0.965] * 3, abs=0.01)
    bad = np.arange(count) % 10 == 0
    some = replace(some, error_j=np.where(bad, 2 * ratio, ratio), profile=np.where(bad, "b", "a"))
    assert fit.factors(some, {"floor": 1.0}, every) == pytest.approx([1.9] * 3, abs=0.05)


def test_factors_hold_loads_near_the_update_period_and_boards_that_are_not_as_told():
    """A tenth of the rows is near and errs four times as much, so do boards that are not as the table says."""
    count = 3000
    ratio, near = np.tile(np.linspace(0, 1, count // 3), 3), np.arange(count) % 10 == 0
    some = fit.Set(
        ("floor",), np.ones((1, count)), np.where(near, 4 * ratio, ratio), np.ones(count), np.zeros(count),
        np.repeat([0, 1, 2], count // 3), np.array(["a"] * count), near,
    )  # fmt: skip
    every, weights = np.ones(count, np.bool_), {"floor": 1.0}
    plain = fit.factors(some, weights, every)
    assert fit.factors(replace(some, bounded=True), weights, every) == pytest.approx([4 * 0.90] * 3, abs=0.05)
    assert max(plain) < 3.5
    wrong = replace(some, error_j=8 * ratio)
    assert fit.factors(some, weights, every, wrong) == pytest.approx([8 * 0.90] * 3, abs=0.05)
    few = replace(wrong, decade=np.full(count, 3))
    assert fit.factors(some, weights, every, few) == plain


def test_rapl_counter_is_a_scenario_of_its_own():
    found = [row for seed in range(12) for row in deck.rows("matched", scenario.RAPL, seed)]
    assert {row.row for row in found} == {"fast_counter"}
    assert np.mean([row.covered_pure for row in found]) >= 0.9
    assert np.median([abs(row.pure_j / row.truth_j - 1) for row in found]) < 0.01


def test_repeats_in_step_with_the_sensor_are_never_narrowed_and_others_not_wrongly():
    found = [one for name in ("a100", "h100") for seed in range(10) for one in swept.rows(name, seed)]
    out = [one for one in found if one.excluded]
    assert len(out) > 50
    assert not [one for one in out if one.spacing == "locked"]
    assert np.mean([one.off for one in out]) < 0.04
    assert np.median([one.narrowed for one in out]) < 0.7
    assert any(one.fooled for one in found)
    lines = table._swept(found)
    assert len(lines) == 2 + 6


def test_load_periods_are_told_only_of_loads_that_repeat():
    found = [loads.draw(random.Random(seed), 0, 3 * loads.S, 50_000, 300_000) for seed in range(60)]
    assert all((one.period_s is not None) == one.kind.startswith("square") for one in found)
    assert all(one.steps[-1][1] == 50_000 for one in found)


def test_sampled_meter_has_no_board():
    one = scenario.draw(scenario.SAMPLED, 1)
    assert list(one.trace.channels) == ["power.samples"]
    assert not one.trace.meta
