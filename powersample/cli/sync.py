# SPDX-License-Identifier: Apache-2.0
"""`powersample sync`: how a meter's time lies on this machine's, or one record's on another's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.cli.output import check_picture, emit, refuse_other_suffix

if TYPE_CHECKING:
    from powersample.experiments.sync import Live
    from powersample.fit import Aligned, Synced
    from powersample.loads import Pattern
    from powersample.model import ClockFit, MeterInfo, Trace

MOST_BURSTS = 100

EXAMPLE = """\
examples:
  powersample sync --meter lmg450:/dev/ttyUSB0
  powersample sync --simulate paper-node
  powersample sync PMD_data.bin gpudata.csv --gpu "NVIDIA A100-PCIE-40GB" --png fit.png
  powersample sync run.parquet -o synced.parquet      a recording's meter, on its own sensors' clock
  powersample sync run.parquet rack.csv -o both.parquet && powersample report both.parquet

With --meter, this machine works in bursts at random for a minute while the meter is read, and the meter's lag is told
from when the bursts really began and ended. `powersample record --meter ... --sync` does so around a program.

Two records are aligned by what both saw of the load: FILE, or FILE:CHANNEL where it holds several. A time zone between
them is found and taken out; what is left comes with its standard error. Where the load tells no lag for certain (it
does not move, repeats itself, or one record does not follow it) the answer is a refusal with its reason, exit code 1.

-o keeps what was found: OUT holds the recording, or both records, with the clock fit. A surer one that A has stays,
unless --anew is given. Stamps stay as they were written: `powersample report OUT` and everything else reads the second
clock's by the fit. The windows of both are in it.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "sync",
        help="align a meter's clock, or two records",
        description="Find a meter's lag by bursts of load, or that between two power records by their own structure.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = verb.add_argument_group("two records")
    files.add_argument("first", nargs="?", metavar="A[:CHANNEL]", help="a trace or another tool's log")
    files.add_argument("second", nargs="?", metavar="B[:CHANNEL]", help="the other one")
    files.add_argument("--shift", type=float, metavar="S", help="B's stamps are known to be S ahead")
    files.add_argument("--search", type=float, metavar="S", help="look only so far around that; default: all overlaps")
    files.add_argument("--gpu", metavar="NAME", help="the card of a log that does not name it, in NVML's words")
    files.add_argument("--driver", metavar="VERSION", help="its driver: what power.draw means depends on it")
    files.add_argument("-o", "--output", type=Path, metavar="OUT", help="trace to write: A, or A and B, with the fit")
    files.add_argument("--anew", action="store_true", default=None, help="replace a surer fit that A has, too")
    live = verb.add_argument_group("a meter")
    live.add_argument("--meter", metavar="ADDRESS", help="KIND:WHERE[,KEY=VALUE...], as in `record`")
    live.add_argument("--simulate", metavar="NODE", help="a simulated node and its meter, as in `record`")
    live.add_argument(
        "--sync-load",
        choices=("cpu", "gpu"),
        help="what works, as in `record`; default cpu; a simulated node's own GPUs",
    )
    live.add_argument("--pattern", metavar="KIND", help="random (default), prbs, chirp or file:CSV (on_s,off_s)")
    live.add_argument("--burst-seconds", type=float, metavar="S", help="how long a burst lasts; default 60")
    live.add_argument("--bursts", type=int, metavar="N", help="how many, for the skew; default 1")
    live.add_argument("--pause", type=float, metavar="S", help="between them; default 600")
    verb.add_argument("--png", type=Path, metavar="FILE", help="draw what the answer stands on")
    verb.add_argument("--force", action="store_true", help="replace what -o and --png name, if they exist")
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Align, print, draw; 1 when it was refused."""
    from powersample.report.sync import plot, sync_json, sync_text

    _check(options)
    check_picture(options.png, replace=options.force)
    names, more = ("", ""), {}
    found: Aligned | Synced
    kept: Callable[[], Trace] | None = None
    if options.first is not None:
        found, simulated, names, kept = _files(options) if options.second is not None else _meter_of(options)
    else:
        live = _live(options)
        found, simulated, more = live.synced, live.info.simulated, live.as_json()
        for text in live.trouble:
            print(f"powersample: {text}", file=sys.stderr)
    if options.png is not None:
        plot(found, options.png, simulated=simulated, names=names)
    if options.json:
        emit(json.dumps({**sync_json(found, simulated=simulated), **more}, indent=1, allow_nan=False))
    else:
        emit(sync_text(found, simulated=simulated, names=names, against=more.get("truth")))
    if options.output is not None:
        _keep(options, found, kept)
    return 0 if found.fit.accepted else 1


FILES, LIVE = (
    ("first", "shift", "search", "gpu", "driver", "output", "anew"),
    ("sync_load", "pattern", "burst_seconds", "bursts", "pause"),
)


def _keep(options: argparse.Namespace, found: Aligned | Synced, kept: Callable[[], Trace] | None) -> None:
    """Write the record, or both, with the fit; of a refused one nothing."""
    from powersample.store import save

    if kept is None or not found.fit.accepted:
        print(f"powersample: {options.output} was not written: there is no fit to keep", file=sys.stderr)
        return
    save(kept(), options.output, replace=options.force)
    print(f"powersample: wrote {options.output}; next: powersample report {options.output}", file=sys.stderr)


def _check(options: argparse.Namespace) -> None:
    from powersample.errors import InvalidArgument, OutputExists

    live = options.meter is not None or options.simulate is not None
    if not live and options.first is None:
        raise InvalidArgument("what to align? Two records, A B; or --meter ADDRESS; or --simulate NODE")
    for name in FILES if live else LIVE:
        if getattr(options, name) is not None:
            what = "two records are" if live else "--meter or --simulate is"
            given = "a record" if name == "first" else f"--{name.replace('_', '-')}"
            raise InvalidArgument(f"{given}: {'no meter goes with it' if live else f'{what} needed for it'}")
    if options.output is not None:
        refuse_other_suffix(options.output)
        if options.output.exists() and not options.force:
            raise OutputExists(f"{options.output} exists", "Name another file, or add --force.")
    elif options.anew:
        raise InvalidArgument("--anew belongs to -o OUT")
    if options.search is not None and not options.search > 0:
        raise InvalidArgument(f"--search {options.search}: seconds above 0")
    if options.bursts is not None and not 1 <= options.bursts <= MOST_BURSTS:
        raise InvalidArgument(f"--bursts {options.bursts}: from 1 to {MOST_BURSTS}")
    if options.pause is not None and not options.pause >= 0:
        raise InvalidArgument(f"--pause {options.pause}: seconds, 0 or more")
    if options.simulate is not None and options.sync_load is not None:
        raise InvalidArgument("--sync-load is for this machine: a simulated node's own GPUs work")


def _live(options: argparse.Namespace) -> Live:
    from powersample.errors import InvalidArgument
    from powersample.experiments.sync import sync, sync_node
    from powersample.loads import parse
    from powersample.meters import make_meter, parse_addresses
    from powersample.session.bursts import cpu_load, gpu_load

    duration_s = 60.0 if options.burst_seconds is None else options.burst_seconds

    def pattern(cycle_s: float, number: int) -> Pattern:
        return parse(options.pattern or "random", duration_s, seed=number, cycle_s=cycle_s)

    bursts, pause_s = options.bursts or 1, 600.0 if options.pause is None else options.pause
    addresses = parse_addresses([options.meter or "sim"])

    def begun(info: MeterInfo) -> None:
        times = f"{bursts} times {duration_s:g} s, {pause_s:g} s apart" if bursts > 1 else f"for {duration_s:g} s"
        print(f"powersample: {info.maker} {info.model} is read while the load works {times}", file=sys.stderr)

    if options.simulate is None:
        return sync(
            make_meter(addresses[0]),
            gpu_load if options.sync_load == "gpu" else cpu_load,
            pattern,
            bursts=bursts,
            pause_s=pause_s,
            on_start=begun,
        )
    if addresses[0].kind != "sim":
        raise InvalidArgument(
            f"--meter {options.meter} is no simulated node's: leave --simulate out, or use --meter sim"
        )
    from powersample.session.simulate import make_node

    with make_node(options.simulate) as node:
        return sync_node(node, addresses[0], pattern, bursts=bursts, pause_s=pause_s, on_start=begun)


Found = tuple["Aligned", bool, tuple[str, str], "Callable[[], Trace]"]  # and what -o keeps, made when it is asked for


def _files(options: argparse.Namespace) -> Found:
    from powersample.fit import align, together

    (first, one, where), (second, other, there) = (_record(text, options) for text in (options.first, options.second))
    found = align(first, second, (one, other), shift_s=options.shift or 0.0, search_s=options.search)
    names = (where, there) if found.swapped else (there, where)
    quick, slow = (second, first) if found.swapped else (first, second)

    def kept() -> Trace:
        if _path(options.first)[0] == _path(options.second)[0]:
            return _fitted(first, found.fit, anew=bool(options.anew))
        return together(quick, slow, found, Path(names[0]).stem)

    return found, first.simulated or second.simulated, names, kept


def _meter_of(options: argparse.Namespace) -> Found:
    """Align a recording's own meter by the load that its sensors saw."""
    from powersample.errors import InvalidArgument
    from powersample.fit import align_meter

    if options.shift is not None:
        raise InvalidArgument("--shift is between two records")
    trace, name, where = _record(options.first, options, domain="wall")
    found = align_meter(trace, name, search_s=options.search)
    return found, trace.simulated, (where, ""), lambda: _fitted(trace, found.fit, anew=bool(options.anew))


def _fitted(trace: Trace, fit: ClockFit, *, anew: bool) -> Trace:
    """Return a recording with the fit, or with the one that it has where that is surer."""
    from powersample.fit import surer, with_fit
    from powersample.model import amount

    stored = None if anew else surer(trace, fit)
    if stored is None:
        return with_fit(trace, fit)
    ours, new = (f"{(one.lag_s or 0) * 1e3:.1f} +- {amount((one.lag_se_s or 0) * 1e3, 2)} ms" for one in (stored, fit))
    what = f"{fit.channel} keeps the fit it has, on {stored.reference}: {ours} is surer than {new}"
    print(f"powersample: {what}; --anew replaces it", file=sys.stderr)
    return trace


def _record(text: str, options: argparse.Namespace, domain: str = "") -> tuple[Trace, str, str]:
    """Return a record, the channel that is meant, and the file's name."""
    from powersample.errors import InvalidArgument
    from powersample.model import RunTable
    from powersample.readers import read

    where, wanted = _path(text)
    found = read(where, gpu=options.gpu, driver=options.driver)
    if isinstance(found, RunTable):
        raise InvalidArgument(f"{where} holds energies of runs and no readings: nothing can be aligned by it")
    return found, found.channel(wanted).name if wanted else _channel(found, where, domain), where.name


def _path(text: str) -> tuple[Path, str]:
    """Return a file and the channel that is named behind it; "" where none is."""
    path, _, wanted = text.rpartition(":")
    return (Path(text), "") if not path or Path(text).exists() else (Path(path), wanted)


def _channel(trace: Trace, where: Path, domain: str) -> str:
    """Return the channel of a record that names none: the quickest field of the only device, of that domain.

    Where there is no power at all, its only counter.
    """
    from powersample.errors import InvalidArgument
    from powersample.model import TRUTH_PREFIX, Kind

    real = [one for one in trace.channels.values() if not one.name.startswith(TRUTH_PREFIX)]
    power = [one for one in real if one.kind is Kind.POWER and one.domain == (domain or one.domain)]
    if domain and any(one.span == "sample" for one in power):  # a meter goes before firmware's
        power = [one for one in power if one.span == "sample"]
    if len({one.device for one in power}) == 1:
        instant = [one.name for one in power if one.name.endswith(".instant")]
        if len(power) == 1 or instant:
            return instant[0] if instant else power[0].name
    counters = [one for one in real if one.kind is Kind.ENERGY and one.domain == (domain or one.domain)]
    if not power and len(counters) == 1:
        return counters[0].name
    there = ", ".join(one.name for one in power or counters) or "none"
    raise InvalidArgument(f"{where} has no power channel or several ({there}): name one, as {where}:CHANNEL")
