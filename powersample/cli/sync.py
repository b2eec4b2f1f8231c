# SPDX-License-Identifier: Apache-2.0
"""`powersample sync`: how a meter's time lies on this machine's, or one record's on another's."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.cli.output import emit

if TYPE_CHECKING:
    from powersample.fit import Aligned
    from powersample.model import Trace

EXAMPLE = """\
examples:
  powersample sync PMD_data.bin gpudata.csv --gpu "NVIDIA A100-PCIE-40GB" --plot fit.png
  powersample sync run.parquet:gpu0.energy run.parquet:wall.power

Two records are aligned by what both saw of the load: FILE, or FILE:CHANNEL where it holds several. A time zone between
them is found and taken out; what is left comes with its standard error. Where the load tells no lag for certain (it
does not move, repeats itself, or one record does not follow it) the answer is a refusal with its reason, exit code 1.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "sync",
        help="align a meter's clock, or two records",
        description="Find the lag between two power records by their own structure.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("first", metavar="A[:CHANNEL]", help="a trace or another tool's log")
    verb.add_argument("second", metavar="B[:CHANNEL]", help="the other one")
    verb.add_argument("--shift", type=float, default=0.0, metavar="S", help="B's stamps are known to be S ahead")
    verb.add_argument("--search", type=float, metavar="S", help="look only so far around that; default: all overlaps")
    verb.add_argument("--gpu", metavar="NAME", help="the card of a log that does not name it, in NVML's words")
    verb.add_argument("--driver", metavar="VERSION", help="its driver: what power.draw means depends on it")
    verb.add_argument("--plot", type=Path, metavar="PNG", help="draw what the answer stands on")
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Align, print, draw; 1 when it was refused."""
    from powersample.report.sync import plot, sync_json, sync_text

    found, simulated, names = _files(options)
    if options.plot is not None:
        plot(found, options.plot, simulated=simulated, names=names)
    if options.json:
        emit(json.dumps(sync_json(found, simulated=simulated), indent=1, allow_nan=False))
    else:
        emit(sync_text(found, simulated=simulated, names=names))
    return 0 if found.fit.accepted else 1


def _files(options: argparse.Namespace) -> tuple[Aligned, bool, tuple[str, str]]:
    from powersample.errors import InvalidArgument
    from powersample.fit import align

    if options.search is not None and not options.search > 0:
        raise InvalidArgument(f"--search {options.search}: seconds above 0")
    (first, one, where), (second, other, there) = (_record(text, options) for text in (options.first, options.second))
    found = align(first, second, (one, other), shift_s=options.shift, search_s=options.search)
    names = (where, there) if found.swapped else (there, where)
    return found, first.simulated or second.simulated, names


def _record(text: str, options: argparse.Namespace) -> tuple[Trace, str, str]:
    """Return a record, the channel that is meant, and the file's name."""
    from powersample.errors import InvalidArgument
    from powersample.model import RunTable
    from powersample.readers import read

    path, _, wanted = text.rpartition(":")
    whole = not path or Path(text).exists()
    where = Path(text if whole else path)
    found = read(where, gpu=options.gpu, driver=options.driver)
    if isinstance(found, RunTable):
        raise InvalidArgument(f"{where} holds energies of runs and no readings: nothing can be aligned by it")
    return found, _channel(found, where) if whole else found.channel(wanted).name, where.name


def _channel(trace: Trace, where: Path) -> str:
    """Return the channel of a record that names none: the quickest field of the only device."""
    from powersample.errors import InvalidArgument
    from powersample.model import TRUTH_PREFIX, Kind

    power = [one for one in trace.channels.values() if one.kind is Kind.POWER and not one.name.startswith(TRUTH_PREFIX)]
    if len({one.device for one in power}) == 1:
        instant = [one.name for one in power if one.name.endswith(".instant")]
        if len(power) == 1 or instant:
            return instant[0] if instant else power[0].name
    there = ", ".join(one.name for one in power) or "none"
    raise InvalidArgument(f"{where} has no power channel or several ({there}): name one, as {where}:CHANNEL")
