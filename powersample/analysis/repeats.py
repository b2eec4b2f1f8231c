# SPDX-License-Identifier: Apache-2.0
"""Which windows are repeats of the same work, and how regularly windows and marks follow each other.

Windows whose names differ in a number at their end ("epoch 0", "epoch 1"), or not at all, are taken for the same work,
as are those that a user names together. They are looked at in lots of 32 in the order of time, the same whichever of
them is asked for.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from powersample.analysis.interval import limit
from powersample.model import Trace, Window
from powersample.model.energy import OPEN

NUMBER = re.compile(r"[\s_#.:/-]*\d+$")
LOT = 32
BLOCK = 5  # spacings whose mean is the load's period for a while
Lots = Mapping[Window, tuple[Window, ...]]


@dataclass(frozen=True, slots=True)
class LoadPeriod:
    """How long a load takes from one repetition of itself to the next.

    Attributes:
        low_s: the shortest, means over some repetitions.
        high_s: the longest.
        origin: where it comes from, in words.
    """

    low_s: float
    high_s: float
    origin: str


def stem(name: str) -> str:
    """Return a name without the number at its end."""
    return NUMBER.sub("", name)


def lots(trace: Trace, windows: Sequence[Window], named: Iterable[Sequence[Window]] = ()) -> Lots:
    """Return the repeats of every window that has some, itself among them, in the order of time.

    Args:
        trace: whose windows count as well.
        windows: that are asked for.
        named: windows that a user says are the same work.
    """
    groups: dict[str | int, dict[Window, None]] = {}
    for window in (*trace.windows, *windows):
        if window.end_ns > window.start_ns and OPEN not in window.flags:
            groups.setdefault(stem(window.name), {})[window] = None
    found: dict[Window, tuple[Window, ...]] = {}
    for some in (*groups.values(), *named):
        order = sorted(some, key=lambda one: (one.start_ns, one.end_ns))
        starts = list(range(0, max(1, len(order) - LOT // 2), LOT))  # a short rest goes with the lot before it
        for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
            lot = tuple(order[begin:end])
            if len(lot) > 1:
                found.update(dict.fromkeys(lot, lot))
    return found


class Marked:
    """The begins of windows and the marks of a trace, by their names without numbers."""

    def __init__(self, trace: Trace) -> None:
        found: dict[tuple[str, str], list[int]] = {}
        for window in trace.windows:
            found.setdefault((stem(window.name), "windows"), []).append(window.start_ns)
        for event in trace.meta.get("events") or ():
            found.setdefault((stem(str(event["name"])), "marks"), []).append(int(event["t_ns"]))
        least = limit("least_marks")
        self._begins = {key: sorted(set(t_ns)) for key, t_ns in found.items() if len(t_ns) >= least}

    def period(self, window: Window) -> LoadPeriod | None:
        """Return the load's period in a window by what is marked there most closely; None without a regular one.

        Marks are regular where nine in ten of their spacings are within a fifth of the middle one, and they go on from
        one end of the window to the other. Of several the shortest period is told: a longer one repeats with it.
        """
        found = [one for key, begins in self._begins.items() if (one := _regular(begins, window, *key)) is not None]
        return min(found, key=lambda one: one.high_s, default=None)


def _regular(begins_ns: Sequence[int], window: Window, name: str, what: str) -> LoadPeriod | None:
    inside = begins_ns[bisect_left(begins_ns, window.start_ns) : bisect_left(begins_ns, window.end_ns)]
    if len(inside) < limit("least_marks"):
        return None
    spacing_s = np.diff(inside) / 1e9
    middle_s = float(np.median(spacing_s))
    even = np.abs(spacing_s - middle_s) <= limit("regular") * middle_s
    ends_s = max(inside[0] - window.start_ns, window.end_ns - inside[-1]) / 1e9
    if even.mean() < limit("mostly") or ends_s > 2 * middle_s:
        return None
    means_s = np.convolve(np.where(even, spacing_s, middle_s), np.full(BLOCK, 1 / BLOCK), "valid")
    origin = f"the spacing of {len(inside)} {what} {name!r}" if name else f"the spacing of {len(inside)} {what}"
    return LoadPeriod(float(means_s.min()), float(means_s.max()), origin)
