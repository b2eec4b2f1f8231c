# SPDX-License-Identifier: Apache-2.0
"""Several meters on one node: each measures all of it, unless they are called supplies."""

from dataclasses import replace

import pytest
from nodes import METER, calibration, trace
from traces import S

from powersample.analysis import holistic, totals, window_energies
from powersample.analysis.account import Balance
from powersample.export.otel import _whole
from powersample.model import Trace, Window
from powersample.report import build

STEADY = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}
RUN = Window("run", 10 * S, 50 * S)
UNTOLD = {**METER["accuracy"], "reading_pct": 2.0}


def metered(**factors):
    """The node with a meter a name, whose readings are so many times the wall's; "bmc" does not tell its accuracy."""
    made = trace([60.0], STEADY, meter=1.0, windows=[("run", 10, 50)])
    wall, parts, infos = made.series("wall.power"), [], []
    for name, factor in factors.items():
        channel = replace(wall.channel, name=f"{name}.power", device=name)
        parts.append(replace(wall, channel=channel, raw=wall.raw * factor))
        limits = {"bmc": None, "plug": UNTOLD}.get(name, METER["accuracy"])
        infos.append({**METER, "name": name, "accuracy": limits, "channels": [channel.as_json()]})
    others = [made.series(name) for name in made.channels if name != "wall.power"]
    meta = {**made.meta, "meters": infos}
    return Trace.of([*others, *parts], windows=made.windows, lanes=made.lanes, meta=meta)


def node_of(made):
    (measured,) = window_energies(made, [RUN])
    walls = {one.energy.device: one for one in measured if one.energy.domain == "wall"}
    return totals(measured, RUN)["node_j"], walls


@pytest.mark.parametrize("other", ["bmc", "plug"])
@pytest.mark.parametrize("first", [True, False])
def test_node_is_told_by_the_surest_meter_and_the_others_stand_beside_it(other, first):
    """A controller beside an analyser was added to it: the node came out doubled."""
    one_j = node_of(metered(wall=1.0))[0]
    made = metered(wall=1.0, **{other: 1.01}) if first else metered(**{other: 1.01}, wall=1.0)
    node_j, walls = node_of(made)
    assert node_j == pytest.approx(one_j)
    assert {name: one.spare for name, one in walls.items()} == {"wall": False, other: True}
    assert walls[other].energy.joules == pytest.approx(1.01 * one_j)
    assert walls["wall"].energy.reasons == ()
    window = build(made).data["windows"][0]
    assert (window["totals"]["node_j"], window["totals"]["node_by"]) == (pytest.approx(one_j), "meter")
    told = holistic(made, "run", calibration())
    assert told.meter.joules == pytest.approx(one_j)
    assert told.meter.high_j == pytest.approx(walls["wall"].energy.high_j)


def test_meters_called_supplies_are_added_and_so_are_their_limits_of_error():
    one_j, alone = node_of(metered(wall=1.0))
    made = metered(psu0=0.6, psu1=0.4, bmc=1.02)
    node_j, walls = node_of(made)
    assert node_j == pytest.approx(one_j)
    assert {name: one.spare for name, one in walls.items()} == {"psu0": False, "psu1": False, "bmc": True}
    told = holistic(made, "run").meter
    half_j = alone["wall"].energy.high_j - one_j
    assert told.high_j - told.joules == pytest.approx(half_j, rel=0.2)
    assert [walls[name].energy.reasons for name in ("psu0", "psu1")] == [(), ()]


@pytest.mark.parametrize(("other", "factor", "said"), [("bmc", 0.5, "50 % less"), ("plug", 1.2, "20 % more")])
def test_meters_that_contradict_each_other_are_poor_at_best_and_say_by_how_much(other, factor, said):
    """Two of several supplies, say, whose meters were not called so: each has a part, and neither is the node."""
    made = metered(wall=1.0, **{other: factor})
    _, walls = node_of(made)
    assert walls["wall"].energy.verdict == "poor"
    assert walls["wall"].energy.reasons[-1].startswith(f"PSQ-METERS {other}.power tells {said}")
    assert "PSQ-METERS" in str(build(made))


def test_meter_that_was_read_for_a_part_only_does_not_stand_for_the_node():
    made = metered(wall=1.0, plug=1.0)
    half = made.series("wall.power")
    early = half.t0_ns < 30 * S
    arrays = (getattr(half, name)[early] for name in ("t0_ns", "t1_ns", "raw", "status", "seq", "span_ns"))
    others = [made.series(name) for name in made.channels if name != "wall.power"]
    cut = Trace.of([*others, type(half)(half.channel, *arrays)], windows=made.windows, meta=made.meta)
    node_j, walls = node_of(cut)
    assert node_j == pytest.approx(walls["plug"].energy.joules)
    assert walls["wall"].spare


def test_host_of_opentelemetry_is_one_meter_or_all_supplies():
    def balance(name, domain="wall"):
        return Balance(name, name, domain, 1.0, 0.0, 0.0, 1.0, "", "", 0.0)

    board = balance("board", "psys")
    assert [one.name for one in _whole([board, balance("wall"), balance("bmc")])] == ["wall"]
    assert [one.name for one in _whole([board, balance("psu0"), balance("bmc"), balance("psu1")])] == ["psu0", "psu1"]
    assert [one.name for one in _whole([board])] == ["board"]
    assert _whole([]) == []
