# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m bench.coverage [--count N] [--spread F]`. Prints the table."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bench.coverage import scenario
from powersample.analysis.energy import channel_energies
from powersample.analysis.told import Told, rated
from powersample.sim import profile_names

DECADES = ((0.05, 0.5), (0.5, 5.0), (5.0, 60.0))


@dataclass(frozen=True, slots=True)
class Row:
    profile: str
    field: str
    load: str
    duration_s: float
    truth_j: float
    joules: float | None
    half_j: float
    pure_j: float  # joules with the board's own gain and offset taken out
    reconstruction_j: float
    trapezoid_j: float
    covered: bool
    covered_pure: bool


def run(profile: str, seed: int, spread: float) -> list[Row]:
    one = scenario.draw(profile, seed, gain_spread=spread)
    rows = []
    for name in one.trace.channels:
        field = name.rpartition(".")[2]
        (told,) = channel_energies(one.trace, name, [one.window])
        rows.append(_row(one, field, told, _trapezoid(one, name)))
    return rows


def _trapezoid(one: scenario.Scenario, name: str) -> float:
    series = one.trace.series(name)
    t, value = series.t_ns[series.good], series.raw[series.good] * 1e-3
    inside = (t > one.window.start_ns) & (t < one.window.end_ns)
    edges = np.array([one.window.start_ns, one.window.end_ns])
    at = np.interp(edges, t, value)
    ts = np.concatenate(([edges[0]], t[inside], [edges[1]]))
    return float(np.trapezoid(np.concatenate(([at[0]], value[inside], [at[1]])), (ts - ts[0]) * 1e-9))


def _row(one: scenario.Scenario, field: str, told: Told, trapezoid_j: float) -> Row:
    energy = rated(told, one.window)
    d, gain, offset_w = one.window.duration_s, one.board.gain, one.board.offset_w
    joules = energy.joules
    if joules is None or energy.low_j is None or energy.high_j is None or told.reconstruction is None:
        return Row(one.profile, field, one.load, d, one.truth_j, None, 0, 0, 0, trapezoid_j, False, False)
    pure = (joules - offset_w * d) / gain
    return Row(
        one.profile, field, one.load, d, one.truth_j, joules, (energy.high_j - energy.low_j) / 2, pure,
        told.reconstruction.half_j, (trapezoid_j - offset_w * d) / gain,
        energy.low_j <= one.truth_j <= energy.high_j,
        abs(pure - one.truth_j) <= told.reconstruction.half_j + told.missing_j,
    )  # fmt: skip


def _pct(hits: Iterable[bool]) -> str:
    return f"{100 * float(np.mean(list(hits))):5.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.coverage")
    parser.add_argument("--count", type=int, default=200, help="scenarios a profile")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--spread", type=float, default=1.0, help="gain and offset, times the table's spread")
    parser.add_argument("--profiles", default=",".join(profile_names()))
    asked = parser.parse_args()
    rows: list[Row] = []
    for profile in asked.profiles.split(","):
        for seed in range(asked.first, asked.first + asked.count):
            rows += run(profile, seed, asked.spread)
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        decade = next(i for i, (_, high) in enumerate(DECADES) if row.duration_s <= high or i == 2)
        groups[row.profile, row.field, decade].append(row)
    print("profile field window n refused cover pure half% pure-err%(p50) trap-err%(p50) ratio width-ratio")
    for key, some in sorted(groups.items()):
        good = [row for row in some if row.joules is not None]
        rel = np.array([abs(row.pure_j - row.truth_j) / row.truth_j for row in good])
        trap = np.array([abs(row.trapezoid_j - row.truth_j) / row.truth_j for row in good])
        half = np.array([row.reconstruction_j / row.truth_j for row in good])
        print(
            f"{key[0]:10} {key[1]:8} {DECADES[key[2]]!s:12} {len(some):4} {len(some) - len(good):3} "
            f"{_pct(row.covered for row in good)} {_pct(row.covered_pure for row in good)} "
            f"{100 * np.median(half):7.2f} {100 * np.median(rel):7.2f} {100 * np.median(trap):7.2f} "
            f"{np.median(rel) / np.median(trap):5.2f} {np.median(half) / np.quantile(rel, 0.95):5.2f}"
        )
    good = [row for row in rows if row.joules is not None]
    print(
        len(rows),
        "cases, coverage",
        np.mean([row.covered for row in good]),
        np.mean([row.covered_pure for row in good]),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
