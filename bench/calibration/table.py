# SPDX-License-Identifier: Apache-2.0
"""The campaign's figures, and README.md's table of them: nobody writes a number there by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import readme
from bench.calibration.deck import LADDERS, METHODS, SPECS, STARTED, UNCOUNTED, Row
from bench.calibration.loads import KINDS, RESTED, STARTS
from bench.coverage.table import Figure

README = Path(__file__).resolve().parent / "README.md"
ON_GPUS = ("one GPU", "some GPUs", "all GPUs", "everything")


def errors(rows: Sequence[Row], method: str) -> np.ndarray:
    """Return |error| of a method, %, of the rows that have one."""
    return np.array([abs(row.error_pct[method]) for row in rows if method in row.error_pct])


def by_node(rows: Sequence[Row], method: str) -> np.ndarray:
    """Return the greatest |error| of every node, %."""
    worst: dict[tuple[str, int], float] = {}
    for row in rows:
        if method in row.error_pct:
            key = (row.spec, row.seed)
            worst[key] = max(worst.get(key, 0.0), abs(row.error_pct[method]))
    return np.array(list(worst.values()))


def held(rows: Sequence[Row]) -> float:
    """Return the share of intervals that hold the truth, %."""
    return 100 * float(np.mean([row.held for row in rows])) if rows else float("nan")


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Return all that was asked of the campaign."""
    started = [row for row in rows if row.ladder == STARTED]
    rows = [row for row in rows if row.start == RESTED]
    counted = [row for row in rows if row.spec not in UNCOUNTED]
    full = [row for row in counted if row.ladder == "full"]
    nodes = len({(row.spec, row.seed) for row in full})
    found = [Figure("nodes whose memory is counted", ">= 50", f"{nodes}, {len(full)} loads", nodes >= 50)]
    for method, limit in (("bounds", 10.0), ("affine", 5.0)):
        worst = float(errors(full, method).max())
        found.append(
            Figure(f"{method}: greatest error of a load's energy", f"<= {limit:g} %", f"{worst:.1f} %", worst <= limit)
        )
    share = 100 * float(np.mean(by_node(full, "node") <= 2.0))
    what = f"{share:.0f} % of nodes, the greatest error of all {errors(full, 'node').max():.1f} %"
    found.append(Figure("node model with GPU levels: nodes at most 2 % off", ">= 95 %", what, share >= 95))
    words = f"{held(started):.1f} % of {len(started)}"
    found.append(
        Figure("intervals that hold the truth, all nodes and starts", "93-99 %", words, 93 <= held(started) <= 99)
    )
    words = f"{held(full):.1f} % of {len(full)}"
    found.append(Figure("of these on a rested node, memory counted", ">= 93 %", words, held(full) >= 93))
    found += _started([row for row in started if row.spec not in UNCOUNTED])
    uncounted = [row for row in rows if row.spec in UNCOUNTED and row.ladder == "full"]
    if uncounted:
        words = (
            f"{held(uncounted):.1f} % of {len(uncounted)}, which are up to {errors(uncounted, 'node').max():.0f} % off"
        )
        found.append(Figure("of these where no counter sees memory", ">= 93 %", words, held(uncounted) >= 93))
    for name in ("short", "CPUs alone"):
        some = [row for row in counted if row.ladder == name]
        words = f"{held(some):.1f} % of {len(some)}"
        found.append(
            Figure(
                f"intervals that hold the truth after the ladder '{name}', memory counted",
                ">= 93 %",
                words,
                held(some) >= 93,
            )
        )
    found += [_warned(counted, on_gpus) for on_gpus in (True, False)]
    return found


def _started(started: Sequence[Row]) -> list[Figure]:
    """Return how loads fare that start while fans are still fast, and the kind of load that is held least often."""
    hot = [row for row in started if row.start != RESTED]
    worst = min(KINDS, key=lambda kind: held([row for row in started if row.kind == kind]))
    least = held([row for row in started if row.kind == worst])
    return [
        Figure(
            "of these right after full power, memory counted",
            ">= 93 %",
            f"{held(hot):.1f} % of {len(hot)}, which the model has up to {errors(hot, 'node').max():.1f} % off",
            held(hot) >= 93,
        ),
        Figure(
            "the kind of load that is held least often, memory counted",
            ">= 90 %",
            f"{least:.1f} %, {worst}",
            least >= 90,
        ),
    ]


def _warned(counted: Sequence[Row], on_gpus: bool) -> Figure:
    some = [row for row in counted if row.ladder == "CPUs alone" and row.kind != "steady"]
    some = [row for row in some if (row.kind in ON_GPUS) == on_gpus]
    share = 100 * float(np.mean([row.beyond for row in some]))
    what = f"calibrated on CPUs alone: loads {'on' if on_gpus else 'off'} GPUs that are said to be outside"
    met = share == 100 if on_gpus else share == 0
    return Figure(what, "100 %" if on_gpus else "0 %", f"{share:.0f} % of {len(some)}", met)


def _cells(rows: Sequence[Row]) -> list[str]:
    cells = [str(len(rows))]
    for method in METHODS:
        off = errors(rows, method)
        cells.append(f"{np.max(off):.1f} / {np.mean(off):.1f}" if len(off) else "")
    half = np.median([row.half_pct for row in rows])
    return [*cells, f"{held(rows):.1f}", f"{half:.1f}"]


def _lines(rows: Sequence[Row], heads: Sequence[str], key: Callable[[Row], tuple[str, ...]]) -> list[str]:
    header = [*heads, "n", *METHODS, "holds %", "half-width %"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name in dict.fromkeys(key(row) for row in rows):
        some = [row for row in rows if key(row) == name]
        lines.append("| " + " | ".join([*name, *_cells(some)]) + " |")
    return lines


def render(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Return everything as Markdown."""
    lines = [
        f"{about['date']}, after commit {about['commit']}; seeds {about['seeds']} of {len(SPECS)} kinds of node; "
        f"{about['seconds']:.0f} s on {about['cpu']}, {about['cores']} cores; Python {about['python']}, numpy "
        f"{about['numpy']}.",
        "",
        "| figure | asked | found | |",
        "|---|---|---|---|",
    ]
    words = {True: "met", False: "**missed**", None: ""}
    lines += [f"| {one.what} | {one.asked} | {one.found} | {words[one.met]} |" for one in figures(rows)]
    lines += ["", "Greatest / mean |error|, %, by node and ladder:", ""]
    places = [list(LADDERS), STARTS, list(SPECS)]
    ordered = sorted(
        rows, key=lambda row: [of.index(one) for of, one in zip(places, (row.ladder, row.start, row.spec), strict=True)]
    )
    lines += _lines(ordered, ("ladder", "start", "node"), lambda row: (row.ladder, row.start, row.spec))
    lines += ["", "By load, where memory is counted:", ""]
    some = [row for row in ordered if row.spec not in UNCOUNTED]
    lines += _lines(some, ("ladder", "start", "load"), lambda row: (row.ladder, row.start, row.kind))
    return "\n".join(lines)


def update_readme(text: str) -> None:
    """Put the text between README.md's markers."""
    readme.update(README, "python -m bench.calibration", text)
