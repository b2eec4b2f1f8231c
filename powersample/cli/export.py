# SPDX-License-Identifier: Apache-2.0
"""`powersample export`: a trace in another tool's format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.output import pour

if TYPE_CHECKING:
    from powersample.export import Selection
    from powersample.model import Trace

FORMATS = ("csv", "influx", "chrome", "perfetto", "ptdaemon")
SUFFIXES = {".csv": "csv", ".lp": "influx", ".json": "chrome", ".pftrace": "perfetto", ".tar": "perfetto"}
GZIP = ".gz"
STDOUT = Path("-")

EXAMPLE = """\
examples:
  powersample export run.parquet -o run.csv
  powersample export run.parquet -f csv --changes --channel 'gpu*.power.instant' -o small.csv
  powersample export run.parquet -f influx --tag job=4711 | curl --data-binary @- http://db:8086/write?db=power
  powersample export run.parquet --merge torch_trace.json.gz -o both.json
  powersample export run.parquet -f ptdaemon --channel wall.power --zone +01:00 --mark training

csv       a row a reading, for pandas, Excel and R; the windows in OUT.windows.csv beside it
influx    line protocol, for InfluxDB, VictoriaMetrics, QuestDB, Telegraf
chrome    Chrome's JSON: counters, windows, gaps, for chrome://tracing and ui.perfetto.dev; with --merge inside torch's
perfetto  the same as protobuf, smaller and with units; with --merge a TAR with torch's JSON and Perfetto's manifest
ptdaemon  one power channel as SPEC PTDaemon's spl.txt, stamped with local time; the mark is the window's name
OUT may end in .gz: it is packed then.
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
    verb.add_argument("-f", "--format", choices=FORMATS, help="what to write (default: as OUT's name ends)")
    verb.add_argument("-o", "--output", type=Path, metavar="OUT", help="where (default: standard output, also -)")
    verb.add_argument("--force", action="store_true", help="replace OUT if it exists")
    verb.add_argument(
        "--channel",
        action="append",
        metavar="NAME",
        help="this one only; * and ? as in the shell, and it may be given again (default: all, csv and influx without "
        "a simulation's truth.*; ptdaemon: the wall's)",
    )
    verb.add_argument("--start", metavar="T", help="from T on: seconds from the first sample, or an ISO 8601 time")
    verb.add_argument("--end", metavar="T", help="up to T")
    verb.add_argument(
        "--changes", action="store_true", help="csv, influx: only readings that differ from the one before"
    )
    verb.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="influx: one more tag on every point"
    )
    verb.add_argument("--merge", type=Path, metavar="TORCH", help="chrome, perfetto: beside this profile of torch")
    verb.add_argument("--zone", metavar="+HH:MM", help="ptdaemon: of the local time (default: this machine's)")
    verb.add_argument("--mark", default="powersample", help="ptdaemon: label outside of windows (default: %(default)s)")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    from powersample.errors import InvalidArgument, did_you_mean
    from powersample.model import RunTable
    from powersample.readers import read

    output = None if options.output in (None, STDOUT) else options.output
    chosen = options.format or (SUFFIXES.get(_unpacked(output).suffix.lower()) if output else None)
    if chosen is None:
        if output is None:
            raise InvalidArgument(f"which format is meant is not certain: give -f {', '.join(FORMATS)}")
        raise InvalidArgument(
            f"{output} is of no known format: let it end in {', '.join(SUFFIXES)}, also with {GZIP}, or give "
            f"-f {', '.join(FORMATS)}",
            did_you_mean(_unpacked(output).suffix, SUFFIXES),
        )
    _check(options, chosen)
    for one in (options.file, options.merge):
        if output is not None and one is not None and one.exists() and output.exists() and output.samefile(one):
            raise InvalidArgument(f"{output} is what is read: name another with -o")
    trace = read(options.file)
    if isinstance(trace, RunTable):
        raise InvalidArgument(f"{options.file} holds totals of runs and no samples")
    writers = {"csv": _csv, "influx": _influx, "chrome": _timeline, "perfetto": _timeline, "ptdaemon": _ptdaemon}
    writers[chosen](options, trace, output)
    return 0


def _check(options: argparse.Namespace, chosen: str) -> None:
    """Refuse what another format's options would have no effect on."""
    from powersample.errors import InvalidArgument

    takers = {
        "--changes": (options.changes, ("csv", "influx")),
        "--tag": (options.tag, ("influx",)),
        "--zone": (options.zone, ("ptdaemon",)),
        "--merge": (options.merge, ("chrome", "perfetto")),
        "--start": (options.start, FORMATS[:-1]),
        "--end": (options.end, FORMATS[:-1]),
    }
    if chosen == "perfetto" and options.output in (None, STDOUT):
        raise InvalidArgument("a Perfetto trace is no text for standard output: name a file with -o")
    suffix = _unpacked(options.output).suffix if options.output else ""
    if chosen == "perfetto" and options.merge and suffix == ".pftrace":
        raise InvalidArgument(f"with --merge, {options.output} is an archive of two traces: let its name end in .tar")
    if chosen == "perfetto" and not options.merge and suffix == ".tar":
        raise InvalidArgument(
            f"{options.output} would be no archive: let its name end in .pftrace, or --merge a profile"
        )
    for name, (given, formats) in takers.items():
        if given and chosen not in formats:
            raise InvalidArgument(f"{name} is of {' and '.join(formats)} only, not of {chosen}")


def _csv(options: argparse.Namespace, trace: Trace, output: Path | None) -> None:
    from powersample.export import csv_chunks, windows_csv

    chosen = _selection(options, trace, truth=False)
    windows = windows_csv(chosen)
    if windows is not None and output is None:
        _say(f"{len(chosen.windows)} windows are left out: with -o they are written beside")
    beside = [(_unpacked(output).with_suffix(".windows.csv"), [windows])] if output and windows is not None else []
    _write(csv_chunks(chosen, only_changes=options.changes), output, *beside, force=options.force)


def _influx(options: argparse.Namespace, trace: Trace, output: Path | None) -> None:
    from powersample.errors import InvalidArgument
    from powersample.export import influx_chunks

    tags = dict(one.partition("=")[::2] for one in options.tag)
    if not all(key and value for key, value in tags.items()):
        raise InvalidArgument("--tag is KEY=VALUE, and neither is empty")
    chosen = _selection(options, trace, truth=False)
    _write(influx_chunks(chosen, only_changes=options.changes, tags=tags), output, force=options.force)


def _timeline(options: argparse.Namespace, trace: Trace, output: Path | None) -> None:
    from powersample.export import archive_chunks, chrome_chunks, perfetto_chunks
    from powersample.readers import read_torch

    torch = None if options.merge is None else read_torch(options.merge)
    chosen = _selection(options, trace)
    if (options.format or SUFFIXES[_unpacked(output or STDOUT).suffix.lower()]) == "chrome":
        chunks = chrome_chunks(chosen, torch)
    elif torch is None:
        chunks = perfetto_chunks(chosen)
    else:
        chunks = archive_chunks(chosen, torch, output.parent if output else None)
    _write(chunks, output, force=options.force)


def _ptdaemon(options: argparse.Namespace, trace: Trace, output: Path | None) -> None:
    from powersample.errors import InvalidArgument
    from powersample.export import spl_lines

    if options.channel and len(options.channel) > 1:
        raise InvalidArgument("a spl.txt holds one power: give --channel once")
    name = options.channel[0] if options.channel else None
    lines = spl_lines(trace, name, zone_s=_zone_s(options.zone), mark=options.mark)
    _write((f"{line}\n".encode("ascii", "replace") for line in lines), output, force=options.force)


def _selection(options: argparse.Namespace, trace: Trace, *, truth: bool = True) -> Selection:
    from powersample.export import headline, select
    from powersample.readers import instant_ns

    start_ns, end_ns = (None if one is None else instant_ns(one, trace) for one in (options.start, options.end))
    said = headline(trace)
    if said:
        _say(said)
    return select(trace, options.channel, start_ns=start_ns, end_ns=end_ns, truth=truth)


def _write(chunks: Iterator[bytes], output: Path | None, *beside: tuple[Path, Iterable[bytes]], force: bool) -> None:
    from powersample.errors import OutputExists
    from powersample.store.replace import write_together

    if output is None:
        pour(chunks)
        return
    names = [output, *(path for path, _ in beside)]
    for path in names:
        if path.exists() and not force:
            what = "" if path == output else f", and that is where the windows of {output} go"
            raise OutputExists(f"{path} exists{what}", "Name another file with -o, or add --force.")
    write_together([*beside, (output, _packed(chunks) if output.suffix == GZIP else chunks)], replace=force)
    _say(f"powersample: wrote {' and '.join(map(str, names))}")


def _unpacked(output: Path) -> Path:
    return output.with_suffix("") if output.suffix == GZIP else output


def _packed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # with gzip's header
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


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
