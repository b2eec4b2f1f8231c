# SPDX-License-Identifier: Apache-2.0
"""Sentences of a report, without a page's width: what its text and its HTML both say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from powersample.analysis.interval import EDGES
from powersample.model import duration, simulated_name
from powersample.report.clock_fits import clock_fit_line
from powersample.report.meters import meter_lines
from powersample.report.table import DASH, cut, number, times
from powersample.sensors import code_words

SEEN = "the spacing of its changes here"  # where a sensor's figures come from, if not from the table
SPACING = "the spacing of its polls"
OWN_WORD = "the source's own word"
WORDS_OF_ORIGIN = {
    SEEN: "seen here",
    SPACING: "polls",
    OWN_WORD: "source",
    "assumed": "assumed",
}
POLLED = ("channel", "asked Hz", "got Hz", "polls", "updates", "of", "stale %", "errors", "gaps", "stalls")
SENSORS = ("channel", "T s", "from", "W s", "from", "dropouts", "unread", "may hide J")
ALIKE = 0.9  # of a sensor's period and what its values average: from here on they are the same
SLIGHT = 0.01  # of an energy: what its edges may be off by is then no news
LEFT_OUT = {
    "unknown": "lines of the marks' file are no marks",
    "unmatched": "ends of windows have no begin",
    "other_boot": "marks are of another boot of this machine",
}


def headline(data: Mapping[str, Any]) -> list[str]:
    """Return what says first that nothing here, or not all, was measured: a line each; none of a measurement."""
    if not data["simulated_node"]:
        false = data["simulated_meters"]
        return [f"SIMULATED METER {', '.join(false)}, not a measurement"] if false else []
    node = data["meta"].get("simulated_node") or {}
    load = [f"load: {node['load']}"] if node.get("load") else []
    return [f"SIMULATED NODE {simulated_name(node)}".rstrip() + ", not a measurement", *load]


def origin(data: Mapping[str, Any]) -> str:
    """Return what was recorded, where and when, as far as the file tells."""
    meta = data["meta"]
    program = (meta.get("command") or {}).get("program")
    words = [program, f"on {meta['host']}" if meta.get("host") else None]
    if meta.get("started_unix_ns"):
        when = datetime.fromtimestamp(meta["started_unix_ns"] / 1e9, UTC)
        words.append(f"{when:%Y-%m-%d %H:%M:%S} UTC")
    boards = Counter(str(device["name"]) for device in meta.get("devices") or () if device.get("name"))
    words += [f"{count} x {name}" if count > 1 else name for name, count in boards.items()]
    words.append(f"driver {meta['driver']}" if meta.get("driver") else None)
    return ", ".join(word for word in words if word)


def place(energy: Mapping[str, Any]) -> tuple[str, str]:
    """Return an energy's device, with its domain where its channel names that, and the rest of the channel's name.

    "package-0.dram.energy" is energy of "package-0 dram", "gpu0.module.power.instant" power.instant of "gpu0 module".
    """
    device, _, by = str(energy["channel"]).partition(".")
    domain, _, rest = by.partition(".")
    return (f"{device} {domain}", rest) if rest and domain == energy["domain"] else (device, by)


def error_pct(energy: Mapping[str, Any]) -> str:
    """Return by how much a simulated node's energy is off the truth, in %: "+0.60"; a dash where one is unknown."""
    joules, truth_j = energy["joules"], energy["truth_j"]
    error = 100 * (joules - truth_j) / truth_j if joules is not None and truth_j else None
    return DASH if error is None else f"{round(error, 2) + 0.0:+.2f}"


def reason_cases(data: Mapping[str, Any], *, slight: bool = True) -> dict[str, list[tuple[str, str, str]]]:
    """Return window, source and words of each case of each code that a shown energy or its total bears.

    Args:
        data: a report's.
        slight: also that an edge may lie between two of a counter's updates which make no difference.
    """
    found: dict[str, list[tuple[str, str, str]]] = {}
    for window in data["windows"]:
        shown = [
            (one["channel"], [each for each in one["reasons"] if slight or not _slight(one, each)])
            for one in window["energies"]
            if one["primary"] or not one["joules"]
        ]
        told = window["totals"]["reasons"]
        shown.append(("whole node", [one for one in window["holistic"]["reasons"] if one not in told]))
        for source, reasons in [*shown, ("total", window["totals"]["reasons"])]:
            for reason in reasons:
                code, _, words = reason.partition(" ")
                found.setdefault(code, []).append((window["name"], source, words))
    return found


def _slight(energy: Mapping[str, Any], reason: str) -> bool:
    steps_j = [term["value_j"] for term in energy["budget"] if term["term"] in EDGES.values()]
    return reason.startswith("PSQ-EDGE ") and bool(steps_j) and sum(steps_j) <= SLIGHT * (energy["joules"] or 0.0)


def coded_reasons(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield each code that a shown energy or its total bears once, with the first case and their number."""
    for code, cases in sorted(reason_cases(data).items()):
        window, source, words = cases[0]
        more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
        yield f"{code} {window}, {source}: {words}{more}"


def hidden(dropouts: Sequence[Mapping[str, Any]]) -> str:
    """Return the energy that dropouts could hide, J; a dash where one of them cannot tell."""
    known = [one["energy_j"] for one in dropouts]
    return DASH if None in known else number(math.fsum(known))


def may_hide(one: Mapping[str, Any]) -> bool:
    """Whether a dropout can have hidden energy, as far as is known."""
    return one["energy_j"] is None or one["energy_j"] > 0


def dropout(one: Mapping[str, Any], origin_ns: int, sensor: str | None) -> str:
    """Return a dropout in words: "0.31 s from 4.2 s on, errors (code 15, the GPU is lost), 3 updates, up to 35 J".

    Args:
        one: the dropout.
        origin_ns: its times are told from here on.
        sensor: where the values come from: it says what the code means.
    """
    words = [
        f"{number((one['end_ns'] - one['start_ns']) / 1e9)} s from {number((one['start_ns'] - origin_ns) / 1e9)} s on"
    ]
    words.append(one["cause"] + (f" (code {code_words(sensor or '', one['code'])})" if one["code"] else ""))
    if one["updates_missed"]:
        words.append(f"{one['updates_missed']} updates")
    if one["energy_j"] is None:
        words.append("nobody knows what it hides")
    else:
        words.append(f"up to {number(one['energy_j'])} J" if one["energy_j"] else "no energy lost")
    return ", ".join(words)


def badness(one: Mapping[str, Any]) -> tuple[float, int]:
    """Sort dropouts by it, the worst first: unknown energies before any, and the longest of equal ones."""
    return -math.inf if one["energy_j"] is None else -one["energy_j"], one["start_ns"] - one["end_ns"]


def notes(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the recording came to be what it is, where a reader should know."""
    left_out = data["meta"].get("marks_left_out") or {}
    for key, what in LEFT_OUT.items():
        if left_out.get(key):
            yield f"note: {left_out[key]} {what}; left out"
    if data["meta"].get("keep") == "changes":
        polls, stored = (sum(one[key] for one in data["channels"]) for key in ("polls", "stored"))
        words = f"note: only changes were kept: {stored} readings stand for {polls} polls, the rest repeated them"
        yield words
    for words in meter_lines(data["meta"]):
        yield f"meter {words}"
    for fit in data["clock_fits"].values():
        if fit["accepted"]:
            yield f"note: {clock_fit_line(fit)}"
    for note in data["meta"].get("notes") or ():
        yield f"note: {note}"
    for lane in data["lanes"]:
        for note in lane["notes"]:
            yield f"note: {note}"
        if "limited" in (lane["rate_origin"] or ""):
            yield f"note: {lane['name']} ran at {number(lane['rate_hz'])} Hz: {lane['rate_origin']}"


def polled_cells(one: Mapping[str, Any], room: int) -> list[str]:
    """Return what a channel's polls came to, as `POLLED` heads it; its name in `room` letters."""
    stale = one["stale_share"]
    return [
        cut(one["name"], room) + (" STUCK" if one["stuck"] else ""),
        "follow" if one["followed"] else number(one["asked_hz"]),
        number(one["achieved_hz"]),
        str(one["polls"]),
        str(one["updates"]),
        DASH if one["updates_expected"] is None else str(one["updates_expected"]),
        DASH if stale is None else f"{100 * stale:.1f}",
        str(sum(one["errors"].values()) + one["not_numbers"]),
        str(one["gaps_total"]),
        str(one["stalls"]),
    ]


def sensor_cells(one: Mapping[str, Any], room: int) -> list[str]:
    """Return how often a sensor publishes, over what it averages, who says so, and what nobody read: see `SENSORS`."""
    return [
        cut(one["name"], room),
        number(one["sensor_period_s"]),
        _short(one["sensor_period_origin"]),
        number(one["averaging_window_s"]),
        _short(one["averaging_window_origin"]),
        *_unread(one),
    ]


def read_words(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield what has to be known of how a channel was read: seldom on purpose, with failures, without a number."""
    if one["carried_by"] and one["kind"] != "aux":
        yield f"{one['name']} is read seldom on purpose: {' and '.join(one['carried_by'])} carry its updates"
    if one["errors"]:
        sensor = one["sensor"] or ""
        codes = ", ".join(f"code {code_words(sensor, int(code))}, {times(n)}" for code, n in one["errors"].items())
        yield f"{one['name']}: reads failed with {codes}"
    if one["not_numbers"]:
        yield f"{one['name']}: {one['not_numbers']} reads gave no number"


def _unread(channel: Mapping[str, Any]) -> list[str]:
    """Return how often updates went unread, how many, and what that may hide: of no meaning where others carry them."""
    if channel["carried_by"]:
        return [DASH, DASH, DASH]
    return [str(channel["dropouts_total"]), str(channel["updates_missed"]), hidden(channel["dropouts"])]


def _short(origin: str | None) -> str:
    """Return where a sensor's figure comes from in a word; the JSON object and --explain name the source."""
    if origin is None:
        return DASH
    word = origin.partition(":")[0].partition(",")[0]
    if word in WORDS_OF_ORIGIN:
        return WORDS_OF_ORIGIN[word]
    return "default" if word.startswith("a wide default") else "table"


def sensor_meaning(one: Mapping[str, Any]) -> str:
    """Return in plain words what a channel's values can show of a load, and how they were read."""
    period_s, window_s = one["sensor_period_s"], one["averaging_window_s"]
    if one["kind"] == "energy":
        words = ["A counter: its gain between two readings is known however the load moved, as far as its sensor saw."]
        if period_s:
            words.append(f"It moves every {duration(period_s)}; a shorter window's edges lie between its steps.")
    else:
        words = [
            f"A new value every {duration(period_s)}." if period_s else "How often it has a new value is not known."
        ]
        if window_s and period_s and window_s < ALIKE * period_s:
            words.append(
                f"Each is the mean of {duration(window_s)}: what happens in the rest of that time is in no value."
            )
        elif window_s and period_s and window_s * ALIKE > period_s:
            words.append(
                f"Each is the mean of the last {duration(window_s)}: a step of the load shows as a ramp that long."
            )
        elif window_s:
            words.append(f"Each is the mean of {duration(window_s)}, one after the other: nothing is left out.")
    if one["achieved_hz"]:
        seen = "" if one["stale_share"] is None else f", {100 * one['stale_share']:.0f} % of them the last value again"
        words.append(f"It was read {number(one['achieved_hz'])} times a second{seen}.")
    return " ".join(words)
