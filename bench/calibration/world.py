# SPDX-License-Identifier: Apache-2.0
"""A drawn node in virtual time: a ladder at its meter, then loads that nobody calibrated, as its counters tell them.

Counters and meter have the gains that were drawn; the truth is the plug's exact power. A rung is taken as by
`powersample calibrate`: once the meter stands still, before it and while it is measured, or after its longest wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.calibration.loads import RESTED, Course
from powersample.experiments.calibrate.ground import BOARD, NodeGround
from powersample.experiments.calibrate.plan import Rung, Times
from powersample.experiments.calibrate.steadiness import LAG_SPANS, Load, Readings, followed, standing
from powersample.experiments.reproduce.recorded import counted_parts, recorded
from powersample.model import OperatingPoint, Trace, Window, simulated_key
from powersample.session.simulate import make_node
from powersample.sim import Node

S = 1_000_000_000
BEGIN_NS = 10**17  # far in the future, where the same node always tells the same
CYCLE_S, NOISE_CYCLE_S = 0.5, 0.05  # of the meter; and the one that its noise is told of
READING_SHARE, RANGE_SHARE = 0.0007, 0.0004  # LMG450: 0.07 % of reading and 0.04 % of range
RANGE_OF_FULL = 2.0  # assumed: the range's peak power over the greatest reading
TIMES = Times()
LOOK_S = 5.0
REST_S = 300.0  # idle, or at full power, before a load: five time constants of the slowest fans
FULL = {"package": 1.0, "dram": 1.0, "gpu": 1.0}
BEFORE_S, AFTER_S, POLL_S = 5.0, 3.0, 0.1  # of a record around its load, and between its polls


@dataclass(frozen=True, slots=True)
class Case:
    """A load beside its truth.

    Attributes:
        kind: of the load.
        start: of it.
        window: over it.
        trace: what the counters told.
        truth_j: the exact energy at the plug.
    """

    kind: str
    start: str
    window: Window
    trace: Trace
    truth_j: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A node that was drawn.

    Attributes:
        key: its name and seeds, as a calibration of it has them.
        points: by the ladder.
        cases: loads that nobody calibrated.
    """

    key: str
    points: tuple[OperatingPoint, ...]
    cases: tuple[Case, ...]


def draw(spec: str, seed: int, rungs: Sequence[Rung], courses: Sequence[Course]) -> Drawn:
    """Return what a node's meter and counters tell of a ladder and of loads.

    Args:
        spec: as `record --simulate` takes it.
        seed: which node of that kind, and the meter's noise.
        rungs: the ladder, in order.
        courses: the loads.
    """
    slot_s = TIMES.settle_s + TIMES.dwell_s + 2 * LOOK_S
    with make_node(spec, node_seed=seed, begin_ns=BEGIN_NS) as node:
        world = _World(node, seed)
        at_s, spans, powers = 1.0, [], []
        for rung in rungs:
            powers.append((at_s, world.ground.powers_w(rung)))
            spans.append((at_s, at_s + slot_s))
            at_s += slot_s
        starts = []
        for course in courses:
            if course.start != RESTED:
                powers += [(at_s, world.powers_w(FULL)), (at_s + REST_S, world.powers_w({}))]
            else:
                powers.append((at_s, world.powers_w({})))
            starts.append(at_s + REST_S + course.pause_s)
            powers += [(starts[-1] + t_s, world.powers_w(shares)) for t_s, shares in course.steps]
            at_s = starts[-1] + course.duration_s
            powers.append((at_s, world.powers_w({})))
            at_s += AFTER_S
        world.give(powers)
        points = tuple(world.point(rung, *span) for rung, span in zip(rungs, spans, strict=True))
        cases = tuple(world.case(course, start_s) for course, start_s in zip(courses, starts, strict=True))
        return Drawn(simulated_key(node.describe()), points, cases)


class _World:
    def __init__(self, node: Node, seed: int) -> None:
        self.node, self.ground = node, NodeGround(node)
        self._told, self._dice = node.describe(), np.random.default_rng([seed, 7])
        gpu = tuple(float(node.profile[f"board.{name}_w"]) for name in ("idle", "max"))
        self._ranges_w = {f"gpu{i}": gpu for i in range(len(node.gpu_uuids))} | {
            part.name: (part.idle_mw / 1e3, part.max_mw / 1e3)
            for part in node.parts
            if part.domain in ("package", "dram", BOARD)
        }
        most_w = sum(high for _, high in self._ranges_w.values())
        self._range_w = RANGE_OF_FULL * most_w
        self._counters = counted_parts(node)
        self._lag_s, self._heat_w = LAG_SPANS * TIMES.per_s, None

    def powers_w(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Return every part's power, by shares of ranges ("gpu0", "gpu", "package", "dram"); the board's follows."""
        own = {name: shares.get(name, shares.get(_domain(name), 0.0)) for name in self._ranges_w if name != BOARD}
        spans = {name: high - low for name, (low, high) in self._ranges_w.items()}
        own[BOARD] = sum(share * spans[name] for name, share in own.items()) / sum(spans[name] for name in own)
        return {name: low + own[name] * (high - low) for name, (low, high) in self._ranges_w.items()}

    def give(self, powers: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Give the node its loads, (seconds from its begin, W by part)."""
        for name in self._ranges_w:
            self.node.load_script(name, [(t_s, watts[name]) for t_s, watts in powers], start_ns=BEGIN_NS)

    # ---- at the meter ---------------------------------------------------------------------------------------------

    def point(self, rung: Rung, begin_s: float, end_s: float) -> OperatingPoint:
        """Return a rung's point, once the meter stands still."""
        readings = self._readings(begin_s, end_s)
        begin_ns, dwell_ns = _ns(begin_s), round(TIMES.dwell_s * S)
        load = Load(begin_ns, begin_ns, self._heat_w, self._lag_s)
        stop_ns, steady = begin_ns + round(TIMES.least_s * S), False
        while not steady and stop_ns < begin_ns + round(TIMES.settle_s * S):  # as `Climb` does it
            stop_ns += round(LOOK_S * S)
            stands = standing(readings, stop_ns - dwell_ns, stop_ns, load, TIMES)
            steady = stands is not None and stands.steady(TIMES)
        start_ns = stop_ns - dwell_ns
        noise_w = self._noise_w / (TIMES.dwell_s / CYCLE_S) ** 0.5
        told_w = float(np.mean(readings.between(start_ns, stop_ns).watts))
        self._lag_s, self._heat_w = followed(
            self._lag_s, self._heat_w, told_w, [stands], TIMES.settle_s + TIMES.dwell_s
        )
        wall_w = told_w + stands.to_come_w
        seconds = (stop_ns - start_ns) / S
        parts = {
            group: sum(self._gain(name) * self.node.truth_j(name, start_ns, stop_ns) for name in names) / seconds
            for group, names in self._counters.items()
        }
        edges = np.array([start_ns, stop_ns])
        parts["gpu"] = (
            sum(
                float(np.diff(self.node.sensor_values(gpu, "energy", edges))[0])
                for gpu in range(len(self.node.gpu_uuids))
            )
            / seconds
        )
        return OperatingPoint(
            rung.name, rung.kernel, rung.level, parts, {}, wall_w, math.hypot(noise_w, stands.to_come_u_w),
            accuracy_w=READING_SHARE * wall_w + RANGE_SHARE * self._range_w, duration_s=seconds,
            marks=() if steady else ("unsteady",),
        )  # fmt: skip

    def _readings(self, begin_s: float, end_s: float) -> Readings:
        stamps = np.arange(_ns(begin_s), _ns(end_s), round(CYCLE_S * S))
        joules = _interpolated(self.node, "wall", stamps)
        gain = 1 + self._told["meter"]["gain_pct"] / 100
        noise_w = self._noise_w * self._dice.standard_normal(len(stamps) - 1)
        return Readings(stamps[1:], np.full(len(stamps) - 1, CYCLE_S), gain * np.diff(joules) / CYCLE_S + noise_w)

    @property
    def _noise_w(self) -> float:
        return float(self._told["meter"]["noise_w"]) * (NOISE_CYCLE_S / CYCLE_S) ** 0.5

    # ---- at the counters ------------------------------------------------------------------------------------------

    def case(self, course: Course, start_s: float) -> Case:
        """Return a load's record and truth."""
        window = Window(course.kind, _ns(start_s), _ns(start_s + course.duration_s))
        t_ns = np.arange(window.start_ns - round(BEFORE_S * S), window.end_ns + round(AFTER_S * S), round(POLL_S * S))
        trace = recorded(self.node, t_ns)
        return Case(course.kind, course.start, window, trace, self.node.truth_j("wall", window.start_ns, window.end_ns))

    def _gain(self, name: str) -> float:
        return float(self._told["counter_gains"][name.partition(".")[0]])


def _domain(name: str) -> str:
    return "gpu" if name.startswith("gpu") else "dram" if name.endswith(".dram") else "package"


def _ns(seconds: float) -> int:
    return BEGIN_NS + round(seconds * S)


def _interpolated(node: Node, name: str, t_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a part's energy since the first of instants, J: a line between changes of power is exact."""
    pieces = list(node.truth_counter(name, int(t_ns[0]), int(t_ns[-1])))
    at_ns, energy_nj = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return np.interp(t_ns - t_ns[0], at_ns - t_ns[0], energy_nj * 1e-9)
