# SPDX-License-Identifier: Apache-2.0
"""What published energies of whole runs are worth: units, factors inside, how many samples can stand behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.agreement_table import agreement_rows, spans_of
from powersample.analysis.dip import dip_test
from powersample.analysis.signatures import offset, usage
from powersample.model import RunRow, RunTable, amount
from powersample.report import signatures
from powersample.report.table import number

WIDTH = 98
SCHEMA_VERSION = 1
FEW_SAMPLES = 10  # arXiv 2505.15631: 39 % of epochs had no more
SAME = 0.03
LEAST_RUNS = 2  # fewer have no range
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


def audit(
    table: RunTable,
    *,
    idle_w: float | None = None,
    limit_w: float | None = None,
    reference: RunTable | None = None,
) -> Audit:
    """Return what can be said of a table of runs; nothing is invented: None where it is unknown.

    Args:
        table: the runs.
        idle_w: what the GPU draws at rest.
        limit_w: its power limit; None: the greatest that the table tells.
        reference: the same runs, by name, as a meter saw them.
    """
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
    data |= {"usage": None, "bimodal": None, "agreement": [], "offset": None, "captured": None}
    data["checks"] += _range(table, data, idle_w, limit_w)
    if reference is not None:
        data["checks"] += _against(table, reference, data)
    return Audit(data)


def gpu_watts(table: RunTable) -> NDArray[np.float64]:
    """Return each run's mean GPU power: its energy over its length, PUE undone; else the power that the tool tells.

    NaN where it tells neither.
    """
    return np.array([_gpu_w(row) for row in table.rows], np.float64)


def _gpu_w(row: RunRow) -> float | None:
    joules = row.energies_j.get("gpu")
    if joules is not None and row.duration_s:
        return joules / row.duration_s / (row.pue or 1.0)
    return row.power_w.get("gpu")


def _range(
    table: RunTable, data: dict[str, Any], idle_w: float | None, limit_w: float | None
) -> Iterator[dict[str, Any]]:
    watts = gpu_watts(table)
    limits = np.array([row.limit_w for row in table.rows], np.float64)
    if limit_w is None and np.isfinite(limits).any():
        limit_w = float(np.nanmax(limits))
    found = usage(watts, idle_w=idle_w, limit_w=limit_w)
    if found is None or found.n < LEAST_RUNS:
        return
    data["usage"] = asdict(found) | {"span_w": found.span_w, "share": found.share}
    yield signatures.range_check("GPU", "runs", found)
    over = signatures.limit_check("GPU", watts, limits)
    if over is not None:
        yield over
    yield signatures.floor_check("GPU", "runs", found)
    dip = dip_test(watts)
    if dip is not None:
        data["bimodal"] = asdict(dip)
        yield signatures.bimodal_check("GPU", "runs' mean powers", dip, None)


def _against(table: RunTable, reference: RunTable, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield how the parts of every run agree with a reference's totals, PUE undone."""
    parts = {row.name: math.fsum(row.energies_j.values()) / (row.pue or 1.0) for row in table.rows if row.energies_j}
    theirs = {row.name: row for row in reference.rows if row.total_j is not None and row.duration_s}
    names = [name for name in parts if name in theirs]
    if not names:
        data["notes"].append("no run of the reference bears the name of one here")
        return
    seconds = np.array([theirs[name].duration_s for name in names], np.float64)
    wall_j = np.array([theirs[name].total_j for name in names], np.float64)
    mine_j = np.array([parts[name] for name in names])
    rows = agreement_rows([spans_of("run", seconds, wall_j, {table.tool: mine_j})])
    data["agreement"] = [row.as_json() for row in rows]
    yield from (signatures.agreement_check(row, "the reference") for row in rows if row.pearson is not None)
    found = offset(mine_j / seconds, wall_j / seconds)
    if found is not None:
        data["offset"] = asdict(found)
        yield signatures.offset_check(table.tool, found, "W", "the reference")
    data["captured"] = {"parts_j": float(mine_j.sum()), "wall_j": float(wall_j.sum())}
    yield signatures.captured_check(float(mine_j.sum()), float(wall_j.sum()), "the reference", float(seconds.sum()))


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
        what = f"the published total is {amount(factor['median'], 4)} times the sum of its domains in every run"
        yield check(
            "PSA-PUE", "warning", what, "A constant PUE is inside: divide it out before comparing with a meter."
        )
    elif factor and abs(factor["median"] - 1) > SAME:
        what = f"total and domains differ by a factor between {amount(factor['min'])} and {amount(factor['max'])}"
        yield check("PSA-SUM", "warning", what, "Find out what the total holds beside its domains.")
    for domain, ratio in data["power_times_time"].items():
        if ratio is None:
            continue
        slip = next((text for size, text in SLIPS.items() if abs(ratio["median"] / size - 1) < SAME), None)
        if slip:
            what = f"{domain}: energies are {amount(ratio['median'], 4)} times power x duration"
            yield check("PSA-UNIT", "error", what, f"They are {slip}.")
        elif ratio["max"] > (1 + SAME) * ratio["min"]:
            ends = f"{amount(ratio['min'], 2)} to {amount(ratio['max'], 2)}"
            what = f"{domain}: energy / (power x duration) runs from {ends}"
            yield check("PSA-MEAN", "warning", what, "The power is no mean over the run: do not multiply it by time.")
    samples = data["samples_per_epoch"]
    if samples:
        what = (
            f"an epoch holds {amount(samples['min'], 2)} to {amount(samples['max'], 2)} samples at most (median "
            f"{amount(samples['median'], 2)}); no more than {FEW_SAMPLES} in {100 * samples['few_share']:.0f} % of runs"
        )
        level = "warning" if samples["few_share"] else "info"
        yield signatures.signature("PSA-SAMPLES", level, what, "Energies per epoch are guesses.", signatures.PAPER_FEW)
    told = any(row.total_j is not None for row in table.rows)  # else it may tell powers alone, and lacks nothing
    lacking = sum(row.total_j is None and (told or not row.power_w) for row in table.rows)
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
        yield from signatures.check_lines(check)
    for note in data["notes"]:
        yield from wrap(f"note: {note}", WIDTH, initial_indent="  ", subsequent_indent="    ")
