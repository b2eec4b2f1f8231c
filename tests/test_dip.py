# SPDX-License-Identifier: Apache-2.0
"""The dip against its definition, against known samples, and its p-values against chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.analysis.dip import MOST, dip_of, dip_test, p_value


def one_sided(x, low, high, mode):
    """Return the least value at the mode of a convex, rising function within [low, high] at x; None if none exists."""
    least = max([0.0, *low])
    for j in range(len(x)):
        if low[j] > high[j:].min() + 1e-12:
            return None
        for i in range(j):
            least = max(least, low[j] + (low[j] - high[i]) / (x[j] - x[i]) * (mode - x[j]))
            for k in range(j + 1, len(x)):
                if low[j] > high[i] + (high[k] - high[i]) * (x[j] - x[i]) / (x[k] - x[i]) + 1e-12:
                    return None
    return least


def reachable(x, distance):
    """Whether some unimodal distribution lies within `distance` of the sample's: the definition, mode by mode."""
    n = len(x)
    low, high = (np.arange(n) + 1) / n - distance, np.arange(n) / n + distance
    for mode in np.concatenate((x, (x[1:] + x[:-1]) / 2)):
        before, after = x < mode, x > mode
        left = one_sided(x[before], low[before], high[before], mode)
        right = one_sided(-x[after][::-1], 1 - high[after][::-1], 1 - low[after][::-1], -mode)
        if left is None or right is None:
            continue
        room = before.sum() / n + distance + 1e-12, after.sum() / n + distance + 1e-12
        if left <= room[0] and right <= room[1] and left + right <= 1 + 1e-12:
            return True
    return False


def by_definition(x):
    low, high = 0.0, 0.5
    for _ in range(26):
        middle = (low + high) / 2
        low, high = (low, middle) if reachable(x, middle) else (middle, high)
    return high


@pytest.mark.parametrize("seed", range(24))
def test_dip_is_the_least_distance_to_a_unimodal_distribution(seed):
    dice = np.random.default_rng(seed)
    n = int(dice.integers(4, 10))
    x = np.sort((dice.uniform, dice.normal, dice.exponential)[seed % 3](size=n))
    if seed % 4 == 0:
        x = np.sort(np.concatenate((dice.normal(0, 0.1, n // 2), dice.normal(1, 0.1, n - n // 2))))
    assert dip_of(x)[0] == pytest.approx(by_definition(x), abs=1e-6)


def test_equally_spaced_values_have_the_least_dip():
    for n in (4, 5, 17, 100):
        assert dip_of(np.arange(n, dtype=float))[0] == pytest.approx(1 / (2 * n))


def test_two_equal_clusters_have_nearly_the_greatest():
    x = np.concatenate((np.linspace(0, 1e-6, 500), np.linspace(1, 1 + 1e-6, 500)))
    assert dip_of(x)[0] == pytest.approx(0.25, abs=0.002)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=40, unique=True), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_dip_is_bounded_and_knows_no_units(values, scale, shift):
    x = np.sort(np.round(values, 3))
    x = x + 1e-3 * np.arange(len(x))  # no two alike
    value, first, last = dip_of(x)
    assert 1 / (2 * len(x)) - 1e-12 <= value <= 0.25 + 1e-12
    assert 0 <= first <= last < len(x)
    assert dip_of(scale * x + shift)[0] == pytest.approx(value, abs=1e-4)
    assert dip_of(-x[::-1])[0] == pytest.approx(value, abs=1e-9)


def test_p_of_uniform_samples_is_uniform_and_of_normal_ones_larger():
    """The uniform has the greatest dips of all unimodal distributions, so that p errs to the safe side."""
    dice = np.random.default_rng(5)
    uniform = np.array([dip_test(dice.uniform(size=73)).p for _ in range(300)])  # a size between the table's
    assert (uniform < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert (uniform < 0.5).mean() == pytest.approx(0.5, abs=0.09)
    normal = np.array([dip_test(dice.normal(size=73)).p for _ in range(100)])
    assert (normal < 0.05).mean() < 0.02


def test_p_falls_with_the_dip_and_stays_within_the_table():
    told = [p_value(dip, 60) for dip in np.linspace(1 / 120, 0.25, 30)]
    assert told == sorted(told, reverse=True)
    assert (told[0], told[-1]) == (1.0, pytest.approx(0.001))
    assert p_value(0.25, 10**6) == pytest.approx(0.001)


def test_power_in_two_clusters_is_found_and_its_modal_interval_told():
    dice = np.random.default_rng(6)
    both = np.concatenate((dice.normal(90, 5, 60), dice.normal(280, 10, 60)))
    found = dip_test(both)
    assert found.p <= 0.001
    assert found.dip > 0.1
    assert dip_test(dice.normal(150, 30, 120)).p > 0.05


def test_rounded_values_are_no_modes_of_their_own():
    dice = np.random.default_rng(7)
    rounded = np.round(dice.normal(150, 8, 900))
    assert dip_test(rounded).p > 0.05
    assert dip_test(np.where(dice.uniform(size=900) < 0.5, rounded, rounded + 90)).p <= 0.001


def test_what_has_no_dip_is_none_and_many_values_are_drawn_from():
    assert dip_test([1.0, 2.0, 3.0, np.nan]) is None
    assert dip_test(np.full(100, 5.0)) is None
    long = np.random.default_rng(8).uniform(size=30_000)
    assert dip_test(long) == dip_test(long)
    assert dip_test(long).n == MOST
