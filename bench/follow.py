# SPDX-License-Identifier: Apache-2.0
"""How well a lane that follows places its sensor's updates, beside a lane at 1 kHz in the same process.

The sensor publishes each 100 ms, off its timer by a jitter; an update is placed at the middle of the two polls around
it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from bench import load, native
from bench.figure import Bar, Figure

JITTERS_MS = {0: 6.0, 1: 6.0, 4: 10.0}  # and the most polls an update
PRIORITY = 10
LESS_THAN_GRID = -2.0  # points of share: what a busy machine does to a wake-up after a pause


def _pair(jitter_ms: float, seconds: int, fifo: int) -> tuple[list[float], list[float]]:
    """Return the six figures of the following lane, and of the grid."""
    lanes = native.rows("follow_beside_grid", round(jitter_ms * 1000), seconds, fifo)
    return lanes[0], lanes[1]


def _conditions() -> list[tuple[str, bool, int]]:
    """Return the conditions: a name, whether beside busy loops, the priority; SCHED_FIFO where it is allowed."""
    found = [("idle cores", False, 0), ("busy loops on all cores", True, 0)]
    try:
        _pair(0, 1, PRIORITY)
    except subprocess.CalledProcessError:
        return found
    return [*found, ("busy loops on all cores, SCHED_FIFO", True, PRIORITY)]


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the share within 1 ms against the grid's, and the polls an update, for each jitter and condition."""
    repeats, seconds = (1, 3) if quick else (3, 10)
    for condition, busy, fifo in _conditions():
        for jitter_ms, most_polls in JITTERS_MS.items():
            if quick and jitter_ms == 0:
                continue
            ours, theirs = [], []
            for _ in range(repeats):
                with load.hogs() if busy else nullcontext():
                    one, other = _pair(jitter_ms, seconds, fifo)
                ours.append(one)
                theirs.append(other)
            mine, grid = np.array(ours), np.array(theirs)
            shares, of_grid = (100 * lane[:, 1] / lane[:, 0] for lane in (mine, grid))
            sharp, of_grid_sharp = (100 * lane[:, 2].sum() / lane[:, 0].sum() for lane in (mine, grid))
            polls = mine[:, 3] / mine[:, 0]
            where = f"T = 100 ms, jitter +-{jitter_ms} ms, {condition}"
            notes = [
                f"{repeats} runs of {seconds} s, {mine[:, 0].sum():.0f} updates, calls of 20 us",
                f"within 1 ms {np.median(shares):.1f} %, within 0.2 ms {sharp:.0f} %; "
                f"at 1 kHz {np.median(of_grid):.1f} % and {of_grid_sharp:.0f} %",
                f"CPU {100 * np.median(mine[:, 4] / mine[:, 5]):.2f} % of a core, "
                f"at 1 kHz {100 * np.median(grid[:, 4] / grid[:, 5]):.2f} %",
            ]
            what = f"share of updates within 1 ms less that of a 1 kHz lane ({where})"
            yield Figure("follow", what, "points", Bar(">=", LESS_THAN_GRID), list(shares - of_grid), notes)
            yield Figure("follow", f"polls an update ({where})", "polls", Bar("<=", most_polls), list(polls), notes[:1])
