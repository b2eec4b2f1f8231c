# SPDX-License-Identifier: Apache-2.0
"""`powersample sim meter`: a simulated meter at the plug of a simulated node, for any program that speaks to meters."""

from __future__ import annotations

import argparse
import random
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from powersample.sim import Node
    from powersample.sim.lmg import LmgSimulator

WORD = "meter"  # in place of NODE
GARBAGE_BYTES = 40
DESCRIPTION = "Run a simulated LMG450 at the plug of a simulated node, for any program that speaks to such a meter."
EXAMPLE = """\
in one shell, a node that changes between 100 and 600 W every 2 s, and its meter:
  powersample sim meter --lmg450 --pty /tmp/ttyLMG --load wave:100,600,4,0.5
in another, as with a real one's port; the first shell prints this line with ranges that hold the node:
  powersample record --meter lmg450:/tmp/ttyLMG,i=10 --duration 10 -o try.parquet
over TCP, as behind a serial-to-Ethernet server:
  powersample sim meter --lmg450 --tcp 2101 --of paper-node
  powersample record --meter lmg450:tcp://127.0.0.1:2101,i=16 --duration 10 -o try.parquet

pulled out after 5 s of a recording and put in again after 8, with a cycle missing and garbage before:
  powersample sim meter --lmg450 --pty /tmp/ttyLMG --fault 40=missing --fault 60=garbage --fault 100=unplug \\
      --fault 160=plug

Wire time is that of the baud rate; cycles follow the mains (50 ms are 40 or 60); the meter's clock, gain, noise and
firmware latency are the node's (--node-seed draws them). It runs in real time. At its end it tells the exact energies.
The load is the simulated node's, and moves with nothing that runs here: to synchronise a meter with bursts there must
be a node behind it that works, so use `powersample record --simulate NODE --meter sim --sync -- COMMAND` for that.
"""


def add(group: argparse._ActionsContainer) -> None:
    """Add the options of `sim meter`."""
    group.add_argument("--lmg450", action="store_true", help="a ZES ZIMMER LMG450 (default)")
    group.add_argument(
        "--pty", nargs="?", const="", metavar="PATH", help="on a pseudo-terminal, under this name (default: a new one)"
    )
    group.add_argument("--tcp", type=int, metavar="PORT", help="on a TCP port of this machine; 0 takes a free one")
    group.add_argument("--of", metavar="NODE", help="whose wall power it measures; default h100")
    group.add_argument(
        "--baud", type=int, metavar="N", help="of its serial line; default 115200; a pseudo-terminal takes any"
    )
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="CYCLE=WHAT",
        help="what befalls so many cycles after the stream begins: missing, half, repeat, nan, over, garbage, silent, "
        "restart, unplug, plug; may be repeated",
    )


def take(options: argparse.Namespace) -> bool:
    """Return whether a meter is asked for; then NODE is the node that it measures.

    Raises:
        InvalidArgument: Options that do not go together.
    """
    from powersample import errors

    mine = {"--lmg450": options.lmg450, "--of": options.of, "--baud": options.baud, "--fault": options.fault}
    mine |= {"--pty": options.pty is not None, "--tcp": options.tcp is not None}
    if options.node != WORD:
        given = [name for name, value in mine.items() if value]
        if given:
            raise errors.InvalidArgument(f"{' and '.join(given)} belong to `powersample sim meter`")
        return False
    if options.command:
        raise errors.InvalidArgument("a meter by itself runs no program; start it in another terminal")
    if options.pty is not None and options.tcp is not None:
        raise errors.InvalidArgument("a meter is on --pty or on --tcp, not on both")
    options.node = options.of or "h100"
    return True


def plug(node: Node, options: argparse.Namespace) -> LmgSimulator:
    """Return the node's meter on the line that was asked for.

    Raises:
        OutputExists: There is something of that name that is no link.
    """
    from powersample.sim.lmg_line import Line, PtyLine, TcpLine

    settings: dict[str, Any] = {} if options.baud is None else {"baud": options.baud}
    if options.fault:
        settings["faults"] = _faults(options.fault)
    line: Line | None = None
    if options.tcp is not None:
        line = TcpLine(options.tcp)
        settings["baud"] = options.baud  # a TCP port has none, but what a serial-to-TCP server's line takes
    elif options.pty:
        line = PtyLine(Path(options.pty))
    if line is not None:
        settings["line"] = line
    return node.meter(**settings)


def _faults(texts: list[str]) -> dict[int, str | bytes]:
    """Return the cycles and what befalls each; the simulator knows which there are."""
    from powersample import errors

    found: dict[int, str | bytes] = {}
    for text in texts:
        number, _, what = text.partition("=")
        if not number.isdecimal() or not what:
            raise errors.InvalidArgument(f"--fault {text}: write CYCLE=WHAT, as 100=unplug")
        if int(number) in found:
            raise errors.InvalidArgument(f"--fault {text}: something befalls cycle {int(number)} already")
        found[int(number)] = random.Random(number).randbytes(GARBAGE_BYTES) if what == "garbage" else what
    return found


def introduction(node: Node, meter: LmgSimulator, options: argparse.Namespace) -> str:
    """Return what to tell its user."""
    baud = options.baud or 115200
    on_tcp = options.tcp is not None
    address = node.address_of_meter()
    given = ",".join(f"{key}={value}" for key, value in address.options.items())
    if not on_tcp and baud != 115200:
        given = f"baud={baud},{given}"
    told = f"lmg450:{meter.address},{given}"
    load = ", ".join(options.load) or "idle"
    lines = [
        "SIMULATED METER LMG450, not a measurement",
        "",
        f"at the plug of the simulated node {node.name}; load: {load}",
        "",
        f"  {meter.address}" + ("" if on_tcp else f"   {baud} baud, 8N1, RTS/CTS, lines end in LF"),
        "",
        "powersample meets it, in another terminal, with",
        "",
        f"  powersample record --meter {shlex.quote(told)} \\",
        "      --duration 10 -o try.parquet",
        "",
        "Its first word is SCPI: *IDN?, then :SYST:LANG SHORT, CYCL 0.05, ACTN;COUNT?;CYCR?;P1?, CONT ON, CONT OFF.",
    ]
    end = f"Ends after {options.duration:g} s" if options.duration is not None else "Ends with Ctrl-C"
    return "\n".join([*lines, "", f"{end}, and then tells the exact energies."])
