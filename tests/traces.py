# SPDX-License-Identifier: Apache-2.0
"""Channels, polls and traces in memory, for tests of what is worked out from them."""

import numpy as np

from powersample.analysis import channel_energy
from powersample.model import Channel, Kind, Series, Trace, Window

MS = 1_000_000
S = 1000 * MS


def channel(name="gpu0.power.instant", kind=Kind.POWER, device="GPU-0", domain="gpu", **more):
    unit, scale = ("J", 1e-3) if kind is Kind.ENERGY else ("W", 1e-3)
    return Channel(name, device, domain, kind, unit, scale, **more)


def series(chan, t_ns, raw, status=None):
    t_ns = np.asarray(t_ns, np.int64)
    zeros = np.zeros(len(t_ns), np.uint16)
    return Series(chan, t_ns, t_ns, raw, zeros if status is None else status, np.arange(len(t_ns)))


def published(t_ns, values, period_ns, phase_ns=0):
    """What polls at t_ns see of a sensor that publishes values[k] at phase + k * period."""
    k = np.clip((np.asarray(t_ns) - phase_ns) // period_ns, 0, len(values) - 1)
    return np.asarray(values)[k]


def polls(start_s, end_s, step_ms):
    return np.arange(int(start_s * S), int(end_s * S) + 1, int(step_ms * MS), dtype=np.int64)


def one(trace, start_s, end_s):
    (name,) = trace.channels
    return channel_energy(trace, name, Window("w", int(start_s * S), int(end_s * S)))


def node(gpus=1, seconds=10, **more):
    t_ns = polls(0, seconds, 10)
    parts = []
    for gpu in range(gpus):
        watts, device = 100 * (gpu + 1), f"GPU-{gpu}"
        parts.append(series(channel(f"gpu{gpu}.power.instant", device=device), t_ns, np.full(len(t_ns), watts * 1000)))
        mj = t_ns // MS * watts
        parts.append(series(channel(f"gpu{gpu}.energy", Kind.ENERGY, device), t_ns, mj))
    return Trace.of(parts, **more)
