# SPDX-License-Identifier: Apache-2.0
"""A watched node through faults: what it tells of its devices, and what that costs who asks."""

import concurrent.futures
import time

import pytest
from watching import OPENMETRICS, closing, fetch, read, serving_of, until, values, watched

from powersample.capture import Plan
from powersample.export import openmetrics
from powersample.meters import parse_addresses
from powersample.session.live import Watch
from powersample.session.meters import Asked
from powersample.session.simulate import make_node, simulated_plan
from powersample.sim import Latency
from powersample.store import accounts

pytest.importorskip("prometheus_client", reason="the extra [serve] is not installed")


def test_lost_gpu_keeps_its_counter_loses_its_power_and_is_counted():
    with watched("h100x2+none", "wave:200,200,1,0.5") as (node, watch):
        before = until(watch, lambda found: found and all(one.power_w and one.joules for one in found.values()))
        node.inject("any", 15, gpu=0)
        after = until(watch, lambda found: found["gpu0", "gpu"].power_w is None)
        lost, other = after.balances
        assert lost.joules >= before.balances[0].joules
        assert other.power_w is not None
        assert next(lane for lane in after.lanes if lane.name == "nvml:gpu0").errors[15] > 0
        node.clear_faults()
        again = until(watch, lambda found: found["gpu0", "gpu"].power_w is not None)
        assert again.balances[0].joules >= lost.joules


def test_scrape_never_waits_for_a_device_that_hangs():
    with watched("h100+none") as (node, watch):
        until(watch, lambda found: found and all(one.joules for one in found.values()))
        node.inject("any", 0, hang_s=5.0)
        time.sleep(0.3)
        begun_s = time.monotonic()
        state = watch.state()
        assert time.monotonic() - begun_s < 4.0  # and not the 5 s
        assert state.balances[0].joules > 0
        node.clear_faults()


def test_energies_agree_with_the_nodes_truth():
    with watched("h100+none", "wave:100,300,0.2,0.5") as (node, watch):
        first = until(watch, lambda found: found and all(one.joules for one in found.values()))
        began_ns = time.monotonic_ns()
        time.sleep(0.4)
        time.sleep(0.4)
        last, ended_ns = watch.state(), time.monotonic_ns()
        truth_j = node.truth_j(0, began_ns, ended_ns)
        got_j = last.balances[0].joules - first.balances[0].joules
        assert got_j == pytest.approx(truth_j, abs=300 * 0.8)  # an edge may be 0.25 s old, and a counter's step 0.1 s


def test_slow_calls_and_sixteen_gpus_leave_a_scrape_quick():
    """The figure is bench/serve.py's; here only that 16 slow devices do not add up."""
    with make_node("h100x16+none") as node:
        node.set_latency("any", Latency.fixed(400e-6))
        with Watch(simulated_plan(Plan(rate_hz=10.0), node), node=node, simulated="h100x16") as watch:
            watch.start()
            until(watch, lambda found: len(found) == 16 and all(one.joules for one in found.values()))
            registry = openmetrics.registry(watch.state)
            begun_s = time.monotonic()
            body, kind = openmetrics.exposition(registry, OPENMETRICS)
            assert time.monotonic() - begun_s < 5  # never one after the other
    assert len(values(read(body.decode(), kind), "powersample_energy_joules_total")) == 16


def test_two_scrapers_at_once_see_counters_that_only_rise():
    with watched("h100+intel_spr") as (_, watch):
        registry = openmetrics.registry(watch.state)
        until(watch, lambda found: found and all(one.joules for one in found.values()))
        with serving_of(lambda accept: openmetrics.exposition(registry, accept)) as server:

            def scrape(_):
                got = [read(fetch(server.url, Accept=OPENMETRICS)[2].decode(), "openmetrics") for _ in range(5)]
                return [values(one, "powersample_energy_joules_total", domain="package")[0] for one in got]

            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                for seen in pool.map(scrape, range(2)):
                    assert seen == sorted(seen)


def test_meter_is_the_wall_and_goes_on_after_a_restart(tmp_path):
    wall = ("wall", "wall")
    meters = Asked(parse_addresses(["sim"]))
    shown = []
    for least_j in (100, 0):
        with (
            closing(tmp_path / "a.json", "paper-node") as file,
            watched("paper-node", account=file, meters=meters) as (node, watch),
        ):
            state = until(watch, lambda found, j=least_j: wall in found and (found[wall].joules or 0) > j)
            shown += [one for one in state.balances if one.domain == "wall"]
            true_w = float(node.truth_power_w("wall", [time.monotonic_ns()])[0])
    before, after = shown
    assert before.power_w == pytest.approx(true_w, rel=0.1)
    assert before.energy_from == "wall.power"
    assert after.joules > before.joules
    assert after.created_unix_s == before.created_unix_s
    assert after.unseen_s > 0


def test_state_that_cannot_be_written_is_told_and_serving_goes_on(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    told = []
    with (
        closing(tmp_path / "a.json", "h100+none") as file,
        watched("h100+none", account=file, on_trouble=told.append) as (_, watch),
    ):
        until(watch, lambda found: found and all(one.joules for one in found.values()))
        monkeypatch.setattr(accounts, "write_whole", full)
        state = watch.state()
        assert state.kept is False
        assert state.balances[0].joules > 0
        assert len(watch.state().trouble) == 1
        monkeypatch.undo()
        assert watch.state().kept is True
        assert watch.state().trouble == ()
    assert len(told) == 1
    assert "No space left" in told[0]


def test_metrics_that_could_not_be_made_are_a_trouble_once_until_they_can_be():
    told = []
    with watched("h100+none", on_trouble=told.append) as (_, watch):
        for text in ("the metrics cannot be made", "the metrics cannot be made", None):
            watch.note_metrics(text)
            assert watch.state().trouble == ((text,) if text else ())
    assert told == ["the metrics cannot be made"]
