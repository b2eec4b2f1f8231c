# SPDX-License-Identifier: Apache-2.0
"""`powersample audit`: what published energies and recordings are worth for comparing trainings."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from powersample.cli.output import emit

EXAMPLE = """\
examples:
  powersample audit runs.jsonl                                  EC-NAS runs: factors, units, samples an epoch, range
  powersample audit summary_power_v100.csv --idle 35            Zeus's: how much of the GPU's range they use
  powersample audit run.parquet --idle 75                       a recording with epochs marked
  powersample audit run.parquet --p-idle 783 --p-busy 811       its meter as the reference
  powersample audit emissions.csv --reference wall.csv --json

Each line is a code, what was found, what arXiv 2505.15631 found on its own node [the paper: ...], and what helps. The
paper asks for a wide range of GPU usage, from rest to the power limit, and shows how collections fail: few samples an
epoch, power in clusters that are the sensor's, a constant offset. Files are traces and logs of any format that
`powersample report` reads, and tables of runs: EC-NAS, CodeCarbon, Zeus. docs/reasons.md has the codes.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "audit",
        help="what energies are worth for comparing trainings",
        description="Look at the range of GPU usage in files, and for the ways in which energy collections fail.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="traces, logs, tables of runs")
    verb.add_argument("--idle", type=float, metavar="W", help="of a GPU at rest; default: a recording's least reading")
    verb.add_argument("--limit", type=float, metavar="W", help="a GPU's power limit; default: what the file tells")
    verb.add_argument("--few", type=int, default=10, metavar="N", help="updates of an epoch that are few; default 10")
    verb.add_argument("--reference", type=Path, metavar="FILE", help="the same runs by name, as a meter saw them")
    verb.add_argument("--p-idle", type=float, metavar="W", help="the node's uncaptured power, idle: with --p-busy its")
    verb.add_argument("--p-busy", type=float, metavar="W", help="meter tells of the GPUs")
    verb.add_argument("--gpu", metavar="NAME", help="the card of a log that does not name it, in NVML's words")
    verb.add_argument("--driver", metavar="VERSION", help="its driver: what power.draw means depends on it")
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the audits."""
    from powersample.model import RunTable
    from powersample.readers import read
    from powersample.report import audit
    from powersample.report.audit_files import audit_json, audit_text
    from powersample.report.audit_trace import audit_trace

    busy_w = _check(options)
    reference: Any = None if options.reference is None else read(options.reference)
    if reference is not None and not isinstance(reference, RunTable):
        raise _wrong(f"--reference {options.reference}: a table of runs, and this is a recording")
    found: list[tuple[str, Any]] = []
    pages: list[str | None] = []
    for path in options.files:
        one = read(path, gpu=options.gpu, driver=options.driver)
        if isinstance(one, RunTable):
            told = audit(one, idle_w=options.idle, limit_w=options.limit, reference=reference)
            found.append((str(path), told.data))
            pages.append(str(told))
        else:
            data = audit_trace(one, idle_w=options.idle, limit_w=options.limit, busy_w=busy_w, most=options.few)
            found.append((str(path), data))
            pages.append(None)
    data = audit_json(found)
    emit(json.dumps(data, indent=1, allow_nan=False) if options.json else audit_text(data, pages))
    return 0


def _wrong(text: str) -> Exception:
    from powersample.errors import InvalidArgument

    return InvalidArgument(text)


def _check(options: argparse.Namespace) -> tuple[float, float] | None:
    for name in ("idle", "limit", "p_idle", "p_busy"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise _wrong(f"--{name.replace('_', '-')} {value}: watts above 0")
    if options.few < 1:
        raise _wrong(f"--few {options.few}: 1 or more")
    if (options.p_idle is None) != (options.p_busy is None):
        raise _wrong("--p-idle and --p-busy go together")
    if options.p_idle is None:
        return None
    return min(options.p_idle, options.p_busy), max(options.p_idle, options.p_busy)
