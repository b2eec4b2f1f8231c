# SPDX-License-Identifier: Apache-2.0
"""What a node's calibration says of a CodeCarbon run: fitted anew to the components that such a run measures.

CodeCarbon has CPUs and GPUs, and memory as a constant. A calibration that knows DRAM as a component is brought to the
same view, point by point: memory inside what is uncaptured, inside the CPUs, or left as it is beside the constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from powersample.analysis.codecarbon import MEMORY, Uncaptured
from powersample.analysis.course import Bins
from powersample.analysis.node_energy import by_model
from powersample.analysis.settling import Unsettled
from powersample.errors import InvalidArgument
from powersample.fit.calibrate import IDLE, calibrate
from powersample.model import Calibration, LinearModel, OperatingPoint
from powersample.model.calibration import SUM

SQUARE = "sum^2"


@dataclass(frozen=True, slots=True)
class Wall:
    """A node's model and all that makes it unsure, of runs of which mean powers alone are known.

    The interval is that of `by_model`, without what a mean cannot tell of: fans that have not settled, devices that are
    loaded unlike each other, and errors of the run's own energies. A model with c sum^2 gives less for the mean than
    the run took, by c Var(sum). With powers within the calibrated ones, low to high, that is at most
    c (mean - low)(high - mean), by Bhatia and Davis, and in the interval in full.
    """

    calibration: Calibration
    model: LinearModel

    def predict(self, components_w: Mapping[str, float]) -> tuple[float, tuple[float, float] | None]:
        """Return wall power and its 95 % interval, W, of mean powers; None where the interval is unknown."""
        watts = {group: np.array([components_w[group]]) for group in self.model.groups}
        second = Bins(np.ones(1), watts)  # a second of them: its joules are the watts
        varied_w = self._varied_w(float(second.sum_w[0]))
        none_j = dict.fromkeys(watts, 0.0)
        settled = by_model(self.calibration, self.model, second, none_j, none_j, Unsettled())
        found = replace(settled, below_j=max(0.0, -varied_w), above_j=max(0.0, varied_w))
        return found.joules, found.interval_j

    def _varied_w(self, mean_w: float) -> float:
        """Return the most that powers which vary around their mean take beyond what the model says of it, W."""
        if SQUARE not in self.model.terms or SUM not in self.calibration.hull_w:
            return 0.0
        low_w, high_w = self.calibration.hull_w[SUM]
        square = self.model.coefficients[self.model.terms.index(SQUARE)]
        return square * max(0.0, (mean_w - low_w) * (high_w - mean_w))


def uncaptured_of(calibration: Calibration, memory: str, origin: str) -> Uncaptured:
    """Return what is to be added to CodeCarbon's runs on a calibrated node.

    Args:
        calibration: the node's.
        memory: of `MEMORY`.
        origin: where it is from, for people.

    Raises:
        InvalidArgument: it was not accepted, has no CPU power, no bounds, no DRAM where `memory` needs it, or no
            points to be fitted anew to.
    """
    if memory not in MEMORY:
        raise InvalidArgument(f"memory is {memory!r}; there are {', '.join(MEMORY)}")
    if not calibration.accepted:
        raise InvalidArgument(f"{origin}: this calibration was refused: {'; '.join(calibration.reasons)}")
    if "cpu" not in calibration.groups:
        raise InvalidArgument(f"{origin}: CPU power was no component, and CodeCarbon counts it")
    if memory != "inside" and "dram" not in calibration.groups:
        raise InvalidArgument(f"{origin}: DRAM was no component, so memory is inside the uncaptured power")
    seen = calibration
    if memory != "kept" and "dram" in calibration.groups and not calibration.points:
        raise InvalidArgument(
            f"{origin}: a {calibration.source}'s, with DRAM as a component and no points, so it cannot be fitted for "
            f"memory {memory!r}",
            "Give figures that were taken without DRAM, or --memory kept.",
        )
    if memory != "kept" and "dram" in calibration.groups:
        seen = calibrate([_regrouped(one, memory) for one in calibration.points], source=calibration.source)
    if seen.p_idle_w is None or not seen.p_busy_w:
        raise InvalidArgument(f"{origin}: there is no idle point, or none with the CPUs at work: no bounds")
    idle = [one.components_w for one in seen.points if one.used and one.kernel == IDLE]
    parts = [name for name in ("cpu", "gpu") if name in seen.groups]
    model = None if memory == "kept" else seen.model  # a model of DRAM has nothing to go by in a run without it
    uuids = (calibration.host or {}).get("gpus")
    return Uncaptured(
        idle_w=seen.p_idle_w,
        busy_w={load: watts for load, (watts, _) in seen.p_busy_w.items()},
        origin=origin,
        memory=memory,
        gpus=0 if "gpu" not in seen.groups else len(uuids) if uuids else None,
        idle_parts_w={name: sum(one[name] for one in idle) / len(idle) for name in parts} if idle else {},
        hull_w={name: seen.hull_w[name] for name in parts if name in seen.hull_w},
        model=None if model is None else Wall(seen, model),
        simulated=calibration.simulated,
    )


def _regrouped(point: OperatingPoint, memory: str) -> OperatingPoint:
    """Return a point without DRAM: left out, or added to the CPUs."""
    watts, unsure = dict(point.components_w), dict(point.components_u_w)
    dram_w, dram_u_w = watts.pop("dram", None), unsure.pop("dram", 0.0)
    if memory == "rapl" and dram_w is not None and "cpu" in watts:
        watts["cpu"] += dram_w
        unsure["cpu"] = math.hypot(unsure.get("cpu", 0.0), dram_u_w)
    return replace(point, components_w=watts, components_u_w=unsure)
