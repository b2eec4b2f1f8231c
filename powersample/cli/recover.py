# SPDX-License-Identifier: Apache-2.0
"""`powersample recover`: a trace from what a killed recording left."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

EXAMPLE = """\
example:
  powersample recover run.parquet.spool            writes run.parquet
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "recover",
        help="make a trace from the spool of a killed recording",
        description="Write the trace that a killed recording would have written; the spool goes once it is safe.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("spool", type=Path, metavar="SPOOL", help="the directory OUT.spool")
    verb.add_argument("-o", "--output", type=Path, metavar="OUT", help="trace to write; default SPOOL without .spool")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Recover and say where it went."""
    from powersample import errors, store

    output = options.output
    if not options.spool.exists():
        beside = options.spool.with_name(options.spool.name + ".spool")
        there = (
            f"Did you mean {beside}?" if beside.is_dir() else "A recording that was killed leaves OUT.spool beside OUT."
        )
        raise errors.InputNotFound(f"there is no folder {options.spool}", there)
    if output is None:
        if options.spool.suffix != ".spool":
            raise errors.InvalidArgument(f"{options.spool} does not end in .spool; say where to write with -o OUT")
        output = options.spool.with_suffix("")
    store.recover(options.spool, output)
    print(f"powersample: wrote {output}; next: powersample report {output}", file=sys.stderr)
    return 0
