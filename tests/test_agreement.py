# SPDX-License-Identifier: Apache-2.0
"""Agreement statistics against closed forms and known tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.analysis.agreement import agreement


def test_agreement_of_a_constant_offset_hides_in_correlation_and_shows_as_bias():
    """The paper's lesson: Pearson 1 says nothing about an offset."""
    reference = np.array([10.0, 20.0, 35.0, 50.0])
    result = agreement(reference + 7.0, reference)
    assert result.pearson == pytest.approx(1.0)
    assert result.spearman == pytest.approx(1.0)
    assert result.bias == pytest.approx(7.0)
    assert result.limits == pytest.approx((7.0, 7.0))


def test_agreement_pearson_of_known_values():
    # By hand: x = 1..5, y = 2, 1, 4, 3, 5 -> r = 8 / 10
    assert agreement([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]).pearson == pytest.approx(0.8)


def test_agreement_spearman_is_one_for_any_monotonic_relation():
    x = np.arange(1.0, 20.0)
    assert agreement(np.exp(x), x).spearman == pytest.approx(1.0)


def test_agreement_spearman_shares_ranks_among_ties():
    # ranks 1.5, 1.5, 3 against 1, 2, 3: r = 1.5 / sqrt(1.5 * 2)
    assert agreement([5, 5, 9], [1, 2, 3]).spearman == pytest.approx(1.5 / math.sqrt(3.0))


def test_agreement_ks_of_disjoint_samples_is_small_and_of_equal_ones_is_one():
    x = np.linspace(0, 1, 50)
    assert agreement(x, x).ks_p == 1.0
    assert agreement(x + 5, x).ks_p < 1e-9


def test_agreement_ks_at_the_five_percent_critical_distance():
    """D = 1.358 sqrt(2/n) is the textbook 5 % point for two samples of n."""
    n = 1000
    shift = round(1.358 * math.sqrt(2 / n) * n)
    assert agreement(np.arange(n) + shift, np.arange(n)).ks_p == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize("measured", [[], [1.0], [1.0, 2.0], [math.nan, 1.0, 2.0]])
def test_agreement_of_fewer_than_three_pairs_is_missing(measured):
    result = agreement(measured, measured)
    assert (result.pearson, result.spearman, result.ks_p, result.limits) == (None, None, None, None)


def test_agreement_of_a_constant_side_has_no_correlation():
    result = agreement([3.0, 3.0, 3.0], [1.0, 2.0, 3.0])
    assert result.pearson is None
    assert result.spearman is None
    assert result.bias == pytest.approx(1.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=50), st.floats(0.1, 10), st.floats(-100, 100))
def test_agreement_statistics_stay_in_range(values, gain, offset):
    result = agreement(np.array(values) * gain + offset, values)
    for number in (result.pearson, result.spearman):
        assert number is None or -1 - 1e-9 <= number <= 1 + 1e-9
    assert 0 <= result.ks_p <= 1
