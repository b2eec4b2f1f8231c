# SPDX-License-Identifier: Apache-2.0
"""The lane's loop against bare calls of the same source, in pairs taken by turns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from bench import native
from bench.figure import Bar, Figure, spread

CALL_NS = 20_000


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the relative rate at a 20 us call and the time added at an empty one."""
    pairs = 5 if quick else 41
    bare, lane = np.array(native.rows("loop_rate", CALL_NS, 1_000, pairs)).T
    noise = [abs(one / other - 1) for one, other in pairwise(bare)]
    yield Figure(
        "loop",
        "loop rate over the rate of bare calls, 20 us call",
        "ratio",
        Bar(">=", 0.99),
        list(bare / lane),
        [
            "stand-in: a call that is busy for 20 us by the clock",
            f"quartiles {spread(bare / lane)}",
            f"A/A: neighbouring bare blocks differ by {np.median(noise):.2%} (median)",
        ],
    )
    bare, lane = np.array(native.rows("loop_rate", 0, 100_000, pairs)).T
    yield Figure(
        "loop",
        "time that the loop adds to a call of no duration",
        "ns",
        Bar("<=", 40),
        list(lane - bare),
        [f"quartiles {spread(lane - bare)}", f"bare call {np.median(bare):.1f} ns; one clock read is in it"],
    )
