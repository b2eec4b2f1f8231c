# SPDX-License-Identifier: Apache-2.0
"""The paper's mechanism as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from powersample.experiments import plots
from powersample.experiments.figures import FEW
from powersample.experiments.method import Method
from powersample.experiments.paper.epochs import SLEEP_S
from powersample.experiments.paper.loop import Traced
from powersample.experiments.paper.run import Paper
from powersample.experiments.paper.show import PAPERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRETCH_S = 11.0  # of the run that is shown over time
QUICK = "#7F3C8D"


def write_png(paper: Paper, path: Path) -> None:
    """Draw power over time, its distribution, the epochs' errors, and the loop's curve over the cost of a call.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    with plots.picture(path, paper.headline, (12, 11)) as figure:
        grid = figure.add_gridspec(3, 2, height_ratios=(1, 1.15, 1.15))
        methods = [method for method in (paper.native, paper.tracer) if method.reason is None]
        _over_time(figure.add_subplot(grid[0, :]), paper, methods)
        _errors(figure.add_subplot(grid[1, 0]), paper)
        _distributions(figure.add_subplot(grid[1, 1]), paper, methods)
        _curve(figure.add_subplot(grid[2, 0]), paper)
        _correlation(figure.add_subplot(grid[2, 1]), paper)


def _over_time(axes: Axes, paper: Paper, methods: Sequence[Method]) -> None:
    begin_ns = paper.lap.run.start_ns - 300_000_000
    t_s, watts = zip(*paper.load, strict=True)
    edges_s = np.append(t_s, t_s[-1] + 1.0) - (begin_ns - paper.start_ns) / 1e9
    shown = {}
    for method in methods:
        at_s = (method.t_ns - begin_ns) / 1e9
        shown[method.name] = (at_s, method.watts)
    plots.power_over_time(axes, (edges_s, np.array(watts)), shown, points=("ea-has-tracer",))
    axes.set_xlim(0, min(STRETCH_S, (paper.lap.run.end_ns - begin_ns) / 1e9))
    for window in paper.lap.epochs:
        span_s = ((window.start_ns - begin_ns) / 1e9, (window.end_ns - begin_ns) / 1e9)
        axes.plot(span_s, (4, 4), color="0.2", lw=3, solid_capstyle="butt")
    axes.set_title(f"The first epochs (bars): the tracer reads power.draw, {paper.meaning}; native field 186")


def _errors(axes: Axes, paper: Paper) -> None:
    both = {"ea-has-tracer": paper.traced, "native": paper.told}
    ran = {name: one for name, one in both.items() if one is not None}
    plots.errors_by_length(
        axes, {name: one.lengths_s for name, one in ran.items()}, {name: one.error_pct for name, one in ran.items()}
    )
    if paper.call_s is not None:
        axes.axvline(FEW * (SLEEP_S + paper.call_s), color="0.5", lw=1, ls="--")
        axes.annotate(
            "at most 10 readings", (FEW * (SLEEP_S + paper.call_s), 0.03), xycoords=("data", "axes fraction"),
            xytext=(-4, 0), textcoords="offset points", ha="right", color="0.4", fontsize=8.5,
        )  # fmt: skip
    axes.set_title("Energy of each epoch against the truth")


def _distributions(axes: Axes, paper: Paper, methods: Sequence[Method]) -> None:
    inside = {
        method.name: np.concatenate(
            [method.watts[(method.t_ns >= w.start_ns) & (method.t_ns <= w.end_ns)] for w in paper.lap.epochs]
        )
        for method in methods
    }
    meter = "a meter (100 ms)"
    plots.distributions(
        axes,
        {meter: np.concatenate(paper.meter_w), **inside},
        "power within the epochs in W",
        {meter: {"color": "0.25", "lw": 2.2}},
    )
    axes.set_title("What was read, as a distribution (the paper's figure 2)")


def _curve(axes: Axes, paper: Paper) -> None:
    costs_ms = [1e3 * one.cost_s for one in paper.model]
    axes.plot(costs_ms, [100 * one.few_share for one in paper.model], "o-", color=plots.colour_of("ea-has-tracer"))
    if paper.traced is not None and paper.call_s is not None:
        here = (1e3 * paper.call_s, 100 * paper.traced.few_share)
        axes.plot(*here, "D", ms=8, color=plots.colour_of("ea-has-tracer"), mfc="white", label="here, in real time")
        axes.legend(frameon=False, loc="lower right")
    axes.axhline(100 * PAPERS["few_share"], color="0.5", lw=1, ls="--")
    axes.annotate("39 % in the paper, of its own epochs", (costs_ms[-1], 100 * PAPERS["few_share"] + 1.5), ha="right",
                  color="0.4", fontsize=8.5)  # fmt: skip
    _by_cost(axes, costs_ms)
    axes.set(ylabel="epochs of at most 10 readings in %", ylim=(0, 105))
    axes.set_title(f"The loop in virtual time, {len(paper.model[0].counts)} epochs at each cost")


def _correlation(axes: Axes, paper: Paper) -> None:
    costs_ms = [1e3 * one.cost_s for one in paper.model]

    def line(models: Sequence[Traced], colour: str, kind: str) -> None:
        power = [np.nan if one.epoch_power_r is None else one.epoch_power_r for one in models]
        run = [np.nan if one.run_energy_r is None else one.run_energy_r for one in models]
        axes.plot(costs_ms, power, "o-", color=colour, label=f"power of an epoch, {kind}")
        axes.plot(costs_ms, run, "s--", color=colour, mfc="white", label=f"energy of a training, {kind}")

    line(paper.model, plots.colour_of("ea-has-tracer"), "power.draw a 1 s mean" if paper.slow_field else "this driver")
    line(paper.quick, QUICK, "power.draw quick (driver 530)")
    if paper.told.epoch_power_r is not None:
        label = "power of an epoch, native in real time"
        axes.axhline(paper.told.epoch_power_r, color=plots.colour_of("native"), lw=1.4, label=label)
    _by_cost(axes, costs_ms)
    axes.set(ylabel="Pearson correlation with the truth", ylim=(0, 1.03))
    axes.legend(frameon=False, loc="lower left")
    axes.set_title("Good over a training, poor over an epoch")


def _by_cost(axes: Axes, costs_ms: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(costs_ms, [f"{one:g}" for one in costs_ms])
    axes.minorticks_off()
    axes.set_xlabel("cost of a call in ms")
