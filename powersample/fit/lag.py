# SPDX-License-Identifier: Apache-2.0
"""One lag between a meter and one stretch of known load: grid, bounded search, standard error, and the gates.

A standard error alone is no safe gate: of a meter that does not follow the load it claims milliseconds. The explained
share and the next best lag tell (facts: meters, quality figures and failure modes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.fit.coarse import unexplained
from powersample.fit.forward import LEAST_VALUES, Cycles, Forward
from powersample.fit.reference import Reference
from powersample.model import amount, duration

MS = 1e6
LEAST_STEP_NS = 5 * MS
STEPS_A_CYCLE = 4
HOLD_PARTS = 8
MOST_PARTS = 20_000  # of a load, on which it is compared with itself
RIVALS = 3
MOST_LAGS = 1_000_000
FAST_NS = 105 * MS  # cycles from which tau cannot be told
TAUS_NS = (0.0, 20 * MS)
MOST_TAU_NS = 1_000 * MS
SHORT_TAU = 3.0  # of its standard errors, below which it may be none
PROFILE_NS = tuple(one * MS for one in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 20.0))
SIGNIFICANT = 3.84  # chi square, 1 degree, 95 %
TWO_SIDED = 1.96
GOLDEN = (np.sqrt(5) - 1) / 2
ROUNDS = 25
OUTLIER = 8.0  # robust standard deviations; at most a hundredth of the values are left out
MOST_OUTLIERS = 0.01
LEAST_R2 = 0.5
LEAST_RATIO = 2.0
APART_CYCLES = 2.0  # outside which another lag is another lag
MOST_ALIKE = 0.85  # self-likeness of a pattern, from which it is periodic
MOST_SE_CYCLES = 0.1
LEAST_SE_NS = 2 * MS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Search:
    """Where a lag is looked for and what is taken as known.

    Attributes:
        low_ns, high_ns: lags.
        tau_ns: taken where it cannot be fitted.
        tau_se_ns: how far that may be off.
        unsure_ns: how far off the reference itself may lie: a sensor's delay, where its values are the reference.
        gains: least and most plausible gain; 0 and infinity for a reference without watts.
        fit_tau: None: where cycles are short enough.
    """

    low_ns: float
    high_ns: float
    tau_ns: float = 20 * MS
    tau_se_ns: float = 12 * MS
    unsure_ns: float = 0.0
    gains: tuple[float, float] = (0.0, float("inf"))
    fit_tau: bool | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """What was found of one stretch; times in ns, `reasons` empty when all gates were passed.

    Attributes:
        at_ns: middle of the stretch, on the meter's stamps.
        lag_ns, se_ns: of the lag, chance alone.
        unsure_ns: how far off the reference may lie.
        tau_ns, tau_se_ns: taken or fitted.
        tau_fitted: which of both.
        gain, offset_w: of the line.
        r2: explained share of the variance.
        ratio: next best over best; None where no other lag was searched.
        reasons: gates that were not passed.
        curve_ns, curve: the lags of the grid and the unexplained share at each.
        stamp_ns, residual_w: what is left of each value that was compared.
    """

    at_ns: int
    lag_ns: float
    se_ns: float
    unsure_ns: float
    tau_ns: float
    tau_se_ns: float
    tau_fitted: bool
    gain: float
    offset_w: float
    r2: float
    ratio: float | None
    reasons: tuple[str, ...]
    curve_ns: Floats
    curve: Floats
    stamp_ns: NDArray[np.int64]
    residual_w: Floats

    @property
    def whole_se_ns(self) -> float:
        """Standard error with all that more bursts do not lessen."""
        return float(np.hypot(self.se_ns, self.common_se_ns))

    @property
    def common_se_ns(self) -> float:
        """What is unsure of the reference, and of a tau that was not fitted: it looks like a lag."""
        return float(np.hypot(self.unsure_ns, 0.0 if self.tau_fitted else self.tau_se_ns))


def find_lag(cycles: Cycles, reference: Reference, search: Search) -> Lag | str:
    """Return the lag between a meter and a load, or why none can be looked for.

    Args:
        cycles: the meter's values around the load.
        reference: the load.
        search: where.
    """
    if len(cycles.value) < LEAST_VALUES:
        return f"PSQ-SYNC-FEW {len(cycles.value)} values of the meter lie around the load: too few"
    if not np.isfinite(cycles.value).all() or np.ptp(cycles.value) <= 0:
        return "PSQ-SYNC-FLAT the meter's values do not move"
    if np.ptp(reference.power_w) <= 0:
        return "PSQ-SYNC-FLAT the load does not move"
    cycle_ns = cycles.cycle_ns
    step_ns = max(cycle_ns / STEPS_A_CYCLE, LEAST_STEP_NS, (search.high_ns - search.low_ns) / MOST_LAGS)
    grid = np.arange(search.low_ns, search.high_ns + step_ns / 2, step_ns)
    curve = unexplained(cycles, reference, grid, search.tau_ns if search.tau_ns <= cycle_ns else 0.0)
    if not np.isfinite(curve).any():
        return "PSQ-SYNC-RANGE the records do not overlap at any lag that was searched"
    best = int(np.argmin(curve))
    whole = Forward(cycles, reference)
    kept = whole.inside(float(grid[best]) - step_ns)
    also = whole.inside(float(grid[best]) + step_ns)
    some = np.ones(len(cycles.value), bool)
    for one in (kept, also):
        some &= True if one is None else one
    if some.sum() < LEAST_VALUES:
        return "PSQ-SYNC-FEW the records overlap too little where they fit best"
    fit_tau = cycle_ns <= FAST_NS if search.fit_tau is None else search.fit_tau
    near = (float(grid[best]) - step_ns, float(grid[best]) + step_ns)
    at, some = _refine(whole, near, some, search.tau_ns, fit_tau)
    return _told(cycles, reference, search, whole, at, some, (grid, curve), fit_tau)


def _refine(
    forward: Forward, near: tuple[float, float], some: NDArray[np.bool_], tau_ns: float, fit_tau: bool
) -> tuple[tuple[float, float], NDArray[np.bool_]]:
    """Return (lag, tau) at the bottom of the valley, and the values that count: not those far off the rest."""
    starts = [(_golden(forward, near, tau, some), tau) for tau in (TAUS_NS if fit_tau else (tau_ns,))]
    at = min(starts, key=lambda one: forward.line(one[0], one[1], some).rss)
    at = _descend(forward, at, some, fit_tau)
    line = forward.line(*at, some)
    left = forward.value - line.offset_w - line.gain * forward.model(*at)
    spread = 1.4826 * float(np.median(np.abs(left[some]))) + 1e-300
    far = some & (np.abs(left) > OUTLIER * spread)
    if 0 < far.sum() <= MOST_OUTLIERS * some.sum():
        some = some & ~far
        at = _descend(forward, at, some, fit_tau)
    return at, some


def _golden(forward: Forward, near: tuple[float, float], tau_ns: float, some: NDArray[np.bool_]) -> float:
    low, high = near

    def cost(lag_ns: float) -> float:
        return forward.line(lag_ns, tau_ns, some).rss

    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b = cost(a), cost(b)
    while high - low > 0.5 * MS:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - GOLDEN * (high - low)
            at_a = cost(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + GOLDEN * (high - low)
            at_b = cost(b)
    return (low + high) / 2


def _free(
    forward: Forward, at: tuple[float, float], some: NDArray[np.bool_], gain: float, fit_tau: bool
) -> tuple[Floats, Floats]:
    """Return the derivatives by lag and tau with all that gain and offset can take over gone, and the plain ones."""
    names = ("lag", "tau") if fit_tau else ("lag",)
    slopes = np.column_stack([gain * forward.slope(*at, of=name)[some] for name in names])
    basis = np.column_stack((forward.model(*at)[some], np.ones(int(some.sum()))))
    return slopes - basis @ np.linalg.lstsq(basis, slopes, rcond=None)[0], basis


def _descend(forward: Forward, at: tuple[float, float], some: NDArray[np.bool_], fit_tau: bool) -> tuple[float, float]:
    """Go down by damped Gauss-Newton steps; the line adapts to every step."""
    line, damp = forward.line(*at, some), 1e-3
    for _ in range(ROUNDS):
        left = forward.value[some] - line.offset_w - line.gain * forward.model(*at)[some]
        slopes, _ = _free(forward, at, some, line.gain, fit_tau)
        normal, push = slopes.T @ slopes, slopes.T @ left
        moved = False
        while damp < 1e6 and not moved:
            bent = normal + damp * np.diag(np.diag(normal) + 1e-300)
            step = np.linalg.lstsq(bent, push, rcond=None)[0]
            tau = float(np.clip(at[1] + step[1], 0.0, MOST_TAU_NS)) if fit_tau else at[1]
            tried = (at[0] + float(step[0]), tau)
            line_tried = forward.line(*tried, some)
            if line_tried.rss < line.rss:
                moved = True
                small = line_tried.rss > line.rss * (1 - 1e-9)
                at, line, damp = tried, line_tried, max(damp / 5, 1e-9)
            else:
                damp *= 5
        if not moved or small:
            break
    return at


def _errors(
    forward: Forward, at: tuple[float, float], some: NDArray[np.bool_], fit_tau: bool
) -> tuple[float, float, Floats]:
    """Return standard errors of lag and tau, ns, and the residuals.

    The plain formula takes residuals as alike everywhere; jitter of the stamps errs only where the load moves, where
    the lag is read. So the larger of it and of the one that weighs each residual by its own slope (White 1980).
    """
    line = forward.line(*at, some)
    left = forward.value[some] - line.offset_w - line.gain * forward.model(*at)[some]
    slopes, _ = _free(forward, at, some, line.gain, fit_tau)
    scale = np.sqrt(np.sum(slopes**2, axis=0)) + 1e-300
    slopes = slopes / scale
    inverse = np.linalg.pinv(slopes.T @ slopes)
    count, used = len(left), 2 + slopes.shape[1]
    free = max(1.0, count - used)
    alike = min(0.9, max(0.0, float(left[1:] @ left[:-1]) / (float(left @ left) + 1e-300)))
    grown = (1 + alike) / (1 - alike)
    plain = np.diag(inverse) * float(left @ left) / free * grown
    weighed = np.diag(inverse @ (slopes.T * left**2) @ slopes @ inverse) * count / free
    se = np.sqrt(np.maximum(plain, weighed)) / scale
    if not fit_tau:
        return float(se[0]), 0.0, left
    if at[1] < SHORT_TAU * se[1] or at[1] < LEAST_STEP_NS:
        return (*_profiled(forward, at, some, free / grown), left)
    return float(se[0]), float(se[1]), left


def _profiled(forward: Forward, at: tuple[float, float], some: NDArray[np.bool_], free: float) -> tuple[float, float]:
    """Return standard errors of lag and tau where tau is hardly told from none.

    A short tau is the same as a lag, so derivatives say that nothing is known, or too much. What chance allows is read
    from the squares themselves, the lag fitted again at each tau.
    """
    limit = forward.line(*at, some).rss * (1 + SIGNIFICANT / free)
    alone = _errors(forward, at, some, False)[0]
    allowed = [at]
    for tau_ns in PROFILE_NS:
        tried = _descend(forward, (at[0] + at[1] - tau_ns, tau_ns), some, False)
        if forward.line(*tried, some).rss <= limit:
            allowed.append(tried)
    off = np.abs(np.array(allowed) - np.array(at)).max(axis=0) / TWO_SIDED
    return float(np.hypot(off[0], alone)), float(off[1])


def _told(
    cycles: Cycles,
    reference: Reference,
    search: Search,
    forward: Forward,
    at: tuple[float, float],
    some: NDArray[np.bool_],
    curve: tuple[Floats, Floats],
    fit_tau: bool,
) -> Lag:
    line = forward.line(*at, some)
    se_ns, tau_se_ns, left = _errors(forward, at, some, fit_tau)
    ratio = _ratio(forward, curve, line.share, at, APART_CYCLES * cycles.cycle_ns)
    stamps = cycles.stamp_ns[some]
    found = Lag(
        at_ns=int(stamps[0]) + int(np.mean(stamps - stamps[0])),
        lag_ns=at[0],
        se_ns=se_ns,
        unsure_ns=search.unsure_ns,
        tau_ns=at[1],
        tau_se_ns=tau_se_ns if fit_tau else search.tau_se_ns,
        tau_fitted=fit_tau,
        gain=line.gain,
        offset_w=line.offset_w,
        r2=1 - line.share,
        ratio=ratio,
        reasons=(),
        curve_ns=curve[0],
        curve=curve[1],
        stamp_ns=stamps,
        residual_w=left,
    )
    reasons = tuple(_refusals(found, search, cycles.cycle_ns, likeness(cycles, reference, search)))
    return Lag(**{name: getattr(found, name) for name in Lag.__slots__ if name != "reasons"}, reasons=reasons)


def _ratio(
    forward: Forward, curve: tuple[Floats, Floats], best: float, at: tuple[float, float], apart_ns: float
) -> float | None:
    """Return the unexplained share of the next best lag over the best's; None where nothing else was looked at.

    Another lag is another valley, gone down to its bottom, or where there is none the range's ends: how wide the one
    valley is tells nothing against it.
    """
    lags, shares = curve
    padded = np.concatenate(([np.inf], shares, [np.inf]))
    valley = (shares <= padded[:-2]) & (shares <= padded[2:])
    valley[[0, -1]] = True
    other = np.flatnonzero(valley & (np.abs(lags - at[0]) > apart_ns) & np.isfinite(shares))
    if not len(other):
        return None
    step_ns = float(lags[1] - lags[0])
    least = float(shares[other].min())
    for i in other[np.argsort(shares[other])][:RIVALS]:
        kept = forward.inside(float(lags[i]))
        some = np.ones(len(forward.value), bool) if kept is None else kept
        if some.sum() >= LEAST_VALUES:
            lag_ns = _golden(forward, (float(lags[i]) - step_ns, float(lags[i]) + step_ns), at[1], some)
            least = min(least, forward.line(lag_ns, at[1], some).share)
    return least / max(best, 1e-12)


def likeness(cycles: Cycles, reference: Reference, search: Search) -> float:
    """Return how alike a load is to itself moved by some time, as it is and as this meter sees it: 0 to 1.

    Greatest over all moves up to half the load, once the likeness has fallen for the first time: 1 for a square wave,
    up to about 0.6 for random edges. 0 where the search goes so far that the meter's own values tell.
    """
    moving = np.flatnonzero(np.diff(reference.power_w))
    if len(moving) < 2:
        return 0.0
    edges = (reference.t_ns[moving + 1] - reference.t_ns[0]).astype(np.float64)
    begin, end = float(edges[0]), float(edges[-1])
    if max(abs(search.low_ns), abs(search.high_ns)) >= (end - begin) / 2:
        return 0.0
    found = 0.0
    for window_ns, step_ns in (
        (0.0, float(np.median(np.diff(edges))) / HOLD_PARTS),
        (max(float(np.median(cycles.span_ns)), 0.0), cycles.cycle_ns / STEPS_A_CYCLE),
    ):
        grid = np.arange(begin, end, max(step_ns, (end - begin) / MOST_PARTS))
        found = max(found, _alike(reference.lagged(0.0).mean_w(grid, window_ns)))
    return found


def _alike(x: Floats) -> float:
    """Return the greatest correlation of a record with itself moved, beyond where that first falls to a half."""
    x, count = x - x.mean(), len(x)
    spectrum = np.fft.rfft(x, 2 * count)
    moved = np.fft.irfft(spectrum * np.conj(spectrum))[: count // 2]
    squares = np.concatenate(([0.0], np.cumsum(x**2)))
    k = np.arange(len(moved))
    alike = moved / (np.sqrt((squares[count - k]) * (squares[-1] - squares[k])) + 1e-300)
    fallen = np.flatnonzero(alike < 0.5)
    return float(np.clip(alike[fallen[0] :].max(initial=0.0), 0.0, 1.0)) if len(fallen) else 0.0


def _refusals(found: Lag, search: Search, cycle_ns: float, alike: float) -> list[str]:
    said = []
    step_ns = float(found.curve_ns[1] - found.curve_ns[0]) if len(found.curve_ns) > 1 else 0.0
    if found.lag_ns - search.low_ns < step_ns or search.high_ns - found.lag_ns < step_ns:
        ends = f"{amount(search.low_ns * 1e-9)} s to {amount(search.high_ns * 1e-9)} s"
        said.append(f"PSQ-SYNC-BORDER the best lag lies at the end of those searched ({ends}); search further")
    if found.r2 < LEAST_R2:
        said.append(
            f"PSQ-SYNC-UNEXPLAINED the load explains {found.r2:.0%} of what the meter shows: it does not follow"
        )
    if alike > MOST_ALIKE:
        said.append("PSQ-SYNC-PERIODIC the load repeats itself: a lag and one of a period more look the same")
    if found.ratio is None:
        said.append("PSQ-SYNC-AMBIGUOUS no other lag was searched: whether this is the only one is unknown")
    elif found.ratio < LEAST_RATIO:
        said.append(f"PSQ-SYNC-AMBIGUOUS another lag fits nearly as well ({found.ratio:.2f} times the squares)")
    low, high = search.gains
    if not low <= found.gain <= high or found.gain <= 0:
        span = f"plausible is {low:g} to {high:g}"
        said.append(f"PSQ-SYNC-GAIN the meter moves {amount(found.gain)} times as much as the load; {span}")
    limit_ns = max(MOST_SE_CYCLES * cycle_ns, LEAST_SE_NS)
    error_ns = float(np.hypot(found.se_ns, found.unsure_ns))  # a tau that was taken is told beside the lag
    if not error_ns <= limit_ns:
        own = f" ({_ms(found.unsure_ns)} of it the reference's own)" if found.unsure_ns > limit_ns else ""
        said.append(f"PSQ-SYNC-UNSURE its standard error is {_ms(error_ns)}{own}, more than {duration(limit_ns / 1e9)}")
    return said


def _ms(error_ns: float) -> str:
    return f"{error_ns / MS:.0f} ms" if error_ns >= 100 * MS else duration(error_ns / 1e9)
