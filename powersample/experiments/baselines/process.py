# SPDX-License-Identifier: Apache-2.0
"""A program run to its end under a deadline, and its CPU time: children and grandchildren included.

What wait4 tells of an ended process is its own CPU time and that of all descendants that were waited for by their
parents, to the scheduler's precision. Descendants that were left behind, to be reaped by init, are not in it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from powersample import errors

DEADLINE_S = 10.0
AFTER_KILL_S = 1.0  # a process that survives SIGKILL for so long is stuck inside a driver


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        out: What it printed, standard error included.
        code: Exit code; negative is the signal; None when it could not even be killed.
        cpu_s: Its CPU time; NaN when it could not be killed.
        late: Whether it was killed at the deadline.
    """

    out: bytes
    code: int | None
    cpu_s: float
    late: bool

    def trouble(self, program: str, deadline_s: float) -> str | None:
        """Return in words what went wrong, or None."""
        if self.code is None:
            return f"{program} hung for {deadline_s:g} s and cannot be killed: it is stuck inside the driver"
        if self.late:
            return f"{program} hung and was killed after {deadline_s:g} s"
        if self.code != 0:
            end = f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
            lines = self.out.decode("utf-8", "replace").split("\n")
            said = next((line.strip() for line in lines if line.strip()), "it printed nothing")
            return f"{program} ended with {end}: {said}"
        return None


def launch(arguments: Sequence[str | os.PathLike[str]], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, its output in one pipe.

    Raises:
        NotSupported: It cannot be started; says why.
    """
    try:
        return subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except OSError as error:
        raise errors.NotSupported(f"{os.fspath(arguments[0])} cannot be started: {error.strerror}") from error


def run(
    arguments: Sequence[str | os.PathLike[str]], environment: Mapping[str, str], deadline_s: float = DEADLINE_S
) -> Finished:
    """Run a program to its end, or kill its whole process group at the deadline.

    Raises:
        NotSupported: It cannot be started.
    """
    due_s = time.monotonic() + deadline_s
    process = launch(arguments, environment)
    assert process.stdout is not None
    out, ended = _read(process.stdout.fileno(), due_s)
    code, cpu_s = reap(process, due_s) if ended else (None, float("nan"))
    late = code is None
    if late:
        code, cpu_s = kill(process)
    process.stdout.close()
    return Finished(out, code, cpu_s, late)


def _read(descriptor: int, due_s: float) -> tuple[bytes, bool]:
    """Return what comes until the end of the output or the deadline, and whether the end came."""
    pieces: list[bytes] = []
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(0.0, due_s - time.monotonic()) * 1e3):
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
    return b"".join(pieces), False


def read_line(descriptor: int, due_s: float) -> bytes | None:
    """Return the next line; at the end of the output what is left of it; None at the deadline.

    For programs that print a line and then wait: what they print beyond it is returned with it.
    """
    line = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not line.endswith(b"\n"):
        if not poll.poll(max(0.0, due_s - time.monotonic()) * 1e3):
            return None
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            break
        line += piece
    return line


def reap(process: subprocess.Popen[bytes], due_s: float) -> tuple[int | None, float]:
    """Wait for the process until `due_s` of time.monotonic(); return exit code and CPU time, or (None, NaN)."""
    pause_s = 1e-4
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_utime + usage.ru_stime
        left_s = due_s - time.monotonic()
        if left_s <= 0:
            return None, float("nan")
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, 0.01)


def kill(process: subprocess.Popen[bytes]) -> tuple[int | None, float]:
    """Kill the process and its group; return exit code and CPU time, or (None, NaN) when even that does not help."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    code, cpu_s = reap(process, time.monotonic() + AFTER_KILL_S)
    if code is None:
        process.returncode = -signal.SIGKILL  # nobody's any more: subprocess must not warn of it
    return code, cpu_s
