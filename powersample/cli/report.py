# SPDX-License-Identifier: Apache-2.0
"""`powersample report`: energies and quality of a trace."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from powersample.cli.output import emit

EXAMPLE = """\
examples:
  powersample report run.parquet
  powersample report run.parquet --all
  powersample report run.parquet --json | jq '.windows[].totals.gpu_j'
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "report",
        help="energies and data quality of a trace",
        description="Print the energy of every window of a trace, by which channel and method, and the data's quality.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("file", type=Path, metavar="FILE", help="a trace (Parquet), or the spool of one being recorded")
    verb.add_argument("--all", action="store_true", help="every channel of every window, not only the one that stands")
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    from powersample import store
    from powersample.report import build

    trace = store.read_spool(options.file) if options.file.is_dir() else store.load(options.file)
    report = build(trace)
    shown = report.every_channel() if options.all else str(report)
    emit(json.dumps(report.data, indent=1, allow_nan=False) if options.json else shown)
    return 0
