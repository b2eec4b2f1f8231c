# SPDX-License-Identifier: Apache-2.0
"""`powersample doctor`: what can be measured here, what is missing, one fix each."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from powersample.cli.output import emit

if TYPE_CHECKING:
    from powersample.doctor import Diagnosis, Machine

EXAMPLE = """\
examples:
  powersample doctor
  powersample doctor --json | jq -r '.checks[] | select(.level == "FAIL") | .fix'
  powersample doctor --print-udev | sudo tee /etc/udev/rules.d/70-powersample.rules

Changes nothing and needs no rights. Exit codes: 0 all well, 1 less than this machine could give, 3 nothing measurable.
"""

STYLES = {"OK": "green", "SKIP": "dim", "WARN": "yellow", "FAIL": "bold red"}


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "doctor",
        help="what can be measured here, what is missing, one fix each",
        description="Look at everything that a recording needs and say, line by line, what is there and what is not.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--json", action="store_true", help="one JSON object, schema_version 1")
    verb.add_argument("--nvml-lib", metavar="PATH", help="libnvidia-ml to load instead of the driver's")
    verb.add_argument("--sysfs", metavar="DIR", help="where CPU counters and sensors are looked for; default /sys")
    verb.add_argument(
        "--devfs", metavar="DIR", help="where cpu/N/msr is; default /dev, or nowhere beside another sysfs"
    )
    verb.add_argument("--simulate", metavar="NODE", help="look at a simulated node: h100, a100, h100x4 ...")
    instead = verb.add_mutually_exclusive_group()
    instead.add_argument("--print-udev", action="store_true", help="print a udev rule that opens RAPL to a group")
    instead.add_argument("--print-systemd", action="store_true", help="print a systemd unit that does it at boot")
    instead.add_argument(
        "--fetch-nvidia-smi", action="store_true", help="fetch NVIDIA's nvidia-smi into the cache folder, after asking"
    )
    verb.add_argument("--yes", action="store_true", help="answer yes to --fetch-nvidia-smi")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was asked for."""
    if options.print_udev or options.print_systemd:
        from powersample.doctor import units

        emit((units.UDEV_RULE if options.print_udev else units.SYSTEMD_UNIT).rstrip("\n"))
        return 0
    if options.fetch_nvidia_smi:
        return _fetch(yes=options.yes)
    diagnosis = _diagnose(options)
    if options.json:
        emit(json.dumps(diagnosis.to_json(), indent=1))
    else:
        _print(diagnosis)
    return diagnosis.exit_code


def _diagnose(options: argparse.Namespace) -> Diagnosis:
    from powersample import errors
    from powersample.doctor import Machine, diagnose

    if options.simulate is None:
        return diagnose(_machine(options, Machine()))
    if options.nvml_lib or options.sysfs or options.devfs:
        raise errors.InvalidArgument("--simulate brings devices of its own; leave --nvml-lib, --sysfs and --devfs out")
    from powersample.session.simulate import make_node, node_machine

    with make_node(options.simulate) as node:
        return diagnose(node_machine(node, options.simulate))


def _machine(options: argparse.Namespace, machine: Machine) -> Machine:
    """Return `machine` with the roots that a recording would have."""
    from pathlib import Path

    from powersample import errors

    asked = {"nvml_library": options.nvml_lib, "sysfs": options.sysfs, "devfs": options.devfs}
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        from powersample.capture import ROOTS, plan_with_defaults
        from powersample.store.config import load_configuration

        plan = plan_with_defaults(given, load_configuration(), keys=ROOTS)
        asked = {name: getattr(plan, name) for name in asked}
    except (ImportError, errors.ConfigurationError):
        pass  # what does not load, and a file that nobody understands, are findings and no end
    sysfs, devfs = (None if asked[name] is None else Path(asked[name]) for name in ("sysfs", "devfs"))
    return replace(machine, nvml_library=asked["nvml_library"], sysfs_root=sysfs, devfs_root=devfs)


def _print(diagnosis: Diagnosis) -> None:
    from powersample.doctor.text import to_lines

    if sys.stdout is None or not sys.stdout.isatty():
        emit("\n".join(line for _, line in to_lines(diagnosis)))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for level, line in to_lines(diagnosis, console.width):
        text = Text(line)
        if level == "title":
            text.stylize("bold")
        elif line.startswith("["):
            text.stylize(STYLES[level], 0, len("[FAIL]"))
        elif level == "SKIP":
            text.stylize("dim")
        console.print(text, soft_wrap=True)


def _fetch(*, yes: bool) -> int:
    from powersample.doctor import nvidia_debs

    there = nvidia_debs.cached()
    if there is not None:
        emit(f"{there.nvidia_smi}")
        return 0
    nvidia_debs.check_possible()
    print(
        f"packages  {', '.join(nvidia_debs.PACKAGES)}: about {nvidia_debs.SIZE_MB} MB, and their section's index\n"
        f"from      Debian {nvidia_debs.SUITE}, section non-free, by this machine's own apt mirror\n"
        f"into      {nvidia_debs.cache_dir()} (nothing is installed)\n"
        f"licence   {nvidia_debs.LICENCE}",
        file=sys.stderr,
    )
    if not yes and not _agreed():
        print("powersample: nothing was fetched", file=sys.stderr)
        return 1
    fetched = nvidia_debs.fetch()
    for name, digest in sorted(fetched.sha256.items()):
        print(f"powersample: {name} sha256 {digest}", file=sys.stderr)
    emit(f"{fetched.nvidia_smi}")
    return 0


def _agreed() -> bool:
    """Ask; without anybody to ask, no."""
    if not sys.stdin.isatty():
        print("powersample: nobody is there to ask; add --yes to agree", file=sys.stderr)
        return False
    print("Fetch? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
