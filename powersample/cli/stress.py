# SPDX-License-Identifier: Apache-2.0
"""`powersample stress`: loads of a known level and pattern, and what they really came to."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from powersample.cli.output import emit

if TYPE_CHECKING:
    from powersample.loads import EdgeLog, Pattern

DURATION_S = 60.0
ENDING = (signal.SIGINT, signal.SIGTERM)

EXAMPLE = """\
examples:
  powersample stress                                   a sieve on all CPUs for a minute
  powersample stress fma:50% --duration 30             half of the CPU time, in slices of 100 ms
  powersample stress stream --levels 0,0.25,0.5,0.75,1 --duration 300
  powersample stress --pattern random --edges edges.csv --threads 1
  powersample stress --gpu --duty 0.7 --max-temperature 90

Kernels: primes (a segmented sieve, as the paper's load), fma (multiply-add in the widest vectors this CPU has), stream
(a triad over four times the caches), mix (the three by turns), idle (threads that sleep). Every round is proved.

A level is a share, 0.5, or a percent, 50% (or 50). One below 1 is kept by each thread's own CPU time: what others took
is made up for. The threads' slices are spread over the period, so that a level is steady power; edges in step, which a
meter can be aligned by, are those of a --pattern at level 1. When each burst really began and ended is in --edges, in
CLOCK_MONOTONIC.

`powersample-sampler --stress` takes the same options and samples meanwhile, where there is no Python.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "stress",
        help="loads of a known level and pattern",
        description="Make CPUs or GPUs work by a level, a ladder or a pattern, and tell what they came to.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("kernel", nargs="?", metavar="KERNEL[:LEVEL]", help="primes (default), fma, stream, mix or idle")
    verb.add_argument("--duty", metavar="LEVEL", help="share of the time that is worked: 0.5 or 50%%; default 1")
    verb.add_argument("--period", type=float, metavar="S", help="of the slices below level 1; default 0.1")
    verb.add_argument("--levels", metavar="L,L,...", help="a ladder: the duration in equal parts")
    verb.add_argument("--pattern", metavar="KIND", help="random, prbs, chirp, square:PERIOD_S or file:CSV (on_s,off_s)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of random and prbs")
    verb.add_argument("--duration", type=float, metavar="S", help="of the whole; default 60, or the file's")
    where = verb.add_argument_group("where")
    where.add_argument("--threads", type=int, metavar="N", help="on N CPUs, one thread of each core first; default all")
    where.add_argument("--cpus", metavar="LIST", help="on these, such as 0-3,8")
    where.add_argument("--gpu", action="store_true", help="matrix products on all GPUs instead, by torch or cupy")
    told = verb.add_argument_group("what becomes of it")
    told.add_argument("--edges", type=Path, metavar="FILE.csv", help="write when every burst really began and ended")
    told.add_argument(
        "--max-temperature", type=float, metavar="C", help="end, with code 1, once the CPUs are at C degrees"
    )
    told.add_argument("--sysfs", type=Path, metavar="DIR", help="where temperatures and cores are looked up, for /sys")
    told.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Work and tell; 1 when a result was wrong or it became too warm."""
    from powersample.loads import edge_file
    from powersample.report.stress import stress_json, stress_text

    _check(options)
    kernel, level = _kernel(options)
    pattern = _pattern(options)
    with _progress(pattern, level) as asked:
        log = _gpu(options, pattern, level, asked) if options.gpu else _cpu(options, kernel, pattern, level, asked)
    if options.edges is not None:
        edge_file.save(log, options.edges)
    emit(json.dumps(stress_json(log), indent=1, allow_nan=False) if options.json else stress_text(log))
    if asked.signal:
        return 128 + asked.signal
    return 1 if log.wrong or log.ended else 0


def _check(options: argparse.Namespace) -> None:
    from powersample.errors import InvalidArgument, OutputExists

    for one, other in (("levels", "pattern"), ("threads", "cpus")):
        if getattr(options, one) is not None and getattr(options, other) is not None:
            raise InvalidArgument(f"leave --{one} out, or --{other}")
    if options.gpu:
        for name in ("kernel", "threads", "cpus", "max_temperature"):
            if getattr(options, name) is not None:
                raise InvalidArgument(f"{_option(name)}: --gpu multiplies matrices on all GPUs, and takes a --duty")
    if options.duration is not None and not 0 < options.duration < math.inf:
        raise InvalidArgument(f"--duration {options.duration}: seconds above 0")
    if options.edges is not None and options.edges.exists():
        raise OutputExists(f"{options.edges} is there already: give the name of a new file")


def _option(name: str) -> str:
    return "the kernel" if name == "kernel" else f"--{name.replace('_', '-')}"


def _kernel(options: argparse.Namespace) -> tuple[str, float]:
    from powersample.errors import InvalidArgument
    from powersample.loads.level import parse_level

    kernel, colon, text = (options.kernel or "primes").partition(":")
    if colon and options.duty is not None:
        raise InvalidArgument(f"{options.kernel} --duty {options.duty}: give the level once")
    level = 1.0 if options.duty is None else parse_level(options.duty, "--duty")
    return kernel, parse_level(text, kernel) if colon else level


def _pattern(options: argparse.Namespace) -> Pattern:
    from powersample import loads
    from powersample.loads.level import parse_level

    duration_s = DURATION_S if options.duration is None else options.duration
    if options.levels is not None:
        levels = [parse_level(text, "--levels") for text in options.levels.split(",")]
        return loads.ladder(levels, duration_s / len(levels))
    if options.pattern is None:
        return loads.steady(duration_s)
    pattern = loads.parse(options.pattern, duration_s, seed=options.seed)
    return pattern if options.duration is None else loads.cut(pattern, duration_s)


def _cpu(options: argparse.Namespace, kernel: str, pattern: Pattern, level: float, asked: Asked) -> EdgeLog:
    from powersample import loads
    from powersample.loads.cpus import parse_cpus

    if options.cpus is not None:
        cpus = parse_cpus(options.cpus)
    else:
        cpus = loads.cores_first(len(loads.allowed()) if options.threads is None else options.threads, options.sysfs)
    if second := loads.second_threads(cpus, options.sysfs):
        _note(f"{second} of {len(cpus)} threads share a core with another; --threads takes one of each core first")
    return loads.run(
        pattern,
        kernel=kernel,
        level=level,
        period_s=loads.PERIOD_S if options.period is None else options.period,
        cpus=cpus,
        stop=asked,
        max_temperature_c=options.max_temperature,
        sysfs=options.sysfs,
    )


def _gpu(options: argparse.Namespace, pattern: Pattern, level: float, asked: Asked) -> EdgeLog:
    from powersample.loads import PERIOD_S, gpu

    return gpu.run(pattern, level=level, period_s=PERIOD_S if options.period is None else options.period, stop=asked)


class Asked:
    """Whether the load is to end; asked ten times a second, it tells meanwhile how far that is.

    Attributes:
        signal: the one that asked for it; 0 for none.
    """

    def __init__(self, pattern: Pattern, level: float) -> None:
        self.signal = 0
        self._pattern, self._level = pattern, level
        self._begin_s: float | None = None
        self._told = -1
        self._live = sys.stderr.isatty()

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal; a second one ends everything at once."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def __call__(self) -> bool:
        """Return whether it is."""
        now_s = time.monotonic()
        self._begin_s = now_s if self._begin_s is None else self._begin_s
        self._tell(now_s - self._begin_s)
        return self.signal != 0

    def _tell(self, since_s: float) -> None:
        """Say each level of a ladder as it begins; on a terminal, the seconds too."""
        if len(self._pattern.levels):
            number = int((self._pattern.edge_s[::2] <= since_s).sum()) - 1
            if number > self._told:
                self._told = number
                _note(f"level {self._level * self._pattern.levels[number]:g} from {since_s:.0f} s on")
        if self._live:
            print(f"\r{since_s:.0f} s of {self._pattern.duration_s:.0f} s ", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line of the seconds."""
        if self._live and self._begin_s is not None:
            print(file=sys.stderr)


@contextmanager
def _progress(pattern: Pattern, level: float) -> Iterator[Asked]:
    from powersample.model import amount

    asked = Asked(pattern, level)
    _note(f"{pattern.name}, up to {amount(pattern.duration_s, 4)} s; Ctrl-C ends it and tells what was")
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, asked.note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        asked.close()


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr, flush=True)
