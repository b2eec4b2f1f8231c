# SPDX-License-Identifier: Apache-2.0
"""Whether a counter that starts again at 0 may have done so unseen."""

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Array, Edges, Floats, Omitted
from powersample.analysis.sweep import CONTEXT_NS
from powersample.model import duration


class Turns:
    """The longest hole between polls that touches each window, and how long the counter takes from 0 to 0 there.

    A hole of half a turn is where the sampler draws the line, too: it refuses a rate at which the highest plausible
    power makes more than half a turn between two polls (`min_hz` of csrc/core/source.h). What remains are late polls
    and holes, judged here by the power that was seen.

    The rate is that of the polls without a hole up to 30 s around the window, or, where there are none, of all
    that were taken.

    Args:
        edges: of the windows.
        gap_ns: spacing of polls from which it is a hole.
        modulus: raw values wrap to 0 here.
    """

    def __init__(self, edges: Edges, gap_ns: float, modulus: int) -> None:
        self._edges, self._gap_ns, self._modulus = edges, gap_ns, modulus
        self._around = edges + np.array([[-CONTEXT_NS], [CONTEXT_NS]], np.int64)
        self._longest_ns = np.zeros(edges.shape[1], np.int64)
        self._known = {key: np.zeros(edges.shape) for key in ("ns", "raw")}  # up to each edge of `around`
        self._total = {key: 0.0 for key in self._known}
        self._last: tuple[NDArray[np.int64], Array] | None = None

    def add(self, t_ns: NDArray[np.int64], raw: Array, omitted: Omitted) -> None:
        """Take the next good polls."""
        if not len(t_ns):
            return
        if self._last is not None:
            t_ns, raw = np.concatenate((self._last[0], t_ns)), np.concatenate((self._last[1], raw))
        else:
            omitted = omitted[1:]
        self._last = (t_ns[-1:], raw[-1:])
        spacing_ns, step = np.diff(t_ns), np.diff(raw)
        hole = (spacing_ns > self._gap_ns) & (omitted == 0)
        known = ~hole & (step >= 0)
        at = np.searchsorted(t_ns[1:], self._around, "right")
        for key, values in (("ns", spacing_ns), ("raw", step)):
            sums = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0), dtype=np.float64)))
            self._known[key] += sums[at]
            self._total[key] += float(sums[-1])
        for i in np.flatnonzero(hole):
            touched = (self._edges[0] < t_ns[i + 1]) & (self._edges[1] > t_ns[i])
            self._longest_ns[touched] = np.maximum(self._longest_ns[touched], spacing_ns[i])

    def reasons(self) -> list[list[str]]:
        """Return a window each: the reason where a hole is longer than half a turn."""
        reasons: list[list[str]] = [[] for _ in self._longest_ns]
        for i, (longest_ns, turn_ns) in enumerate(zip(self._longest_ns, self.turns_ns(), strict=True)):
            if longest_ns > turn_ns / 2:
                reasons[i].append(
                    f"PSQ-WRAP no reading for {duration(longest_ns / 1e9, 4)}, and the counter starts again every "
                    f"{duration(turn_ns / 1e9, 4)}: whole turns may be missing"
                )
        return reasons

    def turns_ns(self) -> Floats:
        """Return how long a turn takes around every window, inf where the counter tells no rate."""
        ns, raw = (self._known[key][1] - self._known[key][0] for key in ("ns", "raw"))
        lone = (ns <= 0) | (raw <= 0)
        ns, raw = np.where(lone, self._total["ns"], ns), np.where(lone, self._total["raw"], raw)
        turn_ns = np.full(len(ns), np.inf)
        np.divide(self._modulus * ns, raw, out=turn_ns, where=raw > 0)
        return turn_ns
