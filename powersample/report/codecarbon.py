# SPDX-License-Identifier: Apache-2.0
"""Corrected CodeCarbon runs as text and JSON: raw, low, high, load, model, beside the meter where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

from powersample.analysis.codecarbon import MEMORY, Asked, Corrected, Uncaptured
from powersample.model import amount
from powersample.report.table import DASH, number, table

KWH_J = 3.6e6
WIDTH = 110
SCHEMA_VERSION = 1
PAPER = (
    "the paper's node (arXiv 2505.15631, VI.D): CodeCarbon off by up to 10.3 %, between bounds of an offline "
    "calibration +8.9 to -3.6 %, with the load known up to 6.6 %"
)


@dataclass(frozen=True, slots=True)
class Wall:
    """What a meter told of a run: joules at the plug, their interval, where from, and what is unsure about them."""

    joules: float | None
    low_j: float | None
    high_j: float | None
    origin: str
    reasons: tuple[str, ...] = ()


def codecarbon_json(
    runs: Sequence[tuple[Corrected, Wall | None]], added: Uncaptured, asked: Asked, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the verb's JSON object; energies in J at the plug without PUE, emissions in kg with it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "simulated": added.simulated is not None,
        "uncaptured": {
            "origin": added.origin,
            "simulated_node": added.simulated,
            "p_idle_w": added.idle_w,
            "p_busy_w": dict(added.busy_w),
            "memory": added.memory,
            "memory_means": MEMORY[added.memory],
            "model": added.model is not None,
        },
        "asked": asdict(asked),
        "rows": [_row_json(one, wall, asked) for one, wall in runs],
        "notes": list(notes),
        "paper": PAPER,
    }


def _row_json(one: Corrected, wall: Wall | None, asked: Asked) -> dict[str, Any]:
    row = one.row
    wall_j = None if wall is None else wall.joules
    middle_j, half_j = _middle(one)
    return {
        "line": row.line,
        "run_id": row.run_id or None,
        "version": row.version or None,
        "duration_s": row.duration_s,
        "tracking_mode": row.mode or None,
        "pue": row.pue,
        "refused": [asdict(remark) for remark in one.refused],
        "remarks": [asdict(remark) for remark in one.remarks],
        "raw_j": one.raw_j,
        "ram_j": row.ram_j / row.pue if row.ram_j is not None and row.pue else None,
        "ram_rule_w": one.rule_w,
        "measured_j": one.measured_j,
        "low_j": one.low_j,
        "high_j": one.high_j,
        "middle_j": middle_j,
        "half_width_j": half_j,
        "load": asked.load,
        "load_j": one.load_j,
        "model_j": one.model_j,
        "model_low_j": one.model_low_j,
        "model_high_j": one.model_high_j,
        "wall": None if wall is None else asdict(wall) | {"reasons": list(wall.reasons)},
        "error_pct": {name: _error_pct(joules, wall_j) for name, joules in _figures(one)},
        "emissions_kg": {
            "published": row.emissions_kg,
            "pue": one.pue,
            **{name: one.emissions_kg(joules) for name, joules in _figures(one) if name != "raw"},
        },
    }


def _figures(one: Corrected) -> tuple[tuple[str, float | None], ...]:
    return (
        ("raw", one.raw_j),
        ("low", one.low_j),
        ("high", one.high_j),
        ("middle", _middle(one)[0]),
        ("load", one.load_j),
        ("model", one.model_j),
    )


def _middle(one: Corrected) -> tuple[float | None, float | None]:
    if one.low_j is None or one.high_j is None:
        return None, None
    return (one.low_j + one.high_j) / 2, (one.high_j - one.low_j) / 2


def _error_pct(joules: float | None, wall_j: float | None) -> float | None:
    return None if joules is None or not wall_j else 100 * (joules / wall_j - 1)


def codecarbon_text(data: Mapping[str, Any]) -> str:
    """Return the page of `codecarbon_json`'s object."""
    return "\n".join(_lines(data))


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    added = data["uncaptured"]
    if data["simulated"]:
        yield f"SIMULATED NODE {added['simulated_node']}, not a measurement"
        yield ""
    loads = ", ".join(f"{number(watts)} W under {name}" for name, watts in added["p_busy_w"].items())
    yield from _wrapped(f"uncaptured power: {number(added['p_idle_w'])} W idle, {loads} ({added['origin']})")
    yield from _wrapped(f"memory: {added['memory']}: {added['memory_means']}")
    refused = sum(bool(row["refused"]) for row in data["rows"])
    yield f"{len(data['rows'])} runs, {len(data['rows']) - refused} corrected, {refused} refused"
    for row in data["rows"]:
        yield ""
        yield from _row_lines(row)
    if any(row["wall"] for row in data["rows"]):
        yield ""
        yield from _wrapped(f"For comparison, {data['paper']}.")
    if data["notes"]:
        yield ""
    for note in data["notes"]:
        yield from _wrapped(f"note: {note}")


def _row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    name = f"run {row['run_id']}" if row["run_id"] else "a run without an id"
    told = [f"line {row['line']}: {name}", f"{number(row['duration_s'])} s", f"CodeCarbon {row['version'] or DASH}"]
    told += [
        f"{row['tracking_mode'] or 'unknown'} mode",
        f"PUE {DASH if row['pue'] is None else format(row['pue'], 'g')}",
    ]
    yield ", ".join(told)
    if row["refused"]:
        for remark in row["refused"]:
            yield from _wrapped(f"refused: {remark['code']} {remark['what']}. {remark['fix']}", "  ")
        return
    yield from table(("", "kWh", "mean W", "to the meter %", "kg CO2eq", ""), list(_cells(row)), "lrrrrl", indent=2)
    for remark in row["remarks"]:
        yield from _wrapped(f"note: {remark['code']} {remark['what']}. {remark['fix']}", "  ")
    if row["wall"]:
        for reason in row["wall"]["reasons"]:
            yield from _wrapped(f"meter: {reason}", "  ")


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    seconds = row["duration_s"]

    def line(name: str, joules: float | None, key: str | None, about: str) -> tuple[str, ...]:
        watts = None if joules is None else joules / seconds
        error = row["error_pct"].get(key) if key else None
        emissions = row["emissions_kg"]["published" if key == "raw" else key] if key else None
        return (
            name,
            _kwh(joules),
            number(watts),
            DASH if error is None else f"{error:+.2f}",
            number(emissions),
            about,
        )

    ram_w = None if row["ram_j"] is None else row["ram_j"] / seconds
    rule = "" if row["ram_rule_w"] is None else f"; its version's rule: {number(row['ram_rule_w'])} W"
    yield line("CodeCarbon", row["raw_j"], "raw", f"PUE undone; {number(ram_w)} W of it for memory, a constant{rule}")
    yield line("measured", row["measured_j"], None, "CPU and GPU")
    yield line("low", row["low_j"], "low", "with the least uncaptured power")
    yield line("high", row["high_j"], "high", "with the most")
    middle = f"+- {_kwh(row['half_width_j'])} kWh ({amount(100 * row['half_width_j'] / row['middle_j'], 2)} %)"
    yield line("middle", row["middle_j"], "middle", middle)
    if row["load_j"] is not None:
        yield line("load known", row["load_j"], "load", f"as under {row['load']}")
    if row["model_j"] is not None:
        ends = row["model_low_j"], row["model_high_j"]
        between = "" if None in ends else f"95 %: {' to '.join(map(_kwh, ends))} kWh; "
        yield line("model", row["model_j"], "model", between + "of mean powers")
    if row["wall"]:
        wall = row["wall"]
        between = "" if wall["low_j"] is None else f"95 %: {_kwh(wall['low_j'])} to {_kwh(wall['high_j'])} kWh; "
        yield line("meter", wall["joules"], None, between + wall["origin"])


def _kwh(joules: float | None) -> str:
    return number(None if joules is None else joules / KWH_J)


def _wrapped(text: str, indent: str = "") -> Iterator[str]:
    yield from wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
