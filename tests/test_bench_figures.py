# SPDX-License-Identifier: Apache-2.0
"""The arithmetic that judges the benchmarks' figures: a wrong one would praise or blame for years."""

import json

import numpy as np
import pytest

from bench import __main__ as command
from bench import beside, methods, table, training
from bench.figure import Bar, Figure
from bench.sustained import Taken


def taken(t_us, *, asked_hz=1000.0, seconds=0.01, values=None, cpu_s=0.001, **more):
    t_ns = np.array(t_us, np.int64) * 1000
    return Taken(asked_hz, seconds, t_ns, np.zeros(len(t_ns)) if values is None else np.array(values), cpu_s, **more)


@pytest.mark.parametrize(
    ("bar", "values", "verdict"),
    [
        (Bar(">=", 2.5), [1.0, 2.5, 9.0], "met"),  # the median counts, never an extreme
        (Bar(">=", 2.5), [2.4, 2.4, 90.0], "missed"),
        (Bar("<=", 2.5), [2.5, 2.5, 9.0], "met"),
        (Bar("<=", 2.5), [0.1, 2.6, 2.6], "missed"),
        (None, [1.0], "reported"),
        (Bar(">=", 1), [], "not measured"),
    ],
)
def test_verdict_is_of_the_median(bar, values, verdict):
    figure = Figure("key", "what", "ratio", bar, values, ["why"], skipped=None if values else "no device")
    assert figure.verdict == verdict
    row = figure.as_json()
    assert row["count"] == len(values)
    assert row["min"] == min(values, default=None)
    assert ("no device" in row["notes"]) == (not values)


def test_gaps_are_counted_by_their_length_not_by_empty_bins():
    """Readings that are late by turns leave bins empty and lose nothing."""
    late = taken([0, 1900, 2000, 3900, 4000])
    assert late.as_json()["gaps_over_1_5_periods"] == 2
    jittered = taken([0, 1400, 2000, 3400, 4000])
    assert jittered.as_json()["gaps_over_1_5_periods"] == 0


def test_taken_tells_rate_gaps_changes_and_cost():
    one = taken([0, 1000, 2000, 6000], values=[1, 1, 2, 1], cpu_s=0.002, errors=3, slots=10, passes=4)
    told = one.as_json()
    assert (told["readings"], told["rate_hz"], told["share_of_asked"]) == (4, 400.0, 0.4)
    assert (told["gap_p50_us"], told["gap_max_us"]) == (1000.0, 4000.0)
    assert (told["value_changes"], told["errors"]) == (2, 3)
    assert told["cpu_us_a_reading"] == 500.0
    assert told["cpu_share_of_a_core"] == 0.2
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("count", [0, 1])
def test_taken_of_no_gap_has_an_infinite_one(count):
    few = taken(range(count))
    assert few.gap_us(99) == float("inf")
    assert few.as_json()["gap_p99_us"] is None


def scripted(native_hz, pynvml_hz):
    """Return a stand-in for the runs of `beside`: readings evenly apart, at these rates beside a busy main thread."""

    def run(method, rate_hz, load, seconds):
        hz = rate_hz if load == "idle" else native_hz if method == "native" else pynvml_hz
        t_us = np.arange(0, seconds * 1e6, 1e6 / hz)
        slots = round(rate_hz * seconds)
        lane = {"slots": slots, "passes": min(slots, len(t_us))} if method == "native" else {}
        return taken(t_us, asked_hz=rate_hz, seconds=seconds, **lane)

    return run


def test_beside_compares_like_with_like(monkeypatch):
    monkeypatch.setattr(beside, "_run", scripted(1000, 200))
    shares, theirs, more, closer, beyond = beside._at(1000.0, 3, 2.0)
    assert (shares.median, theirs.median) == (1.0, pytest.approx(0.2))
    assert more.median == pytest.approx(5.0)
    assert closer.median == pytest.approx(5.0)
    assert more.verdict == "met"
    assert "differ by 0.0%" in more.notes[-1]
    assert beyond.median == pytest.approx(4000 / beside.CLOCK_US)  # the lane's is nothing, told to a microsecond


def test_beside_at_1_khz_misses_the_bar_that_the_grid_forbids_and_says_so(monkeypatch):
    """Gaps of 10.4 ms beside 1.04 ms are 10 times; of what a sampler can do something about they are 235 times."""

    def run(method, rate_hz, load, seconds):
        gap_us = 1040 if method == "native" else 10_400
        return taken(np.arange(0, seconds * 1e6, gap_us), asked_hz=rate_hz, seconds=seconds)

    monkeypatch.setattr(beside, "_run", run)
    closer, beyond = list(beside._at(1000.0, 3, 2.0))[-2:]
    assert (closer.median, closer.verdict) == (pytest.approx(10.0), "missed")
    assert "20 times takes a p99 gap of the thread of 20 ms" in closer.notes[-1]
    assert beyond.median == pytest.approx(9400 / 40)
    assert beyond.verdict == "reported"


def test_beside_misses_what_is_not_enough(monkeypatch):
    monkeypatch.setattr(beside, "_run", scripted(10_000, 800))
    more, closer, _ = beside._at(10_000.0, 2, 1.0)
    assert more.median == pytest.approx(12.5)
    assert [more.verdict, closer.verdict] == ["missed", "missed"]


def test_beside_without_an_interpreter_lock_says_so(monkeypatch):
    monkeypatch.setattr("bench.sustained.interpreter_has_a_lock", lambda: False)
    monkeypatch.setattr(beside, "_run", None)
    figures = list(beside.figures(quick=True))
    assert len(figures) == 6
    assert {figure.verdict for figure in figures} == {"not measured"}
    assert all("interpreter lock" in figure.skipped for figure in figures)


def run_of_pytest_benchmark():
    stats = dict.fromkeys(methods.STATS, 2e-6) | {"rounds": 3, "iterations": 7, "data": [1e-6, 2e-6, 9e-6], "ops": 5e5}
    extra = {"method": "native", "load": "idle", "board": "stand-in", "values_published": 9}
    extra |= taken(range(0, 10_000, 100), asked_hz=10_000.0).as_json()
    return {
        "datetime": "2026-01-01T00:00:00+00:00",
        "machine_info": {"cpu": "x"},
        "commit_info": {"branch": "mine"},
        "benchmarks": [
            {"group": "read-one-sample", "name": "test_pynvml", "stats": stats, "extra_info": {}},
            {"group": "sustained", "name": "test_sampling[native-idle-10000]", "stats": stats, "extra_info": extra},
            {"group": "ring", "name": "test_push", "stats": stats, "extra_info": {}},
        ],
    }


def test_methods_keeps_all_that_was_measured_and_shows_what_is_compared():
    run = run_of_pytest_benchmark()
    found = methods.kept(run)
    assert len(found["benchmarks"]) == 3
    assert found["machine"] == {"cpu": "x"}
    assert found["benchmarks"][0]["stats_s"] == dict.fromkeys(methods.STATS, 2e-6) | {"rounds": 3, "iterations": 7}
    reading, rate = methods.rows(run)
    assert (reading.what, reading.unit, len(reading.values)) == ("one reading: pynvml", "us", 3)
    assert (reading.median, min(reading.values)) == (pytest.approx(2.0), pytest.approx(1.0))
    assert rate.median == 10_000.0
    assert "native beside an idle main thread" in rate.what
    assert any("of 9 values published" in note for note in rate.notes)


def test_methods_says_what_a_busy_interpreter_does_to_spawning():
    """14 processes a second of 491: the thread that starts them waits, no process does."""
    run = run_of_pytest_benchmark()
    sampling = run["benchmarks"][1]
    told = {}
    for load in ("idle", "python"):
        sampling["extra_info"] |= {"method": "nvidia-smi-spawn", "load": load}
        told[load] = list(methods.rows(run))[-1].notes
    assert methods.IN_PYTHON in told["python"]
    assert methods.IN_PYTHON not in told["idle"]


MACHINE = {"cpu": "x", "virtual": True, "cores": 2, "kernel": "6", "clocksource": "tsc"}


def conditions(begun, load):
    told = {"begun": begun, "load_average_before": load, "commit": begun[-3:], "python": "3", "compiler": "cc"}
    return told | {"valgrind": None, "packages": {"numpy": "2"}}


def test_rows_keep_the_run_that_they_are_of_when_others_are_measured_again(monkeypatch):
    """One commit and load over rows of four runs would be a false heading."""
    old, new = conditions("2026-01-01T00:00:00Z", 0.5), conditions("2026-02-02T00:00:00Z", 7.5)

    def row(key):
        return Figure(key, f"{key} of it", "ns", None, [1.0]).as_json()

    stored = command._merged({"a": [row("a")], "b": [row("b")]}, ("a", "b"), MACHINE, old)
    monkeypatch.setattr(table, "load", lambda: stored)
    merged = command._merged({"b": [row("b")]}, ("a", "b"), MACHINE, new)
    assert [(one["key"], one["run"]) for one in merged["figures"]] == [("a", old["begun"]), ("b", new["begun"])]
    assert merged["runs"] == [old, new]
    lines = table.render(merged).splitlines()
    assert any(line.startswith("| b | 2026-02-02 00:00:00 UTC |") and "| 7.5 |" in line for line in lines)
    assert [line.split(" | ")[7] for line in lines if "of it" in line] == ["a", "b"]

    monkeypatch.setattr(table, "load", lambda: merged)
    newest = conditions("2026-03-03T00:00:00Z", 0.1)
    everything = command._merged({"a": [row("a")], "b": [row("b")]}, ("a", "b"), MACHINE, newest)
    assert everything["runs"] == [newest]  # what no row is of any more is not listed


def test_results_of_another_machine_are_dropped(monkeypatch, capsys):
    now = conditions("2026-01-01T00:00:00Z", 0.5)
    row = Figure("a", "it", "ns", None, [1.0]).as_json()
    stored = command._merged({"a": [row], "b": [row]}, ("a", "b"), MACHINE, now)
    monkeypatch.setattr(table, "load", lambda: stored)
    merged = command._merged({"b": [row | {"key": "b"}]}, ("a", "b"), MACHINE | {"cpu": "y"}, now)
    assert [one["key"] for one in merged["figures"]] == ["b"]
    assert "another machine" in capsys.readouterr().err


def test_committed_table_is_that_of_the_committed_results():
    """Nobody edits a number there."""
    assert table.render(table.load()) in table.README.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("slow_pct", "noise_pct", "verdict"),
    [
        (0.8, 0.5, "met"),  # the bar is A/A's upper end and a point
        (2.2, 0.5, "missed"),
        (2.2, 50.0, "reported"),  # a machine that is off by itself judges nothing, neither way
    ],
)
def test_slowdown_of_a_training_is_judged_where_the_machine_lets_it(slow_pct, noise_pct, verdict):
    noise = noise_pct * np.random.default_rng(1).normal(size=60)
    figure = training.judged("wall time", slow_pct + noise / 100, noise, "here")
    assert figure.verdict == verdict
    assert training.judged("CPU time", slow_pct + noise, noise, "here").verdict == "reported"
