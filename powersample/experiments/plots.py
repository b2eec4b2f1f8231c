# SPDX-License-Identifier: Apache-2.0
"""The drawings that experiments share: power over time, its distribution, gaps between readings, errors by length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample.report.figure import BLUE, GREEN, ORANGE, PURPLE, SKY, TRUTH, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXACT_MEANS = "exact power, 100 ms means"  # what an ideal meter of that cycle would tell
# Native is the blue one everywhere.
COLOURS = {
    "native": BLUE,
    "native-follow": SKY,
    "native-binary": "#2B1B7F",
    "pynvml-thread": ORANGE,
    "pynvml-instant": "#F0C34A",
    "cuda-bindings": "#7A6A00",
    "nvidia-smi-lms": PURPLE,
    "nvidia-smi-spawn": "#8B3A62",
    "ea-has-tracer": VERMILLION,
    "codecarbon": GREEN,
    "zeus": "#66A61E",
    "carbontracker": "#5A3210",
}
OTHER = "0.35"
MOST_NAMED = 4  # methods that every drawing names; of more, one drawing of a picture does
ASIDE = 1.018  # of many methods each is drawn so much beside the next: their epochs are equally long


def colour_of(name: str) -> str:
    """Return a method's colour."""
    return COLOURS.get(name, OTHER)


def is_dark(colour: str) -> bool:
    """Whether white is easier to read on it than black, by the luma of ITU-R BT.601."""
    from matplotlib.colors import to_rgb

    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) < 0.5


@contextmanager
def picture(path: Path, headline: str, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield a figure that is written to `path` with its headline on top; nothing is written when the drawing fails.

    Raises:
        NotSupported: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise errors.NotSupported("the picture needs matplotlib: pip install matplotlib") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(
        {"axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "font.size": 9.5}
    ):
        figure = plt.figure(figsize=size, layout="constrained", dpi=120)
        try:
            yield figure
            figure.suptitle(headline, fontsize=13, fontweight="bold")
            figure.savefig(path)
        finally:
            plt.close(figure)


def power_over_time(
    axes: Axes,
    truth: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    methods: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    *,
    points: tuple[str, ...] = (),
) -> None:
    """Draw what each method read over the exact power.

    Args:
        axes: Where to.
        truth: Edges in s, shape (n + 1,), and the power between them in W, shape (n,); None where nobody knows.
        methods: Of each its instants in s and its readings in W; a line holds each reading until the next.
        points: Methods drawn as points, for those that say nothing of what lies between.
    """
    if truth is not None:
        axes.stairs(truth[1], truth[0], color=TRUTH, fill=True, label="exact power")
    for name, (t_s, watts) in methods.items():
        if name in points:
            axes.plot(t_s, watts, "o", ms=4, mew=0, color=colour_of(name), label=name, zorder=3)
        else:
            axes.step(t_s, watts, where="post", lw=1.2, color=colour_of(name), label=name)
    axes.set(xlabel="time in s", ylabel="GPU power in W")
    top = max(
        [1.0, *(float(w.max()) for _, w in methods.values() if len(w)), *([] if truth is None else [truth[1].max()])]
    )
    axes.set_ylim(0, 1.2 * top)
    axes.legend(loc="upper center", ncols=5, frameon=False)


def distributions(
    axes: Axes, values: Mapping[str, NDArray[np.float64]], label: str, styles: Mapping[str, dict[str, Any]]
) -> None:
    """Draw the cumulative distribution of each set of values; `styles` has line properties of some by name.

    Of many sets only those with a style of their own are named: the names would lie over the lines.
    """
    for name, each in values.items():
        if len(each):
            style = {"color": colour_of(name), "lw": 1.6, **styles.get(name, {})}
            named = name in styles or not styles or len(values) <= MOST_NAMED + 1
            axes.ecdf(each, label=name if named else None, **style)
    axes.set(xlabel=label, ylabel="share of them up to here", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="best", fontsize=8.5)


def gaps(axes: Axes, t_ns: Mapping[str, NDArray[np.int64]]) -> None:
    """Draw the distribution of the spacing of each method's readings; the slowest tenth is what matters."""
    spacing = {
        name: np.asarray(np.diff(np.sort(each)), np.float64) / 1e6 for name, each in t_ns.items() if len(each) > 1
    }
    distributions(axes, spacing, "ms from one reading to the next", {})
    axes.set_xscale("log")


def errors_by_length(
    axes: Axes, seconds: Mapping[str, NDArray[np.float64]], error_pct: Mapping[str, NDArray[np.float64]]
) -> None:
    """Draw the error of every epoch's energy over its length; epochs without an energy are left out."""
    many = len(error_pct) > MOST_NAMED
    for place, (name, each) in enumerate(error_pct.items()):
        aside = ASIDE ** (place - (len(error_pct) - 1) / 2) if many else 1.0
        axes.plot(aside * seconds[name], each, "o", ms=4.5, mew=0, alpha=0.8, color=colour_of(name), label=name)
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set(xlabel="length of the epoch in s", ylabel="error of its energy in %")
    axes.set_xscale("log")
    marks = [one for one in (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60) if _within(one, seconds)]
    axes.set_xticks(marks, [f"{one:g}" for one in marks])
    axes.minorticks_off()
    if not many:
        axes.legend(frameon=False, loc="best")


def _within(value: float, seconds: Mapping[str, NDArray[np.float64]]) -> bool:
    there = [each for each in seconds.values() if len(each)]
    return bool(there) and min(e.min() for e in there) / 1.3 <= value <= 1.3 * max(e.max() for e in there)
