# SPDX-License-Identifier: Apache-2.0
"""The whole report for a terminal, at most 100 columns: each window by device or channel, and how each was read.

`screen` is what is printed unless somebody asks for all of it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from powersample.analysis.interval import limit
from powersample.analysis.repeats import stem
from powersample.analysis.totals import PARTS
from powersample.report.holistic import holistic_lines
from powersample.report.many import crowd_lines, crowds
from powersample.report.table import DASH, cut, interval, joined, number, table
from powersample.report.words import (
    POLLED,
    SENSORS,
    badness,
    coded_reasons,
    dropout,
    error_pct,
    headline,
    may_hide,
    notes,
    origin,
    place,
    polled_cells,
    read_words,
    sensor_cells,
)

WIDTH = 100
DEVICE = 18  # letters of a device: a chip of hwmon may have many
CHANNEL = 26
MOST_WINDOWS = 100  # in the short form
MOST_NODES = 12  # windows of which the whole node is told
LEGEND = (
    "95 %: the interval that holds the true energy 95 times in 100. verdict: good up to 5 %, fair 15, poor 50, "
    "unusable above. by: the channel that stands for its device (energy: its counter). part: of what was read alone; "
    "bridged: neighbours stand for more than a tenth that nobody read.",
    "updates: new values seen, of those that the sensor published; equal ones show as none. stale: polls that repeated "
    "a value, as most do where polls are faster than the sensor.",
    "gaps, stalls: polls more than 3 or 1.5 of their spacing apart. dropouts: spans in which something was published "
    "and not read. T, W: how often a sensor publishes, and over how long each value averages.",
    "--all: every channel of every window. --explain: a note on every number.",
)
TOTAL_NAMES = {"gpu_j": "GPU", "cpu_j": "CPU", "dram_j": "DRAM", "node_j": "wall"}
MODELLED = "whole node, calibrated"  # where no meter was at the wall


def full(data: Mapping[str, Any], *, every: bool = False) -> str:
    """Return all of a report's JSON object as text, without a newline at its end.

    Args:
        data: the object.
        every: list every channel of every window, not only the one that stands for each device.
    """
    lines = [*block(headline(data)), *block([origin(data)])]
    if not data["windows"]:
        lines += ["Nothing was recorded.", ""]
    elif every:
        for window in data["windows"]:
            lines += [*_window(window, simulated=data["simulated_node"]), ""]
        lines += [*holistic_lines(data, MOST_NODES), ""]
    else:
        lines += [
            *primaries(data["windows"], MOST_WINDOWS, data["sums"], simulated=data["simulated_node"]),
            *_reasons(data),
            "",
            *holistic_lines(data, MOST_NODES),
            "",
        ]
    lines += [*_channels(data["channels"], every=every), *_lanes(data["lanes"])]
    lines += [*check_lines(data["checks"]), *[line for words in notes(data) for line in paragraph(words, 2)]]
    if data["windows"] and not every:
        lines += [line for words in ("", *LEGEND) for line in wrap(words, WIDTH) or [""]]
    while lines and not lines[-1]:
        lines.pop()
    lines = [line for i, line in enumerate(lines) if line or lines[i - 1]]
    return joined(lines)


def primaries(
    windows: Sequence[Mapping[str, Any]], most: int, sums: Sequence[Mapping[str, Any]], *, simulated: bool
) -> Iterable[str]:
    """Yield a row a window and device: the energy that stands for it; and a row a device for windows by the hundreds.

    Args:
        windows: a report's.
        most: windows to show.
        sums: the report's, of windows by the hundreds.
        simulated: tell the truth too.
    """
    header = ["window", "s", "device", "J", "95 %", "mean W", "verdict", "by"]
    if simulated:
        header += ["truth J", "error %"]
    rows = []
    many = crowds(windows)
    alone = [window for window in windows if stem(window["name"]) not in many]
    for window in alone[:most]:
        name = cut(window["name"], 24) + (" (open)" if "open" in window["flags"] else "")
        for energy in (one for one in window["energies"] if one["primary"]):
            device, by = place(energy)
            row = [name, number(window["duration_s"]), cut(device, DEVICE), *energy_cells(window, energy)]
            row += [energy["verdict"], by]
            rows.append(row + (truth_cells(energy) if simulated else []))
    if rows or not many:
        yield from table(header, rows, "lrlrrrllrr"[: len(header)]) if rows else ["No energy can be told."]
    if len(alone) > most:
        yield f"... and {len(alone) - most} more windows; --json has all"
    yield from crowd_lines(windows, many, sums)


def block(sentences: Iterable[str]) -> list[str]:
    """Return sentences, each in lines of its own, and an empty line after them if there are any."""
    lines = [line for words in sentences for line in wrap(words, WIDTH)]
    return [*lines, ""] if lines else []


def _reasons(data: Mapping[str, Any]) -> Iterable[str]:
    for words in coded_reasons(data):
        yield from paragraph(words, 4)


def energy_cells(window: Mapping[str, Any], energy: Mapping[str, Any]) -> list[str]:
    """Return an energy's cells J, 95 % and mean W; "(part)" where its readings speak for less than the window."""
    joules, whole = energy["joules"], energy["whole"]
    mean_w = joules / window["duration_s"] if joules is not None and whole else None
    much = " (bridged)" if _accounted(window, energy) else " (part)"
    return [number(joules) + ("" if whole or joules is None else much), interval(energy), number(mean_w)]


def _accounted(window: Mapping[str, Any], energy: Mapping[str, Any]) -> bool:
    """Whether nothing is left out of an energy: what was not read lies between readings, and they stand for it."""
    return bool(energy["covered_s"] + energy["bridged_s"] >= limit("whole") * window["duration_s"])


def truth_cells(energy: Mapping[str, Any]) -> list[str]:
    """Return an energy's cells truth J and error %, of a simulated node."""
    return [number(energy["truth_j"]), error_pct(energy)]


def _window(window: Mapping[str, Any], *, simulated: bool) -> Iterable[str]:
    name, seconds = window["name"], window["duration_s"]
    is_open = " (never ended)" if "open" in window["flags"] else ""
    room = WIDTH - 20 - len(is_open)
    yield f"{cut(name, room)}{is_open}  {number(seconds)} s"
    header = ["", "channel", "J", "95 %", "mean W", "method", "verdict"]
    if simulated:
        header += ["truth J", "error %"]
    rows = []
    for energy in window["energies"]:
        row = ["*" if energy["primary"] else "", cut(energy["channel"], 28), *energy_cells(window, energy)]
        row += [energy["method"], energy["verdict"]]
        rows.append(row + (truth_cells(energy) if simulated else []))
    if not rows:
        yield "  no power or energy channel was recorded"
        return
    yield from table(header, rows, "llrrrllrr"[: len(header)], indent=2)
    known = list(_totals(window["totals"]))
    yield f"  total: {', '.join(known)}" if known else "  total: none can be told"
    for reason in window["totals"]["reasons"]:
        yield from paragraph(reason, 4)
    for energy in window["energies"]:
        for reason in energy["reasons"]:
            yield from paragraph(f"{energy['channel']}: {reason}", 4)


def _totals(totals: Mapping[str, Any]) -> Iterable[str]:
    """Yield each domain's sum; all of them but the wall's together, with the interval; and the wall's, or a model's."""
    known = [key for key in PARTS if totals[key] is not None]
    yield from (f"{TOTAL_NAMES[key]} {number(totals[key])} J" for key in known)
    if len(known) > 1 and totals["joules"] is not None:
        yield f"together {number(totals['joules'])} J {interval(totals)} {totals['verdict']}"
    if totals["node_j"] is not None:
        yield f"{TOTAL_NAMES['node_j'] if totals['node_by'] == 'meter' else MODELLED} {number(totals['node_j'])} J"


def _channels(channels: Sequence[Mapping[str, Any]], *, every: bool) -> Iterable[str]:
    everything = channels
    aux = [one for one in channels if one["kind"] == "aux" and not every]
    channels = [one for one in channels if one not in aux]
    if not channels:
        return
    yield from table(POLLED, [polled_cells(one, CHANNEL) for one in channels], "l" + "r" * 9)
    if aux:
        yield f"and {len(aux)} auxiliary channels (utilisation, clocks, temperature ...)"
    yield ""
    yield from table(SENSORS, [sensor_cells(one, CHANNEL) for one in channels], "lrlrlrrr")
    yield from dropout_lines(everything, every=every)
    for one in [*channels, *aux]:
        for words in read_words(one):
            yield from paragraph(words, 2)
    yield ""


def dropout_lines(channels: Sequence[Mapping[str, Any]], *, every: bool) -> Iterable[str]:
    """Yield a paragraph a channel: its dropouts by cause, and the worst, in seconds from the record's first reading.

    Those of counters in which nothing was lost, and of channels that are read seldom on purpose, are told only where
    every channel is.
    """
    origin_ns = min((one["start_ns"] for one in channels if one["start_ns"] is not None), default=0)
    if not every:
        channels = [one for one in channels if not one["carried_by"] and any(map(may_hide, one["dropouts"]))]
    channels = [one for one in channels if one["dropouts_total"]]
    for one in channels:
        causes = Counter(each["cause"] for each in one["dropouts"])
        by_cause = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items()))
        more = "" if len(one["dropouts"]) == one["dropouts_total"] else f", of the worst {len(one['dropouts'])}"
        worst = dropout(min(one["dropouts"], key=badness), origin_ns, one["sensor"])
        words = f"{one['name']}: {one['dropouts_total']} dropouts ({by_cause}{more}); the worst {worst}"
        yield from paragraph(words, 2)


def _lanes(lanes: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    late = [lane for lane in lanes if lane["skipped"] or lane["dropped"] or lane["reopens"]]
    if not late:
        return
    header = ["lane", "slots", "passes", "skipped", "records", "dropped", "reopened"]
    keys = ("slots", "passes", "skipped", "records", "dropped", "reopens")
    rows = [[cut(lane["name"], 30), *(DASH if lane[key] is None else str(lane[key]) for key in keys)] for lane in late]
    yield from table(header, rows, "l" + "r" * len(keys))
    yield ""


def check_lines(checks: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Yield each check with its level, code and fix."""
    for check in checks:
        yield from paragraph(f"{check['level']}: {check['code']} {check['what']}. {check['fix']}", 2)


def paragraph(words: str, hanging: int) -> list[str]:
    """Return words as indented lines, all but the first by `hanging` columns more."""
    return wrap(words, WIDTH - 2, initial_indent="  ", subsequent_indent=" " * (2 + hanging), break_on_hyphens=False)
