# SPDX-License-Identifier: Apache-2.0
"""Sentences of a report, without a page's width: what its text and its HTML both say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from powersample.report.clock_fits import clock_fit_line
from powersample.report.meters import meter_lines
from powersample.report.table import DASH, number
from powersample.sensors import code_words

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
    return [f"SIMULATED NODE {node.get('profile', '')}".rstrip() + ", not a measurement", *load]


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


def coded_reasons(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield each code that a shown energy or its total bears once, with the first case and their number."""
    found: dict[str, list[str]] = {}
    for window in data["windows"]:
        shown = [(one["channel"], one["reasons"]) for one in window["energies"] if one["primary"] or not one["joules"]]
        told = window["totals"]["reasons"]
        shown.append(("whole node", [one for one in window["holistic"]["reasons"] if one not in told]))
        for source, reasons in [*shown, ("total", window["totals"]["reasons"])]:
            for reason in reasons:
                code, _, words = reason.partition(" ")
                found.setdefault(code, []).append(f"{window['name']}, {source}: {words}")
    for code, cases in sorted(found.items()):
        more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
        yield f"{code} {cases[0]}{more}"


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
