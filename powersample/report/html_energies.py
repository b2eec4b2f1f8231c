# SPDX-License-Identifier: Apache-2.0
"""The energies of a report's page: a table a device, its windows in the order of time, many alike as one row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from powersample.analysis.repeats import stem
from powersample.report.curves import Panel
from powersample.report.html_parts import escaped, name, opened, table, verdict, whisker
from powersample.report.many import MOST_ROWS, crowds, in_all
from powersample.report.table import DASH, interval, number
from powersample.report.text import LEGEND, TOTAL_NAMES
from powersample.report.words import error_pct, place

SHOWN = 12  # of them, the highest
DEEPEST = 3  # level of nesting that is shown
SUMS = {key: TOTAL_NAMES[key] for key in ("gpu_j", "cpu_j", "dram_j")}
Told = tuple[Mapping[str, Any], Mapping[str, Any]]  # a window, and its energy of one device


def energies(data: Mapping[str, Any], panels: Sequence[Panel]) -> Iterator[str]:
    """Yield the section."""
    yield "<h2>Energy per window and device</h2>"
    drawn = f"Dot and whiskers: mean power and its 95 % interval, from 0 W on{_truth_words(data)}."
    yield f'<p class="note">{drawn}</p>'
    words = f"<p>{escaped(LEGEND[0])}</p>"
    yield f'<details class="more note"><summary>what the words mean</summary>{words}</details>'
    devices: dict[tuple[str, str], list[Told]] = {}
    for window in data["windows"]:
        best: dict[tuple[str, str], Mapping[str, Any]] = {}
        for energy in window["energies"]:
            key = (energy["device"], energy["domain"])
            if energy["primary"] or key not in best:
                best[key] = energy
        for key, energy in best.items():
            devices.setdefault(key, []).append((window, energy))
    if not devices:
        yield "<p>No power or energy channel was recorded.</p>"
    depths = _depths(data["windows"])
    if len(devices) > 1:
        yield from _totals(data["windows"], depths)
    known = [(panel, told) for panel in panels if (told := devices.get((panel.device, panel.domain)))]
    for (panel, told), is_open in zip(known, opened([panel for panel, _ in known]), strict=True):
        yield f'<details class="panel"{" open" if is_open else ""}>'
        yield from _device(panel, told, depths, data["sums"], simulated=data["simulated_node"])
        yield "</details>"


def _depths(windows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return in how many others each window lies, by the window's identity."""
    ends_ns: list[int] = []  # of those that hold the next one
    found = {}
    for one in sorted(windows, key=lambda one: (one["start_ns"], -one["end_ns"])):
        while ends_ns and ends_ns[-1] < one["end_ns"]:
            ends_ns.pop()
        found[id(one)] = len(ends_ns)
        ends_ns.append(one["end_ns"])
    return found


def _named(window: Mapping[str, Any], depths: Mapping[int, int]) -> str:
    depth = min(depths[id(window)], DEEPEST)
    return f'<span class="in{depth}">{name(window["name"])}</span>' if depth else name(window["name"])


def _totals(windows: Sequence[Mapping[str, Any]], depths: Mapping[int, int]) -> Iterator[str]:
    """Yield what each window took over all devices; columns that no window fills are left out."""
    keys = [key for key in SUMS if any(one["totals"][key] is not None for one in windows)]
    node = any(one["totals"]["node_j"] is not None for one in windows)
    if not keys and not node:
        return
    many = crowds(windows, crowded=len(windows) > MOST_ROWS)
    rows = []
    for window in (one for one in windows if stem(one["name"]) not in many):
        totals = window["totals"]
        cells = [_named(window, depths), number(window["duration_s"]), *(number(totals[key]) for key in keys)]
        if len(keys) > 1:
            whole = [totals[key] for key in keys]
            joules = None if None in whole else math.fsum(whole)
            cells += [number(joules), _half({"joules": joules, "low_j": totals["low_j"], "high_j": totals["high_j"]})]
        if keys:
            cells.append(verdict(totals["verdict"]))
        if node:
            ends = {"joules": totals["node_j"], "low_j": totals["node_low_j"], "high_j": totals["node_high_j"]}
            cells += [number(totals["node_j"]), _half(ends), escaped(totals["node_by"] or DASH)]
        rows.append(cells)
    header = ["window", "s", *(f"{SUMS[key]} J" for key in keys)]
    align = "lR" + "r" * len(keys)
    if len(keys) > 1:
        header, align = [*header, "together J", "95 %"], align + "rr"
    if keys:
        header, align = [*header, "verdict"], align + "l"
    if node:
        header, align = [*header, "whole node J", "95 %", "by"], align + "rrL"
    if rows:
        yield "<h3>All devices</h3>"
        yield table(header, rows[:MOST_ROWS], align)


def _half(energy: Mapping[str, Any]) -> str:
    return interval(energy).replace("+-", "&plusmn;")


def _truth_words(data: Mapping[str, Any]) -> str:
    return "; the upright line is the simulated node's exact one" if data["simulated_node"] else ""


def _device(
    panel: Panel, told: Sequence[Told], depths: Mapping[int, int], sums: Sequence[Mapping[str, Any]], *, simulated: bool
) -> Iterator[str]:
    board = f" <small>{escaped(panel.board, 120)}</small>" if panel.board else ""
    yield f"<summary><h3>{name(panel.name)}{board}</h3></summary>"
    groups: dict[str, list[Told]] = {}
    for one in told:
        groups.setdefault(stem(one[0]["name"]), []).append(one)
    many = crowds([window for window, _ in told], crowded=len(told) > MOST_ROWS)
    alone = [one for one in told if stem(one[0]["name"]) not in many][:MOST_ROWS]
    if alone:
        yield _table(alone, depths, simulated=simulated)
    for key in sorted(many, key=lambda key: -len(groups[key])):
        whole = in_all(sums, key, panel.device, panel.domain)
        yield from _group(key, groups[key], depths, whole, simulated=simulated)


def _table(told: Sequence[Told], depths: Mapping[int, int], *, simulated: bool) -> str:
    """Return energies as rows, their whiskers over one scale."""
    highs = [one["high_j"] or one["joules"] or 0.0 for _, one in told]
    most_w = 1.02 * max(
        (j / w["duration_s"] for j, (w, _) in zip(highs, told, strict=True) if w["duration_s"]), default=0.0
    )
    scale = f'<span class="scale"><span>0</span><span>{escaped(number(most_w))} W</span></span>'
    header = ["window", "s", "J", "95 %", "from J", "to J", "mean W", scale, "by", "verdict"]
    align = "lRrrXXRlLc"
    if simulated:
        header += ["truth J", "error %"]
        align += "RR"
    return table(header, [_row(one, most_w, depths, simulated=simulated) for one in told], align)


def _row(told: Told, most_w: float, depths: Mapping[int, int], *, simulated: bool) -> list[str]:
    window, energy = told
    joules, seconds = energy["joules"], window["duration_s"]
    low_j, high_j, truth_j = energy["low_j"], energy["high_j"], energy.get("truth_j")

    def watts(value: float | None) -> float | None:
        return None if value is None or not seconds else value / seconds

    open_end = " <small>(never ended)</small>" if "open" in window["flags"] else ""
    whole = energy["whole"] or joules is None
    codes = " ".join(
        f"<code>{escaped(code)}</code>" for code in dict.fromkeys(one.split(" ")[0] for one in energy["reasons"])
    )
    cells = [
        _named(window, depths) + open_end,
        number(seconds),
        number(joules) + ("" if whole else " (in part)"),
        _half(energy),
        number(low_j),
        number(high_j),
        number(watts(joules) if whole else None),
        whisker(watts(low_j), watts(joules), watts(high_j), most_w, watts(truth_j)),
        escaped(place(energy)[1]),
        f"{verdict(energy['verdict'])} {codes}",
    ]
    return cells + ([number(truth_j), error_pct(energy)] if simulated else [])


def _group(
    key: str, told: Sequence[Told], depths: Mapping[int, int], whole: Mapping[str, Any], *, simulated: bool
) -> Iterator[str]:
    """Yield many windows of one name as a sentence, and the highest of them when somebody asks.

    Args:
        key: the name, without a number.
        told: the windows.
        depths: of `_depths`.
        whole: what they took in all.
        simulated: tell the truth too.
    """
    known = sorted((one for one in told if one[1]["joules"] is not None), key=lambda one: -float(one[1]["joules"]))
    verdicts = Counter(one["verdict"] for _, one in told)
    words = ", ".join(f"{count} {escaped(word)}" for word, count in verdicts.most_common())
    if not known:
        yield f"<p>{len(told)} windows {name(key)}: none has an energy ({words}).</p>"
        return
    joules = [float(one["joules"]) for _, one in known]
    without = f"; {len(told) - len(known)} without an energy" if len(known) < len(told) else ""
    together = "" if whole["joules"] is None else f"{number(whole['joules'])} J ({_half(whole)}) in all, "
    yield (
        f"<p><strong>{len(told)} windows {name(key)}</strong>: {together}"
        f"{number(median(joules))} J the median, from {number(joules[-1])} to {number(joules[0])} J; "
        f"{words}{without}.</p>"
    )
    highest = known[:SHOWN]
    yield (
        f'<details class="more"><summary>the {len(highest)} highest of them; --json has all</summary>'
        f"{_table(highest, depths, simulated=simulated)}</details>"
    )
