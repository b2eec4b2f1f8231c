# SPDX-License-Identifier: Apache-2.0
"""Writes the table of README.md from results.json: nobody writes a number there by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import readme

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _row(figure: dict[str, Any], run: str) -> str:
    unit = figure["unit"]
    cells = [
        f"`{figure['key']}`",
        figure["what"],
        f"{figure['asked']} {unit}" if figure["asked"] else "",
        f"**{_number(figure['median'])}** {unit}" if figure["median"] is not None else "",
        _number(figure["min"]),
        str(figure["count"] or ""),
        figure["verdict"],
        run,
        "; ".join(figure["notes"]),
    ]
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _run(run: dict[str, Any], letter: str) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    begun = run["begun"].replace("T", " ").removesuffix("Z") + " UTC"
    load = run["load_average_before"]
    cells = [
        letter,
        begun,
        run["commit"] or "not kept",
        "not kept" if load is None else str(load),
        f"Python {run['python']}, {run['compiler']}, {run['valgrind'] or 'no valgrind'}, {packages}",
    ]
    return _line(cells)


def render(results: dict[str, Any]) -> str:
    """Return machine, runs and table as Markdown; every row names its run by a letter."""
    machine, runs = results["machine"], results["runs"]
    kind = "virtual machine" if machine["virtual"] else "machine"
    letters = {run["begun"]: chr(ord("a") + place) for place, run in enumerate(runs)}
    lines = [
        f"{machine['cpu']}, {kind} with {machine['cores']} cores, Linux {machine['kernel']}, clock source "
        f"{machine['clocksource']}. A run is one call of `bench/run`; rows of different runs are of different hours, "
        "loads and commits.",
        "",
        "| run | begun | commit | load average before | with |",
        "|---|---|---|---|---|",
        *(_run(run, letters[run["begun"]]) for run in runs),
        "",
        "| command | figure | asked | median | min | n | verdict | run | notes |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(figure, letters[figure["run"]]) for figure in results["figures"]),
    ]
    return "\n".join(lines)


def update_readme(results: dict[str, Any]) -> None:
    """Put the table between README.md's markers."""
    readme.update(README, "bench/run", render(results))


def save(results: dict[str, Any]) -> None:
    """Write results.json and the table that follows from it."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    update_readme(results)


def load() -> dict[str, Any] | None:
    """Return the committed results, or None."""
    if not RESULTS.exists():
        return None
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results
