# SPDX-License-Identifier: Apache-2.0
"""`powersample calibrate`: what a node draws at the wall beyond what its counters see."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.calibrate_add import ADD_EXAMPLE, add_recordings, run_add
from powersample.cli.calibrate_live import ABOUT, LIVE, LIVE_EXAMPLE, add_live, run_live
from powersample.cli.output import check_picture, emit

if TYPE_CHECKING:
    from powersample.formats.points import PointColumns
    from powersample.model import Accuracy, Calibration

EXAMPLE = (
    f"""\
examples:
{LIVE_EXAMPLE}{ADD_EXAMPLE}"""
    """\
  powersample calibrate --from steps.csv --wall meter_w --component cpu=pkg_w --component gpu=gpu_w --png fit.png
  powersample calibrate --from steps.csv --wall plug_w --component cpu=pkg_w --load-column load --accuracy 0.5
  powersample calibrate --p-idle 783 --p-busy primes=811 --component cpu --component dram --component gpu -o node.json

A calibration is a table of operating points: the node in a steady state, what its counters say (CPU packages, memory,
GPUs), and what a meter at the wall says. From it come, in this order of trust: the uncaptured power idle and under each
load, which bound a run's energy; a line through wall power over the sum of components; and a model with a slope for
each of them and one square. The headline is the greatest error at a point that the model was not fitted to. A meter
that does not follow the load is refused with its reason, exit code 1.

"""
    f"""\
{ABOUT}
"""
    """\
--from fits a table that was measured elsewhere: powers in W, one row a point, means of a steady half minute or more.
Names like "primes 50 %" (--load-column) tell kernel and level; rows of one name are one operating point. Twelve points
or more, with GPUs at several levels, are worth the effort: no load on CPUs tells what a GPU's watt costs at the wall.
"""
)
ACCURACY = "PCT[,RANGE_PCT,RANGE_W]"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "calibrate",
        help="what this node draws at the wall beyond its counters",
        description="Fit wall power to what counters see: loads beside a meter, or a table of operating points.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_live(verb)
    add_recordings(verb)
    table = verb.add_argument_group("points measured elsewhere")
    table.add_argument("--from", dest="table", type=Path, metavar="FILE.csv", help="a row an operating point")
    table.add_argument("--wall", metavar="COLUMN", help="power at the wall, W")
    table.add_argument(
        "--component", action="append", metavar="GROUP=COLUMN", help="cpu, dram or gpu, W; columns of one group add up"
    )
    table.add_argument("--load-column", metavar="COLUMN", help='names of loads, such as "idle" and "primes 50 %%"')
    table.add_argument("--level-column", metavar="COLUMN", help="their levels in percent; default: as the names say")
    table.add_argument("--samples-column", metavar="COLUMN", help="readings behind each row: rows of more weigh more")
    table.add_argument("--idle", metavar="NAME", help="the idle node's name among the loads; default idle")
    table.add_argument("--accuracy", metavar=ACCURACY, help="the meter's limits of error: %% of reading, %% of range")
    sheet = verb.add_argument_group("no meter at all")
    sheet.add_argument("--p-idle", type=float, metavar="W", help="what counters miss of the idle node, by a data sheet")
    sheet.add_argument("--p-busy", action="append", metavar="LOAD=W", help="of a load; again for other loads")
    verb.add_argument("--meter-name", metavar="TEXT", help="what measured the wall, for the record")
    verb.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="keep the calibration there")
    verb.add_argument("--this-host", action="store_true", help="it is this machine's: keep it where `record` finds it")
    verb.add_argument("--png", type=Path, metavar="FILE", help="draw the points and what the model leaves of them")
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure or read, fit, print, draw, keep; 1 when it was refused."""
    check_picture(options.png, replace=True)
    if options.add is not None:
        return _add(options)
    _check(options)
    if options.table is None and options.p_idle is None:
        return _live(options)
    calibration = _sheet(options) if options.p_idle is not None else _table(options)
    show(calibration, options, "" if options.table is None else options.table.name)
    _keep(calibration, options)
    return 0 if calibration.accepted else 1


def _live(options: argparse.Namespace) -> int:
    done = run_live(options)
    if done is None:
        return 0
    show(done.calibration, options, truth=done.truth)
    if done.path is not None:
        found = "where `record` finds it" if options.output is None else "for `--calibration FILE`"
        print(f"powersample: kept in {done.path}, {found}", file=sys.stderr)
    return 0 if done.calibration.accepted else 1


def _add(options: argparse.Namespace) -> int:
    from powersample.store.calibrations import save_calibration

    for name in ("table", "p_idle", "p_busy", "component", "meter_name", "this_host", *OF_TABLE, *LIVE):
        if getattr(options, name):
            raise _wrong(f"--{'from' if name == 'table' else name.replace('_', '-')} does not go with --add")
    calibration, path = run_add(options)
    show(calibration, options)
    if not calibration.accepted:
        print("powersample: with these points it is refused; what was kept stays as it was", file=sys.stderr)
        return 1
    print(f"powersample: kept in {save_calibration(calibration, path)}", file=sys.stderr)
    return 0


def show(calibration: Calibration, options: argparse.Namespace, origin: str = "", **more: Any) -> None:
    """Print a calibration as it was asked for, and draw it; `more` goes into the JSON."""
    from powersample.report.calibration import calibration_json, calibration_text
    from powersample.report.calibration_plot import plot

    if options.png is not None:
        plot(calibration, options.png, origin)
    if options.json:
        emit(json.dumps({**calibration_json(calibration), **more}, indent=1, allow_nan=False))
    else:
        emit(calibration_text(calibration, origin))


def _wrong(text: str, fix: str = "") -> Exception:
    from powersample.errors import InvalidArgument

    return InvalidArgument(text, fix)


OF_TABLE = ("wall", "load_column", "level_column", "samples_column", "idle", "accuracy")


def _check(options: argparse.Namespace) -> None:
    live = options.table is None and options.p_idle is None
    if options.table is not None and options.p_idle is not None:
        raise _wrong("--from and --p-idle exclude each other")
    if not live and (given := [name for name in LIVE if getattr(options, name)]):
        raise _wrong(f"--{given[0].replace('_', '-')} is for measuring here, without --from and --p-idle")
    if options.table is None:
        for name in OF_TABLE:
            if getattr(options, name) is not None:
                raise _wrong(f"--{name.replace('_', '-')} belongs to --from FILE.csv")
    elif options.wall is None:
        raise _wrong("which column is the power at the wall? --wall COLUMN")
    if options.p_idle is None and options.p_busy is not None:
        raise _wrong("--p-busy belongs to --p-idle W")
    if live and (options.component, options.meter_name) != (None, None):
        raise _wrong("--component and --meter-name tell what is measured here by itself: leave them out")
    if not live and options.component is None:
        raise _wrong("what do counters see? --component gpu=COLUMN, and so on; with --p-idle --component gpu alone")


# ---- a table --------------------------------------------------------------------------------------------------------


def _table(options: argparse.Namespace) -> Calibration:
    from powersample.fit.calibrate import calibrate, weighted
    from powersample.readers import read_points

    read = read_points(options.table, _columns(options))
    for note in read.notes:
        print(f"powersample: {options.table}: {note}", file=sys.stderr)
    points, accuracy = read.points, _accuracy(options.accuracy)
    if read.samples is not None:
        points = weighted(points, read.samples)
    if accuracy is not None:
        points = tuple(replace(one, accuracy_w=float(accuracy.limit_w(one.wall_w))) for one in points)
    return calibrate(points, source="file", **_about(options))


def _columns(options: argparse.Namespace) -> PointColumns:
    from powersample.formats.points import PointColumns

    components: dict[str, tuple[str, ...]] = {}
    for text in options.component:
        group, equals, column = text.partition("=")
        if not equals or not column:
            raise _wrong(f"--component {text}: write GROUP=COLUMN, such as gpu=power_draw_w")
        components[group] = (*components.get(group, ()), column)
    return PointColumns(
        options.wall, components, options.load_column, options.level_column, options.samples_column,
        options.idle or "idle",
    )  # fmt: skip


def _accuracy(text: str | None) -> Accuracy | None:
    from powersample.model import Accuracy

    if text is None:
        return None
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(math.isfinite(one) and one >= 0 for one in numbers):
        raise _wrong(f"--accuracy {text}: write {ACCURACY}, such as 0.07,0.04,6000")
    reading_pct, range_pct, range_w = numbers if len(numbers) == 3 else (numbers[0], 0.0, None)
    return Accuracy(reading_pct, range_pct, range_w, origin="--accuracy")


# ---- a data sheet ---------------------------------------------------------------------------------------------------


def _sheet(options: argparse.Namespace) -> Calibration:
    from powersample.fit.calibrate import from_sheet

    busy_w = {}
    for text in options.p_busy or ():
        load, _, watts = text.rpartition("=")
        busy_w[load or "load"] = _watts("--p-busy", watts)
    groups = tuple(dict.fromkeys(text.partition("=")[0] for text in options.component))
    return from_sheet(groups, _watts("--p-idle", options.p_idle), busy_w, **_about(options))


def _watts(name: str, given: str | float) -> float:
    try:
        watts = float(given)
    except ValueError:
        watts = math.nan
    if not (math.isfinite(watts) and watts > 0):
        raise _wrong(f"{name} {given}: watts above 0")
    return watts


# ---- afterwards -----------------------------------------------------------------------------------------------------


def _about(options: argparse.Namespace) -> dict[str, Any]:
    import time

    import numpy as np

    from powersample import __version__
    from powersample.store.calibrations import this_host

    return {
        "host": this_host() if options.this_host else None,
        "meter": options.meter_name or "",
        "made_ns": time.time_ns(),
        "software": {"powersample": __version__, "numpy": np.__version__},
    }


def _keep(calibration: Calibration, options: argparse.Namespace) -> None:
    """Write it where it was asked for; a refused one nowhere."""
    from powersample.store.calibrations import save_calibration

    wanted = [options.output] if options.output is not None else []
    wanted += [None] if options.this_host else []
    if not wanted and calibration.accepted:
        print(
            "powersample: nothing is kept: -o FILE.json keeps it, and --this-host where `record` finds it",
            file=sys.stderr,
        )
    for path in wanted:
        if not calibration.accepted:
            print("powersample: it was refused, and is not kept", file=sys.stderr)
            return
        print(f"powersample: kept in {save_calibration(calibration, path)}", file=sys.stderr)
