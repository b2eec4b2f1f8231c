# SPDX-License-Identifier: Apache-2.0
"""`powersample stat`: run a program several times and tell its mean energy."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from powersample.cli.output import emit, refuse_other_suffix
from powersample.cli.sampling import add_program, list_meters, refuse_simulated, setup_of, telling_not_started

if TYPE_CHECKING:
    from powersample.session.intervals import Intervals
    from powersample.session.repeat import Ran, RepeatResult

EXAMPLE = """\
examples:
  powersample stat -r 5 -- python train.py
  powersample stat -r 10 --warmup 1 --cooldown 10 -- ./solver input
  powersample stat -I 1000 -- python train.py
  powersample stat -r 5 --json --to stats.json -- python train.py
  powersample stat --simulate h100 -r 3 -- python -c 'sum(range(10**7))'

The table goes to standard error after the last run, as perf's does; the program's output stays its own. --json and
--csv go to standard output, and the program's standard output to standard error then, so that nothing mixes; with
--to FILE they go there, and the program's output stays its own. -I tells intervals, a moment after each has passed, to
the same place; with --json as an object on a line of its own, before the results' line.

Every repeat is a window of one recording; -o keeps it for `powersample report`. The exit code is the program's, the
first that is not 0. Exit codes of its own: as `powersample record`.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "stat",
        help="run a program several times and tell its mean energy",
        description="Run a program, once or several times, and tell the mean energy of every device.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="powersample stat [options] -- COMMAND ...",
    )
    verb.add_argument("-r", "--repeat", type=int, default=1, metavar="N", help="runs that count; default 1")
    verb.add_argument("--warmup", type=int, default=0, metavar="N", help="runs before them that do not")
    verb.add_argument("--cooldown", type=float, default=0.0, metavar="S", help="pause before every run but the first")
    verb.add_argument("-i", "--ignore-failure", action="store_true", help="go on after a run that fails, and count it")
    verb.add_argument(
        "-I", "--interval", type=float, metavar="MS", help="tell each run's energies every MS milliseconds, too"
    )
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="a row a device, then a row a run and device")
    verb.add_argument(
        "--to", type=Path, metavar="FILE", help="write the results there; replaces it once it has them all"
    )
    verb.add_argument("-o", "--output", type=Path, metavar="OUT", help="keep the trace; default none is kept")
    add_program(verb)
    verb.add_argument("-q", "--quiet", action="store_true", help="no line after each run, and no notes")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Repeat and answer with the program's exit code."""
    from powersample import errors
    from powersample.session.repeat import Repeats, repeat_command

    if options.meter == ["help"]:
        return list_meters()
    if not options.command:
        raise errors.InvalidArgument("nothing to run: add `-- COMMAND`")
    if options.output is not None:
        refuse_other_suffix(options.output)
    refuse_simulated(options)
    repeats = Repeats(options.repeat, options.warmup, options.cooldown, options.ignore_failure)
    with contextlib.ExitStack() as closing:
        results = closing.enter_context(_results(options))
        output = options.output
        if output is None:
            folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="powersample-"))
            output = Path(folder) / "stat.parquet"
        intervals = _intervals(options, results)
        closing.enter_context(telling_not_started(options.command))
        result = repeat_command(
            setup_of(options, output, closing),
            options.command,
            repeats,
            stdout=sys.stderr.fileno() if results.stream is sys.stdout else None,
            intervals=intervals,
            on_trouble=lambda text: _note(f"{text}; the program goes on"),
            on_run=lambda one: None if options.quiet or options.repeat + options.warmup == 1 else _ran(one),
        )
        _tell(options, result, results)
        if options.output is not None and result.trace is not None:
            _note(f"wrote {options.output}; next: powersample report {options.output}")
    return result.exit_code


class _NothingToldError(Exception):
    """There are no results, so that a file that is there already stays as it is."""


class _Results:
    """Where results go.

    Args:
        stream: written to.
        path: the file behind it; None for a standard stream.

    Attributes:
        whole: whether all of them have been written.
    """

    def __init__(self, stream: TextIO, path: Path | None = None) -> None:
        self.stream, self._path = stream, path
        self.whole = False

    def write(self, text: str) -> None:
        """Write lines; a file is told as this package tells of files."""
        from powersample.store.replace import disk_told

        if self.stream is sys.stdout:
            emit(text)
            return
        with contextlib.nullcontext() if self._path is None else disk_told(self._path):
            print(text, file=self.stream, flush=True)


@contextlib.contextmanager
def _results(options: argparse.Namespace) -> Iterator[_Results]:
    """Give what results go to; what cannot be written is refused before anything runs.

    A file gets its name, or takes the old one's place, once it has all. What is no file, as /dev/null or a pipe of the
    shell's, is written as it comes.
    """
    from powersample.store.replace import disk_told, new_file

    if options.to is None:
        yield _Results(sys.stdout if options.json or options.csv else sys.stderr)
        return
    with disk_told(options.to):
        path = options.to.resolve()  # a link stays one
        is_file = path.is_file() or not path.exists()
    if is_file:
        with contextlib.suppress(_NothingToldError), new_file(path, replace=True) as file:
            stream = io.TextIOWrapper(file, "utf-8", write_through=True)
            results = _Results(stream, options.to)
            yield results
            stream.detach()
            if not results.whole:
                raise _NothingToldError
        return
    with disk_told(path):
        stream = path.open("w", encoding="utf-8")
    with stream:
        yield _Results(stream, options.to)


def _tell(options: argparse.Namespace, result: RepeatResult, results: _Results) -> None:
    from powersample import errors
    from powersample.report.stat import RunFacts, stat_report

    for text in result.trouble:
        _note(text)
    if result.trace is None:
        return
    for text in () if options.quiet else result.trace.meta.get("notes", ()):
        _note(text)  # such as why there is no CPU in the table
    try:
        report = stat_report(
            result.trace,
            [RunFacts(**asdict(one)) for one in result.runs],
            command=options.command,
            asked_runs=options.repeat,
            asked_to_end=result.asked_to_end,
        )
    except errors.PowerSampleError as error:  # the program's exit code stands all the same
        _note(str(error))
        return
    if options.json:
        text = json.dumps(report.data, indent=1 if options.interval is None else None, allow_nan=False)
    else:
        text = (report.csv if options.interval is None else report.csv_rows).rstrip("\n")
    results.write(text if options.json or options.csv else str(report))
    results.whole = True


def _intervals(options: argparse.Namespace, results: _Results) -> Intervals | None:
    """Return what tells intervals, if it is to."""
    from powersample.report.stat import csv_header, interval_lines
    from powersample.session.intervals import Interval, Intervals

    if options.interval is None:
        return None

    simulated = options.simulate is not None

    def tell(one: Interval) -> None:
        lines = interval_lines(one.run, one.end_s, one.duration_s, one.energies, simulated=simulated)
        if lines.rows:
            results.write(lines.json if options.json else lines.csv.rstrip("\n") if options.csv else str(lines))

    if options.csv:
        results.write(csv_header().rstrip("\n"))
    elif simulated and not options.json:
        results.write(f"SIMULATED NODE {options.simulate}, not a measurement\n")
    return Intervals(options.interval / 1e3, tell)


def _ran(one: Ran) -> None:
    _note(f"{one.window} ended" + (f" with exit code {one.exit_code}" if one.exit_code else ""))


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr)
