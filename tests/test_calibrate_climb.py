# SPDX-License-Identifier: Apache-2.0
"""Up the ladder in virtual time: a node of one lag and closed forms, a meter that can go, others that disturb."""

import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import pytest

from powersample.errors import DeviceError
from powersample.experiments.calibrate.climb import DISTURBED, THROTTLED, UNSTEADY, Climb, MeterLost
from powersample.experiments.calibrate.disturbance import Accounts
from powersample.experiments.calibrate.plan import Times, duration_s, parse_rungs, rung
from powersample.experiments.calibrate.seen import Means
from powersample.experiments.calibrate.steadiness import Load, Readings, followed, standing
from powersample.experiments.calibrate.surroundings import Surroundings

IDLE_W, SPAN_W, TAU_S = 500.0, 400.0, 30.0
DAY_S = 86_400
PROMPT = 0.75  # share of a load's power that is there at once; fans bring the rest
HUNT_S = 23.3  # shorter than a point
S = 1_000_000_000


@dataclass
class World:
    """A node whose fans follow its load by a lag, a clock that only sleeping moves, and what goes wrong."""

    now: int = 100 * S
    changes: list = field(default_factory=lambda: [(0, 0.0, 0.0)])  # since when, level, the fans' power then
    begun: list = field(default_factory=list)
    mute: list = field(default_factory=list)  # (start, end) in which the meter tells nothing
    others: list = field(default_factory=list)  # (start, end, CPUs)
    throttle_at: int | None = None
    ripple_w: float = 0.0
    hunt_w: float = 0.0  # fans that go up and down between two speeds, at once
    dead_s: float = 0.0  # before its fans follow
    tau_s: float = TAU_S
    gpu_busy: list = field(default_factory=list)  # % of a GPU, window by window
    lost_parts: int = 0  # so many windows lack a component
    late_s: float = 0.3
    unsure_s: float = 0.3
    failure: Exception | None = None

    # ---- the wall

    def watts(self, t_ns):
        ripple_w = self.ripple_w * math.sin(2 * math.pi * t_ns / (60 * S))
        ripple_w += self.hunt_w * (int(t_ns / S / HUNT_S) % 2)
        return IDLE_W + PROMPT * SPAN_W * self.since(t_ns)[1] + self.fans_w(t_ns) + ripple_w

    def since(self, t_ns):
        return next(one for one in reversed(self.changes) if one[0] <= t_ns)

    def fans_w(self, t_ns):
        since, level, start_w = self.since(t_ns)
        end_w = (1 - PROMPT) * SPAN_W * level
        return end_w + (start_w - end_w) * math.exp(-max(0.0, (t_ns - since) / S - self.dead_s) / self.tau_s)

    def muted(self, t_ns):
        return any(start <= t_ns < end for start, end in self.mute)

    # ---- `Ground`

    lacks = MappingProxyType({})

    def begin(self, asked):
        self.begun.append((self.now, asked.name))
        self.changes.append((self.now, asked.level, self.fans_w(self.now)))

    def check(self):
        if self.failure:
            raise self.failure

    def end(self):
        self.changes.append((self.now, 0.0, self.fans_w(self.now)))
        return []

    # ---- `Seen`

    def now_ns(self):
        return self.now

    def sleep(self, duration_s):
        self.now += max(0, round(duration_s * S))
        assert self.now < DAY_S * S, "it goes on for ever"

    def readings(self, since_ns):
        t = np.arange(since_ns // S + 1, self.now // S + 1) * S
        t = np.array([one for one in t if not self.muted(one)], np.int64)
        return [Readings(t, np.ones(len(t)), np.array([self.watts(one) for one in t]))]

    def means(self, window):
        t = np.arange(window.start_ns, window.end_ns, S // 10)
        lacks = ["the meter speaks for a part only"] if any(self.muted((one // S + 1) * S) for one in t) else []
        if self.lost_parts:
            self.lost_parts -= 1
            lacks.append("gpu0 is lost")
        wall_w = math.nan if lacks else float(np.mean([self.watts(one) for one in t]))
        busy_pct = self.gpu_busy.pop(0) if self.gpu_busy else 0.0
        return Means({"cpu": 100.0}, {"cpu": 0.1}, wall_w, 0.1, 1.0, gpu_busy_pct=busy_pct, lacks=tuple(lacks))

    # ---- `Watch`

    cpus, limit_cpus = 10, 0.1

    def look(self, now_ns):
        used = sum(n * (min(now_ns, end) - start) / S for start, end, n in self.others if now_ns > start)
        return Accounts(now_ns, self.cpus, self.cpus * now_ns / S - used, 0.0)

    def around(self):
        hot = self.throttle_at is not None and self.now >= self.throttle_at
        return Surroundings(55.0, 4000.0, {"core": int(hot)})


TIMES = Times(window_s=20, settle_s=240, dwell_s=30, lost_s=60)


def climb(world, rungs=("primes:50", "primes:100"), times=TIMES, **more):
    """Return what was kept and what was told, from idle to idle."""
    kept, trouble, told = [], [], []
    ladder = [rung({}), *parse_rungs(",".join(rungs)), rung({})]
    up = Climb(world, world, times, world, world.around, told.append, **more)
    up.run(ladder, kept.append, trouble)
    return kept, trouble, told


@pytest.mark.parametrize("tau_s", [15.0, 30.0, 60.0])
def test_climb_waits_until_the_fans_nearly_stand_still_and_tells_what_they_settle_to(tau_s):
    """With a lag of 60 s a slope of 0.1 % in 10 s leaves 0.6 % to come: the bend tells how much."""
    kept, trouble, _ = climb(World(tau_s=tau_s), times=replace(TIMES, settle_s=300))
    assert [one.rung.name for one in kept] == ["idle", "primes 50 %", "primes 100 %", "idle"]
    for one in kept:
        settled_w = IDLE_W + SPAN_W * one.rung.level
        assert one.means.wall_w + one.to_come_w == pytest.approx(settled_w, rel=0.0002)
        assert one.to_come_u_w <= 0.00101 * settled_w
        assert one.window.duration_s >= TIMES.dwell_s
        assert one.marks == ()
    assert kept[0].settled_s < kept[2].settled_s  # nothing to wait for, and 200 W
    assert trouble == []


def test_climb_that_only_seemed_steady_goes_on_settling():
    """Fans stand still until their controller has seen enough: nothing moves for a minute, and then it does."""
    world = World(dead_s=60.0)
    kept, _, _ = climb(world, ("primes:50",), replace(TIMES, settle_s=300))
    assert [one.marks for one in kept] == [()] * 3
    assert kept[1].means.wall_w + kept[1].to_come_w == pytest.approx(IDLE_W + SPAN_W / 2, rel=0.0005)


def test_climb_points_do_not_depend_on_what_ran_before():
    """Lags of 60 s and two orders: an idle first rung, and one after full load, tell the same of the same load."""
    orders = [("primes:25", "primes:100", "primes:50"), ("primes:100", "primes:50", "primes:25")]
    found = []
    for order in orders:
        kept, _, _ = climb(World(tau_s=60.0), order)
        found.append({one.rung.name: one for one in kept})
    for name, one in found[0].items():
        other = found[1][name]
        told = [each.means.wall_w + each.to_come_w for each in (one, other)]
        assert told[0] == pytest.approx(told[1], rel=0.0005)
        assert abs(told[0] - told[1]) <= 2 * math.hypot(one.to_come_u_w, other.to_come_u_w) + 1e-6


def test_climb_windows_lie_within_their_load():
    world = World()
    kept, _, _ = climb(world)
    ends = [start for start, _ in world.begun[1:]] + [world.now]
    for one, (begin, name), end in zip(kept, world.begun, ends, strict=True):
        assert one.rung.name == name
        assert begin < one.window.start_ns
        assert one.window.end_ns + world.late_s * S <= end


def test_climb_that_never_stands_still_is_marked_after_a_bounded_wait():
    world = World(ripple_w=20.0)
    kept, _, _ = climb(world)
    assert all(UNSTEADY in one.marks for one in kept)
    assert all(one.settled_s < TIMES.settle_s + 5 for one in kept)
    assert all(abs(one.drift_pct) > 0 for one in kept)


def test_climb_over_fans_that_hunt_ends_marked_in_the_time_that_was_told():
    """Between two steps the wall stands still, and never for a whole point."""
    world = World(hunt_w=3.0)
    start_ns = world.now
    kept, _, _ = climb(world, ("primes:50",))
    assert len(kept) == 3
    assert any(UNSTEADY in one.marks for one in kept)
    assert (world.now - start_ns) / S <= duration_s(3, TIMES)[1]


@pytest.mark.parametrize(
    ("when", "begun"),
    [
        (125, ["idle", "idle", "primes 50 %", "primes 100 %", "idle"]),  # the first idle, at its place
        (250, ["idle", "primes 50 %", "primes 100 %", "primes 50 %", "idle"]),  # a load, before the last idle
    ],
)
def test_climb_point_that_others_disturb_is_repeated(when, begun):
    world = World(others=[(when * S, (when + 5) * S, 2.0)])
    kept, trouble, _ = climb(world)
    assert [name for _, name in world.begun] == begun
    assert not any(DISTURBED in one.marks for one in kept)
    assert len(trouble) == 1
    assert trouble[0].endswith("CPUs busy, and 0.1 may be")


def test_climb_point_that_is_always_disturbed_is_marked_after_so_many_tries():
    world = World(others=[(0, 10**6 * S, 1.0)])
    kept, trouble, _ = climb(world, ("primes:50",), tries=2)
    assert [one.marks for one in kept] == [(DISTURBED,)] * 3
    assert [name for _, name in world.begun] == ["idle", "idle", "primes 50 %", "primes 50 %", "idle", "idle"]
    assert len(trouble) == 3


def test_climb_point_is_repeated_where_others_use_a_gpu_that_should_be_idle():
    kept, trouble, _ = climb(World(gpu_busy=[0.0, 40.0, 99.0]), ("primes:50", "gpu:100"))
    assert [one.rung.name for one in kept] == ["idle", "gpu 100 %", "primes 50 %", "idle"]
    assert trouble == ["primes 50 % is repeated: others kept a GPU busy for 40 % of the time"]


def test_climb_meter_that_is_gone_for_a_while_costs_time_and_no_point():
    """A point for a part of which it told nothing is not taken: the next one that it speaks for is."""
    world = World(mute=[(115 * S, 127 * S)], late_s=0.4)
    kept, trouble, _ = climb(world)
    assert kept[0].window.start_ns >= 126 * S
    assert [one.rung.name for one in kept].count("idle") == 2
    assert trouble == []


def test_climb_meter_gone_while_settling_is_waited_for_and_costs_no_mark():
    world = World(mute=[(180 * S, 235 * S)])
    kept, _, told = climb(world)
    assert "waiting for the meter" in {one.doing for one in told}
    assert [one.marks for one in kept] == [()] * 4


def test_climb_meter_that_stays_away_ends_it_with_what_to_do():
    world, kept = World(mute=[(200 * S, 10**6 * S)]), []
    with pytest.raises(MeterLost, match=r"told nothing for 6. s.*goes on from here"):
        Climb(world, world, TIMES, world, world.around).run(
            [rung({}), *parse_rungs("primes:50"), rung({})], kept.append, []
        )
    assert [one.rung.name for one in kept] == ["idle"]
    assert world.changes[-1][1] == 0.0  # nothing works on


def test_climb_without_a_single_reading_is_a_lost_meter():
    with pytest.raises(MeterLost):
        climb(World(mute=[(0, 10**6 * S)]))


def test_climb_throttled_point_is_marked_and_kept():
    world = World(throttle_at=220 * S)
    kept, _, _ = climb(world)
    assert sum(THROTTLED in one.marks for one in kept) == 1


def test_climb_component_that_is_lost_for_good_gives_no_point_and_says_so():
    kept, trouble, _ = climb(World(lost_parts=100), ("primes:50",), tries=2)
    assert kept == []
    assert trouble[-1] == "idle gave no point in 2 tries: gpu0 is lost"


def test_climb_load_that_fails_ends_it_at_once():
    world = World()
    world.failure = DeviceError("no memory for stream")
    with pytest.raises(DeviceError, match="no memory"):
        climb(world)
    assert world.now < 110 * S


def test_climb_interrupted_ends_the_load():
    world = World()

    def interrupt(progress):
        if progress.doing == "measuring" and progress.rung == "primes 50 %":
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        Climb(world, world, TIMES, None, world.around, interrupt).run(
            [rung({}), *parse_rungs("primes:50"), rung({})], kept.append, []
        )
    assert len(kept) == 1
    assert world.changes[-1][1] == 0.0


def test_climb_progress_tells_the_time_left():
    _, _, told = climb(World())
    assert [one.number for one in told] == sorted(one.number for one in told)
    assert 0 < told[-1].left_s < told[0].left_s * 2
    assert told[-1].total == 4


def test_climb_without_accounts_of_cpus_says_nan_and_disturbs_nothing():
    world, kept = World(others=[(0, 10**6 * S, 5.0)]), []
    Climb(world, world, replace(TIMES, dwell_s=20), None, world.around).run([rung({})], kept.append, [])
    assert kept[0].marks == ()
    assert math.isnan(kept[0].others_cpus)


# ---- a meter over a point


def lagging(tau_s, size_w, settled_w=1000.0, seconds=120, noise_w=0.0):
    """Readings of a second each of what settles by a lag, from the load's begin on."""
    t_ns = np.arange(1, seconds + 1) * S
    exact = settled_w - size_w * np.exp(-(t_ns / S - 0.5) / tau_s)
    return Readings(t_ns, np.ones(seconds), exact + noise_w * np.random.default_rng(1).standard_normal(seconds))


def stands(readings, before_w=None, lag_s=30.0, times=TIMES):
    end_ns = int(readings.t_ns[-1])
    return standing(readings, end_ns - 30 * S, end_ns, Load(0, 0, before_w, lag_s), times)


@pytest.mark.parametrize("tau_s", [12.0, 30.0, 60.0])
@pytest.mark.parametrize("noise_w", [0.0, 0.05])
def test_standing_tells_from_the_bend_what_is_still_to_come(tau_s, noise_w):
    told = stands(lagging(tau_s, 60.0, noise_w=noise_w))
    assert told.line.mean_w + told.to_come_w == pytest.approx(1000.0, abs=max(0.2, 2 * told.to_come_u_w))
    assert told.to_come_u_w >= 0.5 * abs(told.to_come_w)
    if tau_s > 12 and not noise_w:
        assert told.lag_s == pytest.approx(tau_s, rel=0.1)


def test_standing_of_a_drift_without_a_bend_adds_nothing_and_is_unsure_of_a_minute_of_it():
    t_ns = np.arange(1, 121) * S
    told = stands(Readings(t_ns, np.ones(120), 1000.0 + 0.02 * t_ns / S))
    assert (told.to_come_w, told.lag_s) == (0.0, None)
    assert told.to_come_u_w == pytest.approx(0.02 * 60 / math.sqrt(3), rel=0.01)
    assert told.steady(TIMES)
    assert not stands(Readings(t_ns, np.ones(120), 1000.0 + 0.05 * t_ns / S)).steady(TIMES)


def test_standing_of_fans_that_have_not_moved_has_room_for_them_until_all_is_warm():
    """What rests at its least speed stands still at the meter whatever is to come; what moved has shown itself."""
    still = Readings(np.arange(1, 61) * S, np.ones(60), np.full(60, 1000.0))
    after_a_rise = stands(still, before_w=700.0)
    assert after_a_rise.to_come_u_w == pytest.approx(0.2 * 300 * math.exp(-60 / 30) / math.sqrt(3))
    assert not after_a_rise.steady(TIMES)
    assert stands(still, before_w=1000.0).steady(TIMES)
    assert stands(still).steady(TIMES)  # nobody knows what was before
    long = Readings(np.arange(1, 201) * S, np.ones(200), np.full(200, 1000.0))
    assert stands(long, before_w=700.0).steady(TIMES)
    assert not stands(long, before_w=700.0, lag_s=60.0).steady(TIMES)


def test_standing_is_none_where_the_meter_does_not_speak_for_the_point():
    some = lagging(30.0, 10.0)
    gap = Readings(
        *(each[(np.arange(120) < 100) | (np.arange(120) > 105)] for each in (some.t_ns, some.span_s, some.watts))
    )
    assert stands(gap) is None


def test_followed_lag_is_the_longest_that_moved_and_heat_follows_the_wall():
    moved = stands(lagging(50.0, 60.0))
    lag_s, heat_w = followed(30.0, 700.0, 1000.0, [moved], 50.0)
    assert lag_s == pytest.approx(50.0, rel=0.1)
    assert heat_w == pytest.approx(1000.0 - 300.0 * math.exp(-50.0 / lag_s))
    still = stands(Readings(np.arange(1, 61) * S, np.ones(60), np.full(60, 1000.0)))
    assert followed(30.0, None, 1000.0, [still], 50.0) == (30.0, 1000.0)
    assert followed(30.0, 700.0, math.nan, [still], 50.0) == (30.0, 700.0)
