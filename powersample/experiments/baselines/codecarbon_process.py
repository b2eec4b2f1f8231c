# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon's own tracker on a simulated node: all of it, RAPL, NVML, memory rule and emissions.csv.

It reads /sys/class/powercap and /proc/meminfo, whatever it is told. So it runs in a process with a mount namespace of
its own, in which the node's folder lies over /sys and a file with the node's memory over /proc/meminfo, and in an empty
network namespace. Nobody else sees them. Root may do that, and mostly an ordinary user, too (in a user namespace); a
container may forbid it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from powersample import errors
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.process import DEADLINE_S, kill, read_line, reap, run
from powersample.formats.codecarbon import CarbonRow, parse_rows
from powersample.sim import Node

CHILD = "powersample.experiments.baselines.codecarbon_child"
WAIT_S = 60.0  # for its begin, and again for its end: more, and it hangs
SAID = "said.txt"
COUNTRY = "USA"  # for its emission factor, which nothing here looks at
NAMESPACES = ("--mount", "--net", "--propagation", "private")
MOUNTS = 'mount --bind "$1" /sys && mount --bind "$2" /proc/meminfo && shift 2 && exec "$@"'
MEASURED = "intel_rapl"  # its CPU's mode where that is measured


@dataclass(frozen=True, slots=True)
class CodecarbonRun:
    """What it said of one run.

    Attributes:
        row: its line of the emissions.csv.
        start_ns: when its account began, CLOCK_MONOTONIC; it ends `row.duration_s` later.
        cpu_mode: "rapl", or its own word for how it came by the CPU's power.
        text: the emissions.csv.
        notes: what to know of how it ran.
    """

    row: CarbonRow
    start_ns: int
    cpu_mode: str
    text: str
    notes: tuple[str, ...]

    @property
    def end_ns(self) -> int:
        """When its account ended, CLOCK_MONOTONIC."""
        return self.start_ns + round((self.row.duration_s or 0.0) * 1e9)


class CodecarbonProcess:
    """Tracks a node with CPUs from `start` to `stop`; `close` ends it early. A context manager.

    Args:
        node: the simulated node.
        interval_s: its measure_power_secs.
        memory_gib: the node's memory; None: this machine's own.
        nvidia_smi: path of nvidia-smi, which it wants to run once; None looks for one, see `find_nvidia_smi`.
    """

    def __init__(
        self,
        node: Node,
        interval_s: float = 0.1,
        memory_gib: float | None = None,
        nvidia_smi: str | os.PathLike[str] | None = None,
    ) -> None:
        self._node, self._interval_s, self._memory_gib, self._program = node, interval_s, memory_gib, nvidia_smi
        self._folder = tempfile.TemporaryDirectory(prefix="powersample-codecarbon-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._start_ns = 0
        self._notes: tuple[str, ...] = ()

    def start(self) -> None:
        """Start it, and return when its account has begun.

        Raises:
            NotSupported: it is not installed, namespaces are not allowed here, it finds no devices, or hangs; says why.
        """
        sysfs = self._node.sysfs
        if sysfs is None:
            raise errors.NotSupported("this simulated node has no CPUs, so CodeCarbon would guess theirs")
        command = [*_unshare(sysfs), "sh", "-c", MOUNTS, "sh", os.fspath(sysfs), os.fspath(self._meminfo())]
        arguments = [self._folder.name, str(self._interval_s), COUNTRY]
        with (Path(self._folder.name) / SAID).open("wb") as said:  # a pipe that nobody reads would fill up
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", CHILD, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=self._folder.name,
                env=self._environment(),
                process_group=0,
            )
        told = self._line()
        if "missing" in told:
            self.close()
            raise errors.NotSupported(f"CodeCarbon is not installed ({told['missing']}); pip install codecarbon")
        self._start_ns = int(told["start_ns"])

    def stop(self) -> CodecarbonRun:
        """End it, and return what it said.

        Raises:
            NotSupported: it left no line, or hangs.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise errors.StateError("CodeCarbon was not started")
        process.stdin.close()
        told = self._line()
        code, _ = reap(process, time.monotonic() + WAIT_S)
        self._end()
        if code is None:
            raise self._hung()
        path = Path(self._folder.name) / "emissions.csv"
        if not path.exists():
            raise errors.NotSupported("CodeCarbon ended without an emissions.csv")
        text = path.read_text()
        rows, _ = parse_rows(text.encode(), "emissions.csv")
        mode = "rapl" if told["cpu"] == MEASURED else str(told["cpu"])
        return CodecarbonRun(rows[-1], self._start_ns, mode, text, self._notes)

    def close(self) -> None:
        """End it, if it runs, and remove its folder; harmless twice."""
        self._end()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _line(self) -> Mapping[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        line = read_line(process.stdout.fileno(), time.monotonic() + WAIT_S)
        if line:
            told: dict[str, Any] = json.loads(line)
            return told
        self._end()
        if line is None:
            raise self._hung()
        raise errors.NotSupported(f"CodeCarbon does not run on the simulated node here: {self._last_said()}")

    def _end(self) -> None:
        """Kill it and what it started, unless it has ended; give its pipes back."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            kill(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _hung(self) -> errors.NotSupported:
        return errors.NotSupported(f"CodeCarbon hung for {WAIT_S:g} s and was ended: {self._last_said()}")

    def _last_said(self) -> str:
        said = (Path(self._folder.name) / SAID).read_text(errors="replace")
        return next((one for one in reversed(said.splitlines()) if one.strip()), "it said nothing")

    def _environment(self) -> dict[str, str]:
        """Return a home without settings of its own, the node's library, and a path with an nvidia-smi."""
        try:
            folder = find_nvidia_smi(self._program).parent
        except errors.NotSupported:
            if self._program is not None:
                raise
            folder = Path(self._folder.name) / "bin"
            folder.mkdir(exist_ok=True)
            (folder / "nvidia-smi").write_text("#!/bin/sh\n")
            (folder / "nvidia-smi").chmod(0o755)
            self._notes += ("no nvidia-smi here: CodeCarbon, which asks only whether one runs, met an empty script",)
        path = f"{folder}:{os.environ.get('PATH', os.defpath)}"
        root = os.fspath(Path(__file__).parents[3])  # where this package lies, whatever folder it is run in
        search = os.pathsep.join(one for one in (root, os.environ.get("PYTHONPATH")) if one)
        return {**os.environ, **self._node.environment(), "PATH": path, "HOME": self._folder.name, "PYTHONPATH": search}

    def _meminfo(self) -> Path:
        """Return a file like /proc/meminfo, of the node's memory."""
        path = Path(self._folder.name) / "meminfo"
        lines = Path("/proc/meminfo").read_text().splitlines()
        if self._memory_gib is not None:
            total_kb = round(self._memory_gib * 2**20)
            lines = [f"MemTotal: {total_kb:>15} kB" if one.startswith("MemTotal:") else one for one in lines]
        path.write_text("\n".join(lines) + "\n")
        return path


def _unshare(folder: Path) -> list[str]:
    """Return the command that gives a program namespaces of its own, in which a folder may lie over /sys.

    Raises:
        NotSupported: neither root's way nor a user's is open.
    """
    program = shutil.which("unshare")
    if program is None:
        raise errors.NotSupported("there is no unshare here (util-linux), which gives CodeCarbon a /sys of its own")
    said = ""
    for way in ([program, *NAMESPACES], [program, "--user", "--map-root-user", *NAMESPACES]):
        probe = [*way, "sh", "-c", 'mount --bind "$1" /sys', "sh", os.fspath(folder)]
        done = run(probe, os.environ, DEADLINE_S)
        trouble = done.trouble("unshare", DEADLINE_S)
        if trouble is None:
            return way
        said = trouble
    raise errors.NotSupported(f"no mount namespace of its own is allowed here: {said or 'no reason given'}")
