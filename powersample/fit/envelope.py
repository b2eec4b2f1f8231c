# SPDX-License-Identifier: Apache-2.0
"""A meter's rate from arrival stamps alone: the line under them.

Nothing arrives early. Late arrivals (a USB adapter's timer, the scheduler) pull a line through all of them by
milliseconds; the earliest of each of some blocks lie on the meter's own pace, but for one constant: the least latency,
which pulses tell, once for a model of meter (facts: arrival stamps alone).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument

BLOCKS = 20
LEAST_CYCLES = 3 * BLOCKS
NEIGHBOURS = 20  # values each way, the earliest of which is on time
HOLE = 1.5  # cycles between arrivals, from which one may be missing
TWICE = 0.5  # below which a line may have come twice

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the earliest arrivals say.

    Attributes:
        skew_ppm: by how much the meter's cycles are longer here than it says.
        skew_se_ppm: standard error.
        late_s: float64 (n,), how late each value came after the line.
        spread_s: how the earliest of the blocks scatter about the line.
    """

    skew_ppm: float
    skew_se_ppm: float
    late_s: Floats
    spread_s: float

    def smooth_ns(self, arrival_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the arrivals as they would have been at the least latency."""
        return np.asarray(arrival_ns - np.rint(self.late_s * 1e9).astype(np.int64), np.int64)


def envelope(arrival_ns: NDArray[np.int64], cycle_s: Floats) -> Envelope:
    """Return the line under arrivals over the meter's own time.

    Args:
        arrival_ns: int64 (n,), CLOCK_MONOTONIC, of values that follow one another without a hole.
        cycle_s: float64 (n,), each value's true length as the meter tells it. A nominal length makes a wandering mains
            frequency look like skew, where cycles follow the mains.

    Raises:
        InvalidArgument: fewer than 60 values, or lengths that are none.
    """
    if len(arrival_ns) < LEAST_CYCLES or len(cycle_s) != len(arrival_ns):
        raise InvalidArgument(f"{len(arrival_ns)} arrivals are too few for a line under them: it takes {LEAST_CYCLES}")
    if not (np.asarray(cycle_s) > 0).all():
        raise InvalidArgument("a cycle without length")
    own_s = np.cumsum(cycle_s)
    late = (arrival_ns - arrival_ns[0]) * 1e-9 - own_s
    slope, level = 0.0, 0.0
    for _ in range(3):  # a steep line hides the earliest of a block: once more with it taken off
        left = late - slope * own_s
        blocks = np.array_split(np.arange(len(own_s)), BLOCKS)
        first = np.array([block[np.argmin(left[block])] for block in blocks])
        slope, level = (float(one) for one in np.polyfit(own_s[first], late[first], 1))
    left = late - slope * own_s - level
    scatter = float(np.sqrt(np.sum(left[first] ** 2) / (BLOCKS - 2)))
    se = scatter / float(np.sqrt(np.sum((own_s[first] - own_s[first].mean()) ** 2)))
    return Envelope(slope * 1e6, se * 1e6, left - left.min(), scatter)


def lateness_ns(arrival_ns: NDArray[np.int64], span_ns: Floats) -> Floats:
    """Return how late each arrival was beside the earliest of its neighbours, float64 ns.

    Only a second or so is looked at each way: a mains frequency that wanders by a part in a thousand, where the
    lengths are nominal, makes a millisecond of that. Across a hole, or a line that came twice, nothing is
    compared. A meter of instants, without lengths, has none.

    Args:
        arrival_ns: int64 (n,), CLOCK_MONOTONIC.
        span_ns: float64 (n,), each value's length as far as it is known.
    """
    late = np.zeros(len(arrival_ns))
    if len(arrival_ns) < 3 or not (span_ns > 0).all():
        return late
    for part in np.split(np.arange(len(arrival_ns)), _cuts(arrival_ns, span_ns)):
        left = (arrival_ns[part] - arrival_ns[part[0]]) - np.cumsum(span_ns[part])
        late[part] = left - _least(left, NEIGHBOURS, NEIGHBOURS)
    return late


def _least(x: Floats, before: int, after: int) -> Floats:
    """Return the least of each value and so many before and after it."""
    padded = np.concatenate((np.full(before, np.inf), x, np.full(after, np.inf)))
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, before + after + 1).min(axis=1))


def _cuts(arrival_ns: NDArray[np.int64], span_ns: Floats) -> NDArray[np.int64]:
    """Return before which values the count of cycles jumps: some are missing, or one came twice.

    A pause of the scheduler looks the same at first; but what was held up comes all at once, and then time and count
    agree again.
    """
    spacing = np.diff(arrival_ns).astype(np.float64)
    odd = np.flatnonzero((spacing > HOLE * span_ns[1:]) | (spacing < TWICE * span_ns[1:])) + 1
    left = (arrival_ns - arrival_ns[0]) - np.cumsum(span_ns)
    jump = _least(left, 0, NEIGHBOURS)[odd] - _least(left, NEIGHBOURS, 0)[odd - 1]
    return np.asarray(odd[np.abs(jump) > TWICE * span_ns[odd]], np.int64)
