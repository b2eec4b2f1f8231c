# SPDX-License-Identifier: Apache-2.0
"""Sums over a sensor's updates, told at the edges of any number of windows in one pass.

Every update stands for the time around it that is nearer to it than to its neighbours: its cell. A window of true power
is looked up later, by the sensor's delay and half its averaging window: edges given here are in publication time. What
an interval needs comes along: how the values scatter and step, how they range near each edge, what gaps hide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges, Floats
from powersample.analysis.published import Updates

MOST_HELD = 0.5  # of a window, that an outermost value may be held for
HOLE = 1.5  # update periods between neighbours, beyond which something is hidden


@dataclass(frozen=True, slots=True)
class Reach:
    """How far around an edge or a window something is looked at, ns."""

    edge_ns: int  # the range of values at an edge
    near_ns: int  # their scatter, and the range that a gap may hide
    wide_ns: int  # the range of everything that the sensor showed


@dataclass(frozen=True, slots=True)
class CellSums:
    """What the updates say of each window, in the channel's raw unit.

    float64 of shape (windows,), but `ends` and `edge_range` of shape (2, windows).

    Attributes:
        area: sum of value x cell, raw ns.
        ends: value at the start and at the end, on a line between updates.
        uncovered_ns: part of the window beyond the outermost cells.
        hidden_ns: part of it in holes.
        holes: how many touch it.
        updates: published within it.
        steps: sum of (step x unseen time)^2 / 12 over neighbours that touch it, raw^2 ns^2.
        step_squares: sum of step^2 over the same.
        variance: of the values in and near it; 0 for fewer than two.
        slowness: mean squared step over twice the variance (von Neumann): 1 for white noise, 0 for slow changes.
        edge_range: greatest less least value around each edge.
        near_range: the same in and near it.
        wide_range: the same far around it.
        wide_least: the least value there.
        wide_most: the greatest.
        carried_ns: part of the window for which an outermost value is held.
        phase_ns: from its start to the next update; NaN where none follows within the record.
    """

    area: Floats
    ends: Floats
    uncovered_ns: Floats
    hidden_ns: Floats
    holes: NDArray[np.int64]
    updates: NDArray[np.int64]
    steps: Floats
    step_squares: Floats
    variance: Floats
    slowness: Floats
    edge_range: Floats
    near_range: Floats
    wide_range: Floats
    wide_least: Floats
    wide_most: Floats
    carried_ns: Floats
    phase_ns: Floats


class Cells:
    """The pass.

    Args:
        edges: of the windows, in publication time.
        spacing_ns: of updates that are seen: the update period, or the poll spacing where that is longer.
        window_ns: what each value averages.
        reach: how far to look around.
    """

    def __init__(self, edges: Edges, *, spacing_ns: float, window_ns: float, reach: Reach) -> None:
        self._edges, self._spacing_ns, self._window_ns, self._reach = edges, spacing_ns, window_ns, reach
        shape = edges.shape
        outward = np.array([[-1], [1]], np.int64)
        self._near_edges = edges + outward * reach.near_ns
        self._sum = {key: np.zeros(shape) for key in ("area", "hidden", "steps", "squares", "holes", "updates")}
        self._near = {key: np.zeros(shape) for key in ("n", "value", "value2", "pairs", "squares")}
        self._total = {"area": 0.0, "hidden": 0.0}
        self._ends = np.full(shape, np.nan)
        self._phase_ns = np.full(shape[1], np.nan)
        low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._ranges = (
            (edges - reach.edge_ns, edges + reach.edge_ns, low, high),
            (edges[0] - reach.near_ns, edges[1] + reach.near_ns, low[0].copy(), high[0].copy()),
            (edges[0] - reach.wide_ns, edges[1] + reach.wide_ns, low[0].copy(), high[0].copy()),
        )
        self._first: tuple[int, float] | None = None
        self._origin = 0.0  # values are taken less the first: a variance of large values keeps its digits
        self._begin_ns = 0  # of the first cell
        self._boundary_ns = 0  # end of the newest cell that is done
        self._last: tuple[NDArray[np.int64], Floats] | None = None

    def add(self, updates: Updates) -> None:
        """Take the next updates."""
        t_ns, value = updates.t_ns, updates.value
        if not len(t_ns):
            return
        after = np.searchsorted(t_ns, self._edges[0], "left")
        new = np.isnan(self._phase_ns) & (after < len(t_ns))
        self._phase_ns[new] = (t_ns[after[new]] - self._edges[0][new]).astype(np.float64)
        if self._last is None:
            self._first, self._origin = (int(t_ns[0]), float(value[0])), float(value[0])
            self._begin_ns = self._boundary_ns = int(t_ns[0]) - round(self._spacing_ns / 2)
            self._count(t_ns, value)
        else:
            self._count(t_ns, value)
            t_ns, value = np.concatenate((self._last[0], t_ns)), np.concatenate((self._last[1], value))
        self._last = (t_ns[-1:], value[-1:])
        self._look(t_ns, value)
        if len(t_ns) > 1:
            self._pairs(t_ns, value)
            middle_ns = t_ns[:-1] + np.diff(t_ns) // 2
            self._cells(np.concatenate(([self._boundary_ns], middle_ns)), value[:-1])

    def _cells(self, boundaries_ns: NDArray[np.int64], value: Floats) -> None:
        area = np.concatenate(([0.0], np.cumsum(value * np.diff(boundaries_ns))))
        self._line("area", boundaries_ns, area)
        self._boundary_ns = int(boundaries_ns[-1])

    def _line(self, key: str, knots_ns: NDArray[np.int64], cumulative: Floats) -> None:
        """Place a sum that grows evenly between knots at the edges among them, and carry it on."""
        mine = (self._edges >= knots_ns[0]) & (self._edges < knots_ns[-1])
        begin = self._total[key]
        self._sum[key][mine] = begin + np.interp(self._edges[mine] - knots_ns[0], knots_ns - knots_ns[0], cumulative)
        self._total[key] = begin + float(cumulative[-1])
        self._sum[key][self._edges >= knots_ns[-1]] = self._total[key]

    def _count(self, t_ns: NDArray[np.int64], value: Floats) -> None:
        less = value - self._origin
        at = np.searchsorted(t_ns, self._edges, "right")
        self._sum["updates"] += at
        at = np.searchsorted(t_ns, self._near_edges, "right")
        at[0] = np.searchsorted(t_ns, self._near_edges[0], "left")
        for key, each in (("n", np.ones(len(less))), ("value", less), ("value2", less * less)):
            self._near[key] += np.concatenate(([0.0], np.cumsum(each)))[at]

    def _pairs(self, t_ns: NDArray[np.int64], value: Floats) -> None:
        apart_ns, step = np.diff(t_ns).astype(np.float64), np.diff(value)
        unseen_ns = np.maximum(apart_ns - self._window_ns, 0.15 * apart_ns)
        squares = step * step
        # Neighbours touch a window that begins before the second and ends after the first.
        touching = np.stack(
            (np.searchsorted(t_ns[1:], self._edges[0], "right"), np.searchsorted(t_ns[:-1], self._edges[1], "left"))
        )
        hole_ns = np.maximum(apart_ns - HOLE * self._spacing_ns, 0.0)
        for key, each in (("steps", squares * unseen_ns**2 / 12), ("squares", squares), ("holes", hole_ns > 0)):
            self._sum[key] += np.concatenate(([0.0], np.cumsum(each, dtype=np.float64)))[touching]
        within = np.stack(
            (
                np.searchsorted(t_ns[:-1], self._near_edges[0], "left"),
                np.searchsorted(t_ns[1:], self._near_edges[1], "right"),
            )
        )
        for key, each in (("pairs", np.ones(len(step))), ("squares", squares)):
            self._near[key] += np.concatenate(([0.0], np.cumsum(each)))[within]
        if hole_ns.any():
            rest_ns = ((apart_ns - hole_ns) / 2).astype(np.int64)
            knots = np.stack((t_ns[:-1] + rest_ns, t_ns[1:] - rest_ns), axis=1).ravel()
            grown = np.zeros(len(knots))
            grown[1::2] = hole_ns
            self._line("hidden", np.maximum.accumulate(knots), np.cumsum(grown))
        mine = (self._edges >= t_ns[0]) & (self._edges <= t_ns[-1])
        self._ends[mine] = np.interp(self._edges[mine] - t_ns[0], t_ns - t_ns[0], value)

    def _look(self, t_ns: NDArray[np.int64], value: Floats) -> None:
        padded = np.concatenate((value, value[-1:]))
        for begin_ns, end_ns, low, high in self._ranges:
            first, last = np.searchsorted(t_ns, begin_ns, "left"), np.searchsorted(t_ns, end_ns, "right")
            some = first < last
            if some.any():
                pairs = np.stack((first[some], last[some]), axis=1).ravel()  # every second stretch is a window's
                low[some] = np.minimum(low[some], np.minimum.reduceat(padded, pairs)[::2])
                high[some] = np.maximum(high[some], np.maximum.reduceat(padded, pairs)[::2])

    def lacks(self) -> NDArray[np.bool_]:
        """Return bool, shape (2, windows): edges beyond the outermost updates."""
        if self._first is None or self._last is None:
            return np.ones(self._edges.shape, np.bool_)
        lacks: NDArray[np.bool_] = (self._edges < self._first[0]) | (self._edges > int(self._last[0][0]))
        return lacks

    def close(self, slack_ns: float) -> CellSums:
        """Return what was found.

        Args:
            slack_ns: how long the outermost values may be held over what little the edges miss.
        """
        length_ns = (self._edges[1] - self._edges[0]).astype(np.float64)
        uncovered_ns, carried, carried_ns = length_ns.copy(), np.zeros_like(length_ns), np.zeros_like(length_ns)
        if self._first is not None and self._last is not None:
            first_ns, first = self._first
            last_ns, last = int(self._last[0][0]), float(self._last[1][0])
            end_ns = max(last_ns + round(self._spacing_ns / 2), self._boundary_ns + 1)
            self._cells(np.array([self._boundary_ns, end_ns]), self._last[1])
            uncovered_ns = np.zeros_like(length_ns)
            for missing, value in ((self._begin_ns - self._edges[0], first), (self._edges[1] - end_ns, last)):
                missing_ns = np.clip(missing.astype(np.float64), 0.0, length_ns)
                held_ns = np.where(missing <= slack_ns, missing_ns, 0.0)  # a window wholly outside is further off
                carried, carried_ns = carried + held_ns * value, carried_ns + held_ns
                uncovered_ns += missing_ns - held_ns
            # A value that is held over most of a window was measured beside it: it tells nothing of what ran in it.
            beside = carried_ns > MOST_HELD * length_ns
            uncovered_ns[beside] += carried_ns[beside]
            carried[beside] = carried_ns[beside] = 0.0
            self._ends[self._edges <= first_ns] = first
            self._ends[self._edges >= last_ns] = last
        sums = {key: at[1] - at[0] for key, at in self._sum.items()}
        near = {key: at[1] - at[0] for key, at in self._near.items()}
        count, pairs = np.maximum(near["n"], 1.0), np.maximum(near["pairs"], 1.0)
        variance = np.maximum(near["value2"] / count - (near["value"] / count) ** 2, 0.0)
        slowness = np.divide(near["squares"] / pairs, 2 * variance, out=np.zeros_like(variance), where=variance > 0)
        ranges = [np.where(high >= low, high - low, 0.0) for _, _, low, high in self._ranges]
        return CellSums(
            area=sums["area"] + carried,
            ends=self._ends,
            uncovered_ns=np.minimum(uncovered_ns, length_ns),
            hidden_ns=sums["hidden"],
            holes=sums["holes"].astype(np.int64),
            updates=sums["updates"].astype(np.int64),
            steps=sums["steps"],
            step_squares=sums["squares"],
            variance=variance,
            slowness=slowness,
            edge_range=ranges[0],
            near_range=ranges[1],
            wide_range=ranges[2],
            wide_least=self._ranges[2][2],
            wide_most=self._ranges[2][3],
            carried_ns=carried_ns,
            phase_ns=self._phase_ns,
        )
