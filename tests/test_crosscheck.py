# SPDX-License-Identifier: Apache-2.0
"""Two channels of one board against each other: what cancels, what stays, and which is believed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from traces import MS, S, channel, polls, published, series

from powersample.analysis import channel_energies, energies_in
from powersample.analysis.crosscheck import crosscheck
from powersample.analysis.interval import NORMAL_95, limit
from powersample.model import Kind, Response, SensorModel, Trace, Window
from powersample.report import build

QUICK, MEAN, COUNTER = "gpu0.power.instant", "gpu0.power.average", "gpu0.energy"
MODELS = {
    QUICK: SensorModel(Response.CONTIGUOUS, 0.1, 0.1, gain_sd=0.04, offset_sd_w=4.0),
    MEAN: SensorModel(Response.AVERAGE, 0.1, 1.0, gain_sd=0.04, offset_sd_w=4.0),
    COUNTER: SensorModel(Response.COUNTER, 0.1, gain_sd=0.05, offset_sd_w=4.0),
}
WINDOW = Window("w", 5 * S, 25 * S)


def board(watts, models=MODELS):
    """A board whose channels show what `watts` says of each, W, and a little life."""
    t_ns = polls(0, 30, 5)
    parts = []
    for name, power_w in watts.items():
        mw = 1000 * power_w + np.arange(310) % 2
        if name == COUNTER:
            parts.append(series(channel(name, Kind.ENERGY), t_ns, published(t_ns, np.cumsum(mw) // 10, 100 * MS)))
        else:
            parts.append(series(channel(name), t_ns, published(t_ns, mw, 100 * MS)))
    return Trace.of(parts, meta={"sensor_models": {name: models[name].as_json() for name in watts}})


def told_of(trace):
    return [channel_energies(trace, name, [WINDOW])[0] for name in trace.channels]


def test_two_fields_of_one_board_share_its_gain():
    """E_1 - E_2 knows nothing of the gain that both have: 300 W against the 7.84 % of either's own interval."""
    one, other = told_of(board({QUICK: 300, MEAN: 300}))
    found = crosscheck(one, other, WINDOW)
    own_j = math.hypot(one.reconstruction.half_j, other.reconstruction.half_j)
    offset_j = NORMAL_95 * math.hypot(4, 4) * 20
    expected = math.hypot(own_j, offset_j, limit("gain_of_fields") * 6000)
    assert found.budget_j == pytest.approx(expected, rel=1e-3)
    assert found.budget_j < NORMAL_95 * 0.04 * 6000
    assert found.agrees


def test_a_calibrated_field_beside_one_that_is_not_may_differ_by_the_whole_spread():
    calibrated = {**MODELS, QUICK: replace(MODELS[QUICK], gain_sd=0.002, offset_sd_w=0.2)}
    one, other = told_of(board({QUICK: 300, MEAN: 284}, calibrated))  # the board reads 5 % low, and one field knows it
    assert crosscheck(one, other, WINDOW).agrees
    assert crosscheck(one, other, WINDOW).budget_j > NORMAL_95 * 0.039 * 6000
    one, other = told_of(board({QUICK: 300, MEAN: 270}))  # of two that know nothing 30 W are too much
    assert not crosscheck(one, other, WINDOW).agrees


def test_a_counter_has_room_for_a_path_of_its_own():
    counter, field = told_of(board({COUNTER: 300, QUICK: 300}))
    own_gain = math.sqrt(0.05**2 - 0.04**2)
    budget_j = crosscheck(counter, field, WINDOW).budget_j
    assert budget_j > math.hypot(limit("gain_of_two"), NORMAL_95 * own_gain) * 6000
    assert budget_j < math.hypot(NORMAL_95 * 0.05, NORMAL_95 * 0.04) * 6000  # what it would be without anything shared


def test_what_a_channel_did_not_see_is_added_in_full():
    one, other = told_of(board({QUICK: 300, MEAN: 300}))
    lacking = one._replace(missing_j=500.0)
    assert crosscheck(lacking, other, WINDOW).budget_j == pytest.approx(crosscheck(one, other, WINDOW).budget_j + 500.0)


def test_channels_without_energy_or_of_unknown_sensors_are_not_compared():
    one, other = told_of(board({QUICK: 300, MEAN: 300}))
    assert crosscheck(one._replace(energy=replace(one.energy, joules=None)), other, WINDOW) is None
    assert crosscheck(one._replace(model=None), other, WINDOW) is None


@pytest.mark.parametrize(
    ("watts", "primary", "contradicted"),
    [
        ({COUNTER: 300, QUICK: 300, MEAN: 300}, COUNTER, set()),
        ({COUNTER: 300, QUICK: 200, MEAN: 300}, COUNTER, {COUNTER, QUICK, MEAN}),  # the field is outvoted
        ({COUNTER: 400, QUICK: 300, MEAN: 300}, QUICK, {COUNTER, QUICK, MEAN}),  # the counter is
        ({COUNTER: 400, QUICK: 300}, QUICK, {COUNTER, QUICK}),  # one word against the other
    ],
)
def test_primary_is_a_channel_that_most_others_do_not_contradict(watts, primary, contradicted):
    found = {one.energy.channel: one for one in energies_in(board(watts), WINDOW)}
    assert {name for name, one in found.items() if one.primary} == {primary}
    assert {name for name, one in found.items() if "PSQ-DISAGREE" in one.energy.codes} == contradicted
    assert {len(one.checks) for one in found.values()} == {len(watts) - 1}


def test_report_tells_the_residual_with_its_budget():
    trace = board({COUNTER: 301, QUICK: 300, MEAN: 300})
    told = build(trace, [WINDOW])
    rows = {one["channel"]: one["crosschecks"] for one in told.data["windows"][0]["energies"]}
    (beside_quick,) = [one for one in rows[COUNTER] if one["channel"] == QUICK]
    (mirrored,) = [one for one in rows[QUICK] if one["channel"] == COUNTER]
    assert beside_quick["residual_j"] == pytest.approx(20, abs=1)
    assert mirrored["residual_j"] == -beside_quick["residual_j"]
    assert beside_quick["agrees"]
    assert "than gpu0.power.instant says; the two may differ by" in " ".join(told.explained().split())


def test_a_field_that_is_read_seldom_contradicts_nobody():
    """nvmlDeviceGetPowerUsage once a second, for the instant field carries the same values: six polls know nothing."""
    trace = board({QUICK: 300, COUNTER: 300})
    t_ns = polls(0, 30, 1000)
    usage = channel("gpu0.power.usage", divisor=500)
    seldom = series(usage, t_ns, np.where(np.arange(len(t_ns)) % 2, 100_000, 140_000))
    models = trace.meta["sensor_models"] | {usage.name: MODELS[QUICK].as_json()}
    whole = Trace.of([*(trace.series(name) for name in trace.channels), seldom], meta={"sensor_models": models})
    found = energies_in(whole, WINDOW)
    assert not [one for one in found if "PSQ-DISAGREE" in one.energy.codes]
    assert {check.other for one in found for check in one.checks} <= set(MODELS)
