# SPDX-License-Identifier: Apache-2.0
"""What a load came to: a table for people, an object for programs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from powersample.loads import EdgeLog, Step
from powersample.model import amount
from powersample.report.table import DASH, table

HEADER = ("level", "reached", "time", "bursts", "rise late, median", "p99", "missed", "wrong", "temperature", "clock")


def stress_json(log: EdgeLog) -> dict[str, Any]:
    """Return the fields of `powersample stress --json`; what is not known is None."""
    return {
        "schema_version": 1,
        "name": log.name,
        "kernel": log.kernel,
        "vectors": log.vectors or None,
        "cpus": list(log.cpus),
        "bursts": len(log),
        "missed": log.missed,
        "wrong": log.wrong,
        "unpinned": log.unpinned,
        "stalled_s": log.stalled_ns * 1e-9,
        "ended": log.ended or None,
        "trouble": log.trouble,
        "levels": list(_rows(log)),
    }


def stress_text(log: EdgeLog) -> str:
    """Return the table, a row for each level that followed another, with what has to be told below it."""
    rows = [
        (
            f"{100 * row['level']:.1f} %",
            _with(row["duty"], 100, ".2f", "%"),
            f"{amount(row['duration_s'], 4)} s",
            str(row["bursts"]),
            _with(row["late_median_ms"], 1, ".3f", "ms"),
            _with(row["late_p99_ms"], 1, ".3f", "ms"),
            str(row["missed"]),
            str(row["wrong"]),
            _with(row["temperature_c"], 1, ".1f", "C"),
            _with(row["hz"], 1e-6, ".0f", "MHz"),
        )
        for row in _rows(log)
    ]
    work = f"{log.kernel} ({log.vectors})" if log.vectors else log.kernel
    return "\n".join([f"{work}: {log.name}", *table(HEADER, rows, "r" * len(HEADER)), *log.trouble])


def _with(value: float | None, factor: float, form: str, unit: str) -> str:
    return DASH if value is None else f"{value * factor:{form}} {unit}"


def _rows(log: EdgeLog) -> Iterator[dict[str, Any]]:
    """Yield what steps of one level came to, those together that follow each other."""
    numbered = groupby(enumerate(log.reached), key=lambda pair: pair[1].level)
    for _, pairs in numbered:
        numbers, steps = zip(*pairs, strict=True)
        yield _row(log, numbers[0], list(steps))


def _row(log: EdgeLog, first: int, steps: list[Step]) -> dict[str, Any]:
    whole_ns = sum((one.end_ns - one.begin_ns) * one.threads for one in steps)
    late_ms = log.late_ns[(log.step >= first) & (log.step < first + len(steps))] * 1e-6
    temperature_c, hz = log.heat.during(steps[0].begin_ns, steps[-1].end_ns)
    return {
        "level": steps[0].level,
        "duty": sum(one.cpu_ns for one in steps) / whole_ns if whole_ns else None,
        "duration_s": sum(one.duration_s for one in steps),
        "threads": steps[0].threads,
        "steps": len(steps),
        "bursts": sum(one.bursts for one in steps),
        "missed": sum(one.missed for one in steps),
        "wrong": sum(one.wrong for one in steps),
        "late_median_ms": float(np.median(late_ms)) if len(late_ms) else None,
        "late_p99_ms": float(np.percentile(late_ms, 99)) if len(late_ms) else None,
        "temperature_c": temperature_c,
        "hz": hz,
    }
