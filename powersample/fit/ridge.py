# SPDX-License-Identifier: Apache-2.0
"""Least squares of a few terms, some of which cannot be negative, drawn towards what is known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SINGULAR = 1e-12  # of the greatest eigenvalue, once the columns are of one size


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of the coefficients before any point was taken.

    Attributes:
        mean: float64 (terms,), where they are expected.
        sd: float64 (terms,), how far from there; infinite where nothing is known.
        positive: bool (terms,), which cannot be below 0.
    """

    mean: Floats
    sd: Floats
    positive: NDArray[np.bool_]


def solve(rows: Floats, values: Floats, sd: Floats, prior: Prior) -> tuple[Floats, Floats] | None:
    """Return the coefficients that are least off in squares, and their covariance; None where the points do not tell.

    Minimises sum((values - rows c)^2 / sd^2) + sum((c - mean)^2 / prior sd^2) with c >= 0 where it must be. There are
    a handful of terms, so every choice of those that are held at 0 is tried: exact, and nothing to converge.

    Args:
        rows: float64 (n, terms).
        values: float64 (n,).
        sd: float64 (n,), standard deviation of each value about the model.
        prior: of the coefficients.

    Returns:
        float64 (terms,) and float64 (terms, terms), the covariance as if no term were held at 0. One that is held is
        not known to be 0, but not to be above what the points allow: without its variance, intervals would hold the
        truth in as few as half of the cases where it is one standard deviation above 0. Where the points do not tell
        all terms apart, the covariance of those that are not held.
    """
    weight = np.where(np.isinf(prior.sd), 0.0, 1 / prior.sd)
    # One system: a line a point, and a line a term that something is known of.
    system = np.concatenate((rows / sd[:, None], np.diag(weight)))
    right = np.concatenate((values / sd, weight * np.where(np.isinf(prior.sd), 0.0, prior.mean)))
    best: tuple[float, Floats, Floats] | None = None
    everything = _plain(system, right)
    for free in _choices(prior.positive):
        found = _plain(system[:, free], right)
        if found is None:
            continue
        part, covariance = found
        if (part[prior.positive[free]] < 0).any():
            continue
        cost = float(np.sum((right - system[:, free] @ part) ** 2))
        if best is None or cost < best[0]:
            whole, spread = np.zeros(len(prior.mean)), np.zeros((len(prior.mean),) * 2)
            whole[free], spread[np.ix_(free, free)] = part, covariance
            if everything is not None:
                spread = everything[1]
            best = cost, whole, spread
        if len(free) == len(prior.mean):  # nothing had to be held: there is no better
            break
    return None if best is None else best[1:]


def _choices(positive: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """Yield the terms that are not held at 0, all of them first."""
    everything = np.arange(len(positive))
    held = np.flatnonzero(positive).tolist()
    for count in range(len(held) + 1):
        for zero in combinations(held, count):
            yield np.setdiff1d(everything, np.array(zero, np.intp))


def _plain(system: Floats, right: Floats) -> tuple[Floats, Floats] | None:
    size = np.linalg.norm(system, axis=0)
    if not len(size) or (size == 0).any():
        return None
    scaled = system / size
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    if values[0] <= SINGULAR * values[-1]:
        return None
    covariance = (vectors / values) @ vectors.T
    return covariance @ (scaled.T @ right) / size, covariance / np.outer(size, size)
