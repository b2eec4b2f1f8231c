# SPDX-License-Identifier: Apache-2.0
"""`import powersample`: how long, and what it may not bring along."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from bench.figure import Bar, Figure

HEAVY = ("numpy", "pandas", "pyarrow", "matplotlib", "torch")
FORBIDDEN = HEAVY[1:]
TIMED = """
import json, sys, time
begin_ns = time.perf_counter_ns()
import {module}
seconds = (time.perf_counter_ns() - begin_ns) / 1e9
print(json.dumps([seconds, [name for name in {heavy!r} if name in sys.modules]]))
"""


def _fresh(module: str) -> tuple[float, list[str]]:
    code = TIMED.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    seconds, brought = json.loads(done.stdout)
    return seconds, brought


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the package's import, and that of the part that samples."""
    repeats = 5 if quick else 15
    for module, bar in (("powersample", Bar("<=", 0.25)), ("powersample._native.api", None)):
        runs = [_fresh(module) for _ in range(repeats)]
        brought = sorted({name for _, names in runs for name in names})
        yield Figure(
            "imports",
            f"`import {module}`",
            "s",
            bar,
            [seconds for seconds, _ in runs],
            [
                "fresh processes, files cached",
                f"brings along: {', '.join(brought) or 'none'} of {', '.join(HEAVY)}",
            ],
        )
        if bar:
            heavy = [name for name in brought if name in FORBIDDEN]
            yield Figure(
                "imports",
                f"of {', '.join(FORBIDDEN)}, loaded by it",
                "modules",
                Bar("<=", 0),
                [len(heavy)],
                heavy,
            )
