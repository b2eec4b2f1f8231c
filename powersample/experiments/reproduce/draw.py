# SPDX-License-Identifier: Apache-2.0
"""The study as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from powersample.experiments import plots
from powersample.experiments.reproduce.figures import WAYS
from powersample.experiments.reproduce.findings import MEANS
from powersample.experiments.reproduce.holistic import AFFINE, HIGH, LOW, NODE, PRIOR
from powersample.experiments.reproduce.inputs import FINDINGS, PAPERS_PCT
from powersample.experiments.reproduce.run import Reproduction
from powersample.experiments.reproduce.show import headline
from powersample.experiments.reproduce.tracing import METER, NATIVE, NVML, SMI, Setting, row, settings
from powersample.model import amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {SMI: "ea-has-tracer", NVML: "pynvml-thread", NATIVE: "native"}  # as the methods that they stand for
NAMES = {SMI: "nvidia-smi's loop", NVML: "NVML, 10/s", NATIVE: "powersample"}
TRUTH = "0.25"
SHORT = {
    LOW: "counters\n+ P_idle",
    HIGH: "+ P_busy,\nstress",
    PRIOR: "+ P_busy,\nprimes",
    AFFINE: "affine\n(ours)",
    NODE: "node model\n(ours)",
}
OF_PAPER = "#7F3C8D"
ROOM = 0.9  # of a setting's width


def write_png(study: Reproduction, path: Path) -> None:
    """Draw power of epochs told and through the meter, correlations by setting, and errors of the whole node.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    with plots.picture(path, headline(study), (12.5, 11.5)) as figure:
        grid = figure.add_gridspec(3, 2, height_ratios=(1.1, 1, 1.1))
        for column, field in enumerate(MEANS):
            place = max(i for i, one in enumerate(settings()) if one.field == field)
            _epochs(figure.add_subplot(grid[0, column]), study, place)
        _correlations(figure.add_subplot(grid[1, :]), study)
        for column, name in enumerate(("one", "four")):
            _errors(figure.add_subplot(grid[2, column]), study, name)


def _epochs(axes: Axes, study: Reproduction, place: int) -> None:
    tracing = study.here.tracings[place]
    meter_w = tracing.told_w[METER]
    for tool in (SMI, NVML, NATIVE):
        axes.plot(meter_w, tracing.told_w[tool], "o", ms=3, mew=0, alpha=0.45, color=_colour(tool), label=_label(tool))
    low, high = float(meter_w.min()), float(meter_w.max())
    axes.plot((low, high), (low, high), color="0.3", lw=0.8)
    axes.set(xlabel="mean power of an epoch through the meter, W", ylabel="as told, W")
    axes.legend(frameon=False, loc="upper left", markerscale=2)
    axes.set_title(f"One GPU, {_words(tracing.setting)}")


def _colour(tool: str) -> str:
    return plots.colour_of(COLOURS[tool])


def _label(tool: str) -> str:
    return NAMES[tool]


def _words(setting: Setting) -> str:
    epochs = " to ".join(amount(seconds, 2) for seconds in setting.lengths_s)
    return f"{MEANS[setting.field]}, calls of {1e3 * setting.call_s:g} ms, epochs of {epochs} s"


def _correlations(axes: Axes, study: Reproduction) -> None:
    """Draw r of the epochs' mean powers: a bar a tool for the node of the profile, a line for the drawn ones."""
    width = 0.26
    for number, tool in enumerate((SMI, NVML, NATIVE)):
        x = np.arange(len(settings())) + (number - 1) * width
        here = [row(one.meter, tool, "epoch", "W").pearson or 0.0 for one in study.here.tracings]
        axes.bar(x, here, 0.92 * width, color=_colour(tool), label=_label(tool))
        for place, at in enumerate(x):
            drawn = [row(one.tracings[place].meter, tool, "epoch", "W").pearson for one in study.drawn]
            axes.plot((at, at), np.percentile([one for one in drawn if one is not None], (5, 95)), color=TRUTH, lw=1.6)
    for name, words in (("smi_epoch_r", "nvidia-smi"), ("nvml_r", "NVML")):
        value = float(FINDINGS[name].value)
        axes.axhline(value, color=OF_PAPER, lw=1, ls="--")
        axes.annotate(f"the paper, {words}: {FINDINGS[name].value}", (0.998, value + 0.012), ha="right", va="bottom",
                      xycoords=("axes fraction", "data"), fontsize=8.5, color=OF_PAPER)  # fmt: skip
    axes.set_xticks(
        range(len(settings())),
        [f"{MEANS[one.field]}\ncalls {1e3 * one.call_s:g} ms\nepochs {'-'.join(amount(s, 2) for s in one.lengths_s)} s"
         for one in settings()],
        fontsize=8.5,
    )  # fmt: skip
    right = len(settings()) - 1 + 2 * width + ROOM  # the paper's values stand beside the bars, not on them
    axes.set(ylabel="r of the epochs' power", xlim=(-0.6, right), ylim=(0, 1.24), yticks=(0, 0.2, 0.4, 0.6, 0.8, 1))
    axes.legend(frameon=False, loc="upper left", ncols=3)
    axes.set_title(
        f"Agreement with the GPU power through the meter (lines: 5 to 95 % of {len(study.drawn)} drawn nodes)"
    )


def _errors(axes: Axes, study: Reproduction, name: str) -> None:
    """Draw the errors of all trainings of the drawn nodes, and of the node of the profile as points."""
    ways = [way for way, _, _ in WAYS if way != "Code Carbon 3"]  # off by half: it would flatten all others
    drawn = [np.concatenate([getattr(one, name).error_pct[way] for one in study.drawn]) for way in ways]
    axes.boxplot(drawn, whis=(5, 95), showfliers=False, widths=0.5, medianprops={"color": TRUTH})
    for place, way in enumerate(ways, 1):
        errors = getattr(study.here, name).error_pct[way]
        axes.plot(np.full(len(errors), place + 0.36), errors, "o", ms=3, mew=0, color=plots.colour_of("native"))
    axes.axhline(0, color="0.3", lw=0.8)
    if name == "one":  # the paper's own were of one GPU
        x = [ways.index(way) + 0.64 for way in PAPERS_PCT]
        axes.plot(x, list(PAPERS_PCT.values()), "D", ms=6, color=OF_PAPER, mfc="white", label="the paper")
        axes.legend(frameon=False, loc="lower right")
    axes.set_xticks(range(1, len(ways) + 1), [SHORT.get(way, way.replace(" ", "\n", 1)) for way in ways], fontsize=8.5)
    axes.set(ylabel="error of a training's energy at the plug, %")
    axes.set_title(
        f"{'2a, one GPU' if name == 'one' else '2b, four GPUs'} (boxes: drawn nodes; points: {study.profile})"
    )
