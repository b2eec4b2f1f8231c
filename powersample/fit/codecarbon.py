# SPDX-License-Identifier: Apache-2.0
"""What a node's calibration says of a CodeCarbon run: fitted anew to the components that such a run measures.

CodeCarbon has CPUs and GPUs, and memory as a constant. A calibration that knows DRAM as a component is brought to the
same view, point by point: memory inside what is uncaptured, inside the CPUs, or left as it is beside the constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from powersample.analysis.codecarbon import MEMORY, Uncaptured
from powersample.errors import InvalidArgument
from powersample.fit.calibrate import IDLE, RECTANGLE, calibrate
from powersample.model import Calibration, LinearModel, OperatingPoint


@dataclass(frozen=True, slots=True)
class Wall:
    """A node's model with all that makes it unsure: coefficients, misfit, and the meter's limit of error."""

    model: LinearModel
    accuracy_w: float

    def predict(self, components_w: Mapping[str, float]) -> tuple[float, float]:
        """Return wall power and its standard uncertainty, W, of mean powers."""
        watts, u_w = self.model.predict({group: components_w[group] for group in self.model.groups})
        return float(watts), math.hypot(float(u_w), self.model.misfit_w, self.accuracy_w / RECTANGLE)


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
        model=None if model is None else Wall(model, seen.accuracy_w or 0.0),
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
