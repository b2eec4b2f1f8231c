# SPDX-License-Identifier: Apache-2.0
"""Up the ladder: each rung once it is steady, again where others or a lost meter spoiled it, in bounded time.

What a rung's means are taken over begins once the meter was found steady, and ends while the load goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from powersample.errors import DeviceError
from powersample.experiments.calibrate.plan import GPU, IDLE, Rung, Times
from powersample.experiments.calibrate.steadiness import last_trend, trend
from powersample.fit.follows import THROTTLED, UNSTEADY
from powersample.model import Window

if TYPE_CHECKING:
    from powersample.experiments.calibrate.disturbance import Accounts, Watch
    from powersample.experiments.calibrate.ground import Ground
    from powersample.experiments.calibrate.seen import Means, Seen
    from powersample.experiments.calibrate.surroundings import Surroundings

DISTURBED = "disturbed"  # a mark, as `fit.follows` has others
LOOK_S = 1.0  # between looks at the meter; less where the window is short
LOOKS_A_WINDOW = 4
AFTER_CHANGE_S = 0.3  # supplies hold up for tens of ms, loads need as long to be there
TRIES = 3  # of one rung
MOST_GPU_PCT = 5.0  # of the time that a GPU may work where none is to: a display's does
FAN_SPANS = 3  # lag of fans in spans of `Times.per_s`, 30 s of 10 s: what a slope says is still to come


class MeterLost(DeviceError):  # noqa: N818 (as in errors.py)
    """The meter is gone and does not come back; points that were taken are kept."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A rung as it was measured.

    Attributes:
        rung: the rung.
        window: over which.
        means: what was found.
        marks: "unsteady", "disturbed", "throttled".
        settled_s: from the load's begin until its window began.
        drift_pct: what the meter still rose by in `Times.per_s`, %; NaN where nobody could tell.
        others_cpus: how many CPUs others kept busy; NaN where nobody could tell.
        around: temperature and fans.
    """

    rung: Rung
    window: Window
    means: Means
    marks: tuple[str, ...]
    settled_s: float
    drift_pct: float
    others_cpus: float
    around: Surroundings

    @property
    def useless(self) -> str:
        """Why it is no point; "" when it is one."""
        return "" if math.isfinite(self.means.wall_w) and not self.means.lacks else "; ".join(self.means.lacks)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where it stands.

    Attributes:
        number: of the rung that is being measured, from 1.
        total: of rungs, repeats included.
        rung: its name.
        doing: "settling", "measuring", "waiting for the meter", or what came of it.
        wall_w: what the meter says; None when it says nothing.
        left_s: how long the rest takes if it goes on like this.
    """

    number: int
    total: int
    rung: str
    doing: str
    wall_w: float | None
    left_s: float


@dataclass
class Climb:
    """The ladder's way through.

    Attributes:
        ground: makes the loads.
        seen: what comes of them.
        times: for each point.
        watch: others' use of the CPUs; None where it cannot be told, or does not matter.
        look: temperature, fans and throttling.
        tell: told how it stands.
        tries: of one rung.
    """

    ground: Ground
    seen: Seen
    times: Times
    watch: Watch | None
    look: Callable[[], Surroundings]
    tell: Callable[[Progress], None] = lambda _: None
    tries: int = TRIES
    _running: tuple[Rung, int] | None = field(default=None, init=False)

    def run(self, rungs: Sequence[Rung], keep: Callable[[Taken], None], trouble: list[str]) -> None:
        """Measure rungs in order; those that were spoiled come again, before the last.

        Args:
            rungs: what to measure; a last idle stays the last.
            keep: given every point.
            trouble: what has to be told is added here.

        Raises:
            MeterLost: the meter told nothing for `times.lost_s`.
            PowerSampleError: a load could not run.
        """
        todo = [(rung, 1) for rung in rungs]
        done, began_ns = 0, self.seen.now_ns()
        try:
            while todo:
                rung, attempt = todo.pop(0)
                pace_s = (self.seen.now_ns() - began_ns) * 1e-9 / done if done else self._pace_s()
                where = Progress(done + 1, done + 1 + len(todo), rung.name, "", None, pace_s * (1 + len(todo)))
                taken = self._rung(rung, where, trouble, todo[0][0] if todo else None)
                done += 1
                why = self._spoiled(taken)
                if why and attempt < self.tries:
                    trouble.append(f"{rung.name} is repeated: {why}")
                    todo.insert(_place(rung, [one for one, _ in todo]), (rung, attempt + 1))
                elif taken.useless:
                    trouble.append(f"{rung.name} gave no point in {attempt} tries: {why}")
                else:
                    keep(taken)
                self.tell(replace(where, doing=f"done{f', {why}' if why else ''}", wall_w=taken.means.wall_w))
        finally:
            self._running = None
            self.ground.end()

    def _begin(self, rung: Rung) -> int:
        """Begin a load unless it runs; return when it began."""
        if self._running is None or self._running[0] is not rung:
            self.ground.end()
            self.ground.begin(rung)
            self._running = rung, self.seen.now_ns()
        return self._running[1]

    def _pace_s(self) -> float:
        return max(self.times.least_s, 2 * self.times.window_s) + self.times.dwell_s + self.seen.late_s

    def _spoiled(self, taken: Taken) -> str:
        """Return why a rung should be measured again; "" when it need not."""
        if taken.useless or DISTURBED not in taken.marks:
            return taken.useless
        if self.watch is None or not taken.others_cpus > self.watch.limit_cpus:
            return f"others kept a GPU busy for {taken.means.gpu_busy_pct:.0f} % of the time"
        return f"others kept {taken.others_cpus:.2g} CPUs busy, and {self.watch.limit_cpus:.2g} may be"

    def _rung(self, rung: Rung, where: Progress, trouble: list[str], after_it: Rung | None) -> Taken:
        """Measure a rung; what comes after it begins before this one's energies are told, which takes a while."""
        begin_ns, before = self._begin(rung), self.look()
        latest_ns = begin_ns + round(self.times.settle_s * 1e9)
        while True:
            start_ns, steady, accounts = self._settle(begin_ns, where)
            end_ns = start_ns + round(self.times.dwell_s * 1e9)
            self.tell(replace(where, doing="measuring"))
            self.seen.sleep((end_ns - self.seen.now_ns()) * 1e-9)
            after, others_cpus = self.look(), self._others(accounts)
            self.ground.check()
            self.seen.sleep(self.seen.late_s)
            told = [trend(one.between(start_ns, end_ns)) for one in self.seen.readings(start_ns)]
            lines = [line for line in told if line is not None]
            stayed = all(line.steady(self.times) for line in lines)
            if stayed or not steady or self.seen.now_ns() >= latest_ns:
                break  # else it only seemed so: before the fans moved, or at a crest
        trouble += [f"{rung.name}: {text}" for text in self.ground.end()]
        self._running = None
        busy = self.watch is not None and others_cpus > self.watch.limit_cpus
        if after_it is not None and not busy:
            self._begin(after_it)
        window = Window(rung.name, start_ns, end_ns, (), "calibrate")
        means = self.seen.means(window)
        to_come_w = sum(abs(line.slope_w_s) for line in lines) * FAN_SPANS * self.times.per_s / math.sqrt(3)
        busy = busy or (GPU not in rung.parts and means.gpu_busy_pct > MOST_GPU_PCT)
        held_back = means.throttled or before.held_back(after)
        marked = ((UNSTEADY, not (steady and stayed)), (DISTURBED, busy), (THROTTLED, held_back))
        return Taken(
            rung=rung,
            window=window,
            means=replace(means, wall_u_w=math.hypot(means.wall_u_w, to_come_w)),
            marks=tuple(mark for mark, true in marked if true),
            settled_s=(start_ns - begin_ns) * 1e-9,
            drift_pct=max((line.drift_pct(self.times.per_s) for line in lines), key=abs, default=math.nan),
            others_cpus=others_cpus,
            around=after,
        )

    def _settle(self, begin_ns: int, where: Progress) -> tuple[int, bool, Accounts | None]:
        """Wait until the meter stands still.

        Returns:
            Since when, whether it does, and the CPUs' accounts of then.
        """
        window_s = self.times.window_s
        first_ns = begin_ns + round((AFTER_CHANGE_S + self.seen.unsure_s) * 1e9)
        soonest_ns = begin_ns + round(self.times.least_s * 1e9)
        latest_ns = first_ns + round(self.times.settle_s * 1e9)
        heard_ns = begin_ns
        while True:
            self.seen.sleep(min(LOOK_S, window_s / LOOKS_A_WINDOW))
            self.ground.check()
            accounts = self._look_at_cpus()
            now_ns = self.seen.now_ns()
            readings = self.seen.readings(max(begin_ns, now_ns - round(3 * window_s * 1e9)))
            if readings and all(len(one) for one in readings):
                heard_ns = min(int(one.t_ns[-1]) for one in readings)
            lost_s = (now_ns - heard_ns) * 1e-9
            if lost_s > self.times.lost_s:
                raise MeterLost(
                    f"the meter has told nothing for {lost_s:.0f} s",
                    "Look at its plug, its cable and its power, and run the same command again: it goes on from here.",
                )
            gone = lost_s > 2 * max(window_s, LOOK_S)
            wall_w = None if gone else sum(float(one.watts[-1]) for one in readings if len(one)) or None
            self.tell(replace(where, doing="waiting for the meter" if gone else "settling", wall_w=wall_w))
            if gone:  # what settles meanwhile cannot be seen
                latest_ns = max(latest_ns, now_ns + round(window_s * 1e9))
                continue
            lines = [last_trend(one, heard_ns, first_ns, window_s) for one in readings]
            steady = bool(lines) and all(line is not None and line.steady(self.times) for line in lines)
            if (steady and now_ns >= soonest_ns) or now_ns > latest_ns:
                return now_ns, steady, accounts

    def _look_at_cpus(self) -> Accounts | None:
        return None if self.watch is None else self.watch.look(self.seen.now_ns())

    def _others(self, before: Accounts | None) -> float:
        now = self._look_at_cpus()
        return math.nan if before is None or now is None else before.others_cpus(now)


def _place(rung: Rung, todo: Sequence[Rung]) -> int:
    """Return where a rung comes again: idle at once, for its place matters; others before the last idle."""
    if rung.name == IDLE:
        return 0
    return len(todo) - 1 if todo and todo[-1].name == IDLE else len(todo)
