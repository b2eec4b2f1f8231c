# SPDX-License-Identifier: Apache-2.0
"""`report --html`: one file that needs nothing else, readable without its script, and what is in it.

The page is made of the report's JSON object and of the reduced curves (`powersample.report.curves`); its own files lie
in `page/`, the chart of others in `vendor/`. Every name comes from whoever marked a window or built a board: it is cut,
freed of what does not print and escaped, and the page's policy runs no script but its own two.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from powersample.model import Trace
from powersample.model.clock import to_realtime_ns
from powersample.report import figure
from powersample.report.answer import answer
from powersample.report.build import Report
from powersample.report.curves import Curve, Panel, panels, spans
from powersample.report.html_parts import escaped, plain
from powersample.report.html_sections import sections
from powersample.report.table import DASH, interval, number
from powersample.report.words import headline, origin

MOST_UNITS = 1 << 32  # times are whole multiples of a unit, which a 32-bit number holds
LEAST_UNIT_NS = 1_000
VERDICTS = {"good": "g", "fair": "f", "poor": "p", "unusable": "u"}  # a letter a window; a dash for anything else
MOST_ROWS = 4
MOST_SPANS = 1000
MOST_MEANS = 1000  # windows, the longest, whose mean powers are drawn with their intervals
COLOURS = {
    "blue": figure.BLUE, "sky": figure.SKY, "orange": figure.ORANGE, "green": figure.GREEN,
    **figure.VERDICTS,
}  # fmt: skip


def html(trace: Trace, report: Report, name: str) -> str:
    """Return the page of a recording.

    Args:
        trace: it.
        report: what `build` says of it.
        name: of its file, for the reader.
    """
    data = report.data
    shown = panels(trace, data)
    start_ns, end_ns = trace.start_ns or 0, trace.end_ns or 0
    here = resources.files("powersample") / "report"

    def text(path: str) -> str:
        return here.joinpath(path).read_text(encoding="utf-8")

    script, uplot = text("page/page.js"), text("vendor/uplot/uPlot.iife.min.js")
    version = str(_version())
    said = headline(data)
    banner = "" if not said else f'<div class="banner" role="note">{escaped(said[0])}{_more(said[1:])}</div>'
    return Template(text("page/page.html")).substitute(
        scripts=" ".join(_hash(one) for one in (script, uplot)),
        version=escaped(version),
        title=escaped(f"{'SIMULATED: ' if data['simulated'] else ''}{plain(name, 80)} - energy and power"),
        uplot_css=text("vendor/uplot/uPlot.min.css"),
        css=text("page/page.css"),
        colours=" ".join(f"--{key}: {value};" for key, value in COLOURS.items()),
        banner=banner,
        heading=f"<bdi>{escaped(plain(name, 120))}</bdi>",
        origin=escaped(origin(data)),
        main="\n".join(sections(data, shown, start_ns, end_ns, name)),
        data=_json(_plotted(trace, data, shown, name)),
        js=script,
        uplot_licence=text("vendor/uplot/LICENSE"),
        uplot_js=uplot,
    )


def _version() -> str:
    from powersample import __version__

    return __version__


def _more(words: Sequence[str]) -> str:
    return "".join(f"<span>{escaped(one)}</span>" for one in words)


def _hash(script: str) -> str:
    """Return what the page's policy calls a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(data: Any) -> str:
    """Return JSON that may stand in a script element: no letter in it ends one."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plotted(trace: Trace, data: Mapping[str, Any], shown: Sequence[Panel], name: str) -> dict[str, Any]:
    """Return what the script draws; times are seconds since the record's first reading."""
    start_ns, end_ns = trace.start_ns, trace.end_ns
    if start_ns is None or end_ns is None:
        return {"panels": [], "windows": [], "extent": [0, 1]}

    def seconds(t_ns: int) -> float:
        return round((t_ns - start_ns) / 1e9, 6)

    steady = not (data["clock"]["steps"] or data["clock"]["suspends"])
    real_ns = to_realtime_ns(trace.anchors, np.array([start_ns], np.int64)) if steady else None
    windows = sorted(data["windows"], key=lambda one: (one["start_ns"], -one["end_ns"]))
    rows = _rows(windows)
    ranked = sorted(range(len(windows)), key=lambda i: -float(windows[i]["duration_s"]))[:MOST_MEANS]
    longest = {i: rank for rank, i in enumerate(ranked)}
    asleep = [one for one in data["clock"]["events"] if one["kind"] == "suspend"]
    return {
        "file": plain(name, 120),
        "start_unix_ms": None if real_ns is None else round(float(real_ns[0]) / 1e6, 3),
        "extent": [0, seconds(end_ns) or 1],
        "verdicts": {letter: verdict for verdict, letter in VERDICTS.items()},
        "levels": max(rows, default=-1) + 1,
        "windows": [
            {
                "name": plain(one["name"], 120),
                "start": seconds(one["start_ns"]),
                "end": seconds(one["end_ns"]),
                "level": row,
            }
            | ({"mean": longest[i], "told": _energy(one)} if i in longest else {})
            for i, (one, row) in enumerate(zip(windows, rows, strict=True))
        ],
        "asleep": [{"start": seconds(one["start_ns"]), "end": seconds(one["end_ns"])} for one in asleep],
        "panels": [
            {
                "curves": [_curve(curve, start_ns) for curve in panel.curves],
                "verdicts": "".join(_verdict(panel, window) for window in windows),
                "means": _bytes([_mean_w(panel, windows[i]) for i in ranked], "<f4"),
                "missing": [
                    {"start": seconds(first_ns), "end": seconds(last_ns)}
                    for first_ns, last_ns in spans(panel, data)[:MOST_SPANS]
                ],
            }
            for panel in shown
        ],
    }


def _curve(curve: Curve, start_ns: int) -> dict[str, Any]:
    points = curve.points
    offset_ns = points.t_ns - start_ns
    unit_ns = max(LEAST_UNIT_NS, -(-int(offset_ns[-1]) // (MOST_UNITS - 2))) if len(points) else LEAST_UNIT_NS
    return {
        "label": plain(curve.label, 60),
        "truth": curve.truth,
        "width_s": points.width_ns / 1e9,
        "unit_ns": unit_ns,
        "t": _bytes(np.maximum(offset_ns, 0) // unit_ns, "<u4"),
        "w": _bytes(points.value, "<f4"),
        "broken": _bytes(np.flatnonzero(points.broken), "<u4"),
    }


def _bytes(values: Any, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")


def _primary(panel: Panel, window: Mapping[str, Any]) -> Mapping[str, Any] | None:
    mine = (panel.device, panel.domain)
    return next((one for one in window["energies"] if one["primary"] and (one["device"], one["domain"]) == mine), None)


def _verdict(panel: Panel, window: Mapping[str, Any]) -> str:
    one = _primary(panel, window)
    return "-" if one is None else VERDICTS.get(one["verdict"], "-")


def _mean_w(panel: Panel, window: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return a window's mean power between the ends of its interval, W; NaN for what is not known."""
    one, seconds = _primary(panel, window), window["duration_s"]
    if one is None or one["joules"] is None or not one["whole"] or not seconds:
        return math.nan, math.nan, math.nan
    low, joules, high = (math.nan if one[key] is None else one[key] / seconds for key in ("low_j", "joules", "high_j"))
    return low, joules, high


def _energy(window: Mapping[str, Any]) -> str:
    """Return a window's energy in words, for where there is no room for its row."""
    told = answer(window)
    if told is None:
        return ""
    half = interval({"joules": told.joules, "low_j": told.low_j, "high_j": told.high_j})
    half = "" if half == DASH else f" {half}".replace("+-", "\N{PLUS-MINUS SIGN}")
    return f"{told.what} {number(told.joules)} J{half}"


def _rows(windows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return on which row each window stands, so that none hides another as long as there are rows.

    Args:
        windows: by their begin, the longer of two first.
    """
    rows: list[int] = []  # when each row's last window ends
    found = []
    for one in windows:
        free = next((row for row, end_ns in enumerate(rows) if end_ns <= one["start_ns"]), len(rows))
        if free == len(rows) and free < MOST_ROWS:
            rows.append(0)
        row = min(free, MOST_ROWS - 1)
        rows[row] = one["end_ns"]
        found.append(row)
    return found
