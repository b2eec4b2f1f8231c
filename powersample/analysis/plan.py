# SPDX-License-Identifier: Apache-2.0
"""How long a load must run, or how often it must be repeated, for its energy to be as sure as is asked.

The interval's own table is turned round: a load that rises from idle and falls back has both edges in its window, and
the terms of `interval.py` are those of such a pulse. Repeats at random phase average the reconstruction's part only;
repeats that sweep the phase of a part-time sensor in steps no longer than W leave nothing unseen between them
(arXiv 2312.02741, its good practice: 8 evenly spaced delays). From as many on, in windows whose names differ in a
number at their end, the analysis takes their scatter for evidence (`evidence.py`).
"""

import math
from dataclasses import dataclass

from powersample.analysis.interval import NORMAL_95, limit, pulse_half_width_j
from powersample.errors import InvalidArgument, NotSupported
from powersample.model import Response, SensorModel

LONGEST_S = 1e6
STEP = 1.02


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """What a relative error asks for.

    Attributes:
        seconds: length of one uninterrupted load for which reconstruction alone is that sure.
        repeats: of a burst of the given length, at random phase; None where no length was given.
        repeats_swept: of the load, at so many evenly spaced phases of the sensor, from which their scatter excludes
            aliasing, or shows it; 1 where the sensor sees all.
        phase_steps: delays of T / phase_steps each that repeats should sweep; 1 where the sensor sees all.
        board_pct: what the board's unknown gain adds to absolute figures, 95 %; cancels between windows of a board.
        reachable: whether the absolute error can be reached on a board that is not calibrated.
    """

    seconds: float
    repeats: int | None
    repeats_swept: int
    phase_steps: int
    board_pct: float
    reachable: bool


def plan(model: SensorModel, error: float, *, burst_s: float | None = None, power_w: float = 200.0) -> MeasurementPlan:
    """Return how to measure a load to within a relative error, 95 times in 100.

    Args:
        model: of the sensor.
        error: half-width over energy, above 0: 0.05 for 5 %.
        burst_s: length of one burst, where the load is a short one that can be repeated.
        power_w: of the load above idle, W.

    Raises:
        InvalidArgument: a figure outside its range.
        NotSupported: a counter: its edges depend on the load around them; use 20 of its updates or more.
    """
    if not isinstance(model, SensorModel):
        raise InvalidArgument(
            f"a plan is for a sensor's model, and this is {type(model).__name__}",
            'Take it from powersample.sensors: look_up("instant", name="NVIDIA H100 PCIe", architecture="hopper").',
        )
    for name, value in (("error", error), ("power_w", power_w), ("burst_s", burst_s)):
        if value is None and name == "burst_s":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InvalidArgument(f"{name} is {value!r}: it must be a number above 0")
    if model.response in (Response.COUNTER, Response.POINT):
        raise NotSupported(f"no plan for a {model.response}", "Plan for the board's power field.")
    seconds = model.period_s
    while _relative(model, seconds, power_w) > error and seconds < LONGEST_S:
        seconds *= STEP
    repeats = None
    if burst_s is not None:
        repeats = max(1, math.ceil((_relative(model, burst_s, power_w) / error) ** 2))
    sweep = 1
    if model.response is Response.PART_TIME and model.window_s > 0:
        sweep = max(math.ceil(model.period_s / model.window_s), round(limit("least_repeats")))
    board_pct = 100 * NORMAL_95 * model.gain_sd
    return MeasurementPlan(
        seconds=seconds,
        repeats=repeats,
        repeats_swept=sweep,
        phase_steps=sweep,
        board_pct=board_pct,
        reachable=board_pct < 100 * error,
    )


def _relative(model: SensorModel, seconds: float, power_w: float) -> float:
    return pulse_half_width_j(model, seconds, power_w) / (power_w * seconds)
