# SPDX-License-Identifier: Apache-2.0
"""Instants and windows that a user names: seconds from the first sample, or an ISO 8601 time."""

from __future__ import annotations

import csv
import math
import os
from datetime import datetime
from pathlib import Path

from powersample.errors import BadFormat, InputNotFound, InvalidArgument
from powersample.formats import mllog
from powersample.formats.parsed import moment_ns
from powersample.model import Trace, Window
from powersample.readers.ptdaemon import power_windows

HEADER = ["name", "start", "end"]


def instant_ns(text: str, trace: Trace) -> int:
    """Return an instant on the trace's clock.

    Args:
        text: seconds from the first sample ("12.5"), or an ISO 8601 time; without a zone it is UTC where the trace's
            clock is, and the log's own clock where that has none.
        trace: the recording.

    Raises:
        InvalidArgument: neither, a zone where the log's clock has none, or a time of day where it has no date.
    """
    start_ns = trace.start_ns
    if start_ns is None:
        raise InvalidArgument("the trace is empty: no instant can be named in it")
    try:
        seconds = float(text)
    except ValueError:
        return _moment(text, trace)
    if not math.isfinite(seconds):
        raise InvalidArgument(f"{text!r} is no number of seconds")
    return start_ns + round(seconds * 1e9)


def _moment(text: str, trace: Trace) -> int:
    try:
        t_ns = moment_ns(text)
        zoned = datetime.fromisoformat(text.strip()).tzinfo is not None
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is neither seconds from the first sample nor an ISO 8601 time",
            "Write 12.5, or 2026-11-25T20:15:00.",
        ) from None
    clock = trace.meta.get("clock")
    if clock == "local" and zoned:
        raise InvalidArgument(f"{text!r} names a zone and this log's clock has none", "Leave the zone out.")
    if clock == "start" or (clock is None and not trace.anchors):
        raise InvalidArgument("this record does not know the time of day", "Give seconds from the first sample.")
    if clock is None:  # our own: CLOCK_MONOTONIC, with anchors
        nearest = min(trace.anchors, key=lambda one: abs(one.realtime_ns - t_ns))
        return t_ns - nearest.realtime_ns + nearest.monotonic_ns
    return t_ns


def read_windows(path: str | os.PathLike[str], trace: Trace) -> list[Window]:
    """Return the windows of a CSV with the header `name,start,end`, in the forms of `instant_ns`, or of an MLPerf log.

    Raises:
        InputNotFound: there is no such file.
        BadFormat: another header, or a line that is no window; names file and line.
        InvalidArgument: an MLPerf log whose times cannot be told on the trace's clock.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise BadFormat(f"{path} is no windows file: {error}") from error
    if mllog.looks_like(text):
        return power_windows(path, text.encode(), trace)
    lines = csv.reader(text.splitlines())
    rows = [(number, [cell.strip() for cell in cells]) for number, cells in enumerate(lines, 1) if cells]
    if not rows or rows[0][1] != HEADER:
        raise BadFormat(f"{path}, line 1: the header must be {','.join(HEADER)!r}")
    windows = []
    for number, cells in rows[1:]:
        if len(cells) != len(HEADER):
            raise BadFormat(f"{path}, line {number}: {len(cells)} cells instead of name, start and end")
        try:
            start_ns, end_ns = instant_ns(cells[1], trace), instant_ns(cells[2], trace)
        except InvalidArgument as error:
            raise BadFormat(f"{path}, line {number}: {error}") from error
        if end_ns < start_ns:
            raise BadFormat(f"{path}, line {number}: {cells[0]!r} ends before it starts")
        windows.append(Window(cells[0], start_ns, end_ns, (), f"{path.name}, line {number}"))
    return windows
