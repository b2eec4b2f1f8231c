# SPDX-License-Identifier: Apache-2.0
"""`powersample record`: wrap a program."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.output import refuse_other_suffix
from powersample.cli.sampling import add_program, list_meters, refuse_simulated, setup_of, telling_not_started

if TYPE_CHECKING:
    from powersample.session.syncing import SyncPlan

EXAMPLE = """\
examples:
  powersample record -o run.parquet -- python train.py --epochs 3
  powersample record --simulate h100 -o try.parquet -- python -c 'sum(range(10**8))'
  powersample record --duration 60 -o idle.parquet
  powersample record --meter lmg450:/dev/ttyUSB0,baud=57600,i=10 -- python train.py
  powersample record --meter lmg450:/dev/ttyUSB0 --sync -- python train.py

The exit code is the program's. To mark windows from inside it, in Python:
  import powersample as ps
  with ps.window("epoch 1"): ...
in any language: append lines, each by one write, to the file that $POWERSAMPLE_MARKS names:
  v1 begin ID TIME BOOT PID TID "NAME"
  v1 end ID TIME BOOT PID TID
ID: a number of yours, the same in both. TIME: CLOCK_MONOTONIC in ns, as Python's time.monotonic_ns().
BOOT: the content of /proc/sys/kernel/random/boot_id. The name is a JSON string.

Defaults for the sampling options may stand in ~/.config/powersample/config.toml or /etc/powersample/config.toml:
  rate_hz = 100                  (sources, rate_hz, mode, cpu, fifo, keep, nvml_lib, sysfs, devfs, meters)

Exit codes of its own: 1 failed, 2 usage, 3 nothing measurable and the program not started, 126 and 127 as a shell's.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "record",
        help="run a program and record its power",
        description="Run a program beside the native sampler and write a trace; or, without one, record the machine.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="powersample record [options] [-o OUT.parquet] -- COMMAND ...",
    )
    verb.add_argument("-o", "--output", type=Path, metavar="OUT", help="trace to write; default NAME-TIME.parquet")
    verb.add_argument("--duration", type=float, metavar="S", help="without a command: record so many seconds")
    verb.add_argument(
        "--sync",
        type=float,
        nargs="?",
        const=0.0,
        metavar="S",
        help="work in bursts for S seconds before and after the program, and tell the meters' clocks from them; "
        "default 30 s, 60 s for slow meters",
    )
    verb.add_argument("--sync-load", choices=("cpu", "gpu"), help="what works then; default cpu")
    add_program(verb)
    verb.add_argument("-q", "--quiet", action="store_true", help="no summary at the end")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Record and answer with the program's exit code."""
    from powersample.report.clock_fits import clock_fit_line, clock_fits
    from powersample.session.command import record_command, record_for

    if options.meter == ["help"]:
        return list_meters()
    _refuse(options)
    output = options.output or _default_output(options.command)
    with contextlib.ExitStack() as closing, telling_not_started(options.command):
        setup = setup_of(options, output, closing)
        if options.command:
            result = record_command(
                setup,
                options.command,
                sync=_sync_plan(options),
                on_trouble=lambda text: _note(f"{text}; the program goes on"),
                on_progress=(lambda _: None) if options.quiet else _note,
            )
        else:
            result = record_for(
                setup, options.duration, on_trouble=lambda text: _note(f"{text}; what is left is recorded")
            )
    for text in result.trouble:
        _note(text)
    if result.trace is not None and not options.quiet:
        fits = clock_fits(result.trace.meta).values()  # of one that was refused the summary tells why
        for text in (*result.trace.meta.get("notes", ()), *(clock_fit_line(fit) for fit in fits if fit["accepted"])):
            _note(text)
        _summary(result.trace, output)
    if result.exit_code is None:
        return 1 if result.trouble else 0
    return result.exit_code


def _sync_plan(options: argparse.Namespace) -> SyncPlan | None:
    from powersample.session.syncing import SyncPlan

    if options.sync is None:
        return None
    return SyncPlan(duration_s=options.sync or None, load=options.sync_load or "cpu")


def _refuse(options: argparse.Namespace) -> None:
    """Raise InvalidArgument for options that do not go together."""
    from powersample import errors

    if not options.command and options.duration is None:
        raise errors.InvalidArgument("nothing to record: add `-- COMMAND`, or --duration S")
    if options.command and options.duration is not None:
        raise errors.InvalidArgument("--duration is for recording without a command")
    if options.output is not None:
        refuse_other_suffix(options.output)
    if (options.sync, options.sync_load) != (None, None) and not options.command:
        raise errors.InvalidArgument("--sync goes around a program; for a meter alone: powersample sync --meter")
    if options.sync is None and options.sync_load is not None:
        raise errors.InvalidArgument("--sync-load belongs to --sync")
    if options.sync is not None and not options.sync >= 0:
        raise errors.InvalidArgument(f"--sync {options.sync:g}: seconds")
    if options.simulate is not None and options.sync_load is not None:
        raise errors.InvalidArgument("--sync-load is for this machine: a simulated node's own GPUs work")
    refuse_simulated(options)


def _default_output(command: list[str]) -> Path:
    name = Path(command[0]).name if command else "machine"
    return Path(f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.parquet")


def _summary(trace: Any, output: Path) -> None:
    from powersample import errors
    from powersample.report import build

    try:
        report = build(trace)
        print(report.brief(), file=sys.stderr)
        for lane in report.data["lanes"]:
            for text in lane["notes"]:
                _note(text)
    except errors.PowerSampleError as error:  # the program's exit code stands all the same
        _note(str(error))
    _note(f"wrote {output}; next: powersample report {output}")


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr)
