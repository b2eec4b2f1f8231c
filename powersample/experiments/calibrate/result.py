# SPDX-License-Identifier: Apache-2.0
"""Of points a calibration, kept where `record` and `report` find it; and on a simulated node how true it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.experiments.calibrate.run import Asking, Points, take_points
from powersample.model import Calibration

if TYPE_CHECKING:
    from powersample.experiments.calibrate.climb import Progress
    from powersample.sim import Node


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it.

    Attributes:
        calibration: the result.
        path: where it is kept; None when it was refused.
        notes: what has to be told.
        truth: on a simulated node, of the points that were taken now: `wall_max_error_pct`, the worst of the meter's
            means against the exact wall power; else None.
    """

    calibration: Calibration
    path: Path | None
    notes: tuple[str, ...]
    truth: Mapping[str, float] | None = None


def calibrate(
    asking: Asking,
    node: Node | None = None,
    *,
    tell: Callable[[Progress], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Calibrated:
    """Take the points and fit them. Args as `take_points`.

    Raises:
        Everything that `take_points`, `fit.calibrate.calibrate` and `save_calibration` raise; points are kept then.
    """
    return take_points(asking, _finish, node, tell=tell, note=note)


def _finish(found: Points) -> Calibrated:
    from powersample import __version__
    from powersample.fit.calibrate import calibrate as fit
    from powersample.store.calibrations import save_calibration

    calibration = fit(
        found.points,
        source=found.source,
        meter=", ".join(f"{info.maker} {info.model} {info.serial}".strip() for info in found.meters),
        host=found.host,
        simulated=found.simulated,
        made_ns=time.time_ns(),
        rates_hz=found.rates_hz,
        software={"powersample": __version__},
    )
    path = save_calibration(calibration, found.path) if calibration.accepted else None
    truth = None
    if found.truth_w:
        truth = {"wall_max_error_pct": max(100 * abs(told_w / true_w - 1) for told_w, true_w in found.truth_w)}
    return Calibrated(calibration, path, found.notes, truth)
