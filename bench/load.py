# SPDX-License-Identifier: Apache-2.0
"""Other programs that want the CPUs, for as long as a measurement lasts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOG = "while True: pass"


def cores() -> list[int]:
    """Return the CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def hogs(count: int | None = None) -> Iterator[int]:
    """Keep every CPU, or the first `count`, busy by a process of its own; yield how many there are."""
    mine = cores()[:count]
    running = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", f"import os; os.sched_setaffinity(0, [{core}])\n{HOG}"],
            stdin=subprocess.DEVNULL,
        )
        for core in mine
    ]
    try:
        yield len(mine)
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
