# SPDX-License-Identifier: Apache-2.0
"""Node power in MLPerf's log lines (`:::MLLOG {json}`): `power_reading` in W, windows from run_start to run_stop.

`power_measurement_stop` carries the start's time, so it bounds nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from powersample.errors import BadFormat
from powersample.formats.parsed import BAD_CELL, Parsed, as_text, counted, series_of
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
    for line in as_text(data, where).splitlines():
        _, found, rest = line.partition(MARK)
        if not found:
            continue
        try:
            entry: dict[str, Any] = json.loads(rest)
            key, t_ns = entry["key"], int(entry["time_ms"]) * 1_000_000
        except (ValueError, KeyError, TypeError):
            wrong["MLLOG lines that are no JSON or lack key and time are left out"] += 1
            continue
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
