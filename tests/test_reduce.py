# SPDX-License-Identifier: Apache-2.0
"""What is drawn of ten million readings: nothing that stands out may be missing, and nothing may be made up."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.report.reduce import Reducer

MS = 1_000_000


@st.composite
def curves(draw):
    """Points at uneven spacings, some broken off from the one before, in pieces; few levels, so that equals are met."""
    spacing = draw(st.lists(st.integers(1, 5 * MS) | st.integers(10**9, 10**12), min_size=1, max_size=300))
    t_ns = np.cumsum(np.array(spacing, np.int64)) + draw(st.integers(-(10**15), 10**15))
    value = np.array(draw(st.lists(st.integers(0, 9), min_size=len(t_ns), max_size=len(t_ns))), float)
    broken = np.array(draw(st.lists(st.booleans(), min_size=len(t_ns), max_size=len(t_ns))))
    cuts = draw(st.lists(st.integers(int(t_ns[0]) - 9, int(t_ns[-1]) + 9), max_size=6))
    ends = sorted(draw(st.lists(st.integers(0, len(t_ns)), max_size=5)))
    return t_ns, value, broken, np.array(sorted(cuts), np.int64), [0, *ends, len(t_ns)]


def reduced(curve, most, pieces=True):
    t_ns, value, broken, cuts, ends = curve
    reducer = Reducer(most, cuts)
    for first, last in pairwise(ends) if pieces else [(0, len(t_ns))]:
        reducer.add(t_ns[first:last], value[first:last], broken[first:last])
    return reducer.close()


@given(curves(), st.integers(4, 60))
def test_reduced_points_are_points_of_the_curve_in_their_order(curve, most):
    t_ns, value, *_ = curve
    found = reduced(curve, most)
    assert (np.diff(found.t_ns) > 0).all()
    at = np.searchsorted(t_ns, found.t_ns)
    assert (t_ns[at] == found.t_ns).all()
    assert (value[at] == found.value).all()
    assert found.t_ns[0] == t_ns[0]
    assert found.t_ns[-1] == t_ns[-1]


@given(curves(), st.integers(4, 60))
def test_reduced_curve_has_every_extreme_of_every_window_and_of_the_whole(curve, most):
    t_ns, value, _, cuts, _ = curve
    found = reduced(curve, most)
    edges = [t_ns[0], *cuts, t_ns[-1] + 1]
    for i, start in enumerate(edges):
        for end in edges[i + 1 :]:
            inside = value[(t_ns >= start) & (t_ns < end)]
            kept = found.value[(found.t_ns >= start) & (found.t_ns < end)]
            if len(inside):
                assert (kept.min(), kept.max()) == (inside.min(), inside.max())


@given(curves(), st.integers(4, 60))
def test_gap_longer_than_a_bin_stays_a_gap_and_none_is_made_up(curve, most):
    t_ns, _, broken, *_ = curve
    found = reduced(curve, most)
    spacing = np.diff(t_ns)
    at = np.searchsorted(t_ns, found.t_ns)
    assert not (found.broken & ~broken[at]).any()
    for gap in np.flatnonzero(broken[1:] & (spacing > found.width_ns)):
        here = np.searchsorted(found.t_ns, t_ns[gap + 1])
        assert found.t_ns[here] == t_ns[gap + 1]
        assert found.t_ns[here - 1] == t_ns[gap]
        assert found.broken[here]


@given(curves(), st.integers(4, 60))
def test_pieces_give_what_the_whole_gives(curve, most):
    """At equal widths; where the pieces were cut may decide about one more halving of the number of points."""
    whole, pieces = reduced(curve, most, pieces=False), reduced(curve, most)
    if whole.width_ns == pieces.width_ns:
        assert (whole.t_ns == pieces.t_ns).all()
        assert (whole.broken == pieces.broken).all()


def test_few_points_are_all_there():
    t_ns = np.arange(100, dtype=np.int64) * MS
    reducer = Reducer(100)
    reducer.add(t_ns, np.arange(100.0), np.zeros(100, bool))
    found = reducer.close()
    assert len(found) == 100
    assert found.width_ns == 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_point_and_one_point(count):
    reducer = Reducer(4)
    reducer.add(np.arange(count, dtype=np.int64), np.ones(count), np.zeros(count, bool))
    assert len(reducer.close()) == count


def test_million_points_come_to_what_was_asked_and_one_spike_is_among_them():
    t_ns = np.arange(10**6, dtype=np.int64) * MS
    value = np.sin(np.arange(10**6) / 1e3)
    value[654_321] = 99.0
    reducer = Reducer(5000)
    for first in range(0, 10**6, 131_072):
        part = slice(first, first + 131_072)
        reducer.add(t_ns[part], value[part], np.zeros(len(t_ns[part]), bool))
    found = reducer.close()
    assert 2000 < len(found) <= 5000
    assert found.value.max() == 99.0
    assert found.t_ns[found.value.argmax()] == 654_321 * MS
