# SPDX-License-Identifier: Apache-2.0
"""A recording with a load and a profile with its kernel, and how a timeline of Chrome's is read."""

import json

import numpy as np
from traces import MS, S, channel, polls, series

from powersample.export import chrome_chunks, select
from powersample.formats import torch_trace
from powersample.model import Anchor, Kind, Trace, Window

START_NS = 1_750_000_000 * S  # of the time of day at CLOCK_MONOTONIC 0
SLEPT_NS = 3600 * S
BOOT, REAL, MONO, BESIDE = 6, 1, 3, 9


def anchor(at_ns, slept_ns=0, set_ns=0):
    return Anchor(at_ns, at_ns, START_NS + at_ns + slept_ns + set_ns, 5 * S + at_ns + slept_ns, 100)


ANCHORS = [anchor(0), anchor(10 * S)]


def trace(seconds=4, **more):
    """A load of 100 W from 1 s to 3 s, read every 10 ms, with a hole and failures."""
    t_ns = polls(0, seconds, 10)
    watts = np.where((t_ns >= 1 * S) & (t_ns < 3 * S), 100_000, 20_000)
    status = np.where((t_ns > 2 * S) & (t_ns < 2 * S + 200 * MS), 15, 0).astype(np.uint16)
    energy = series(channel("gpu0.energy", Kind.ENERGY), t_ns, t_ns // (100 * MS) * 2000)
    parts = [series(channel(), t_ns, watts, status), energy]
    windows = [
        Window("run", 0, seconds * S),
        Window("epoch", 1 * S, 3 * S),
        Window("overlaps", 2 * S, 3 * S + 500 * MS),
        Window("now", 2 * S, 2 * S),
        Window("left", 3 * S, seconds * S, ("open",), "marks pid 7"),
    ]
    return Trace.of(parts, **{"anchors": ANCHORS, "windows": windows} | more)


BASE_NS = START_NS - 12_345_678_901
TORCH_PIDS = [4711, 4_200_000, "Spans"]  # the second one is ours, were it free


def torch_text(first_s=1.0, last_s=3.0, **more):
    """A profile as torch writes it, whose kernel lasts from first_s to last_s of CLOCK_MONOTONIC 0."""
    ts = (START_NS + round(first_s * S) - BASE_NS) / 1000
    events = [
        {"ph": "X", "cat": "kernel", "name": "gemm", "pid": pid, "tid": 7, "ts": ts, "dur": (last_s - first_s) * 1e6}
        for pid in TORCH_PIDS
    ]
    head = {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": BASE_NS}
    return json.dumps(head | {"traceEvents": events, "traceName": "x.json"} | more, indent=2)


def torch_of(text):
    return text, torch_trace.parse(text, "torch.json")


def chrome(whole, torch=None):
    return json.loads(b"".join(chrome_chunks(select(whole), torch)))


def of(events, **wanted):
    return [one for one in events if all(one.get(key) == value for key, value in wanted.items())]
