# SPDX-License-Identifier: Apache-2.0
"""Draws a `top.Frame` for a terminal of any size by rich: a line a device, and of it what fits, by its weight."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from powersample.report.table import cut
from powersample.report.top import MINUTE_S, Frame, Gauge

if TYPE_CHECKING:
    from rich.text import Text

LEAST_WIDTH, LEAST_HEIGHT = 40, 6
WIDE = 110  # from here on there is room for whole names
NAME, LONG_NAME = 14, 24
ALWAYS = frozenset({"power", "changed", "energy", "95 %", "verdict"})  # what every device may have
STYLES = {"good": "green", "fair": "green", "poor": "yellow", "unusable": "red"}
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What a terminal can show.

    Attributes:
        bar: parts of a cell, the fullest last.
        sparks: heights, the lowest first.
        plus_minus: before an interval.
        degree: of temperatures.
        rest: of a bar that is not filled.
    """

    bar: str = "▏▎▍▌▋▊▉█"
    sparks: str = "▁▂▃▄▅▆▇█"
    plus_minus: str = "±"
    degree: str = "°C"
    rest: str = "░"


ASCII = Glyphs(bar="#", sparks="_.-=+*#", plus_minus="+-", degree=" C", rest=".")


def glyphs_of(encoding: str) -> Glyphs:
    """Return what a terminal of this encoding can show."""
    try:
        "▏█▁±°░".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return Glyphs()


def draw(
    frame: Frame, width: int, height: int | None, glyphs: Glyphs | None = None, *, keys: bool = False
) -> list[Text]:
    """Return a frame's lines.

    Args:
        frame: the node.
        width: columns.
        height: lines there are room for; None for as many as it takes.
        glyphs: what the terminal can show; None: everything.
        keys: say how to leave.
    """
    from rich.text import Text

    if width < LEAST_WIDTH or (height is not None and height < LEAST_HEIGHT):
        return [Text(f"too small: {LEAST_WIDTH} x {LEAST_HEIGHT} at least"[:width], "bold")]
    view = _View(frame, width, glyphs or Glyphs())
    head = view.head(keys=keys)
    health = view.health(whole=height is None)
    columns = view.columns()
    total = frame.total
    gauges = frame.gauges if total is None else (total, *frame.gauges)
    rows = [[view.row(columns, gauge), *view.faults(gauge)] for gauge in gauges]
    details = [view.detail(gauge) for gauge in gauges]
    full = [
        line
        for gauge, row, detail in zip(gauges, rows, details, strict=True)
        for line in ([row[0], detail, *row[1:]] if gauge.kind in ("gpu", "wall", "total") else row)
    ]
    plain = [line for row in rows for line in row]
    room = math.inf if height is None else height - len(head) - 1
    for lines in (full, plain, [row[0] for row in rows]):
        spaced = [*head, view.header(columns), *lines, Text(""), *health]
        if len(lines) + 1 + len(health) <= room:
            return spaced
    lines = [row[0] for row in rows]
    kept = max(1, int(room) - min(len(health), 2) - 1)
    if len(lines) > kept:
        hidden = len(frame.gauges) - sum(one.kind != "total" for one in gauges[: kept - 1])
        lines = [*lines[: kept - 1], Text(f"... {hidden} more devices; taller shows them", "yellow")]
    return [*head, view.header(columns), *lines, *health][: int(room) + len(head) + 1]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table: its name, its place and its width."""

    name: str
    width: int
    left: bool = False


class _View:
    """One frame at one width."""

    def __init__(self, frame: Frame, width: int, glyphs: Glyphs) -> None:
        self.frame, self.width, self.glyphs = frame, width, glyphs

    def head(self, *, keys: bool) -> list[Text]:
        """Return what is watched, and whether it is real."""
        from rich.text import Text

        frame = self.frame
        clock = time.strftime("%H:%M:%S", time.localtime(frame.unix_s))
        words = f"powersample top  {cut(frame.host, 24)}  {clock}  watching for {span(frame.seconds)}"
        tail = "q: quit" if keys else ""
        line = Text(_fitted(words, self.width - len(tail) - 1), "bold")
        if tail:
            line.append(" " * max(1, self.width - len(line) - len(tail)))
            line.append(tail, "dim")
        if not frame.simulated:
            return [line]
        banner = f" SIMULATED NODE {frame.simulated}, not a measurement"
        return [Text(_fitted(banner, self.width).ljust(self.width), "bold reverse"), line]

    def columns(self) -> list[_Column]:
        """Return the columns that fit: those of less weight go first, and bars and sparks take what is left."""
        names = [min(len(one.name), LONG_NAME if self.width >= WIDE else NAME) for one in self.frame.gauges]
        gpus = any(one.utilization_pct is not None or one.temperature_c is not None for one in self.frame.gauges)
        fixed = [
            _Column("device", max([6, *names]), left=True),
            _Column("power", 13),
            _Column("energy", 9),
            _Column("95 %", 8),
            _Column("changed", 7),
        ]
        least = {"power": 13, "energy": 9, "95 %": 8, "changed": 7}
        used = sum(one.width + 1 for one in fixed) - 1
        while used > self.width and len(fixed) > 2:
            gone = fixed.pop()
            used -= least[gone.name] + 1
        optional = [("last minute", 11)]
        optional += [("util", 5), ("temp", 5)] if gpus else []
        optional += [("bar", 8), ("verdict", 8)]
        optional += [("MHz", 5), ("mem", 5)] if gpus else []
        chosen = {}
        for name, room in optional:
            if used + room + 1 <= self.width:
                chosen[name] = room
                used += room + 1
        left = self.width - used
        for name, share in (("bar", 0.4), ("last minute", 1.0)):
            if name in chosen:
                more = min(round(left * share), 60 - chosen[name])
                chosen[name] += more
                left -= more
        order = ("device", "bar", "power", "changed", "energy", "95 %", "verdict", "util", "mem", "MHz", "temp")
        by_name = {one.name: one for one in fixed} | {
            name: _Column(name, room, left=name in ("bar", "last minute", "verdict")) for name, room in chosen.items()
        }
        return [by_name[name] for name in (*order, "last minute") if name in by_name]

    def header(self, columns: Sequence[_Column]) -> Text:
        """Return the line above the devices."""
        from rich.text import Text

        names = {"bar": "of limit"}
        cells = [_cell(names.get(one.name, one.name), one) for one in columns]
        return Text(" ".join(cells)[: self.width].rstrip(), "dim underline")

    def row(self, columns: Sequence[_Column], gauge: Gauge) -> Text:
        """Return a device's line."""
        from rich.text import Text

        line = Text(no_wrap=True)
        for i, column in enumerate(columns):
            if i:
                line.append(" ")
            words, style = self._cell_of(column, gauge)
            line.append(_cell(words, column), style)
        line.rstrip()
        return line

    def _cell_of(self, column: _Column, one: Gauge) -> tuple[str, str]:
        """Return a cell's words and style."""
        if column.name == "bar":
            return self._bar(one, column.width), "cyan"
        if column.name == "last minute":
            return self._spark(one, column.width), "blue"
        dash, style = "-" if one.kind == "gpu" or column.name in ALWAYS else "", STYLES.get(one.verdict, "dim")
        limit = f"/{one.limit_w:.0f}" if one.limit_w else ""
        power = ("lost" if one.error else dash) if one.power_w is None else f"{one.power_w:.1f}{limit} W"
        alarm = "bold red" if one.error else "bold yellow" if one.dropouts or one.errors else "bold"
        cells = {
            "device": (cut(one.name, column.width), alarm),
            "power": (power, "bold red" if one.error else "bold"),
            "changed": (dash if one.age_s is None else span(one.age_s), self._age_style(one)),
            "energy": (dash if one.joules is None else f"{si(one.joules)}J", ""),
            "95 %": (self._interval(one), style),
            "verdict": (one.verdict or dash, style),
            "util": (dash if one.utilization_pct is None else f"{one.utilization_pct:.0f} %", ""),
            "mem": (dash if one.memory_pct is None else f"{one.memory_pct:.0f} %", ""),
            "MHz": (dash if one.clock_hz is None else f"{one.clock_hz / 1e6:.0f}", ""),
            "temp": (dash if one.temperature_c is None else f"{one.temperature_c:.0f}{self.glyphs.degree}", ""),
        }
        return cells[column.name]

    def _age_style(self, one: Gauge) -> str:
        late = one.age_s is not None and one.period_s is not None and one.age_s > max(2.0, 5 * one.period_s)
        return "yellow" if late else ""

    def _interval(self, one: Gauge) -> str:
        if one.half_j is None or not one.joules:
            return one.verdict or "-"
        share_pct = 100 * one.half_j / one.joules
        return f"{self.glyphs.plus_minus}{share_pct:.2g} %" if share_pct < 100 else f"{self.glyphs.plus_minus}>100 %"

    def _bar(self, one: Gauge, width: int) -> str:
        if one.power_w is None or not one.limit_w:
            return ""
        parts = self.glyphs.bar
        filled = min(1.0, max(0.0, one.power_w / one.limit_w)) * width
        whole, part = int(filled), round((filled - int(filled)) * len(parts))
        cells = parts[-1] * whole + (parts[part - 1] if part else "")
        return cells[:width].ljust(width, self.glyphs.rest)

    def _spark(self, one: Gauge, width: int) -> str:
        """Return the last minute, a column a bin: from nothing to the limit, or to the most that was seen."""
        if not one.spark:
            return ""
        bins: list[list[float]] = [[] for _ in range(width)]
        for ago_s, watts in one.spark:
            bins[min(width - 1, int((1 - ago_s / MINUTE_S) * width))].append(watts)
        top_w = max(one.limit_w or 0.0, *(watts for _, watts in one.spark)) or 1.0
        sparks = self.glyphs.sparks
        told = [None if not each else math.fsum(each) / len(each) for each in bins]
        for i in range(1, width):  # a delay longer than a bin: what was drawn before
            told[i] = told[i] if told[i] is not None else told[i - 1]
        levels = [
            " " if w is None else sparks[min(len(sparks) - 1, int(max(0.0, w) / top_w * len(sparks)))] for w in told
        ]
        return "".join(levels)

    def detail(self, one: Gauge) -> Text:
        """Return what kind of sensor tells a device's power, and who uses the device."""
        from rich.text import Text

        words = [one.model or ""]
        if one.window_s and one.period_s:
            same = one.window_s >= 0.99 * one.period_s
            each = (
                f"averages {span(one.window_s)}" if same else f"averages {span(one.window_s)} of {span(one.period_s)}"
            )
            words.append(each)
        if one.processes is not None:
            words.append(_count(one.processes, "program"))
        if one.mean_w is not None:
            words.append(f"mean {one.mean_w:.1f} W")
        return Text(_fitted("  " + ", ".join(word for word in words if word), self.width), "dim")

    def faults(self, one: Gauge) -> list[Text]:
        """Return what is wrong with a device, if anything."""
        from rich.text import Text

        words = []
        if one.error:
            words.append(f"reads fail: {one.error}")
        if one.errors:
            words.append(f"{one.errors} of {one.polls} reads failed")
        if one.dropouts:
            words.append(f"{_count(one.dropouts, 'dropout')}, {span(one.dropout_s)} in all")
        if one.unseen_s >= 1:
            words.append(f"{span(one.unseen_s)} not in its energy")
        return [Text(_fitted(f"  ! {', '.join(words)}", self.width), "red" if one.error else "yellow")] if words else []

    def health(self, *, whole: bool) -> list[Text]:
        """Return how sampling goes, and what is missing: in full, or each in a line."""
        from rich.text import Text

        frame = self.frame
        low, high = frame.rates_hz
        rate = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        lost = f"{_count(frame.skipped, 'slot')} late, {_count(frame.dropped, 'record')} dropped"
        told = [
            (f"{_count(frame.lanes, 'lane')} at {rate} Hz, {lost}", "yellow" if frame.dropped else "dim"),
            *((f"trouble: {text}", "bold red") for text in frame.trouble),
            *((f"note: {text}", "dim") for text in frame.notes),
        ]
        if not whole:
            return [Text(_fitted(words, self.width), style) for words, style in told]
        return [
            Text(line, style)
            for words, style in told
            for line in textwrap.wrap(words, self.width, subsequent_indent="  ", break_on_hyphens=False)
        ]


def _cell(words: str, column: _Column) -> str:
    words = words[: column.width]
    return words.ljust(column.width) if column.left else words.rjust(column.width)


def _fitted(words: str, width: int) -> str:
    words = " ".join(words.split("\n"))
    return words if len(words) <= width else words[: max(0, width - 3)] + "..."


def _count(number: int, what: str) -> str:
    """Return "no program", "1 program", "2 programs"."""
    return f"{number or 'no'} {what}{'s' * (number > 1)}"


def si(value: float) -> str:
    """Return a number to four digits with a prefix for its unit: "12.34 k", "901.2 "."""
    for size, prefix in PREFIXES:
        if abs(value) >= size * 0.99995:
            return f"{value / size:#.4g} {prefix}"
    return f"{value:.1f} "


def span(seconds: float) -> str:
    """Return a length of time: "80 ms", "2.5 s", "3:07", "2 d 01:00:07"."""
    if seconds < 1:
        return f"{1e3 * seconds:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{hours // 24}d {hours % 24:02d}:{minutes:02d}"
