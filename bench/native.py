# SPDX-License-Identifier: Apache-2.0
"""Builds the C benchmarks with the flags of the package, and reads what they print."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from bench.machine import ROOT

BUILD = ROOT / "build" / "bench"
# As in setup.py: what is measured is what ships.
CFLAGS = ["-std=c11", "-O2", "-fvisibility=hidden", "-ffp-contract=off", "-fno-plt", "-D_GNU_SOURCE", "-pthread"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror"]
INCLUDES = [f"-I{ROOT / 'csrc' / 'include'}", f"-I{ROOT / 'csrc'}"]


def _compile(*arguments: str | Path) -> None:
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, *CFLAGS, *WARNINGS, *INCLUDES, *map(str, arguments)]
    subprocess.run(command, check=True)


@cache
def program(name: str) -> Path:
    """Build bench/c/NAME.c over the core and the physics, and return the executable."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = BUILD / name
    core = [path for room in ("core", "sources", "physics") for path in (ROOT / "csrc" / room).glob("*.c")]
    _compile(ROOT / "bench/c" / f"{name}.c", *sorted(core), "-o", target, "-ldl", "-lm")
    return target


@cache
def stub_library() -> Path:
    """Build the NVML library that answers a constant at once, and return it."""
    folder = BUILD / "stub"  # by this name alone: pynvml takes a path, and so do we
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libnvidia-ml.so.1"
    _compile("-shared", "-fPIC", ROOT / "bench/c/stub_nvml.c", "-o", target)
    return target


def rows(name: str, *arguments: object) -> list[list[float]]:
    """Run a C benchmark and return the numbers it prints, line by line."""
    command = [str(program(name)), *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    return [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
