# SPDX-License-Identifier: Apache-2.0
"""`nvidia-smi --query-gpu=power.draw -lms N`, NVIDIA's own program in its own loop."""

from __future__ import annotations

import calendar
import os
import select
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from powersample import errors
from powersample._native.api import anchor
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.base import ByTrapezoid, Samples
from powersample.experiments.baselines.process import DEADLINE_S, kill, launch, reap
from powersample.experiments.baselines.spawn import SMI_FIELD, watts_of

QUERY = ("--query-gpu=timestamp,power.draw", "--format=csv,noheader,nounits")


class NvidiaSmiLoop(ByTrapezoid):
    """One nvidia-smi process that prints a line every so many milliseconds.

    Args:
        program: Path of nvidia-smi; None searches, see `find_nvidia_smi`.
        environment: Its whole environment; on a simulated node that names the stand-in's folder.
        gpu: NVML index.
        period_ms: The N of -lms; nvidia-smi sleeps so long after its work.
        deadline_s: Silence beyond the period after which it is killed with its group.
        meaning: What PowerUsage tells on this board and driver, for `reads`.
    """

    name = "nvidia-smi-lms"

    def __init__(
        self,
        program: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        gpu: int = 0,
        period_ms: int = 100,
        deadline_s: float = DEADLINE_S,
        meaning: str = "",
    ) -> None:
        self.asked_hz = 1000.0 / period_ms
        self.reads = f"{SMI_FIELD} ({meaning})" if meaning else SMI_FIELD
        self._program, self._gpu, self._period_ms = program, gpu, period_ms
        self._silence_s = deadline_s + period_ms / 1e3
        # Its stamps are local time to the millisecond; UTC spares us the zone.
        self._environment = {
            **(os.environ if environment is None else environment),
            "TZ": "UTC",
            "LC_ALL": "C",
        }
        self._lines: list[bytes] = []
        self._reason: str | None = None
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process.

        Raises:
            NotSupported: There is no nvidia-smi, it ends at once or prints nothing; says what it printed.
        """
        program = find_nvidia_smi(self._program)
        self._process = launch([program, *QUERY, "-lms", str(self._period_ms), "-i", str(self._gpu)], self._environment)
        first = self._line(self._process, b"")
        if b"," not in first:
            kill(self._process)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
            said = first.decode("utf-8", "replace").strip() or "it printed nothing"
            raise errors.NotSupported(f"{program} does not work here: {said}")
        self._lines.append(first)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _line(self, process: subprocess.Popen[bytes], rest: bytes) -> bytes:
        """Return what is there once it holds a whole line, or the output's end or a silence came."""
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        while b"\n" not in rest:
            ready, _, _ = select.select([descriptor], [], [], self._silence_s)
            piece = os.read(descriptor, 1 << 16) if ready else b""
            if not piece:
                break
            rest += piece
        return rest

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        while True:
            ready, _, _ = select.select([descriptor], [], [], self._silence_s)
            if not ready:
                self._reason = f"nvidia-smi hung: no line for {self._silence_s:g} s, killed"
                os.killpg(process.pid, signal.SIGKILL)  # not reaped before `stop`: the number is still its own
                return
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                if not self._ending:
                    self._reason = "nvidia-smi ended by itself"
                return
            self._lines.append(piece)

    def stop(self) -> Samples:
        """End the process and parse what it printed; cells that are no number count as errors."""
        process, cpu_s = self._process, float("nan")
        if process is not None and self._reader is not None:
            self._ending = True
            os.killpg(process.pid, signal.SIGTERM)  # Popen's own would reap it first: its CPU time would be gone
            code, cpu_s = reap(process, time.monotonic() + 1.0)
            if code is None:  # hung, or deaf to SIGTERM
                code, cpu_s = kill(process)
            self._reader.join(self._silence_s)
            assert process.stdout is not None
            process.stdout.close()
            self._process = None
            if self._reason is not None and code is not None and code > 0:
                self._reason += f" with exit code {code}"
        found = parse_lines(b"".join(self._lines).splitlines(keepends=True), cpu_s)
        reason = self._reason
        if reason is None and not len(found.t_ns) and found.wrong:
            reason = f"no line holds a reading: {max(found.wrong, key=lambda text: found.wrong[text])}"
        return Samples(found.t_ns, found.watts, found.cpu_s, found.errors, reason, found.wrong)


def parse_lines(lines: Sequence[bytes], cpu_s: float) -> Samples:
    """Return the readings in nvidia-smi's `timestamp, power.draw` lines (UTC stamps, W without unit).

    `[N/A]`, `[GPU is lost]`, decimal commas and a cut last line count as errors.
    """
    now = anchor()
    t_ns: list[int] = []
    watts: list[float] = []
    wrong: Counter[str] = Counter()
    for line in lines:
        stamp, _, cell = line.decode("utf-8", "replace").strip().partition(", ")
        try:
            value = watts_of(cell)
            seconds, _, fraction = stamp.partition(".")
            whole = calendar.timegm(time.strptime(seconds, "%Y/%m/%d %H:%M:%S"))
            unix_ns = whole * 1_000_000_000 + int(fraction) * 1_000_000
        except ValueError as error:
            wrong[str(error)] += 1
            continue
        t_ns.append(unix_ns - now["realtime_ns"] + now["monotonic_ns"])
        watts.append(value)
    return Samples(
        np.array(t_ns, np.int64),
        np.array(watts, np.float64),
        cpu_s,
        wrong.total(),
        None,
        MappingProxyType(dict(wrong)),
    )
