# SPDX-License-Identifier: Apache-2.0
"""What a calibration left over: errors of every point, fitted and left out, over the power that the counters saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from powersample.model import Calibration
from powersample.report.calibration import PointOff, equation, points_off, title
from powersample.report.figure import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, save_figure, sheet
from powersample.report.table import cut

COLOURS = {
    "idle": "0.35", "primes": BLUE, "fma": SKY, "stream": GREEN, "mix": ORANGE, "gpu": VERMILLION, "other": PURPLE,
}  # fmt: skip
MOST_NAMED, NAME_ROOM = 24, 24


def plot(calibration: Calibration, path: Path, origin: str = "") -> None:
    """Draw the uncaptured power and what the model leaves of it.

    Raises:
        NotSupported: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    rows = points_off(calibration)
    figure = sheet(10, 8)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2]})
    _uncaptured(above, calibration, rows)
    _residuals(below, calibration, rows)
    simulated = f"SIMULATED NODE {calibration.simulated}, not a measurement\n" if calibration.simulated else ""
    verdict = "" if calibration.accepted else "refused: " + calibration.reasons[0].split(":")[0]
    figure.suptitle(simulated + title(calibration, origin) + (f"\n{verdict}" if verdict else ""), fontsize=11)
    save_figure(figure, path)


def _uncaptured(axis: Any, calibration: Calibration, rows: list[PointOff]) -> None:
    all_w = [_sum_w(calibration, one.point) for one in rows]
    middle_w = (min(all_w, default=0.0) + max(all_w, default=0.0)) / 2
    for kernel in dict.fromkeys(one.point.kernel for one in rows):
        mine = [one.point for one in rows if one.point.kernel == kernel]
        x_w = [_sum_w(calibration, one) for one in mine]
        y_w = [one.wall_w - x for one, x in zip(mine, x_w, strict=True)]
        axis.plot(x_w, y_w, "o", ms=6, color=COLOURS.get(kernel, COLOURS["other"]), label=kernel)
        if len(rows) <= MOST_NAMED:
            for one, x, y in zip(mine, x_w, y_w, strict=True):
                side = -1 if x > middle_w else 1
                axis.annotate(
                    cut(one.name, NAME_ROOM), (x, y), xytext=(6 * side, 4), textcoords="offset points", fontsize=7,
                    ha="right" if side < 0 else "left", color="0.3",
                )  # fmt: skip
    if calibration.affine is not None:
        a_w, slope = calibration.affine.coefficients
        ends = np.array([min(all_w), max(all_w)])
        axis.plot(ends, a_w + (slope - 1) * ends, lw=1, color="0.5", label="affine: " + equation(calibration.affine))
    fitted = [(x, one.model_w - x) for one in rows if one.model_w is not None for x in [_sum_w(calibration, one.point)]]
    if fitted and calibration.best == "node" and calibration.node is not None:
        axis.plot(
            *zip(*fitted, strict=True), "_", ms=14, mew=1.6, color="k", label="node: " + equation(calibration.node)
        )
    axis.set_ylabel("wall less components, W")
    axis.legend(fontsize=8, framealpha=0.9)
    axis.grid(alpha=0.25)


def _residuals(axis: Any, calibration: Calibration, rows: list[PointOff]) -> None:
    axis.axhline(0, lw=0.8, color="0.5")
    for one in rows:
        if one.model_w is None:
            continue
        colour, x_w = COLOURS.get(one.point.kernel, COLOURS["other"]), _sum_w(calibration, one.point)
        axis.plot(x_w, 100 * (one.model_w / one.point.wall_w - 1), "o", ms=5, color=colour)
        if one.left_out_pct is not None:
            axis.plot(x_w, one.left_out_pct, "o", ms=8, mfc="none", color=colour)
    model = calibration.model
    if model is not None:
        axis.set_title(
            f"{model.kind}: filled as fitted, rings at points that were left out (greatest "
            f"{model.leave_one_out_max_pct:.2f} %, 95 % of them {model.leave_one_out_p95_pct:.2f} %)",
            loc="left", fontsize=9,
        )  # fmt: skip
    axis.set_xlabel(f"{' + '.join(calibration.groups)}, W")
    axis.set_ylabel("model too high, %")
    axis.grid(alpha=0.25)


def _sum_w(calibration: Calibration, point: Any) -> float:
    return float(sum(point.components_w.get(group, np.nan) for group in calibration.groups))
