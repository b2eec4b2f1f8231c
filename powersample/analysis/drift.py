# SPDX-License-Identifier: Apache-2.0
"""Whether a calibrated node is still what it was: its model beside a meter, over many stretches of a recording."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from powersample.analysis.calibrated import Judged
from powersample.analysis.holistic import Holistic, holistics
from powersample.analysis.primary import window_energies
from powersample.model import Trace, Window, amount

LEAST, MOST = 5, 60  # stretches
LEAST_CYCLES = 20  # of the slowest meter: edges must not be what differs
LEAST_S = 2.0
OUTSIDE = 0.5  # share of the stretches, on one side, from which the node is another


@dataclass(frozen=True, slots=True)
class Drift:
    """How calibration and meter differ.

    Attributes:
        stretches: how many were compared.
        length_s: of each.
        outside: how many differ by more than they may, on the side on which most do.
        median_pct: median of what the calibration tells more than the meter, percent of the meter.
        drifted: whether the node is to be calibrated again.
    """

    stretches: int
    length_s: float
    outside: int
    median_pct: float
    drifted: bool

    @property
    def words(self) -> str:
        """What was found, as a sentence."""
        side = "more" if self.median_pct > 0 else "less"
        return (
            f"the calibration tells {amount(abs(self.median_pct), 2)} % {side} than the meter (median of "
            f"{self.stretches} stretches of {amount(self.length_s)} s), and {self.outside} of them differ by "
            "more than they may"
        )


def drift(trace: Trace, window: Window, judged: Judged) -> Drift | None:
    """Return how a calibration stands beside the meter of a recording; None without both, or of a short one.

    Args:
        trace: the recording.
        window: over which it is looked at.
        judged: the calibration.
    """
    if judged.calibration is None or judged.calibration.model is None:
        return None
    cycles_s = [_cycle_s(one) for one in trace.meta.get("meters") or ()]
    if not cycles_s:
        return None
    count = min(MOST, int(window.duration_s / max(LEAST_S, LEAST_CYCLES * max(cycles_s))))
    if count < LEAST:
        return None
    step_ns = (window.end_ns - window.start_ns) // count
    parts = [
        Window(f"part {i}", window.start_ns + i * step_ns, window.start_ns + (i + 1) * step_ns) for i in range(count)
    ]
    told = [_residual(one) for one in holistics(trace, parts, window_energies(trace, parts), judged)]
    known = [one for one in told if one is not None]
    if len(known) < LEAST:
        return None
    median_pct = statistics.median(pct for pct, _ in known)
    outside = max(sum(out and (pct > 0) is above for pct, out in known) for above in (True, False))
    return Drift(len(known), step_ns / 1e9, outside, median_pct, outside >= OUTSIDE * len(known))


def _residual(one: Holistic) -> tuple[float, bool] | None:
    """Return what the calibration tells more than the meter, %, and whether that is more than it may be."""
    residual_j, budget_j, meter = one.residual_j, one.budget_j, one.meter
    if residual_j is None or budget_j is None or meter is None or not meter.joules:
        return None
    return 100 * residual_j / meter.joules, abs(residual_j) > budget_j


def _cycle_s(meter: Mapping[str, Any]) -> float:
    return float(meter.get("cycle_s") or 0.0)
