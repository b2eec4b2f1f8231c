# SPDX-License-Identifier: Apache-2.0
"""Load patterns, and the native load behind them."""

import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample import loads
from powersample._native import api_load
from powersample.errors import BadFormat, InputNotFound, InvalidArgument, OutOfMemory, StateError
from powersample.fit import Reference
from powersample.loads import EdgeLog, Pattern, chirp, from_file, parse, prbs, random_edges, square
from powersample.loads.cpus import parse_cpus

S = 1_000_000_000
SHORT = Pattern("three bursts", np.array([0.0, 0.01, 0.02, 0.03, 0.05, 0.06]))


@pytest.mark.parametrize(
    "pattern", [random_edges(30, seed=3), prbs(30), chirp(30), square(30, 0.7)], ids=lambda pattern: pattern.name
)
def test_pattern_fills_its_duration_and_is_on_half_the_time(pattern):
    assert 28 < pattern.duration_s <= 30
    assert pattern.duty == pytest.approx(0.5, abs=0.06)


def test_random_edges_are_the_same_for_the_same_seed_and_follow_the_meter():
    assert (random_edges(20, seed=1).edge_s == random_edges(20, seed=1).edge_s).all()
    assert not np.array_equal(random_edges(20, seed=1).edge_s, random_edges(20, seed=2).edge_s)
    holds = np.diff(random_edges(200, cycle_s=1.0).edge_s)
    assert 0.3 <= holds.min() < holds.max() <= 1.7


def test_prbs_has_the_balance_and_the_runs_of_a_maximum_length_sequence():
    """2^n - 1 chips of order n, once round: 2^(n-1) ones, as many changes, and moved it is like itself by -1 chip."""
    edges = prbs(127.0, chip_s=1.0).edge_s
    chips = np.searchsorted(edges, np.arange(127) + 0.5) % 2
    assert chips.sum() == 64
    assert np.count_nonzero(chips != np.roll(chips, 1)) == 64
    assert {int((2 * chips - 1) @ (2 * np.roll(chips, k) - 1)) for k in range(1, 127)} == {-1}


def test_chirp_goes_from_the_first_period_to_the_last():
    rises = np.diff(chirp(60, periods_s=(2.0, 0.2)).edge_s[::2])
    assert rises[0] == pytest.approx(2.0, rel=0.2)
    assert rises[-1] == pytest.approx(0.2, rel=0.05)
    assert (np.diff(rises) < 0).all()


def test_square_wave_says_that_it_is_ambiguous():
    assert square(10, 1.0).ambiguous
    assert not random_edges(10).ambiguous


@pytest.mark.parametrize(
    ("text", "name"), [("random", "random"), ("prbs", "PRBS"), ("chirp", "chirp"), ("square:0.5", "square")]
)
def test_parse_of_a_pattern_by_name(text, name):
    assert name in parse(text, 20.0).name


@pytest.mark.parametrize("text", ["sine", "square", "square:x", "square:0", "file:", ""])
def test_parse_of_what_is_no_pattern_names_those_there_are(text):
    with pytest.raises(InvalidArgument):
        parse(text, 20.0)


def test_pattern_from_a_file(tmp_path):
    path = tmp_path / "bursts.csv"
    path.write_text("on_s,off_s\n0, 0.5\n1.25,2\n", "utf-8")
    assert from_file(path).edge_s.tolist() == [0, 0.5, 1.25, 2]
    path.write_text("time,level\n0,1\n", "utf-8")
    with pytest.raises(BadFormat, match="header"):
        from_file(path)
    path.write_text("on_s,off_s\n0,x\n", "utf-8")
    with pytest.raises(BadFormat, match="line 2"):
        from_file(path)
    path.write_text("on_s,off_s\n2,1\n", "utf-8")
    with pytest.raises(InvalidArgument, match="rise"):
        from_file(path)
    with pytest.raises(InputNotFound):
        from_file(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("dtype", "struct"), [(api_load.BURST_DTYPE, "ps_load_burst"), (api_load.STEP_DTYPE, "ps_load_step")]
)
def test_dtype_is_the_header_s_struct(dtype, struct):
    fields = {name: (int(offset), part.itemsize) for name, (part, offset) in dtype.fields.items()}
    assert fields == api_load.layout(struct)


def test_names_of_kernels_and_vectors_are_the_header_s():
    assert tuple(api_load.KERNELS) == loads.KERNELS
    assert tuple(api_load.VECTORS) == loads.VECTORS


def test_pattern_is_cut_where_the_time_ends():
    pattern = loads.cut(loads.ladder([0.2, 0.4, 0.6], 2.0), 3.0)
    assert pattern.edge_s.tolist() == [0, 2, 2, 3]
    assert pattern.levels.tolist() == [0.2, 0.4]
    assert loads.cut(SHORT, 0.02).edge_s.tolist() == [0.0, 0.01]
    assert loads.cut(SHORT, 99.0).edge_s.tolist() == SHORT.edge_s.tolist()
    with pytest.raises(InvalidArgument, match="no burst"):
        loads.cut(SHORT, 0.0001)


@pytest.mark.parametrize(("text", "cpus"), [("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("5,4", [5, 4])])
def test_list_of_cpus_is_read_as_the_kernel_writes_it(text, cpus):
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,", "-1", "1-", "0.5"])
def test_what_is_no_list_of_cpus_is_refused(text):
    with pytest.raises(InvalidArgument, match="0-3,8"):
        parse_cpus(text)


def test_ladder_is_its_levels_without_a_pause():
    pattern = loads.ladder([0.0, 0.5, 1.0], 2.0)
    assert pattern.edge_s.tolist() == [0, 2, 2, 4, 4, 6]
    assert pattern.duty == pytest.approx(0.5)
    assert loads.steady(3.0).edge_s.tolist() == [0, 3]


@pytest.mark.parametrize("levels", [[], [1.5], [-0.1], [float("nan")]])
def test_ladder_of_what_are_no_levels_is_refused(levels):
    with pytest.raises(InvalidArgument, match="level"):
        loads.ladder(levels, 1.0)


def test_levels_must_be_as_many_as_spans_and_joined_spans_need_them():
    with pytest.raises(InvalidArgument, match="each of its spans"):
        Pattern("two", np.array([0.0, 1.0, 2.0, 3.0]), levels=np.ones(1))
    with pytest.raises(InvalidArgument, match="rise"):
        Pattern("joined", np.array([0.0, 1.0, 1.0, 3.0]))


@pytest.mark.parametrize("kernel", ["primes", "fma", "stream", "mix"])
def test_native_load_keeps_its_levels_by_cpu_time(kernel):
    """What a thread was robbed of is made up for, if there is a CPU to spare in one of a few tries."""
    for _ in range(5):
        log = loads.run(loads.ladder([0.2, 0.0], 0.1), kernel=kernel, cpus=None, period_s=0.02, stream_bytes=1 << 20)
        asked, rest = log.reached
        assert (asked.level, rest.level) == (0.2, 0.0)
        assert asked.duty < 0.25
        if asked.duty > 0.19:
            break
    else:
        pytest.fail(f"reached {asked.duty}")
    assert rest.duty < 0.1
    assert rest.bursts == 0
    assert log.wrong == 0
    assert set(log.step) == {0}
    assert len(log.cpu_ns) == len(log) == asked.bursts
    assert (log.kernel, bool(log.vectors)) == (kernel, kernel in ("fma", "mix"))


def test_level_multiplies_the_pattern_s_own():
    log = loads.run(loads.ladder([1.0, 0.5], 0.02), level=0.5, cpus=None, period_s=0.01)
    assert [one.level for one in log.reached] == [0.5, 0.25]


def test_idle_load_is_threads_that_sleep():
    log = loads.run(loads.steady(0.02), kernel="idle", cpus=None, threads=2)
    assert len(log) == 0
    assert log.reached[0].threads == 2
    assert log.reached[0].level == 0


def test_step_of_a_load_that_was_stopped_ends_there():
    asked = iter((True, True, True))
    log = loads.run(loads.ladder([0.1, 0.1], 3600.0), cpus=None, stop=lambda: next(asked))
    assert len(log.reached) == 1
    assert log.reached[0].duration_s < 30


def test_step_that_was_not_reached_is_told():
    step = loads.Step(0, 2 * S, 0.5, 2, int(1.8 * S))
    assert step.duty == pytest.approx(0.45)
    assert "45.0% of CPU time for 50.0%" in logged([0], [100], [0], reached=(step,)).trouble[0]
    assert logged([0], [100], [0], reached=(loads.Step(0, S, 0.5, 2, 0),)).trouble == []


def test_native_load_logs_every_burst_of_every_cpu():
    cpus = sorted(os.sched_getaffinity(0))[:2]
    log = loads.run(SHORT, cpus=cpus)
    assert len(log) + log.missed == 3 * len(cpus)
    assert set(log.thread) <= set(range(len(cpus)))
    assert (log.late_ns >= 0).all()
    assert (log.fall_ns > log.rise_ns).all()
    assert log.wrong == log.unpinned == 0
    assert "three bursts" in log.name


def test_native_load_stops_when_it_is_told_to():
    asked = iter((False, True, True, True))
    began = time.monotonic()
    log = loads.run(Pattern("an hour", np.array([0.0, 3600.0])), cpus=None, stop=lambda: next(asked))
    assert time.monotonic() - began < 30
    assert len(log) == 1


def test_native_load_refuses_what_it_cannot_do():
    with pytest.raises(InvalidArgument, match="CPUs"):
        loads.run(SHORT, cpus="both")
    with pytest.raises(InvalidArgument, match="may use"):
        loads.run(SHORT, cpus=[4000])
    with pytest.raises(InvalidArgument, match="primes, fma"):
        loads.run(SHORT, kernel="sieve")
    with pytest.raises(InvalidArgument, match="level"):
        loads.run(SHORT, level=2)
    with pytest.raises(InvalidArgument, match="period"):
        loads.run(SHORT, period_s=0)
    with pytest.raises(InvalidArgument, match="this CPU has no plain"):
        loads.run(SHORT, kernel="fma", vectors="plain")
    with pytest.raises(OutOfMemory, match="fewer threads"):
        loads.run(SHORT, kernel="stream", cpus=None, stream_bytes=1 << 50)
    with pytest.raises(InvalidArgument, match="threads"):
        loads.run(SHORT, cpus=None, threads=0)
    with api_load.Load(np.array([0, 1000]), threads=1) as load:
        with pytest.raises(StateError):
            load.log()
        load.start(time.monotonic_ns())
        with pytest.raises(StateError):
            load.start(time.monotonic_ns())


def logged(rises, falls, threads, **more):
    rises, falls = np.array(rises, np.int64), np.array(falls, np.int64)
    return EdgeLog("made up", rises, falls, np.array(threads), np.zeros(len(rises), np.int64), **more)


def test_log_as_steps_counts_the_threads_that_work():
    t_ns, level = logged([10, 12, 30], [20, 25, 40], [0, 1, 0]).steps(rest_ns=5)
    assert t_ns.tolist() == [5, 10, 12, 20, 25, 30, 40, 45]
    assert level.tolist() == [0, 1, 2, 1, 0, 1, 0]
    with pytest.raises(InvalidArgument, match="never ran"):
        logged([], [], []).steps()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 3)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_reference_of_a_log_has_the_log_s_whole_work(bursts):
    """Thread nanoseconds: none is lost where bursts overlap or touch."""
    log = logged(*zip(*[(rise, rise + length, thread) for rise, length, thread in bursts], strict=True))
    reference = Reference.of_edges(log)
    assert float(reference.power_w @ np.diff(reference.t_ns)) == sum(length for _, length, _ in bursts)
    assert reference.power_w.min() == 0


def test_log_tells_its_troubles():
    assert logged([0], [100], [0]).trouble == []
    told = " ".join(logged([0], [100], [0], missed=2, wrong=3, stalled_ns=50, unpinned=1).trouble)
    assert all(word in told for word in ("2 bursts", "3 rounds", "1 threads", "50%"))


def test_log_whose_bursts_end_before_they_begin_is_refused():
    with pytest.raises(InvalidArgument, match="before it begins"):
        logged([10], [5], [0])
