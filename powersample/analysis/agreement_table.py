# SPDX-License-Identifier: Apache-2.0
"""The paper's table: how far each method agrees with the meter, of energies and powers, per epoch and per run.

arXiv 2505.15631 tests Pearson, Spearman and Kolmogorov-Smirnov (alpha 0.05) on J and W. Bias and limits of agreement
are added, because a constant offset, as an uncaptured power is, leaves every correlation at 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample.analysis.agreement import agreement
from powersample.errors import InvalidArgument
from powersample.model import RunTable

ALPHA = 0.05
PAPER_PEARSON = {  # arXiv 2505.15631: V.B, abstract and conclusion, VI.B; the other cells of its Table I are not public
    ("SMI", "epoch"): 0.64,
    ("SMI", "run"): 0.99,
    ("NVML", "run"): 0.99,
}
PAPER_KS = {("NVML", "run"): True}


@dataclass(frozen=True, slots=True)
class Spans:
    """Windows of one kind, with each method's energies of them.

    Attributes:
        level: "epoch" or "run".
        seconds: their lengths, shape (n,).
        reference_j: what the meter says, shape (n,), NaN where nothing.
        methods_j: what the methods say, by name, likewise.
    """

    level: str
    seconds: NDArray[np.float64]
    reference_j: NDArray[np.float64]
    methods_j: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """One method against the reference; None where it is undefined.

    Attributes:
        method, level: which.
        unit: "J" or "W".
        n: pairs.
        pearson, spearman: correlations.
        ks_p: p-value of Kolmogorov and Smirnov.
        ks_passes: whether it is above 0.05.
        bias, bias_pct: mean of measured - reference, and as a part of the reference's mean.
        low, high: limits of agreement, 95 %.
        paper_pearson, paper_ks_passes: the paper's own, of its node.
    """

    method: str
    level: str
    unit: str
    n: int
    pearson: float | None
    spearman: float | None
    ks_p: float | None
    ks_passes: bool | None
    bias: float | None
    bias_pct: float | None
    low: float | None
    high: float | None
    paper_pearson: float | None = None
    paper_ks_passes: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def spans_of(level: str, seconds: ArrayLike, reference_j: ArrayLike, methods_j: Mapping[str, ArrayLike]) -> Spans:
    """Return spans of anything that is an array; None is NaN.

    Raises:
        InvalidArgument: lengths differ.
    """
    arrays = {name: np.asarray(values, np.float64) for name, values in methods_j.items()}
    length, reference = np.asarray(seconds, np.float64), np.asarray(reference_j, np.float64)
    if wrong := [name for name, values in {"reference": reference, **arrays}.items() if values.shape != length.shape]:
        raise InvalidArgument(f"{level}: {wrong[0]} has another number of energies than there are spans")
    return Spans(level, length, reference, arrays)


def spans_of_tables(tables: Mapping[str, RunTable], reference: RunTable, domain: str | None = None) -> Spans:
    """Return the runs of tables that bear the same names.

    Args:
        tables: by the method's name.
        reference: whose runs are the truth.
        domain: compare "gpu", "cpu" or "dram"; None: totals.
    """

    def joules(table: RunTable) -> dict[str, float | None]:
        return {row.name: row.total_j if domain is None else row.energies_j.get(domain) for row in table.rows}

    names = [row.name for row in reference.rows]
    told = joules(reference)
    seconds = [row.duration_s for row in reference.rows]
    methods = {name: joules(table) for name, table in tables.items()}
    return spans_of(
        "run",
        np.array(seconds, np.float64),
        np.array([told[name] for name in names], np.float64),
        {method: np.array([one.get(name) for name in names], np.float64) for method, one in methods.items()},
    )


def agreement_rows(spans: Sequence[Spans]) -> list[AgreementRow]:
    """Return the table: a row a method, level and unit."""
    found = []
    for one in spans:
        for method, joules in one.methods_j.items():
            for unit, scale in (("J", np.ones_like(one.seconds)), ("W", 1 / one.seconds)):
                found.append(_row(method, one.level, unit, joules * scale, one.reference_j * scale))
    return found


def _row(method: str, level: str, unit: str, mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> AgreementRow:
    told = agreement(mine, theirs)
    both = np.isfinite(mine) & np.isfinite(theirs)
    mean = float(theirs[both].mean()) if both.any() else 0.0
    low, high = told.limits or (None, None)
    return AgreementRow(
        method=method,
        level=level,
        unit=unit,
        n=told.n,
        pearson=told.pearson,
        spearman=told.spearman,
        ks_p=told.ks_p,
        ks_passes=None if told.ks_p is None else told.ks_p > ALPHA,
        bias=told.bias,
        bias_pct=100 * told.bias / mean if told.bias is not None and mean else None,
        low=low,
        high=high,
        paper_pearson=PAPER_PEARSON.get((method, level)),
        paper_ks_passes=PAPER_KS.get((method, level)),
    )
