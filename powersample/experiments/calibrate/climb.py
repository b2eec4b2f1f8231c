# SPDX-License-Identifier: Apache-2.0
"""Up the ladder: each rung once it is steady, again where others or a lost meter spoiled it, in bounded time.

A rung's means are taken over the last seconds before it was seen that the meter had stood still during all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from powersample.errors import DeviceError
from powersample.experiments.calibrate.plan import GPU, IDLE, Rung, Times
from powersample.experiments.calibrate.steadiness import LAG_SPANS, Load, Standing, followed, standing
from powersample.fit.follows import THROTTLED, UNSTEADY
from powersample.model import Window, amount

if TYPE_CHECKING:
    from powersample.experiments.calibrate.disturbance import Accounts, Watch
    from powersample.experiments.calibrate.ground import Ground
    from powersample.experiments.calibrate.seen import Means, Seen
    from powersample.experiments.calibrate.surroundings import Surroundings

DISTURBED = "disturbed"  # a mark, as `fit.follows` has others
LOOK_S = 1.0  # between looks at the meter; less where the window is short
LOOKS_A_WINDOW = 4
AFTER_CHANGE_S = 1.0  # supplies hold up for tens of ms, loads need as long to be there, and boards average a second
TRIES = 3  # of one rung
MOST_GPU_PCT = 5.0  # of the time that a GPU may work where none is to: a display's does


class MeterLost(DeviceError):  # noqa: N818 (as in errors.py)
    """The meter is gone and does not come back; points that were taken are kept."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A rung as it was measured.

    Attributes:
        rung: the rung.
        window: over which.
        means: what was found; the wall's is as the meter told it.
        marks: "unsteady", "disturbed", "throttled".
        settled_s: from the load's begin until its window began.
        drift_pct: what the meter still rose by in `Times.per_s`, %; NaN where nobody could tell.
        to_come_w: by how much the wall would still have risen until it had settled.
        to_come_u_w: standard uncertainty of that.
        others_cpus: how many CPUs others kept busy; NaN where nobody could tell.
        around: temperature and fans.
    """

    rung: Rung
    window: Window
    means: Means
    marks: tuple[str, ...]
    settled_s: float
    drift_pct: float
    to_come_w: float
    to_come_u_w: float
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
    _lag_s: float = field(default=0.0, init=False)
    _heat_w: float | None = field(default=None, init=False)  # wall power that fans follow, at the last rung's end

    def __post_init__(self) -> None:
        self._lag_s = LAG_SPANS * self.times.per_s

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
        return max(self.times.least_s, self._span_s + self.seen.late_s)

    @property
    def _span_s(self) -> float:
        """How long the meter must have stood still: during a point, and for `window_s`."""
        return max(self.times.window_s, self.times.dwell_s)

    def _spoiled(self, taken: Taken) -> str:
        """Return why a rung should be measured again; "" when it need not."""
        if taken.useless or DISTURBED not in taken.marks:
            return taken.useless
        if self.watch is None or not taken.others_cpus > self.watch.limit_cpus:
            return f"others kept a GPU busy for {taken.means.gpu_busy_pct:.0f} % of the time"
        return f"others kept {amount(taken.others_cpus, 2)} CPUs busy, and {amount(self.watch.limit_cpus, 2)} may be"

    def _rung(self, rung: Rung, where: Progress, trouble: list[str], after_it: Rung | None) -> Taken:
        """Measure a rung; what comes after it begins before this one's energies are told, which takes a while."""
        begin_ns, before = self._begin(rung), self.look()
        end_ns, stands, steady, others_cpus = self._settle(begin_ns, where)
        after = self.look()
        trouble += [f"{rung.name}: {text}" for text in self.ground.end()]
        self._running = None
        busy = self.watch is not None and others_cpus > self.watch.limit_cpus
        if after_it is not None and not busy:
            self._begin(after_it)
        start_ns = end_ns - round(self.times.dwell_s * 1e9)
        means = self.seen.means(Window(rung.name, start_ns, end_ns, (), "calibrate"))
        self._lag_s, self._heat_w = followed(
            self._lag_s, self._heat_w, means.wall_w, stands, (end_ns - begin_ns) * 1e-9
        )
        busy = busy or (GPU not in rung.parts and means.gpu_busy_pct > MOST_GPU_PCT)
        held_back = means.throttled or before.held_back(after)
        marked = ((UNSTEADY, not steady), (DISTURBED, busy), (THROTTLED, held_back))
        return Taken(
            rung=rung,
            window=Window(rung.name, start_ns, end_ns, (), "calibrate"),
            means=means,
            marks=tuple(mark for mark, true in marked if true),
            settled_s=(start_ns - begin_ns) * 1e-9,
            drift_pct=max((one.line.drift_pct(self.times.per_s) for one in stands), key=abs, default=math.nan),
            to_come_w=sum(one.to_come_w for one in stands),
            to_come_u_w=sum(one.to_come_u_w for one in stands),
            others_cpus=others_cpus,
            around=after,
        )

    def _settle(self, begin_ns: int, where: Progress) -> tuple[int, list[Standing], bool, float]:
        """Wait until every meter has stood still for a point's length.

        Returns:
            Until when, how each one stands, whether they stand still, and how many CPUs others kept busy.
        """
        times, span_ns, late_ns = self.times, round(self._span_s * 1e9), round(self.seen.late_s * 1e9)
        first_ns = begin_ns + round((AFTER_CHANGE_S + self.seen.unsure_s) * 1e9)
        latest_ns = first_ns + max(round(times.settle_s * 1e9), span_ns + late_ns)
        load, heard_ns, accounts = Load(begin_ns, first_ns, self._heat_w, self._lag_s), begin_ns, [self._look_at_cpus()]
        while True:
            self.seen.sleep(min(LOOK_S, times.window_s / LOOKS_A_WINDOW))
            self.ground.check()
            accounts.append(self._look_at_cpus())
            now_ns = self.seen.now_ns()
            readings = self.seen.readings(begin_ns)
            if readings and all(len(one) for one in readings):
                heard_ns = min(int(one.t_ns[-1]) for one in readings)
            lost_s = (now_ns - heard_ns) * 1e-9
            if lost_s > times.lost_s:
                raise MeterLost(
                    f"the meter has told nothing for {lost_s:.0f} s",
                    "Look at its plug, its cable and its power, and run the same command again: it goes on from here.",
                )
            gone = lost_s > 2 * max(times.window_s, LOOK_S)
            wall_w = None if gone else sum(float(one.watts[-1]) for one in readings if len(one)) or None
            end_ns = now_ns - late_ns
            doing = "waiting for the meter" if gone else "settling" if end_ns - span_ns < first_ns else "measuring"
            self.tell(replace(where, doing=doing, wall_w=wall_w))
            if gone:  # what settles meanwhile cannot be seen
                latest_ns = max(latest_ns, now_ns + span_ns)
                continue
            if end_ns - span_ns < first_ns or now_ns < begin_ns + round(times.least_s * 1e9):
                continue
            told = [standing(one, end_ns - span_ns, end_ns, load, times) for one in readings]
            stands = [one for one in told if one is not None]
            steady = bool(told) and len(stands) == len(told) and all(one.steady(times) for one in stands)
            if steady or now_ns > latest_ns:
                return end_ns, stands, steady, self._others(accounts, end_ns - round(times.dwell_s * 1e9))

    def _look_at_cpus(self) -> Accounts | None:
        return None if self.watch is None else self.watch.look(self.seen.now_ns())

    def _others(self, looks: Sequence[Accounts | None], start_ns: int) -> float:
        """Return how many CPUs others kept busy from the last look before an instant until now."""
        known = [one for one in looks if one is not None]
        before = [one for one in known if one.at_ns <= start_ns]
        return before[-1].others_cpus(known[-1]) if before else math.nan


def _place(rung: Rung, todo: Sequence[Rung]) -> int:
    """Return where a rung comes again: idle at once, for its place matters; others before the last idle."""
    if rung.name == IDLE:
        return 0
    return len(todo) - 1 if todo and todo[-1].name == IDLE else len(todo)
