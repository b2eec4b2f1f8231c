# SPDX-License-Identifier: Apache-2.0
"""A node whose wall is a known function of its components' powers: traces of it, and calibrations that know it."""

import time

import numpy as np
from traces import MS, S, channel, polls, series

from powersample.model import Calibration, Channel, Kind, LaneStats, LinearModel, OperatingPoint, Series, Trace, Window

COEFFICIENTS = (400.0, 1.1, 1.05, 1.12, 2e-5)  # 1, cpu, dram, gpu, sum^2
LANES = (LaneStats("rapl", rate_hz=1000.0), LaneStats("nvml", rate_hz=1000.0))
HOST = {"name": "a", "id": "1234", "gpus": ["GPU-0"], "driver": "535.1"}
IDLE = {"cpu": 100.0, "dram": 20.0, "gpu": 60.0}
FULL = {"cpu": 500.0, "dram": 80.0, "gpu": 340.0}
METER = {
    "name": "wall", "kind": "lmg450", "address": "x", "maker": "ZES ZIMMER", "model": "LMG450", "serial": "1",
    "firmware": "", "cycle_s": 0.1, "latency_max_s": 0.0, "simulated": False, "gaps": [], "counts": {}, "gaps_total": 0,
    "accuracy": {"reading_pct": 0.07, "range_pct": 0.0, "range_w": None, "floor_w": 0.0, "origin": ""}, "notes": [],
}  # fmt: skip


def wall_w(cpu, dram, gpu, coefficients=COEFFICIENTS):
    """The wall's power."""
    total = cpu + dram + gpu
    terms = (1.0, cpu, dram, gpu, total * total)
    return sum(c * term for c, term in zip(coefficients, terms, strict=True))


def model(misfit_w=1.0, scale=1e-4, coefficients=COEFFICIENTS):
    """That function as a fitted model."""
    covariance = np.diag((scale * np.array(coefficients)) ** 2)
    return LinearModel(
        "node", ("cpu", "dram", "gpu"), ("1", "cpu", "dram", "gpu", "sum^2"), tuple(coefficients),
        tuple(map(tuple, covariance.tolist())), misfit_w, 30, 0.5, 0.4,
    )  # fmt: skip


def calibration(**more):
    """A calibration that knows the node."""
    points = tuple(
        OperatingPoint(name, kernel, level, powers, dict.fromkeys(powers, 0.1), wall_w(**powers), 0.1, duration_s=30.0)
        for name, kernel, level, powers in (
            ("idle", "idle", 0.0, IDLE),
            ("primes", "primes", 1.0, {**IDLE, "cpu": 500.0}),
            ("all", "mix", 1.0, FULL),
        )
    )
    sums = [sum(IDLE.values()), sum(FULL.values())]
    values = {
        "points": points,
        "groups": ("cpu", "dram", "gpu"),
        "p_idle_w": points[0].uncaptured_w,
        "p_idle_u_w": 0.2,
        "p_busy_w": {"primes": (points[1].uncaptured_w, 0.3), "mix": (points[2].uncaptured_w, 0.3)},
        "affine": None,
        "node": model(),
        "best": "node",
        "hull_w": {**{name: (IDLE[name], FULL[name]) for name in IDLE}, "sum": tuple(sums)},
        "accuracy_w": 1.0,
        "accuracy_pct": 0.1,
        "accepted": True,
        "host": HOST,
        "meter": "ZES ZIMMER LMG450",
        "rates_hz": {"rapl": 1000.0, "nvml": 1000.0},
    }
    return Calibration(**values | more)


def trace(seconds, powers, *, meter=None, windows=(), lanes=LANES, anchors=(), **meta):
    """A recording of counters, whose powers are steps, and of a meter.

    Args:
        seconds: float, shape (n,), how long each step lasts.
        powers: by group, W, shape (n,); "gpu1" is a second GPU, for recordings without a meter.
        meter: None, or a factor of its readings.
        windows: (name, start, end) in s.
        lanes: of it.
        anchors: of it.
        meta: more metadata.
    """
    knots_s = np.concatenate(([0.0], np.cumsum(seconds)))
    t_ns = polls(0, knots_s[-1], 10)
    names = {
        "cpu": ("package-0.energy", "package-0", "package"),
        "dram": ("package-0.dram.energy", "package-0", "dram"),
    }
    names["gpu"] = ("gpu0.energy", "GPU-0", "gpu")
    if "gpu1" in powers:
        names["gpu1"] = ("gpu1.energy", "GPU-1", "gpu")
    parts = []
    for group, (name, device, domain) in names.items():
        joules = np.interp(t_ns / S, knots_s, np.concatenate(([0.0], np.cumsum(np.asarray(powers[group]) * seconds))))
        counter = channel(
            name, Kind.ENERGY, device, domain, lane="nvml" if domain == "gpu" else "rapl", sensor="perf.x"
        )
        parts.append(series(counter, t_ns, np.rint(joules * 1000).astype(np.int64)))
    described = {"host": "a", "host_id": "1234", "driver": "535.1"}
    boards = [device for _, device, domain in names.values() if domain == "gpu"]
    described["devices"] = [{"uuid": board, "name": "X"} for board in boards]
    if meter is not None:
        wall = Channel(
            "wall.power", "wall", "wall", Kind.POWER, "W", 1.0, "float64", "arrival", "sample", sensor="lmg450"
        )
        ends_ns = np.arange(100 * MS, round(knots_s[-1] * S) + 1, 100 * MS)
        watts = meter * wall_w(**{group: np.asarray(each, float) for group, each in powers.items()})
        at_j = np.interp(np.append(0, ends_ns) / S, knots_s, np.concatenate(([0.0], np.cumsum(watts * seconds))))
        many = len(ends_ns)
        spans = np.full(many, 100 * MS)
        parts.append(Series(wall, ends_ns, ends_ns, np.diff(at_j) / 0.1, np.zeros(many), np.arange(many), spans))
        described["meters"] = [{**METER, "channels": [wall.as_json()]}]
    marked = [Window(name, round(start * S), round(end * S)) for name, start, end in windows]
    return Trace.of(parts, windows=marked, lanes=lanes, anchors=anchors, meta=described | meta)


def ladder(node, settle_s=400, dwell_s=30):
    """Operating points of a simulated node, by its physics: each rung as it is once it has settled, without waiting.

    The node has this load ahead of it then: measure another one of the same seeds.
    """
    rungs = [("idle", "idle", 0.0, 0.0, 0.0, 0.0)]
    rungs += [(f"primes {level}", "primes", level, level, 0.1 * level, 0.0) for level in (0.25, 0.5, 0.75, 1.0)]
    rungs += [(f"stream {level}", "stream", level, 0.5 * level, level, 0.0) for level in (0.5, 1.0)]
    rungs += [(f"gpu {level}", "gpu", level, 0.1, 0.05, level) for level in (0.2, 0.4, 0.6, 0.8, 1.0)]
    ranges = {name: (idle_mw / 1e3, full_mw / 1e3) for name, (idle_mw, full_mw) in node._ranges_mw().items()}
    start_ns = time.monotonic_ns() + 2 * S
    groups = {"cpu": [], "dram": [], "gpu": []}
    for name, (idle_w, full_w) in ranges.items():
        which = {"package": 3, "gpu": 5}.get(name.rstrip("0123456789-"), 4 if name.endswith(".dram") else None)
        if which is None:
            continue
        groups[{3: "cpu", 4: "dram", 5: "gpu"}[which]].append(name)
        steps = [(i * settle_s, idle_w + rung[which] * (full_w - idle_w)) for i, rung in enumerate(rungs)]
        node.load_script(name, steps, start_ns=start_ns)
    points = []
    for i, (name, kernel, level, *_) in enumerate(rungs):
        end_ns = start_ns + (i + 1) * settle_s * S
        span = (end_ns - dwell_s * S, end_ns)
        powers = {group: sum(node.truth_j(name, *span) for name in names) / dwell_s for group, names in groups.items()}
        wall = node.truth_j("wall", *span) / dwell_s
        u_w = dict.fromkeys(powers, 0.01)
        points.append(
            OperatingPoint(name, kernel, level, powers, u_w, wall, 0.02, accuracy_w=0.001 * wall, duration_s=dwell_s)
        )
    return points
