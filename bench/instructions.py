# SPDX-License-Identifier: Apache-2.0
"""User instructions of one NVML sample, by the slope between two counts under callgrind: exact, whatever the load."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from bench import native
from bench.figure import Bar, Figure

WHAT_NATIVE = "user instructions per NVML sample, shipped tight lane and nvml source"
WHAT_RATIO = "instructions of a nvidia-ml-py read over those of a native sample"

# The least that a Python sampler does: one read, one timestamp, both kept.
PYNVML_LOOP = """
import ctypes, sys, time
import pynvml
pynvml.nvmlLib = ctypes.CDLL(sys.argv[1])
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
read, now_ns, samples = pynvml.nvmlDeviceGetPowerUsage, time.monotonic_ns, []
for _ in range(int(sys.argv[2])):
    samples.append((now_ns(), read(handle)))
"""


def _count(command: list[str]) -> int:
    output = native.BUILD / "callgrind.out"
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", *command],
        check=True,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if not found:
        raise RuntimeError(f"callgrind told no count: {done.stderr[-500:]}")
    return int(found[1])


def _slope(command: list[str], counts: tuple[int, int]) -> float:
    few, many = counts
    return (_count([*command, str(many)]) - _count([*command, str(few)])) / (many - few)


def _clock_note() -> str:
    try:
        steps = native.rows("clock_steps")[0][0]
    except (subprocess.CalledProcessError, IndexError):
        return "valgrind hides the vDSO: a clock read counts as the instructions around a system call"
    return (
        "valgrind hides the vDSO, so the one clock read counts as the few instructions around a system call; "
        f"single-stepped with the vDSO it is {steps:.0f}"
    )


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the native count and the ratio to nvidia-ml-py."""
    native_bar, ratio_bar = Bar("<=", 150), Bar(">=", 60)
    if shutil.which("valgrind") is None:
        reason = "valgrind is not installed"
        yield Figure("instructions", WHAT_NATIVE, "instructions", native_bar, skipped=reason)
        yield Figure("instructions", WHAT_RATIO, "ratio", ratio_bar, skipped=reason)
        return
    library = str(native.stub_library())
    ours = _slope([str(native.program("sample_loop")), library], (20_000, 120_000))
    notes = [
        "stand-in: a stub library that answers a constant, one channel",
        "kernel not counted",
        _clock_note(),
    ]
    yield Figure("instructions", WHAT_NATIVE, "instructions", native_bar, [ours], notes)
    counts = (1_000, 3_000) if quick else (2_000, 12_000)
    theirs = _slope([sys.executable, "-c", PYNVML_LOOP, library], counts)
    yield Figure(
        "instructions",
        WHAT_RATIO,
        "ratio",
        ratio_bar,
        [theirs / ours],
        [f"nvidia-ml-py: {theirs:.0f} instructions for read, time.monotonic_ns and append, same stub"],
    )
