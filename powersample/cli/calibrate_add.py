# SPDX-License-Identifier: Apache-2.0
"""`powersample calibrate --add RUN.parquet`: operating points out of a recording with a meter beside it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from powersample.model import Calibration, OperatingPoint, Trace

ADD_EXAMPLE = """\
  powersample calibrate --add run.parquet                points of a recording with a meter, to what is kept of its host
"""


def add_recordings(verb: argparse.ArgumentParser) -> None:
    """Add the option."""
    verb.add_argument(
        "--add",
        action="append",
        type=Path,
        metavar="RUN.parquet",
        help="add steady stretches of a recording with a meter to the calibration in -o FILE, else to what is kept of "
        "its host; again for other recordings",
    )


def run_add(options: argparse.Namespace) -> tuple[Calibration, Path]:
    """Return a calibration with the points of recordings, fitted anew, and the file that it belongs in.

    Raises:
        InvalidArgument: a file is no recording with a meter, or of another node or kind of meter than the
            calibration; or that is a data sheet's.
        InputNotFound: nothing is kept of its host.
    """
    found: tuple[Calibration, Path] | None = None
    for file in options.add:
        trace = _trace(file)
        found = found or _kept(options, trace, file)
        calibration, path = found
        found = _added(calibration, trace, file), path
    assert found is not None
    return found


def _trace(file: Path) -> Trace:
    from powersample.errors import InvalidArgument
    from powersample.model import RunTable
    from powersample.readers import read

    trace = read(file)
    if isinstance(trace, RunTable):
        raise InvalidArgument(f"{file} holds energies of runs and no readings")
    return trace


def _kept(options: argparse.Namespace, trace: Trace, file: Path) -> tuple[Calibration, Path]:
    from powersample.errors import InputNotFound
    from powersample.store.calibrations import calibration_for, load_calibration

    if options.output is not None:
        return load_calibration(options.output), options.output
    kept = calibration_for(trace.meta)
    if kept is None:
        raise InputNotFound(
            f"nothing is kept of the node that {file} is of, so nothing can be added to",
            "Calibrate it first: powersample calibrate. Or name a calibration: -o FILE.json.",
        )
    return kept


def _added(calibration: Calibration, trace: Trace, file: Path) -> Calibration:
    from powersample.analysis import judge
    from powersample.errors import InvalidArgument
    from powersample.fit import steady_points
    from powersample.fit.calibrate import calibrate

    _refuse_meter(calibration, trace, file)
    refused = [reason for reason in judge(trace, calibration).reasons if not reason.startswith("PSQ-CAL-REFUSED")]
    if refused:
        raise InvalidArgument(f"{file} is no recording of the calibrated node: {'; '.join(refused)}")
    steady = steady_points(trace, calibration.groups)
    new = [one for one in steady.points if not any(_same(one, other) for other in calibration.points)]
    _note(
        f"{file}: {len(new)} points of {steady.stretches} steady stretches of half a minute"
        + (f", {len(steady.points) - len(new)} of them were there already" if len(new) < len(steady.points) else "")
        + (f"; {steady.unknown} of {steady.slices} slices told nothing" if steady.unknown else "")
    )
    if not new:
        return calibration
    kept = ("meter", "host", "simulated", "rates_hz", "software")
    return calibrate(
        (*calibration.points, *new),
        source=calibration.source,
        made_ns=time.time_ns(),
        **{name: getattr(calibration, name) for name in kept},
    )


def _refuse_meter(calibration: Calibration, trace: Trace, file: Path) -> None:
    """Refuse points that another kind of meter told, and whose errors would pass for the calibration's own."""
    from powersample.errors import InvalidArgument
    from powersample.experiments.calibrate.run import COARSE
    from powersample.experiments.calibrate.seen import WALL

    if not calibration.points:
        raise InvalidArgument(
            "the calibration is a data sheet's figures, which no points can be added to: fitted points replace them",
            "Calibrate at the meter: powersample calibrate --meter ADDRESS.",
        )
    coarse = calibration.source == "bmc"
    for meter in trace.meta.get("meters") or ():
        if any(one.get("domain") != WALL for one in (meter.get("channels") or ())[:1]):
            continue
        name = f"{meter.get('maker', '')} {meter.get('model', '')}".strip()
        foreign = calibration.source == "meter" and name not in calibration.meter
        if (meter.get("kind") in COARSE) != coarse or foreign:
            raise InvalidArgument(
                f"{file} was measured by {name or meter.get('kind')}, and the calibration by "
                f"{calibration.meter or calibration.source}: one meter's errors are not the other's",
                "Add recordings with the meter that it was made by, or calibrate anew.",
            )


def _same(one: OperatingPoint, other: OperatingPoint) -> bool:
    """Whether two points are of the same stretch of the same recording."""
    return one.start_ns is not None and (one.start_ns, one.name) == (other.start_ns, other.name)


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr)
