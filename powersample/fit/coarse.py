# SPDX-License-Identifier: Apache-2.0
"""How much of a meter's values a load leaves unexplained, over all lags at once.

Few lags are worked out one by one, exactly. For many, both records are put on one grid, and the correlation over what
overlaps at each lag comes from five products of Fourier transforms; the deepest valleys are then worked out exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powersample.fit.forward import LEAST_OVERLAP, LEAST_VALUES, Cycles, Forward
from powersample.fit.reference import Reference

MOST_ONE_BY_ONE = 1_500
COARSE_VALUES = 3_000  # as many are looked at one by one
MOST_POINTS = 1 << 22
VALLEYS = 8
GAP = 1.5  # cycles between stamps, beyond which nothing stands between them

Floats = NDArray[np.float64]


def unexplained(cycles: Cycles, reference: Reference, grid: Floats, tau_ns: float) -> Floats:
    """Return the unexplained share at each lag of an even grid, ns; infinite where too little overlaps."""
    every = max(1, len(cycles.value) // COARSE_VALUES)
    some = Forward(cycles.take(np.arange(len(cycles.value)) % every == 0), reference)
    if len(grid) <= MOST_ONE_BY_ONE:
        return np.array([some.share(float(lag), tau_ns) for lag in grid])
    curve = _at_once(cycles, reference, grid, tau_ns)
    known = np.where(np.isfinite(curve), curve, np.inf)
    padded = np.concatenate(([np.inf], known, [np.inf]))
    valleys = np.flatnonzero((known <= padded[:-2]) & (known <= padded[2:]) & np.isfinite(known))
    for i in valleys[np.argsort(known[valleys])][:VALLEYS]:
        for near in range(max(0, i - 1), min(len(grid), i + 2)):
            curve[near] = some.share(float(grid[near]), tau_ns)
    return curve


def _at_once(cycles: Cycles, reference: Reference, grid: Floats, tau_ns: float) -> Floats:
    step_ns = float(grid[1] - grid[0])
    stamps = (cycles.stamp_ns - reference.t_ns[0]).astype(np.float64)
    span_ns = float(np.median(cycles.span_ns))
    # The reference's points lie on whole steps; the meter's lie so that the grid's first lag is a whole number of them.
    points = int((float(reference.t_ns[-1] - reference.t_ns[0]) - span_ns) / step_ns)
    first = int(np.ceil((stamps[0] - grid[0] - span_ns) / step_ns))
    count = int((stamps[-1] - grid[0] - span_ns) / step_ns) - first + 1
    if points < 2 or count < 2 or points + count > MOST_POINTS:
        return np.full(len(grid), np.inf)
    ends = span_ns + step_ns * np.arange(points, dtype=np.float64)
    x = reference.lagged(tau_ns).mean_w(ends, span_ns)
    at = span_ns + (first + np.arange(count)) * step_ns + float(grid[0])
    y = np.interp(at, stamps, cycles.value)
    weight = (
        np.diff(stamps)[np.clip(np.searchsorted(stamps, at) - 1, 0, len(stamps) - 2)] <= GAP * cycles.cycle_ns
    ) * 1.0
    x, y = x - x.mean(), (y - y.mean()) * weight
    size = 1 << int(np.ceil(np.log2(points + count)))
    of_x = [np.conj(np.fft.rfft(one, size)) for one in (np.ones(points), x, x * x)]
    of_y = [np.fft.rfft(one, size) for one in (weight, y, y * y)]

    def summed(i: int, j: int) -> Floats:
        """Sum over the overlap of the i-th power of x and the j-th of y, at every lag of the grid."""
        whole = np.fft.irfft(of_x[i] * of_y[j], size)
        moved: Floats = whole[(np.arange(len(grid)) - first) % size]
        return moved

    n, sx, sy, sxx, syy, sxy = (summed(i, j) for i, j in ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1)))
    least = max(LEAST_VALUES, LEAST_OVERLAP * min(points, float(weight.sum())))
    n = np.where(n >= least, n, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance, of_values = sxy - sx * sy / n, (sxx - sx * sx / n) * (syy - sy * sy / n)
        share = 1 - np.where((covariance > 0) & (of_values > 0), covariance**2 / of_values, 0.0)
    return np.where(np.isfinite(n), np.maximum(share, 0.0), np.inf)
