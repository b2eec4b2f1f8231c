# SPDX-License-Identifier: Apache-2.0
"""`report --explain`: for every window and device how the number came about, and what makes it unsure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

from powersample.report.table import number

WIDTH = 98
SHARE = 0.01  # of the squared half-width, below which a term is not worth a line
SHARED = ("gain", "offset")
VERDICTS = {
    "good": "good: the half-width is up to 5 %",
    "fair": "fair: the half-width is between 5 and 15 %",
    "poor": "poor: the half-width is between 15 and 50 %, or a fault of the window caps it",
    "unusable": "unusable: do not quote this number",
    "unrated": "unrated: nothing is known of what this sensor may be off by",
}


def explain(data: Mapping[str, Any]) -> list[str]:
    """Return the notes of a report's JSON object as lines."""
    channels = {one["name"]: one for one in data["channels"]}
    lines: list[str] = []
    for window in data["windows"]:
        for energy in window["energies"]:
            if energy["primary"] or energy["joules"] is None:
                lines += [*_note(window, energy, channels.get(energy["channel"], {})), ""]
    return lines


def _note(window: Mapping[str, Any], energy: Mapping[str, Any], channel: Mapping[str, Any]) -> Iterable[str]:
    name, joules = energy["channel"], energy["joules"]
    where = f"{window['name']}, {name.partition('.')[0]}"
    if joules is None:
        yield from wrap(f"{where}: {name} tells no energy of these {number(window['duration_s'])} s.", WIDTH)
    elif energy["low_j"] is None:
        yield from wrap(
            f"{where}: {number(joules)} J over {number(window['duration_s'])} s, without an interval.", WIDTH
        )
    else:
        yield from wrap(
            f"{where}: {number(joules)} J over {number(window['duration_s'])} s; the truth lies between "
            f"{number(energy['low_j'])} and {number(energy['high_j'])} J 95 times in 100.",
            WIDTH,
        )
    yield from _words(VERDICTS.get(energy["verdict"], energy["verdict"]) + ".")
    why = f"; it stands for the device because {energy['primary_reason']}" if energy["primary_reason"] else ""
    yield from _words(f"By {name}, {energy['method']}, {energy['updates']} updates within{why}.")
    yield from _sensor(channel)
    if joules and energy["low_j"] is not None:
        yield from _budget(energy)
    for reason in energy["reasons"]:
        yield from _words(reason)


def _sensor(channel: Mapping[str, Any]) -> Iterable[str]:
    origin = channel.get("sensor_origin") or {}
    if not origin:
        yield from _words(f"Sensor: {channel.get('sensor') or 'unnamed'}; no table speaks of it.")
        return
    parts = []
    if channel.get("update_period_s"):
        parts.append(f"told something new every {1e3 * channel['update_period_s']:.3g} ms here")
    if channel.get("averaging_window_s"):
        source = origin.get("window_s", "its own word")
        parts.append(f"each value averages {1e3 * channel['averaging_window_s']:.4g} ms ({source})")
    parts.append(f"gain of such boards: {origin.get('gain_sd', 'unknown')}")
    yield from _words(f"Sensor: {'; '.join(parts)}.")


def _budget(energy: Mapping[str, Any]) -> Iterable[str]:
    joules, terms = energy["joules"], energy["budget"]
    total = math.fsum(one["value_j"] ** 2 for one in terms if one["kind"] != "bound")
    known = sorted(terms, key=lambda one: -one["value_j"])
    shown = [one for one in known if one["value_j"] and (one["kind"] == "bound" or one["value_j"] ** 2 > SHARE * total)]
    if shown:
        yield from _words("What it may be off by, each alone, 95 %:")
    for one in shown:
        bound = " (a bound, added in full)" if one["kind"] == "bound" else ""
        shared = " (the same in all windows of this board)" if one["term"] in SHARED else ""
        share = f"{100 * one['value_j'] / joules:6.2g} %"
        yield f"    {one['term']:<28} {number(one['value_j']):>9} J  {share}{bound}{shared}"
    own = math.sqrt(math.fsum(one["value_j"] ** 2 for one in terms if one["kind"] == "standard"))
    if any(one["term"] in SHARED and one["value_j"] for one in terms):
        yield from _words(
            f"Beside another window of this board gain cancels: then its own part is +-{100 * own / joules:.2g} %."
        )


def _words(text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
