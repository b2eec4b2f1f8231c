# SPDX-License-Identifier: Apache-2.0
"""Decks of scenarios, told by the analysis: one row a channel."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.coverage import measured, misspecified, scenario
from powersample.analysis.choice import choose
from powersample.analysis.energy import channel_energies
from powersample.analysis.interval import k_place, sensor_class, table_row
from powersample.analysis.told import Told
from powersample.model import Energy, Kind, Response, Trace, Window
from powersample.sim import profile_names

DECADES_S = (0.5, 5.0)
NEAR = 0.15  # of the update period: loads whose period is as near hide from a sensor that looks part of the time
PROFILES = profile_names()


@dataclass(frozen=True, slots=True)
class Row:
    """One channel's energy of one window, beside the truth.

    Attributes:
        deck: "matched" or "misspecified", or "real".
        profile: of the board, or name of the published trace.
        seed: of the scenario.
        field: "instant" ...
        row: of interval.toml.
        place: of its k.
        load: kind of load.
        near: whether it repeats near the update period, of a sensor that averages no longer than that.
        exception: what the analysis was not told of the board.
        duration_s: of the window.
        truth_j: its true energy.
        joules: told; None where it was refused.
        half_j: half of the interval's length.
        board_j: what of it is the board's gain and offset.
        covered: whether it holds the truth.
        pure_j: joules with the board's own gain and offset taken out; None where those are not known.
        reconstruction_j: the interval's half-width without gain and offset.
        unaliased_j: the same for a load that is known not to repeat near the update period.
        told_j: what of `reconstruction_j` was left by evidence of other channels.
        terms: the parts of `reconstruction_j`, by their names in the budget.
        naive_j: trapezoid over the same polls; of a counter, its last values before the edges. NaN without any.
        naive_pure_j: the same with gain and offset taken out.
        contradicted: whether another channel of the device differs by more than the two may.
    """

    deck: str
    profile: str
    seed: int
    field: str
    row: str
    place: int
    load: str
    near: bool
    exception: str
    duration_s: float
    truth_j: float
    joules: float | None
    half_j: float
    board_j: float
    covered: bool
    pure_j: float | None
    reconstruction_j: float
    unaliased_j: float
    told_j: float
    terms: Mapping[str, float]
    naive_j: float
    naive_pure_j: float | None
    contradicted: bool

    @property
    def decade(self) -> int:
        """0 for windows under 0.5 s, 1 up to 5 s, 2 above."""
        return int(np.searchsorted(DECADES_S, self.duration_s, "right"))

    @property
    def excluded(self) -> bool:
        """Whether evidence left no room for loads near the update period."""
        return self.told_j < 0.99 * self.reconstruction_j

    @property
    def covered_pure(self) -> bool:
        """Whether the reconstruction's own interval, before evidence of other channels, holds the truth."""
        return self.pure_j is not None and abs(self.pure_j - self.truth_j) <= self.reconstruction_j


def naive(trace: Trace, name: str, window: Window) -> float:
    """Return what a straightforward script would say."""
    series = trace.series(name)
    t, value = series.t_ns[series.good], series.value[series.good]
    edges = np.array([window.start_ns, window.end_ns])
    if len(t) < 2 or t[0] > edges[0]:
        return float("nan")
    if series.channel.kind is Kind.ENERGY:
        last = np.searchsorted(t, edges, "right") - 1
        return float(value[last[1]] - value[last[0]])
    inside = (t > edges[0]) & (t < edges[1])
    at = np.interp(edges, t, value)
    ts = np.concatenate(([edges[0]], t[inside], [edges[1]]))
    return float(np.trapezoid(np.concatenate(([at[0]], value[inside], [at[1]])), (ts - ts[0]) * 1e-9))


def _near(told: Told, period_s: float | None) -> bool:
    short = (Response.PART_TIME, Response.POINT, Response.CONTIGUOUS)
    if told.model is None or told.model.response not in short or period_s is None:
        return False
    return abs(period_s / max(told.period_s, 1e-9) - 1) <= NEAR


def _row(one: scenario.Scenario, deck: str, told: Told, energy: Energy) -> Row:
    field = energy.channel.rpartition(".")[2]
    d, truth_j, gain = one.window.duration_s, one.truths_j[field], one.gain
    offset_j = one.offsets_w[field] * d
    naive_j = naive(one.trace, energy.channel, one.window)
    model, unsure, joules = told.model, told.reconstruction, energy.joules
    name = "" if model is None else sensor_class(model, told.period_s, resolved=not told.every_poll)
    place = int(k_place(table_row(name), np.array(d), told.period_s)) if name else 0
    half_j = reconstruction_j = unaliased_j = 0.0
    covered = False
    if joules is not None and (energy.low_j is None or energy.high_j is None or model is None or unsure is None):
        joules = None  # an energy without an interval is counted as refused
    if joules is not None and energy.low_j is not None and energy.high_j is not None and model and unsure:
        half_j, covered = (energy.high_j - energy.low_j) / 2, energy.low_j <= truth_j <= energy.high_j
        reconstruction_j, unaliased_j = unsure.half_j, unsure.unaliased_j
    terms = {term.term: term.value_j for term in unsure.terms} if unsure else {}
    told_j, board_j = _parts(energy)
    return Row(
        deck, one.profile, one.seed, field, name, place, one.load.kind, _near(told, one.load.period_s), one.exception,
        d, truth_j, joules, half_j, board_j, covered, None if joules is None else (joules - offset_j) / gain,
        reconstruction_j, unaliased_j, told_j, terms, naive_j, (naive_j - offset_j) / gain,
        "PSQ-DISAGREE" in energy.codes,
    )  # fmt: skip


def _parts(energy: Energy) -> tuple[float, float]:
    """Return the half-width's parts, J: the window's own, and the board's."""
    own, board = ([one.value_j for one in energy.budget if one.kind == kind] for kind in ("standard", "gain"))
    return math.hypot(*own), math.hypot(*board)


def rows(deck: str, profile: str, seed: int) -> list[Row]:
    """Return the rows of one scenario."""
    nature = misspecified.draw(profile, seed) if deck == "misspecified" else None
    one = scenario.draw(profile, seed, nature)
    found = []
    for domain in dict.fromkeys(channel.domain for channel in one.trace.channels.values()):
        names = [name for name, channel in one.trace.channels.items() if channel.domain == domain]
        told = [channel_energies(one.trace, name, [one.window])[0] for name in names]
        energies = choose(told, one.window).energies
        found += [_row(one, deck, *pair) for pair in zip(told, energies, strict=True)]
    return found


def _some(deck: str, job: tuple[str, range]) -> list[Row]:
    return [row for seed in job[1] for row in rows(deck, job[0], seed)]


def run(deck: str, seeds: range, profiles: Sequence[str] = PROFILES) -> list[Row]:
    """Return the rows of a deck: every seed of every profile, in their order, on every core there is."""
    jobs = [(name, seeds[at : at + 25]) for name in profiles for at in range(0, len(seeds), 25)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [row for some in pool.map(partial(_some, deck), jobs) for row in some]


def real(count: int, seed: int) -> list[Row]:
    """Return the rows of `count` windows in each published trace; none where these are not."""
    return list(_real(count, seed)) if measured.there() else []


def _real(count: int, seed: int) -> Iterator[Row]:
    for trace_name in measured.BOARDS:
        log = measured.log(trace_name)
        windows = measured.windows(trace_name, count, seed)
        names = [name for name in log.channels if not name.endswith(".usage")]  # repeats one of the others
        told = {name: channel_energies(log, name, [one[1] for one in windows]) for name in names}
        for i, (_, window, truth_j) in enumerate(windows):
            mine = [told[name][i] for name in names]
            for one, energy in zip(mine, choose(mine, window).energies, strict=True):
                if one.model is None or one.reconstruction is None or energy.low_j is None or energy.high_j is None:
                    joules, half_j, covered = None, 0.0, False
                else:
                    joules, half_j = energy.joules, (energy.high_j - energy.low_j) / 2
                    covered = energy.low_j <= truth_j <= energy.high_j
                told_j, board_j = _parts(energy)
                name = sensor_class(one.model, one.period_s) if one.model else ""
                place = int(k_place(table_row(name), np.array(window.duration_s), one.period_s)) if name else 0
                yield Row(
                    "real", trace_name, seed, energy.channel.rpartition(".")[2], name, place, trace_name, False, "",
                    window.duration_s, truth_j, joules, half_j, board_j, covered, None, told_j, told_j, told_j,
                    {term.term: term.value_j for term in energy.budget if term.kind == "standard"},
                    naive(log, energy.channel, window), None, "PSQ-DISAGREE" in energy.codes,
                )  # fmt: skip


def groups(some: Iterable[Row]) -> dict[tuple[str, str, int], list[Row]]:
    """Return rows by profile, field and decade."""
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in some:
        found.setdefault((row.profile, row.field, row.decade), []).append(row)
    return dict(sorted(found.items()))
