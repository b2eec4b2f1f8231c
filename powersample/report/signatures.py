# SPDX-License-Identifier: Apache-2.0
"""The lines of an audit: each a code, what was found, the paper's own figure beside it, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from powersample.analysis.agreement_table import AgreementRow
from powersample.analysis.dip import Dip
from powersample.analysis.signatures import Offset, Usage
from powersample.report.check import check
from powersample.report.table import number

WIDTH = 98
FEW = 10  # readings of an epoch: arXiv 2505.15631 counts epochs with no more
NARROW = 0.5
RARE_P = 0.01
FLOOR = 0.2
LOOSE = 0.9  # a correlation below which nothing is ranked
PAPER = "arXiv 2505.15631"
PAPER_RANGE = "146 to 305 W of 75 to 800 W on one H100 (22 %); narrower still with four"
PAPER_FEW = "39 % of epochs with no more than 10 power samples"
PAPER_SMI = "nvidia-smi against the meter: Pearson 0.64 per epoch, 0.99 per full training"
PAPER_CLUSTERS = "nvidia-smi's readings form a low and a high cluster with nothing between, the meter's do not"
PAPER_OFFSET = "CodeCarbon: up to 10.3 % below the meter by a nearly constant offset"
PAPER_MISSED = "783 W idle, 811 W under a prime search that neither RAPL nor NVML sees"


def signature(code: str, level: str, what: str, fix: str, paper: str) -> dict[str, Any]:
    """Return a check with the paper's figure."""
    return check(code, level, what, fix) | {"paper": paper}


def check_lines(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield a check as text: the paper's figure is marked as the paper's."""
    paper = f" [the paper: {one['paper']}]" if one.get("paper") else ""
    text = f"{one['level']}: {one['code']} {one['what']}{paper}. {one['fix']}"
    yield from wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def range_check(name: str, of: str, found: Usage) -> dict[str, Any]:
    """Return the line on a range of power: the paper's second principle."""
    what = f"{name}: {of} from {number(found.low_w)} to {number(found.high_w)} W"
    if found.share is None:
        unknown = " and ".join(
            word for word, value in (("--idle", found.idle_w), ("--limit", found.limit_w)) if value is None
        )
        fix = f"Give {unknown} W to see how much of its range that is." if unknown else "Its limit is below its rest."
        return signature("PSA-RANGE", "info", f"{what}, a span of {number(found.span_w)} W", fix, PAPER_RANGE)
    what += f": {100 * found.share:.0f} % of {number(found.idle_w)} W at rest to {number(found.limit_w)} W"
    narrow = found.share < NARROW
    fix = "Loads that use the device little and much are needed to compare energies." if narrow else "A wide range."
    return signature("PSA-RANGE", "warning" if narrow else "info", what, fix, PAPER_RANGE)


def few_check(name: str, updates: Sequence[int], most: int = FEW) -> dict[str, Any]:
    """Return the line on epochs that hold few published values."""
    few = sum(one <= most for one in updates)
    share = 100 * few / len(updates)
    what = f"{name}: {few} of {len(updates)} epochs ({share:.0f} %) hold no more than {most} updates"
    fix = "Energies of such epochs are guesses: longer epochs, or repeats." if few else "Enough for every epoch."
    return signature("PSA-UPDATES", "warning" if few else "info", what, fix, PAPER_FEW)


def bimodal_check(name: str, of: str, found: Dip, reference: Dip | None, whose: str = "") -> dict[str, Any]:
    """Return the line on power in clusters."""
    what = f"{name}: dip {found.dip:.3f} of {found.n} {of}, p {_p(found.p)} for one mode"
    if found.p >= RARE_P:
        return signature("PSA-BIMODAL", "info", what, "Nothing speaks against one mode.", PAPER_CLUSTERS)
    if reference is None:
        fix = "Two clusters: of the load, or of a sensor that sees only its extremes. A meter tells which."
        return signature("PSA-BIMODAL", "warning", what, fix, PAPER_CLUSTERS)
    what += f"; of {whose} dip {reference.dip:.3f}, p {_p(reference.p)}"
    if reference.p < RARE_P:
        return signature("PSA-BIMODAL", "info", what, "The load itself has two clusters.", PAPER_CLUSTERS)
    return signature(
        "PSA-BIMODAL", "warning", what, "The clusters are the measurement's, not the load's.", PAPER_CLUSTERS
    )


def agreement_check(row: AgreementRow, whose: str) -> dict[str, Any]:
    """Return the line on correlations with a reference, which exist."""
    name = row.method if row.level == "run" else f"{row.level}, {row.method}"
    of = "runs" if row.level == "run" else "epochs"
    pearson, spearman = row.pearson or 0.0, row.spearman or 0.0
    what = f"{name}, {row.unit}: Pearson {pearson:.2f}, Spearman {spearman:.2f} with {whose}, {row.n} {of}"
    loose = pearson < LOOSE
    fix = "It cannot rank them." if loose else "It ranks them; a constant offset would not show here."
    return signature("PSA-AGREEMENT", "warning" if loose else "info", what, fix, PAPER_SMI)


def offset_check(name: str, found: Offset, unit: str, whose: str) -> dict[str, Any]:
    """Return the line on a constant difference to a reference."""
    what = (
        f"{name}: {number(found.bias)} {unit} ({found.pct:+.1f} %) +- {number(found.spread)} {unit} to {whose}, "
        f"{found.n} pairs"
    )
    if not found.constant:
        return signature("PSA-OFFSET", "info", what, "No constant offset.", PAPER_OFFSET)
    fix = "A part of the power is never counted, or a gain is wrong: no correlation shows it. Calibrate."
    return signature("PSA-OFFSET", "warning", what, fix, PAPER_OFFSET)


def floor_check(name: str, of: str, found: Usage) -> dict[str, Any]:
    """Return the line on values that lie on the lowest one."""
    share = f"{100 * found.floor_share:.0f} % of {found.n} {of}"
    what = f"{name}: {share} lie within 2 % of the least ({number(found.low_w)} W)"
    low = found.floor_share >= FLOOR and found.span_w > 0.05 * found.high_w
    fix = "They rank nothing: what differs there is hidden by the power at rest." if low else "No floor."
    return check("PSA-FLOOR", "warning" if low else "info", what, fix)


def captured_check(captured_j: float, wall_j: float, whose: str, seconds: float | None) -> dict[str, Any]:
    """Return the line on how much of the wall the counters see."""
    share = 100 * captured_j / wall_j
    missed = "" if not seconds else f", {number((wall_j - captured_j) / seconds)} W are missing"
    what = f"GPUs, CPUs and memory are {share:.0f} % of {whose}{missed}"
    level = "warning" if share < 95 else "info"
    return signature("PSA-CAPTURED", level, what, "Calibrate the node: powersample calibrate.", PAPER_MISSED)


def limit_check(name: str, watts: ArrayLike, limits_w: ArrayLike) -> dict[str, Any] | None:
    """Return the line on powers above their limit; None where none is."""
    power, limit = np.asarray(watts, np.float64), np.asarray(limits_w, np.float64)
    over = power > limit
    if not over.any():
        return None
    worst = float((power / limit)[over].max())
    what = (
        f"{name}: {int(over.sum())} of {len(power)} mean powers exceed their limit, by up to {100 * (worst - 1):.1f} %"
    )
    return check(
        "PSA-LIMIT", "warning", what, "The limiter's overshoot, the sensor's gain, or another limit than told."
    )


def _p(p: float) -> str:
    return "<= 0.001" if p <= 0.0011 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
