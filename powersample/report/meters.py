# SPDX-License-Identifier: Apache-2.0
"""What a report says of the meters that were recorded beside: who they are, what they miss, how sure they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from powersample.model import amount, duration
from powersample.report.check import check

MOST_PCT = 1.0  # limit of error of a reading: SPEC's and MLPerf's
LOSSES = {  # of one, and of several
    "garbage_bytes": ("1 byte of garbage", "{} bytes of garbage"),
    "bad_lines": ("1 line that was no reading", "{} lines that were no readings"),
    "bad_packets": ("1 packet that was no reading", "{} packets that were no readings"),
    "bad_answers": ("1 answer that was no reading", "{} answers that were no readings"),
    "timeouts": ("1 question without an answer", "{} questions without an answer"),
    "missed_periods": ("1 period that nobody asked in", "{} periods that nobody asked in"),
    "stale": ("1 answer that was the last one again", "{} answers that were the last one again"),
    "repeats": ("1 repeated reading", "{} repeated readings"),
    "dropped_bytes": ("1 byte that nobody took in time", "{} bytes that nobody took in time"),
    "reconnects": ("connected anew once", "connected anew {} times"),
    "clock_jumps": ("its clock was set once", "its clock was set {} times"),
    "errors": ("1 error at its end", "{} errors at its end"),
}


def meter_lines(meta: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence or two a meter.

    Args:
        meta: a trace's metadata.
    """
    for one in meta.get("meters") or ():
        words = [f"{one['maker']} {one['model']} {one['serial']}".strip()]
        if one["simulated"]:
            words[0] = f"SIMULATED {words[0]}"
        if one["cycle_s"]:
            words.append(f"cycles of {duration(one['cycle_s'])}")
        words.append(_accuracy(one["accuracy"]))
        words.append(_latency(one, meta))
        yield f"{one['name']}: {', '.join(words)}"
        if one["gaps"]:
            yield f"{one['name']}: {_gaps(one)}"
        counted = {key: count for key in LOSSES if (count := one["counts"].get(key))}
        counts = [LOSSES[key][count > 1].format(count) for key, count in counted.items()]
        if counts:
            yield f"{one['name']}: {', '.join(counts)}"
        yield from (f"{one['name']}: {note}" for note in one["notes"])


def own_causes(channel: dict[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a channel's JSON with its gaps and dropouts called by the causes that its meter's driver found."""
    known = [
        gap
        for one in meta.get("meters") or ()
        if any(each["name"] == channel["name"] for each in one["channels"])
        for gap in one["gaps"]
        if gap["end_ns"] is not None
    ]

    def named(span: dict[str, Any]) -> dict[str, Any]:
        touched = (gap for gap in known if gap["start_ns"] < span["end_ns"] and span["start_ns"] < gap["end_ns"])
        cause = next((gap["cause"] for gap in touched), span["cause"])
        return span | {"cause": cause if span["cause"] == "skipped" else span["cause"]}

    if not known:
        return channel
    return channel | {key: [named(span) for span in channel[key]] for key in ("gaps", "dropouts")}


def _accuracy(accuracy: Mapping[str, Any] | None) -> str:
    if accuracy is None:
        return "limits of error unknown"
    words = [f"{accuracy['reading_pct']:g} % of the reading"]
    if accuracy["range_pct"]:
        range_w = accuracy["range_w"]
        what = "an unknown range" if range_w is None else f"{amount(range_w, 4)} W"
        words.append(f"{accuracy['range_pct']:g} % of {what}")
    if accuracy["floor_w"]:
        words.append(f"{accuracy['floor_w']:g} W")
    return "good to " + " + ".join(words)


def _latency(one: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    fit = next(
        (meta.get("clock_fits", {}).get(each["name"]) for each in one["channels"] if meta.get("clock_fits")), None
    )
    if fit and fit.get("accepted"):
        return f"clock known to {duration(fit['lag_se_s'], 2)}"
    latest_s = one["latency_max_s"]
    if latest_s is None:
        return "clock not fitted, values late by an unknown time"
    return f"clock not fitted, values up to {duration(latest_s)} late"


def _gaps(one: Mapping[str, Any]) -> str:
    causes = Counter(gap["cause"] for gap in one["gaps"])
    missing = sum(gap["missing"] or 0 for gap in one["gaps"])
    ended_s = [(gap["end_ns"] - gap["start_ns"]) / 1e9 for gap in one["gaps"] if gap["end_ns"] is not None]
    longest = f", {duration(max(ended_s))} at most" if ended_s else ""
    to_the_end = ", the last to the record's end" if len(ended_s) < len(one["gaps"]) else ""
    by_cause = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items()))
    more = f" of {one['gaps_total']}" if one["gaps_total"] > len(one["gaps"]) else ""
    cycles = f", {missing} cycles in all" if missing else ""
    gaps = "gap" if len(one["gaps"]) == 1 else "gaps"
    return f"{len(one['gaps'])}{more} {gaps} ({by_cause}{cycles}){longest}{to_the_end}"


def recorded_meter_checks(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is wrong or worth knowing of the meters of a recording.

    Args:
        data: the report's JSON object, but for its checks.
    """
    for one in data["meta"].get("meters") or ():
        if one["simulated"] and not data["simulated_node"]:
            what = f"meter {one['name']} is SIMULATED: its values are no measurement"
            yield check("PSM-SIMULATED", "warning", what, "Name a real meter's port.")
        if one["gaps"]:
            yield check("PSM-GAP", "warning", f"meter {one['name']} has {_gaps(one)}", _gap_fix(one["gaps"]))
        yield from _unsure(one, data["windows"])


def _gap_fix(gaps: Iterable[Mapping[str, Any]]) -> str:
    causes = {gap["cause"] for gap in gaps}
    if causes & {"unplugged", "silent"}:
        return "Look at its plug and its power."
    return "Look at its cable and baud rate, and at the load of this machine."


def _unsure(one: Mapping[str, Any], windows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a check where the limit of error is above 1 % of a window's mean power."""
    total = one["channels"][0]["name"]
    accuracy = one["accuracy"]
    if accuracy is None or (accuracy["range_pct"] and accuracy["range_w"] is None):
        return
    worst = (0.0, "")
    for window in windows:
        joules = next((each["joules"] for each in window["energies"] if each["channel"] == total), None)
        if joules and window["duration_s"]:
            offset_w = accuracy["range_pct"] / 100 * (accuracy["range_w"] or 0.0) + accuracy["floor_w"]
            mean_w = joules / window["duration_s"]
            worst = max(worst, (accuracy["reading_pct"] + 100 * offset_w / mean_w, window["name"]))
    if worst[0] > MOST_PCT:
        what = f"meter {one['name']} is good to {amount(worst[0], 2)} % only in window {worst[1]!r}"
        yield check("PSM-UNCERTAINTY", "warning", what, f"A smaller range brings it below {MOST_PCT:g} %.")
