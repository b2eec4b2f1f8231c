# SPDX-License-Identifier: Apache-2.0
"""Bursts beside a meter that is read: through a made-up driver without waiting, and over a pseudo-terminal for real."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from bench import sync as made_up
from powersample.cli import main
from powersample.errors import InvalidArgument, NothingMeasurable, SystemFailure
from powersample.experiments import sync as live
from powersample.loads import EdgeLog, Pattern, random_edges, square
from powersample.meters.contract import NO_NUMBER, MeterBatch, MeterReading, power_channel
from powersample.model import MeterInfo
from powersample.session import bursts
from powersample.sim import Node

S = made_up.S


class FakeMeter:
    """Tells all that it has once the load is over; says in what order it was called."""

    def __init__(self, cycles, *, hz=20.0, flags=None):
        self.cycles, self.cycle_s, self.flags = cycles, 1 / hz, flags
        self.called = []

    def open(self):
        self.called.append("open")
        channels = (power_channel("wall", "fake.P"),)
        return MeterInfo("wall", "fake", "fake:", "nobody", "none", "", "", channels, self.cycle_s)

    def start(self):
        self.called.append("start")

    def read(self, timeout_s):
        if "stop" not in self.called or self.cycles is None:
            threading.Event().wait(0.005)
            return MeterBatch()
        flags = np.zeros(len(self.cycles.value), np.uint16) if self.flags is None else self.flags
        readings = MeterReading(self.cycles.stamp_ns, self.cycles.span_ns / S, self.cycles.value, flags)
        self.cycles = None
        return MeterBatch((readings,))

    def stop(self):
        self.called.append("stop")

    def close(self):
        self.called.append("close")


def logged(pattern, start_ns):
    edges = start_ns + np.rint(pattern.edge_s * S).astype(np.int64)
    zeros = np.zeros(len(edges) // 2, np.int64)
    return EdgeLog(pattern.name, edges[::2], edges[1::2], zeros, zeros)


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch):
    monkeypatch.setattr(live, "REST_S", 0.0)
    monkeypatch.setattr(live, "REST_CYCLES", 0)
    monkeypatch.setattr(live, "READ_S", 0.01)


def run(meter, *, count=1, apart_s=100, pattern=lambda cycle_s, i: random_edges(30, seed=i), failure=None):
    done = []

    def load(plan, stop):
        if failure is not None:
            raise failure
        done.append(logged(plan, made_up.BEGIN_NS + len(done) * apart_s * S))
        return done[-1]

    return live.sync(meter, load, pattern, bursts=count, pause_s=0.0)


def watched(count=1, apart_s=100, ppm=0.0):
    loads = [made_up.reference_of(random_edges(30, seed=i), made_up.BEGIN_NS + i * apart_s * S) for i in range(count)]
    return made_up.watch(made_up.Meter(20.0, 0.012, ppm=ppm), loads, 1)


def test_meter_is_read_while_the_load_runs_and_its_lag_is_told():
    cycles, lag_s = watched()
    meter = FakeMeter(cycles)
    found = run(meter)
    assert meter.called == ["open", "start", "stop", "close"]
    assert abs(found.synced.fit.lag_s - lag_s) <= 3 * found.synced.fit.lag_se_s
    assert found.as_json()["truth"] is None
    assert found.as_json()["bursts"][0]["edges"] == 2 * len(found.logs[0])


def test_two_bursts_tell_the_skew():
    cycles, _ = watched(2, apart_s=2000, ppm=60.0)
    found = run(FakeMeter(cycles), count=2, apart_s=2000)
    assert found.synced.fit.skew_ppm == pytest.approx(60, abs=2)
    assert found.synced.fit.tau_fitted  # of both together


def test_values_that_the_meter_could_not_tell_are_left_out():
    cycles, lag_s = watched()
    flags = np.zeros(len(cycles.value), np.uint16)
    flags[::7] = NO_NUMBER
    cycles.value[::7] = np.nan
    found = run(FakeMeter(cycles, flags=flags))
    assert abs(found.synced.fit.lag_s - lag_s) <= 3 * found.synced.fit.lag_se_s


def test_hours_of_readings_are_kept_in_few_arrays(monkeypatch):
    monkeypatch.setattr(live, "MANY", 10)
    cycles, lag_s = watched()
    over, kept = threading.Event(), []

    class Talking(FakeMeter):
        """Tells a few values at a time, also of a phase that nobody asked for."""

        at = 0

        def read(self, timeout_s):
            part = slice(self.at, self.at + 3)
            self.at += 3
            if self.at >= len(cycles.value):
                over.set()
            stamps, spans, values = cycles.stamp_ns[part], cycles.span_ns[part] / S, cycles.value[part]
            one = MeterReading(stamps, spans, values, np.zeros(len(values), np.uint16))
            return MeterBatch((one, replace(one, channel=1)))

    def load(plan, stop):
        over.wait(10)
        return logged(plan, made_up.BEGIN_NS)

    found_cycles = live.cycles_of
    monkeypatch.setattr(live, "cycles_of", lambda readings, name: kept.extend(readings) or found_cycles(readings, name))
    found = live.sync(Talking(cycles), load, lambda cycle_s, i: random_edges(30, seed=i))
    assert len(kept) <= 10 + 1
    assert np.array_equal(found.stamp_ns, cycles.stamp_ns)
    assert abs(found.synced.fit.lag_s - lag_s) <= 3 * found.synced.fit.lag_se_s


def test_meter_that_says_nothing_is_an_error_and_is_closed():
    meter = FakeMeter(None)
    with pytest.raises(NothingMeasurable, match="told nothing"):
        run(meter)
    assert meter.called[-1] == "close"


def test_load_that_fails_ends_everything_and_is_told():
    meter = FakeMeter(watched()[0])
    with pytest.raises(SystemFailure, match="no threads"):
        run(meter, failure=SystemFailure("no threads"))
    assert meter.called[-1] == "close"


@pytest.mark.parametrize("pattern", [square(30, 1.0), Pattern("two bursts", np.array([0.0, 1.0, 2.0, 3.0]))])
def test_pattern_that_tells_no_lag_is_refused_before_anything_works(pattern):
    meter = FakeMeter(watched()[0])
    with pytest.raises(InvalidArgument, match=r"period later|too short"):
        run(meter, pattern=lambda cycle_s, i: pattern)
    assert "start" not in meter.called
    assert meter.called[-1] == "close"


def test_interrupt_stops_the_load_and_closes_the_meter():
    asked = []

    class Interrupted(FakeMeter):
        def read(self, timeout_s):
            raise KeyboardInterrupt

    def load(plan, stop):
        while not stop():
            threading.Event().wait(0.005)
        asked.append(True)
        return logged(plan, 0)

    meter = Interrupted(watched()[0])
    with pytest.raises(KeyboardInterrupt):
        live.sync(meter, load, lambda cycle_s, i: random_edges(30))
    assert asked in ([True], [])  # it may not have begun
    assert meter.called[-1] == "close"
    assert not [thread for thread in threading.enumerate() if thread.name == "powersample-bursts"]


def test_end_to_end_over_a_pseudo_terminal_the_simulated_meter_s_cycles_are_met(monkeypatch, capsys):
    """Real driver, real port, real scheduler: an LMG450 on the node's exact wall power. 2 ms is what is asked."""
    monkeypatch.setattr(bursts, "LEAST_BURST_S", 3.0)
    monkeypatch.setattr(live, "REST_S", 0.3)
    code = main(["sync", "--simulate", "h100", "--burst-seconds", "4", "--json"])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert code == 0, told["reasons"]
    assert "LMG450 is read while the load works for 4 s" in err
    assert told["simulated"]
    assert told["meter"]["kind"] == "lmg450"
    assert told["truth"]["median_error_s"] <= 0.002
    assert 0.003 < told["lag_s"] < 0.05
    assert told["tau_s"] == pytest.approx(0.02, abs=0.01)


def test_node_works_at_the_very_instants_of_the_pattern():
    with Node("a100", gpus=2) as node:
        pattern = Pattern("short", np.array([0.0, 0.05, 0.1, 0.12]))
        log = bursts.node_load(node)(pattern, lambda: False)
        idle_w, max_w = (float(node.profile[f"board.{name}_w"]) for name in ("idle", "max"))
        assert len(log) == 4
        for rise_ns, fall_ns, gpu in zip(log.rise_ns, log.fall_ns, log.thread, strict=True):
            around = [rise_ns - 1, rise_ns, fall_ns - 1, fall_ns]
            assert node.truth_power_w(int(gpu), around).tolist() == [idle_w, max_w, max_w, idle_w]
        assert not node.truth_state()["truth_void"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.csv", "b.csv", "--meter", "sim"],
        ["a.csv", "b.csv", "--burst-seconds", "20"],
        ["--meter", "sim"],
        ["--meter", "nonsense"],
        ["--simulate", "h100", "--shift", "3"],
        ["--simulate", "h100", "--sync-load", "cpu"],
        ["--simulate", "h100", "--meter", "lmg450:/dev/null"],
        ["--simulate", "h100", "--bursts", "0"],
        ["--simulate", "h100", "--pause", "-1"],
        ["--simulate", "h100", "--pattern", "sine"],
        ["--simulate", "h100", "--pattern", "square:1"],
        ["--simulate", "h100", "--burst-seconds", "1"],
    ],
)
def test_sync_verb_used_wrongly_is_a_usage_error(arguments, capsys):
    assert main(["sync", *arguments]) == 2
    assert capsys.readouterr().err
