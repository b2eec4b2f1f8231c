# SPDX-License-Identifier: Apache-2.0
"""Which window a report's text begins with, and which lie wholly after the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from powersample.analysis.repeats import stem
from powersample.model import Window
from powersample.report.many import crowds
from powersample.report.table import cut

RUN = "run"
MOST_NAMED = 3


def led(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None, list[Mapping[str, Any]]]:
    """Return a report as its text tells it, the window that comes first, and those that the record says nothing of.

    The first window is the one that holds all others; else the whole record, where nobody marked a "run"; else the run;
    else the longest one that has an energy.

    Args:
        data: a report's JSON object.

    Returns:
        The object with the windows that are told, the first one of them, None where there is none; and the others, in
        none of which anything was read.
    """
    windows = data["windows"]
    end_ns = max((one["end_ns"] for one in data["channels"] if one["end_ns"] is not None), default=None)
    gone = [one for one in windows if end_ns is not None and one["start_ns"] >= end_ns]
    if len(gone) == len(windows):
        return data, whole_window(windows), []
    many = crowds(windows) if gone else set()  # whose lacking ones are counted in their row
    late = [one for one in gone if stem(one["name"]) not in many]
    inside = [one for one in windows if one not in gone] if gone else windows
    first = whole_window(inside) or data["record"]
    if first is None:
        runs = [one for one in inside if one["name"] == RUN]
        first = runs[0] if len(runs) == 1 else max(inside, key=_length)
    shown = [one for one in windows if one not in late] if late else windows
    return {**data, "windows": [first, *shown] if first is data["record"] else shown}, first, late


def whole_window(windows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the first window that holds all others, None where none does."""
    start_ns = min((one["start_ns"] for one in windows), default=0)
    end_ns = max((one["end_ns"] for one in windows), default=0)
    return next((one for one in windows if one["start_ns"] == start_ns and one["end_ns"] == end_ns), None)


def record_window(windows: Sequence[Window], record: Window | None) -> Window | None:
    """Return the whole record where none of its windows can stand for it: none holds all others, and none is the run.

    Args:
        windows: what was marked.
        record: of `run_window`.
    """
    inside = [] if record is None else [one for one in windows if one.start_ns < record.end_ns]
    if not inside or any(one.name == RUN for one in inside):
        return None
    ends = min(one.start_ns for one in inside), max(one.end_ns for one in inside)
    return None if any((one.start_ns, one.end_ns) == ends for one in inside) else record


def late_words(late: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence on windows that were marked after the record's end; none where there are none."""
    if not late:
        return
    names = ", ".join(cut(one["name"], 24) for one in late[:MOST_NAMED])
    more = f" and {len(late) - MOST_NAMED} more" if len(late) > MOST_NAMED else ""
    what = "windows were" if len(late) > 1 else "window was"
    yield f"note: {len(late)} {what} marked after the record's end and cannot be told: {names}{more}"


def _length(window: Mapping[str, Any]) -> tuple[bool, float]:
    return any(one["primary"] for one in window["energies"]), window["duration_s"]
