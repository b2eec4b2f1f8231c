# SPDX-License-Identifier: Apache-2.0
"""Fewer points of a curve, none of its extremes lost: of every bin the first, lowest, highest and last, in their order.

The bins are as wide as the curve needs and no wider. Their width is a power of two and their edges are multiples of
it, so that a wider bin is made of whole narrower ones: reducing what was reduced gives what reducing the whole would,
and a curve of any length passes through at constant memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SHIFT = 62


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of a curve; arrays of shape (n,).

    Attributes:
        t_ns: int64, rising.
        value: float64, finite.
        broken: bool: nothing is known between this point and the one before.
        width_ns: of the bins that they were reduced to; 0 where every point is there.
    """

    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    broken: NDArray[np.bool_]
    width_ns: int = 0

    def __len__(self) -> int:
        return len(self.t_ns)


class Reducer:
    """Takes a curve's points in their order, in pieces of any size, and keeps at most about `most` of them.

    Kept are the first, lowest, highest and last point of every bin, and the two around a gap: of every gap that is
    longer than a bin, and of the longest in each bin. Bins end at the cuts as well, so that the extremes between two
    cuts are kept too; where there are so many cuts that a bin between each would be too many points, there are more.

    Args:
        most: points to keep.
        cuts_ns: int64, instants between which extremes are wanted: edges of windows.
    """

    def __init__(self, most: int, cuts_ns: NDArray[np.int64] | None = None) -> None:
        self._most = most
        self._cuts = np.unique(np.empty(0, np.int64) if cuts_ns is None else cuts_ns)
        self._shift = 0
        self._held: list[Points] = []
        self._count = 0
        self._last_ns: int | None = None

    def add(self, t_ns: NDArray[np.int64], value: NDArray[np.float64], broken: NDArray[np.bool_]) -> None:
        """Take the next points."""
        if not len(t_ns):
            return
        piece = Points(t_ns, value, broken)
        if self._shift:
            piece = self._reduced(piece, self._last_ns)
        self._last_ns = int(t_ns[-1])
        self._held.append(piece)
        self._count += len(piece)
        if self._count > 2 * self._most:
            self._shrink()

    def close(self) -> Points:
        """Return what is kept."""
        self._shrink()
        (held,) = self._held or [Points(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))]
        return Points(held.t_ns, held.value, held.broken, (1 << self._shift) if self._shift else 0)

    def _shrink(self) -> None:
        if not self._held:
            return
        held = Points(
            np.concatenate([one.t_ns for one in self._held]),
            np.concatenate([one.value for one in self._held]),
            np.concatenate([one.broken for one in self._held]),
        )
        if self._shift:
            held = self._reduced(held)
        while len(held) > self._most and self._shift < MOST_SHIFT:
            self._shift = self._shift + 1 if self._shift else self._first_shift(held)
            held = self._reduced(held)
        self._held, self._count = [held], len(held)

    def _first_shift(self, held: Points) -> int:
        """Return the widest bins that are sure to be narrow enough to begin with: of one point each, on the whole."""
        span_ns = int(held.t_ns[-1]) - int(held.t_ns[0])
        return max(1, (span_ns // len(held)).bit_length() - 1)

    def _reduced(self, points: Points, before_ns: int | None = None) -> Points:
        t_ns, value = points.t_ns, points.value
        new_bin = np.empty(len(points), np.bool_)
        new_bin[0] = True
        new_bin[1:] = np.diff(t_ns >> self._shift) != 0
        if len(self._cuts):
            new_bin[1:] |= np.diff(np.searchsorted(self._cuts, t_ns, "right")) != 0
        broken = _longest(points, np.flatnonzero(new_bin), before_ns)
        starts = np.flatnonzero(new_bin | broken)
        length = np.diff(np.append(starts, len(points)))
        keep = np.zeros(len(points), np.bool_)
        keep[starts] = True
        keep[starts + length - 1] = True
        for extreme in (np.minimum, np.maximum):
            is_it = value == np.repeat(extreme.reduceat(value, starts), length)
            at = np.flatnonzero(is_it)
            piece = np.searchsorted(starts, at, "right")
            keep[at[np.append(True, np.diff(piece) != 0)]] = True
        return Points(t_ns[keep], value[keep], broken[keep])


def _longest(points: Points, starts: NDArray[np.int64], before_ns: int | None) -> NDArray[np.bool_]:
    """Return which points have a gap before them, of several that end in one bin the longest alone.

    A gap that is longer than its bin is the longest there: at most one such ends in a bin.
    """
    if not points.broken.any():
        return points.broken
    before_ns = int(points.t_ns[0]) if before_ns is None else before_ns
    length_ns = np.where(points.broken, np.diff(points.t_ns, prepend=before_ns), -1)
    most = np.repeat(np.maximum.reduceat(length_ns, starts), np.diff(np.append(starts, len(points))))
    chosen: NDArray[np.bool_] = points.broken & (length_ns == most)
    at = np.flatnonzero(chosen)
    bins = np.searchsorted(starts, at, "right")
    chosen[at[1:][np.diff(bins) == 0]] = False
    return chosen
