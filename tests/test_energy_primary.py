# SPDX-License-Identifier: Apache-2.0
"""Which channel stands for a device, sums over devices, windows by name, and the truth beside them."""

from dataclasses import replace

import numpy as np
import pytest
from traces import MS, S, channel, node, polls, series, shown

from powersample.analysis import channel_energy, energies_in, energy, find_window, totals, truth_joules
from powersample.errors import InvalidArgument
from powersample.model import Channel, Kind, Response, SensorModel, Series, Trace, Window


def sums(trace, window):
    found = totals(energies_in(trace, window), window)
    assert [found.pop(key) for key in ("low_j", "high_j", "verdict")] == [None, None, "unrated"]  # unknown sensors
    return found.pop("covered_s"), [reason.split(" ")[0] for reason in found.pop("reasons")], found


def test_totals_of_four_gpus_are_their_sum():
    """A tool that divides by the number of GPUs says 500 J."""
    assert sums(node(4), Window("w", 4 * S, 6 * S)) == (
        pytest.approx(2),
        [],
        {"gpu_j": pytest.approx(2000), "cpu_j": None, "dram_j": None, "node_j": None, "joules": pytest.approx(2000)},
    )


def test_totals_interval_adds_boards_in_quadrature():
    """Two boards err independently: 100 W +- 8 % and 200 W +- 8 % are 300 W +- 6 %."""
    model = SensorModel(Response.CONTIGUOUS, 0.1, 0.1, gain_sd=0.04).as_json()
    trace = node(2, meta={"sensor_models": {f"gpu{i}.power.instant": model for i in range(2)}})
    powers = Trace.of([trace.series(f"gpu{i}.power.instant") for i in range(2)], meta=trace.meta)
    window = Window("w", 3 * S, 7 * S)
    found = totals(energies_in(powers, window), window)
    assert found["gpu_j"] == pytest.approx(1200)
    half_j = 0.04 * 1.96 * np.hypot(400, 800)
    assert found["high_j"] - found["gpu_j"] == pytest.approx(half_j, rel=0.01)
    assert found["gpu_j"] - found["low_j"] == pytest.approx(half_j, rel=0.01)
    assert found["verdict"] == "fair"
    measured = energies_in(powers, window)
    reset = [replace(one, energy=replace(one.energy, verdict="unusable")) for one in measured[:1]]
    assert totals([*reset, *measured[1:]], window)["verdict"] == "unusable"  # a reason that no width shows


def test_totals_with_one_gpu_missing_are_missing():
    trace = node(2)
    blind = [trace.series(name) for name in trace.channels if name.startswith("gpu0")]
    blind += [Series.empty(channel("gpu1.power.instant", device="GPU-1"))]
    covered_s, codes, found = sums(Trace.of(blind), Window("w", 4 * S, 6 * S))
    assert (covered_s, codes, found["gpu_j"]) == (0, ["PSQ-PARTIAL"], None)


def test_totals_of_eight_blind_gpus_say_so_in_one_short_line():
    blind = [Series.empty(channel(f"gpu{i}.power.instant", device=f"GPU-{i}" + 30 * "0")) for i in range(8)]
    reasons = totals(energies_in(Trace.of(blind), window := Window("w", 4 * S, 6 * S)), window)["reasons"]
    assert reasons == [f"PSQ-PARTIAL no energy of GPU-0{30 * '0'} (and of 7 more) can be told: no gpu_j"]
    part = Window("w", 0, 16 * S)
    (reason,) = totals(energies_in(node(8), part), part)["reasons"]
    assert reason.startswith("PSQ-PARTIAL gpu0.")
    assert "of GPU-0 (and of 7 more) speaks for 9.99" in reason or "(and of 7 more) speaks for 10 s of 16 s" in reason


@pytest.mark.parametrize(("end_s", "whole"), [(16, False), (10.05, True)])
def test_totals_are_told_only_when_the_window_is_covered(end_s, whole):
    """600 J of which 1000 J are true look like an energy."""
    covered_s, codes, found = sums(node(), Window("w", 0, int(end_s * S)))
    assert found["gpu_j"] == (pytest.approx(1000, rel=0.01) if whole else None)
    assert codes == ([] if whole else ["PSQ-PARTIAL"])
    assert covered_s == pytest.approx(10, abs=0.06)


def test_primary_is_the_channel_that_covers_the_window():
    whole = node()
    power, counter = (whole.series(name) for name in ("gpu0.power.instant", "gpu0.energy"))
    trace = Trace.of([power, counter.between(0, 6 * S)])
    assert energy(trace, Window("w", 0, 10 * S)).channel == "gpu0.power.instant"
    assert energy(trace, Window("w", 0, 5 * S)).channel == "gpu0.energy"


@pytest.mark.parametrize(("poll_ms", "least"), [(10, 20), (100, 100)])
def test_primary_is_the_counter_from_so_many_updates_on(poll_ms, least):
    """Polls no faster than the counter do not see when it moved: it takes more updates to outweigh the edges."""
    t_ns = polls(0, 30, poll_ms)
    held = (t_ns // (100 * MS)) * 10_000
    power = series(channel(), polls(0, 30, 10), np.full(3001, 100_000))
    trace = Trace.of([power, series(channel("gpu0.energy", Kind.ENERGY), t_ns, held)])
    for updates, name in ((least - 1, "gpu0.power.instant"), (least, "gpu0.energy")):
        window = Window("w", S + 50 * MS, S + (50 + updates * 100) * MS)
        assert energy(trace, window).channel == name
    assert ("PSQ-EDGE" in energy(trace, window).codes) == (poll_ms == 100)


@pytest.mark.parametrize(("counter_w", "agrees"), [(97.5, True), (102.5, True), (90, False), (138, False)])
def test_primary_counter_has_to_agree_with_the_power(counter_w, agrees):
    t_ns = polls(0, 10, 10)
    mj = (t_ns // MS * counter_w).astype(np.int64)
    parts = [
        series(channel(), t_ns, np.full(len(t_ns), 100_000)),
        series(channel("gpu0.energy", Kind.ENERGY), t_ns, mj),
    ]
    found = {one.energy.channel: one for one in energies_in(Trace.of(parts), Window("w", 2 * S, 8 * S))}
    assert found["gpu0.energy"].primary == agrees
    assert found["gpu0.power.instant"].primary != agrees
    for one in found.values():
        assert ("PSQ-DISAGREE" in one.energy.codes) != agrees
    if not agrees:
        said = found["gpu0.energy"].energy.reasons[-1]
        assert f"{6 * counter_w:.5g} J" in said
        assert "600 J" in said


def test_primary_counter_may_differ_by_an_update_where_power_swings():
    """An edge that is one update off costs as much as the power swings within it."""
    t_ns = polls(0, 10, 10)
    watts = np.where(t_ns // (500 * MS) % 2 == 0, 100_000, 700_000)
    mj = np.concatenate(([0], np.cumsum(watts)[:-1])) // 100
    late = mj[np.maximum(np.arange(len(mj)) // 10 - 1, 0) * 10]  # each 100 ms, what was true 100 ms before
    parts = [series(channel(), t_ns, watts), series(channel("gpu0.energy", Kind.ENERGY), t_ns, late)]
    found = {one.energy.channel: one for one in energies_in(Trace.of(parts), Window("w", 1250 * MS, 3900 * MS))}
    assert found["gpu0.energy"].energy.joules < 0.96 * found["gpu0.power.instant"].energy.joules
    assert found["gpu0.energy"].primary


def test_primary_is_the_counter_unless_the_window_is_short():
    trace = node()
    long = {one.energy.channel: one for one in energies_in(trace, Window("w", 2 * S, 5 * S))}
    assert long["gpu0.energy"].primary
    assert not long["gpu0.power.instant"].primary
    short = {one.energy.channel: one for one in energies_in(trace, Window("w", 2 * S, 2 * S + 150 * MS))}
    assert short["gpu0.power.instant"].primary
    assert "moved only 15 times" in short["gpu0.power.instant"].why
    for measured in (long, short):
        assert sum(one.primary for one in measured.values()) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["average", "usage", "instant"], "instant"),
        (["average", "usage"], "usage"),
        (["average"], "average"),
    ],
)
def test_primary_power_prefers_instant_then_usage_then_average(names, expected):
    t_ns = polls(0, 10, 10)
    raw = np.full(len(t_ns), 100_000)
    trace = Trace.of([series(channel(f"gpu0.power.{name}"), t_ns, raw) for name in names])
    assert energy(trace, Window("w", S, 2 * S)).channel == f"gpu0.power.{expected}"


def test_primary_falls_back_when_every_instant_read_fails():
    t_ns = polls(0, 10, 10)
    instant = series(channel(), t_ns, np.zeros(len(t_ns)), np.full(len(t_ns), 3))
    usage = series(channel("gpu0.power.usage"), t_ns, np.full(len(t_ns), 100_000))
    found = energy(Trace.of([instant, usage]), Window("w", S, 2 * S))
    assert (found.channel, found.joules) == ("gpu0.power.usage", pytest.approx(100))


def test_energy_by_index_or_uuid_and_unknown_device_is_named():
    trace = node(2, windows=[Window("a", S, 5 * S)])
    assert energy(trace, "a", "gpu1").joules == pytest.approx(800)
    assert energy(trace, "a", "GPU-1").joules == pytest.approx(800)
    with pytest.raises(InvalidArgument, match="2 devices"):
        energy(trace, "a")
    with pytest.raises(InvalidArgument, match="gpu0, gpu1"):
        energy(trace, "a", "gpu7")


def test_find_window_unknown_double_and_run():
    trace = node(windows=[Window("a", 0, S), Window("b", 0, S), Window("b", S, 2 * S)])
    assert find_window(trace, "a").end_ns == S
    assert find_window(trace, "run").end_ns == 10 * S
    with pytest.raises(InvalidArgument, match="2 windows"):
        find_window(trace, "b")
    with pytest.raises(InvalidArgument, match="'a'"):
        find_window(trace, "c")


def test_truth_is_exact_between_changes_of_power_and_stays_out_of_the_totals():
    truth = Channel("truth.gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-9, stamp="instant")
    nj = np.array([0, 100, 100 + 300 * 9, 100 + 300 * 9 + 50]) * 10**9
    exact = series(truth, np.array([0, 1, 10, 11]) * S, nj)
    trace = node(1, meta={"simulated": True})
    trace = Trace.of([*(trace.series(name) for name in trace.channels), exact], meta={"simulated": True})
    window = Window("w", S // 2, 2 * S)
    assert truth_joules(trace, "GPU-0", "gpu", window) == pytest.approx(350)
    measured = energies_in(trace, window)
    assert {one.truth_j for one in measured} == {350.0}
    assert "truth.gpu0.energy" not in {one.energy.channel for one in measured}
    assert truth_joules(trace, "GPU-0", "gpu", Window("w", -S, S)) is None


def test_truth_of_an_idle_hour_is_found_between_distant_records():
    truth = Channel("truth.gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-9, stamp="instant")
    trace = Trace.of([series(truth, np.array([0, 3600]) * S, np.array([0, 3600 * 50]) * 10**9)])
    assert truth_joules(trace, "GPU-0", "gpu", Window("w", 1000 * S, 1010 * S)) == pytest.approx(500)


def test_window_never_ended_says_so():
    found = energy(node(), Window("w", S, 5 * S, ("open",)))
    assert "PSQ-OPEN" in found.codes
    assert found.joules == pytest.approx(400)


def test_aux_channel_has_no_joules():
    t_ns = polls(0, 1, 10)
    aux = Channel("gpu0.utilization", "GPU-0", "gpu", Kind.AUX, "%")
    trace = Trace.of([series(aux, t_ns, t_ns)])
    with pytest.raises(InvalidArgument, match="%"):
        channel_energy(trace, "gpu0.utilization", Window("w", 0, S))


def test_primary_is_not_a_power_read_ten_times_less_often_than_another():
    """Lines between reads a second apart span any window, and know nothing of it."""
    often, seldom = polls(0, 10, 1), polls(0, 10, 1000)
    often = often[(often < 4 * S) | (often > 4.3 * S)]  # a hole: 0.3 s of the window are not covered
    instant = series(channel(divisor=1), often, np.full(len(often), 400_000))
    usage = series(channel("gpu0.power.usage", divisor=1000), seldom, np.full(len(seldom), 100_000))
    assert energy(Trace.of([instant, usage]), Window("w", 3 * S, 6 * S)).channel == "gpu0.power.instant"


def test_power_that_is_constant_is_whole_in_spite_of_gaps_shorter_than_any_sensors_period():
    """Without changes the period is not known; polls 5 ms late still cannot have missed an update."""
    t_ns = polls(0, 3, 1)
    t_ns = t_ns[~((t_ns > S) & (t_ns < S + 6 * MS))]
    found = energy(
        Trace.of([series(channel(sensor="nvml.field.186"), t_ns, np.full(len(t_ns), 400_000))]),
        Window("w", S, int(1.5 * S)),
    )
    assert found.covered_s == pytest.approx(0.5)
    assert found.joules == pytest.approx(200.0)


@pytest.mark.parametrize("missing_s", [0.13, 0.2, 0.3])
@pytest.mark.parametrize("side", ["start", "end"])
def test_part_covered_instant_does_not_lose_to_an_average_longer_than_the_window(side, missing_s):
    """0.9 s, of which the instant field lacks a part: a 1 s average that reaches across it shows what went before.

    20 W, and 60 W from 0.1 s on, or up to 0.8 s: the average says what it is not, by a narrow interval.
    """
    models = {
        "gpu0.power.instant": SensorModel(Response.PART_TIME, 0.1, 0.025, gain_sd=0.04, offset_sd_w=4.0),
        "gpu0.power.average": SensorModel(Response.AVERAGE, 0.1, 1.0, gain_sd=0.04, offset_sd_w=4.0),
    }
    t_ns = polls(missing_s, 3, 1) if side == "start" else polls(-3, 0.9 - missing_s, 1)
    knots_s, watts = ([-100, 0.8], [60, 20]) if side == "start" else ([-100, 0.1], [20, 60])
    parts = [series(channel(name), t_ns, shown(model, t_ns, knots_s, watts)) for name, model in models.items()]
    meta = {"sensor_models": {name: model.as_json() for name, model in models.items()}}
    found = energy(Trace.of(parts, meta=meta), Window("w", 0, int(0.9 * S)))
    assert found.channel == "gpu0.power.instant"
    assert found.low_j < 50 < found.high_j


def test_average_longer_than_the_window_stands_for_the_device_where_nothing_else_does():
    model = SensorModel(Response.AVERAGE, 0.1, 1.0)
    t_ns, name = polls(-3, 4, 5), "gpu0.power.average"
    one = series(channel(name), t_ns, np.full(len(t_ns), 100_000))
    found = energy(Trace.of([one], meta={"sensor_models": {name: model.as_json()}}), Window("w", 0, int(0.9 * S)))
    assert (found.channel, found.joules) == (name, pytest.approx(90))
    assert "PSQ-AVERAGED" in found.codes
