# SPDX-License-Identifier: Apache-2.0
"""A table of operating points that somebody measured: a CSV, a row each, whose columns are told by name.

Powers in W with decimal points; the header's own tab, else semicolon, else comma separates.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from powersample.errors import BadFormat, InvalidArgument
from powersample.formats.parsed import as_text, counted
from powersample.formats.power_csv import COMMA, header_of
from powersample.model import OperatingPoint
from powersample.model.calibration import GROUPS, KERNELS

IDLE, OTHER = "idle", "other"
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
LEFT_OUT = "lines with an empty cell, or one that is no number, are left out"


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
    def named(self) -> tuple[str, ...]:
        """All columns that must be there."""
        more = [name for name in (self.load, self.level, self.samples) if name is not None]
        return (self.wall, *(name for names in self.components.values() for name in names), *more)


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
    header, separator = header_of(text)
    if missing := [name for name in columns.named if name not in header]:
        raise BadFormat(f"{where}, line 1: there is no column {missing[0]!r}; there are {', '.join(header)}")
    if double := [name for name in columns.named if header.count(name) > 1]:
        raise BadFormat(f"{where}, line 1: there are several columns {double[0]!r}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    next(reader)
    wrong: Counter[str] = Counter()
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
        powers = {
            group: [_number(row.get(name, ""), place) for name in names] for group, names in columns.components.items()
        }
        wall_w = _number(row.get(columns.wall, ""), place)
        count = 1.0 if columns.samples is None else _number(row.get(columns.samples, ""), place)
        if not all(map(math.isfinite, (wall_w, count, *(w for some in powers.values() for w in some)))) or count <= 0:
            wrong[LEFT_OUT] += 1
            continue
        parts = {group: math.fsum(some) for group, some in powers.items()}
        points.append(_point(row, columns, parts, wall_w, reader.line_num, place))
        samples.append(count)
    if not points:
        raise BadFormat(f"{where}: no line below the header can be read")
    return PointTable(tuple(points), None if columns.samples is None else tuple(samples), counted(wrong))


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
