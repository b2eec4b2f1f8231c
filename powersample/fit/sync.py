# SPDX-License-Identifier: Apache-2.0
"""A meter's clock against the host's: one lag a burst, tau of all of them, skew from the first to the last.

Bursts at the beginning and the end bound the drift of two crystals (10 to 100 ppm: up to 360 ms an hour); more between
follow it piece by piece. One that fails its gates is left out as long as another passes, and is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from powersample.fit.envelope import lateness_ns
from powersample.fit.forward import LEAST_SPAN_NS, Cycles, Floats
from powersample.fit.lag import Lag, Search, find_lag
from powersample.fit.reference import Reference
from powersample.model import ClockFit, Knot

MARGIN_NS = 500_000_000  # and a cycle: of rest around a burst, that is compared too
SEARCHED_NS = 1_000_000_000  # each way, and some cycles more
SEARCHED_CYCLES = 5
EDGE_UNSURE_NS = 100_000.0  # a core's power follows its burst no closer: idle states, frequency, the supplies between
BURST_UNSURE_NS = 50_000.0  # of that what two bursts do not share, which is no chance and looks like skew
DIGITS = 4
WITHIN = 0.84  # of all stamps: one standard deviation above the median, were they normal


@dataclass(frozen=True, slots=True)
class Synced:
    """A clock fit, and each burst's own result for who wants to look at it: a `Lag`, or why there is none."""

    fit: ClockFit
    bursts: tuple[Lag | str, ...]
    references: tuple[Reference, ...]
    cycles: Cycles


def default_search(cycle_ns: float, gains: tuple[float, float] = (0.0, float("inf"))) -> Search:
    """Return lags a second and five cycles each way: wide enough that a wrong one would show beside the right one."""
    reach = SEARCHED_NS + SEARCHED_CYCLES * cycle_ns
    return Search(-reach, reach, unsure_ns=EDGE_UNSURE_NS, gains=gains)


def synchronise(
    cycles: Cycles, references: Sequence[Reference], search: Search | None = None, *, own_clock: bool = False
) -> Synced:
    """Return how a meter's stamps lie on the clock of the references.

    Args:
        cycles: the meter's values.
        references: the load, a stretch a burst; watts before and behind each are taken as those at its ends.
        search: lags to look at; `default_search` unless told.
        own_clock: the stamps are of another clock than the references'.
    """
    search = search or default_search(cycles.cycle_ns)
    if not cycles.span_ns.any() and cycles.cycle_ns >= LEAST_SPAN_NS and search.fit_tau is None:
        search = replace(search, fit_tau=False)  # means between instants are smooth as a supply lag is: no telling
    cycles = cycles.gapless()
    late = lateness_ns(cycles.stamp_ns, cycles.span_ns)
    raw, cycles = cycles, _on_time(cycles, late)
    rested = [at_rest(reference, cycles, search) for reference in references]
    bursts: list[Lag | str] = [
        find_lag(_around(cycles, reference), rest, search) for reference, rest in zip(references, rested, strict=True)
    ]
    good = _passed(bursts)
    tau_fitted = bool(good) and good[0].tau_fitted
    if len(good) > 1:  # tau is one for all: each lag again with it
        if tau_fitted:
            tau_ns, tau_se_ns = _mean([one.tau_ns for one in good], [one.tau_se_ns for one in good])
            search = replace(search, tau_ns=tau_ns, tau_se_ns=tau_se_ns, fit_tau=False)
        straight = _straight(cycles, good)
        bursts = [
            find_lag(_around(straight, reference), rest, search)
            for reference, rest in zip(references, rested, strict=True)
        ]
        bursts = [_bent(one, cycles, straight) for one in bursts]
    fit = joined(cycles, references, bursts, own_clock, tau_fitted)
    return Synced(_as_stamped(fit, raw, cycles, late), tuple(bursts), tuple(references), cycles)


def _on_time(cycles: Cycles, late_ns: Floats) -> Cycles:
    """Return the values with stamps as they had been, had every one come as soon as the earliest about it."""
    stamps = np.maximum.accumulate(cycles.stamp_ns - np.rint(late_ns).astype(np.int64))
    return Cycles(stamps, cycles.span_ns, cycles.value, cycles.name)


def _as_stamped(fit: ClockFit, raw: Cycles, cycles: Cycles, late_ns: Floats) -> ClockFit:
    """Return a fit of stamps that were put on time, for the stamps as they are: late by the median more."""
    usual_s = float(np.median(late_ns)) * 1e-9
    scatter_s = float(np.quantile(late_ns, WITHIN) - np.median(late_ns)) * 1e-9
    at = np.searchsorted(cycles.stamp_ns, np.array(fit.residual_ns, np.int64))
    return replace(
        fit,
        lag_s=None if fit.lag_s is None else fit.lag_s + usual_s,
        late_s=usual_s,
        jitter_s=scatter_s,
        residual_ns=tuple(raw.stamp_ns[at].tolist()),
    )


def at_rest(reference: Reference, cycles: Cycles, search: Search) -> Reference:
    """Return the reference with its first and last power held as long as any lag may ask for."""
    reach = round(max(abs(search.low_ns), abs(search.high_ns)) + 6 * MARGIN_NS + 4 * cycles.cycle_ns)
    t_ns = np.concatenate(([reference.t_ns[0] - reach], reference.t_ns, [reference.t_ns[-1] + reach]))
    power_w = np.concatenate((reference.power_w[:1], reference.power_w, reference.power_w[-1:]))
    return Reference(t_ns, power_w, reference.name, reference.calibrated, reference.own_clock)


def _around(cycles: Cycles, reference: Reference) -> Cycles:
    """Return the values around a burst: not far, for what ran before or runs after it is no part of the reference."""
    moving = np.flatnonzero(np.diff(reference.power_w))
    first, last = (moving[0] + 1, moving[-1] + 1) if len(moving) else (0, -1)
    margin = MARGIN_NS + round(cycles.cycle_ns)
    return cycles.between(int(reference.t_ns[first]) - margin, int(reference.t_ns[last]) + margin)


def _passed(bursts: Sequence[Lag | str]) -> list[Lag]:
    return [one for one in bursts if isinstance(one, Lag) and not one.reasons]


def _mean(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    weight = 1 / np.maximum(np.array(errors), 1e-9) ** 2
    return float(weight @ np.array(values) / weight.sum()), float(1 / np.sqrt(weight.sum()))


def _straight(cycles: Cycles, good: Sequence[Lag]) -> Cycles:
    """Return the values with each stamp's drift against the nearest burst's middle taken off."""
    at, lag = np.array([one.at_ns for one in good]), np.array([one.lag_ns for one in good])
    begin = at[0]
    since = (cycles.stamp_ns - begin).astype(np.float64)
    slope = np.polyfit((at - begin).astype(np.float64), lag - lag[0], 1)[0]
    nearest = np.argmin(np.abs(since[:, None] - (at - begin)), axis=1)
    drift = slope * (since - (at - begin)[nearest])
    stamps = np.maximum.accumulate(cycles.stamp_ns - np.rint(drift).astype(np.int64))
    return Cycles(stamps, cycles.span_ns, cycles.value, cycles.name)


def _bent(one: Lag | str, cycles: Cycles, straight: Cycles) -> Lag | str:
    """Return a lag found on straightened stamps with its own stamps back."""
    if isinstance(one, str):
        return one
    back = cycles.stamp_ns[np.searchsorted(straight.stamp_ns, one.stamp_ns)]
    return replace(one, stamp_ns=back)


def joined(
    cycles: Cycles, references: Sequence[Reference], bursts: Sequence[Lag | str], own_clock: bool, tau_fitted: bool
) -> ClockFit:
    """Return the fit that bursts, or stretches of a record, make together.

    `tau_fitted`: of all together, though each lag may have been found with that tau as known.
    """
    good = _passed(bursts)
    told = [one for one in bursts if isinstance(one, Lag)]
    reasons = _reasons(bursts)
    of = good or told
    knots = tuple(Knot(one.at_ns, one.lag_ns * 1e-9, one.whole_se_ns * 1e-9) for one in good)
    lag_s = lag_se_s = skew = skew_se = None
    if good:
        mean_ns, se_ns = _mean([one.lag_ns for one in good], [one.se_ns for one in good])
        lag_s, lag_se_s = mean_ns * 1e-9, float(np.hypot(se_ns, good[0].common_se_ns)) * 1e-9
    if len(good) > 1:
        skew, skew_se = _skew(good)
    return ClockFit(
        channel=cycles.name,
        reference="; ".join(dict.fromkeys(one.name for one in references)),
        lag_s=lag_s,
        lag_se_s=lag_se_s,
        skew_ppm=skew,
        skew_se_ppm=skew_se,
        tau_s=of[0].tau_ns * 1e-9 if of else None,
        tau_se_s=of[0].tau_se_ns * 1e-9 if of else None,
        tau_fitted=tau_fitted or (bool(of) and of[0].tau_fitted),
        gain=float(np.mean([one.gain for one in of])) if of else None,
        r2=min(one.r2 for one in of) if of else None,
        second_best_ratio=min((one.ratio for one in of if one.ratio is not None), default=None),
        accepted=bool(good),
        reasons=reasons,
        own_clock=own_clock,
        knots=knots,
        residual_ns=tuple(int(t) for one in of for t in one.stamp_ns),
        residual_w=tuple(float(f"{w:.{DIGITS}g}") for one in of for w in one.residual_w),
    )


def _reasons(bursts: Sequence[Lag | str]) -> tuple[str, ...]:
    """Return each code once, with what the first burst says that bears it, and which others do."""
    said: dict[str, tuple[str, list[str]]] = {}
    for i, one in enumerate(bursts, 1):
        for reason in (one,) if isinstance(one, str) else one.reasons:
            code, _, text = reason.partition(" ")
            said.setdefault(code, (text, []))[1].append(str(i))
    if len(bursts) == 1:
        return tuple(f"{code} {text}" for code, (text, _) in said.items())
    return tuple(
        f"{code} burst{'s' * (len(which) > 1)} {' and '.join(which)} of {len(bursts)}: {text}"
        for code, (text, which) in said.items()
    )


def _skew(good: Sequence[Lag]) -> tuple[float, float]:
    """Return the slope of the lag, ppm, and its standard error: a weighted line through the knots.

    No burst's lag is taken as better known than `BURST_UNSURE_NS`: an hour apart two tell 0.02 ppm, 12 s apart 6 ppm.
    """
    at = np.array([one.at_ns - good[0].at_ns for one in good], np.float64)
    lag = np.array([one.lag_ns for one in good])
    weight = 1 / np.hypot([one.se_ns for one in good], BURST_UNSURE_NS) ** 2
    middle = float(weight @ at / weight.sum())
    square = float(weight @ (at - middle) ** 2)
    return float(weight @ ((at - middle) * lag)) / square * 1e6, float(1 / np.sqrt(square)) * 1e6
