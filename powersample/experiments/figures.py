# SPDX-License-Identifier: Apache-2.0
"""What a method's readings come to, in figures: pure functions of `Method`, and their machine-readable form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.agreement import Agreement, agreement
from powersample.experiments.method import Lap, Method
from powersample.model import Window

FEW = 10  # the paper's count: epochs with no more samples than this (arXiv 2505.15631, section V)


@dataclass(frozen=True, slots=True)
class Spread:
    """Size of errors in %, sign left out; None without any."""

    median: float | None
    p95: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class ByLength:
    """Errors of the epochs of one length."""

    seconds: float
    epochs: int
    error_pct: Spread


@dataclass(frozen=True, slots=True)
class Held:
    """Of a method that gives intervals: epochs that have one, those whose truth lies in it, and its half-width.

    The half-width is the median of those of energies above 0 J, None without such: of 0 J there are no per cent.
    """

    rated: int
    held: int
    half_pct: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """A method's figures; None is unknown.

    Attributes:
        achieved_hz: Readings a second.
        polls: Readings.
        updates_seen: Published values that some reading met; where nobody knows when the sensor published, the
            readings that differ from the one before, which misses what is equal.
        updates_published: Values the sensor published during the run.
        gap_p50_ms: Median spacing of the readings, the run's edges included.
        gap_p99_ms: 99th percentile.
        gap_max_ms: The longest.
        few_polls: Epochs with at most 10 readings.
        few_updates: Epochs with at most 10 updates seen.
        run_error_pct: Error of the run's energy.
        error_pct: Errors of the epochs' energies.
        by_length: The same by the epochs' length.
        energy: Agreement of the epochs' energies, J.
        power: Agreement of their mean powers, W: what the epochs' different lengths do not lift.
        held: What became of its intervals; None where it gives none.
        cpu_us_per_poll: CPU time for each reading, us; None where the readings are not the polls.
    """

    achieved_hz: float
    polls: int
    updates_seen: int
    updates_published: int | None
    gap_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float
    few_polls: int
    few_updates: int
    run_error_pct: float | None
    error_pct: Spread
    by_length: tuple[ByLength, ...]
    energy: Agreement
    power: Agreement
    held: Held | None
    cpu_us_per_poll: float | None


def changes(values: NDArray[np.float64]) -> int:
    """Return how many different values in a row there are: what a reader can tell apart by itself."""
    return int(np.count_nonzero(np.diff(values))) + 1 if len(values) else 0


def updates_seen(t_ns: NDArray[np.int64], published_ns: NDArray[np.int64]) -> int:
    """Return how many of the publications some reading met: each holds until the next.

    Args:
        t_ns: When was read, int64.
        published_ns: When was published, int64, ascending.
    """
    met = np.searchsorted(published_ns, t_ns, side="right")
    return len(np.unique(met[met > 0]))


def gaps_ms(t_ns: NDArray[np.int64], span: Window) -> NDArray[np.float64]:
    """Return the spacing of the readings over a span, its edges included: who ends early leaves a gap."""
    return np.diff(np.concatenate(([span.start_ns], np.sort(t_ns), [span.end_ns]))) / 1e6


def spread(error_pct: NDArray[np.float64]) -> Spread:
    """Return the size of errors; NaN, an epoch without energy, is left out."""
    size = np.abs(error_pct[np.isfinite(error_pct)])
    if not len(size):
        return Spread(None, None, None)
    return Spread(*(float(np.percentile(size, q)) for q in (50, 95, 100)))


def published_few(method: Method) -> int | None:
    """Return in how many epochs the sensor itself published at most 10 values; None where nobody knows."""
    if method.lap is None or method.published_ns is None:
        return None
    return sum(len(_between(method.published_ns, window)) <= FEW for window in method.lap.epochs)


def figures(method: Method) -> Figures:
    """Return the figures of a method that ran."""
    lap = method.lap
    assert lap is not None
    gaps = gaps_ms(method.t_ns, lap.run)
    with np.errstate(divide="ignore", invalid="ignore"):
        error_pct = 100 * (method.epoch_j / lap.truth_j - 1)
    seconds, nominal = (
        np.array([window.duration_s for window in lap.epochs]),
        np.array(lap.lengths_s or [np.nan] * len(lap.epochs)),
    )
    cpu_s, polls = method.cost.cpu_s, len(method.t_ns)
    published = method.published_ns
    return Figures(
        achieved_hz=polls / lap.run.duration_s,
        polls=polls,
        updates_seen=_seen(method, lap.run),
        updates_published=None if published is None else len(_between(published, lap.run)),
        gap_p50_ms=float(np.percentile(gaps, 50)),
        gap_p99_ms=float(np.percentile(gaps, 99)),
        gap_max_ms=float(gaps.max()),
        few_polls=sum(len(_between(method.t_ns, window)) <= FEW for window in lap.epochs),
        few_updates=sum(_seen(method, window) <= FEW for window in lap.epochs),
        run_error_pct=_error_pct(method.run_j, lap.run_truth_j),
        error_pct=spread(error_pct),
        by_length=tuple(
            ByLength(float(one), int(np.sum(nominal == one)), spread(error_pct[nominal == one]))
            for one in sorted(set(lap.lengths_s))
        ),
        energy=agreement(method.epoch_j, lap.truth_j),
        power=agreement(method.epoch_j / seconds, lap.truth_j / seconds),
        held=_held(method, lap),
        cpu_us_per_poll=1e6 * cpu_s / polls if cpu_s is not None and polls and not method.changes_only else None,
    )


def _between(t_ns: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
    return t_ns[(t_ns >= window.start_ns) & (t_ns <= window.end_ns)]


def _seen(method: Method, window: Window) -> int:
    if method.published_ns is None:
        return changes(method.watts[(method.t_ns >= window.start_ns) & (method.t_ns <= window.end_ns)])
    return updates_seen(_between(method.t_ns, window), _between(method.published_ns, window))


def _error_pct(joules: float | None, truth_j: float) -> float | None:
    return None if joules is None or not np.isfinite(truth_j) or truth_j == 0 else 100 * (joules / truth_j - 1)


def _held(method: Method, lap: Lap) -> Held | None:
    rated = [
        (one.low_j, truth, one.high_j, one.joules)
        for one, truth in zip(method.accounts, lap.truth_j.tolist(), strict=True)
        if one.low_j is not None and one.high_j is not None and one.joules is not None and np.isfinite(truth)
    ]
    half_pct = [50 * (high - low) / joules for low, _, high, joules in rated if joules > 0]
    held = sum(low <= truth <= high for low, truth, high, _ in rated)
    return Held(len(rated), held, float(np.median(half_pct)) if half_pct else None) if rated else None


def method_json(method: Method) -> dict[str, Any]:
    """Return the method as the `methods[]` entry of the machine-readable output; missing values are None."""
    head = {
        "name": method.name,
        "available": method.reason is None,
        "reason": method.reason,
        "reads": method.reads,
        "rule": method.rule,
        "asked_hz": method.asked_hz,
    }
    lap = method.lap
    if method.reason is not None or lap is None:
        return head
    found = figures(method)
    by_length = [{"seconds": one.seconds, "epochs": one.epochs, **asdict(one.error_pct)} for one in found.by_length]
    return {
        **head,
        "achieved_hz": found.achieved_hz,
        "polls": found.polls,
        "failed_polls": method.failed,
        "trouble": method.trouble,
        "updates_seen": found.updates_seen,
        "updates_published": found.updates_published,
        "gap_p50_ms": found.gap_p50_ms,
        "gap_p99_ms": found.gap_p99_ms,
        "gap_max_ms": found.gap_max_ms,
        "epochs": len(lap.epochs),
        "epochs_at_most_10_polls": found.few_polls,
        "epochs_at_most_10_updates": found.few_updates,
        "epochs_at_most_10_published": published_few(method),
        "run_energy_j": method.run_j,
        "run_truth_j": known(lap.run_truth_j),
        "run_error_pct": found.run_error_pct,
        "truth_void": lap.void,
        "epoch_s": [window.duration_s for window in lap.epochs],
        "epoch_energy_j": [known(value) for value in method.epoch_j.tolist()],
        "epoch_truth_j": [known(value) for value in lap.truth_j.tolist()],
        "epoch_truth_half_j": None
        if lap.truth_half_j is None
        else [known(value) for value in lap.truth_half_j.tolist()],
        "epoch_low_j": [one.low_j for one in method.accounts],
        "epoch_high_j": [one.high_j for one in method.accounts],
        "epoch_verdict": [one.verdict for one in method.accounts],
        "epoch_reasons": [list(one.reasons) for one in method.accounts],
        "epoch_error_pct": asdict(found.error_pct),
        "epoch_error_by_length_pct": by_length,
        "pearson": found.energy.pearson,
        "spearman": found.energy.spearman,
        "ks_p": found.energy.ks_p,
        "bias_w": found.power.bias,
        "limits_w": None if found.power.limits is None else list(found.power.limits),
        "power_pearson": found.power.pearson,
        "power_spearman": found.power.spearman,
        "power_ks_p": found.power.ks_p,
        "intervals": None if found.held is None else asdict(found.held),
        "cpu_s": method.cost.cpu_s,
        "cpu_us_per_poll": found.cpu_us_per_poll,
        "start_s": method.cost.start_s,
        "aside_cpu_s": method.cost.aside_cpu_s,
    }


def known(value: float) -> float | None:
    """Return the value, None for NaN."""
    return float(value) if np.isfinite(value) else None
