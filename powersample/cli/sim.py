# SPDX-License-Identifier: Apache-2.0
"""`powersample sim`: the simulated node by itself."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli import latency, sim_meter
from powersample.cli.output import emit

if TYPE_CHECKING:
    from powersample.session.standalone import NodeRun
    from powersample.sim import Node

EXAMPLE = """\
examples:
  powersample sim -- nvidia-smi
  powersample sim a100 --gpus 4 --load wave:60,250,0.5,0.5 --duration 60
  powersample sim h100 --load package-0=script:steps.csv -- python my_rapl_tool.py
  powersample sim --json --duration 5
  powersample sim meter --lmg450 --pty --load wave:100,600,4,0.5
  powersample sim meter --lmg450 --tcp 2101 --of paper-node

Whatever loads libnvidia-ml.so.1 in that environment meets the simulated GPUs: nvidia-smi, pynvml, anything. Tools that
read powercap, MSR files or hwmon need to be told another root than /sys and /dev; perf's energy counters are the
kernel's own and cannot be simulated. Register R of an MSR file lies at byte R x 8.

Without a program it runs until Ctrl-C. At its end it tells the exact energy of everything over its run; with a program
that goes to standard error, and the exit code is the program's.
"""

SUMS = ("node", "wall")  # of those that are sums, what a reader wants at once


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "sim",
        help="a simulated GPU node by itself, for other tools to measure",
        description="Run a simulated node, GPUs and CPUs moved by one exact truth, and say how to point tools at it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="powersample sim [NODE | meter] [options] [-- COMMAND ...]",
        add_help=False,
    )
    verb.add_argument("-h", "--help", action=_Help, nargs=0, help="show this, or that of `sim meter`, and exit")
    verb.add_argument("node", nargs="?", default="h100", metavar="NODE", help="as record --simulate; default h100")
    verb.add_argument("--gpus", type=int, metavar="N", help="number of GPUs, 1 to 16; default 1")
    verb.add_argument("--cpu", metavar="NAME", help="intel_spr, intel_icx, amd_milan, grace ..., or none")
    verb.add_argument("--packages", type=int, metavar="N", help="CPU packages, 1 or 2; default 1")
    verb.add_argument("--board", type=int, metavar="SEED", help="draw the boards' errors; default perfect ones")
    verb.add_argument("--latency", metavar="TIME", help="of every NVML call, such as 400us or 2ms; default none")
    _add_common(verb)
    group = verb.add_argument_group("a meter by itself (powersample sim meter; its --help has the second shell's half)")
    sim_meter.add(group)
    verb.set_defaults(run=run)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that a node has with or without a meter alone."""
    parser.add_argument("--node-seed", type=int, metavar="SEED", help="draw fans, supply, boards and meter of the node")
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="KIND",
        help="idle (default), cpu (a program's CPU use, default with one), script:FILE.csv (seconds,watts), trace:FILE "
        "or wave:WATTS,WATTS,PERIOD_S,SHARE; with DEVICE= before it for one device, else for all GPUs; may be repeated",
    )
    parser.add_argument("--duration", type=float, metavar="S", help="end by itself after so many seconds")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="new or empty folder for the node's files; it is kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, on a line of its own")


class _Help(argparse.Action):
    """Prints the verb's help, or behind the word "meter" the meter's own."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if namespace.node == sim_meter.WORD:
            parser = argparse.ArgumentParser(
                prog=f"powersample sim {sim_meter.WORD}",
                description=sim_meter.DESCRIPTION,
                epilog=sim_meter.EXAMPLE,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                usage=f"powersample sim {sim_meter.WORD} [options]",
            )
            sim_meter.add(parser)
            _add_common(parser)
        parser.print_help()
        parser.exit()


def run(options: argparse.Namespace) -> int:
    """Run the node and answer with the program's exit code."""
    from powersample import errors
    from powersample.session.simulate import make_node
    from powersample.session.standalone import run_node
    from powersample.sim import Latency

    by_itself = sim_meter.take(options)
    if not options.command and any(load.rpartition("=")[2] == "cpu" for load in options.load):
        raise errors.InvalidArgument(
            "--load cpu is the CPU use of a program, and there is none", "Add `-- COMMAND`, or give another load."
        )
    if options.command and options.duration is not None:
        raise errors.InvalidArgument("--duration is for a node without a program")
    aside = bool(options.command) or options.json
    slow = None if options.latency is None else Latency.fixed(latency.seconds(options.latency))
    settings = {"directory": options.dir, "latency": slow, "node_seed": options.node_seed}
    with make_node(_spec(options), options.board, **settings) as node:
        if by_itself:
            text = sim_meter.introduction(node, sim_meter.plug(node, options), options)
        else:
            text = _introduction(node, options)
        done = run_node(
            node,
            options.load,
            command=options.command,
            duration_s=options.duration,
            ready=lambda: _note(text) if aside else emit(text),
        )
    if options.json:
        emit(json.dumps(_as_json(node, done), allow_nan=False))
    elif options.command:
        _note("\n".join(["", headline(node), *_truth(done)]))
    else:
        emit("\n".join(["", *_truth(done)]))
    return done.exit_code or 0


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _spec(options: argparse.Namespace) -> str:
    """Return NODE with the options that say it in other words."""
    from powersample import errors

    gpus, _, cpus = options.node.partition("+")
    if options.gpus is not None:
        gpus = f"{_bare(gpus, '--gpus')}x{options.gpus}"
    if cpus and options.cpu is not None:
        raise errors.InvalidArgument(f"{options.node} names its CPU already; leave --cpu out")
    cpus = cpus or options.cpu or ""
    if options.packages is not None:
        from powersample.sim.cpu import cpu_beside

        cpus = f"{_bare(cpus, '--packages') or cpu_beside(_bare(gpus))}x{options.packages}"
    return f"{gpus}+{cpus}" if cpus else gpus


def _bare(name: str, instead: str | None = None) -> str:
    """Return a name without its number. Raises InvalidArgument when `instead` is an option that says it too."""
    from powersample import errors
    from powersample.session.simulate import without_number

    bare = without_number(name)
    if instead is not None and bare != name:
        raise errors.InvalidArgument(f"{name} says how many already; leave {instead} out")
    return bare


def headline(node: Node) -> str:
    """Return the first line of everything that a simulated node says."""
    return f"SIMULATED NODE {node.name}, not a measurement"


def _introduction(node: Node, options: argparse.Namespace) -> str:
    from powersample.session.standalone import environment_of

    count = len(node.gpu_uuids)
    what = [f"{f'{count} x ' * (count > 1)}{node.profile['board.name']}, driver {node.describe()['driver_version']}"]
    if node.cpu is not None:
        packages = sum(part.domain == "package" for part in node.parts)
        what.append(f"{f'{packages} x ' * (packages > 1)}{node.cpu['cpu.name']}")
    loads = ", ".join(options.load) or ("cpu" if options.command else "idle")
    lines = [headline(node), "", f"{', '.join(what)}; load: {loads}"]
    if options.command:
        return "\n".join([*lines, ""])
    lines += ["", "In another terminal, any NVML program meets it with", ""]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment_of(node).items()]
    lines += [f"  {export}" for export in exports]
    lines += ["  nvidia-smi", "  python -c 'import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())'"]
    lines += [
        "",
        "powersample itself meets it with",
        "",
        f"  powersample record {_roots(node)} \\",
        "      --duration 10 -o try.parquet",
        "",
        "and with an LMG450 at its plug, beside them or by any program for such a meter, by",
        "",
        f"      --meter {shlex.quote(str(node.address_of_meter()))}",
    ]
    if node.sysfs is not None:
        lines += ["", "and its CPUs are, for tools that take another root than /sys and /dev,", ""]
        lines += [f"  {path}" for path in _places(node)]
    end = f"Ends after {options.duration:g} s" if options.duration is not None else "Ends with Ctrl-C"
    kept = "" if options.dir is None else f"; {node.directory} is kept"
    return "\n".join([*lines, "", f"{end}, and then tells the exact energies{kept}."])


def _roots(node: Node) -> str:
    roots = [f"--nvml-lib {shlex.quote(str(node.library))}"]
    if node.sysfs is not None:
        roots += [f"--sysfs {shlex.quote(str(node.sysfs))}", f"--devfs {shlex.quote(str(node.devfs))}"]
    return " \\\n      ".join(roots)


def _places(node: Node) -> list[Path]:
    assert node.sysfs is not None
    assert node.devfs is not None
    places = [node.sysfs / "class/powercap", node.devfs / "cpu/0/msr"] if node.counters else []
    return places + sorted({node.sysfs / "class" / meter.shown_in for meter in node.meters})


def _truth(done: NodeRun) -> list[str]:
    from powersample.report.table import number, table

    seconds = (done.end_ns - done.start_ns) / 1e9
    shown = [name for name in done.truth_j if name in _single(done) or name in SUMS]
    rows = [[name, number(done.truth_j[name]), number(done.truth_j[name] / seconds)] for name in shown]
    lines = [f"the exact truth of {number(seconds)} s", *table(["device", "J", "mean W"], rows, "lrr", indent=2)]
    if any(name.endswith(("core", "uncore")) for name in shown):
        lines.append("  core and uncore lie in their package; node counts them once")
    lines.append("  wall is node and its fans behind the supply's losses and lag")
    if done.state["truth_void"]:
        lines.append("  VOID: power was set after its own instant, or found no room; do not compare with it")
    return lines


def _single(done: NodeRun) -> set[str]:
    return {name for name in done.truth_j if re.fullmatch(r"gpu\d+|package-.*|board", name)}


def _as_json(node: Node, done: NodeRun) -> dict[str, Any]:
    seconds = (done.end_ns - done.start_ns) / 1e9
    return {
        "schema_version": 1,
        "simulated": True,
        "node": node.describe(),
        "start_ns": done.start_ns,
        "end_ns": done.end_ns,
        "truth": {name: {"joules": j, "mean_w": j / seconds} for name, j in done.truth_j.items()},
        "state": dict(done.state),
        "exit_code": done.exit_code,
    }
