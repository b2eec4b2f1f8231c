# SPDX-License-Identifier: Apache-2.0
"""How well a meter's lag and skew are found again: simulated meters, edges at random, every seed its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bench.figure import Bar, Figure, spread
from powersample.fit import Cycles, Reference, Search, Synced, default_search, synchronise
from powersample.loads import Pattern, random_edges

S = 1_000_000_000
BEGIN_NS = 1_000 * S
ASKED_MS = {20.0: 0.5, 10.0: 1.0, 2.0: 5.0, 1.0: 15.0}  # rms of the lag, by the meter's values a second
SEEDS = 200
LOW_W, STEP_W = 200.0, 100.0
MOST_TAU_S = 0.04  # of a supply's lag where it is drawn; what is taken where it cannot be fitted is half of that
KNOWN = (
    "the supply's lag is the 20 ms that are taken where it cannot be fitted, below 9.5 values a second, and known to be"
)
ANY = "the supply's lag is drawn from 0 to 40 ms; below 9.5 values a second 20 ms are taken for it, and 12 are unsure"


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter that averages without gaps and stamps late.

    Attributes:
        hz: values a second.
        lag_s: from the end of a cycle to the least late stamp.
        tau_s: of the supply between load and meter.
        ppm: by how much its stamps drift.
        snr: step of the load over the standard deviation of a value's noise.
        jitter_s: scale of the half normal lateness of every stamp.
        spans_s: cycles alternate between these; none: 1 / hz each.
    """

    hz: float
    lag_s: float
    tau_s: float = 0.02
    ppm: float = 0.0
    snr: float = 20.0
    jitter_s: float = 0.002
    spans_s: tuple[float, ...] = ()


def drawn(seed: int, hz: float, *, any_tau: bool = False, **more: float) -> Meter:
    """Return a meter whose lag lies somewhere within half a second, either way; the supply's too, with `any_tau`."""
    if any_tau:
        more["tau_s"] = float(np.random.default_rng([seed, 4]).uniform(0, MOST_TAU_S))
    return Meter(hz, lag_s=float(np.random.default_rng([seed, 1]).uniform(-0.5, 0.5)), **more)


def reference_of(pattern: Pattern, start_ns: int) -> Reference:
    """Return a pattern as a load that ran without being late."""
    edges = start_ns + np.rint(pattern.edge_s * S).astype(np.int64)
    level = (np.arange(len(edges) + 1) % 2).astype(np.float64)
    return Reference(np.concatenate(([edges[0] - S], edges, [edges[-1] + S])), level, pattern.name)


def watch(meter: Meter, loads: Sequence[Reference], seed: int) -> tuple[Cycles, float]:
    """Return what a meter shows of loads, each with 3 s around it, and the lag of its median stamp, s."""
    dice = np.random.default_rng([seed, 2])
    begin_ns, end_ns = loads[0].t_ns[0], loads[-1].t_ns[-1]
    t_ns = np.concatenate(([begin_ns - 60 * S], *(one.t_ns for one in loads), [end_ns + 60 * S]))
    level = np.concatenate([part for one in loads for part in ([0.0], one.power_w)] + [[0.0]])
    truth = Reference(t_ns, LOW_W + STEP_W * level, "truth").lagged(meter.tau_s * S)
    spans_s = meter.spans_s or (1 / meter.hz,)
    ends = []
    for one in loads:
        count = int((float(one.t_ns[-1] - one.t_ns[0]) / S + 6) / float(np.mean(spans_s)))
        span = np.resize(np.array(spans_s), count) * S
        ends.append((one.t_ns[0] - 3 * S + dice.uniform(0, span[0]) + np.cumsum(span), span))
    end, span = (np.concatenate([pair[i] for pair in ends]) for i in (0, 1))
    value = truth.mean_w(end - t_ns[0], span) + dice.normal(0, STEP_W / meter.snr, len(end))
    late = np.abs(dice.normal(0, meter.jitter_s * S, len(end)))
    stamp = end + meter.lag_s * S + late + meter.ppm * 1e-6 * (end - BEGIN_NS)
    order = np.argsort(stamp, kind="stable")
    cycles = Cycles(np.rint(stamp[order]).astype(np.int64), span[order], value[order], "wall.power")
    return cycles, meter.lag_s + float(np.median(late)) / S


def one(
    seed: int, hz: float, *, search: Search | None = None, any_tau: bool = False, **more: float
) -> tuple[Synced, float]:
    """Return what is found of one drawn meter under 60 s of random edges, and its true lag."""
    meter = drawn(seed, hz, any_tau=any_tau, **more)
    load = reference_of(random_edges(60, seed=seed, cycle_s=1 / hz), BEGIN_NS)
    cycles, lag_s = watch(meter, [load], seed)
    return synchronise(cycles, [load], search), lag_s


def errors(hz: float, seeds: Sequence[int], *, any_tau: bool) -> tuple[list[float], list[float]]:
    """Return the errors of the lag, s, and each over its standard error.

    With `any_tau` the search is as shipped and the supply's lag is drawn; else it is the one that is taken where it
    cannot be fitted, and known to be.
    """
    search = default_search(S / hz) if any_tau else replace(default_search(S / hz), tau_se_ns=0.0)
    found = [one(seed, hz, search=search, any_tau=any_tau) for seed in seeds]
    wrong = [synced.fit.lag_s - lag_s for synced, lag_s in found if synced.fit.lag_s is not None]
    over = [
        abs(synced.fit.lag_s - lag_s) / synced.fit.lag_se_s
        for synced, lag_s in found
        if synced.fit.lag_s is not None and synced.fit.lag_se_s
    ]
    return wrong, over


def skew(seed: int) -> float:
    """Return the error of a skew from two bursts an hour apart, ppm."""
    ppm = float(np.random.default_rng([seed, 3]).uniform(-100, 100))
    loads = [reference_of(random_edges(60, seed=2 * seed + i), BEGIN_NS + i * 3600 * S) for i in (0, 1)]
    cycles, _ = watch(drawn(seed, 20.0, ppm=ppm), loads, seed)
    found = synchronise(cycles, loads, own_clock=True).fit.skew_ppm
    return float("nan") if found is None else found - ppm


def figures(quick: bool) -> Iterator[Figure]:
    """Yield rms of the lag by rate, coverage, skew."""
    seeds = range(20 if quick else SEEDS)
    base = f"simulation: 60 s of random edges, step over noise 20, stamps late by |N(0, 2 ms)|, {len(seeds)} seeds"
    for any_tau, (hz, limit_ms) in product((False, True), ASKED_MS.items()):
        wrong, over = errors(hz, seeds, any_tau=any_tau)
        which = ", any supply" if any_tau else ""
        note = f"{base}; {ANY if any_tau else KNOWN}"
        rms_ms = float(np.sqrt(np.mean(np.square(wrong)))) * 1e3
        notes = [note, f"refused: {len(seeds) - len(wrong)}", f"quartiles {spread([w * 1e3 for w in wrong])} ms"]
        bar = None if any_tau else Bar("<=", limit_ms)
        yield Figure("sync", f"rms error of a meter's lag, {hz:g} values a second{which}", "ms", bar, [rms_ms], notes)
        within, what = float(np.sum(np.array(over) <= 3)) / len(seeds), f"{hz:g} values a second{which}"
        yield Figure("sync", f"lags within 3 standard errors, {what}", "share", Bar(">=", 0.95), [within], [note])
    wrong_ppm = [abs(skew(seed)) for seed in (range(5) if quick else range(50))]
    notes = ["simulation: two bursts of 60 s an hour apart, 20 values a second", f"worst {max(wrong_ppm):.3g} ppm"]
    yield Figure("sync", "error of a skew", "ppm", Bar("<=", 1.0), wrong_ppm, notes)
