# SPDX-License-Identifier: Apache-2.0
"""Why faster polling cannot repair a sensor that looks 25 ms in every 100: a load of the sensor's own period.

Whatever the rate, the polls see the same values, each the mean of the same quarter of the load; what the other three
quarters drew is in none of them. Only another phase of the load, or another period, would show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from powersample.sim import Node

LOW_W, HIGH_W, SHARE = 60.0, 400.0, 0.5
PHASES, SETTLE_S, SPAN_S = 20, 0.5, 3.0
RATES_HZ = (10.0, 100.0, 1000.0, 10_000.0)

Shown = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def aliasing(
    node: Node, period_ns: int, shows: Sequence[Shown], rates_hz: Sequence[float] = RATES_HZ
) -> list[list[tuple[float, float]]]:
    """Return the least and the greatest error of the energy in %, over all phases: of each sensor at each rate.

    Args:
        node: A node without a load; its GPU 0 gets the load in the future, where all is worked out.
        period_ns: The load's period, ns: half of it at 400 W, half at 60 W.
        shows: What each sensor shows at instants, in W.
        rates_hz: Polls a second; the energy is their trapezoid.
    """
    node.load_script(0, [(0.0, LOW_W)])
    begin_ns = (time.monotonic_ns() // period_ns + 2) * period_ns
    error_pct = np.empty((len(shows), len(rates_hz), PHASES))
    for phase in range(PHASES):
        start_ns = begin_ns + round(phase * ((2 * SETTLE_S + SPAN_S) * 1e9 // period_ns + 1 / PHASES) * period_ns)
        node.load_wave(0, HIGH_W, LOW_W, period_s=period_ns / 1e9, duty=SHARE, start_ns=start_ns)
        from_ns = start_ns + round(SETTLE_S * 1e9)
        for which, rate_hz in np.ndindex(len(shows), len(rates_hz)):
            t_ns = np.arange(from_ns, from_ns + SPAN_S * 1e9, 1e9 / rates_hz[rate_hz]).astype(np.int64)
            told_j = float(np.trapezoid(shows[which](t_ns), t_ns)) / 1e9
            truth_j = node.truth_j(0, int(t_ns[0]), int(t_ns[-1]))
            error_pct[which, rate_hz, phase] = 100 * (told_j / truth_j - 1)
    return [[(float(each.min()), float(each.max())) for each in sensor] for sensor in error_pct]


def ideal(node: Node, period_ns: int, window_ns: int) -> Shown:
    """Return a sensor without lag, delay and jitter: at every multiple of T the mean of the last W."""

    def shown(t_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        updates_ns, which = np.unique(t_ns // period_ns * period_ns, return_inverse=True)
        means_w = [node.truth_j(0, at_ns - window_ns, at_ns) * 1e9 / window_ns for at_ns in updates_ns.tolist()]
        return np.asarray(np.array(means_w)[which], np.float64)

    return shown
