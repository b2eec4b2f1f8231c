# SPDX-License-Identifier: Apache-2.0
"""`powersample characterize`: what this machine's power sensors are really like."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.output import emit

if TYPE_CHECKING:
    from powersample.capture import Plan
    from powersample.fit import Characterization, Reference
    from powersample.model import Channel, Trace

EXAMPLE = """\
examples:
  powersample characterize                            T, jitter and call times of this machine's GPUs
  powersample characterize --simulate h100 --board 7  all of it, on a simulated board
  powersample characterize run.parquet --edges load.csv
  powersample characterize gpudata.csv --reference PMD_data.bin --shift 3600 --gpu "NVIDIA GeForce RTX 3090"

What a sensor averages (W), its lag and its delay show only under a load that is known, best a square wave at
fractions of its update period (1/2, 2/3, 3/4, 4/5, 6/5, 5/4, 4/3). The load is known from a meter (--reference), from
the program that makes it (--edges: what `powersample stress --edges` wrote, or a CSV with the header time,power_w or
time,level; a line says what holds from its time on, the last line ends it), or, on a simulated node, from its truth.

What was found live is kept in ~/.config/powersample/sensors/, by board and driver version, and goes before the table in
every recording from then on; --no-store leaves it, --store keeps what a file shows too. A simulated board is kept
only where --directory says.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "characterize",
        help="update period, window and latency of power sensors",
        description="Tell from a recording, or live, how often power sensors publish and what their values average.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a trace or another tool's log; default: live")
    verb.add_argument("--channel", metavar="NAME", help="tell this one; default all power sensors that are known of")
    known = verb.add_argument_group("the load")
    known.add_argument("--reference", metavar="FILE[:CHANNEL]", help="a meter's record of it; CHANNEL alone: in FILE")
    known.add_argument("--shift", type=float, metavar="S", help="seconds to add to the times of the meter's record")
    known.add_argument(
        "--calibrated", action="store_true", help="its watts are the board's own: take gain and offset over"
    )
    known.add_argument("--edges", type=Path, metavar="CSV", help="when the load changed, on FILE's clock")
    known.add_argument("--gpu", metavar="NAME", help="the card of a log that does not name it, in NVML's words")
    known.add_argument("--driver", metavar="VERSION", help="its driver: what power.draw means depends on it")
    live = verb.add_argument_group("live")
    live.add_argument("--duration", type=float, metavar="S", help="how long to record; default 30")
    live.add_argument("--gpus", metavar="LIST", help="indices or UUIDs; default CUDA_VISIBLE_DEVICES, else all")
    live.add_argument("--rate", metavar="HZ", help="polls a second; default up to 1000, as the calls allow")
    live.add_argument("--nvml-lib", metavar="PATH", help="libnvidia-ml to load instead of the driver's")
    live.add_argument("--simulate", metavar="NODE", help="a simulated node, as in `record`, under square waves")
    live.add_argument("--board", type=int, metavar="SEED", help="draw the board's errors; default a perfect one")
    kept = verb.add_argument_group("what becomes of it")
    kept.add_argument(
        "--store", action=argparse.BooleanOptionalAction, help="keep it for recordings; default: what was found live"
    )
    kept.add_argument("--directory", type=Path, metavar="DIR", help="keep it there instead of the user's own folder")
    kept.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tell, print and keep."""
    from powersample.experiments.characterize import sensors_of
    from powersample.fit import characterize
    from powersample.report.sensor import sensor_json, sensor_text
    from powersample.sensors import table_model

    _check(options)
    trace = _live(options) if options.file is None else _read(options.file, options)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    chosen = [trace.channel(name) for name in sensors_of(trace, options.channel)]
    told = {one.name: characterize(trace, one.name, _reference(options, trace, one), on=today) for one in chosen}
    tables = {one.name: table_model(trace, one) for one in chosen}
    if options.json:
        whole = {
            "schema_version": 1,
            "simulated": trace.simulated,
            "sensors": [sensor_json(found, tables[name]) for name, found in told.items()],
        }
        emit(json.dumps(whole, indent=1, allow_nan=False))
    else:
        emit("\n\n".join(sensor_text(found, tables[name]) for name, found in told.items()))
    keep = (options.file is None and not trace.simulated) if options.store is None else options.store
    if keep:
        _keep(options, trace, told)
    return 0


def _check(options: argparse.Namespace) -> None:
    from powersample.errors import InvalidArgument

    if options.file is not None:
        given = [
            name
            for name in ("duration", "gpus", "rate", "nvml_lib", "simulate", "board")
            if getattr(options, name) is not None
        ]
        if given:
            raise InvalidArgument(f"--{given[0].replace('_', '-')} is for recording live, without FILE")
    elif options.edges is not None or (options.reference is not None and options.simulate is not None):
        raise InvalidArgument("--edges and --reference go with a FILE: what was recorded while the load ran")
    if options.reference is not None and options.edges is not None:
        raise InvalidArgument("--reference and --edges exclude each other")
    if options.simulate is None and options.board is not None:
        raise InvalidArgument("--board belongs to --simulate NODE")


def _live(options: argparse.Namespace) -> Trace:
    from powersample.experiments.characterize import record

    plan, duration_s = _plan(options), 30.0 if options.duration is None else options.duration
    if options.simulate is None:
        return record(plan, duration_s)
    from powersample.session.simulate import make_node, simulated_plan

    with make_node(options.simulate, options.board) as node:
        return record(simulated_plan(plan, node), duration_s, node)


def _plan(options: argparse.Namespace) -> Plan:
    from powersample.capture import ROOTS, plan_with_defaults
    from powersample.errors import InvalidArgument
    from powersample.store.config import load_configuration

    given: dict[str, Any] = {"sources": ("nvml",)}
    if options.nvml_lib is not None:
        given["nvml_library"] = options.nvml_lib
    if options.gpus is not None:
        given["gpus"] = tuple(options.gpus.split(","))
    if options.rate is not None:
        try:
            given["rate_hz"] = float(options.rate)
        except ValueError:
            raise InvalidArgument(f"--rate {options.rate}: a number of Hz") from None
    return plan_with_defaults(given, load_configuration(), keys=() if options.simulate else ROOTS)


def _read(path: Path, options: argparse.Namespace) -> Trace:
    from powersample.errors import InvalidArgument
    from powersample.model import RunTable
    from powersample.readers import read

    found = read(path, gpu=options.gpu, driver=options.driver)
    if isinstance(found, RunTable):
        raise InvalidArgument(f"{path} holds energies of runs and no readings: no sensor can be told from it")
    return found


def _reference(options: argparse.Namespace, trace: Trace, channel: Channel) -> Reference | None:
    """Return the load that a channel watched: as given, else the truth of a simulated node."""
    from powersample.experiments.characterize import truth_of
    from powersample.fit import Reference
    from powersample.readers import read_edges

    if options.edges is not None:
        t_ns, level, watts = read_edges(options.edges, trace)
        name = f"the edges of {options.edges.name}"
        return Reference(t_ns, level, name, options.calibrated and watts, own_clock=True)
    if options.reference is None:
        return truth_of(trace, channel)
    path, _, wanted = options.reference.rpartition(":")
    shift_ns = round((options.shift or 0.0) * 1e9)
    if options.reference in trace.channels:
        return Reference.of_channel(
            trace, options.reference, shift_ns=shift_ns, calibrated=options.calibrated, own_clock=True
        )
    whole = not path or Path(options.reference).exists()
    where = Path(options.reference if whole else path)
    meter = _read(where, options)
    name = _meter_channel(meter, where) if whole else meter.channel(wanted).name
    label = f"{name} of {where.name}"
    return Reference.of_channel(meter, name, shift_ns=shift_ns, calibrated=options.calibrated, label=label)


def _meter_channel(meter: Trace, where: Path) -> str:
    from powersample.errors import InvalidArgument
    from powersample.model import Kind

    power = [name for name, one in meter.channels.items() if one.kind is Kind.POWER]
    if len(power) != 1:
        there = ", ".join(power) or "none"
        raise InvalidArgument(f"{where} has several power channels or none ({there}): --reference {where}:CHANNEL")
    return power[0]


def _keep(options: argparse.Namespace, trace: Trace, told: dict[str, Characterization]) -> None:
    from powersample.sensors import field_of
    from powersample.store.boards import BoardField, save_board

    for name, found in told.items():
        channel, measured = trace.channel(name), found.found()
        field = field_of(channel)
        if not measured or field is None:
            _note(f"{name}: nothing was told that could be kept")
            continue
        path = save_board(
            options.directory,
            channel.device,
            str(trace.meta.get("driver") or ""),
            field,
            BoardField(measured, found.origin),
            simulated=trace.simulated,
        )
        _note(f"{name}: kept in {path}")


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr)
