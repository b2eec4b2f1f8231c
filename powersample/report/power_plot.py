# SPDX-License-Identifier: Apache-2.0
"""`report --png` and `--svg`: power over time for a paper, a panel a device, with what was measured how below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from powersample.analysis.repeats import stem
from powersample.errors import DeviceNotFound, InvalidArgument
from powersample.model import Trace, amount, duration
from powersample.report.answer import answer, longest
from powersample.report.build import Report
from powersample.report.curves import Curve, Panel, leaves, panels, spans
from powersample.report.figure import CURVES, TRUTH, VERMILLION, save_figure, sheet
from powersample.report.many import crowds
from powersample.report.table import DASH, cut, interval, number
from powersample.report.words import headline, origin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 12
MOST_NAMED = 24  # windows; of more, none is named
BAND_ROOM = 1.6  # of the highest power read: bands beyond it are cut
MOST_BANDS = 400
MOST_POINTS = 60_000
WIDTH_IN, PANEL_IN, LINE_IN, HEAD_IN, LETTERS = 7.0, 1.15, 0.135, 0.22, 128  # two columns of a paper
DPI = 220
NAME_PT, LEAST_LETTERS = 6.5, 5  # of a window's name
LETTER_IN = 0.6 * NAME_PT / 72  # of a name, on average
BAND = 0.16  # of black, over the truth as over paper
LOOK: dict[Any, Any] = {
    "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 8, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "legend.fontsize": 7, "legend.frameon": False, "legend.handlelength": 1.6,
    "svg.fonttype": "none",  # a paper's own letters, and text that can be searched
    "pdf.fonttype": 42,
}  # fmt: skip
STYLES = {"good": "-", "fair": "-", "poor": "--"}


def plot(trace: Trace, report: Report, path: Path, name: str, devices: Sequence[str] = ()) -> None:
    """Draw the power of every device over time, with its windows, their mean powers and intervals.

    GPUs of one model have one range of powers.

    Args:
        trace: the recording.
        report: what `build` says of it.
        path: where to; its end is the kind of picture.
        name: of the recording, for the caption.
        devices: these alone, as their panels are called ("gpu0", "package-0 dram"), with the shell's `*` and `?`.

    Raises:
        DeviceNotFound: one of `devices` is none; the message lists those there are.
        NotSupported: matplotlib is not installed.
        InvalidArgument: there is no readable power.
        OSError: the file cannot be written.
    """
    data = report.data
    known = [one for one in panels(trace, data, MOST_POINTS) if any(len(curve.points) for curve in one.curves)]
    if not known or trace.start_ns is None:
        raise InvalidArgument(f"{name} holds no readable power or energy: there is nothing to draw")
    shown = _chosen(known, devices)[:MOST_PANELS]
    said = headline(data)
    caption = [line for words in _caption(data, shown, len(known), name) for line in wrap(words, LETTERS)]
    above_in, below_in = (2 if said else 1) * HEAD_IN, 0.08 + LINE_IN * len(caption)
    panels_in = 0.4 + PANEL_IN * len(shown)
    high_in = above_in + panels_in + below_in
    figure = sheet(WIDTH_IN, high_in)
    figure.set_layout_engine("constrained", rect=(0, below_in / high_in, 1, panels_in / high_in))
    from matplotlib import rc_context

    with rc_context(LOOK):
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axis, panel in zip(axes, shown, strict=True):
            _panel(axis, panel, data, trace.start_ns)
        extent_s = ((trace.end_ns or 0) - trace.start_ns) / 1e9 or 1.0
        axes[-1].set_xlabel("time since the first reading, s")
        axes[-1].set_xlim(0, extent_s)
        _names(axes[0], data, trace.start_ns, extent_s)
        _share_ranges(list(axes), shown)
        figure.supylabel("power, W", fontsize=8)
        if said:
            figure.text(
                0.5, 1 - 0.03 / high_in, _literal(said[0]), fontsize=9, fontweight="bold", ha="center", va="top"
            )
        _legend(figure, data, shown, 1 - (above_in - HEAD_IN) / high_in)
        words = _literal("\n".join(caption))
        figure.text(0.01, 0.02 / high_in, words, fontsize=7, va="bottom", color="0.2", linespacing=1.3)
        save_figure(figure, path, DPI)


def _chosen(known: Sequence[Panel], devices: Sequence[str]) -> Sequence[Panel]:
    """Return the panels that patterns of names take, all without one."""
    for pattern in devices:
        if not any(fnmatchcase(panel.name, pattern) for panel in known):
            there = ", ".join(panel.name for panel in known)
            raise DeviceNotFound(f"no device {pattern!r} is drawn of this recording", f"There are {there}.")
    return [one for one in known if not devices or any(fnmatchcase(one.name, pattern) for pattern in devices)]


def _share_ranges(axes: Sequence[Axes], shown: Sequence[Panel]) -> None:
    """Give boards of one model one range: what one draws more than another is seen."""
    tops_w: dict[tuple[str, str], float] = {}
    for axis, panel in zip(axes, shown, strict=True):
        key = panel.board, panel.domain
        tops_w[key] = max(tops_w.get(key, 0.0), axis.get_ylim()[1])
    for axis, panel in zip(axes, shown, strict=True):
        if panel.board:
            axis.set_ylim(top=tops_w[panel.board, panel.domain])


def _legend(figure: Figure, data: Mapping[str, Any], shown: Sequence[Panel], top: float) -> None:
    """Say above all panels what is drawn in each of them: of windows, and of spans that nobody read."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[tuple[Any, str]] = []
    told = {one["verdict"] for window in _alone(data) for one in window["energies"] if one["primary"]}
    if told:
        band = (Patch(color="k", alpha=BAND, lw=0), Line2D([], [], color="k", lw=1))
        keys.append((band, "mean of a window, 95 % interval"))
    for verdicts, style, words in (
        ({"poor"}, "--", "where poor"),
        ({"unusable", "unrated"}, ":", "where unusable or unrated"),
    ):
        if told & verdicts:
            keys.append((Line2D([], [], color="k", lw=1, ls=style), words))
    if any(spans(panel, data) for panel in shown):
        keys.append((Patch(color=VERMILLION, alpha=0.3, lw=0), "unread"))
    if any(one["kind"] == "suspend" for one in data["clock"]["events"]):
        keys.append((Patch(color="0.8", lw=0), "asleep"))
    if keys:
        handles, labels = zip(*keys, strict=True)
        figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, top), ncols=len(keys))


def _panel(axis: Axes, panel: Panel, data: Mapping[str, Any], start_ns: int) -> None:
    for curve, colour in [*zip([c for c in panel.curves if not c.truth], CURVES, strict=False)][::-1]:
        _line(axis, curve, start_ns, color=colour, lw=0.8, label=_literal(curve.label, 30))
    for curve in panel.curves:
        if curve.truth:
            _line(axis, curve, start_ns, color=TRUTH, lw=1.2, label=f"{curve.label}, simulated", zorder=1.5)
    for first_ns, last_ns in spans(panel, data)[:MOST_BANDS]:
        axis.axvspan(
            (first_ns - start_ns) / 1e9, (last_ns - start_ns) / 1e9, color=VERMILLION, alpha=0.3, lw=0, zorder=1
        )
    for event in data["clock"]["events"]:
        if event["kind"] == "suspend":
            axis.axvspan((event["start_ns"] - start_ns) / 1e9, (event["end_ns"] - start_ns) / 1e9, color="0.8", lw=0)
    curves_w = axis.dataLim.y1
    _means(axis, panel, data, start_ns)
    axis.margins(y=0.08)
    # A band may reach far beyond: of a window shorter than the sensor's update it says only that nobody knows.
    axis.set_ylim(0, min(axis.get_ylim()[1], BAND_ROOM * curves_w) if curves_w > 0 else None)
    axis.locator_params(axis="y", nbins=4)
    board = f", {_literal(panel.board, 50)}" if panel.board else ""
    axis.set_title(f"{_literal(panel.name, 50)}{board}", loc="left", pad=3)
    axis.legend(loc="lower right", ncols=4, bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)
    axis.grid(color="0.9", lw=0.5)
    axis.set_axisbelow(True)
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
        for edge_s in (first_s, last_s):
            axis.axvline(edge_s, color="0.6", lw=0.4, ls=":")
        for one in window["energies"]:
            if not one["primary"] or not one["whole"] or (one["device"], one["domain"]) != (panel.device, panel.domain):
                continue
            seconds, span_s = window["duration_s"], [first_s, last_s]
            if one["joules"] is not None and seconds:
                style = STYLES.get(one["verdict"], ":")
                axis.plot(span_s, [one["joules"] / seconds] * 2, color="k", lw=0.9, ls=style, zorder=2.6)
                if one["low_j"] is not None:
                    low_w, high_w = one["low_j"] / seconds, one["high_j"] / seconds
                    axis.fill_between(span_s, low_w, high_w, color="k", alpha=BAND, lw=0, zorder=1.8)


def _alone(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the windows that hold no other, without those by the hundreds: all one would see is their intervals."""
    many = crowds(data["windows"])
    return leaves({"windows": [one for one in data["windows"] if stem(one["name"]) not in many]})


def _names(axis: Axes, data: Mapping[str, Any], start_ns: int, extent_s: float) -> None:
    """Write the windows' names over the uppermost panel, each in the room that its window has."""
    shown = _alone(data)
    if len(shown) > MOST_NAMED:
        return
    axis.set_ylim(top=1.12 * axis.get_ylim()[1])
    for one in shown:
        room = int(one["duration_s"] / extent_s * (WIDTH_IN - 0.7) / LETTER_IN)
        if room < LEAST_LETTERS and room < len(one["name"]):
            continue
        middle_s = ((one["start_ns"] + one["end_ns"]) / 2 - start_ns) / 1e9
        axis.text(
            middle_s, 0.98, _literal(one["name"], room), fontsize=NAME_PT, color="0.3", ha="center", va="top",
            clip_on=True, transform=axis.get_xaxis_transform(),
        )  # fmt: skip


def _literal(text: str, room: int | None = None) -> str:
    """Return a text that matplotlib does not take for a formula."""
    return (text if room is None else cut(text, room)).replace("$", r"\$")


def _caption(data: Mapping[str, Any], shown: Sequence[Panel], known: int, name: str) -> Iterator[str]:
    """Yield what was measured how, in a few sentences."""
    yield f"{cut(name, 60)}: {origin(data)}."
    window = longest(data)
    told = None if window is None else answer(window)
    words = []
    if window is not None and told is not None:
        half = interval({"joules": told.joules, "low_j": told.low_j, "high_j": told.high_j})
        half = "no interval" if half == DASH else f"95 % {half}".replace("+-", "\N{PLUS-MINUS SIGN}")
        words.append(
            f"{cut(window['name'], 30)}: {number(told.joules)} J ({half}, {told.verdict}) in "
            f"{number(window['duration_s'])} s, of {told.what}."
        )
    if data["simulated"]:
        words.append("SIMULATED, not a measurement.")
    if words:
        yield " ".join(words)
    more = f" {known - len(shown)} more devices are not drawn." if known > len(shown) else ""
    yield _how(data, shown) + more


def _how(data: Mapping[str, Any], shown: Sequence[Panel]) -> str:
    """Return how the drawn channels were read."""
    drawn = [curve for panel in shown for curve in panel.curves if not curve.truth]
    words = []
    if any(not curve.mean_ns for curve in drawn):
        words.append("powers as read, each value until the next")
    means = sorted({duration(curve.mean_ns / 1e9) for curve in drawn if curve.mean_ns})
    if means:
        words.append(f"counters as means over {' or '.join(means)}")
    names = {curve.channel for curve in drawn}
    rates = [one["achieved_hz"] for one in data["channels"] if one["name"] in names and one["achieved_hz"]]
    if rates:
        ends = [amount(one) for one in (min(rates), max(rates))]
        words.append(f"read at {' to '.join(dict.fromkeys(ends))} Hz")
    said = ", ".join(words)
    return f"{said[:1].upper()}{said[1:]}."
