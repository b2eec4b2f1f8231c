# SPDX-License-Identifier: Apache-2.0
"""Pieces of HTML: escaped text, tables, an interval as a dot with whiskers, a curve's outline."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import numpy as np

from powersample.report.curves import Panel
from powersample.report.reduce import Points
from powersample.report.table import cut, number

NAME = 120  # letters of a name; a sentence has more room
SENTENCE = 2000
WIDE, HIGH = 600, 100  # of an outline, in its own units
WHISKER = 170
OPEN_PANELS = 8  # the others when somebody opens them
FIRST_DOMAINS = ("wall", "gpu", "module", "package", "dram")  # the others are parts of these, or of what they miss
FEW = 3  # panels, of which all are open


def plain(text: object, room: int) -> str:
    """Return a text in at most so many letters, all of which print: a name may be anything."""
    return cut(str(text), room)


def escaped(text: object, room: int = SENTENCE) -> str:
    """Return a text as HTML."""
    return html.escape(plain(text, room))


def prose(text: object) -> str:
    """Return a sentence as HTML, its signs as they are printed."""
    return re.sub(r"\+-(?= ?\d)", "&plusmn;", escaped(text))


def name(text: object, room: int = NAME) -> str:
    """Return somebody's name as HTML, set apart from the direction of its surroundings; dots are where it may break."""
    return f"<bdi>{escaped(text, room).replace('.', '.<wbr>')}</bdi>"


def opened(panels: Sequence[Panel]) -> list[bool]:
    """Return which devices are shown at once: what counts into a total first, and not more than a page bears."""
    return [i < OPEN_PANELS and (one.domain in FIRST_DOMAINS or len(panels) <= FEW) for i, one in enumerate(panels)]


def verdict(word: str) -> str:
    """Return a verdict with its mark."""
    return f'<span class="verdict {escaped(word)}">{escaped(word)}</span>'


def joules(energy_j: float) -> str:
    """Return an energy with its thousands apart: "9,866.1 J"."""
    return f"{f'{energy_j:,.1f}' if abs(energy_j) >= 1000 else number(energy_j)}&nbsp;J"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str, caption: str = "") -> str:
    """Return a table whose first column heads its rows.

    Args:
        header: the columns' names, as HTML.
        rows: their cells, as HTML.
        align: a letter a column: "l", "r", "w" for sentences, "c" for codes, "R" and "L" for those that a narrow page
            leaves out, "X" for those that already a page of middle width does.
        caption: what it shows, as HTML; "" for none.
    """
    classes = [
        {
            "l": ' class="l"',
            "w": ' class="w"',
            "c": ' class="codes"',
            "R": ' class="wide"',
            "L": ' class="l wide"',
            "X": ' class="wide wider"',
        }.get(letter, "")
        for letter in align
    ]
    head = "".join(f'<th scope="col"{kind}>{one}</th>' for one, kind in zip(header, classes, strict=True))
    body = "\n".join(row(cells, classes) for cells in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def row(cells: Sequence[str], classes: Sequence[str]) -> str:
    """Return a row whose first cell heads it."""
    rest = "".join(f"<td{kind}>{one}</td>" for one, kind in zip(cells[1:], classes[1:], strict=True))
    return f'<tr><th scope="row">{cells[0]}</th>{rest}</tr>'


def whisker(low: float | None, middle: float | None, high: float | None, most: float, truth: float | None) -> str:
    """Return an interval drawn over a scale from 0; the numbers stand beside it, so that it is not read aloud.

    Args:
        low: its lower end; None where there is no interval.
        middle: the value; None draws nothing.
        high: its upper end.
        most: the scale's end.
        truth: the exact value; None where nobody knows it.
    """
    if middle is None or not most > 0:
        return ""

    def x(value: float) -> float:
        return round(WHISKER * min(max(value / most, 0.0), 1.0), 1)

    parts = [f'<line x1="0" x2="{WHISKER}" y1="8" y2="8"/>']
    if low is not None and high is not None:
        parts.append(f'<path class="i" d="M{x(low)} 8H{x(high)}M{x(low)} 4v8M{x(high)} 4v8"/>')
    if truth is not None:
        parts.append(f'<path class="t" d="M{x(truth)} 1v14"/>')
    parts.append(f'<path class="d" d="M{x(middle)} 8h0"/>')  # a dot that stays round however wide the scale is
    box = f'viewBox="0 0 {WHISKER} 16" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg class="whisker" {box}>{"".join(parts)}</svg>'


def outline(
    panel: Panel,
    holes: Iterable[tuple[int, int]],
    windows: Iterable[tuple[int, int]],
    extent: tuple[int, int],
    top_w: float,
) -> str:
    """Return the first curve of a panel between its lowest and highest values, for a page whose script does not run.

    Args:
        panel: it.
        holes: spans that nobody read, ns.
        windows: spans to be shaded, ns.
        extent: the record's, ns.
        top_w: power at the upper edge.
    """
    start_ns, end_ns = extent
    per_ns = WIDE / max(1, end_ns - start_ns)

    def rect(span: tuple[int, int], kind: str) -> str:
        left, right = ((min(max(one, start_ns), end_ns) - start_ns) * per_ns for one in span)
        return f'<rect class="{kind}" x="{left:.1f}" width="{max(right - left, 0.8):.1f}" height="{HIGH}"/>'

    parts = [rect(span, "win" if i % 2 == 0 else "win odd") for i, span in enumerate(windows)]
    parts += [rect(span, "hole") for span in holes]
    if panel.curves:
        bands = _bands(panel.curves[0].points, start_ns, per_ns, HIGH / max(top_w, 1e-9))
        parts.append(f'<path class="c0" d="{bands}"/>')
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'


def _bands(points: Points, start_ns: int, per_ns: float, per_w: float) -> str:
    """Return a bar a column from the lowest value held in it to the highest; none where nothing is known."""
    low, high = np.full(WIDE, np.inf), np.full(WIDE, -np.inf)
    if not len(points):
        return ""
    x = np.clip(((points.t_ns - start_ns) * per_ns), 0, WIDE - 1).astype(np.int64)
    until = np.append(np.where(points.broken[1:], x[:-1], x[1:]), x[-1])
    for first, last, value in zip(x.tolist(), until.tolist(), points.value.tolist(), strict=True):
        held = slice(first, last + 1)
        low[held], high[held] = np.minimum(low[held], value), np.maximum(high[held], value)
    bars = []
    for column in np.flatnonzero(np.isfinite(low)):
        top, bottom = HIGH - high[column] * per_w, HIGH - low[column] * per_w
        bars.append(f"M{column} {top - 0.6:.1f}h1V{bottom + 0.6:.1f}h-1z")
    return "".join(bars)
