# SPDX-License-Identifier: Apache-2.0
"""A method's figures against closed forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.experiments.baselines import Account
from powersample.experiments.figures import changes, figures, gaps_ms, method_json, published_few, updates_seen
from powersample.experiments.method import Cost, Lap, Method, sampler_cpu_s
from powersample.model import LaneStats, Window
from tests import traces

MS = 1_000_000
S = 1000 * MS
instants = st.lists(st.integers(0, 10 * S), unique=True, max_size=60).map(lambda t: np.array(sorted(t), np.int64))


def lap(epoch_s=(1.0, 1.0, 2.0), watts=(100.0, 200.0, 300.0)):
    ends = np.cumsum(epoch_s)
    windows = [Window(f"epoch {i}", round((e - s) * S), round(e * S)) for i, (e, s) in enumerate(zip(ends, epoch_s))]  # noqa: B905
    truth_j = np.array(epoch_s) * watts
    return Lap(Window("run", 0, round(ends[-1] * S)), tuple(windows), truth_j, float(truth_j.sum()), None, epoch_s)


def method(of, *, factor=1.0, offset_w=0.0, every_ms=100, published_ms=100, interval=None, cpu_s=None):
    """A method that polls on a grid and is off by a factor and a power."""
    t_ns = np.arange(every_ms * MS, of.run.end_ns + 1, every_ms * MS)
    joules = [j * factor + offset_w * w.duration_s for j, w in zip(of.truth_j, of.epochs, strict=True)]
    accounts = [Account(j) if interval is None else Account(j, j - interval, j + interval, "fair") for j in joules]
    published_ns = None if published_ms is None else np.arange(published_ms * MS, of.run.end_ns + 1, published_ms * MS)
    return Method(
        "some", "PowerUsage", 10.0, lap=of, t_ns=t_ns, watts=np.arange(len(t_ns), dtype=float),
        accounts=tuple(accounts), run_j=sum(joules), published_ns=published_ns, cost=Cost(cpu_s),
    )  # fmt: skip


@given(instants, instants)
def test_updates_seen_are_no_more_than_were_published_or_polled(polls, published):
    seen = updates_seen(polls, published)
    assert 0 <= seen <= min(len(polls), len(published))


@given(instants.filter(len))
def test_updates_seen_by_a_poll_at_each_publication_are_all(published):
    assert updates_seen(published, published) == len(published)


@given(st.integers(1, 200), st.integers(0, 10))
def test_updates_seen_do_not_grow_with_more_polls_of_the_same_update(polls, shift):
    """More polls of a 100 ms sensor are no information."""
    assert updates_seen(np.linspace(100, 199, polls).astype(np.int64) + shift % 1, np.array([100, 200])) == 1


def test_updates_seen_before_the_first_publication_are_none():
    assert updates_seen(np.array([1, 2, 3]), np.array([10])) == 0


def test_changes_count_values_that_differ_from_the_one_before():
    assert changes(np.array([1.0, 1.0, 2.0, 2.0, 1.0])) == 3
    assert changes(np.empty(0)) == 0


def test_gaps_include_what_lies_before_the_first_and_after_the_last_reading():
    """A method that died half-way must not look gapless."""
    assert gaps_ms(np.array([100 * MS, 200 * MS]), Window("run", 0, S)).tolist() == [100.0, 100.0, 800.0]
    assert gaps_ms(np.empty(0, np.int64), Window("run", 0, S)).tolist() == [1000.0]


def test_figures_of_an_exact_method_have_no_error():
    found = figures(method(lap(), cpu_s=0.04))
    assert (found.polls, found.updates_seen, found.updates_published) == (40, 40, 40)
    assert found.error_pct.max == pytest.approx(0.0, abs=1e-9)
    assert found.run_error_pct == pytest.approx(0.0, abs=1e-9)
    assert found.achieved_hz == pytest.approx(10.0)
    assert found.cpu_us_per_poll == pytest.approx(1000.0)
    assert found.power.pearson == pytest.approx(1.0)


def test_figures_of_changes_give_no_cost_of_a_poll():
    """Zeus polls twenty times a second and keeps ten changes: CPU time by those would be no poll's."""
    found = figures(replace(method(lap(), cpu_s=0.04), changes_only=True))
    assert (found.polls, found.cpu_us_per_poll) == (40, None)


def test_figures_of_a_constant_factor_show_it_in_every_error_and_in_no_correlation():
    found = figures(method(lap(), factor=0.9))
    assert found.error_pct.median == pytest.approx(10.0)
    assert found.run_error_pct == pytest.approx(-10.0)
    assert [(one.seconds, one.epochs) for one in found.by_length] == [(1.0, 2), (2.0, 1)]
    assert found.energy.pearson == pytest.approx(1.0)


def test_figures_of_a_constant_offset_show_it_as_bias_that_correlation_hides():
    found = figures(method(lap(), offset_w=25.0))
    assert found.power.pearson == pytest.approx(1.0)
    assert found.power.bias == pytest.approx(25.0)
    assert found.power.limits == pytest.approx((25.0, 25.0))


def test_figures_count_epochs_with_few_polls_and_with_few_updates_apart():
    """1 kHz of a 100 ms sensor: hundreds of polls, and no more than 11 updates in a second."""
    fast = figures(method(lap(), every_ms=1, published_ms=110))
    assert (fast.few_polls, fast.few_updates) == (0, 2)
    slow = figures(method(lap(), every_ms=150, published_ms=110))
    assert (slow.few_polls, slow.few_updates) == (2, 2)


def test_figures_without_known_publications_count_changes_and_admit_no_total():
    found = figures(method(lap(), published_ms=None))
    assert (found.updates_seen, found.updates_published) == (40, None)
    assert published_few(method(lap(), published_ms=None)) is None


@pytest.mark.parametrize(("factor", "held"), [(1.0, 3), (1.2, 0)])
def test_figures_count_the_truths_that_an_interval_holds(factor, held):
    found = figures(method(lap(), factor=factor, interval=10.0))
    assert (found.held.rated, found.held.held) == (3, held)


def test_figures_count_the_interval_of_an_epoch_of_0_j_too():
    """An account of 0 J with an interval is a statement, and may be wrong; of 0 J there are only no per cent."""
    of = lap(watts=(100.0, 0.0, 300.0))
    accounts = (Account(100.0, 90.0, 110.0), Account(0.0, 0.0, 5.0), Account(0.0, 0.0, 5.0))
    held = figures(Method("some", "x", 1.0, lap=of, accounts=accounts, run_j=1.0)).held
    assert (held.rated, held.held, held.half_pct) == (3, 2, pytest.approx(10.0))
    nothing = figures(Method("some", "x", 1.0, lap=of, accounts=accounts[1:2] * 3, run_j=0.0)).held
    assert (nothing.rated, nothing.held, nothing.half_pct) == (3, 1, None)


def test_figures_of_a_method_that_read_nothing_are_missing_and_not_zero():
    of = lap()
    nothing = Method(
        "some", "x", None, lap=of, accounts=(Account(None),) * 3, run_j=None, published_ns=np.array([S], np.int64)
    )
    data = method_json(nothing)
    json.dumps(data, allow_nan=False)
    assert data["epoch_energy_j"] == [None, None, None]
    assert data["epoch_error_pct"] == {"median": None, "p95": None, "max": None}
    assert [one["seconds"] for one in data["epoch_error_by_length_pct"]] == [1.0, 2.0]
    assert (data["run_error_pct"], data["pearson"], data["bias_w"], data["cpu_us_per_poll"]) == (None,) * 4
    assert data["gap_max_ms"] == 4000.0
    assert (data["updates_seen"], data["updates_published"]) == (0, 1)


def test_method_json_of_an_unknown_truth_is_strict_json():
    of = lap()
    unknown = Lap(of.run, of.epochs, np.full(3, np.nan), float("nan"), "this board has no gpu0.energy")
    data = method_json(Method("some", "x", 1.0, lap=unknown, accounts=(Account(1.0),) * 3, run_j=3.0))
    json.dumps(data, allow_nan=False)
    assert data["run_truth_j"] is None
    assert data["truth_void"] == "this board has no gpu0.energy"


def test_method_json_of_one_that_could_not_run_has_its_reason_and_no_figures():
    data = method_json(Method("some", "x", None, reason="there is none"))
    assert (data["available"], data["reason"]) == (False, "there is none")
    assert "polls" not in data


@pytest.mark.parametrize(
    ("lanes_ns", "drain_ns", "cpu_s"),
    [
        ((2 * S, 3 * S), 1 * S, 6.0),  # a recording of a GPU and a CPU has two lanes, and what empties them
        ((2 * S,), 0, 2.0),
        ((2 * S, -1), 1 * S, None),
        ((2 * S, None), 1 * S, None),
        ((2 * S,), None, None),
    ],
)
def test_sampler_is_charged_every_lane_and_the_drain(lanes_ns, drain_ns, cpu_s):
    lanes = tuple(LaneStats(f"lane{i}", cpu_ns=cpu_ns) for i, cpu_ns in enumerate(lanes_ns))
    end = {} if drain_ns is None else {"spool_end": {"cpu_ns": drain_ns}}
    assert sampler_cpu_s(traces.node(lanes=lanes, meta=end)) == cpu_s
