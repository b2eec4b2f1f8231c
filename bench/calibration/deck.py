# SPDX-License-Identifier: Apache-2.0
"""Every load of every drawn node after every ladder, by every model: one row a load."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from bench.calibration import loads, world
from powersample.analysis.holistic import holistic
from powersample.experiments.calibrate.plan import FULL, SHORT, ladder, parse_rungs
from powersample.fit.calibrate import calibrate
from powersample.model import Calibration

SPECS = {"paper-node": 4, "h100x4+intel_sprx2": 4, "h100x8+intel_sprx2": 8, "a100x1+amd_milanx2": 1}  # GPUs of each
UNCOUNTED = ("a100x1+amd_milanx2",)  # AMD's processors have no counter for memory
LADDERS = {
    "full": FULL,
    "short": SHORT,
    "CPUs alone": "primes:25,primes:50,primes:75,primes:100,fma:100,stream:50,stream:100,mix:100",
    "idle and primes": "primes:100",
}
METHODS = ("components", "bounds", "affine", "node")
STARTED = "full"  # the ladder after which loads start in every way, and not on a rested node alone
HULL = "PSQ-CAL-HULL"


@dataclass(frozen=True, slots=True)
class Row:
    """One load of one node after one ladder.

    Attributes:
        spec: kind of node.
        seed: which of them.
        ladder: of `LADDERS`.
        kind: of load.
        start: what was before it, of `loads.STARTS`.
        duration_s: of it.
        truth_j: exact energy at the plug.
        error_pct: of every method that the calibration allows, signed.
        best: what the calibration would use.
        low_j, high_j: its interval.
        beyond: whether the report says that the load is outside of what was calibrated.
        left_out_pct: the calibration's greatest error at a point that it had not seen; None for bounds.
    """

    spec: str
    seed: int
    ladder: str
    kind: str
    start: str
    duration_s: float
    truth_j: float
    error_pct: Mapping[str, float]
    best: str
    low_j: float
    high_j: float
    beyond: bool
    left_out_pct: float | None

    @property
    def held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low_j <= self.truth_j <= self.high_j

    @property
    def half_pct(self) -> float:
        """Half of the interval's length, percent of the truth."""
        return 50 * (self.high_j - self.low_j) / self.truth_j


def rows(spec: str, seed: int, name: str) -> list[Row]:
    """Return the rows of one node after one ladder; its loads are the same after every ladder."""
    rungs, _ = ladder(parse_rungs(LADDERS[name]), {}, seed)
    courses = [
        loads.draw(kind, SPECS[spec], f"{spec} {seed} {kind}", start)
        for start in (loads.STARTS if name == STARTED else (loads.RESTED,))
        for kind in loads.KINDS
    ]
    drawn = world.draw(spec, seed, rungs, courses)
    calibration = calibrate(drawn.points, simulated=drawn.key)
    if not calibration.accepted:
        raise RuntimeError(f"{spec} {seed} after {name}: refused, {calibration.reasons}")
    return [_row(spec, seed, name, calibration, case) for case in drawn.cases]


def _row(spec: str, seed: int, name: str, calibration: Calibration, case: world.Case) -> Row:
    there = [one for one in METHODS[1:] if one == "bounds" or getattr(calibration, one) is not None]
    told = {one: holistic(case.trace, case.window, replace(calibration, best=one)) for one in there}
    best = told[calibration.best]
    joules = {"components": best.measured_j} | {one: energy.total.joules for one, energy in told.items()}
    return Row(
        spec, seed, name, case.kind, case.start, case.window.duration_s, case.truth_j,
        {one: 100 * (energy_j / case.truth_j - 1) for one, energy_j in joules.items()},
        calibration.best, best.total.low_j, best.total.high_j,
        any(reason.startswith(HULL) for reason in best.reasons), calibration.leave_one_out_max_pct,
    )  # fmt: skip


def _job(job: tuple[str, int, str]) -> list[Row]:
    return rows(*job)


def run(
    seeds: Sequence[int], specs: Sequence[str] = tuple(SPECS), ladders: Sequence[str] = tuple(LADDERS)
) -> list[Row]:
    """Return the rows of all, in order, on every core there is."""
    jobs = [(spec, seed, name) for spec in specs for seed in seeds for name in ladders]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [row for some in pool.map(_job, jobs) for row in some]
