# SPDX-License-Identifier: Apache-2.0
"""The race as one picture: what was read over the exact power, errors by epoch length, distributions, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from powersample.experiments import plots
from powersample.experiments.method import Lap, Method
from powersample.experiments.race.run import Race
from powersample.experiments.race.show import ran

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (
    "native",
    "pynvml-instant",
    "pynvml-thread",
    "nvidia-smi-lms",
    "ea-has-tracer",
)  # over time; all would be no picture
STRETCH_S = 6.0
CYCLE_NS = 100_000_000  # of the paper's meter
UNDER_TEXT_PCT = 35.0  # a bar this long lies under all of the text on it
FEW_POLLS = 40  # a second: below, they are drawn as points


def write_png(race: Race, path: Path) -> None:
    """Draw the race.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    methods = [method for method in ran(race) if method.lap is not None]
    over_time = [method for method in methods if method.name in SHOWN] or methods[:4]
    rows = len(over_time)
    with plots.picture(path, race.headline, (12, 7 + 1.5 * rows)) as figure:
        grid = figure.add_gridspec(rows + 2, 2, height_ratios=(*[1.0] * rows, 2.2, 2.2))
        for row, method in enumerate(over_time):
            axes = figure.add_subplot(grid[row, :])
            _over_time(axes, method)
            if row == 0:
                whose = "the lap they shared" if race.setup.together else "its own lap"
                axes.set_title(f"What each read in the first epochs (dotted), over the exact power of {whose}")
            if row < rows - 1:
                axes.set_xlabel("")
        _errors(figure.add_subplot(grid[rows, 0]), methods)
        _distributions(figure.add_subplot(grid[rows, 1]), methods)
        gaps = figure.add_subplot(grid[rows + 1, 0])
        plots.gaps(gaps, {method.name: method.t_ns for method in methods})
        gaps.set_title("Spacing of the readings; what matters is the tail")
        _updates(figure.add_subplot(grid[rows + 1, 1]), methods)


def _over_time(axes: Axes, method: Method) -> None:
    lap = method.lap
    assert lap is not None
    begin_ns = lap.run.start_ns
    seen = {method.name: ((method.t_ns - begin_ns) / 1e9, method.watts)}
    truth = None if lap.power is None else ((lap.power[0] - begin_ns) / 1e9, lap.power[1])
    slow = len(method.t_ns) < FEW_POLLS * lap.run.duration_s
    plots.power_over_time(axes, truth, seen, points=(method.name,) if slow else ())
    for window in lap.epochs[1:]:
        axes.axvline((window.start_ns - begin_ns) / 1e9, color="0.3", lw=0.8, ls=":")
    axes.set_xlim(0, min(STRETCH_S, lap.run.duration_s))
    axes.annotate(
        f"reads {method.reads}", (0.005, 1.0), xycoords="axes fraction", va="top", fontsize=8.5, color="0.3",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.legend(loc="upper right", ncols=2, frameon=False)


def _errors(axes: Axes, methods: Sequence[Method]) -> None:
    seconds, error_pct = {}, {}
    for method in methods:
        lap = method.lap
        assert lap is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            error_pct[method.name] = 100 * (method.epoch_j / lap.truth_j - 1)
        seconds[method.name] = np.array([window.duration_s for window in lap.epochs])
    plots.errors_by_length(axes, seconds, error_pct)
    axes.set_title("Energy of each epoch against the reference")


def _distributions(axes: Axes, methods: Sequence[Method]) -> None:
    values = {}
    laps = [method.lap for method in methods if method.lap is not None and method.lap.power is not None]
    if laps:
        values[plots.EXACT_MEANS] = cycles_w(laps[0])
    values |= {method.name: method.watts for method in methods}
    plots.distributions(axes, values, "power in W", {plots.EXACT_MEANS: {"color": "0.25", "lw": 2.4}})
    known_from = "the paper's figure 2" if len(methods) <= plots.MOST_NAMED else "colours as below"
    axes.set_title(f"What was read, as a distribution ({known_from})")


def cycles_w(lap: Lap) -> NDArray[np.float64]:
    """Return the exact mean power of each whole 100 ms of a lap, in W: what a meter would tell of it."""
    assert lap.power is not None
    edges_ns, watts = lap.power
    t_s = (edges_ns - edges_ns[0]) / 1e9
    joules = np.concatenate(([0.0], np.cumsum(watts * np.diff(t_s))))
    ends_s = (np.arange(lap.run.start_ns, lap.run.end_ns, CYCLE_NS) - edges_ns[0]) / 1e9
    return np.asarray(np.diff(np.interp(ends_s, t_s, joules)) / (CYCLE_NS / 1e9), np.float64)


def _updates(axes: Axes, methods: Sequence[Method]) -> None:
    from powersample.experiments.figures import figures

    names = [method.name for method in methods][::-1]
    found = [figures(method) for method in methods][::-1]
    share = [100 * one.updates_seen / one.updates_published if one.updates_published else np.nan for one in found]
    axes.barh(names, share, color=[plots.colour_of(name) for name in names], height=0.65)
    for place, one in enumerate(found):
        polls = f"{one.polls} polls for {one.updates_seen} of {one.updates_published or '?'}"
        under = share[place] > UNDER_TEXT_PCT
        dark = under and plots.is_dark(plots.colour_of(names[place]))
        axes.annotate(
            polls,
            (2 if under else np.nan_to_num(share[place]) + 2, place),
            va="center",
            fontsize=8.5,
            color="white" if dark else "black",
        )
    axes.set(xlabel="updates seen of those the sensor published, %", xlim=(0, 101))
    axes.set_title("More polls of a slow sensor are no more information")
