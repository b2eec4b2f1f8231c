# SPDX-License-Identifier: Apache-2.0
"""How far two sets of paired figures agree: correlations, distributions, and the bias that correlations hide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of n pairs; None where it is undefined (fewer than 3 pairs, or a constant side).

    Attributes:
        n: Pairs in which both figures exist.
        pearson: Linear correlation.
        spearman: Rank correlation, ties by mean rank.
        ks_p: Two-sample Kolmogorov-Smirnov p-value, asymptotic.
        bias: Mean of measured - reference, in their unit.
        limits: bias -+ 1.96 standard deviations of the differences (Bland and Altman 1986).
    """

    n: int
    pearson: float | None
    spearman: float | None
    ks_p: float | None
    bias: float | None
    limits: tuple[float, float] | None


def agreement(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """Compare paired figures; NaN on either side drops the pair.

    Args:
        measured: float, shape (n,).
        reference: float, shape (n,), same unit.
    """
    a, b = np.asarray(measured, np.float64), np.asarray(reference, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3:
        return Agreement(len(a), None, None, None, float(np.mean(a - b)) if len(a) else None, None)
    difference = a - b
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    return Agreement(
        len(a),
        _pearson(a, b),
        _pearson(_ranks(a), _ranks(b)),
        _ks_p(a, b),
        bias,
        (bias - spread, bias + spread),
    )


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def _ks_p(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kolmogorov's series at Stephens' (1970) effective size; good from about 4 values a side."""
    everything = np.sort(np.concatenate((a, b)))
    below_a = np.searchsorted(np.sort(a), everything, side="right") / len(a)
    below_b = np.searchsorted(np.sort(b), everything, side="right") / len(b)
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (root + 0.12 + 0.11 / root) * float(np.abs(below_a - below_b).max())
    if x < 0.2:  # the series converges slowly there and the answer is 1
        return 1.0
    series = math.fsum((-1.0) ** (j - 1) * math.exp(-2 * (j * x) ** 2) for j in range(1, 101))
    return min(1.0, max(0.0, 2 * series))
