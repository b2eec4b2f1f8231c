# SPDX-License-Identifier: Apache-2.0
"""`report --explain`: for every window and device how the number came about, and what makes it unsure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

from powersample.analysis.interval import ORDER, verdict
from powersample.analysis.repeats import stem
from powersample.model import amount, duration
from powersample.report.many import crowds
from powersample.report.table import number, times
from powersample.report.words import badness, dropout, may_hide, place

WIDTH = 98
SHARE = 0.01  # of the squared half-width, below which a term is not worth a line
WORST = 5
VERDICTS = {
    "good": "good: the half-width is up to 5 %",
    "fair": "fair: the half-width is between 5 and 15 %",
    "poor": "poor: the half-width is between 15 and 50 %",
    "unusable": "unusable: do not quote this number",
    "unrated": "unrated: nothing is known of what this sensor may be off by",
}

MARKED = {
    "device": "Its edges are the host's, each once the accelerator had done what was queued.",
    "event": "Its edges are the accelerator's own, mapped to the host's clock to {} us (standard errors).",
}


def explain(data: Mapping[str, Any]) -> list[str]:
    """Return the notes of a report's JSON object as lines."""
    channels = {one["name"]: one for one in data["channels"]}
    lines: list[str] = []
    many = crowds(data["windows"])
    for window in (one for one in data["windows"] if stem(one["name"]) not in many):
        for energy in window["energies"]:
            if energy["primary"] or energy["joules"] is None:
                lines += [*_note(window, energy, channels.get(energy["channel"], {})), ""]
        lines += _node(window)
    if many:
        names = ", ".join(repr(name.strip()) for name in sorted(many))
        lines += [*wrap(f"No notes on the many windows called {names}; --windows NAME gives those of some.", WIDTH), ""]
    return lines


def _note(window: Mapping[str, Any], energy: Mapping[str, Any], channel: Mapping[str, Any]) -> Iterable[str]:
    name, joules = energy["channel"], energy["joules"]
    where = f"{window['name']}, {place(energy)[0]}"
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
    yield from _words(f"{_verdict(energy)}.")
    why = f"; it stands for the device because {energy['primary_reason']}" if energy["primary_reason"] else ""
    yield from _words(f"By {name}, {energy['method']}, {_updates(energy)}{why}.")
    if "unresolved" not in window["flags"] and (how := MARKED.get(window["marked"])):
        errors_us = [number(error_ns / 1e3) for error_ns in window["edge_errors_ns"]]
        yield from _words(how.format(" and ".join(errors_us)))
    yield from _words(sensor_words(channel))
    if joules and energy["low_j"] is not None:
        yield from _budget(energy)
    if energy["aliasing_excluded_by"]:
        yield from _words(
            "No load near the sensor's update period can hide behind it as far as this leaves room: "
            f"{energy['aliasing_excluded_by']}."
        )
    yield from _beside(energy)
    yield from _unread(window, energy, channel.get("sensor"))
    for reason in energy["reasons"]:
        yield from _words(reason)


def _verdict(energy: Mapping[str, Any]) -> str:
    """Return the verdict in words: what the half-width makes of it, or that a reason makes it worse than that."""
    told, joules = str(energy["verdict"]), energy["joules"]
    if joules is not None and energy["low_j"] is not None and told in ORDER:
        half_j = max(energy["high_j"] - joules, joules - energy["low_j"])
        if (wide := verdict(half_j, joules)) != told:
            codes = ", ".join(dict.fromkeys(reason.partition(" ")[0] for reason in energy["reasons"]))
            return f"{told}: a reason below ({codes}) makes it so; its half-width alone would make it {wide}"
    return VERDICTS.get(told, told)


def _node(window: Mapping[str, Any]) -> Iterable[str]:
    """Yield how the whole node's energy came about; nothing where only a meter, or nothing, tells it."""
    one = window["holistic"]
    if one["total_j"] is None or one["low_j"] is None:
        return
    yield from wrap(
        f"{window['name']}, whole node: {number(one['total_j'])} J over {number(window['duration_s'])} s; the truth "
        f"lies between {number(one['low_j'])} and {number(one['high_j'])} J 95 times in 100.",
        WIDTH,
    )
    parts = ", ".join(f"{name} {number(joules)} J" for name, joules in one["components_j"].items())
    yield from _words(
        f"{_verdict(one | {'joules': one['total_j']})}. Of it measured: {parts}; by the calibration "
        f"{number(one['uncaptured_j'])} J."
    )
    yield from _budget({"joules": one["total_j"], "budget": one["budget"]}, many=False)
    for reason in one["reasons"]:
        yield from _words(reason)
    yield ""


def _unread(window: Mapping[str, Any], energy: Mapping[str, Any], sensor: str | None) -> Iterable[str]:
    worst, total = sorted(energy["dropouts"], key=badness)[:WORST], energy["dropouts_total"]
    if not worst:
        return
    often = times(total)
    if not any(map(may_hide, worst)):
        longest_s = max(one["end_ns"] - one["start_ns"] for one in worst) / 1e9
        kept = "no energy was lost" if energy["method"] == "counter difference" else "power was the same on both sides"
        yield from _words(f"Published and not read, {often}, for {number(longest_s)} s at most; {kept}.")
        return
    yield from _words(f"Published and not read, {often}{'' if total == len(worst) else '; the worst'}:")
    for one in sorted(worst, key=lambda one: int(one["start_ns"])):
        yield from wrap(
            dropout(one, window["start_ns"], sensor), WIDTH, initial_indent="    ", subsequent_indent="      "
        )


def _updates(energy: Mapping[str, Any]) -> str:
    of = "" if energy["updates_expected"] is None else f" of about {energy['updates_expected']}"
    stale = "" if energy["stale_share"] is None else f", {amount(100 * energy['stale_share'])} % of its polls stale"
    return f"{energy['updates']}{of} updates seen within{stale}"


def sensor_words(channel: Mapping[str, Any]) -> str:
    """Return what a channel's sensor does, as far as anybody says: how often it publishes, over what it averages."""
    if channel.get("meter"):
        cycle_s = channel["averaging_window_s"]
        own = f"each value averages its own cycle, nominally {duration(cycle_s or 0.0, 4)}"
        return f"Meter: {channel['meter']}; {own if cycle_s else 'its values are taken for instants'}."
    origin = channel.get("sensor_origin") or {}
    if not origin:
        return f"Sensor: {channel.get('sensor') or 'unnamed'}; no table speaks of it."
    parts = []
    if channel.get("sensor_period_s"):
        parts.append(f"publishes every {duration(channel['sensor_period_s'], 4)} ({channel['sensor_period_origin']})")
    if channel.get("averaging_window_s"):
        source = channel["averaging_window_origin"]
        parts.append(f"each value averages {duration(channel['averaging_window_s'], 4)} ({source})")
    parts.append(f"gain of such boards: {origin.get('gain_sd', 'unknown')}")
    return f"Sensor: {'; '.join(parts)}."


def _budget(energy: Mapping[str, Any], *, many: bool = True) -> Iterable[str]:
    """Yield the terms; of a device, whose windows are `many`, also what it is off by in all of them alike."""
    joules, terms = energy["joules"], energy["budget"]
    total = math.fsum(one["value_j"] ** 2 for one in terms if one["kind"] != "bound")
    known = sorted(terms, key=lambda one: -one["value_j"])
    shown = [one for one in known if one["value_j"] and (one["kind"] == "bound" or one["value_j"] ** 2 > SHARE * total)]
    if shown:
        yield from _words("What it may be off by, each alone, 95 %:")
    for one in shown:
        bound = " (a bound, added in full)" if one["kind"] == "bound" else ""
        shared = " (the same in all windows of this board)" if one["kind"] == "gain" and many else ""
        share = f"{amount(100 * one['value_j'] / joules, 2):>6} %"
        yield f"    {one['term']:<28} {number(one['value_j']):>9} J  {share}{bound}{shared}"
    own = math.sqrt(math.fsum(one["value_j"] ** 2 for one in terms if one["kind"] == "standard"))
    if many and any(one["kind"] == "gain" and one["value_j"] for one in terms):
        yield from _words(
            "Beside another window of this board gain cancels: then its own part is "
            f"+-{amount(100 * own / joules, 2)} %."
        )


def _beside(energy: Mapping[str, Any]) -> Iterable[str]:
    """Yield how far the device's other channels say another energy."""
    for one in energy["crosschecks"]:
        sign = "more" if one["residual_j"] > 0 else "less"
        yield from _words(
            f"{number(abs(one['residual_j']))} J {sign} than {one['channel']} says; the two may differ by "
            f"{number(one['budget_j'])} J, the gain that they share left out{'' if one['agrees'] else ': TOO MUCH'}."
        )


def _words(text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
