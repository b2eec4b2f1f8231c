# SPDX-License-Identifier: Apache-2.0
"""What published energies of whole runs are worth: units, factors inside, how many samples can stand behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from powersample.model import RunRow, RunTable
from powersample.report.table import number

WIDTH = 98
SCHEMA_VERSION = 1
FEW_SAMPLES = 10  # arXiv 2505.15631: 39 % of epochs had no more
SAME = 0.03
SLIPS = {
    1000.0: "1000 times too large: Wh called kWh, as EA-HAS-Bench's tracer does (mean W x s / 3600 are Wh)",
    1e-3: "1000 times too small: kWh called Wh",
    3600.0: "3600 times too large: J called Wh",
}


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit: `print` shows it, `data` is its JSON object."""

    data: Mapping[str, Any]

    def __str__(self) -> str:
        return "\n".join(_text(self.data))


def audit(table: RunTable) -> Audit:
    """Return what can be said of a table of runs; nothing is invented: None where it is unknown."""
    rows = table.rows
    parts = [math.fsum(row.energies_j.values()) if row.energies_j else None for row in rows]
    factors = [row.total_j / part for row, part in zip(rows, parts, strict=True) if row.total_j and part]
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "simulated": False,
        "tool": table.tool,
        "version": table.version,
        "runs": len(rows),
        "published_j": _sum([row.total_j for row in rows]),
        "measured_j": _sum(parts),
        "factor": _spread(factors),
        "duration_s": _spread([row.duration_s for row in rows if row.duration_s]),
        "samples_per_epoch": _samples(table),
        "power_times_time": {
            domain: _spread(_ratios(rows, domain)) for domain in sorted({one for row in rows for one in row.energies_j})
        },
        "rows": [asdict(row) | {"energies_j": dict(row.energies_j), "power_w": dict(row.power_w)} for row in rows],
        "notes": list(table.notes),
    }
    data["checks"] = list(_checks(table, data))
    return Audit(data)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return math.fsum(known) if known else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def _ratios(rows: Sequence[RunRow], domain: str) -> list[float]:
    """Return energy / (power x duration) of every run that tells all three."""
    return [
        row.energies_j[domain] / (row.power_w[domain] * row.duration_s)
        for row in rows
        if row.duration_s and row.power_w.get(domain) and domain in row.energies_j
    ]


def _samples(table: RunTable) -> dict[str, float] | None:
    """Return how many samples an epoch can hold at most, and the share of runs in which that is few."""
    if table.sample_s is None:
        return None
    most = [row.duration_s / row.epochs / table.sample_s for row in table.rows if row.duration_s and row.epochs]
    found = _spread(most)
    return None if found is None else found | {"few_share": float(np.mean(np.asarray(most) <= FEW_SAMPLES))}


def _checks(table: RunTable, data: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    def check(code: str, level: str, what: str, fix: str) -> dict[str, str]:
        return {"code": code, "level": level, "what": what, "fix": fix}

    factor = data["factor"]
    if factor and factor["max"] - factor["min"] <= SAME * factor["median"] and abs(factor["median"] - 1) > SAME:
        what = f"the published total is {factor['median']:.4g} times the sum of its domains in every run"
        yield check(
            "PSA-PUE", "warning", what, "A constant PUE is inside: divide it out before comparing with a meter."
        )
    elif factor and abs(factor["median"] - 1) > SAME:
        what = f"total and domains differ by a factor between {factor['min']:.3g} and {factor['max']:.3g}"
        yield check("PSA-SUM", "warning", what, "Find out what the total holds beside its domains.")
    for domain, ratio in data["power_times_time"].items():
        if ratio is None:
            continue
        slip = next((text for size, text in SLIPS.items() if abs(ratio["median"] / size - 1) < SAME), None)
        if slip:
            what = f"{domain}: energies are {ratio['median']:.4g} times power x duration"
            yield check("PSA-UNIT", "error", what, f"They are {slip}.")
        elif ratio["max"] > (1 + SAME) * ratio["min"]:
            what = f"{domain}: energy / (power x duration) runs from {ratio['min']:.2g} to {ratio['max']:.2g}"
            yield check("PSA-MEAN", "warning", what, "The power is no mean over the run: do not multiply it by time.")
    samples = data["samples_per_epoch"]
    if samples:
        what = (
            f"an epoch holds {samples['min']:.2g} to {samples['max']:.2g} samples at most (median "
            f"{samples['median']:.2g}); no more than {FEW_SAMPLES} in {100 * samples['few_share']:.0f} % of runs"
        )
        yield check(
            "PSA-SAMPLES", "warning" if samples["few_share"] else "info", what, "Energies per epoch are guesses."
        )
    lacking = sum(row.total_j is None for row in table.rows)
    if lacking:
        yield check("PSA-MISSING", "warning", f"{lacking} runs have no energy", "They are no zeros: leave them out.")
    modes = {row.mode for row in table.rows if row.mode}
    if len(modes) > 1:
        what = f"runs were tracked in different ways: {', '.join(sorted(modes))}"
        yield check("PSA-MODE", "warning", what, "Compare only runs of one mode.")
    pues = {row.pue for row in table.rows if row.pue is not None}
    if pues - {1.0}:
        yield check(
            "PSA-PUE", "warning", f"the tool applies a PUE of {', '.join(map(str, sorted(pues)))}", "Divide it out."
        )


def _text(data: Mapping[str, Any]) -> Iterator[str]:
    version = f" {data['version']}" if data["version"] else ""
    yield f"{data['runs']} runs by {data['tool']}{version}: published figures, no samples"
    yield ""
    for key, what in (("published_j", "published"), ("measured_j", "sum of domains")):
        joules = data[key]
        told = "not told" if joules is None else f"{number(joules)} J ({number(joules / 3.6e6)} kWh)"
        yield f"  {what:<16} {told}"
    if data["duration_s"]:
        lengths = data["duration_s"]
        low, middle, high = (number(lengths[key]) for key in ("min", "median", "max"))
        yield f"  {'a run':<16} {low} to {high} s (median {middle})"
    yield ""
    for check in data["checks"]:
        text = f"{check['level']}: {check['code']} {check['what']}. {check['fix']}"
        yield from wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
    for note in data["notes"]:
        yield from wrap(f"note: {note}", WIDTH, initial_indent="  ", subsequent_indent="    ")
