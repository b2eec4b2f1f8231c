# SPDX-License-Identifier: Apache-2.0
"""The command `powersample`: one module a verb, each with `add` (its arguments) and `run` (which calls the library).

Results go to stdout, progress and messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 nothing measurable;
`record` answers with the program's own; of `doctor` 1 is that something is in the way.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from powersample import __version__, errors
from powersample.cli import (
    audit,
    calibrate,
    characterize,
    codecarbon,
    demo,
    doctor,
    export,
    race,
    record,
    recover,
    report,
    reproduce,
    serve,
    sim,
    stat,
    stress,
    sync,
    top,
)
from powersample.cli.process import ending_in_order, fill_streams

VERBS = (
    calibrate,
    characterize,
    doctor,
    demo,
    race,
    record,
    stat,
    top,
    report,
    export,
    recover,
    serve,
    sim,
    stress,
    sync,
    codecarbon,
    reproduce,
    audit,
)
WRAPPING = ("record", "stat", "sim")  # a program
FAILED, USAGE, NOTHING_MEASURABLE = 1, 2, 3

EPILOG = """\
Begin with `powersample demo`: it needs no hardware. `powersample doctor` says what can be measured here.
Then record a program of yours:
  powersample record -o run.parquet -- python train.py
  powersample report run.parquet
Without a GPU, add --simulate h100 to record.
"""


class _Parser(argparse.ArgumentParser):
    """One that says what is meant by a mistyped word, and how to write a value that begins with a minus."""

    verbs: Any = None

    def error(self, message: str) -> NoReturn:
        if found := re.fullmatch(r"argument (?:.*/)?(--[\w-]+): expected one argument", message):
            message = f"{message}; one that begins with - is written {found[1]}=-..."
        if found := re.fullmatch(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", message):
            meant = errors.did_you_mean(found[2], re.findall(r"[\w.-]+", found[3]))
            message = f"{message}. {meant}" if meant else message
        super().error(message)


def parser() -> _Parser:
    """Return the parser of the whole command line."""
    top = _Parser(
        prog="powersample",
        description="Joules of a program on a GPU node, from a native sampler that the program cannot stall.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"powersample {__version__}")
    top.verbs = verbs = top.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    fill_streams()
    command: list[str] = []
    if arguments and arguments[0] in WRAPPING and "--" in arguments:  # all behind it is the program's
        cut = arguments.index("--")
        arguments, command = arguments[:cut], arguments[cut + 1 :]
    top = parser()
    options, unknown = top.parse_known_args(arguments)
    if unknown or _mixed(options, arguments):
        known = re.findall(r"--[\w-]+", top.verbs.choices[options.verb].format_help())
        meant = [words for one in unknown if (words := errors.did_you_mean(one.partition("=")[0], known))]
        top.error(". ".join([_unknown(options, unknown, arguments), *meant[:1]]))
    options.command = [*getattr(options, "command", []), *command]
    try:
        with ending_in_order():
            return int(options.run(options))
    except errors.PowerSampleError as error:
        return _say(error, _code(error))
    except BrokenPipeError:  # the reader of our output left, as `head` does
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{options.verb}: {where}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return 130


def _mixed(options: argparse.Namespace, arguments: list[str]) -> bool:
    """Whether options follow a program that no `--` sets apart: meant for it, they would be taken for ours."""
    program: list[str] = getattr(options, "command", [])
    if options.verb not in ("record", "stat") or not program:
        return False
    return any(one.startswith("-") for one in arguments[arguments.index(program[0]) :])


def _unknown(options: argparse.Namespace, unknown: list[str], arguments: list[str]) -> str:
    """Return what to say of arguments that no option takes: a program's own belong behind `--`."""
    words = f"unrecognized arguments: {shlex.join(unknown)}" if unknown else "options follow the program"
    if not _mixed(options, arguments):
        return words
    at = arguments.index(options.command[0])
    whole = f"powersample {shlex.join(arguments[:at])} -- {shlex.join(arguments[at:])}"
    return f"{words}; put -- before the program: {whole}"


def _code(error: errors.PowerSampleError) -> int:
    if isinstance(error, errors.NothingMeasurable):
        return NOTHING_MEASURABLE
    if isinstance(error, errors.InvalidArgument):
        return USAGE
    return int(getattr(error, "exit_code", FAILED))


def _say(error: Exception | str, code: int) -> int:
    print(f"powersample: {error}", file=sys.stderr)
    return code
