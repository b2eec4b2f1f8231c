# SPDX-License-Identifier: Apache-2.0
"""What `powersample top` costs: the view itself on a terminal of its own, its simulated node in another process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

from bench.figure import Bar, Figure, spread

NODE = "h100x8+intel_sprx2"
COLUMNS, ROWS = 120, 40
WARM_S, TURN_S = 6.0, 8.0
TICKS = os.sysconf("SC_CLK_TCK")


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the share of a core that the view takes at its default delay, and how much memory it grows by."""
    from powersample.session.simulate import make_node
    from powersample.session.standalone import environment_of

    turns = 2 if quick else 7
    shares_pct: list[float] = []
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(make_node(NODE))
        for gpu in range(8):
            node.load_wave(gpu, 300.0, 100.0, 7.0, 0.5)
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {**os.environ, **environment_of(node), "TERM": "xterm-256color"}
        command = [sys.executable, "-m", "powersample.cli", "top"]
        top = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        stack.callback(top.wait)
        stack.callback(top.terminate)
        os.close(theirs)
        _watch(ours, WARM_S)
        before_kb = _resident_kb(top.pid)
        for _ in range(turns):
            begun_s, used_s = time.monotonic(), _cpu_s(top.pid)
            _watch(ours, TURN_S)
            shares_pct.append(100 * (_cpu_s(top.pid) - used_s) / (time.monotonic() - begun_s))
        grown_mb = (_resident_kb(top.pid) - before_kb) / 1024
    where = f"{turns} turns of {TURN_S:g} s, stand-in: {NODE}, whose calls are free; {COLUMNS} x {ROWS}"
    notes = [where, f"quartiles {spread(shares_pct)}"]
    yield Figure("top", "CPU of `powersample top`, 8 GPUs, each second", "% core", Bar("<=", 3), shares_pct, notes)
    grown = [f"after {WARM_S:g} s, over {turns * TURN_S:g} s; forty seconds of readings are kept, and then no more"]
    yield Figure("top", "memory that the view grows by", "MB", None, [grown_mb], [where, *grown])


def _watch(terminal: int, seconds: float) -> None:
    """Take what is drawn, as a terminal does."""
    deadline = time.monotonic() + seconds
    while (left_s := deadline - time.monotonic()) > 0:
        if select.select([terminal], [], [], left_s)[0]:
            os.read(terminal, 1 << 16)


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
