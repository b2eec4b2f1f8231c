# SPDX-License-Identifier: Apache-2.0
"""`nvidia-smi --query-gpu=power.draw -lms N`, NVIDIA's own program in its own loop."""

from __future__ import annotations

import calendar
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping

import numpy as np

from powersample import errors
from powersample._native.api import anchor
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.base import Samples


class NvidiaSmiLoop:
    """One nvidia-smi process that prints a line every so many milliseconds.

    Args:
        program: Path of nvidia-smi; None searches, see `find_nvidia_smi`.
        environment: Its whole environment; on a simulated node that names the stand-in's folder.
        gpu: NVML index.
        period_ms: The N of -lms; nvidia-smi sleeps so long after its work.
    """

    name = "nvidia-smi-lms"

    def __init__(
        self,
        program: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        gpu: int = 0,
        period_ms: int = 100,
    ) -> None:
        self.asked_hz = 1000.0 / period_ms
        self._program, self._gpu, self._period_ms = program, gpu, period_ms
        # Its stamps are local time to the millisecond; UTC spares us the zone.
        self._environment = {
            **(os.environ if environment is None else environment),
            "TZ": "UTC",
            "LC_ALL": "C",
        }
        self._lines: list[bytes] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process.

        Raises:
            NotSupported: There is no nvidia-smi, or it ends at once; says what it printed.
        """
        query = ["--query-gpu=timestamp,power.draw", "--format=csv,noheader,nounits"]
        program = find_nvidia_smi(self._program)
        try:
            self._process = subprocess.Popen(
                [program, *query, "-lms", str(self._period_ms), "-i", str(self._gpu)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise errors.NotSupported(f"{program} cannot be started: {error.strerror}") from error
        first = self._first_line(self._process)
        if b"," not in first:
            self._process.kill()
            out, _ = self._process.communicate()
            text = (first + out).decode("utf-8", "replace").strip().splitlines()
            self._process = None
            raise errors.NotSupported(f"{program} does not work here: {text[0] if text else 'it printed nothing'}")
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _first_line(self, process: subprocess.Popen[bytes], timeout_s: float = 10.0) -> bytes:
        """Wait for the first line; empty when none comes."""
        import select

        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], timeout_s)
        line = process.stdout.readline() if ready else b""
        self._lines.append(line)
        return line

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._lines.extend(process.stdout)

    def stop(self) -> Samples:
        """End the process and parse what it printed; cells that are no number count as errors."""
        process, cpu_s = self._process, float("nan")
        if process is not None and self._reader is not None:
            process.send_signal(signal.SIGTERM)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_s = usage.ru_utime + usage.ru_stime
            self._reader.join()
            assert process.stdout is not None
            process.stdout.close()
        return parse_lines(self._lines, cpu_s)


def parse_lines(lines: list[bytes], cpu_s: float) -> Samples:
    """Return the readings in nvidia-smi's `timestamp, power.draw` lines (UTC stamps, W without unit).

    `[N/A]`, `[GPU is lost]` and a cut last line count as errors.
    """
    now = anchor()
    t_ns: list[int] = []
    watts: list[float] = []
    failed = 0
    for line in lines:
        stamp, _, cell = line.decode("utf-8", "replace").strip().partition(", ")
        try:
            value = float(cell)
            seconds, _, fraction = stamp.partition(".")
            whole = calendar.timegm(time.strptime(seconds, "%Y/%m/%d %H:%M:%S"))
            unix_ns = whole * 1_000_000_000 + int(fraction) * 1_000_000
        except ValueError:
            failed += 1
            continue
        t_ns.append(unix_ns - now["realtime_ns"] + now["monotonic_ns"])
        watts.append(value)
    return Samples(np.array(t_ns, np.int64), np.array(watts, np.float64), cpu_s, failed)
