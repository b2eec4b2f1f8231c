# SPDX-License-Identifier: Apache-2.0
"""The part of `powersample calibrate` that measures: options, the ladder beforehand, progress."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from powersample.cli.sampling import add_sampling, list_meters, plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from powersample.experiments.calibrate.climb import Progress
    from powersample.experiments.calibrate.plan import Rung, Times
    from powersample.experiments.calibrate.result import Calibrated
    from powersample.experiments.calibrate.run import Asking
    from powersample.sim import Node

LIVE_EXAMPLE = """\
  powersample calibrate --meter lmg450:/dev/ttyUSB0
  powersample calibrate --meter lmg450:/dev/ttyUSB0 --dry-run
  powersample calibrate --meter dcmi: --rungs primes:50%,primes:1,fma:1,stream:1
  powersample calibrate --simulate paper-node --time-scale 20 --short
"""
ABOUT = """\
With a meter, this machine climbs a ladder of loads, idle first and last and the rest at random: primes (a sieve, as the
paper's), fma, stream (memory), mix (these by turns) on all CPUs, and matrix products on GPUs where torch or cupy sees
one, each at some levels, and both at once. A load is measured once the meter stands still (0.1 % in 10 s over 20 s; at
most --settle, then the point is marked), for --dwell, with the sampler running as under `record`; calibrate with the
sampling options that you record with. Leave the machine alone meanwhile: a point that others' load disturbed is
measured again, --tries times in all. Interrupted, by whatever, the same command goes on where it was.
"""
LIVE = (
    *("rungs", "short", "dwell", "settle", "tries", "seed", "sync", "dry_run", "restart", "max_temperature"),
    *("simulate", "board", "node_seed", "time_scale"),
    *("sources", "gpus", "rate", "mode", "cpu", "fifo", "keep", "nvml_lib", "sysfs", "devfs", "meter"),
)
NODE_ONLY = ("node_seed", "board", "time_scale")
LINE_S = 0.5  # between lines that replace each other
SHOWN = 78


def add_live(verb: argparse.ArgumentParser) -> None:
    """Add the arguments to the verb."""
    climb = verb.add_argument_group("the ladder")
    climb.add_argument("--rungs", metavar="LIST", help="KERNEL:LEVEL,...; + for at once: primes:50%%,gpu:1+mix:1")
    climb.add_argument("--short", action="store_true", help="a ladder of half as many points")
    climb.add_argument("--dwell", type=float, metavar="S", help="of each point; default 30")
    climb.add_argument("--settle", type=float, metavar="S", help="wait for a steady meter, at most; default 240")
    climb.add_argument("--tries", type=int, metavar="N", help="for a point that was spoiled, in all; default 3")
    climb.add_argument("--seed", type=int, metavar="N", help="of the order; default 0")
    climb.add_argument(
        "--sync",
        type=float,
        nargs="?",
        const=0.0,
        metavar="S",
        help="first work in bursts for S seconds and tell the meter's clock from them; else its latency bounds it, "
        "which steady points hardly feel",
    )
    climb.add_argument(
        "--max-temperature", type=float, metavar="C", help="end, points kept, once the CPUs are at C degrees"
    )
    climb.add_argument("--dry-run", action="store_true", help="show the ladder and how long it takes")
    climb.add_argument("--restart", action="store_true", help="throw away what an interrupted calibration has kept")
    add_sampling(verb)
    node = verb.add_argument_group("simulated node")
    node.add_argument("--simulate", metavar="NODE", help="calibrate that node at its own meter; as in `record`")
    node.add_argument("--board", type=int, metavar="SEED", help="draw the boards' errors")
    node.add_argument("--node-seed", type=int, metavar="SEED", help="draw fans, supply, boards and meter")
    node.add_argument("--time-scale", type=float, metavar="X", help="fans, hold-up and waiting so many times as quick")


def run_live(options: argparse.Namespace) -> Calibrated | None:
    """Climb; None after --dry-run."""
    from powersample.errors import InvalidArgument
    from powersample.experiments.calibrate.result import calibrate

    _refuse(options)
    if options.meter == ["help"]:
        list_meters()
        return None
    node = None
    try:
        if options.simulate is not None:
            from powersample.session.simulate import make_node

            scale = options.time_scale or 1.0
            node = make_node(options.simulate, options.board, node_seed=options.node_seed, time_scale=scale)
        asking = _asking(options, node)
        if not asking.meters.addresses and not options.dry_run:
            raise InvalidArgument(
                "nothing says what to calibrate by",
                "A meter at the wall, --meter ADDRESS (`--meter help` lists the kinds; dcmi: or redfish: in a pinch); "
                "a table of operating points, --from FILE.csv; or a data sheet's --p-idle W.",
            )
        if options.dry_run:
            _dry_run(asking, node, as_json=options.json)
            return None
        with _Line(sys.stderr.isatty()) as line:
            return calibrate(asking, node, tell=line.show, note=line.note)
    finally:
        if node is not None:
            node.close()


def _refuse(options: argparse.Namespace) -> None:
    from powersample.errors import InvalidArgument

    for name in NODE_ONLY if options.simulate is None else ():
        if getattr(options, name) is not None:
            raise InvalidArgument(f"--{name.replace('_', '-')} belongs to --simulate NODE")
    if options.rungs is not None and options.short:
        raise InvalidArgument("--short is a ladder, and --rungs another")
    if options.max_temperature is not None and options.simulate is not None:
        raise InvalidArgument("--max-temperature is of this machine's CPUs: a simulated node has no heat")
    if options.tries is not None and options.tries < 1:
        raise InvalidArgument(f"--tries {options.tries}: 1 or more")
    if options.sync is not None and not options.sync >= 0:
        raise InvalidArgument(f"--sync {options.sync:g}: seconds")


def _asking(options: argparse.Namespace, node: Node | None) -> Asking:
    from powersample.experiments.calibrate.climb import TRIES
    from powersample.experiments.calibrate.plan import FULL, SHORT, parse_rungs
    from powersample.experiments.calibrate.run import Asking
    from powersample.session.meters import asked_meters
    from powersample.session.simulate import simulated_plan
    from powersample.session.syncing import SyncPlan

    plan, meters = plan_of(options)
    if node is not None:
        plan = simulated_plan(plan, node)
        meters = meters if meters.addresses else asked_meters(["sim"], None)
    return Asking(
        plan=plan,
        meters=meters,
        rungs=parse_rungs(options.rungs or (SHORT if options.short else FULL)),
        seed=options.seed or 0,
        times=_times(options),
        tries=options.tries or TRIES,
        sync=None if options.sync is None else SyncPlan(duration_s=options.sync or None),
        output=options.output,
        restart=options.restart,
        max_temperature_c=options.max_temperature,
    )


def _times(options: argparse.Namespace) -> Times:
    """Return how long points are given: what was asked for as it is, the rest as quick as the node is."""
    from powersample.experiments.calibrate.plan import Times

    asked = {"dwell_s": options.dwell, "settle_s": options.settle}
    times = Times().quicker(options.time_scale or 1.0)
    return replace(times, **{name: value for name, value in asked.items() if value is not None})


def _dry_run(asking: Asking, node: Node | None, *, as_json: bool) -> None:
    from powersample.cli.output import emit
    from powersample.experiments.calibrate.plan import duration_s, ladder
    from powersample.experiments.calibrate.run import ground_of, lacks

    rungs, notes = ladder(asking.rungs, lacks(asking, ground_of(node)), asking.seed)
    beside_s = 0.0 if asking.sync is None else asking.sync.duration_s or 60.0
    least_s, most_s = duration_s(len(rungs), asking.times, beside_s)
    if as_json:
        told = {
            "schema_version": 1,
            "simulated": node is not None,
            "ladder": [{"name": one.name, "levels": dict(one.parts)} for one in rungs],
            "least_s": least_s,
            "most_s": most_s,
            "notes": notes,
        }
        emit(json.dumps(told, indent=1, allow_nan=False))
        return
    emit("\n".join(_ladder_text(rungs, least_s, most_s, notes)))


def _ladder_text(rungs: tuple[Rung, ...], least_s: float, most_s: float, notes: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{i:3} {one.name}" for i, one in enumerate(rungs, 1))
    yield f"{len(rungs)} points: {_span(least_s)} at least, {_span(most_s)} at most if none has to be measured again"
    yield from notes


def _span(duration_s: float) -> str:
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


class _Line:
    """How it stands, on standard error: on a terminal one line that is written anew, else one a point."""

    def __init__(self, terminal: bool) -> None:
        self._terminal, self._last_s, self._open = terminal, 0.0, False

    def show(self, at: Progress) -> None:
        """Tell it."""
        done = at.doing.startswith("done")
        if not done and (not self._terminal or time.monotonic() < self._last_s + LINE_S):
            return
        self._last_s = time.monotonic()
        wall = "" if at.wall_w is None or at.wall_w != at.wall_w else f", {at.wall_w:.1f} W"
        text = f"{at.number}/{at.total} {at.rung}: {at.doing}{wall}; about {_span(at.left_s)} left"
        if not self._terminal:
            print(f"powersample: {text}", file=sys.stderr, flush=True)
            return
        end = "\n" if done else ""
        print(f"\r\033[Kpowersample: {text[:SHOWN]}", end=end, file=sys.stderr, flush=True)
        self._open = not done

    def note(self, text: str) -> None:
        """Say a sentence on a line of its own."""
        self._close()
        print(f"powersample: {text}", file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: Any) -> None:
        self._close()
