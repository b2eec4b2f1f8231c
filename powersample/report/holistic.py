# SPDX-License-Identifier: Apache-2.0
"""The energy of the whole node in a report: as JSON, as a few lines a window, and what has to be known of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

from powersample.analysis import Drift, Holistic, Judged, WallEnergy
from powersample.errors import InvalidArgument
from powersample.model import amount
from powersample.report.check import check
from powersample.report.table import DASH, cut, interval, number, table

WIDTH = 98
J_PER_KWH = 3.6e6
MOST_PUE = 10.0
NAMES = {"cpu": "CPUs", "dram": "memory", "gpu": "GPUs"}
ANYWAY = "--calibration-anyway"
SHOWN_SHARE = 0.005
UNBROKEN = "\N{NO-BREAK SPACE}%"
TRUTH = ("truth J", "error %")
PAPER = "arXiv 2505.15631"
HOW = {
    "model": f", by a P_busy that varies with the load, the open question of {PAPER}",
    "load": ", with the uncaptured power of the load that was named",
    "bounds": ", the middle of its bounds",
}
LEGEND = {
    "node J": "node: at the plug.",
    "measured": "measured: the share that counters of components saw.",
    "bounds": "bounds: with the uncaptured power of the idle node and of a busy one, less node.",
    "off meter": "off meter: node less the meter.",
}
FIXES = {
    "PSQ-CAL-REFUSED": "Calibrate this node again: powersample calibrate.",
    "PSQ-CAL-GROUPS": "Record the same sources as for the calibration.",
}


@dataclass(frozen=True, slots=True)
class Factors:
    """What a user gives for what lies beyond the node.

    Attributes:
        pue: energy of the whole building per energy of its computers; None: not told.
        co2_g_per_kwh: of the electricity; None likewise.
        co2_source: whose figure that is.
    """

    pue: float | None = None
    co2_g_per_kwh: float | None = None
    co2_source: str = ""

    def __post_init__(self) -> None:
        if self.pue is not None and not 1 <= self.pue <= MOST_PUE:
            raise InvalidArgument(f"a PUE of {self.pue:g}: it is from 1 (nothing beside the computers) to {MOST_PUE:g}")
        if self.co2_g_per_kwh is not None and not (self.co2_g_per_kwh >= 0 and math.isfinite(self.co2_g_per_kwh)):
            raise InvalidArgument(f"{self.co2_g_per_kwh:g} g CO2 per kWh: it is 0 or more")
        if self.co2_g_per_kwh is not None and not self.co2_source:
            raise InvalidArgument("a CO2 factor without its source is nobody's figure", "Say whose: 380,UBA 2024.")


def calibration_json(judged: Judged) -> dict[str, Any] | None:
    """Return which calibration was used, or why none; None where there is none."""
    if not judged.origin and not judged.refusals:
        return None
    used, found = judged.calibration, judged.found
    best = found.model if found is not None else None
    return {
        "origin": judged.origin,
        "used": used is not None,
        "overridden": judged.overridden,
        "refusals": list(judged.reasons),
        "simulated": found and found.simulated,
        "source": found and found.source,
        "meter": found and found.meter,
        "made_ns": found and found.made_ns,
        "best": found and found.best,
        "points": found and len(found.points),
        "leave_one_out_max_pct": best and best.leave_one_out_max_pct,
        "p_idle_w": found and found.p_idle_w,
        "p_busy_w": found and {load: watts for load, (watts, _) in found.p_busy_w.items()},
        "reasons": list(found.reasons) if found else [],
    }


def holistic_json(one: Holistic, factors: Factors, *, simulated: bool) -> dict[str, Any]:
    """Return a window's energy as plain values; `truth_j` on a simulated node only."""
    node = one.node
    data: dict[str, Any] = {
        "level": one.level,
        "components_j": dict(one.components_j),
        "measured_j": one.measured_j,
        "uncaptured_j": one.uncaptured_j,
        **_energy("total_j", one.total),
        "verdict": one.verdict,
        "reasons": list(one.reasons),
        "budget": [asdict(term) for term in one.budget],
        "bounds_j": None if one.bounds_j is None else list(one.bounds_j),
        "load_like": None if one.like is None else {"load": one.load, **_energy("total_j", one.like)},
        "meter": None
        if one.meter is None
        else {**_energy("joules", one.meter), "residual_j": one.residual_j, "budget_j": one.budget_j},
        "shares": one.shares,
        "node_by": None if node is None else "meter" if one.meter is not None else one.level,
        "kwh": None if node is None else node.joules / J_PER_KWH,
        "pue": None,
        "co2": None,
    }
    if node is not None and factors.pue is not None:
        data["pue"] = {"factor": factors.pue, "kwh_with_it": factors.pue * data["kwh"]}
    if node is not None and factors.co2_g_per_kwh is not None:
        grams = factors.co2_g_per_kwh * data["kwh"]
        data["co2"] = {
            "g_per_kwh": factors.co2_g_per_kwh,
            "source": factors.co2_source,
            "g": grams,
            "g_with_pue": None if factors.pue is None else factors.pue * grams,
        }
    return data | {"truth_j": one.truth_j} if simulated else data


def _energy(name: str, one: WallEnergy | None) -> dict[str, float | None]:
    low_j, high_j = (None, None) if one is None else (one.low_j, one.high_j)
    return {name: None if one is None else one.joules, "low_j": low_j, "high_j": high_j}


def node_totals(one: Holistic) -> dict[str, Any]:
    """Return what a window's totals say of the whole node: the meter's energy, else the calibration's."""
    node = one.node
    by = None if node is None else "meter" if one.meter is not None else one.level
    ends = _energy("node_j", node)
    return {"node_j": ends["node_j"], "node_low_j": ends["low_j"], "node_high_j": ends["high_j"], "node_by": by}


# ---- text --------------------------------------------------------------------------------------------------------


def holistic_lines(data: Mapping[str, Any], most: int) -> Iterator[str]:
    """Yield what is told of the whole node: of the first window in words, of all of several as a table.

    Args:
        data: a report's JSON object.
        most: windows to show; 1 leaves the table out.
    """
    first, *rest = holistic_summary(data) or [""]
    yield from _wrapped(first)
    for words in rest:
        yield from _wrapped(words, "  ")
    header, rows = node_rows(data, most)
    if len(rows) < 2:
        return
    yield ""
    yield from table(header, rows, "".join("l" if name in ("window", "verdict") else "r" for name in header))
    yield from _wrapped(" ".join(words for name, words in LEGEND.items() if name in header))
    told = len(_told(data))
    if told > len(rows):
        yield f"... and {told - len(rows)} more windows; --json has all"


def holistic_summary(data: Mapping[str, Any]) -> list[str]:
    """Return who tells the whole node's energy, and the first window's; or why nobody does."""
    shown = _told(data)
    if not shown:
        return [words] if (words := _nothing(data)) else []
    used = data["calibration"] if data["calibration"] and data["calibration"]["used"] else None
    by = f"whole node, {_by(used)}:" if used else "whole node, by the meter; it is not calibrated:"
    return [by, _sentence(shown[0], simulated=data["simulated_node"])]


def node_rows(data: Mapping[str, Any], most: int) -> tuple[list[str], list[list[str]]]:
    """Return a header and a row a window that tells the whole node; columns that none of them fills are left out."""
    rows = [_row(window, simulated=data["simulated_node"]) for window in _told(data)[:most]]
    names = [name for name in rows[0] if any(row[name] != DASH for row in rows)] if rows else []
    return names, [[row[name] for name in names] for row in rows]


def _told(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [window for window in data["windows"] if window["holistic"]["node_by"] is not None]


def _wrapped(words: str, indent: str = "") -> list[str]:
    kept = words.replace(" %", UNBROKEN)
    return [line.replace(UNBROKEN, " %") for line in wrap(kept, WIDTH, initial_indent=indent, subsequent_indent="    ")]


def _nothing(data: Mapping[str, Any]) -> str:
    window = next((one for one in data["windows"] if one["holistic"]["components_j"]), None)
    if window is None:
        return ""
    parts = " + ".join(NAMES[name] for name in NAMES if name in window["holistic"]["components_j"])
    return (
        f"whole node: unknown; {parts} took {number(window['holistic']['measured_j'])} J in {window['name']!r}. "
        "Fans, disks, network, board and the supply's losses are in no counter: a meter tells them (--meter), or a "
        "model of this node (powersample calibrate)."
    )


def _by(used: Mapping[str, Any]) -> str:
    words = [] if used["made_ns"] is None else [f"{datetime.fromtimestamp(used['made_ns'] / 1e9, UTC):%Y-%m-%d}"]
    words.append(f"by {used['meter']}" if used["meter"] else f"by a {used['source']}")
    if used["leave_one_out_max_pct"] is not None:
        words.append(f"(up to {amount(used['leave_one_out_max_pct'], 2)} % off at loads that it had not seen)")
    if used["overridden"]:
        words.append(f"- REFUSED, AND USED ALL THE SAME ({ANYWAY})")
    return f"calibrated {' '.join(words)}"


def _sentence(window: Mapping[str, Any], *, simulated: bool) -> str:
    one = window["holistic"]
    words = [f"{cut(window['name'], 24)} ({number(window['duration_s'])} s): {_figure(one)}"]
    if one["shares"] is not None:
        words.append(", ".join(_shares(one["shares"])))
    if one["load_like"] is not None and one["level"] != "load":
        words.append(f"like {one['load_like']['load']}: {_ends(one['load_like'], 'total_j')}")
    if one["bounds_j"] is not None:
        low_j, high_j = one["bounds_j"]
        words.append(f"bounds as in {PAPER}: [{number(low_j)}, {number(high_j)}] J")
    if one["meter"] is not None and one["total_j"] is not None:
        words.append(f"meter: {_ends(one['meter'], 'joules')}{_beside(one['meter'])}")
    words += _beyond(one)
    if simulated and one["truth_j"]:
        words.append(f"truth: {number(one['truth_j'])} J, {_error(one)} %")
    return "; ".join(words)


def _figure(one: Mapping[str, Any]) -> str:
    if one["total_j"] is None:
        parts = "" if one["measured_j"] is None else f"; components {number(one['measured_j'])} J"
        return f"{_ends(one['meter'], 'joules')}{parts}"
    level = " (95 %)" if one["low_j"] is not None else ""
    return f"{_ends(one, 'total_j')}{level}, {one['verdict']}{HOW[one['level']]}"


def _ends(one: Mapping[str, Any], name: str) -> str:
    if one["low_j"] is None:
        return f"{number(one[name])} J without an interval"
    return f"{number(one[name])} J [{number(one['low_j'])}, {number(one['high_j'])}]"


def _shares(shares: Mapping[str, float]) -> Iterator[str]:
    yield f"{100 * shares['measured']:.0f} % of it measured in components"
    if abs(shares["modelled"]) >= SHOWN_SHARE:
        yield f"{100 * shares['modelled']:.0f} % modelled"
    if shares["missing"] >= SHOWN_SHARE:
        yield f"{100 * shares['missing']:.0f} % in neither"
    elif shares["missing"] <= -SHOWN_SHARE:
        yield f"together {-100 * shares['missing']:.0f} % more than the meter says"


def _beside(meter: Mapping[str, Any]) -> str:
    """Say whether model and meter agree."""
    if meter["residual_j"] is None or meter["budget_j"] is None:
        return ""
    agree = abs(meter["residual_j"]) <= meter["budget_j"]
    return f", {number(abs(meter['residual_j']))} J apart, {'within' if agree else 'OUTSIDE OF'} what they may be"


def _error(one: Mapping[str, Any]) -> str:
    told_j = one["total_j"] if one["total_j"] is not None else one["meter"]["joules"]
    return f"{round(100 * (told_j - one['truth_j']) / one['truth_j'], 2) + 0.0:+.2f}"


def _beyond(one: Mapping[str, Any]) -> Iterable[str]:
    """Yield kWh, CO2 and what the building adds, each by the user's own factor and apart."""
    if one["co2"] is None and one["pue"] is None:
        return
    yield f"{number(one['kwh'])} kWh"
    if one["co2"] is not None:
        yield f"{number(one['co2']['g'])} g CO2 at {one['co2']['g_per_kwh']:g} g/kWh ({one['co2']['source']})"
    if one["pue"] is not None:
        with_it = f"{number(one['pue']['kwh_with_it'])} kWh"
        if one["co2"] is not None:
            with_it += f" and {number(one['co2']['g_with_pue'])} g CO2"
        yield f"with the building's PUE of {one['pue']['factor']:g}, as given: {with_it}"


def _row(window: Mapping[str, Any], *, simulated: bool) -> dict[str, str]:
    one = window["holistic"]
    node_j = one["total_j"] if one["total_j"] is not None else one["meter"]["joules"]
    ends = one if one["total_j"] is not None else one["meter"]
    meter, bounds_j = one["meter"], one["bounds_j"]
    apart = meter is not None and meter["residual_j"] is not None and meter["joules"]
    bounds = [f"{100 * (each - node_j) / node_j:+.1f}" for each in bounds_j] if bounds_j and node_j else []
    row = {
        "window": cut(window["name"], 20),
        "node J": number(node_j),
        "95 %": interval({"joules": node_j, "low_j": ends["low_j"], "high_j": ends["high_j"]}),
        "verdict": one["verdict"] if one["total_j"] is not None else DASH,
        "measured": f"{100 * one['shares']['measured']:.0f} %" if one["shares"] else DASH,
        "bounds": f"{'/'.join(bounds)} %" if bounds else DASH,
        "off meter": f"{100 * meter['residual_j'] / meter['joules']:+.2f} %" if apart else DASH,
    }
    told = simulated and one["truth_j"]
    return row | ({"truth J": number(one["truth_j"]), "error %": _error(one)} if told else dict.fromkeys(TRUTH, DASH))


# ---- checks ------------------------------------------------------------------------------------------------------


def holistic_checks(judged: Judged, found: Drift | None) -> Iterator[dict[str, Any]]:
    """Yield why a calibration is not used, or is used all the same, and whether it still holds."""
    for reason in judged.reasons:
        code, _, words = reason.partition(" ")
        if judged.overridden:
            yield check(
                code, "warning", f"{words}; USED ALL THE SAME ({ANYWAY})", "Calibrate this node: powersample calibrate."
            )
        else:
            final = any(one.reason == reason and one.final for one in judged.refusals)
            fix = FIXES.get(code, "Calibrate this node." if final else f"Calibrate this node, or add {ANYWAY}.")
            yield check(code, "warning", f"the calibration {judged.origin} is not used: {words}", fix)
    if judged.calibration is not None:
        for reason in judged.calibration.reasons:
            code, _, words = reason.partition(" ")
            yield check(code.rstrip(":"), "info", f"of the calibration: {words}", "Calibrate again where that matters.")
    if found is not None and found.drifted:
        fix = "Calibrate again; where only the load is new, `powersample calibrate --add FILE` adds its points."
        yield check("PSQ-CAL-DRIFT", "warning", found.words, fix)
