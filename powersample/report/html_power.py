# SPDX-License-Identifier: Apache-2.0
"""Power over time on a report's page: a panel a device, its keys, and an outline for where the script does not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from powersample.model import duration
from powersample.report.curves import Curve, Panel, leaves, spans
from powersample.report.html_parts import escaped, name, opened, outline, verdict
from powersample.report.table import number, times

MOST_SHADED = 200
MOST_SLEEPS = 20
ROOM = 120
TOOLS = """<div class="tools" hidden role="group" aria-label="move in time">
<button type="button" data-move="out" aria-label="zoom out">&minus;</button>
<button type="button" data-move="in" aria-label="zoom in">+</button>
<button type="button" data-move="left" aria-label="earlier">&larr;</button>
<button type="button" data-move="right" aria-label="later">&rarr;</button>
<button type="button" data-move="all">whole record</button>
<select id="window" aria-label="zoom to a window" hidden><option value="">zoom to a window</option></select>
<span class="note">Drag over a panel to zoom, double-click to see all; Ctrl and wheel zoom, Shift and wheel move.
Keys of a panel: arrows, +, -, 0. A click on a window's bar shows it alone.</span>
</div>
<div id="lane" hidden><p class="note"><span id="hint" role="status"></span><span id="now"></span></p>
<canvas aria-hidden="true"></canvas></div>"""


def power(data: Mapping[str, Any], panels: Sequence[Panel], start_ns: int, end_ns: int) -> Iterator[str]:
    """Yield the section.

    Args:
        data: a report's JSON object.
        panels: what is drawn.
        start_ns: of the record.
        end_ns: of the record.
    """
    yield "<h2>Power over time</h2>"
    if not any(len(curve.points) for panel in panels for curve in panel.curves):
        yield "<p>No channel of power or energy has a readable value: there is nothing to draw.</p>"
    yield from _legend(data, panels)
    for one in [one for one in data["clock"]["events"] if one["kind"] == "suspend"][:MOST_SLEEPS]:
        first_s, last_s = ((one[key] - start_ns) / 1e9 for key in ("start_ns", "end_ns"))
        yield (
            f"<p><strong>The machine slept for {duration(one['size_s'])}</strong> at some instant between "
            f"{escaped(number(first_s))} s and {escaped(number(last_s))} s. That time is not on the axis, and its "
            "energy in no figure; the curves are broken there.</p>"
        )
    yield TOOLS
    whole_ns = end_ns - start_ns
    shaded = [(one["start_ns"], one["end_ns"]) for one in leaves(data)]
    shaded = [one for one in shaded if one[1] - one[0] < 0.95 * whole_ns][:MOST_SHADED]
    for i, (panel, is_open) in enumerate(zip(panels, opened(panels), strict=True)):
        yield _panel(i, panel, spans(panel, data), shaded, (start_ns, end_ns), is_open=is_open)


def _legend(data: Mapping[str, Any], panels: Sequence[Panel]) -> Iterator[str]:
    """Yield what lines and colours mean, once for all panels, and of that only what there is.

    Some of it only the script draws, which therefore shows the keys.
    """
    words = ["A power is drawn as it was read, each value until the next"]
    if any(curve.mean_ns for panel in panels for curve in panel.curves):
        words.append("a counter as its mean power over spans that hold some of its updates")
    keys = ['<span><i class="key mean"></i>mean power of a window, with its 95 % interval as a band</span>']
    told = {one["verdict"] for window in data["windows"] for one in window["energies"] if one["primary"]}
    marks = " ".join(verdict(one) for one in ("good", "fair", "poor", "unusable") if one in told)
    if marks:
        keys.append(f"<span>the line above a window is its verdict: {marks}</span>")
    if any(spans(panel, data) for panel in panels) or any(one["kind"] == "suspend" for one in data["clock"]["events"]):
        keys.append('<span><i class="key missing"></i>nothing was read, though the sensor went on</span>')
    yield f'<p class="note">{"; ".join(words)}. Time since the first reading.</p>'
    if data["windows"]:
        yield f'<p class="keys note" id="keys" hidden>{" ".join(keys)}</p>'


def _panel(
    i: int,
    panel: Panel,
    holes: Sequence[tuple[int, int]],
    shaded: Sequence[tuple[int, int]],
    extent_ns: tuple[int, int],
    *,
    is_open: bool,
) -> str:
    top_w = 1.05 * max(
        (float(curve.points.value.max()) for curve in panel.curves[:1] if len(curve.points)), default=0.0
    )
    shape = outline(panel, holes, shaded, extent_ns, top_w)
    keys = " ".join(
        f'<span><i class="key {"t" if curve.truth else f"c{k}"}"></i>{escaped(key_words(curve), ROOM)}'
        f'<span class="now" data-curve="{k}"></span></span>'
        for k, curve in enumerate(panel.curves)
    )
    if holes:
        keys += f' <span><i class="key missing"></i>unread {times(len(holes))}</span>'
    board = f" <small>{escaped(panel.board, ROOM)}</small>" if panel.board else ""
    whole = duration((extent_ns[1] - extent_ns[0]) / 1e9)
    return (
        f'<details class="panel" id="panel-{i}"{" open" if is_open else ""}>'
        f"<summary><h3>{name(panel.name)}{board}</h3></summary>"
        f'<figure><figcaption class="keys">{keys}</figcaption>'
        f'<div class="overview">{shape}<div><span>0 s</span><span>0 to {escaped(number(top_w))} W</span>'
        f"<span>{escaped(whole)}</span></div></div>"
        f'<div class="plot" role="img" aria-label="power of {escaped(panel.name, ROOM)} over time; the table of '
        'its energies says it in numbers"></div></figure></details>'
    )


def key_words(curve: Curve) -> str:
    """Return what a curve is called beside its colour, with what was made of its readings: "energy, mean of 100 ms"."""
    words = [curve.label]
    if curve.truth:
        words.append("simulated")
    elif curve.mean_ns:
        words.append(f"mean of {duration(curve.mean_ns / 1e9)}")
    if curve.points.width_ns:
        words.append(f"lowest and highest of each {duration(curve.points.width_ns / 1e9)}")
    return ", ".join(words)
