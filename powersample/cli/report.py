# SPDX-License-Identifier: Apache-2.0
"""`powersample report`: energies and quality of a trace, ours or other people's."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.output import check_picture, emit

if TYPE_CHECKING:
    from powersample.model import Calibration, RunTable, Trace, Window
    from powersample.report import Factors, Report

FORMATS = ("powersample", "nvidia-smi", "pmd", "lpm01a", "mllog", "ptdaemon", "csv", "ecnas", "codecarbon", "zeus")
COLLECT_AFTER = 200_000  # objects that are made, less those that are gone: python's own 700 are a window's or two
READ_BY_EYE = 200  # windows up to which JSON is indented: python's own encoder of that takes ten times as long
EXAMPLE = """\
examples:
  powersample report run.parquet
  powersample report run.parquet --explain
  powersample report run.parquet --html run.html
  powersample report run.parquet --calibration node.json --load-like primes --pue 1.3 --co2 "380,UBA 2024"
  powersample report run.parquet --json | jq '.windows[].totals.gpu_j'
  powersample report smi.csv --gpu "NVIDIA A100-PCIE-40GB" --driver 535.54 --start 10 --end 70
  powersample report log.csv --format csv --columns time=t_s,P=power_mw --windows epochs.csv
  powersample report spl.txt --format ptdaemon --windows mlperf_log_detail.txt

A time T is seconds from the first sample, or ISO 8601. A windows file is a CSV with the header name,start,end,
or a log of MLPerf's load generator (power_begin to power_end).
Formats: a trace or spool of powersample; the log of nvidia-smi --format=csv; the byte stream of a PMD-USB meter; an
LPM01A record; MLPerf's MLLOG lines; the spl.txt of SPEC PTDaemon (with client.json and server.json beside it, where
they are); a CSV with units in its header (t_s, power_w ...); and, as an audit of published energies and powers, EC-NAS
runs, CodeCarbon's emissions.csv and Zeus's summary of trainings.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "report",
        help="energies and data quality of a trace",
        description="Print the energy of the run by device and of every window, with 95 % intervals and verdicts, and "
        "what has to be known of the data.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "file", type=Path, metavar="FILE", help="a trace, the spool of a recording, or another tool's log"
    )
    verb.add_argument("--all", action="store_true", help="every channel of every window, and how each was read")
    verb.add_argument(
        "--explain",
        action="store_true",
        help="each window by device, how each channel was read, and of every number how it came about",
    )
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.add_argument(
        "--html", type=Path, metavar="OUT", help="also write all of it as one page that needs nothing else"
    )
    verb.add_argument("--png", type=Path, metavar="OUT", help="also draw power over time: .png, .svg or .pdf ([plot])")
    verb.add_argument("--svg", type=Path, metavar="OUT", help="the same as SVG")
    verb.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="NAME",
        help="--png, --svg: draw this one only; * and ? as in the shell, and it may be given again",
    )
    verb.add_argument("--force", action="store_true", help="replace OUT if it exists")
    verb.add_argument("--format", choices=FORMATS, help="what FILE is (default: guessed where it is certain)")
    verb.add_argument("--day-first", action="store_true", help="the dates of a PTDaemon log are day, month, year")
    verb.add_argument("--columns", metavar="NAME=MEANING,...", help="what the columns of a csv are: time=t_s,P=power_w")
    verb.add_argument("--windows", type=Path, metavar="FILE", help="windows to tell, instead of the file's own")
    verb.add_argument("--start", metavar="T", help="tell one window, from T on (default: the first sample)")
    verb.add_argument("--end", metavar="T", help="to T (default: the last sample)")
    verb.add_argument("--gpu", metavar="NAME", help="the card of a log that does not name it, in NVML's words")
    verb.add_argument("--driver", metavar="VERSION", help="its driver: what power.draw means depends on it")
    verb.add_argument(
        "--load-period",
        type=float,
        metavar="S",
        help="how long an iteration of the load takes: excludes aliasing where it does; default: what marks show",
    )
    verb.add_argument(
        "--repeats",
        metavar="NAME,NAME,...",
        action="append",
        default=[],
        help="windows of the same work, beside those whose names differ in a number at their end; again for others",
    )
    node = verb.add_argument_group("the whole node")
    node.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="of `powersample calibrate`; default: the recording's own, else what is kept of its host",
    )
    node.add_argument(
        "--calibration-anyway",
        action="store_true",
        help="use it although it is of another host, GPUs, driver or rate; the report says so",
    )
    node.add_argument(
        "--load-like",
        metavar="LOAD",
        help="what ran is like this calibrated load (primes, stream ...): its uncaptured power beside the model's",
    )
    node.add_argument("--pue", type=float, metavar="FACTOR", help="of the building; told apart, in no other figure")
    node.add_argument("--co2", metavar="G,SOURCE", help='g CO2 per kWh, and whose figure that is: "380,UBA 2024"')
    verb.set_defaults(run=run)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let the garbage collector look seldom: what is told of thousands of windows stays, and has no cycles."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_seldom_collected()
def run(options: argparse.Namespace) -> int:
    """Print the report."""
    from powersample.errors import InvalidArgument
    from powersample.model import RunTable
    from powersample.readers import read
    from powersample.report import audit, build

    found = read(
        options.file,
        format=options.format,
        columns=_columns(options.columns),
        gpu=options.gpu,
        driver=options.driver,
        day_first=options.day_first,
    )
    _check_outputs(options, found)
    if isinstance(found, RunTable):
        told = audit(found)
        emit(json.dumps(told.data, indent=1, allow_nan=False) if options.json else str(told))
        return 0
    if options.load_period is not None and not options.load_period > 0:
        raise InvalidArgument(f"--load-period {options.load_period} must be above 0 s")
    windows = _windows(options, found)
    calibration, origin = _calibration(options, found)
    report = build(
        found,
        windows,
        load_period_s=options.load_period,
        repeats=_repeats(options, found, windows),
        calibration=calibration,
        calibration_origin=origin,
        calibration_anyway=options.calibration_anyway,
        load_like=options.load_like,
        factors=_factors(options),
    )
    if options.json:
        indent = 1 if len(report.data["windows"]) <= READ_BY_EYE else None
        emit(json.dumps(report.data, indent=indent, allow_nan=False))
    else:
        emit(report.explained() if options.explain else report.every_channel() if options.all else str(report))
    _write_outputs(options, found, report)
    return 0


def _check_outputs(options: argparse.Namespace, found: Trace | RunTable) -> None:
    """Raise when a page or a picture could not be written at the end, before anything is worked out."""
    from powersample.errors import InvalidArgument
    from powersample.model import RunTable
    from powersample.session.recording import check_output

    outputs = [one for one in (options.html, options.png, options.svg) if one is not None]
    if outputs and isinstance(found, RunTable):
        raise InvalidArgument(
            f"{options.file} tells of whole runs and has no power over time: there is nothing for {outputs[0]} to show",
            "Leave --html, --png and --svg out; --json has everything.",
        )
    for one in outputs:
        if one.resolve() == options.file.resolve():
            raise InvalidArgument(f"{one} is the recording itself", "Choose another name.")
    if options.device and options.png is None and options.svg is None:
        raise InvalidArgument("--device chooses what --png and --svg draw", "Give one of them, or leave it out.")
    if options.html is not None:
        check_output(options.html, replace=options.force)
    check_picture(options.png, replace=options.force)
    if options.svg is not None and options.svg.suffix.lower() != ".svg":
        raise InvalidArgument(f"--svg {options.svg}: let it end in .svg, or use --png for other kinds")
    check_picture(options.svg, replace=options.force, option="--svg")


def _write_outputs(options: argparse.Namespace, trace: Trace, report: Report) -> None:
    """Write the page and the pictures that were asked for, and say so."""
    if options.html is not None:
        from powersample.report.html import html
        from powersample.store.replace import write_new

        write_new(options.html, [html(trace, report, options.file.name).encode()], replace=options.force)
        print(f"powersample: wrote {options.html}", file=sys.stderr)
    for path in (options.png, options.svg):
        if path is not None:
            from powersample.report.power_plot import plot

            plot(trace, report, path, options.file.name, options.device)
            print(f"powersample: wrote {path}", file=sys.stderr)


def _calibration(options: argparse.Namespace, trace: Trace) -> tuple[Calibration | None, str]:
    """Return the calibration that was named, else that of the recording's host where it has none itself."""
    from powersample.errors import PowerSampleError
    from powersample.store.calibrations import calibration_for, load_calibration

    if options.calibration is not None:
        return load_calibration(options.calibration), str(options.calibration)
    found = None
    if not trace.meta.get("calibration"):
        try:
            found = calibration_for(trace.meta)
        except PowerSampleError as error:  # nobody asked for it
            print(f"powersample: what is kept of this node's calibration is passed over: {error}", file=sys.stderr)
    return (None, "") if found is None else (found[0], str(found[1]))


def _factors(options: argparse.Namespace) -> Factors:
    from powersample.errors import InvalidArgument
    from powersample.report import Factors

    if options.co2 is None:
        return Factors(options.pue)
    grams, _, source = options.co2.partition(",")
    try:
        return Factors(options.pue, float(grams), source.strip())
    except ValueError as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f'--co2 {options.co2!r}: a number of g per kWh and its source, "380,UBA 2024"') from None


def _columns(text: str | None) -> dict[str, str] | None:
    from powersample.errors import InvalidArgument

    if text is None:
        return None
    pairs = [one.partition("=") for one in text.split(",")]
    if any(not name or not meaning for name, _, meaning in pairs):
        raise InvalidArgument(f"--columns {text!r}: write NAME=MEANING, separated by commas: time=t_s,P=power_w")
    return {name.strip(): meaning.strip() for name, _, meaning in pairs}


def _repeats(options: argparse.Namespace, trace: Trace, windows: list[Window] | None) -> list[list[str | Window]]:
    """Return what is named as the same work, of the windows that are told: a name stands for all that bear it."""
    from powersample.errors import InvalidArgument, did_you_mean

    there = trace.windows if windows is None else windows
    found: list[list[str | Window]] = []
    for text in options.repeats:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if missing := [name for name in names if not any(one.name == name for one in there)]:
            known = ", ".join(repr(one.name) for one in there[:20]) or "no windows"
            what = f"--repeats: no window is called {missing[0]!r}; there are {known}"
            raise InvalidArgument(what, did_you_mean(missing[0], [one.name for one in there]))
        found.append([one for one in there if one.name in names])
    return found


def _windows(options: argparse.Namespace, trace: Trace) -> list[Window] | None:
    from powersample.errors import InvalidArgument
    from powersample.model import Window, amount
    from powersample.readers import instant_ns, read_windows

    one = options.start is not None or options.end is not None
    if options.windows is not None:
        if one:
            raise InvalidArgument("--windows and --start or --end exclude each other")
        return read_windows(options.windows, trace)
    if not one:
        return None
    if trace.start_ns is None or trace.end_ns is None:
        raise InvalidArgument(f"{options.file} holds no reading: there is nothing between --start and --end")
    start_ns = trace.start_ns if options.start is None else instant_ns(options.start, trace)
    end_ns = trace.end_ns if options.end is None else instant_ns(options.end, trace)
    if end_ns <= start_ns:
        from powersample.model import amount

        start = "the first sample" if options.start is None else f"--start {options.start}"
        end = "the last sample" if options.end is None else f"--end {options.end}"
        span_s = (trace.end_ns - trace.start_ns) / 1e9
        raise InvalidArgument(f"{end} does not come after {start}; {options.file} holds {amount(span_s, 4)} s")
    return [Window("window", start_ns, end_ns, (), "command line")]
