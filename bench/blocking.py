# SPDX-License-Identifier: Apache-2.0
"""A 1 kHz lane beside a lane whose call blocks for 20 ms, against one loop that reads both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bench.figure import Bar, Figure, spread

RATE_HZ = 1000.0
BLOCK_NS = 20_000_000
QUICK_NS = 20_000


def _device(name: str, *calls_ns: int) -> Any:
    """Return a device with a call for each duration."""
    from powersample._native import api

    steps = tuple((0, channel, 0, 0, 1, call_ns) for channel, call_ns in enumerate(calls_ns))
    return api.scripted_source(name, api.Script(steps=steps, channels=len(calls_ns)))


def _share(sources: list[Any], seconds: float) -> float:
    """Return the share of slots that the first lane served."""
    from powersample._native import api

    with api.Sampler() as sampler:
        for source in sources:
            sampler.add(source, api.LaneOptions(rate_hz=RATE_HZ))
        sampler.start()
        time.sleep(seconds)
        sampler.stop()
        stats = sampler.stats(0)
    if stats["slots"] != stats["passes"] + stats["skipped"]:
        raise RuntimeError(f"the lane's account does not add up: {stats}")
    return float(stats["passes"] / stats["slots"])


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the share of slots served and what that is of one loop's, in pairs."""
    repeats, seconds = (2, 0.5) if quick else (5, 2.0)
    lanes, loops = [], []
    for _ in range(repeats):
        lanes.append(_share([_device("quick", QUICK_NS), _device("blocking", BLOCK_NS)], seconds))
        loops.append(_share([_device("both", QUICK_NS, BLOCK_NS)], seconds))
    where = f"{repeats} pairs of {seconds:g} s, stand-in: scripted sources of 20 us and 20 ms a call"
    yield Figure(
        "blocking",
        "slots served at 1 kHz beside a lane whose call blocks for 20 ms",
        "share",
        Bar(">=", 0.98),
        lanes,
        [where, f"quartiles {spread(lanes)}"],
    )
    ratios = [lane / loop for lane, loop in zip(lanes, loops, strict=True)]
    yield Figure(
        "blocking",
        "the same over the share of one loop that reads both devices",
        "ratio",
        Bar(">=", 15),
        ratios,
        [where, f"one loop: {spread(loops)} (quartiles)"],
    )
