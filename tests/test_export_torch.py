# SPDX-License-Identifier: Apache-2.0
"""A real profile of torch beside a recording of the simulated node that it loaded: do its ops and the power agree?"""

import json
import time

import numpy as np
import pytest
from perfetto_ui import ask

from powersample import measure
from powersample.cli import main

torch = pytest.importorskip("torch", reason="torch is not installed: no real profile is laid beside a recording")

BURSTS, BURST_S, REST_S = 7, 0.12, 0.12
AHEAD_US = 2_000  # a followed program's use until now is power from 2 ms later on
AVERAGED = {"perf": 1, "process clock": 5}  # intervals that a use is taken over, by how CPU time is read
SEARCH_US = 20_000
TRIES = 3
AGREE_US = 2_000
TRUTH = "truth.gpu0.energy"


class Load:
    """Matrix products on one thread, and the CPU time that each took: others may hold the CPU meanwhile."""

    def __init__(self):
        self.matrix, self.used_us = torch.rand(160, 160), []

    def burst(self):
        end = time.monotonic() + BURST_S
        while time.monotonic() < end:
            before_ns = time.thread_time_ns()
            torch.mm(self.matrix, self.matrix)
            self.used_us.append((time.thread_time_ns() - before_ns) / 1e3)


def merged(folder):
    """Return the merged file's events, the CPU time of every op, and over how many intervals power was averaged."""
    load = Load()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    load.burst()  # torch loads its kernels
    load.used_us.clear()
    try:
        with measure(simulate="h100", load="cpu", sources="nvml", output=folder / "run.parquet") as run:
            time.sleep(REST_S)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                for i in range(BURSTS):
                    time.sleep(REST_S)
                    with torch.profiler.record_function(f"burst {i}"):
                        load.burst()
                time.sleep(REST_S)
    finally:
        torch.set_num_threads(threads)
    profile.export_chrome_trace(str(folder / "torch.json"))
    run_file, profile_file = str(folder / "run.parquet"), str(folder / "torch.json")
    for output in ("both.json", "both.tar"):
        assert main(["export", run_file, "--merge", profile_file, "-o", str(folder / output)]) == 0
    events = json.loads((folder / "both.json").read_text())["traceEvents"]
    route = run.trace.meta["simulated_node"]["follow"]["route"]
    return events, np.array(load.used_us), AVERAGED[route]


def shift_us(events, used_us, averaged, moved_us=0.0):
    """Return by how much later power is than the ops that made it, with the follower's own delay taken off.

    At every change of the true power, the CPU time that the ops had used until then, less that some intervals before,
    is what the follower saw. The shift of the ops at which a line explains the powers best is the answer.

    Args:
        moved_us: put the ops so much later first.
    """
    truth = [one for one in events if one["ph"] == "C" and one["name"] == TRUTH]
    at_us, joules = (np.array(column) for column in zip(*((one["ts"], one["args"]["J"]) for one in truth), strict=True))
    power_w, seen_us = np.diff(joules) / np.diff(at_us) * 1e6, at_us[:-1] - AHEAD_US
    ops = sorted((one["ts"], one["dur"]) for one in events if one["name"] == "aten::mm")
    edges_us = np.array([(begin, begin + lasted) for begin, lasted in ops]).ravel() + moved_us
    behind = np.cumsum(used_us)
    spent_us = np.column_stack((behind - used_us, behind)).ravel()
    near = np.flatnonzero((seen_us > edges_us[0] - 10 * SEARCH_US) & (seen_us < edges_us[-1] + 10 * SEARCH_US))
    near = near[near >= averaged]
    span_us = seen_us[near] - seen_us[near - averaged]

    def unexplained(shift):
        spent = np.interp(seen_us - shift, edges_us, spent_us)
        use = (spent[near] - spent[near - averaged]) / span_us
        line = np.column_stack((use, np.ones(len(use))))
        return float(np.linalg.lstsq(line, power_w[near], rcond=None)[1][0])

    shifts = np.arange(-SEARCH_US, SEARCH_US + 1, 100.0)
    return float(shifts[np.argmin([unexplained(shift) for shift in shifts])])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Other programs on the CPU blur a run of 2 s by some ms: one of three has to agree. An error stands in all."""
    found = []
    for _ in range(TRIES):
        folder = tmp_path_factory.mktemp("run")
        events, used_us, averaged = merged(folder)
        found.append((shift_us(events, used_us, averaged), folder, events, used_us, averaged))
        if abs(found[-1][0]) < AGREE_US:
            break
    return found


def test_power_and_the_ops_that_made_it_agree_within_2_ms(runs):
    shift, _, events, used_us, averaged = runs[-1]
    assert abs(shift) < AGREE_US, [one[0] for one in runs]
    moved_us = shift_us(events, used_us, averaged, moved_us=8_000) - shift
    assert moved_us == pytest.approx(-8_000, abs=1_000)  # it does see a shift
    ops = [one for one in events if one["name"] == "aten::mm"]
    power = [one for one in events if one["ph"] == "C" and one["name"] == "gpu0.power.instant"]
    assert len(ops) == len(used_us)
    assert len([one for one in events if one.get("cat") == "user_annotation"]) == BURSTS
    assert power[0]["ts"] < ops[0]["ts"]
    assert ops[-1]["ts"] + ops[-1]["dur"] < power[-1]["ts"]
    assert {one["pid"] for one in power}.isdisjoint(one["pid"] for one in ops)


@pytest.mark.parametrize("name", ["both.tar", "both.json"])
def test_perfetto_sees_power_and_the_ops_that_made_it_within_2_ms(runs, name):
    """The same, of what its trace processor makes of the file."""
    _, folder, events, used_us, averaged = runs[-1]
    slices, counters = ask(
        folder / name,
        "SELECT name, ts, dur FROM slice",
        "SELECT c.ts, c.value FROM counter c JOIN counter_track t ON c.track_id = t.id "
        "WHERE t.name GLOB 'truth.gpu0.energy*' ORDER BY c.ts",
    )
    seen = [{"ph": "X", "name": one["name"], "ts": one["ts"] / 1e3, "dur": one["dur"] / 1e3} for one in slices]
    truth = [{"ph": "C", "name": TRUTH, "ts": one["ts"] / 1e3, "args": {"J": one["value"]}} for one in counters]
    assert len([one for one in seen if one["name"] == "aten::mm"]) == len(used_us)
    assert len(truth) == len([one for one in events if one["name"] == TRUTH])
    assert abs(shift_us([*seen, *truth], used_us, averaged)) < AGREE_US
