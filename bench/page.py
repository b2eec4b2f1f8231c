# SPDX-License-Identifier: Apache-2.0
"""Ten million readings as one page: from the file to the written page, its size, and memory as the record grows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.figure import Bar, Figure, spread

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1200,900")  # fmt: skip
SAMPLES, WINDOWS = 10_000_000, 100
# One process a run: its peak is its own, and the imports are part of what a person waits for.
WRITE = """
import json, re, sys, time
begin_s = time.perf_counter()
from powersample.cli import main
assert main(["report", sys.argv[1], "--html", sys.argv[2], "--force"]) == 0
seconds = time.perf_counter() - begin_s
peak_kb = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])  # ru_maxrss has the parent's, too
print(json.dumps({"s": seconds, "mb": peak_kb / 1024}))
"""


def record(path: Path, samples: int) -> None:
    """Write a trace of a part-time sensor with noise, read at 1 kHz, in one power and one counter channel."""
    from powersample.model import Channel, Kind, Series, Trace, Window
    from powersample.store import save

    dice = np.random.default_rng(1)
    t_ns = np.arange(samples, dtype=np.int64) * 1_000_000 + dice.integers(0, 200_000, samples)
    raw = dice.integers(60_000, 300_000, samples // 100 + 2)[(t_ns + 37_000_000) // 100_000_000]
    status, seq = np.zeros(samples, np.uint16), np.arange(samples, dtype=np.uint32)
    status[dice.integers(0, samples, samples // 10_000)] = 999
    power = Channel("gpu0.power.instant", "GPU-X", "gpu", Kind.POWER, "W", 1e-3, sensor="nvml.field.186")
    board = {"uuid": "GPU-X", "name": "NVIDIA H100 PCIe", "architecture": "hopper", "index": 0}
    windows = [
        Window(
            f"epoch {i}", 1_000_000 * samples * i // WINDOWS + 10**9, 1_000_000 * samples * (i + 1) // WINDOWS - 10**9
        )
        for i in range(WINDOWS)
    ]
    series = Series(power, t_ns, t_ns + 20_000, raw, status, seq)
    save(Trace.of([series], windows=windows, meta={"devices": [board], "driver": "535.247.01"}), path)


def _write(path: Path) -> dict[str, float]:
    page = path.with_suffix(".html")
    done = subprocess.run([sys.executable, "-c", WRITE, path, page], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"kb": page.stat().st_size / 1000}


def _opened_s(path: Path) -> float:
    """Return how long a browser that is there already takes from being asked for the page to its panels drawn."""
    page = path.with_suffix(".html")
    with tempfile.TemporaryDirectory(prefix="powersample-chromium-") as profile:
        command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "data-errors" in shown or 'data-panels="1"' not in shown:
        raise RuntimeError(f"the browser did not draw {page}")
    found = re.search(r'data-drawn-ms="(\d+)"', shown)
    if found is None:
        raise RuntimeError(f"the browser left {page} before it was drawn")
    return int(found[1]) / 1000


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the time, the size and the memory."""
    samples, times = (SAMPLES // 10, 1) if quick else (SAMPLES, 5)
    with tempfile.TemporaryDirectory(prefix="powersample-page-") as name:
        record(Path(name) / "long.parquet", samples)
        record(Path(name) / "short.parquet", samples // 10)
        runs = [_write(Path(name) / "long.parquet") for _ in range(times)]
        opened = [_opened_s(Path(name) / "long.parquet") for _ in range(times)] if CHROMIUM else []
        fewer = [_write(Path(name) / "short.parquet") for _ in range(times)]
    seconds = [one["s"] for one in runs]
    what = f"{samples / 1e6:g} M readings, {WINDOWS} windows: report --html, imports and all"
    yield Figure("page", what, "s", Bar("<=", 10), seconds, [f"quartiles {spread(seconds)}"])
    yield Figure("page", "size of that page", "kB", Bar("<=", 1500), [one["kb"] for one in runs], [])
    skipped = None if CHROMIUM else "no chromium here"
    note = "headless Chromium, from asking for the page until its panels are drawn; its own start apart"
    yield Figure("page", "that page opened", "s", Bar("<=", 3), opened, [note], skipped=skipped)
    growth = [long["mb"] - short["mb"] for long, short in zip(runs, fewer, strict=True)]
    held = f"{runs[0]['mb']:.0f} MB of that process; beside a tenth of the readings"
    yield Figure("page", "memory that ten times the readings add", "MB", Bar("<=", 100), growth, [held])
