# SPDX-License-Identifier: Apache-2.0
"""`powersample codecarbon`: CodeCarbon's runs put right by what was measured at the wall."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.output import emit

if TYPE_CHECKING:
    from powersample.analysis.codecarbon import Uncaptured
    from powersample.formats.codecarbon import CarbonRow
    from powersample.report.codecarbon import Wall

MEMORY = ("inside", "rapl", "kept")
CPU_MODES = ("rapl", "load", "constant")

EXAMPLE = """\
examples:
  powersample codecarbon check emissions.csv --cpu-mode rapl --p-idle 783 --p-busy primes=811
  powersample codecarbon check emissions.csv --cpu-mode rapl --load primes --interval 1
  powersample codecarbon check emissions.csv --cpu-mode rapl --calibration node.json --memory rapl
  powersample codecarbon check emissions.csv --cpu-mode rapl --meter run.parquet --p-idle 783 --p-busy 811 --json

CodeCarbon adds GPU and CPU as measured, and a constant for memory; of fans, board, disks and the supply's loss it knows
nothing. Here the constant goes out and the uncaptured power, measured once with a meter (powersample calibrate, or two
figures of your own), comes in: its idle value gives the lower bound, its value under load the upper one. What the file
does not tell you have to: whether the CPU was measured at all (--cpu-mode: CodeCarbon's log has "CPU Tracking Method"),
the interval, and which GPUs were chosen.

--memory says what stands for memory:
  inside  the uncaptured power was calibrated without DRAM, so memory is in it (default)
  rapl    rapl_include_dram was on: DRAM is in cpu_energy, and was a component at the calibration (CodeCarbon 3.3.2
          leaves DRAM out all the same where it is a part of a package, as on Intel's servers: see what its log selects)
  kept    CodeCarbon's constant stays, and the uncaptured power was calibrated beside measured DRAM
The paper (arXiv 2505.15631) does not say which of them it uses.
"""

LIVE = """\
examples:
  powersample codecarbon live
  powersample codecarbon live --p-idle 783 --p-busy primes=811 --memory kept --load primes
  powersample calibrate --simulate paper-node --time-scale 20 && powersample codecarbon live

The real package runs (pip install 'powersample[bench]'), offline: in a process that sees the node's folders as /sys and
its memory in /proc/meminfo, by a mount namespace of its own. Root may make one, and mostly any user; where it is
forbidden, as in many containers, the reason is told.
"""
MOST_S = 3600.0


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "codecarbon",
        help="CodeCarbon's runs put right",
        description="Correct CodeCarbon's energies by the power that its counters do not see.",
    )
    deeds = verb.add_subparsers(title="deeds", dest="deed", metavar="DEED", required=True)
    check = deeds.add_parser(
        "check",
        help="correct the runs of an emissions.csv",
        description="Print every run of an emissions.csv: raw, bounds, load, model, beside the meter if there is one.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", type=Path, metavar="EMISSIONS.csv", help="as CodeCarbon writes it, any version")
    check.add_argument("--run", dest="run_id", metavar="ID", help="this run alone: its id, its beginning, or its line")
    told = check.add_argument_group("what the file does not tell")
    told.add_argument(
        "--cpu-mode", choices=CPU_MODES, help="how CodeCarbon got the CPU's power; only rapl is corrected"
    )
    told.add_argument("--interval", type=float, default=15.0, metavar="S", help="its measure_power_secs; default 15")
    told.add_argument("--gpus", type=int, metavar="N", help="how many GPUs gpu_ids chose; default: all")
    told.add_argument("--zone", metavar="+HH:MM", help="of its time stamps; default: this machine's")
    power = _power(check)
    power.add_argument(
        "--simulated", action="store_true", help="the runs are of the simulated node that --calibration is of"
    )
    power.add_argument("--pue", type=float, metavar="X", help="for the emissions; default: the run's own")
    meter = check.add_argument_group("beside it")
    meter.add_argument("--meter", type=Path, metavar="RUN", help="a recording with a meter, of the same time")
    meter.add_argument("--wall-kwh", type=float, metavar="KWH", help="what a meter told of the run, for one run")
    check.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    check.set_defaults(run=run)
    live = deeds.add_parser(
        "live",
        help="CodeCarbon itself and powersample on a simulated node",
        description="Let CodeCarbon's own tracker and powersample measure one load of a simulated node.",
        epilog=LIVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    live.add_argument("--simulate", default="paper-node", metavar="NODE", help="as in `record`; default paper-node")
    live.add_argument("--duration", type=float, default=10.0, metavar="S", help="of the load; default 10")
    live.add_argument("--interval", type=float, default=0.1, metavar="S", help="CodeCarbon's; default 0.1, the paper's")
    live.add_argument(
        "--time-scale",
        type=float,
        default=20.0,
        metavar="X",
        help="its fans and supply so much quicker; default 20",
    )
    _power(live, tuple(one for one in MEMORY if one != "rapl"))
    live.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    live.set_defaults(run=run_live)


def _power(verb: argparse.ArgumentParser, memory: tuple[str, ...] = MEMORY) -> argparse._ArgumentGroup:
    power = verb.add_argument_group("the uncaptured power")
    power.add_argument(
        "--calibration", type=Path, metavar="FILE", help="of `powersample calibrate`; default: the node's"
    )
    power.add_argument("--p-idle", type=float, metavar="W", help="of the idle machine")
    power.add_argument(
        "--p-busy", action="append", default=[], metavar="[LOAD=]W", help="of a load; again for other loads"
    )
    power.add_argument(
        "--memory", choices=memory, default="inside", help="what stands for memory: see `codecarbon check --help`"
    )
    power.add_argument("--load", metavar="LOAD", help="the load that the runs are most like, where it is known")
    return power


def run(options: argparse.Namespace) -> int:
    """Print the corrected runs; 1 when none could be corrected."""
    from powersample.analysis.codecarbon import Asked, correct
    from powersample.readers import read_carbon
    from powersample.report.codecarbon import codecarbon_json, codecarbon_text

    _check(options)
    added = _uncaptured(options)
    if added is None:
        raise _wrong("what to add? Calibrate this machine, or give --calibration FILE, or --p-idle W and --p-busy W")
    rows, notes = read_carbon(options.file)
    chosen = _chosen(rows, options)
    asked = Asked(options.cpu_mode, options.interval, options.gpus, options.load, options.pue)
    walls = _walls(chosen, options)
    data = codecarbon_json(
        [(correct(row, added, asked), wall) for row, wall in zip(chosen, walls, strict=True)], added, asked, notes
    )
    emit(json.dumps(data, indent=1, allow_nan=False) if options.json else codecarbon_text(data))
    return 0 if any(not row["refused"] for row in data["rows"]) else 1


def run_live(options: argparse.Namespace) -> int:
    """Run both and print them beside the truth."""
    from powersample.experiments.codecarbon import codecarbon_live

    for name in ("duration", "interval"):
        if not 0 < getattr(options, name) <= MOST_S:
            raise _wrong(f"--{name} {getattr(options, name)}: seconds above 0, {MOST_S:g} at most")
    _check(options)
    found = codecarbon_live(
        options.simulate,
        seconds=options.duration,
        interval_s=options.interval,
        time_scale=options.time_scale,
        added=_uncaptured(options),
        load=options.load,
    )
    emit(json.dumps(found.as_json(), indent=1, allow_nan=False) if options.json else str(found))
    return 0


def _wrong(text: str) -> Exception:
    from powersample.errors import InvalidArgument

    return InvalidArgument(text)


def _check(options: argparse.Namespace) -> None:
    for name in ("interval", "p_idle", "pue", "wall_kwh"):
        value = getattr(options, name, None)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise _wrong(f"--{name.replace('_', '-')} {value}: a number above 0")
    if getattr(options, "pue", None) is not None and options.pue < 1:
        raise _wrong(f"--pue {options.pue}: 1 or more")
    if getattr(options, "simulated", False) and options.calibration is None:
        raise _wrong("--simulated goes with --calibration FILE, which names the node")
    if getattr(options, "meter", None) is not None and options.wall_kwh is not None:
        raise _wrong("--meter and --wall-kwh exclude each other")


def _uncaptured(options: argparse.Namespace) -> Uncaptured | None:
    """Return what is to be added; None where nobody says and nothing is stored of the node."""
    from powersample.analysis.codecarbon import Uncaptured

    if options.p_idle is None and not options.p_busy:
        return _calibrated(options)
    if options.calibration is not None:
        raise _wrong("--calibration and --p-idle exclude each other")
    if options.p_idle is None or not options.p_busy:
        raise _wrong("--p-idle W and --p-busy W go together, as measured with a meter")
    busy_w: dict[str, float] = {}
    for text in options.p_busy:
        name, _, watts = text.rpartition("=")
        try:
            value = float(watts)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise _wrong(f"--p-busy {text}: write W, or LOAD=W")
        busy_w[name or "load"] = value
    return _known(Uncaptured(options.p_idle, busy_w, "--p-idle and --p-busy", options.memory), options.load)


def _known(added: Uncaptured, load: str | None) -> Uncaptured:
    if load is not None and load not in added.busy_w:
        raise _wrong(f"--load {load!r}: the uncaptured power is known under {', '.join(added.busy_w)}")
    return added


def _calibrated(options: argparse.Namespace) -> Uncaptured | None:
    """Return what the calibration says that was named, or is stored of this host or the simulated node."""
    from powersample.fit.codecarbon import uncaptured_of
    from powersample.store.calibrations import calibrations_folder, find_calibration, load_calibration, this_host

    node = _simulated(options)
    if options.calibration is not None:
        found, path = load_calibration(options.calibration), options.calibration
        _same(found.simulated, node, options)
    else:
        folder = calibrations_folder()
        kept = None if folder is None else find_calibration(folder, this_host(), node)
        if kept is None:
            return None
        found, path = kept
    name = (found.host or {}).get("name")
    origin = f"calibration {path.name}" + (f" of {name}" if name and found.simulated is None else "")
    return _known(uncaptured_of(found, options.memory, origin), options.load)


def _same(of: str | None, node: str | None, options: argparse.Namespace) -> None:
    """Refuse a simulated node's calibration for real runs and the other way round; no emissions.csv tells."""
    path, whose = options.calibration, f"it is of {'a real machine' if of is None else f'the simulated node {of}'}"
    if options.deed == "live":
        if of != node:
            raise _wrong(f"{path}: {whose}, and this is the simulated node {node}")
    elif of is not None and not options.simulated:
        raise _wrong(f"{path}: {whose}; where the runs are of that node, too, by `codecarbon live`, say --simulated")
    elif of is None and options.simulated:
        raise _wrong(f"{path}: {whose}, and --simulated says that the runs are not")


def _simulated(options: argparse.Namespace) -> str | None:
    """Return the key of the node that is simulated; None of real machines."""
    if options.deed != "live":
        return None
    from powersample.model import simulated_key
    from powersample.session.simulate import make_node

    with make_node(options.simulate) as node:
        return simulated_key(node.describe())


def _chosen(rows: tuple[CarbonRow, ...], options: argparse.Namespace) -> list[CarbonRow]:
    if options.run_id is None:
        found = list(rows)
    else:
        found = [row for row in rows if options.run_id in (row.name, str(row.line))]
        found = found or [row for row in rows if row.run_id.startswith(options.run_id)]
        if not found:
            raise _wrong(f"--run {options.run_id}: no such run in {options.file}, which has {len(rows)}")
    if options.wall_kwh is not None and len(found) != 1:
        raise _wrong(f"--wall-kwh is of one run, and there are {len(found)}: choose one by --run")
    return found


def _walls(rows: list[CarbonRow], options: argparse.Namespace) -> list[Wall | None]:
    from powersample.report.codecarbon import KWH_J, Wall

    if options.wall_kwh is not None:
        return [Wall(options.wall_kwh * KWH_J, None, None, "--wall-kwh")]
    if options.meter is None:
        return [None] * len(rows)
    from powersample.model import RunTable
    from powersample.readers import read
    from powersample.report.codecarbon_meter import wall_of

    trace = read(options.meter)
    if isinstance(trace, RunTable):
        raise _wrong(f"{options.meter} holds energies of runs and no readings of a meter")
    zone: Any = _zone(options.zone)
    return [wall_of(trace, row, zone, options.meter.name) for row in rows]


def _zone(text: str | None) -> Any:
    from datetime import datetime

    if text is None:
        return None
    try:
        return datetime.strptime(text, "%z").tzinfo
    except ValueError:
        raise _wrong(f"--zone {text!r}: write +01:00") from None
