# SPDX-License-Identifier: Apache-2.0
"""How evenly a counter grew around the edges of windows: what a line between its points may be off by there.

    u = H max(f (1 - f), 0.05) (near + 0.1 trace + 0.1 P) / sqrt 3

with H the spacing of the points around the edge, f the edge's place between them, near the range of the mean powers of
the seven spacings around it, trace that of the whole stretch (at most 400 W), P the power at the edge.
"""

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges, Floats

SIDE = 4  # points on either side of an edge that are looked at: seven spacings
LEAST_PLACE = 0.05
FAR = 0.1
MOST_RANGE_W = 400.0


class EdgeRates:
    """The points of a counter around every edge, in chunks; keeps nine numbers an edge.

    Args:
        edges: of the windows.
        least_ns: what a mean power is told over at least: two polls right after each other, as after a stall, may have
            a whole update between them.
    """

    def __init__(self, edges: Edges, least_ns: float = 1.0) -> None:
        self._edges, self._least_ns = edges, max(1.0, least_ns)
        self._t = np.full((2 * SIDE, *edges.shape), np.nan)  # ns from the edge
        self._gained = np.full((2 * SIDE, *edges.shape), np.nan)
        self._tail = (np.empty(0, np.int64), np.empty(0))
        self._least, self._most = np.inf, -np.inf

    def add(self, t_ns: NDArray[np.int64], gained: Floats) -> None:
        """Take the next points, instants rising; gained: so far, raw."""
        t_ns = np.concatenate((self._tail[0], t_ns))
        gained = np.concatenate((self._tail[1], gained))
        self._tail = (t_ns[-2 * SIDE :], gained[-2 * SIDE :])
        if len(t_ns) < 2:
            return
        rate = np.diff(gained) / np.maximum(np.diff(t_ns), self._least_ns)
        self._least, self._most = min(self._least, float(rate.min())), max(self._most, float(rate.max()))
        mine = (self._edges >= t_ns[0]) & (self._edges <= t_ns[-1])
        if not mine.any():
            return
        edge_ns = self._edges[mine]
        left = np.clip(np.searchsorted(t_ns, edge_ns, "right") - 1, 0, len(t_ns) - 2)
        at = left + np.arange(1 - SIDE, SIDE + 1)[:, None]
        there = (at >= 0) & (at < len(t_ns))
        at = np.clip(at, 0, len(t_ns) - 1)
        self._t[:, mine] = np.where(there, (t_ns[at] - edge_ns).astype(np.float64), np.nan)
        self._gained[:, mine] = np.where(there, gained[at] - gained[left], np.nan)

    def most_w(self, scale: float) -> float:
        """Return the greatest mean power between neighbouring points, W; 0 without two."""
        return max(0.0, self._most * scale * 1e9) if np.isfinite(self._most) else 0.0

    def uncertainty_j(self, scale: float, bracket_ns: float) -> Floats:
        """Return the standard uncertainty of the gain up to each edge, J, shape (2, windows); NaN where unknown.

        Args:
            scale: raw unit to J.
            bracket_ns: within which the instant of a point is known.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            spacing_s = np.diff(self._t, axis=0) * 1e-9
            watts = np.diff(self._gained, axis=0) * scale / np.maximum(spacing_s, self._least_ns * 1e-9)
            h, place = spacing_s[SIDE - 1], -self._t[SIDE - 1] * 1e-9 / spacing_s[SIDE - 1]
            power = watts[SIDE - 1]
            near = np.nanmax(np.where(np.isnan(watts), -np.inf, watts), axis=0)
            near -= np.nanmin(np.where(np.isnan(watts), np.inf, watts), axis=0)
        trace_w = min(MOST_RANGE_W, max(0.0, (self._most - self._least) * scale * 1e9))
        between = h * np.maximum(place * (1 - place), LEAST_PLACE)
        line = between * (np.where(np.isfinite(near), near, trace_w) + FAR * trace_w + FAR * power) / np.sqrt(3)
        instant = power * bracket_ns * 1e-9 / np.sqrt(12)
        u: Floats = np.sqrt(line**2 + instant**2 + scale**2 / 6)
        return np.where(np.isfinite(u), u, np.nan)
