# SPDX-License-Identifier: Apache-2.0
"""The figures that the study comes to: each on the node of the profile, and over the drawn ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from powersample.experiments.reproduce.holistic import AFFINE, HIGH, LOW, NODE, PRIOR, Holistic
from powersample.experiments.reproduce.run import OnNode, Reproduction
from powersample.experiments.reproduce.tracing import METER, NATIVE, NVML, SMI, Tracing, row

# What the wall's energy was told by, the paper's finding that stands beside it, and which end of the errors counts.
WAYS = (
    ("Code Carbon 2", "codecarbon", "worst"),
    ("Code Carbon 3", "", "worst"),
    (LOW, "bounds", "low"),
    (HIGH, "bounds", "high"),
    (PRIOR, "prior", "high"),
    (AFFINE, "", "size"),
    (NODE, "", "size"),
)


@dataclass(frozen=True, slots=True)
class Over:
    """A figure on the node of the profile, and its median and 5 to 95 % over the drawn ones; NaN where it has none."""

    here: float
    median: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """Return the fields as plain values; NaN as None."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


def over(study: Reproduction, of: Callable[[OnNode], float]) -> Over:
    """Return a figure here and over the drawn nodes that have it."""
    values = np.array([of(one) for one in study.drawn], np.float64)
    known = values[np.isfinite(values)]
    low, median, high = np.percentile(known, (5, 50, 95)).tolist() if len(known) else (np.nan,) * 3
    return Over(of(study.here), median, low, high)


def extreme_pct(one: Holistic, way: str, end: str) -> float:
    """Return the error that counts: the lowest, the highest, the one of greatest size with its sign, or that size."""
    errors = one.error_pct[way]
    if end == "size":
        return float(np.abs(errors).max())
    if end == "worst":
        return float(errors[np.argmax(np.abs(errors))])
    return float(errors.min() if end == "low" else errors.max())


def tracing_figures(place: int) -> dict[str, Callable[[OnNode], float]]:
    """Return the figures of a setting's row."""

    def of(get: Callable[[Tracing], float | None]) -> Callable[[OnNode], float]:
        def figure(node: OnNode) -> float:
            value = get(node.tracings[place])
            return float("nan") if value is None else value

        return figure

    return {
        "few_share": of(lambda one: one.few_share),
        "smi_epoch_r": of(lambda one: row(one.meter, SMI, "epoch", "W").pearson),
        "smi_run_r": of(lambda one: row(one.meter, SMI, "run", "W").pearson),
        "smi_epoch_j_r": of(lambda one: row(one.meter, SMI, "epoch", "J").pearson),
        "smi_run_j_r": of(lambda one: row(one.meter, SMI, "run", "J").pearson),
        "nvml_epoch_r": of(lambda one: row(one.meter, NVML, "epoch", "W").pearson),
        "native_epoch_r": of(lambda one: row(one.meter, NATIVE, "epoch", "W").pearson),
        "smi_error_pct": of(lambda one: one.error[SMI].median),
        "nvml_error_pct": of(lambda one: one.error[NVML].median),
        "native_error_pct": of(lambda one: one.error[NATIVE].median),
        "meter_bias_w": of(lambda one: row(one.truth, METER, "epoch", "W").bias),
        "held_share": of(lambda one: one.held_share),
    }


def extreme(name: str, way: str, end: str) -> Callable[[OnNode], float]:
    """Return the same of a node's experiment "one" or "four"."""
    return lambda node: extreme_pct(getattr(node, name), way, end)


def held_share(study: Reproduction, name: str, way: str) -> float | None:
    """Return in how many trainings of the drawn nodes an interval held the exact energy; None where there is none."""
    shares = [getattr(one, name).held_share.get(way) for one in study.drawn]
    known = [one for one in shares if one is not None]
    return float(np.mean(known)) if known else None
