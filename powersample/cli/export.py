# SPDX-License-Identifier: Apache-2.0
"""`powersample export`: a trace in another tool's format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from powersample.cli.output import emit

EXAMPLE = """\
examples:
  powersample export run.parquet --format ptdaemon -o spl.txt
  powersample export run.parquet --format ptdaemon --channel wall.power --zone +01:00 --mark training

ptdaemon: one power channel as SPEC PTDaemon's spl.txt, stamped with local time; the mark is the window's name.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "export",
        help="a trace in another tool's format",
        description="Write a trace, or what another tool logged, in the format of a third.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("file", type=Path, metavar="FILE", help="a trace, a spool, or another tool's log")
    verb.add_argument("--format", choices=("ptdaemon",), required=True, help="what to write")
    verb.add_argument("-o", "--output", type=Path, metavar="OUT", help="where (default: standard output)")
    verb.add_argument("--channel", metavar="NAME", help="which power (default: the wall's)")
    verb.add_argument("--zone", metavar="+HH:MM", help="of the stamps' local time (default: this machine's)")
    verb.add_argument("--mark", default="powersample", help="label outside of windows (default: %(default)s)")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    from powersample.errors import InvalidArgument, OutputExists, SystemFailure
    from powersample.export import spl_lines
    from powersample.model import RunTable
    from powersample.readers import read

    trace = read(options.file)
    if isinstance(trace, RunTable):
        raise InvalidArgument(f"{options.file} holds totals of runs and no samples")
    lines = spl_lines(trace, options.channel, zone_s=_zone_s(options.zone), mark=options.mark)
    if options.output is None:
        for line in lines:
            emit(line)
        return 0
    try:
        with options.output.open("x", encoding="ascii", errors="replace") as file:
            file.writelines(f"{line}\n" for line in lines)
    except FileExistsError:
        raise OutputExists(f"{options.output} exists", "Name another with -o, or remove it.") from None
    except OSError as error:
        raise SystemFailure(f"{options.output} cannot be written: {error.strerror}", code=error.errno) from error
    return 0


def _zone_s(text: str | None) -> int | None:
    from datetime import datetime

    from powersample.errors import InvalidArgument

    if text is None:
        return None
    try:
        offset = datetime.strptime(text, "%z").utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise InvalidArgument(f"--zone {text!r}: write +01:00, -05:00 or Z")
    return round(offset.total_seconds())
