# SPDX-License-Identifier: Apache-2.0
"""The simulated node's meter: what its driver reads is the node's wall power, and it says nothing of the truth."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

import powersample as ps
from powersample.analysis import energy, truth_joules
from powersample.errors import InvalidArgument, StateError
from powersample.meters import Address, make_meter, parse_addresses
from powersample.sim import Node, loads, profile_names
from powersample.sim.plug import RANGES_A

S = 1_000_000_000


def readings(driver, seconds):
    """Return arrivals, watts and cycles of about so many seconds."""
    driver.start()
    end, parts = time.monotonic() + seconds, []
    while time.monotonic() < end:
        parts += driver.read(0.1).readings
    driver.stop()
    parts += driver.read(0.1).readings
    return (np.concatenate([getattr(part, name) for part in parts]) for name in ("arrival_ns", "watts", "cycle_s"))


def test_meter_reads_the_wall_power_of_its_cycles():
    with Node("paper-node") as node:
        driver = make_meter(node.address_of_meter())
        info = driver.open()
        start = node.load_wave(0, 60, 350, period_s=0.37, duty=0.5, start_ns=time.monotonic_ns() + S // 4)
        node.load_script("package-1", [(0, 100), (0.25, 350)], start_ns=start)
        arrival_ns, watts, cycle_s = readings(driver, 0.9)
        driver.close()
        assert info.simulated
        assert len(watts) >= 8
        cycles = list(node.meter().cycles)[: len(watts)]
        assert watts == pytest.approx(
            [node.truth_j("wall", one.start_ns, one.end_ns) / (one.end_ns - one.start_ns) * 1e9 for one in cycles],
            rel=1e-5,  # as many digits as it says
        )
        assert np.ptp(watts) > 200
        meter = node.describe()["meter"]
        true_s = np.array([(cycle.end_ns - cycle.start_ns) / 1e9 for cycle in cycles])
        assert cycle_s == pytest.approx(true_s * (1 + meter["skew_ppm"] * 1e-6), abs=2e-6)
        assert np.all(arrival_ns - [cycle.end_ns for cycle in cycles] >= meter["latency_s"] * 1e9)


def test_recording_has_the_wall_beside_its_parts_and_their_truth():
    with Node("paper-node", node_seed=2) as node:
        with ps.measure(simulate=node, meters="sim", sources="rapl,nvml") as run:
            start = node.load_wave(0, 60, 350, period_s=0.21, duty=0.5, start_ns=time.monotonic_ns() + S // 4)
            node.load_script("package-1", [(0, 100), (0.3, 300)], start_ns=start)
            time.sleep(0.8)
        trace, truth = run.trace, node.describe()["meter"]
    (window,) = trace.windows
    wall = energy(trace, window, domain="wall")
    exact_j = truth_joules(trace, "wall", "wall", window)
    assert wall.method == "sum of power x cycle"
    assert wall.low_j < exact_j < wall.high_j
    # Unsynced: what its clock is off by, and a gain of its own.
    assert wall.joules == pytest.approx(exact_j, rel=0.005 + 2 * abs(truth["gain_pct"]) / 100)
    assert trace.meta["simulated_node"]["meter"] == truth
    assert trace.meta["simulated_node"]["wall"]["tau_ns"] > 0
    counted_j = sum(truth_joules(trace, uuid, "gpu", window) for uuid in node.gpu_uuids)
    assert counted_j < exact_j


def test_late_load_voids_the_truth_of_the_wall_as_well(monkeypatch):
    with Node("h100") as node:
        with ps.measure(simulate=node, sources="nvml") as run:
            monkeypatch.setattr(loads, "LEAD_NS", -50_000_000)  # published after its own instant
            node.load_script(0, [(0, 300)])
            time.sleep(0.1)
        assert run.trace.meta["simulated_node"]["truth_void"]
        assert truth_joules(run.trace, "wall", "wall", run.trace.windows[0]) is None


def test_meter_tells_nothing_of_its_clock_and_the_node_all():
    with Node("h100", seed=3, node_seed=8) as node, Node("h100", seed=3, node_seed=8) as same:
        truth = node.describe()["meter"]
        assert truth == same.describe()["meter"]
        assert {"latency_s", "skew_ppm", "gain_pct", "noise_w"} <= truth.keys()
        assert 0.001 <= truth["latency_s"] <= 0.012
        assert 0 < abs(truth["skew_ppm"]) <= 80
        assert 0 < abs(truth["gain_pct"]) < 0.06
        driver = make_meter(node.address_of_meter())
        said = json.dumps(driver.open().as_json())
        driver.close()
        assert not any(str(figure)[:6] in said for figure in (truth["latency_s"], truth["skew_ppm"]))
    with Node("h100", seed=1) as one, Node("h100", seed=2) as other:
        clocks = [node.describe()["meter"] for node in (one, other)]
        assert clocks[0]["skew_ppm"] != clocks[1]["skew_ppm"]
        assert [clock["gain_pct"] for clock in clocks] == [0, 0]


def test_meter_begins_when_it_is_asked_for_and_ends_with_its_node():
    node = Node("k40m")
    assert not any(path.name.startswith("tty") for path in node.directory.iterdir())
    port = node.address_of_meter().where
    assert os.path.exists(port)
    assert node.meter() is node.meter()
    with pytest.raises(InvalidArgument, match="runs already"):
        node.meter(faults={})
    meter = node.meter()
    node.close()
    assert not os.path.lexists(port)
    meter.close()  # harmless
    with pytest.raises(StateError):
        node.meter()


def test_meter_of_faults_is_described_with_what_can_be():
    with Node("k40m") as node:
        node.meter(faults={3: "missing"}, skew_ppm=500.0)
        assert node.describe()["meter"]["skew_ppm"] == 500
        assert json.dumps(node.describe())


def test_address_of_the_meter_keeps_name_and_options():
    (asked,) = parse_addresses(["rack=sim,cycle=0.1,i=2.5"])
    with Node("k40m") as node:
        found = node.address_of_meter(asked)
        assert found.simulated
        assert (found.name, found.kind) == ("rack", "lmg450")
        assert found.options == {"i": "2.5", "cycle": "0.1", "ipeak": "7.8125"}
        assert node.address_of_meter() == Address(
            "wall", "lmg450", found.where, {"i": "2.5", "ipeak": "7.8125"}, simulated=True
        )


@pytest.mark.parametrize("name", [*profile_names(), "paper-node"])
def test_range_of_the_meter_holds_the_node_at_full_load(name):
    with Node(name) as node:
        amperes = float(node.address_of_meter().options["i"])
        assert amperes in RANGES_A
        gpus_w = len(node.gpu_uuids) * node.profile["board.max_w"]
        parts_w = sum(part.max_mw for part in node.parts if part.domain in ("package", "dram", "board")) / 1e3
        assert (gpus_w + parts_w) * 1.3 / 230 / 0.97 < 1.3 * amperes
