# SPDX-License-Identifier: Apache-2.0
"""The demonstration as a screen of text and as a picture."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from powersample.experiments import plots
from powersample.experiments.demo.run import Demo
from powersample.experiments.figures import figures, method_json
from powersample.experiments.method import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MISSING = "-"


def headline(demo: Demo) -> str:
    """Return the line that every form of the result must begin with."""
    return f"SIMULATED NODE {demo.node['profile']}, not a measurement"


def _board(demo: Demo) -> str:
    board, seed = demo.node["boards"][0], demo.node["board_seed"]
    errors_of_it = f"gain {board['gain']:.3f}, offset {board['offset_w']:+.1f} W"
    return f"perfect ({errors_of_it})" if seed is None else f"drawn with --board {seed} ({errors_of_it})"


def to_json(demo: Demo) -> dict[str, Any]:
    """Return the machine-readable form, schema_version 1."""
    return {
        "schema_version": 1,
        "simulated": True,
        "profile": demo.node["profile"],
        "board": _board(demo),
        "truth_j": demo.lap.run_truth_j,
        "epoch_truth_j": [float(value) for value in demo.lap.truth_j],
        "methods": [method_json(method) for method in demo.methods],
    }


def to_text(demo: Demo) -> str:
    """Return the result as a screen of at most 100 columns."""
    duration_s = (demo.lap.run.end_ns - demo.lap.run.start_ns) / 1e9
    lines = [
        headline(demo),
        f"training in numpy for {duration_s:.1f} s; its epochs wait for data for different shares of their time",
        "load of the simulated GPU: full power while the training computes, idle while it waits",
        f"board: {_board(demo)}",
        "",
        "Energy per epoch in J, and its error against the exact truth",
        "",
    ]
    ran = [method for method in demo.methods if method.reason is None]
    lines.append(_row("epoch", "truth", [method.name for method in ran]))
    for index, truth_j in enumerate(demo.lap.truth_j):
        cells = [_cell(float(method.epoch_j[index]), float(truth_j)) for method in ran]
        lines.append(_row(str(index), f"{truth_j:.1f}", cells))
    cells = [_cell(np.nan if method.run_j is None else method.run_j, demo.lap.run_truth_j) for method in ran]
    lines += [_row("run", f"{demo.lap.run_truth_j:.1f}", cells), "", *_quality(demo, ran), ""]
    if demo.lap.void is not None:
        lines.append(f"The truth is void, and no error against it to be trusted: {demo.lap.void}.")
    lines += [f"{method.name} reads {method.reads}." for method in ran]
    lines += [f"{method.name}: not run, {method.reason}" for method in demo.methods if method.reason is not None]
    return "\n".join(line for long in lines for line in (textwrap.wrap(long, 100) if len(long) > 100 else [long]))


def _row(title: str, value: str, cells: list[str]) -> str:
    return f"{title:>{26 - 10}}{value:>10}" + "".join(f"{cell:>24}" for cell in cells)


def _cell(joules: float, truth_j: float) -> str:
    if np.isnan(joules):
        return MISSING
    return f"{joules:.1f} ({100 * (joules / truth_j - 1):+6.2f} %)"


def _quality(demo: Demo, ran: list[Method]) -> list[str]:
    found = [figures(method) for method in ran]

    def number(value: float | None, form: str, unit: str) -> str:
        return MISSING if value is None else format(value, form) + unit

    rows = [
        ("median epoch error", [number(one.error_pct.median, ".2f", " %") for one in found]),
        ("worst epoch error", [number(one.error_pct.max, ".2f", " %") for one in found]),
        ("updates published", [str(one.updates_published) for one in found]),
        ("updates seen", [str(one.updates_seen) for one in found]),
        ("polls (a second)", [f"{one.polls} ({one.achieved_hz:.0f})" for one in found]),
        ("longest gap", [number(one.gap_max_ms, ".1f", " ms") for one in found]),
        ("CPU time", [number(method.cost.cpu_s, ".2f", " s") for method in ran]),
    ]
    return [f"{title:>26}" + "".join(f"{cell:>24}" for cell in cells) for title, cells in rows]


def write_png(demo: Demo, path: Path) -> None:
    """Draw power over time and the epochs' errors.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    with plots.picture(path, headline(demo), (11, 7.5)) as figure:
        power, error_axis = figure.subplots(2, 1, height_ratios=(3, 2))
        _draw_power(power, demo)
        _draw_errors(error_axis, demo)


def _draw_power(axes: Axes, demo: Demo) -> None:
    start_ns = demo.lap.run.start_ns
    truth = demo.trace.series("truth.gpu0.energy")
    inside = (truth.t_ns > demo.lap.run.start_ns) & (truth.t_ns < demo.lap.run.end_ns)
    edges_ns = np.concatenate(([demo.lap.run.start_ns], truth.t_ns[inside], [demo.lap.run.end_ns]))
    edges_s = (edges_ns - start_ns) / 1e9
    joules = np.interp(edges_s, (truth.t_ns - start_ns) / 1e9, truth.value)
    watts = np.diff(joules) / np.maximum(np.diff(edges_s), 1e-9)
    read = {one.name: ((one.t_ns - start_ns) / 1e9, one.watts) for one in demo.methods if len(one.t_ns)}
    plots.power_over_time(axes, (edges_s, watts), read)
    for window in demo.lap.epochs:
        axes.axvline((window.start_ns - start_ns) / 1e9, color="0.4", lw=0.6, ls=":")
    axes.set_xlim(0, (demo.lap.run.end_ns - start_ns) / 1e9)
    axes.set_title("What each method read, over the exact power (dotted: epochs)")


def _draw_errors(axes: Axes, demo: Demo) -> None:
    ran = [method for method in demo.methods if method.reason is None]
    width = 0.8 / max(1, len(ran))
    for place, method in enumerate(ran):
        error_pct = 100 * (method.epoch_j / demo.lap.truth_j - 1)
        x = np.arange(len(error_pct)) + (place - (len(ran) - 1) / 2) * width
        label = f"{method.name}: {method.reads}"
        axes.bar(x, np.nan_to_num(error_pct), width * 0.92, color=plots.colour_of(method.name), label=label)
        for missing in np.flatnonzero(np.isnan(error_pct)):
            axes.text(x[missing], 0, "none", rotation=90, ha="center", va="bottom", fontsize=7)
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set(xlabel="epoch", ylabel="energy error in %", xticks=np.arange(len(demo.lap.epochs)))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    axes.set_title("Energy of each epoch against the truth")
