# SPDX-License-Identifier: Apache-2.0
"""Recordings of lanes that follow their sensors' updates: uneven by design, and worth what a 1 kHz grid is worth."""

import numpy as np
import pytest
from traces import MS, S, channel, node, polls, series

from powersample import measure
from powersample.analysis import carriers, channel_energies, energy, quality
from powersample.model import LaneStats, Trace, Window
from powersample.report import build
from powersample.sim import Node

PERIOD_NS = 100 * MS
SECONDS = 20
FOLLOWING = LaneStats("nvml:gpu0", mode="follow", rate_hz=0.0, period_ns=MS, followed={0: PERIOD_NS})


def publications(jitter_ms=1.0, seed=1):
    """Instants of a sensor of T = 100 ms, and values of a load that steps between 100 W and 400 W, with some noise."""
    random = np.random.default_rng(seed)
    count = SECONDS * 10
    t_ns = np.arange(count) * PERIOD_NS + (random.uniform(-jitter_ms, jitter_ms, count) * MS).astype(np.int64)
    level = np.where(np.arange(count) // 7 % 2 == 0, 100_000, 400_000)
    return t_ns, (level + random.normal(0, 500, count)).astype(np.int64)


def seen(at_ns, published_ns, values):
    """What polls at `at_ns` see."""
    return values[np.maximum(np.searchsorted(published_ns, at_ns, "right") - 1, 0)]


def followed_at(published_ns, seed=2):
    """Polls as the lane makes them: an anchor, then 1 ms apart from before the expected update until it is seen."""
    random = np.random.default_rng(seed)
    at_ns = []
    for k, update_ns in enumerate(published_ns):
        open_ns = k * PERIOD_NS - 5 * MS - int(random.uniform(0, MS))
        at_ns += [open_ns - 4 * MS, *range(open_ns, update_ns + MS, MS)]
    return np.array(at_ns, np.int64)


def followed_trace(keep=slice(None), lanes=(FOLLOWING,), sensor="", **more):
    published_ns, values = publications(**more)
    at_ns = followed_at(published_ns)[keep]
    return Trace.of(
        [series(channel(lane="nvml:gpu0", sensor=sensor), at_ns, seen(at_ns, published_ns, values))], lanes=lanes
    )


@pytest.mark.parametrize("sensor", ["", "nvml.field.186"])  # points, and means held backwards
def test_energies_of_followed_updates_are_those_of_a_grid(sensor):
    published_ns, values = publications(jitter_ms=4)
    grid_ns = polls(-0.01, SECONDS, 1)
    grid = Trace.of([series(channel(sensor=sensor), grid_ns, seen(grid_ns, published_ns, values))])
    windows = [Window(str(i), int((1 + i) * S + i * 37 * MS), int((2 + 2 * i) * S)) for i in range(6)]
    by_grid = channel_energies(grid, "gpu0.power.instant", windows)
    by_updates = channel_energies(followed_trace(jitter_ms=4, sensor=sensor), "gpu0.power.instant", windows)
    for one, other, window in zip(by_grid, by_updates, windows, strict=True):
        # An update is known to half a millisecond, and the step between two values is 300 W at most.
        changes = int(window.duration_s / 0.7) + 1
        assert abs(one.energy.joules - other.energy.joules) < 0.3 * np.sqrt(changes)
        assert other.energy.covered_s == pytest.approx(window.duration_s)
        assert abs(one.energy.updates - other.energy.updates) <= 1  # polled on the other side of the window's edge
        assert one.energy.reasons == other.energy.reasons


def test_energy_of_followed_updates_lies_in_the_interval_of_a_grid_and_its_own_is_no_wider():
    published_ns, values = publications(jitter_ms=4)
    grid_ns = polls(-0.01, SECONDS, 1)
    sensor = "nvml.field.186"
    grid = Trace.of([series(channel(sensor=sensor), grid_ns, seen(grid_ns, published_ns, values))])
    window = Window("w", 3 * S + 17 * MS, 11 * S)
    by_grid, by_updates = energy(grid, window), energy(followed_trace(jitter_ms=4, sensor=sensor), window)
    assert by_grid.low_j < by_updates.joules < by_grid.high_j
    assert by_updates.high_j - by_updates.low_j < 1.1 * (by_grid.high_j - by_grid.low_j)
    assert by_updates.verdict == by_grid.verdict


def test_pauses_between_followed_updates_are_neither_gaps_nor_stalls():
    found = quality(followed_trace(), "gpu0.power.instant")
    assert (found.followed, found.gaps_total, found.stalls, found.asked_hz) == (True, 0, 0, None)
    assert 60 < found.achieved_hz < 90
    assert found.update_period_s == pytest.approx(0.1, rel=0.02)


def test_same_polls_of_a_lane_that_was_to_keep_a_grid_are_full_of_gaps():
    lane = LaneStats("nvml:gpu0", mode="paced", rate_hz=1000.0, period_ns=MS)
    found = quality(followed_trace(lanes=(lane,)), "gpu0.power.instant")
    assert found.followed is False
    assert found.gaps_total > 150


def test_update_that_nobody_polled_is_a_gap_while_following():
    published_ns, _ = publications()
    at_ns = followed_at(published_ns)
    awake = (at_ns < published_ns[99] + 2 * MS) | (at_ns > published_ns[100] + 20 * MS)
    found = quality(followed_trace(awake), "gpu0.power.instant")
    assert [(gap.start_ns // S, gap.cause) for gap in found.gaps] == [(9, "skipped")]


def test_update_between_polls_far_apart_is_a_stall_while_following():
    published_ns, _ = publications()
    at_ns = followed_at(published_ns)
    late = (at_ns < published_ns[99] - 4 * MS) | (at_ns > published_ns[99] + 30 * MS)
    at_ns = np.sort(np.append(at_ns[late], published_ns[99] + 35 * MS))
    _, values = publications()
    trace = Trace.of([series(channel(lane="nvml:gpu0"), at_ns, seen(at_ns, published_ns, values))], lanes=[FOLLOWING])
    found = quality(trace, "gpu0.power.instant")
    assert (found.gaps_total, found.stalls) == (0, 1)


def test_constant_power_while_following_goes_by_the_period_that_the_lane_learnt():
    published_ns, _ = publications()
    at_ns = followed_at(published_ns)
    trace = Trace.of([series(channel(lane="nvml:gpu0"), at_ns, np.full(len(at_ns), 1000))], lanes=[FOLLOWING])
    found = quality(trace, "gpu0.power.instant")
    assert (found.gaps_total, found.stalls, found.updates) == (0, 0, 0)
    (told,) = channel_energies(trace, "gpu0.power.instant", [Window("w", S, 11 * S)])
    assert told.energy.joules == pytest.approx(10)


def test_pauses_of_a_lane_that_looks_for_updates_in_vain_are_no_gaps():
    lane = LaneStats("nvml:gpu0", mode="follow", period_ns=MS, followed={0: 0})
    at_ns = np.concatenate((polls(0, 2, 1), polls(2.025, 3, 25)))  # a burst, then now and then
    trace = Trace.of([series(channel(lane="nvml:gpu0"), at_ns, np.full(len(at_ns), 1000))], lanes=[lane])
    assert quality(trace, "gpu0.power.instant").gaps_total == 0
    dead = np.concatenate((at_ns, polls(3.5, 4, 25)))
    trace = Trace.of([series(channel(lane="nvml:gpu0"), dead, np.full(len(dead), 1000))], lanes=[lane])
    assert quality(trace, "gpu0.power.instant").gaps_total == 1


def test_report_names_followed_channels_and_who_carries_a_seldom_one():
    published_ns, values = publications()
    at_ns, seldom_ns = followed_at(published_ns), polls(0, SECONDS, 1000)
    usage = channel("gpu0.power.usage", lane="nvml:gpu0", divisor=1000)
    by_driver = channel("gpu0.power.driver", lane="nvml:gpu0", divisor=1000, stamp="instant")
    trace = Trace.of(
        [
            series(channel(lane="nvml:gpu0"), at_ns, seen(at_ns, published_ns, values)),
            series(usage, seldom_ns, seen(seldom_ns, published_ns, values)),
            series(by_driver, seldom_ns, seen(seldom_ns, published_ns, values)),
        ],
        lanes=[FOLLOWING],
    )
    assert carriers(trace, "gpu0.power.usage") == ("gpu0.power.instant",)
    assert carriers(trace, "gpu0.power.instant") == ()
    assert carriers(trace, "gpu0.power.driver") == ()  # brings all of its own, many at a time
    report = build(trace)
    instant, seldom, _ = report.data["channels"]
    assert (instant["followed"], instant["asked_hz"], instant["carried_by"]) == (True, None, [])
    assert (seldom["followed"], seldom["gaps_total"], seldom["carried_by"]) == (False, 0, ["gpu0.power.instant"])
    assert " follow " in report.explained()
    assert "gpu0.power.usage is read seldom on purpose: gpu0.power.instant carry its updates" in report.explained()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"unfollowed": 2},
            "did not follow its sensor's updates and was read on a grid: polls around each",
        ),
        ({"unfollowed": 3, "mode": 4}, "no longer followed its sensor's updates"),
        ({"fifo_refusal": 1, "fifo_errno": 1}, "did not run under SCHED_FIFO: the kernel refused it: Operation not"),
        ({"fifo_refusal": 2}, "did not run under SCHED_FIFO: it would take more than 90 % of a CPU"),
        ({"cpu_errno": 19}, "lost the CPU it was pinned to"),
        ({"cpu_errno": 22}, "was not pinned to the CPU asked for: Invalid argument"),
    ],
)
def test_lane_notes_say_what_it_could_not_have(more, words):
    lane = LaneStats.from_json({"name": "nvml:gpu0", "mode": 1, "unfollowed": 0, "fifo_refusal": 0, **more})
    (note,) = lane.notes()
    assert words in note
    assert any(f"note: {note[:40]}" in line for line in str(build(node(lanes=[lane]))).splitlines())


def test_lane_statistics_of_a_spool_and_of_a_file_are_the_same():
    told = {
        "name": "nvml:gpu0",
        "mode": 4,
        "followed_channel": [0, 1],
        "followed_period_ns": [PERIOD_NS, 0],
        "updates": 7,
    }
    lane = LaneStats.from_json(told)
    assert lane.followed == {0: PERIOD_NS, 1: 0}
    assert lane.mode == "follow"
    assert lane.notes() == []
    assert LaneStats.from_json(lane.as_json()) == lane


def test_measure_following_a_simulated_gpu_finds_its_energy():
    with Node("h100") as simulated:
        simulated.load_wave(0, 100, 400, period_s=0.73, duty=0.5)
        with measure(simulate=simulated, mode="follow") as run, run.window("work"):
            import time

            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                time.sleep(0.1)
        work = next(one for one in run.report().data["windows"] if one["name"] == "work")
        instant = next(one for one in work["energies"] if one["channel"] == "gpu0.power.instant")
    (lane,) = run.trace.lanes
    assert lane.mode == "follow"
    assert lane.slots == lane.passes + lane.skipped
    assert lane.records == lane.drained + lane.dropped
    assert instant["joules"] == pytest.approx(instant["truth_j"], rel=0.15)
