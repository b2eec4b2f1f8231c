# SPDX-License-Identifier: Apache-2.0
"""One way of sampling and what it made of a run, beside what the run really was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import channel_energy, energy
from powersample.experiments.baselines import Account

if TYPE_CHECKING:
    from powersample.experiments.baselines import Baseline, Samples
    from powersample.model import Energy, Trace, Window


@dataclass(frozen=True, slots=True)
class Lap:
    """One run of the workload, and what is known of it for certain.

    Attributes:
        run: The whole of it.
        epochs: Its epochs.
        truth_j: Energy of each epoch in J by the truth or the reference; NaN where that does not say.
        run_truth_j: The same of the run; NaN too.
        void: Why the truth cannot be trusted, or None.
        lengths_s: How long each epoch was meant to be, s, which it is or a little more; empty where nothing was meant.
        truth_half_j: Half-width of the reference's own 95 % interval of each epoch in J, NaN where it has none; None
            where the truth is exact.
        power: Exact power: edges in ns, int64, shape (n + 1,), and W between them, shape (n,); None if nobody knows.
    """

    run: Window
    epochs: tuple[Window, ...]
    truth_j: NDArray[np.float64]
    run_truth_j: float
    void: str | None = None
    lengths_s: tuple[float, ...] = ()
    truth_half_j: NDArray[np.float64] | None = None
    power: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method cost.

    Attributes:
        cpu_s: CPU time of everything that it ran while the training went on; None where it cannot be told.
        start_s: How long it took to start; None where it was not timed.
        aside_cpu_s: CPU time of starting and ending it; None where it cannot be told.
    """

    cpu_s: float | None = None
    start_s: float | None = None
    aside_cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One way of sampling and what it made of the run.

    Attributes:
        name: As in the machine-readable output.
        reads: What it reads, in plain words.
        asked_hz: Readings a second it tried for; None where it does not go by a rate.
        reason: Why it could not run, or None.
        lap: The run that it measured; None when it did not.
        t_ns: When it read during the run, int64, shape (n,).
        watts: What it read in W, float64, shape (n,).
        rule: How its users make an energy of that, in plain words.
        accounts: What they would report of each epoch.
        run_j: Energy of the run in J, or None.
        published_ns: When its sensor published during the run, int64; None where nobody knows.
        failed: Readings that failed.
        trouble: Why it ended early, or read nothing; None when neither.
        cost: What it cost.
        changes_only: Whether its readings are changes of the value alone: how often it polled nobody knows.
    """

    name: str
    reads: str
    asked_hz: float | None
    reason: str | None = None
    lap: Lap | None = None
    t_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    watts: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    rule: str = ""
    accounts: tuple[Account, ...] = ()
    run_j: float | None = None
    published_ns: NDArray[np.int64] | None = None
    failed: int = 0
    trouble: str | None = None
    cost: Cost = Cost()
    changes_only: bool = False

    @property
    def epoch_j(self) -> NDArray[np.float64]:
        """Energy of each epoch in J, NaN where it had none."""
        return np.array([np.nan if one.joules is None else one.joules for one in self.accounts], np.float64)


def method_of_samples(
    baseline: Baseline,
    samples: Samples,
    lap: Lap,
    published_ns: NDArray[np.int64] | None,
    cost: Cost | None = None,
) -> Method:
    """Return what a baseline's samples make of a lap, by the account of its users."""
    inside = (samples.t_ns >= lap.run.start_ns) & (samples.t_ns <= lap.run.end_ns)
    cpu_s = None if np.isnan(samples.cpu_s) else samples.cpu_s
    return Method(
        name=baseline.name,
        reads=baseline.reads,
        asked_hz=rate_or_none(baseline),
        rule=baseline.rule,
        lap=lap,
        t_ns=samples.t_ns[inside],
        watts=samples.watts[inside],
        accounts=tuple(baseline.account(samples, w.start_ns, w.end_ns) for w in lap.epochs),
        run_j=baseline.energy_j(samples, lap.run.start_ns, lap.run.end_ns),
        published_ns=published_ns,
        failed=samples.errors,
        trouble=samples.reason,
        cost=Cost(cpu_s) if cost is None else cost,
        changes_only=baseline.changes_only,
    )


def rate_or_none(baseline: Baseline) -> float | None:
    """Return the rate that a baseline tries for; None when it goes back to back."""
    return baseline.asked_hz if np.isfinite(baseline.asked_hz) else None


def power_channel(trace: Trace, gpu: int = 0) -> str:
    """Return the channel whose polls stand for a native recording: instant power where the board has it."""
    quick, usage = f"gpu{gpu}.power.instant", f"gpu{gpu}.power.usage"
    return quick if quick in trace.channels else usage


def method_of_trace(
    name: str,
    trace: Trace,
    lap: Lap,
    published_ns: NDArray[np.int64] | None,
    cost: Cost | None = None,
    *,
    gpu: int = 0,
    counter: bool = True,
) -> Method:
    """Return what a native recording makes of a lap; without `counter` by the board's power alone."""
    channel = power_channel(trace, gpu)
    series = trace.series(channel, lap.run.start_ns, lap.run.end_ns)
    good = series.status == 0

    def energy_of(window: Window) -> Energy:
        return energy(trace, window, f"gpu{gpu}") if counter else channel_energy(trace, channel, window)

    counts = counter and f"gpu{gpu}.energy" in trace.channels
    lane = next(lane for lane in trace.lanes if lane.name == trace.channels[channel].lane)
    reads = "field 186" if channel.endswith("instant") else "PowerUsage"
    reads += " and the energy counter" if counts else ""
    return Method(
        name=name,
        reads=f"{reads}, polled around updates only" if lane.mode == "follow" else reads,
        asked_hz=lane.rate_hz if lane.mode == "paced" else None,
        rule="as the sensor means it, with a 95 % interval",
        lap=lap,
        t_ns=series.t_ns[good],
        watts=series.value[good],
        accounts=tuple(
            Account(one.joules, one.low_j, one.high_j, one.verdict, one.reasons) for one in map(energy_of, lap.epochs)
        ),
        run_j=energy_of(lap.run).joules,
        published_ns=published_ns,
        failed=int(np.count_nonzero(~good)),
        cost=Cost(sampler_cpu_s(trace)) if cost is None else cost,
    )


def sampler_cpu_s(trace: Trace) -> float | None:
    """Return the CPU time of the whole sampler, s: of every lane's thread, and of the one that drains them.

    None when one of them did not say: a sum without it would be too little.
    """
    spent_ns = [lane.cpu_ns for lane in trace.lanes]
    spent_ns.append((trace.meta.get("spool_end") or {}).get("cpu_ns"))
    return None if any(one is None or one < 0 for one in spent_ns) else sum(one for one in spent_ns if one) / 1e9
