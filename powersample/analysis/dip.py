# SPDX-License-Identifier: Apache-2.0
"""Hartigan's dip: how far a sample is from having one mode, and how often one mode alone looks so.

The dip is the least distance, greatest difference of distribution functions, between the sample's and any unimodal one:
convex up to the mode, concave from there. 1/(2n) is the least that n values can have, 1/4 the most. Of unimodal
distributions the uniform has the greatest dips, so its quantiles give p-values that are right or too large.

Source: J. A. Hartigan and P. M. Hartigan, The dip test of unimodality, Ann. Stat. 13 (1985) 70-84. Implemented from
the definition; the quantiles are this project's own (`bench/dip`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample.analysis.dip_table import PROBABILITIES, SIZES, SQRT_N_DIP

Floats = NDArray[np.float64]
LEAST = 4
MOST = 2000  # values that are looked at; the table ends there


@dataclass(frozen=True, slots=True)
class Dip:
    """A sample's dip.

    Attributes:
        n: values that were looked at.
        dip: 1/(2n) to 1/4.
        p: how often n independent values of a uniform distribution have a greater one.
        low, high: where a nearest unimodal distribution has its mode.
    """

    n: int
    dip: float
    p: float
    low: float
    high: float


def dip_test(values: ArrayLike, *, seed: int = 1) -> Dip | None:
    """Return a sample's dip; None of fewer than four values, or where all are equal.

    Values that were rounded repeat themselves, and every repeat would be a mode: equal ones are spread within the
    smallest step between neighbours. Of more than 2000 values so many are drawn.

    Args:
        values: any shape; what is not finite is left out. p holds for independent values, which readings that follow
            each other are not.
        seed: of what is drawn.
    """
    given = np.asarray(values, np.float64).ravel()
    given = given[np.isfinite(given)]
    dice = np.random.default_rng(seed)
    if len(given) > MOST:
        given = dice.choice(given, MOST, replace=False)
    distinct = np.unique(given)
    if len(given) < LEAST or len(distinct) < 2:
        return None
    if len(distinct) < len(given):
        given = given + (dice.uniform(-0.5, 0.5, len(given))) * float(np.diff(distinct).min())
    ordered = np.sort(given)
    value, first, last = dip_of(ordered)
    return Dip(len(ordered), value, p_value(value, len(ordered)), float(ordered[first]), float(ordered[last]))


def p_value(dip: float, n: int) -> float:
    """Return how often n uniform values have a greater dip, from 0.001, which stands for less as well, to 1."""
    sizes = np.log(SIZES)
    where = np.clip(np.log(n), sizes[0], sizes[-1])
    quantiles = np.array([np.interp(where, sizes, column) for column in np.array(SQRT_N_DIP).T])
    scaled = dip * n**0.5
    if scaled >= quantiles[-1]:
        return round(1 - PROBABILITIES[-1], 6)
    return float(1 - np.interp(scaled, quantiles, PROBABILITIES, left=0.0))


def dip_of(ordered: Floats) -> tuple[float, int, int]:
    """Return the dip of values that rise, and the first and last index of the modal interval.

    Between the greatest convex minorant of the lower corners (x_i, i) and the least concave majorant of the upper ones
    (x_i, i + 1), counts from 0, the interval shrinks to where they are farthest apart, until what lies outside has the
    greater distance.
    """
    n = len(ordered)
    counts = np.arange(n, dtype=np.float64)
    low, high = 0, n - 1
    most = 1.0
    while True:
        x, y = ordered[low : high + 1], counts[low : high + 1]
        below = _hull(x, y)
        above = _hull(-x[::-1], -y[::-1])  # a concave majorant, seen from its other side
        above = (len(x) - 1 - above)[::-1]
        minorant, majorant = np.interp(x, x[below], y[below]), np.interp(x, x[above], y[above] + 1.0)
        apart_below, apart_above = (majorant - minorant)[below], (majorant - minorant)[above]
        apart = max(float(apart_below.max()), float(apart_above.max()))
        if apart <= most or len(x) < 3:
            return most / (2 * n), low, high
        if apart_below.max() >= apart_above.max():
            left = int(below[np.argmax(apart_below)])
            right = int(above[np.searchsorted(above, left)])
        else:
            right = int(above[len(above) - 1 - np.argmax(apart_above[::-1])])
            left = int(below[np.searchsorted(below, right, "right") - 1])
        outside = max(
            float((y + 1.0 - minorant)[:left].max(initial=0.0)), float((majorant - y)[right + 1 :].max(initial=0.0))
        )
        most = max(most, outside)
        if (left, right) == (0, len(x) - 1):
            return most / (2 * n), low, high
        low, high = low + left, low + right


def _hull(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Return the indices at which the greatest convex minorant touches points of rising x."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept, np.int64)
