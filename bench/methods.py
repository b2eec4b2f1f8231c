# SPDX-License-Identifier: Apache-2.0
"""All of `pytest bench/` as figures, and its JSON where it is committed: bench/methods.json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench.figure import Figure
from bench.machine import ROOT

KEPT = ROOT / "bench" / "methods.json"
KEY = "methods"
IN_PYTHON = (
    "its processes are started and waited for by a thread of this interpreter, which stands in line for it several "
    "times a process: that is what is slow beside pure Python, not nvidia-smi"
)
STATS = ("min", "max", "mean", "stddev", "median", "q1", "q3")
COUNTS = ("rounds", "iterations")


def _run(seconds: float) -> dict[str, Any]:
    output = ROOT / "build" / "bench" / "methods.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "bench",
        "-p",
        "no:cacheprovider",
        f"--sustain-seconds={seconds:g}",
    ]
    command.append(f"--benchmark-json={output}")
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"pytest bench/ failed:\n{done.stdout[-2000:]}")
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is committed of pytest-benchmark's JSON: all that was measured, without what follows from it."""
    benchmarks = [
        {
            "group": one["group"],
            "name": one["name"],
            "stats_s": {name: float(f"{one['stats'][name]:.6g}") for name in STATS}
            | {name: one["stats"][name] for name in COUNTS},
            "extra_info": one["extra_info"],
        }
        for one in found["benchmarks"]
    ]
    return {"datetime": found["datetime"], "machine": found["machine_info"], "benchmarks": benchmarks}


def rows(found: dict[str, Any]) -> Iterator[Figure]:
    """Yield the figures that the table shows of pytest-benchmark's JSON: one reading by each method, and rates held."""
    for one in found["benchmarks"]:
        extra, stats = one["extra_info"], one["stats"]
        if one["group"] == "read-one-sample":
            name = one["name"].removeprefix("test_").replace("_", " ")
            if "ns_a_reading" in extra:
                values, notes = [ns / 1e3 for ns in extra["ns_a_reading"]], ["a pass of the lane, its start left out"]
            else:
                values = [1e6 * seconds for seconds in stats["data"]]
                notes = [f"each a mean of {stats['iterations']}"] if stats["iterations"] > 1 else []
            yield Figure(KEY, f"one reading: {name}", "us", None, values, notes)
    sustained = [one["extra_info"] for one in found["benchmarks"] if one["group"] == "sustained"]
    for method in dict.fromkeys(extra["method"] for extra in sustained):
        for load in ("idle", "python"):
            mine = [extra for extra in sustained if (extra["method"], extra["load"]) == (method, load)]
            if not mine:
                continue
            held = ", ".join(f"{one['share_of_asked']:.3g} of {one['asked_hz']:g} Hz" for one in mine)
            costs = ", ".join(f"{100 * one['cpu_share_of_a_core']:.2g}" for one in mine)
            fastest = max(mine, key=lambda one: one["asked_hz"])
            notes = [
                mine[0]["board"],
                f"readings: {held}",
                f"CPU time {costs} % of a core",
                f"at {fastest['asked_hz']:g} Hz p99 gap {_or(fastest['gap_p99_us'])} us, "
                f"{fastest['value_changes']} changes seen of {fastest['values_published']} values published",
            ]
            if (method, load) == ("nvidia-smi-spawn", "python"):
                notes.append(IN_PYTHON)
            beside = "an idle" if load == "idle" else "a Python-busy"
            what = f"readings a second, asked for {fastest['asked_hz']:g}: {method} beside {beside} main thread"
            yield Figure(KEY, what, "Hz", None, [fastest["rate_hz"]], notes)


def _or(value: float | None) -> str:
    return "no" if value is None else f"{value:.0f}"


def figures(quick: bool) -> Iterator[Figure]:
    """Run `pytest bench/`, keep its JSON unless it is to be quick, and yield what the table shows of it."""
    found = _run(0.3 if quick else 2.0)
    if not quick:
        KEPT.write_text(json.dumps(kept(found), indent=1) + "\n", encoding="utf-8")
    yield from rows(found)
