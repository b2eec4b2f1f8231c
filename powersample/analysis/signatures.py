# SPDX-License-Identifier: Apache-2.0
"""What in powers and energies shows that they cannot be trusted, or were taken in too narrow a range.

arXiv 2505.15631 asks for a wide range of GPU usage (its second principle) and shows how collections of energies fail:
too few samples an epoch, power in two clusters with nothing between, a constant deficit against the meter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample.analysis.agreement import agreement

Floats = NDArray[np.float64]
NEAR = 0.02  # of the lowest value: so near to it a value lies on the floor
OFFSET_PCT = 1.0  # of the reference's mean: a smaller offset is none


@dataclass(frozen=True, slots=True)
class Usage:
    """The range of powers.

    Attributes:
        n: powers.
        low_w, high_w: the least and the greatest.
        idle_w, limit_w: what a GPU draws at rest, and at most; None where unknown.
        floor_share: powers within 2 % of the least, the least itself aside.
    """

    n: int
    low_w: float
    high_w: float
    idle_w: float | None = None
    limit_w: float | None = None
    floor_share: float = 0.0

    @property
    def span_w(self) -> float:
        """Greatest - least, W."""
        return self.high_w - self.low_w

    @property
    def share(self) -> float | None:
        """The span as a share of what there is between rest and limit; None where one of them is unknown."""
        if self.idle_w is None or self.limit_w is None or self.limit_w <= self.idle_w:
            return None
        return self.span_w / (self.limit_w - self.idle_w)


def usage(watts: ArrayLike, *, idle_w: float | None = None, limit_w: float | None = None) -> Usage | None:
    """Return the range of powers; None where there is none.

    Args:
        watts: of any shape, NaN where unknown.
        idle_w: the device at rest.
        limit_w: its power limit; of several devices their sum.
    """
    known = np.asarray(watts, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    low_w = float(known.min())
    near = int(np.count_nonzero(known <= low_w + NEAR * abs(low_w))) - 1
    return Usage(len(known), low_w, float(known.max()), idle_w, limit_w, near / max(1, len(known) - 1))


@dataclass(frozen=True, slots=True)
class Offset:
    """A constant difference between what was measured and a reference.

    Attributes:
        n: pairs.
        bias: mean of measured - reference, in their unit.
        spread: 1.96 standard deviations of the differences.
        pct: the bias as a percentage of the reference's mean.
    """

    n: int
    bias: float
    spread: float
    pct: float

    @property
    def constant(self) -> bool:
        """Whether the differences lie on one side of 0, and are not negligible."""
        return abs(self.bias) > self.spread and abs(self.pct) > OFFSET_PCT


def offset(measured: ArrayLike, reference: ArrayLike) -> Offset | None:
    """Return the mean difference and how much it varies; None of fewer than three pairs."""
    told = agreement(measured, reference)
    if told.bias is None or told.limits is None:
        return None
    mine, theirs = np.asarray(measured, np.float64), np.asarray(reference, np.float64)
    mean = float(theirs[np.isfinite(mine) & np.isfinite(theirs)].mean())
    return Offset(told.n, told.bias, told.limits[1] - told.bias, 100 * told.bias / mean if mean else 0.0)
