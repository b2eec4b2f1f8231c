# SPDX-License-Identifier: Apache-2.0
"""Node power in MLPerf's log lines (`:::MLLOG {json}`): `power_reading` in W, windows from run_start to run_stop.

`power_measurement_stop` carries the start's time, so it bounds nothing. The load generator's power_begin and power_end
hold local time as a string in `value`; their `time_ms` is a count of its own, and the same in both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from powersample.errors import BadFormat
from powersample.formats.parsed import BAD_CELL, Parsed, as_text, counted, series_of
from powersample.formats.spl import stamp_ns
from powersample.model import Channel, Kind

MARK = ":::MLLOG"


def looks_like(head: str) -> bool:
    """Whether a file that begins so holds such lines."""
    return MARK in head


def parse(data: bytes, where: str) -> Parsed:
    """Return the node's power, and the run as a window where the log marks it.

    Raises:
        BadFormat: no line is a power reading and none marks a run.
    """
    wrong: Counter[str] = Counter()
    readings: list[tuple[int, float, int]] = []
    marks: dict[str, int] = {}
    for entry in _entries(as_text(data, where), wrong):
        key, t_ns = entry["key"], int(entry["time_ms"]) * 1_000_000
        if key == "power_reading":
            value = entry.get("value")
            if isinstance(value, int | float) and not isinstance(value, bool):
                readings.append((t_ns, float(value), 0))
            else:
                readings.append((t_ns, 0.0, BAD_CELL))
        elif key in ("run_start", "run_stop"):
            marks.setdefault(key, t_ns)
    windows: tuple[tuple[str, int, int], ...] = ()
    if len(marks) == 2 and marks["run_stop"] > marks["run_start"]:
        windows = (("run", marks["run_start"], marks["run_stop"]),)
    if not readings and not windows:
        raise BadFormat(f"{where} holds neither power readings nor a run in MLLOG lines")
    channel = Channel(
        "node.power", "node", "wall", Kind.POWER, "W", raw_dtype="float64", stamp="instant", sensor="mllog"
    )
    stamps = np.array([one[0] for one in readings], np.int64)
    watts, status = np.array([one[1] for one in readings]), np.array([one[2] for one in readings], np.uint16)
    series = series_of(channel, stamps, watts, status)
    return Parsed((series,), "utc", windows, counted(wrong), {"tool": "MLPerf"})


def power_windows(data: bytes, where: str) -> list[tuple[int, int]]:
    """Return every span from power_begin to power_end, ns since 1970 of the load generator's local clock.

    Raises:
        BadFormat: a begin without an end, an end without a begin, or a time that is none.
    """
    found: list[tuple[int, int]] = []
    begun: int | None = None
    for entry in _entries(as_text(data, where), Counter()):
        if entry["key"] not in ("power_begin", "power_end"):
            continue
        try:
            at_ns = stamp_ns(str(entry.get("value")))
        except ValueError as error:
            raise BadFormat(f"{where}: {entry['key']} says {error}") from error
        if (begun is None) != (entry["key"] == "power_begin"):
            raise BadFormat(f"{where}: {entry['key']} twice in a row, or without a power_begin before it")
        if begun is None:
            begun = at_ns
        else:
            found.append((begun, at_ns))
            begun = None
    if begun is not None:
        raise BadFormat(f"{where}: power_begin has no power_end: the run was cut short")
    return found


def _entries(text: str, wrong: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the object of every line that has a key and a time; counts the others in `wrong`."""
    for line in text.splitlines():
        _, found, rest = line.partition(MARK)
        if not found:
            continue
        try:
            entry: dict[str, Any] = json.loads(rest)
            int(entry["time_ms"]), entry["key"]
        except (ValueError, KeyError, TypeError, OverflowError):
            wrong["MLLOG lines that are no JSON or lack key and time are left out"] += 1
            continue
        yield entry
