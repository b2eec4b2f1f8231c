# SPDX-License-Identifier: Apache-2.0
"""Options of the verbs that sample: what to record and how, and the meters beside."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from powersample.capture import Plan
    from powersample.session.command import Setup
    from powersample.session.meters import Asked
    from powersample.sim import Node


def add_sampling(verb: argparse.ArgumentParser) -> None:
    """Add them to a verb."""
    sampling = verb.add_argument_group("sampling (as powersample-sampler)")
    sampling.add_argument("--sources", metavar="LIST", help="comma-separated; default nvml,rapl,hwmon")
    sampling.add_argument("--gpus", metavar="LIST", help="indices or UUIDs; default CUDA_VISIBLE_DEVICES, else all")
    sampling.add_argument("--rate", metavar="HZ", help="passes a second, or auto (default)")
    sampling.add_argument("--mode", choices=("paced", "tight", "follow"), help="default paced; follow: few polls")
    sampling.add_argument("--cpu", type=int, metavar="N", help="pin the sampler to this CPU")
    sampling.add_argument(
        "--fifo", type=int, nargs="?", const=10, metavar="PRIO", help="run the sampler under SCHED_FIFO; default 10"
    )
    sampling.add_argument(
        "--keep", choices=("all", "changes"), help="changes: leave out readings that repeat themselves; default all"
    )
    sampling.add_argument(
        "--nvml-lib", metavar="PATH", help="libnvidia-ml to load; default $POWERSAMPLE_NVML_LIB, else the driver's"
    )
    sampling.add_argument(
        "--sysfs", metavar="DIR", help="where rapl and hwmon are looked for; default $POWERSAMPLE_SYSFS_ROOT, else /sys"
    )
    sampling.add_argument(
        "--devfs", metavar="DIR", help="where cpu/N/msr is; default /dev, or nowhere beside another sysfs"
    )
    verb.add_argument(
        "--meter",
        action="append",
        metavar="ADDRESS",
        help="external meter to record beside: [NAME=]KIND:WHERE[,KEY=VALUE...]; may be repeated; "
        "`powersample record --meter help` lists the kinds",
    )


def add_simulated(verb: argparse.ArgumentParser) -> None:
    """Add what a verb that measures a program asks of a simulated node."""
    simulated = verb.add_argument_group("simulated node")
    simulated.add_argument(
        "--simulate",
        metavar="NODE",
        help="a100, gh200, h100, k40m, m40, p100, rtx2080ti, rtx3090, rtx4090 or v100; h100x4 for four GPUs; "
        "h100+amd_milanx2 for another CPU, twice; h100+none for no CPU; paper-node for that of arXiv 2505.15631",
    )
    simulated.add_argument("--board", type=int, metavar="SEED", help="draw the board's errors; default a perfect one")
    simulated.add_argument("--node-seed", type=int, metavar="SEED", help="draw fans, supply, boards and meter")
    simulated.add_argument(
        "--load",
        metavar="KIND",
        help="cpu (the program's CPU use, default), idle, script:FILE.csv (seconds,watts), trace:FILE (.parquet or "
        ".csv) or wave:WATTS,WATTS,PERIOD_S,SHARE; with DEVICE= before it for one device, else for all GPUs",
    )


def refuse_simulated(options: argparse.Namespace) -> None:
    """Raise InvalidArgument for a simulated node's options without one."""
    from powersample import errors

    if options.simulate is None and (options.load or (options.board, options.node_seed) != (None, None)):
        raise errors.InvalidArgument("--load, --board and --node-seed belong to --simulate NODE")


def on_node(options: argparse.Namespace, plan: Plan, closing: ExitStack) -> tuple[Plan, Node | None]:
    """Return the plan, and the simulated node if that is asked for, closed with `closing`; the plan is of it then."""
    if options.simulate is None:
        return plan, None
    from powersample.session.simulate import make_node, simulated_plan

    node = make_node(options.simulate, options.board, node_seed=options.node_seed)
    closing.callback(node.close)
    return simulated_plan(plan, node), node


def add_program(verb: argparse.ArgumentParser) -> None:
    """Add what a verb that runs a program and records it asks of the two."""
    verb.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_sampling(verb)
    add_simulated(verb)
    verb.add_argument("--store-command", action="store_true", help="store the arguments in the trace, not only a hash")
    verb.add_argument("command", nargs="*", help=argparse.SUPPRESS)


def setup_of(options: argparse.Namespace, output: Path, closing: ExitStack) -> Setup:
    """Return what `add_program`'s options say is to be recorded; a simulated node is closed with `closing`."""
    from powersample.session.command import Setup

    plan, meters = plan_of(options)
    plan, node = on_node(options, plan, closing)
    return Setup(plan, output, node, options.load, options.force, options.store_command, meters)


@contextlib.contextmanager
def telling_not_started(command: Sequence[str]) -> Iterator[None]:
    """Say, where nothing can be measured, that the program has not run either."""
    from powersample import errors

    try:
        yield
    except errors.NothingMeasurable as error:
        if not command:
            raise
        raise errors.NothingMeasurable(f"{error}\nThe program was not started: {shlex.join(command)}") from error


def list_meters() -> int:
    """Print the kinds of meters that an address may name."""
    from powersample.cli.output import emit
    from powersample.meters.registry import DRIVERS
    from powersample.report.table import table

    rows = [
        [kind, one.what, f"pip install 'powersample[{one.extra}]'" if one.extra else ""]
        for kind, one in DRIVERS.items()
    ]
    rows.append(["sim", "the simulated node's LMG450, with --simulate NODE", ""])
    emit("\n".join(table(["kind", "meter", "needs"], rows, "lll")))
    return 0


def plan_of(options: argparse.Namespace) -> tuple[Plan, Asked]:
    """Return what was asked for over the configuration's defaults; its roots are no simulated node's."""
    from powersample.capture import PACE, ROOTS, plan_with_defaults
    from powersample.session.meters import asked_meters
    from powersample.store.config import load_configuration

    asked = {
        "sources": None if options.sources is None else tuple(name for name in options.sources.split(",") if name),
        "nvml_library": options.nvml_lib,
        "sysfs": options.sysfs,
        "devfs": options.devfs,
        "gpus": None if options.gpus is None else tuple(options.gpus.split(",")),
        "mode": options.mode,
        "cpu": options.cpu,
        "fifo": options.fifo,
        "keep": options.keep,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if options.rate is not None:
        given["rate_hz"] = _rate(options.rate)
    configuration = load_configuration()
    plan = plan_with_defaults(given, configuration, keys=PACE if options.simulate else (*ROOTS, *PACE))
    return plan, asked_meters(options.meter, None if options.simulate else configuration)


def _rate(text: str) -> float | None:
    from powersample import errors

    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise errors.InvalidArgument(f"--rate {text}: a number of Hz, or auto") from None
