# SPDX-License-Identifier: Apache-2.0
"""Command line of bench/run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from bench import (
    analysis,
    beside,
    blocking,
    eight,
    endurance,
    follow,
    hogs,
    imports,
    instructions,
    live,
    loop,
    machine,
    meters,
    methods,
    page,
    pinned,
    rapl,
    ring,
    serve,
    spawn,
    stress,
    sync,
    table,
    training,
    windows,
)
from bench.figure import Figure

HOURS = 48.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a short check; leaves results.json and README.md alone")
    parser.add_argument(
        "--hours", type=float, default=HOURS, help=f"simulated hours of `endurance` (default {HOURS:g})"
    )
    parser.add_argument("--list", action="store_true", help="name what can be measured, and end")
    parser.add_argument("--table", action="store_true", help="only write README.md's table from results.json, and end")
    return parser


def _merged(
    fresh: dict[str, list[dict[str, Any]]], order: Iterable[str], here: dict[str, Any], now: dict[str, Any]
) -> dict[str, Any]:
    """Return the results to keep: what was measured now, and of earlier runs on this machine the rest.

    Every row names the run that it is of: rows of runs hours apart stand in one table.
    """
    before, order = table.load(), list(order)
    kept: list[dict[str, Any]] = []
    runs = [now]
    if before and machine.same(before["machine"], here):
        kept, runs = before["figures"], [*before["runs"], now]
    elif before and len(fresh) < len(order):
        print("results.json is of another machine: its other figures are dropped", file=sys.stderr)
    rows = []
    for name in order:
        rows += [row | {"run": now["begun"]} for row in fresh.get(name, ())] or [
            row for row in kept if row["key"] == name
        ]
    told = {row["run"] for row in rows}
    return {"machine": here, "runs": [run for run in runs if run["begun"] in told], "figures": rows}


def _show(figure: Figure) -> None:
    row = figure.as_json()
    value = "" if row["median"] is None else f"{row['median']:g} {row['unit']}"
    asked = f" (asked {row['asked']})" if row["asked"] else ""
    print(
        f"{row['verdict']:>12}  {row['key']:12} {row['what']}: {value}{asked}; {'; '.join(row['notes'])}",
        flush=True,
    )


def main() -> int:
    """Return 0 if every figure measured meets what is asked."""
    asked = _parser().parse_args()
    benchmarks: dict[str, Callable[[bool], Iterable[Figure]]] = {
        "instructions": instructions.figures,
        "loop": loop.figures,
        "ring": ring.figures,
        "beside": beside.figures,
        "spawn": spawn.figures,
        "methods": methods.figures,
        "rapl": rapl.figures,
        "hogs": hogs.figures,
        "blocking": blocking.figures,
        "follow": follow.figures,
        "eight": eight.figures,
        "pinned": pinned.figures,
        "endurance": partial(endurance.figures, hours=asked.hours),
        "imports": imports.figures,
        "analysis": analysis.figures,
        "windows": windows.figures,
        "page": page.figures,
        "sync": sync.figures,
        "meters": meters.figures,
        "stress": stress.figures,
        "serve": serve.figures,
        "top": live.figures,
        "training": training.figures,
    }
    if asked.list:
        print("\n".join(benchmarks))
        return 0
    if asked.table:
        results = table.load()
        if results is None:
            print("there is no results.json yet", file=sys.stderr)
            return 1
        table.update_readme(results)
        return 0
    if unknown := [name for name in asked.names if name not in benchmarks]:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(benchmarks)}", file=sys.stderr)
        return 2

    here, now, begin_s = machine.hardware(), machine.conditions(), time.monotonic()
    fresh: dict[str, list[dict[str, Any]]] = {}
    for name in asked.names or benchmarks:
        fresh[name] = []
        for figure in benchmarks[name](asked.quick):
            _show(figure)
            fresh[name].append(figure.as_json())
    print(f"{time.monotonic() - begin_s:.0f} s", file=sys.stderr)
    if not asked.quick:
        table.save(_merged(fresh, benchmarks, here, now))
    return int(any(row["verdict"] == "missed" for rows in fresh.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
