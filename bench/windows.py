# SPDX-License-Identifier: Apache-2.0
"""Ten thousand windows of a trace, such as a training's steps: their energies, and the report of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.figure import Bar, Figure, spread

if TYPE_CHECKING:
    from powersample.model import Trace

SECONDS, WINDOWS = 1000, 10_000
# A process a run, as a person starts one; the imports and the file's reading are in the reports' figures.
ENERGIES = """
import time
from pathlib import Path
from powersample.analysis import window_energies
from powersample.store import load
trace = load(sys.argv[1])
from powersample.model import Trace
held = Trace.of([trace.series(name) for name in trace.channels], windows=trace.windows, meta=trace.meta)
begun()
found = window_energies(held, held.windows)
done(sum(len(row) for row in found))
"""
REPORT = """
import contextlib, io
begun()
from powersample.cli import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    assert main(["report", *sys.argv[1:]]) == 0
done(len(shown.getvalue()))
"""
TIMED = """
import json, sys, time
def begun():
    global begin
    begin = time.perf_counter(), time.process_time()
def done(size):
    wall_s, cpu_s = time.perf_counter() - begin[0], time.process_time() - begin[1]
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "size": size}), file=sys.__stdout__)
"""


def trace_of(windows: int, apart_ns: int = 0) -> Trace:
    """Return a thousand seconds of an H100's power and counter and of a package's counter at 1 kHz."""
    from powersample.model import Channel, Kind, Series, Trace, Window

    dice, count = np.random.default_rng(1), SECONDS * 1000
    t_ns = np.arange(count, dtype=np.int64) * 1_000_000 + dice.integers(0, 200_000, count)
    power_mw = dice.integers(60_000, 300_000, count // 100 + 2)[(t_ns + 37_000_000) // 100_000_000]
    counter_mj = np.cumsum(power_mw) // 1000
    package_uj = np.cumsum(dice.integers(60_000, 90_000, count))
    channels = (
        ("gpu0.power.instant", "GPU-X", "gpu", Kind.POWER, "W", 1e-3, "nvml.field.186", power_mw),
        ("gpu0.energy", "GPU-X", "gpu", Kind.ENERGY, "J", 1e-3, "nvml.energy", counter_mj),
        ("package-0.energy", "package-0", "package", Kind.ENERGY, "J", 1e-6, "rapl.powercap", package_uj),
    )
    series = [
        Series(
            Channel(name, device, domain, kind, unit, scale, stamp="bracket", sensor=sensor),
            t_ns,
            t_ns + 20_000,
            raw.astype(np.int64),
            np.zeros(count, np.uint16),
            np.arange(count, dtype=np.uint32),
        )
        for name, device, domain, kind, unit, scale, sensor, raw in channels
    ]
    step_ns = (SECONDS - 2) * 1_000_000_000 // windows
    begins_ns = range(10**9, 10**9 + windows * step_ns, step_ns)
    marked = [Window("step", at_ns, at_ns + step_ns - apart_ns, (), "marks pid 7") for at_ns in begins_ns]
    board = {"uuid": "GPU-X", "name": "NVIDIA H100 PCIe", "architecture": "hopper"}
    return Trace.of(series, windows=marked, meta={"devices": [board], "driver": "535.247.01"})


def _runs(code: str, repeats: int, *arguments: str) -> list[dict[str, float]]:
    """Return what processes of that code say of themselves; the first one, which may have to compile, is left out."""
    command = [sys.executable, "-c", TIMED + code, *arguments]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=kept).stdout for _ in range(repeats + 1)
    ]
    return [json.loads(one) for one in found[1:]]


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the CPU time of ten thousand windows' energies, and of their report as text and as JSON."""
    from powersample.store import save

    repeats = 2 if quick else 7
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "steps.parquet")
        save(trace_of(WINDOWS), path)
        for code, options, what, bar in (
            (ENERGIES, (), "energies of 10,000 windows by 3 channels, intervals and verdicts, held in memory", 2.0),
            (REPORT, (), "the same from a file: powersample report, imports and all", 2.0),
            (REPORT, ("--json",), "the same with --json", None),
        ):
            runs = _runs(code, repeats, path, *options)
            cpu_s, wall_s = ([one[key] for one in runs] for key in ("cpu_s", "wall_s"))
            notes = [f"CPU time; a million readings a channel; quartiles {spread(cpu_s)}"]
            notes.append(f"wall {float(np.median(wall_s)):.3g} s (median), min {min(wall_s):.3g}")
            yield Figure("windows", what, "s", None if bar is None else Bar("<=", bar), cpu_s, notes)
