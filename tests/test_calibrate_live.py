# SPDX-License-Identifier: Apache-2.0
"""A calibration of a simulated node through the very recorder, meter's driver and files; its faults likewise."""

import threading
from dataclasses import replace

import pytest

from powersample import errors
from powersample.capture import Plan
from powersample.experiments.calibrate.climb import MeterLost
from powersample.experiments.calibrate.plan import Times, parse_rungs
from powersample.experiments.calibrate.run import Asking, take_points
from powersample.session.meters import asked_meters
from powersample.session.simulate import make_node, simulated_plan

QUICK = Times(window_s=0.3, per_s=0.1, settle_s=3.0, dwell_s=0.5, lost_s=1.5)  # too short for a GPU's counter


@pytest.fixture
def node():
    with make_node("paper-nodex1", node_seed=1, time_scale=200) as made:
        yield made


def asking(node, output, rungs="primes:100,gpu:100", **more):
    plan = simulated_plan(Plan(), node)
    return Asking(
        plan=plan, meters=asked_meters(["sim"], None), rungs=parse_rungs(rungs), times=QUICK, output=output, **more
    )


def take(asked, node, **more):
    return take_points(asked, lambda points: points, node, **more)


def at(name, doing, act):
    """Return what is told, acting once as a rung is at something."""
    done = []

    def tell(progress):
        if progress.rung == name and progress.doing.startswith(doing) and not done:
            done.append(progress)
            act()

    return tell


def test_calibrate_meter_unplugged_for_a_while_costs_a_repeat_and_no_point(node, tmp_path):
    def pull():
        node.meter().unplug()
        threading.Timer(0.5, node.meter().plug).start()

    notes = []
    tell = at("primes 100 %", "measuring", pull)
    done = take(asking(node, tmp_path / "c.json", "primes:100"), node, tell=tell, note=notes.append)
    assert [point.name for point in done.points] == ["idle", "primes 100 %", "idle"]
    assert any("primes 100 % is repeated" in text for text in notes)


def test_calibrate_meter_that_stays_away_keeps_its_points_and_goes_on_later(node, tmp_path):
    """In life the second run is another process's: nothing but the journal is handed on."""
    output, notes = tmp_path / "c.json", []
    journal = output.with_name("c.json.journal")
    tell = at("gpu 100 %", "settling", lambda: node.meter().unplug())
    with pytest.raises(MeterLost, match="told nothing") as told:
        take(asking(node, output, "gpu:100"), node, tell=tell)
    assert told.value.__notes__ == [f"1 points are kept in {journal}"]
    node.meter().plug()
    done = take(asking(node, output, "gpu:100"), node, note=notes.append)
    assert notes[0] == f"1 points of {journal} are kept, 3 are to be measured"
    assert [point.name for point in done.points] == ["idle", "idle", "gpu 100 %", "idle"]
    assert not journal.exists()


def test_calibrate_without_a_meter_says_what_to_name_and_keeps_nothing(node, tmp_path):
    with pytest.raises(errors.InvalidArgument, match=r"no meter measures the wall.*--p-idle"):
        take(replace(asking(node, tmp_path / "c.json"), meters=asked_meters([], None)), node)
    assert list(tmp_path.iterdir()) == []
