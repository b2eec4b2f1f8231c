# SPDX-License-Identifier: Apache-2.0
"""What `stat` tells of runs that were recorded: means, totals, idle shares and remarks, of readings made up."""

import numpy as np
import pytest
from nodes import HOST, calibration, wall_w
from nodes import trace as node_trace
from traces import S, node

from powersample.model import Energy, Trace, Window
from powersample.report.stat import RunFacts, StatReport, interval_lines, stat_report


def test_interval_of_few_updates_is_marked_and_has_three_digits():
    energy = Energy(123.456, 120.0, 126.9, "counter difference", (), "fair", (), "gpu0.energy", "GPU-0", "gpu")
    (row,) = str(interval_lines("run 1", 1.5, 0.5, [(energy, True)], simulated=False)).splitlines()
    assert "~123 J" in row
    assert "~247 W" in row
    (row,) = str(interval_lines("run 1", 1.5, 0.5, [(energy, False)], simulated=False)).splitlines()
    assert "123.456 J" in row


def facts(*runs):
    return [RunFacts(name, code, 1.0, 0.1, counted) for name, code, counted in runs]


def told(*runs, asked=3, **more):
    """What is told of runs of two seconds each on an idle node of 100 W in memory."""
    names = [name for name, _, _ in runs]
    windows = [Window(name, (1 + 3 * i) * S, (3 + 3 * i) * S) for i, name in enumerate(names)]
    trace = node(seconds=3 * len(runs) + 2, windows=windows)
    return stat_report(trace, facts(*runs), command=["./solver", "a b"], asked_runs=asked, **more)


def test_stat_leaves_a_failed_run_out_of_the_mean_and_says_so():
    found = told(("run 1", 0, True), ("run 2", 0, True), ("run 3", 7, False))
    assert found.data["means"][0]["joules"] == pytest.approx(200.0)
    assert (found.data["runs_told"], found.data["partial"]) == (2, False)
    assert "(2 runs, of 3 asked for)" in str(found)
    assert "run 3 ended with exit code 7; it is in no mean" in str(found)


def test_stat_of_one_run_says_there_is_no_spread():
    text = str(told(("run 1", 0, True), asked=1))
    assert "for ./solver 'a b' (1 run, so no spread)" in text
    assert "Student" not in text


def test_stat_with_a_calibration_tells_the_node_and_the_idle_share():
    stored = {"origin": "a.json", **calibration().as_json()}
    steady = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}
    made = node_trace([120.0], steady, windows=[("run 1", 10, 40), ("run 2", 50, 80)], calibration=stored)
    runs = [RunFacts(f"run {i}", 0, 1.0, 0.1, True) for i in (1, 2)]
    found = stat_report(made, runs, command=["./solver"], asked_runs=2)
    node = next(one for one in found.data["means"] if one["device"] == "node")
    assert node["joules"] == pytest.approx(30 * wall_w(300.0, 40.0, 200.0), rel=0.01)
    assert node["low_j"] < node["joules"] < node["high_j"]
    idle = {one["group"]: one for one in found.data["idle"]["groups"]}
    assert set(idle) == {"gpu", "cpu", "dram", "wall"}
    for one in idle.values():
        assert one["idle_j"] == pytest.approx(30 * one["idle_w"])
        assert one["idle_j"] < one["joules"]
    assert "idle share" in str(found)


def test_stat_tells_no_idle_share_of_a_group_that_lacks_a_device():
    """The calibration's idle power is that of both GPUs, and one of them fell silent."""
    host = {"host": {**HOST, "gpus": ["GPU-0", "GPU-1"]}}
    stored = {"origin": "a.json", **calibration(**host).as_json()}
    steady = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0], "gpu1": [100.0]}
    both = node_trace([120.0], steady, windows=[("run 1", 10, 40)], calibration=stored)
    silent = [both.series(name, 0, (5 if name == "gpu1.energy" else 120) * S) for name in both.channels]
    one = Trace.of(silent, windows=both.windows, lanes=both.lanes, meta=both.meta)
    runs = [RunFacts("run 1", 0, 1.0, 0.1, True)]
    groups = [
        {each["group"] for each in stat_report(made, runs, command=["x"], asked_runs=1).data["idle"]["groups"]}
        for made in (both, one)
    ]
    assert groups == [{"gpu", "cpu", "dram", "wall"}, {"cpu", "dram"}]


def test_stat_adds_up_what_adds_up_and_puts_it_first():
    """Of two runs on a node of GPU, CPU and memory, and of a meter that is beside the sum."""
    steady = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}
    made = node_trace([120.0], steady, meter=1.0, windows=[("run 1", 10, 40), ("run 2", 50, 80)])
    runs = [RunFacts(f"run {i}", 0, 1.0, 0.1, True) for i in (1, 2)]
    found = stat_report(made, runs, command=["x"], asked_runs=2)
    means, total = found.data["means"], found.data["total"]
    assert [one["domain"] for one in means] == ["package", "dram", "gpu", "wall"]
    assert total["devices"] == ["package-0", "package-0 dram", "gpu0"]
    assert total["joules"] == pytest.approx(30 * 540.0, rel=0.01)
    assert total["joules"] == pytest.approx(sum(one["joules"] for one in means[:3]))
    halves = [one["high_j"] - one["joules"] for one in means[:3]]
    assert max(halves) < total["high_j"] - total["joules"] == pytest.approx(np.hypot.reduce(halves), rel=0.05)
    rows = [line.split()[1] for line in str(found).splitlines() if " energy " in line or " GPU + CPU + DRAM " in line]
    assert rows == ["package-0", "package-0", "gpu0", "total"]
    assert "truth J" not in str(found)  # none is known


def test_stat_of_one_device_and_of_one_that_is_not_whole_has_no_total():
    steady = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}
    made = node_trace([120.0], steady, windows=[("run 1", 10, 40)])
    runs = [RunFacts("run 1", 0, 1.0, 0.1, True)]
    short = [made.series(name, 0, (30 if name == "gpu0.energy" else 120) * S) for name in made.channels]
    alone = Trace.of([made.series("gpu0.energy")], windows=made.windows, lanes=made.lanes, meta=made.meta)
    less = Trace.of(short, windows=made.windows, lanes=made.lanes, meta=made.meta)
    told = [stat_report(one, runs, command=["x"], asked_runs=1).data["total"] for one in (made, alone, less)]
    assert [one is None for one in told] == [False, True, True]


def test_losses_of_one_fate_are_one_line():
    """Channels of a lane share it: eight GPUs would fill the screen."""
    data = {**told(("run 1", 0, True)).data, "sampled": [
        {"name": name, "errors": {}, "dropouts_total": lost, "polls": 99}
        for name, lost in (("a", 1), ("b", 4), ("c", 1), ("d", 0))
    ]}  # fmt: skip
    lines = [line for line in str(StatReport(data)).splitlines() if "failed reads" in line]
    assert lines == ["  a, c: 1 dropout, 0 failed reads in 99", "  b: 4 dropouts, 0 failed reads in 99"]


def test_stat_of_nothing_but_a_run_cut_short_shows_that_one():
    found = told(("warm-up 1", 0, False), ("run 1", 130, False), asked_to_end=2)
    assert found.data["partial"]
    assert found.data["means"][0]["joules"] == pytest.approx(200.0)
    assert "(1 cut short, of 3 asked for, 1 warm-up)" in str(found)
    assert "ended early by SIGINT" in str(found)


def test_stat_interrupted_before_the_first_run_says_that_none_ended():
    found = told(asked_to_end=15)
    assert found.data["means"] == []
    assert "No energy can be told" in str(found)
