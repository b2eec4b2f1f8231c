# SPDX-License-Identifier: Apache-2.0
"""The agreement table as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from powersample.analysis.agreement_table import ALPHA, AgreementRow
from powersample.report.table import DASH, number, table

HEADER = ("method", "of", "n", "unit", "Pearson", "paper", "Spearman", "KS p", "", "bias", "%", "limits of agreement")
WIDTH = 110


def agreement_text(rows: Sequence[AgreementRow], reference: str = "the meter") -> str:
    """Return the table of `analysis.agreement_table.agreement_rows`."""
    return "\n".join(_lines(rows, reference))


def _lines(rows: Sequence[AgreementRow], reference: str) -> Iterator[str]:
    cells = [
        (
            row.method,
            row.level,
            str(row.n),
            row.unit,
            _two(row.pearson),
            _two(row.paper_pearson),
            _two(row.spearman),
            DASH if row.ks_p is None else f"{row.ks_p:.3f}",
            {None: "", True: "passes", False: "fails"}[row.ks_passes],
            number(row.bias),
            DASH if row.bias_pct is None else f"{row.bias_pct:+.1f}",
            DASH if row.low is None or row.high is None else f"{number(row.low)} to {number(row.high)}",
        )
        for row in rows
    ]
    yield from table(HEADER, cells, "llrlrrrrlrrl")
    yield ""
    yield from wrap(
        f"Against {reference}. Bias is the mean of what a method says more; the limits hold 95 % of its differences. "
        f"KS passes where p is above {ALPHA:g}. 'paper' is arXiv 2505.15631's figure of its own node and trainings; "
        "its other cells are not public.",
        WIDTH,
    )


def _two(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"
