# SPDX-License-Identifier: Apache-2.0
"""When a sensor publishes: period, phase and jitter from polls that bracket every change of its value.

Equal updates in a row hide all but the first, so the spacings between changes are multiples of the period. It is the
longest one of which nearly all of them are multiples, and than which nearly none is shorter: the median would answer
2 T for a sensor that repeats itself every other time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.fit.figure import Figure
from powersample.model import Series, duration

LEAST_SPACINGS = 6
QUANTILES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65)  # of spacings: one of them is likely T, 2 T or 3 T
DIVISORS = (1, 2, 3)
MULTIPLES = 8  # longer spacings count for nothing: their multiple is not certain
SLACK = 0.08  # of T: jitter
SIGMAS = 2.0  # of a spacing's bracket
SCATTER = 4.4  # median absolute deviations in three standard deviations
LEAST_EXCESS = 0.85  # of the best candidate's share of multiples, chance taken out
SHORTER = 0.02  # share of spacings that may be shorter: glitches
MOST_CHANCE = 0.9  # tolerances that take in more than this of all spacings tell nothing
STALL = 4.0  # polls: a bracket so wide may hold more than one update
RESOLVED_POLLS = 2.0  # polls an update from which its instant can be told
BATCHES = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Updates:
    """Changes of a channel's value, and with the period the updates that repeated a value.

    Attributes:
        t_ns: float64, from the record's first poll to the middle of each bracket.
        width_ns: float64, of the bracket: from before the last poll without the change to after the first with it.
        value: float64, in the channel's unit.
        count: int64, periods since the change before; 0 where that is not certain. All 0 without a period.
        poll_ns: median spacing of polls.
        period_s: update period T.
        phase_s: from the record's first poll to the first instant of publication.
        jitter_s: standard deviation of an update's instant about its grid, the brackets' share taken out.
        repeats: share of updates that repeat the one before.
    """

    t_ns: Floats
    width_ns: Floats
    value: Floats
    count: NDArray[np.int64]
    poll_ns: float
    period_s: Figure
    phase_s: Figure
    jitter_s: Figure
    repeats: Figure

    def every(self) -> tuple[Floats, Floats]:
        """Return instants (ns from the first poll) and values of all updates that are certain, repeats included."""
        period_ns = (self.period_s.value or 0.0) * 1e9
        t_ns, value = [self.t_ns], [self.value]
        for more in range(1, MULTIPLES):
            repeated = np.flatnonzero(self.count[1:] > more)
            t_ns.append(self.t_ns[repeated] + more * period_ns)
            value.append(self.value[repeated])
        whole, values = np.concatenate(t_ns), np.concatenate(value)
        order = np.argsort(whole, kind="stable")
        return whole[order], values[order]


def updates(series: Series) -> Updates:
    """Return when a channel was seen to publish."""
    good = series.take(series.good)
    first_ns = int(good.t0_ns[0]) if len(good) else 0
    at = np.flatnonzero(np.diff(good.raw) != 0) + 1
    low, high = (good.t0_ns[at - 1] - first_ns).astype(np.float64), (good.t1_ns[at] - first_ns).astype(np.float64)
    t_ns, width_ns, value = (low + high) / 2, high - low, good.value[at]
    spacing_ns = np.diff(good.t_ns) / (1.0 + good.left_out[1:])
    poll_ns = float(np.median(spacing_ns)) if len(spacing_ns) else float("nan")

    def unknown(reason: str) -> Updates:
        missing = Figure.unknown(reason)
        return Updates(t_ns, width_ns, value, np.zeros(len(at), np.int64), poll_ns, missing, missing, missing, missing)

    if len(at) <= LEAST_SPACINGS:
        return unknown(f"{len(at)} changes of the value are too few: put a load on it, or record for longer")
    gap_ns = np.diff(t_ns)
    sure = (gap_ns > 0) & (np.maximum(width_ns[1:], width_ns[:-1]) < STALL * poll_ns)
    sigma_ns = np.hypot(width_ns[1:], width_ns[:-1]) / np.sqrt(12)
    if sure.sum() < LEAST_SPACINGS:
        return unknown("the polls stall too often to follow the updates")
    period_ns = _longest(gap_ns[sure], sigma_ns[sure])
    if period_ns is None:
        return unknown(f"the changes keep to no period that polls every {duration(poll_ns / 1e9)} can tell")
    if period_ns < RESOLVED_POLLS * poll_ns:
        return unknown(f"polls every {duration(poll_ns / 1e9)} are too slow to see every update")
    count = np.rint(gap_ns / period_ns).astype(np.int64)
    count[~sure | ~_fits(gap_ns, sigma_ns, period_ns)] = 0
    possible = sure & (gap_ns < (MULTIPLES + 0.5) * period_ns)
    return _described(t_ns, width_ns, value, count, possible, poll_ns)


def _fits(spacing_ns: Floats, sigma_ns: Floats, period_ns: float) -> NDArray[np.bool_]:
    """Say which spacings are a multiple of the period, up to `MULTIPLES`."""
    count = np.rint(spacing_ns / period_ns)
    near = np.abs(spacing_ns - count * period_ns) <= SIGMAS * sigma_ns + SLACK * period_ns
    fits: NDArray[np.bool_] = near & (count >= 1) & (count <= MULTIPLES)
    return fits


def _longest(spacing_ns: Floats, sigma_ns: Floats) -> float | None:
    """Return the longest period of which the spacings are multiples, ns."""
    guesses = {float(one) / by for one in np.quantile(spacing_ns, QUANTILES) for by in DIVISORS}
    told: list[tuple[float, float]] = []
    for guess in guesses:
        period_ns = guess
        for _ in range(3):
            fits = _fits(spacing_ns, sigma_ns, period_ns)
            if fits.sum() < LEAST_SPACINGS:
                break
            period_ns = float(spacing_ns[fits].sum() / np.rint(spacing_ns[fits] / period_ns).sum())
        else:
            tolerance_ns = SIGMAS * sigma_ns + SLACK * period_ns
            shorter = float((spacing_ns + tolerance_ns < period_ns).mean())
            counted = np.rint(spacing_ns / period_ns) <= MULTIPLES
            left_ns = np.abs(spacing_ns - np.rint(spacing_ns / period_ns) * period_ns)
            # Polls in step with the sensor, as nvidia-smi's loop may make, scatter less than their brackets allow.
            close_ns = max(SLACK * period_ns, SCATTER * float(np.median(left_ns[counted])))
            chance = float(np.minimum(1.0, 2 * np.minimum(tolerance_ns, close_ns) / period_ns).mean())
            share = float((_fits(spacing_ns, sigma_ns, period_ns) & (left_ns <= close_ns))[counted].mean())
            if chance < MOST_CHANCE and shorter <= SHORTER:
                told.append(((share - chance) / (1 - chance), period_ns))
    if not told or max(told)[0] < 0.5:
        return None
    best = max(told)[0]
    return max(period_ns for excess, period_ns in told if excess >= LEAST_EXCESS * best)


def _described(
    t_ns: Floats,
    width_ns: Floats,
    value: Floats,
    count: NDArray[np.int64],
    possible: NDArray[np.bool_],
    poll_ns: float,
) -> Updates:
    spacing_ns, sure = np.diff(t_ns), count > 0
    spent_ns, periods = spacing_ns[sure], count[sure]
    period_ns = float(spent_ns.sum() / periods.sum())
    # Stretches one after the other, each its own estimate: honest whether jitter adds up from update to update or not.
    parts = [chunk for chunk in np.array_split(np.arange(len(periods)), BATCHES) if len(chunk)]
    each = np.array([spent_ns[part].sum() / periods[part].sum() for part in parts])
    se_ns = float(each.std(ddof=1) / np.sqrt(len(each)))
    dropped = float((count[possible] == 0).mean())  # may have been early or late: to one side at worst
    period_s = Figure(period_ns * 1e-9, float(np.hypot(se_ns, dropped * period_ns / 2)) * 1e-9)

    left = spent_ns - periods * period_ns
    bracket = (width_ns[1:] ** 2 + width_ns[:-1] ** 2)[sure] / 12
    variance = (float(np.mean(left**2)) - float(bracket.mean())) / 2
    unsure = float(np.mean(left**2)) / 2 * np.sqrt(2 / len(left))
    jitter_ns = float(np.sqrt(max(0.0, variance)))
    high_ns = float(np.sqrt(max(0.0, variance) + 1.96 * unsure))
    low_ns = float(np.sqrt(max(0.0, variance - 1.96 * unsure)))
    jitter_s = Figure(jitter_ns * 1e-9, low=low_ns * 1e-9, high=high_ns * 1e-9)

    turns = np.exp(2j * np.pi * t_ns / period_ns)
    mean = complex(turns.mean())
    if abs(mean) < 0.5:
        phase_s = Figure.unknown("the updates keep to no fixed grid over the record")
    else:
        spread = np.sqrt(-2 * np.log(abs(mean))) * period_ns / (2 * np.pi) / np.sqrt(len(turns))
        phase_s = Figure(float(np.angle(mean) % (2 * np.pi)) / (2 * np.pi) * period_ns * 1e-9, float(spread) * 1e-9)

    repeated = int((periods - 1).sum())
    share = repeated / int(periods.sum())
    total = int(periods.sum())
    middle, wide = (repeated + 2) / (total + 4), total + 4  # Agresti and Coull: none in n is not none for certain
    reach = 1.96 * float(np.sqrt(middle * (1 - middle) / wide))
    repeats = Figure(share, low=max(0.0, middle - reach), high=min(1.0, middle + reach))
    whole = np.concatenate(([0], count))
    return Updates(t_ns, width_ns, value, whole, poll_ns, period_s, phase_s, jitter_s, repeats)
