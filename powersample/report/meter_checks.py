# SPDX-License-Identifier: Apache-2.0
"""Checks of a wall meter's record, as MLPerf's power flow makes them (mlcommons/power-dev, compliance/check.py).

Its tolerances: clocks 800 ms apart at most, 400 ms from NTP; every sample of the load known to 1 %; the range fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from powersample.formats.parsed import BACKWARDS
from powersample.formats.ptdaemon import HELLO, refused
from powersample.report.check import check

APART_S, NTP_S = 0.8, 0.4
UNSURE_PCT = 1.0
LESS = 0.05  # by which the mean of testing may be below the one of ranging
HOUR_NS = 3600 * 10**9
NOTHING_TO_STOP = "Error: no measurement to stop"  # by design: the flow stops once more than it starts
SENSOR = "ptdaemon"


def meter_checks(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is wrong or worth knowing of a PTDaemon log.

    Args:
        data: the report's JSON object, but for its checks.
    """
    powers = [one for one in data["channels"] if one["sensor"] == SENSOR and one["kind"] == "power"]
    if not powers:
        return
    wall = next((one for one in powers if one["domain"] == "wall"), powers[0])
    yield from _windows(data["windows"], wall)
    yield from _samples(data["windows"], wall)
    for note in data["meta"].get("daylight_saving") or ():
        yield check("PSM-HOUR", "warning", note, "Compare the stamps with another log of the run.")
    told = data["meta"].get("ptdaemon")
    if told is None:
        return
    yield from _zone(told)
    yield from _clocks(told)
    yield from _console(told.get("console"), data["windows"])
    yield from _dialogue(told["session"]["dialogue"])


def _windows(windows: Iterable[Mapping[str, Any]], wall: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each window lies inside the record; one that would an hour on is an hour wrong."""
    if wall["start_ns"] is None:
        return

    def inside(window: Mapping[str, Any], by_ns: int = 0) -> bool:
        return bool(wall["start_ns"] <= window["start_ns"] + by_ns and window["end_ns"] + by_ns <= wall["end_ns"])

    for window in windows:
        if inside(window):
            continue
        hours = next((one for one in (1, -1) if inside(window, one * HOUR_NS)), None)
        if hours is not None:
            what = f"window {window['name']!r} would lie inside the meter's record if it were {hours:+d} h"
            yield check(
                "PSM-HOUR", "error", what, "One of the two clocks is an hour wrong: daylight saving, or a zone."
            )
            continue
        before_s = max(0.0, (wall["start_ns"] - window["start_ns"]) / 1e9)
        after_s = max(0.0, (window["end_ns"] - wall["end_ns"]) / 1e9)
        what = f"window {window['name']!r} begins {before_s:.1f} s before the record, ends {after_s:.1f} s after it"
        yield check("PSM-WINDOW", "error", what, "Start the meter before the load, and stop it after.")


def _samples(windows: Iterable[Mapping[str, Any]], wall: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    windows = list(windows)
    repeated = wall["errors"].get(str(BACKWARDS), 0)
    if repeated:
        what = f"{repeated} samples of {wall['name']} have a stamp that does not come after the one before"
        yield check("PSM-STAMP", "warning", what, "They are left out; the clock of the meter's host was set, or stood.")
    gaps = [gap for gap in wall["gaps"] if any(_touches(gap, window) for window in windows)]
    if gaps:
        longest_s = max((gap["end_ns"] - gap["start_ns"]) / 1e9 for gap in gaps)
        what = f"{len(gaps)} gaps in the samples of the windows, {longest_s:.1f} s at most"
        yield check("PSM-GAP", "warning", what, "Look at the meter's console for what it did meanwhile.")


def _touches(span: Mapping[str, Any], window: Mapping[str, Any]) -> bool:
    return bool(span["start_ns"] <= window["end_ns"] and window["start_ns"] <= span["end_ns"])


def _zone(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    session = told["session"]
    true_s, stated_s = session["zone_s"], session["stated_zone_s"]
    if true_s is not None and stated_s is not None and true_s != stated_s:
        what = (
            f"the timezone field says {_utc(stated_s)}, the session's name {_utc(true_s)}: "
            "the field leaves daylight saving out"
        )
        yield check("PSM-ZONE", "warning", what, f"{_utc(told['zone_s'])} is used, by {told['zone_origin']}.")
    if not told["fits_its_phase"]:
        what = f"in {_utc(told['zone_s'])} the meter's record lies in no phase of its session"
        yield check("PSM-HOUR", "error", what, "The log is of another run, or its clock is wrong by an hour or more.")


def _utc(zone_s: int) -> str:
    hours, minutes = divmod(abs(zone_s) // 60, 60)
    return f"UTC{'-' if zone_s < 0 else '+'}{hours}" + (f":{minutes:02d}" if minutes else "")


def _clocks(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    session = told["session"]
    for phase, (client, server) in session["phases"].items():
        apart_s = max((abs(one - other) for one, other in zip(client, server, strict=False)), default=0.0)
        if apart_s > APART_S:
            what = f"client and server disagree by {apart_s * 1e3:.0f} ms about when {phase} began and ended"
            yield check("PSM-PHASE", "error", what, f"MLPerf accepts {APART_S * 1e3:.0f} ms: synchronise both by NTP.")
        elif len(client) != len(server):
            what = f"client and server tell {len(client)} and {len(server)} instants of {phase}"
            yield check("PSM-PHASE", "error", what, "One of their files is of another run, or cut short.")
    spans = [client for client, _ in session["phases"].values()]
    ahead = [one for one in session["clock"] if any(span and span[0] - 1 <= one["t_s"] <= span[-1] for span in spans)]
    if ahead:
        least, most = min(one["ahead_s"] for one in ahead), max(one["ahead_s"] for one in ahead)
        worst_s = max(abs(least), abs(most))
        what = f"the load's clock was {least * 1e3:+.0f} to {most * 1e3:+.0f} ms ahead of the meter's while they ran"
        level = "error" if worst_s > APART_S else "warning" if worst_s > NTP_S else "info"
        fix = "Synchronise both hosts by NTP before a run." if level != "info" else "Windows are moved by it."
        yield check("PSM-CLOCK", level, what, fix)
    offsets = [one for one in told["ntp"] if abs(one["offset_s"]) > NTP_S]
    if offsets:
        worst = max(offsets, key=lambda one: abs(one["offset_s"]))
        what = f"the {worst['host']} was {worst['offset_s']:+.3f} s off NTP"
        yield check("PSM-NTP", "error", what, f"MLPerf accepts {NTP_S * 1e3:.0f} ms.")


def _console(said: Mapping[str, Any] | None, windows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    if said is None:
        return
    if not said["uncertainty_checked"]:
        what = "the meter's console does not say that uncertainty was checked"
        yield check("PSM-UNCERTAINTY", "warning", what, "Start PTDaemon with a meter that it knows the uncertainty of.")
    touched = [one for one in said["troubles"] if any(_touches(one, window) for window in windows)]
    for one in touched:
        if one["what"] == "uncertainty unknown":
            what = f"{one['count']} samples around the windows have an unknown uncertainty"
        elif one["what"] != "uncertainty":
            what = f"{one['count']} times in the windows: {one['what']}"
            fix = "Its own words; compare with PTDaemon's manual."
            yield check("PSM-CONSOLE", "error" if one["level"] == "ERROR" else "warning", what, fix)
            continue
        elif one["worst_pct"] > UNSURE_PCT:
            what = f"{one['count']} samples around the windows are unsure by up to {one['worst_pct']:.2f} %"
        else:
            continue
        yield check("PSM-UNCERTAINTY", "error", what, f"MLPerf accepts {UNSURE_PCT:g} %: choose a range that fits.")
    means = {mark.rpartition("_")[2]: mean_w for mark, mean_w in said["mean_w"].items()}
    ranging, testing = means.get("ranging"), means.get("testing")
    if ranging and testing is not None and testing < (1 - LESS) * ranging:
        what = f"testing took {testing:.1f} W on average, ranging {ranging:.1f} W"
        yield check("PSM-MEAN", "warning", what, f"More than {LESS:.0%} less: was it the same load?")


def _dialogue(dialogue: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The range is fixed when testing starts, and no command failed but the last stop."""
    ranges = {"A": "Auto", "V": "Auto"}
    for command, reply in dialogue:
        if command.startswith("SR,") and not refused(reply):
            _, what, value = command.split(",", 2)
            ranges[what] = value
        if command.startswith("Go,") and not command.endswith("ranging"):
            for what, value in ranges.items():
                if value.lower() == "auto":
                    name = {"A": "current", "V": "voltage"}[what]
                    text = f"the meter chose its range of {name} by itself in {command.rpartition(',')[2]!r}"
                    yield check("PSM-RANGE", "warning", text, "A change of range loses samples: fix it before.")
        wrong = command == "Hello" and reply != HELLO
        if wrong or (refused(reply) and reply != NOTHING_TO_STOP):
            yield check("PSM-DIALOGUE", "warning", f"PTDaemon answers {command!r} with {reply!r}", "See its manual.")
