# SPDX-License-Identifier: Apache-2.0
"""`report --png` and `--svg`: power over time for a paper, a panel a device, with what was measured how below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from powersample.analysis.repeats import stem
from powersample.errors import InvalidArgument
from powersample.model import Trace
from powersample.report.build import Report
from powersample.report.curves import Curve, Panel, leaves, panels, spans
from powersample.report.figure import CURVES, TRUTH, VERMILLION, sheet
from powersample.report.many import crowds
from powersample.report.table import cut, interval, number
from powersample.report.words import headline, origin, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 12
MOST_NAMED = 24  # windows; of more, none is named
BAND_ROOM = 1.6  # of the highest power read: bands beyond it are cut
MOST_BANDS = 400
MOST_POINTS = 60_000
WIDTH_IN, PANEL_IN, LETTERS = 10.0, 1.75, 162
STYLES = {"good": "-", "fair": "-", "poor": "--"}


def plot(trace: Trace, report: Report, path: Path, name: str) -> None:
    """Draw the power of every device over time, with its windows, their mean powers and intervals.

    Args:
        trace: the recording.
        report: what `build` says of it.
        path: where to; its end is the kind of picture.
        name: of the recording, for the caption.

    Raises:
        NotSupported: matplotlib is not installed.
        InvalidArgument: there is no readable power.
        OSError: the file cannot be written.
    """
    data = report.data
    known = [one for one in panels(trace, data, MOST_POINTS) if any(len(curve.points) for curve in one.curves)]
    if not known or trace.start_ns is None:
        raise InvalidArgument(f"{name} holds no readable power or energy: there is nothing to draw")
    shown = known[:MOST_PANELS]
    caption = [line for words in _caption(data, shown, len(known), name) for line in wrap(words, LETTERS)]
    below_in = 0.17 * len(caption)
    high_in = 0.9 + PANEL_IN * len(shown) + below_in
    figure = sheet(WIDTH_IN, high_in)
    figure.set_layout_engine("constrained", rect=(0, below_in / high_in, 1, 1 - below_in / high_in))
    from matplotlib import rc_context

    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, shown, strict=True):
        _panel(axis, panel, data, trace.start_ns)
    _names(axes[0], data, trace.start_ns)
    axes[-1].set_xlabel("time since the first reading, s")
    axes[-1].set_xlim(0, max(1e-6, ((trace.end_ns or 0) - trace.start_ns) / 1e9))
    said = headline(data)
    if said:
        figure.suptitle(_literal(said[0]), fontsize=11, fontweight="bold")
    figure.text(0.008, 0.01, _literal("\n".join(caption)), fontsize=7.5, va="bottom", color="0.25", linespacing=1.35)
    with rc_context({"svg.fonttype": "none"}):  # a paper's own letters, and text that can be searched
        figure.savefig(path)


def _panel(axis: Axes, panel: Panel, data: Mapping[str, Any], start_ns: int) -> None:
    for curve, colour in [*zip([c for c in panel.curves if not c.truth], CURVES, strict=False)][::-1]:
        _line(axis, curve, start_ns, color=colour, lw=1.0, label=_literal(curve.label, 30))
    for curve in panel.curves:
        if curve.truth:
            _line(axis, curve, start_ns, color=TRUTH, lw=2.2, label=curve.label, zorder=1.5)
    for first_ns, last_ns in spans(panel, data)[:MOST_BANDS]:
        axis.axvspan(
            (first_ns - start_ns) / 1e9, (last_ns - start_ns) / 1e9, color=VERMILLION, alpha=0.25, lw=0, zorder=1
        )
    for event in data["clock"]["events"]:
        if event["kind"] == "suspend":
            axis.axvspan((event["start_ns"] - start_ns) / 1e9, (event["end_ns"] - start_ns) / 1e9, color="0.85", lw=0)
    curves_w = axis.dataLim.y1
    _means(axis, panel, data, start_ns)
    axis.margins(y=0.08)
    # A band may reach far beyond: of a window shorter than the sensor's update it says only that nobody knows.
    axis.set_ylim(0, min(axis.get_ylim()[1], BAND_ROOM * curves_w) if curves_w > 0 else None)
    axis.set_ylabel("W")
    board = f", {_literal(panel.board, 50)}" if panel.board else ""
    axis.set_title(f"{_literal(panel.name, 50)}{board}", loc="left", fontsize=9)
    axis.legend(loc="upper right", ncols=4, fontsize=7, frameon=False, bbox_to_anchor=(1.0, 1.18))
    axis.grid(alpha=0.2)
    axis.spines[["top", "right"]].set_visible(False)


def _line(axis: Axes, curve: Curve, start_ns: int, **style: Any) -> None:
    """Draw a curve whose values are held until the next one, and not across a gap."""
    points = curve.points
    at, watts = (points.t_ns - start_ns) / 1e9, points.value
    gaps = np.flatnonzero(points.broken[1:]) + 1
    at, watts = np.insert(at, gaps, np.nan), np.insert(watts, gaps, np.nan)
    marker = "." if len(points) < 2 else ""
    axis.plot(at, watts, drawstyle="steps-post", rasterized=len(points) > MOST_POINTS // 4, marker=marker, **style)


def _means(axis: Axes, panel: Panel, data: Mapping[str, Any], start_ns: int) -> None:
    """Draw each window's mean power over its span with the band of its interval; its verdict is the line's kind."""
    for window in _alone(data)[:MOST_BANDS]:
        first_s, last_s = ((window[key] - start_ns) / 1e9 for key in ("start_ns", "end_ns"))
        axis.axvline(first_s, color="0.6", lw=0.5, ls=":")
        axis.axvline(last_s, color="0.6", lw=0.5, ls=":")
        for one in window["energies"]:
            if not one["primary"] or not one["whole"] or (one["device"], one["domain"]) != (panel.device, panel.domain):
                continue
            seconds, span_s = window["duration_s"], [first_s, last_s]
            if one["joules"] is not None and seconds:
                style = STYLES.get(one["verdict"], ":")
                axis.plot(span_s, [one["joules"] / seconds] * 2, color="k", lw=1.1, ls=style, zorder=2.6)
                if one["low_j"] is not None:
                    low_w, high_w = one["low_j"] / seconds, one["high_j"] / seconds
                    axis.fill_between(span_s, low_w, high_w, color="k", alpha=0.13, lw=0)


def _alone(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the windows that hold no other, without those by the hundreds: all one would see is their intervals."""
    many = crowds(data["windows"])
    return leaves({"windows": [one for one in data["windows"] if stem(one["name"]) not in many]})


def _names(axis: Axes, data: Mapping[str, Any], start_ns: int) -> None:
    shown = _alone(data)
    if len(shown) > MOST_NAMED:
        return
    axis.set_ylim(top=1.12 * axis.get_ylim()[1])
    for one in shown:
        middle_s = ((one["start_ns"] + one["end_ns"]) / 2 - start_ns) / 1e9
        axis.text(
            middle_s, 0.97, _literal(one["name"], 16), fontsize=6.5, color="0.3", ha="center", va="top", clip_on=True,
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip


def _literal(text: str, room: int | None = None) -> str:
    """Return a text that matplotlib does not take for a formula."""
    return (text if room is None else cut(text, room)).replace("$", r"\$")


def _caption(data: Mapping[str, Any], shown: Sequence[Panel], known: int, name: str) -> Iterator[str]:
    """Yield what was measured how."""
    yield f"{cut(name, 80)}: {origin(data)}."
    window = max(data["windows"], key=lambda one: float(one["duration_s"]), default=None)
    channels = {one["name"]: one for one in data["channels"]}
    for panel in shown:
        drawn = "; ".join(f"{curve.label} {curve.how}" for curve in panel.curves)
        words = [f"{panel.name}: {drawn}"]
        for one in window["energies"] if window is not None else ():
            if window is not None and one["primary"] and (one["device"], one["domain"]) == (panel.device, panel.domain):
                rate_hz = channels.get(one["channel"], {}).get("achieved_hz")
                half = (
                    f", 95 % {interval(one)}".replace("+-", "\N{PLUS-MINUS SIGN}") if one["low_j"] is not None else ""
                )
                words.append(
                    f"{cut(window['name'], 30)} {number(one['joules'])} J{half} ({one['verdict']}) by {place(one)[1]}, "
                    f"{one['method']}, n = {one['updates']} updates in {one['polls']} reads at {number(rate_hz)} Hz"
                )
        yield ". ".join(words) + "."
    more = f" {known - len(shown)} more devices are not drawn." if known > len(shown) else ""
    yield (
        "Black lines and grey bands: mean power of each window and its 95 % interval; dashed where its verdict is "
        f"poor, dotted where it is unusable or unrated. Vermillion spans: nothing was read.{more}"
    )
    if data["simulated"]:
        yield "SIMULATED: not a measurement. Grey: the simulated node's exact power."
