# SPDX-License-Identifier: Apache-2.0
"""Channels, polls and traces in memory, for tests of what is worked out from them."""

import numpy as np

from powersample.analysis import channel_energy
from powersample.model import Channel, Kind, Response, Series, Trace, Window

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


def shown(model, t_ns, knots_s, watts):
    """What polls of a sensor without lag and delay see of a load that has `watts[i]` from `knots_s[i]` on, in mW."""
    if model is None or model.response is Response.POINT:
        return np.asarray(watts)[np.searchsorted(knots_s, t_ns / S, "right") - 1] * 1000
    grid_s = np.append(knots_s, 1e9)
    joules = np.concatenate(([0.0], np.cumsum(watts * np.diff(grid_s))))
    update_s = np.arange(int(t_ns[0] / S / model.period_s), int(t_ns[-1] / S / model.period_s) + 1) * model.period_s
    ends = np.interp([update_s, update_s - model.window_s], grid_s, joules)
    mw = np.rint((ends[0] - ends[1]) / model.window_s * 1000).astype(np.int64)
    return published(t_ns, mw, round(model.period_s * S), round(update_s[0] * S))


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
