# SPDX-License-Identifier: Apache-2.0
"""A scrape of `powersample serve`: sixteen GPUs with slow calls and two CPU packages, energies kept for a restart."""

from __future__ import annotations

import contextlib
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Bar, Figure, spread

NODE = "h100x16+intel_sprx2"
CALL_S = 400e-6
ACCEPT = "application/openmetrics-text; version=1.0.0"


def figures(quick: bool) -> Iterator[Figure]:
    """Yield how long a scrape takes, and how much memory many of them leave behind."""
    from powersample.capture import Plan
    from powersample.export import openmetrics
    from powersample.session.live import Watch
    from powersample.session.simulate import make_node, simulated_plan
    from powersample.sim import Latency
    from powersample.store.accounts import AccountFile

    repeats = 10 if quick else 200
    took_ms: list[float] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(make_node(NODE))
        node.set_latency("any", Latency.fixed(CALL_S))
        account = stack.enter_context(contextlib.closing(AccountFile(folder / "account.json", NODE)))
        plan = simulated_plan(Plan(rate_hz=10.0), node)
        watch = stack.enter_context(Watch(plan, node=node, simulated=NODE, account=account))
        watch.start()
        time.sleep(3.0)
        registry = openmetrics.registry(watch.state)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(repeats):
            begun_s = time.perf_counter()
            body, _ = openmetrics.exposition(registry, ACCEPT)
            took_ms.append((time.perf_counter() - begun_s) * 1e3)
            time.sleep(0.02)
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    where = f"{repeats} scrapes of {len(body) / 1e3:.0f} kB, stand-in: {NODE}, NVML calls of {CALL_S * 1e6:.0f} us"
    yield Figure("serve", "a scrape of 16 GPUs", "ms", Bar("<=", 20), took_ms, [where, f"quartiles {spread(took_ms)}"])
    yield Figure("serve", "memory that these scrapes leave behind", "MB", Bar("<=", 5), [grown_mb], [where])
