# SPDX-License-Identifier: Apache-2.0
"""A CSV of power or energy whose header carries units.

Columns: `t_s`, `t_ns` ... or `time_iso`; `power_w`, `energy_j` ...; optionally `channel` and `device`. The same by
other people's habits: a word for the quantity (`WORDS`), then its unit in brackets or behind an underscore, `Time (s)`,
`power [mW]`, `Energy_kWh`; the letters of units count, since MW is not mW. The header's own tab, else semicolon, else
comma separates. Other names are declared: {"time": "t_s", "P": "power_mw"}. Numbers have decimal points: a decimal
comma is an error that says so.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from powersample.errors import BadFormat
from powersample.formats.parsed import BAD_CELL, Parsed, as_text, counted, moment_ns, series_of
from powersample.model import Channel, Kind

TIMES = {"t_s": 1e9, "t_ms": 1e6, "t_us": 1e3, "t_ns": 1.0}
STAMP = "time_iso"
POWERS = {"power_w": 1.0, "power_mw": 1e-3, "power_kw": 1e3}
ENERGIES = {"energy_j": 1.0, "energy_mj": 1e-3, "energy_uj": 1e-6, "energy_wh": 3600.0, "energy_kwh": 3.6e6}
SEPARATORS = ("\t", ";", ",")
WORDS = {"t": "t", "time": "t", "elapsed": "t", "elapsed time": "t", "power": "power", "p": "power", "energy": "energy"}
UNIT = re.compile(r"^(?P<word>.*?)(?:\s*[\[(]\s*(?P<bracket>[^\])]+?)\s*[\])]|[_ ](?P<bare>\w+))$")
COMMA = re.compile(r"^[-+]?\d+,\d+$")
UNITS = ("mW", "W", "kW", "J", "mJ", "uJ", "Wh", "kWh")
KNOWN = (*TIMES, STAMP, *POWERS, *ENERGIES, "channel", "device")


def looks_like(head: str) -> bool:
    """Whether a file that begins so needs no declaration."""
    columns = [meaning_of(cell) for cell in header_of(head)[0]]
    return any(one in columns for one in (*TIMES, STAMP)) and any(one in columns for one in (*POWERS, *ENERGIES))


def header_of(head: str) -> tuple[list[str], str]:
    """Return a file's column names and what separates them."""
    first = (head.splitlines() or [""])[0]
    separator = next((one for one in SEPARATORS if one in first), ",")
    return [cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])], separator


def meaning_of(name: str) -> str:
    """Return our word for a column, "t_s" for "Time (s)"; the name itself where it says no quantity and unit."""
    if name in KNOWN:
        return name
    if (found := UNIT.match(name)) is None:
        return name
    quantity = WORDS.get(found["word"].strip().lower().replace("_", " "))
    unit = (found["bracket"] or found["bare"]).replace("\u00b5", "u").replace("\u03bc", "u")
    if quantity is None or (unit != unit.lower() and unit not in UNITS):
        return name
    return f"{quantity}_{unit.lower()}" if f"{quantity}_{unit.lower()}" in KNOWN else name


def why_not(head: str) -> str:
    """Return what a file that begins so lacks to need no declaration; "" for nothing."""
    if looks_like(head):
        return ""
    names, separator = header_of(head)
    columns = [meaning_of(name) for name in names]
    lacks = [
        f"no column of {what} (one of {', '.join(wanted)}; or {habit})"
        for what, wanted, habit in (
            ("time", (*TIMES, STAMP), "`time (s)`"),
            ("power or energy", (*POWERS, *ENERGIES), "`power (W)`"),
        )
        if not any(one in columns for one in wanted)
    ]
    apart = {"\t": "tabs", ";": "semicolons", ",": "commas"}[separator]
    shown = ", ".join(repr(name[:20]) for name in names[:6]) + (" ..." if len(names) > 6 else "")
    return f"{' and '.join(lacks)}; separated by {apart}, its columns are {shown}"


def parse(data: bytes, where: str, columns: Mapping[str, str] | None = None) -> Parsed:
    """Return one series a channel.

    Args:
        data: the file.
        where: its name, for messages.
        columns: what columns of other names are, by name.

    Raises:
        BadFormat: no or two columns of time or of power and energy, an unknown declaration, decimal commas.
    """
    lines = as_text(data, where).splitlines()
    header, separator = header_of("\n".join(lines[:1]))
    declared = dict(columns or {})
    if unknown := [name for name in declared.values() if name not in KNOWN]:
        raise BadFormat(f"{unknown[0]!r} is no column that can be declared; there are {', '.join(KNOWN)}")
    if missing := [name for name in declared if name not in header]:
        raise BadFormat(f"{where}, line 1: there is no column {missing[0]!r}; there are {', '.join(header)}")
    meaning = [declared.get(name) or meaning_of(name) for name in header]
    time = _one(meaning, (*TIMES, STAMP), "time", where)
    value = _one(meaning, (*POWERS, *ENERGIES), "power or energy", where)
    names = meaning.index("channel") if "channel" in meaning else None
    devices = meaning.index("device") if "device" in meaning else None
    wrong: Counter[str] = Counter()
    rows: dict[tuple[str, str], list[tuple[int, float, int]]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
        if len(cells) > len(header):
            raise BadFormat(
                f"{where}, line {number}: {len(cells)} cells under {len(header)} columns; are these decimal commas?",
                "Write decimal points.",
            )
        if len(cells) < len(header):
            wrong["lines with too few cells are left out"] += 1
            continue
        if comma := next((cells[i] for i in (time, value) if COMMA.match(cells[i])), None):
            raise BadFormat(f"{where}, line {number}: {comma} has a decimal comma", "Write decimal points.")
        t_ns = _time_ns(cells[time], meaning[time])
        if t_ns is None:
            wrong["lines whose time cannot be read are left out"] += 1
            continue
        number_, status = _number(cells[value])
        channel = cells[names] if names is not None else ""
        device = cells[devices] if devices is not None else ""
        rows.setdefault((channel, device), []).append((t_ns, number_, status))
    if not rows:
        raise BadFormat(f"{where}: no line below the header can be read")
    power = meaning[value] in POWERS
    kind, unit, scale = (
        (Kind.POWER, "W", POWERS[meaning[value]]) if power else (Kind.ENERGY, "J", ENERGIES[meaning[value]])
    )
    series = []
    for (name, device), mine in rows.items():
        channel_ = Channel(
            name or ("power" if power else "energy"), device or name or "device", "wall", kind, unit, scale,
            raw_dtype="float64", stamp="instant", sensor="csv",
        )  # fmt: skip
        t, v, s = zip(*mine, strict=True)
        series.append(series_of(channel_, np.array(t, np.int64), np.array(v), np.array(s, np.uint16)))
    clock = "utc" if meaning[time] == STAMP else "start"
    return Parsed(tuple(series), clock, (), counted(wrong), {"tool": "csv"})


def _one(meaning: list[str], wanted: tuple[str, ...], what: str, where: str) -> int:
    found = [i for i, name in enumerate(meaning) if name in wanted]
    if len(found) != 1:
        raise BadFormat(
            f"{where}, line 1: {len(found)} columns of {what}; exactly one of {', '.join(wanted)} is needed",
            "Name the columns so, or declare them: --columns time=t_s,P=power_w.",
        )
    return found[0]


def _time_ns(cell: str, meaning: str) -> int | None:
    try:
        if meaning == STAMP:
            return moment_ns(cell)
        if meaning == "t_ns":
            return int(cell)
        seconds = float(cell)
        return round(seconds * TIMES[meaning]) if math.isfinite(seconds) else None
    except ValueError:
        return None


def _number(cell: str) -> tuple[float, int]:
    try:
        value = float(cell)
    except ValueError:
        return 0.0, BAD_CELL
    return (value, 0) if math.isfinite(value) else (0.0, BAD_CELL)
