# SPDX-License-Identifier: Apache-2.0
"""The paper's mechanism as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from powersample.experiments import plots
from powersample.experiments.figures import FEW
from powersample.experiments.method import Method
from powersample.experiments.paper.epochs import LENGTHS_S, SLEEP_S
from powersample.experiments.paper.loop import ALIKE_S, Traced
from powersample.experiments.paper.run import Paper
from powersample.experiments.paper.show import PAPERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRETCH_S = 11.0  # of the run that is shown over time
CROWDED = 1.6  # a cost that lies so near the next one is not labelled
QUICK, ALIKE = "#7F3C8D", "#1B7F79"


def write_png(paper: Paper, path: Path) -> None:
    """Draw power over time, its distribution, the epochs' errors, and the loop's curve over the cost of a call.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    with plots.picture(path, paper.headline, (12, 11)) as figure:
        grid = figure.add_gridspec(3, 6, height_ratios=(1, 1.15, 1.15))
        methods = [method for method in (paper.native, paper.tracer) if method.reason is None]
        _over_time(figure.add_subplot(grid[0, :]), paper, methods)
        _errors(figure.add_subplot(grid[1, :3]), paper)
        _distributions(figure.add_subplot(grid[1, 3:]), paper, methods)
        _curve(figure.add_subplot(grid[2, :2]), paper)
        _correlation(figure.add_subplot(grid[2, 2:4]), paper, "power")
        _correlation(figure.add_subplot(grid[2, 4:]), paper, "energy")


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
    meter = plots.EXACT_MEANS
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
    axes.set_title(f"In virtual time, {len(paper.model[0].counts)} epochs a cost")


def _correlation(axes: Axes, paper: Paper, quantity: str) -> None:
    """Draw how the loop's "power" or "energy" correlates with the truth: of epochs, and beside it of trainings."""
    costs_ms = [1e3 * one.cost_s for one in paper.model]

    def line(models: Sequence[Traced], colour: str, kind: str) -> None:
        for what, style, fill, label in (("epoch", "o-", colour, kind), ("run", "o--", "white", None)):
            found = [getattr(one, f"{what}_{quantity}_r") for one in models]
            axes.plot(costs_ms, [np.nan if r is None else r for r in found], style, color=colour, mfc=fill, label=label)

    mean = "1 s mean" if paper.slow_field else "this driver"
    line(paper.model, plots.colour_of("ea-has-tracer"), f"{mean}, epochs of {LENGTHS_S[0]:g} to {LENGTHS_S[1]:g} s")
    line(paper.alike, ALIKE, f"{mean}, all of {ALIKE_S[0]:g} s")
    line(paper.quick, QUICK, f"quick (driver 530), {LENGTHS_S[0]:g} to {LENGTHS_S[1]:g} s")
    native_r = getattr(paper.told, f"epoch_{quantity}_r")
    if native_r is not None:
        axes.axhline(native_r, color=plots.colour_of("native"), lw=1.4, label="native, epochs, in real time")
    _by_cost(axes, costs_ms)
    axes.set(ylabel="Pearson correlation with the truth", ylim=(0, 1.03))
    if quantity == "energy":
        axes.legend(frameon=False, loc="lower left", title="solid: of epochs; dashed: of trainings", fontsize=8.5)
        axes.set_title("r of energy, which lengths lift")
    else:
        axes.set_title("r of mean power")


def _by_cost(axes: Axes, costs_ms: Sequence[float]) -> None:
    axes.set_xscale("log")
    crowded = [b < CROWDED * a for a, b in pairwise(costs_ms)] + [False]
    axes.set_xticks(costs_ms, ["" if near else f"{one:g}" for one, near in zip(costs_ms, crowded, strict=True)])
    axes.minorticks_off()
    axes.set_xlabel("cost of a call in ms")
