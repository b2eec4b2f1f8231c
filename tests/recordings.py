# SPDX-License-Identifier: Apache-2.0
"""A recording of 200 W in memory, for the tests of what is told of it."""

import numpy as np

from powersample.model import Channel, Kind, LaneStats, Series, Trace

MS = 1_000_000
S = 1000 * MS
POWER = Channel("gpu0.power.instant", "GPU-0", "gpu", Kind.POWER, "W", 1e-3, lane="nvml:gpu0", sensor="nvml.field.186")
ENERGY = Channel("gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-3, lane="nvml:gpu0", divisor=10)
AUX = Channel("gpu0.temperature", "GPU-0", "gpu", Kind.AUX, "degC", lane="nvml:gpu0", divisor=1000)


def series(channel, t_ns, raw, status=None, seq=None):
    t_ns = np.asarray(t_ns, np.int64)
    status = np.zeros(len(t_ns), np.uint16) if status is None else status
    return Series(channel, t_ns, t_ns, raw, status, np.arange(len(t_ns)) if seq is None else seq)


def recording(seconds=10, simulated=False, windows=(), **meta):
    """200 W: a 100 ms power sensor at 1 kHz that reads 3 % high, a counter at 100 Hz, a thermometer."""
    fast, slow = np.arange(0, seconds * S + 1, MS), np.arange(0, seconds * S + 1, 10 * MS)
    wiggle = (np.arange(len(fast)) // 100) % 2 * 2
    parts = [
        series(POWER, fast, 206_000 - 1 + wiggle),
        series(ENERGY, slow, slow // MS * 200),
        series(AUX, np.arange(0, seconds * S + 1, S), np.full(seconds + 1, 60)),
    ]
    if simulated:
        truth = Channel("truth.gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-9, stamp="instant")
        parts.append(series(truth, [0, seconds * S], np.array([0, seconds * 200]) * 10**9))
        meta |= {"simulated": True, "simulated_node": {"profile": "h100"}}
    lane = LaneStats("nvml:gpu0", rate_hz=1000.0, slots=10_001, passes=9_990, skipped=11, dropped=0, state="done")
    return Trace.of(parts, windows=windows, lanes=[lane], meta=meta)
