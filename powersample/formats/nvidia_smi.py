# SPDX-License-Identifier: Apache-2.0
"""`nvidia-smi --query-gpu=... --format=csv`: with and without units, with cells that are errors, in local time.

nvidia-smi exits with 0 whatever a cell says, and a loop goes on: `[GPU is lost]` is a failed reading, as one through
NVML would have been, and gets NVML's code. Local time repeats an hour when daylight saving ends: that step is undone,
and of any other step back it is told what it costs.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np

from powersample.errors import BadFormat
from powersample.formats.parsed import BAD_CELL, Parsed, as_text, continuous, counted, moment_ns, series_of, went_back
from powersample.model import Channel, Kind, Series

NOT_NUMBERS = {
    "[N/A]": 3,
    "N/A": 3,
    "[Not Supported]": 3,
    "[Insufficient Permissions]": 4,
    "[Timeout]": 10,
    "[GPU is lost]": 15,
    "[GPU requires reset]": 16,
    "[Unknown Error]": 999,
}
POWERS = {
    "power.draw": ("power.usage", "nvml.power_usage"),
    "power.draw.average": ("power.average", "nvml.field.185"),
    "power.draw.instant": ("power.instant", "nvml.field.186"),
    "module.power.draw.average": ("module.power.average", "nvml.field.185.module"),
    "module.power.draw.instant": ("module.power.instant", "nvml.field.186.module"),
}
UNITS = {"W": 1.0, "mW": 1e-3}
IDENTITIES = ("uuid", "gpu_uuid", "index", "pci.bus_id", "gpu_bus_id", "gpu_serial", "serial")
FAILED = "nvidia-smi itself failed"
FAILURES = (  # what it prints, to stdout, instead of a log
    "NVIDIA-SMI has failed",
    "Failed to initialize NVML",
    "Unable to determine the device handle",
    "No devices were found",
    'Field "',
)
HEADER = re.compile(r"^\s*timestamp\s*(,|$)")
CELL = re.compile(r"^([-+]?\d+(?:\.\d+)?)\s*(\S*)$")


def looks_like(head: str) -> bool:
    """Whether a file that begins so is such a log."""
    first = head.splitlines()[0] if head else ""
    return HEADER.match(first) is not None and "power.draw" in first


def why_not(head: str) -> str:
    """Return what a file that begins so lacks to be such a log; "" for nothing."""
    first = (head.splitlines() or [""])[0]
    if looks_like(head):
        return ""
    if failed := next((said for said in FAILURES if first.startswith(said)), None):
        return f"{FAILED} ({first.strip()[:80] or failed})"
    separator = next((name for sign, name in ((";", "semicolons"), ("\t", "tabs")) if sign in first), None)
    if "timestamp" in first and separator and "," not in first:
        return f"its columns are separated by {separator}, and nvidia-smi writes commas"
    if HEADER.match(first) is None:
        return "the first column is not `timestamp`: log with --query-gpu=timestamp,power.draw --format=csv"
    return "no column is a power: add power.draw, or power.draw.instant, to --query-gpu"


def parse(data: bytes, where: str) -> Parsed:
    """Return one power channel a GPU and power column.

    Args:
        data: the log.
        where: the file's name, for messages.

    Raises:
        BadFormat: a header without timestamp or power, a unit that is neither W nor mW, no line that can be read.
    """
    lines = as_text(data, where).splitlines()
    if why := why_not("\n".join(lines[:1])):
        raise BadFormat(f"{where}, line 1: this is no nvidia-smi log: {why}")
    names, units = zip(*(_split(cell) for cell in next(csv.reader([lines[0]]))), strict=True)
    powers = {i: name for i, name in enumerate(names) if name in POWERS}
    for i in powers:
        if units[i] and units[i] not in UNITS:
            raise BadFormat(f"{where}, line 1: {names[i]} is in {units[i]!r}; known are {', '.join(UNITS)}")
    wrong: Counter[str] = Counter()
    rows = _rows(lines, names, where, wrong)
    if not rows:
        raise BadFormat(f"{where}: no line below the header can be read")
    series, devices = [], []
    clock: list[tuple[str, str]] = []
    for index, (device, mine) in enumerate(rows.items()):
        t_ns, saving = continuous(np.array([row[0] for row in mine], np.int64), back_only=True)
        clock += [("info", note) for note in saving] + [("warning", note) for note in went_back(t_ns)]
        number = int(device) if device.isdigit() else index
        uuid = device if device.startswith("GPU-") else f"gpu{number}"
        devices.append({"uuid": uuid, "index": number, "name": _constant(mine, names, ("name", "gpu_name"))})
        for i, name in powers.items():
            made = _channel(f"gpu{number}", uuid, name, units[i], [row[1][i] for row in mine], t_ns, where)
            if made is not None:
                series.append(made)
    if not series:
        raise BadFormat(f"{where}: no power column holds a single number")
    meta: dict[str, Any] = {"devices": devices, "tool": "nvidia-smi"}
    if clock:
        meta["log_clock"] = [{"level": level, "what": what} for level, what in dict.fromkeys(clock)]
    driver = _constant(next(iter(rows.values())), names, ("driver_version",))
    if driver:
        meta["driver"] = driver
    return Parsed(tuple(series), "local", (), counted(wrong), meta)


def _rows(
    lines: list[str], names: tuple[str, ...], where: str, wrong: Counter[str]
) -> dict[str, list[tuple[int, list[str]]]]:
    """Return the lines that can be read, by GPU, as stamp and cells; counts the others in `wrong`."""
    identity = next((names.index(name) for name in IDENTITIES if name in names), None)
    rows: dict[str, list[tuple[int, list[str]]]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if len(cells) > len(names):
            raise BadFormat(
                f"{where}, line {number}: {len(cells)} cells under {len(names)} columns; are these decimal commas?",
                "Log again with LC_ALL=C.",
            )
        if len(cells) < len(names):
            wrong["cut last line is left out" if number == len(lines) else "lines with too few cells are left out"] += 1
        elif cells[0] == "timestamp":
            wrong["repeated header lines are left out"] += 1
        else:
            try:
                t_ns = _stamp_ns(cells[names.index("timestamp")])
            except ValueError:
                wrong["lines whose timestamp cannot be read are left out"] += 1
                continue
            rows.setdefault("" if identity is None else cells[identity], []).append((t_ns, cells))
    return rows


def _split(cell: str) -> tuple[str, str]:
    match = re.match(r"^\s*([^\s\[]+)\s*(?:\[(\S+)\])?\s*$", cell)
    return (match[1], match[2] or "") if match else (cell.strip(), "")


def _stamp_ns(text: str) -> int:
    try:
        return moment_ns(datetime.strptime(text, "%Y/%m/%d %H:%M:%S.%f").isoformat())
    except ValueError:
        return moment_ns(text)


def _constant(rows: list[tuple[int, list[str]]], names: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    column = next((names.index(name) for name in wanted if name in names), None)
    found = {cells[column] for _, cells in rows} if column is not None else set()
    return found.pop() if len(found) == 1 else None


def _channel(
    gpu: str, uuid: str, name: str, unit: str, cells: list[str], t_ns: np.ndarray[Any, Any], where: str
) -> Series | None:
    value, status = np.zeros(len(cells)), np.zeros(len(cells), np.uint16)
    for i, cell in enumerate(cells):
        match = CELL.match(cell)
        if match is None:
            status[i] = NOT_NUMBERS.get(cell, BAD_CELL)
            continue
        own = match[2] or unit or "W"
        if own not in UNITS:
            raise BadFormat(f"{where}: a cell of {name} is in {own!r}; known are {', '.join(UNITS)}")
        value[i] = float(match[1]) * UNITS[own]
    if np.all(status == 3):  # a column of [N/A]: this board has no such field
        return None
    short, sensor = POWERS[name]
    domain = "module" if name.startswith("module") else "gpu"
    channel = Channel(
        f"{gpu}.{short}", uuid, domain, Kind.POWER, "W", raw_dtype="float64", stamp="arrival", sensor=sensor
    )
    return series_of(channel, t_ns, value, status)
