# SPDX-License-Identifier: Apache-2.0
"""Bursts of load that a meter's clock is told by: on this machine's CPUs or GPUs, or on a simulated node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from powersample import loads
from powersample.errors import InvalidArgument
from powersample.loads import EdgeLog, Pattern
from powersample.model import amount

if TYPE_CHECKING:
    from powersample.sim import Node

Load = Callable[[Pattern, Callable[[], bool]], EdgeLog]  # until it is over, or asked to stop

LOOK_S = 0.1
NODE_LEAD_NS = 200_000_000
NODE_REST_S = 0.7  # before a burst, from whatever the node did
LEAST_BURST_S = 10.0


def cpu_load(pattern: Pattern, stop: Callable[[], bool]) -> EdgeLog:
    """Work on all CPUs."""
    return loads.run(pattern, stop=stop)


def gpu_load(pattern: Pattern, stop: Callable[[], bool]) -> EdgeLog:
    """Multiply on all GPUs; raises `NotSupported` without a torch or cupy that sees one."""
    from powersample.loads import gpu

    return gpu.run(pattern, stop=stop)


def node_load(node: Node) -> Load:
    """Return a load that sets a simulated node's GPUs to full power and back, at the very instants of a pattern."""

    def run(pattern: Pattern, stop: Callable[[], bool]) -> EdgeLog:
        idle_w, max_w = (float(node.profile[f"board.{name}_w"]) for name in ("idle", "max"))
        gpus = range(len(node.gpu_uuids))
        steps = [(NODE_REST_S + float(t), max_w if i % 2 == 0 else idle_w) for i, t in enumerate(pattern.edge_s)]
        start_ns = time.monotonic_ns() + NODE_LEAD_NS
        for gpu in gpus:
            node.load_script(gpu, [(0.0, idle_w), *steps], start_ns=start_ns)
        edge_ns = start_ns + np.rint((NODE_REST_S + pattern.edge_s) * 1e9).astype(np.int64)
        while (left_s := (int(edge_ns[-1]) - time.monotonic_ns()) * 1e-9) > 0 and not stop():
            time.sleep(min(LOOK_S, left_s))
        count = len(gpus)
        return EdgeLog(
            f"{pattern.name} on {count} simulated GPU{'s' if count > 1 else ''}",
            np.tile(edge_ns[::2], count),
            np.tile(edge_ns[1::2], count),
            np.repeat(np.arange(count), len(edge_ns) // 2),
            np.zeros(count * len(edge_ns) // 2, np.int64),
        )

    return run


def check_pattern(pattern: Pattern) -> None:
    """Refuse a pattern that no lag can be told by.

    Raises:
        InvalidArgument: it repeats itself, or is too short.
    """
    if pattern.ambiguous:
        raise InvalidArgument(
            f"a {pattern.name} looks the same a period later: no lag can be told by it", "Use --pattern random."
        )
    if pattern.duration_s < LEAST_BURST_S:
        raise InvalidArgument(f"a burst of {amount(pattern.duration_s)} s is too short: {LEAST_BURST_S:g} s or more")
