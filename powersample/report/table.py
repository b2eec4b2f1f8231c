# SPDX-License-Identifier: Apache-2.0
"""Aligned columns and the numbers in them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from powersample.model import amount

DASH = "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str, indent: int = 0) -> Iterable[str]:
    """Yield aligned lines.

    Args:
        header: the columns' names.
        rows: their cells.
        align: "l" or "r" a column.
        indent: spaces before each line.
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = (
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        )
        yield (" " * indent + "  ".join(cells)).rstrip()


def number(value: float | None) -> str:
    """Return a number to four digits or more: "1234.6", "408.0", "0.01235"; a dash for None."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:.1f}"
    return f"{value:#.4g}".rstrip(".") if size >= 1e-4 else amount(value)


def times(count: int) -> str:
    """Return how often: "once", "7 times"."""
    return "once" if count == 1 else f"{count} times"


def cut(name: str, room: int) -> str:
    """Return a name in at most `room` letters, all of them printable."""
    name = _printable(name)
    return name if len(name) <= room else name[: room - 3] + "..."


def joined(lines: Iterable[str]) -> str:
    """Return lines as one text that can be printed and written: "?" for what a window's name has of other letters."""
    return "\n".join(_printable(line) for words in lines for line in words.split("\n"))


def _printable(words: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def interval(energy: Mapping[str, Any]) -> str:
    """Return an energy's 95 % interval relative to it: "+-4.1 %", or "-50/+80 %" where its sides differ."""
    joules, low_j, high_j = energy["joules"], energy["low_j"], energy["high_j"]
    if not joules or low_j is None or high_j is None:
        return DASH
    below_pct, above_pct = 100 * (joules - low_j) / joules, 100 * (high_j - joules) / joules
    if round(below_pct, 2) == round(above_pct, 2):
        return f"+-{amount(round(above_pct, 8), 2)} %"
    return f"-{below_pct:.0f}/+{above_pct:.0f} %"
