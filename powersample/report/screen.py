# SPDX-License-Identifier: Apache-2.0
"""The report as it is printed: the answer first, on one screen; `text.full` and `explain` have the rest.

One window, such as "run", is told by device (`lead`); the others are a row each, summed by domain.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import filterfalse
from textwrap import wrap
from typing import Any

from powersample.analysis.repeats import stem
from powersample.report.holistic import holistic_lines
from powersample.report.lead import late_words, led
from powersample.report.many import SUMS, crowds, sums, sums_lines
from powersample.report.table import DASH, cut, interval, joined, number, table, times
from powersample.report.text import (
    DEVICE,
    MOST_WINDOWS,
    WIDTH,
    block,
    check_lines,
    dropout_lines,
    energy_cells,
    paragraph,
    primaries,
    truth_cells,
)
from powersample.report.untold import untold
from powersample.report.words import headline, may_hide, notes, origin, place, read_words, reason_cases

MOST_NOTES = 6
SPARE = re.compile(r"^note: \S+: no power\.driver: .* Not Supported$")  # the driver's own samples: no energy needs them
MOST_UNTOLD = 3
MOST_REASONS = 4
LEGEND = (
    "95 %: the interval that holds the true energy 95 times in 100. verdict: good up to 5 %, fair 15, poor 50, "
    "unusable above. by: the channel that stands for its device. --explain: a note on every number, each window by "
    "device, and how each channel was read; --all: every channel; --html OUT: a page with the curves."
)


def screen(data: Mapping[str, Any]) -> str:
    """Return a report's JSON object as text that begins with the answer, without a newline at its end."""
    data, first, late = led(data)
    lines = [*block(headline(data)), *block([origin(data)])]
    if first is None:
        lines += ["Nothing was recorded.", ""]
    else:
        lines += [*_answer(data, first, MOST_WINDOWS), *_untold(data), *_reasons(data, first), ""]
    lines += [*_data(data), *check_lines(data["checks"]), *_late(late), *_notes(data)]
    if first is not None:
        lines += ["", *wrap(LEGEND, WIDTH)]
    return joined(_tidy(lines))


def brief(data: Mapping[str, Any], most: int = 12) -> str:
    """Return the energies alone, for the end of a recording; and what has none, and why.

    Args:
        data: a report's JSON object.
        most: windows to show.
    """
    data, first, late = led(data)
    grave = [check for check in data["checks"] if check["level"] != "info"]
    lines = [*block(headline(data)), *([] if first is None else _answer(data, first, most)), *_untold(data)]
    return joined(_tidy([*lines, *check_lines(grave), *_late(late)]))


def _tidy(lines: Sequence[str]) -> list[str]:
    """Leave out empty lines at the ends, and all but one between others."""
    kept = [line for before, line in zip(["", *lines], lines, strict=False) if line or before]
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _untold(data: Mapping[str, Any]) -> Iterator[str]:
    many = crowds(data["windows"])  # whose lacking ones are counted in their row
    missing = list(untold({**data, "windows": [one for one in data["windows"] if stem(one["name"]) not in many]}))
    if missing:
        yield ""
    for words in missing[:MOST_UNTOLD]:
        yield from paragraph(words, 2)
    if len(missing) > MOST_UNTOLD:
        yield f"  and {len(missing) - MOST_UNTOLD} more devices without an energy, in --explain"


def _late(late: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for words in late_words(late):
        yield from paragraph(words, 2)


def _answer(data: Mapping[str, Any], first: Mapping[str, Any], most: int) -> Iterator[str]:
    others = [one for one in data["windows"] if one is not first]
    yield from _devices(first, simulated=data["simulated_node"])
    yield from ["", *holistic_lines({**data, "windows": [first, *others]}, 1), ""]
    if not others:
        return
    many, told = crowds(data["windows"]), data["sums"]
    if stem(first["name"]) in many:  # as the longest of them
        others = data["windows"]
    if not any(map(sums, others)):
        yield from primaries(others, most, told, simulated=data["simulated_node"])
        return
    yield from _rows([one for one in others if stem(one["name"]) not in many], most, data["simulated_node"])
    yield from sums_lines(others, many, told)


def _devices(window: Mapping[str, Any], *, simulated: bool) -> Iterator[str]:
    """Yield a row a device of one window, below their sum: first what it is made of, then what stands beside it."""
    found = [one for one in window["energies"] if one["primary"]]
    if not found:
        yield f"{_name(window)}, {number(window['duration_s'])} s: no energy can be told."
        return
    header = [f"{_name(window)}, {number(window['duration_s'])} s", "J", "95 %", "mean W", "verdict", "by"]
    header += ["truth J", "error %"] if simulated else []
    totals = sums(window)
    parts = [one for one in found if one["domain"] in _summed(window)] if totals else []
    rows = [_total(window, parts, simulated=simulated)] if len(parts) > 1 else []
    for one in [*parts, *(one for one in found if one not in parts)]:
        device, by = place(one)
        indent = "  " if len(parts) > 1 and one in parts else ""
        row = [indent + cut(device, DEVICE), *energy_cells(window, one), one["verdict"], by]
        rows.append(row + (truth_cells(one) if simulated else []))
    yield from table(header, rows, "lrrrllrr"[: len(header)])


def _name(window: Mapping[str, Any]) -> str:
    return cut(window["name"], 24) + (" (open)" if "open" in window["flags"] else "")


def _summed(window: Mapping[str, Any]) -> set[str]:
    """Return the domains that a window's total is made of."""
    return {SUMS[key][1] for key in sums(window)}


def _sum_cells(window: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a window's total as an energy, and its cells J, 95 %, mean W and verdict: dashes where a part lacks."""
    total = {key: window["totals"][key] for key in ("joules", "low_j", "high_j")}
    joules, seconds = total["joules"], window["duration_s"]
    mean_w = joules / seconds if joules is not None and seconds else None
    verdict = DASH if joules is None else window["totals"]["verdict"]
    return total, [number(joules), interval(total), number(mean_w), verdict]


def _total(window: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], *, simulated: bool) -> list[str]:
    """Return the row above a window's devices; "(part)" where it is of those alone that can be told."""
    known, (total, cells) = sums(window), _sum_cells(window)
    if total["joules"] is None:
        total["joules"] = math.fsum(known.values())
        cells = [f"{number(total['joules'])} (part)", interval(total), DASH, window["totals"]["verdict"]]
    row = ["total", *cells, " + ".join(SUMS[key][0] for key in known)]
    return row + (truth_cells(total | {"truth_j": _truth_j(parts)}) if simulated else [])


def _truth_j(parts: Sequence[Mapping[str, Any]]) -> float | None:
    truths = [one["truth_j"] for one in parts]
    return None if None in truths else sum(truths)


def _rows(windows: Sequence[Mapping[str, Any]], most: int, simulated: bool) -> Iterator[str]:
    """Yield a row a window: what its devices took together, by domain, and what the whole node did."""
    if not windows:
        return
    shown = windows[:most]
    groups = [key for key in SUMS if any(window["totals"][key] is not None for window in shown)]
    lacking = any(window["totals"]["joules"] is None and sums(window) for window in shown)
    node = any(window["totals"]["node_j"] is not None for window in shown)
    header = ["window", "s", "J", "95 %", "mean W", "verdict"]
    by_domain = len(groups) > 1 or lacking
    header += [f"{SUMS[key][0]} J" for key in groups] if by_domain else []
    header += ["node J", "95 %"] if node else []
    header += ["error %"] if simulated else []
    rows = []
    for window in shown:
        total, cells = _sum_cells(window)
        row = [_name(window), number(window["duration_s"]), *cells]
        row += [_sum_cell(window, key) for key in groups] if by_domain else []
        if node:
            whole = window["totals"]
            ends = {"joules": whole["node_j"], "low_j": whole["node_low_j"], "high_j": whole["node_high_j"]}
            row += [number(whole["node_j"]), interval(ends)]
        if simulated:
            parts = [one for one in window["energies"] if one["primary"] and one["domain"] in _summed(window)]
            row.append(truth_cells(total | {"truth_j": _truth_j(parts)})[1])
        rows.append(row)
    align = "lrrrrl" + "r" * (len(header) - 6)
    yield from table(header, rows, align)
    if len(windows) > most:
        yield f"... and {len(windows) - most} more windows; --all and --json have them"


def _sum_cell(window: Mapping[str, Any], key: str) -> str:
    """Return a domain's joules; "part" where only a part of the window or of its devices can be told."""
    joules = window["totals"][key]
    some = any(one["joules"] is not None for one in window["energies"] if one["domain"] == SUMS[key][1])
    return "part" if joules is None and some else number(joules)


def _reasons(data: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """Yield the codes that bear on the answer in words, and how often the others were met."""
    parts = _bearing(run)
    told: list[str] = []
    counted: dict[str, int] = {}
    for code, cases in sorted(reason_cases(data, slight=False).items()):
        grave = [one for one in cases if one[0] == run["name"] and one[1] in parts]
        grave += [one for one in cases if one[1] in ("total", "whole node")]
        if grave and len(told) < MOST_REASONS:
            window, source, words = grave[0]
            more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
            told.append(f"{code} {window}, {source}: {words}{more}")
        else:
            counted[code] = len(cases)
    yield ""
    for words in told:
        yield from paragraph(words, 4)
    if counted:
        codes = ", ".join(f"{code} {times(count)}" for code, count in counted.items())
        yield from paragraph(f"{'also' if told else 'reasons'}, in --explain: {codes}", 4)


def _bearing(run: Mapping[str, Any]) -> set[str]:
    """Return the channels that the answer stands on: the total's and the meter's, or all that stand for a device."""
    found = [one for one in run["energies"] if one["primary"] or one["joules"] is None]
    summed = {"wall", *_summed(run)}
    return {one["channel"] for one in found if one["domain"] in summed} or {one["channel"] for one in found}


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was read in a line, and a paragraph on each channel of which something was not."""
    channels = [one for one in data["channels"] if one["kind"] != "aux"]
    if not channels:
        return
    alone = [one for one in channels if not one["carried_by"]]
    counts = {
        "gap": sum(one["gaps_total"] for one in alone),
        "failed read": sum(sum(one["errors"].values()) + one["not_numbers"] for one in data["channels"]),
        "lost record": sum(lane["dropped"] or 0 for lane in data["lanes"]),
    }
    hiding = sum(any(map(may_hide, one["dropouts"])) for one in alone)
    words = ", ".join(f"{count} {_one(count, what)}" for what, count in counts.items() if count)
    polls = sum(one["polls"] for one in channels)
    aux = len(data["channels"]) - len(channels)
    beside = f" and {aux} auxiliary {_one(aux, 'one')}" if aux else ""
    told = f"data: {polls} readings of {len(channels)} {_one(len(channels), 'channel')}{beside}; "
    told += words or "no gap, no failed read, none lost"
    if not hiding:
        told += "; no missed update could hide energy of the recording"
        if "PSQ-GAP" in reason_cases(data):
            told += ", and a window's interval has room for what is open at its edges (PSQ-GAP)"
    yield from paragraph(told, 4)
    stuck = [one["name"] for one in channels if one["stuck"]]
    if stuck:
        yield from paragraph(f"STUCK: {', '.join(stuck)}", 4)
    yield from dropout_lines(data["channels"], every=False)
    for one in data["channels"]:
        if not one["carried_by"] or one["errors"] or one["not_numbers"]:
            for sentence in read_words(one | {"carried_by": []}):
                yield from paragraph(sentence, 4)


def _one(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _notes(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield notes that bear on the answer; those that differ in numbers alone, such as a GPU's, once."""
    alike: dict[str, list[str]] = {}
    for words in filterfalse(SPARE.match, notes(data)):
        alike.setdefault(re.sub(r"\d+", "0", words), []).append(words)
    for same in list(alike.values())[:MOST_NOTES]:
        yield from paragraph(same[0] + (f" (and {len(same) - 1} alike)" if len(same) > 1 else ""), 2)
    if len(alike) > MOST_NOTES:
        yield f"  and {len(alike) - MOST_NOTES} more notes, in --explain"
