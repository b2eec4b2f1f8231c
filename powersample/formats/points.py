# SPDX-License-Identifier: Apache-2.0
"""A table of operating points that somebody measured: a CSV, a row each, whose columns are told by name.

Powers in W with decimal points; the header's own tab, else semicolon, else comma separates.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from powersample.errors import BadFormat, InvalidArgument
from powersample.formats.parsed import as_text
from powersample.formats.power_csv import COMMA, header_of
from powersample.model import OperatingPoint
from powersample.model.calibration import GROUPS, KERNELS

IDLE, OTHER = "idle", "other"
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
NAMED = 5  # lines that a note names


@dataclass(frozen=True, slots=True)
class PointColumns:
    """Which column is what.

    Attributes:
        wall: power at the wall.
        components: by group of `GROUPS`; several columns of a group add up.
        load: the load's name; None: each row is a load of its own.
        level: in percent; None: as the name says it ("primes 50 %").
        samples: how many readings a row is the mean of.
        idle: the idle node's name in `load`, letters' case aside.
    """

    wall: str
    components: Mapping[str, tuple[str, ...]]
    load: str | None = None
    level: str | None = None
    samples: str | None = None
    idle: str = IDLE

    def __post_init__(self) -> None:
        if unknown := [group for group in self.components if group not in GROUPS]:
            raise InvalidArgument(f"no component {unknown[0]!r}; there are {', '.join(GROUPS)}")
        if not self.components:
            raise InvalidArgument("no component: what the counters see must be told, beside the wall")

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of which a point needs a number."""
        parts = (name for names in self.components.values() for name in names)
        return (self.wall, *parts, *(() if self.samples is None else (self.samples,)))

    @property
    def named(self) -> tuple[str, ...]:
        """All columns that must be there."""
        return (*self.numbers, *(name for name in (self.load, self.level) if name is not None))


@dataclass(frozen=True, slots=True)
class PointTable:
    """What a table held.

    Attributes:
        points: a row each, in its order; uncertainties by chance are unknown and 0.
        samples: readings behind each; None without such a column.
        notes: what a reader should know.
    """

    points: tuple[OperatingPoint, ...]
    samples: tuple[float, ...] | None
    notes: tuple[str, ...]


def parse(data: bytes, where: str, columns: PointColumns) -> PointTable:
    """Return the operating points of a table.

    Raises:
        BadFormat: no such column, decimal commas, a line with more cells than the header, or no line that can be read.
    """
    text = as_text(data, where)
    if not text.strip():
        raise BadFormat(f"{where} is empty", "Write a header, and a row an operating point.")
    header, separator = header_of(text)
    if missing := [name for name in columns.named if name not in header]:
        raise BadFormat(f"{where}, line 1: there is no column {missing[0]!r}; there are {', '.join(header)}")
    if double := [name for name in columns.named if header.count(name) > 1]:
        raise BadFormat(f"{where}, line 1: there are several columns {double[0]!r}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    next(reader)
    wrong: dict[str, list[int]] = {}
    points, samples = [], []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header):
            raise BadFormat(
                f"{where}, line {reader.line_num}: {len(cells)} cells under {len(header)} columns; decimal commas?",
                "Write decimal points.",
            )
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        place = f"{where}, line {reader.line_num}"
        numbers = {name: _number(row.get(name, ""), place) for name in columns.numbers}
        count = 1.0 if columns.samples is None else numbers[columns.samples]
        if why := _why_not(row, numbers) or ("" if count > 0 else f"{columns.samples} is not above 0"):
            wrong.setdefault(why, []).append(reader.line_num)
            continue
        parts = {group: math.fsum(numbers[name] for name in names) for group, names in columns.components.items()}
        points.append(_point(row, columns, parts, numbers[columns.wall], reader.line_num, place))
        samples.append(count)
    notes = tuple(f"{_lines(lines)} left out: {why}" for why, lines in wrong.items())
    if not points:
        raise BadFormat(f"{where}: no operating point below the header" + "".join(f"; {note}" for note in notes))
    return PointTable(tuple(points), None if columns.samples is None else tuple(samples), notes)


def _why_not(row: Mapping[str, str], numbers: Mapping[str, float]) -> str:
    """Return why a line is no point; "" if it is one."""
    wrong = next((name for name, value in numbers.items() if not math.isfinite(value)), None)
    if wrong is None:
        return ""
    return f"{wrong} is no number" if row.get(wrong) else f"{wrong} is empty"


def _lines(numbers: Sequence[int]) -> str:
    """Return "line 3", or "lines 3, 4 and 7 more"."""
    named = ", ".join(map(str, numbers[:NAMED]))
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"line {named} is" if len(numbers) == 1 else f"lines {named}{more} are"


def _point(
    row: Mapping[str, str], columns: PointColumns, parts: dict[str, float], wall_w: float, line: int, place: str
) -> OperatingPoint:
    name = "" if columns.load is None else row.get(columns.load, "")
    first = (name.split() or [""])[0].lower()
    idle = bool(name) and name.casefold() == columns.idle.casefold()
    kernel = IDLE if idle else first if first in KERNELS and first != IDLE else OTHER
    if columns.level is not None:
        percent = _number(row.get(columns.level, ""), place)
        level = percent / 100 if math.isfinite(percent) else None
    else:
        said = PERCENT.search(name)
        level = 0.0 if idle else None if said is None else float(said[1]) / 100
    return OperatingPoint(name or f"line {line}", kernel, level, parts, {}, wall_w, 0.0)


def _number(cell: str, place: str) -> float:
    if COMMA.match(cell):
        raise BadFormat(f"{place}: {cell} has a decimal comma", "Write decimal points.")
    try:
        return float(cell)
    except ValueError:
        return math.nan
