# SPDX-License-Identifier: Apache-2.0
"""Audits of several files as one page and one JSON object, with a table over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from powersample.analysis.agreement_table import AgreementRow, agreement_rows, spans_of
from powersample.report.agreement import agreement_text
from powersample.report.signatures import WIDTH, check_lines

SCHEMA_VERSION = 1
LEAST_RUNS = 3


def audit_json(files: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the verb's JSON object: each file's audit, and how their runs agree with their truths.

    Args:
        files: names, and what `audit` or `audit_trace` says of them.
    """
    pairs = [one["run"] for _, one in files if one.get("run") and one["run"]["truth_j"] is not None]
    rows: list[AgreementRow] = []
    if len(pairs) >= LEAST_RUNS:
        seconds, truth, mine = ([one[key] for one in pairs] for key in ("seconds", "truth_j", "gpu_j"))
        rows = agreement_rows([spans_of("run", seconds, truth, {"powersample": mine})])
    return {
        "schema_version": SCHEMA_VERSION,
        "simulated": any(one["simulated"] for _, one in files),
        "files": [{"file": name, **one} for name, one in files],
        "agreement": [row.as_json() for row in rows],
    }


def audit_text(data: Mapping[str, Any], pages: Sequence[str | None]) -> str:
    """Return the page.

    Args:
        data: of `audit_json`.
        pages: a file's own text; None of a recording, whose lines are in `data`.
    """
    return "\n".join(_lines(data, pages))


def _lines(data: Mapping[str, Any], pages: Sequence[str | None]) -> Iterator[str]:
    for i, (one, page) in enumerate(zip(data["files"], pages, strict=True)):
        if i:
            yield ""
        yield one["file"]
        if page is not None:
            yield page
            continue
        if one["simulated"]:
            yield f"SIMULATED NODE {one['simulated_node'] or ''}".rstrip() + ", not a measurement"
        yield f"{one['epochs']} epochs" + (f" beside {one['reference']}" if one.get("reference") else ", no reference")
        rows = [AgreementRow(**row) for row in one["agreement"]]
        if rows:
            yield ""
            yield agreement_text(rows, one["reference"])
        yield ""
        for check in one["checks"]:
            yield from check_lines(check)
        for note in one["notes"]:
            yield from wrap(f"note: {note}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    if data["agreement"]:
        yield ""
        yield "runs of all recordings"
        yield agreement_text([AgreementRow(**row) for row in data["agreement"]], "the exact truth")
