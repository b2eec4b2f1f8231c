# SPDX-License-Identifier: Apache-2.0
"""SPEC PTDaemon's sample log, `spl.txt`: names and values in turn, stamped with local time and no zone.

    Time,03-18-2021 21:29:10.371,Watts,491.400000,Volts,206.740000,Amps,2.478000,PF,0.959300,Mark,testing

Month before day; daemons of other locales write the day first, and only the user can know. Of a meter with several
channels the line goes on with `Ch1,Watts,...` for each of them, after their sum. A clock without a zone repeats an hour
when daylight saving ends, and leaves one out when it begins: a step of an hour, to a second or two, is taken for that.
"""

from __future__ import annotations

import math
import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from powersample.errors import BadFormat
from powersample.formats.parsed import BAD_CELL, Parsed, as_text, continuous, counted, series_of
from powersample.model import Channel, Kind

STAMP = re.compile(r"(\d\d)-(\d\d)-(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
GROUP = re.compile(r"Ch(\d+)$", re.IGNORECASE)
FIELDS = {  # PTDaemon's word: ours, kind, unit
    "Watts": ("power", Kind.POWER, "W"),
    "Volts": ("voltage", Kind.AUX, "V"),
    "Amps": ("current", Kind.AUX, "A"),
    "PF": ("power_factor", Kind.AUX, "1"),
}
UNREADABLE = "lines that cannot be read are left out"
EPOCH = datetime(1970, 1, 1)


@dataclass(slots=True)
class _Rows:
    """What was read so far, a column a channel group and word; NaN where a line has no number for it."""

    t_ns: array[int] = field(default_factory=lambda: array("q"))
    marks: list[str] = field(default_factory=list)
    columns: dict[tuple[int, str], array[float]] = field(default_factory=dict)

    def column(self, group: int, word: str) -> NDArray[np.float64]:
        """Return a column's values, as many as there are lines."""
        found = np.array(self.columns[group, word])
        return np.concatenate((found, np.full(len(self.t_ns) - len(found), math.nan)))


def looks_like(head: str) -> bool:
    """Whether a file that begins so is one."""
    first = (head.splitlines() or [""])[0]
    return first.startswith("Time,") and STAMP.match(first[5:]) is not None and ",Watts," in first


def stamp_ns(text: str, *, day_first: bool = False) -> int:
    """Return `03-18-2021 21:29:10.371` as ns since 1970 of a clock that has no zone.

    Raises:
        ValueError: it is no such stamp.
    """
    found = STAMP.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no MM-DD-YYYY hh:mm:ss.mmm")
    first, second, year, hour, minute, seconds = (int(one) for one in found.groups()[:6])
    month, day = (second, first) if day_first else (first, second)
    since = datetime(year, month, day, hour, minute, seconds) - EPOCH
    return (since.days * 86400 + since.seconds) * 10**9 + int((found[7] or "0").ljust(9, "0"))


def parse(data: bytes, where: str, *, day_first: bool = False) -> Parsed:
    """Return the power of the meter and of each of its channels, and what else the lines tell.

    Args:
        data: the log.
        where: the file's name, for messages.
        day_first: stamps are DD-MM-YYYY.

    Raises:
        BadFormat: no line can be read, or the stamps are days that `day_first` contradicts.
    """
    wrong: Counter[str] = Counter()
    rows = _Rows()
    lines = as_text(data, where).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _add(rows, line, day_first=day_first)
        except ValueError:
            wrong["cut last line is left out" if number == len(lines) else UNREADABLE] += 1
    if not rows.t_ns:
        raise BadFormat(f"{where} is no spl.txt of PTDaemon: no line holds a time and watts", _other_order(day_first))
    if wrong[UNREADABLE] > len(rows.t_ns):
        raise BadFormat(f"{where}: most lines have no date that exists", _other_order(day_first))
    t_ns, saving = continuous(np.array(rows.t_ns, np.int64))
    groups = sorted({group for group, _ in rows.columns})
    series = []
    for group in groups:
        device = "wall" if group == 0 else f"wall.ch{group}"
        domain = "wall" if group == 0 else "supply"  # the sum holds them
        for word, (name, kind, unit) in FIELDS.items():
            if (group, word) not in rows.columns:
                continue
            values = rows.column(group, word)
            good = np.isfinite(values)
            channel = Channel(
                f"{device}.{name}", device, domain, kind, unit, raw_dtype="float64", stamp="arrival", sensor="ptdaemon"
            )
            status = np.where(good, 0, BAD_CELL).astype(np.uint16)
            series.append(series_of(channel, t_ns, np.where(good, values, 0.0), status))
    notes = (*saving, *counted(wrong))
    meta = {"tool": "PTDaemon", "daylight_saving": list(saving)}
    return Parsed(tuple(series), "local", tuple(_phases(rows.marks, t_ns)), notes, meta)


def text(
    t_ns: NDArray[np.int64],
    watts: NDArray[np.float64],
    *,
    volts: NDArray[np.float64] | None = None,
    amps: NDArray[np.float64] | None = None,
    power_factor: NDArray[np.float64] | None = None,
    marks: Sequence[str],
) -> Iterator[str]:
    """Yield a log's lines, without their ends.

    Args:
        t_ns: shape (n,), ns since 1970 of the local clock that the log is to be on.
        watts: shape (n,); NaN is written as `nan`, as PTDaemon does.
        volts: likewise, V; like the others NaN where None.
        amps: A.
        power_factor: 0 to 1.
        marks: a label a sample, without commas.
    """
    absent = np.full(len(t_ns), np.nan)
    columns = [absent if one is None else one for one in (volts, amps, power_factor)]
    for at_ns, w, v, a, pf, mark in zip(t_ns.tolist(), watts, *columns, marks, strict=True):
        at_ms = round(at_ns / 1e6)
        stamp = f"{EPOCH + timedelta(milliseconds=at_ms):%m-%d-%Y %H:%M:%S}.{at_ms % 1000:03d}"
        yield f"Time,{stamp},Watts,{w:.6f},Volts,{v:.6f},Amps,{a:.6f},PF,{pf:.6f},Mark,{mark.replace(',', ';')}"


def _other_order(day_first: bool) -> str:
    return "Try it without --day-first." if day_first else "If its stamps begin with the day, say --day-first."


def _add(rows: _Rows, line: str, *, day_first: bool) -> None:
    """Add a line.

    Raises:
        ValueError: it is none, or it is cut.
    """
    cells = iter(line.strip().split(","))
    found: dict[tuple[int, str], str] = {}
    at_ns, mark, group = None, "", 0
    for name in cells:
        if channel := GROUP.match(name):
            group = int(channel[1])
            continue
        value = next(cells, None)
        if value is None:
            raise ValueError("a name without a value")
        if name == "Time":
            at_ns = stamp_ns(value, day_first=day_first)
        elif name == "Mark":
            mark = value
        elif name in FIELDS:
            found[group, name] = value
    if at_ns is None or (0, "Watts") not in found:
        raise ValueError("no time, or no watts")
    for key, text in found.items():
        column = rows.columns.setdefault(key, array("d"))
        column.extend([math.nan] * (len(rows.t_ns) - len(column)))
        column.append(_number(text))
    rows.t_ns.append(at_ns)
    rows.marks.append(sys.intern(mark))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _phases(marks: Iterable[str], t_ns: NDArray[np.int64]) -> Iterator[tuple[str, int, int]]:
    """Yield every run of one mark, from its first stamp to its last."""
    begun: tuple[str, int] | None = None
    last_ns = 0
    for mark, at_ns in zip(marks, t_ns.tolist(), strict=True):
        if begun is None or mark != begun[0]:
            if begun is not None and begun[0]:
                yield begun[0], begun[1], last_ns
            begun = mark, at_ns
        last_ns = at_ns
    if begun is not None and begun[0]:
        yield begun[0], begun[1], last_ns
