# SPDX-License-Identifier: Apache-2.0
"""Zeus's PowerMonitor: a spawned Python process that polls and sends changed values through a queue.

What it keeps are changes of the value, stamped with the wall clock before the call. Its energy is its own `get_energy`,
the trapezoid over the changes inside a window: a value that holds is a missing point, and a window with fewer than two
changes is 0 J. ZeusMonitor, its other way, reads the energy counter at a window's edges and samples nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from powersample import errors
from powersample._native.api import anchor
from powersample.experiments.baselines import cpu
from powersample.experiments.baselines.base import Account, ByTrapezoid, Samples
from powersample.experiments.baselines.binding import NvmlBinding
from powersample.experiments.baselines.quiet import deaf_children, silence, surroundings

CHANGES = "keeps changes of the value only, which are what is counted as its polls"
FIELDS = {"device_instant": "field 186", "device_average": "field 185"}


class ZeusMonitor(ByTrapezoid):
    """Reads one GPU as Zeus's PowerMonitor does.

    Args:
        library: Path of the NVML library; None takes the driver's.
        environment: What a child needs for its NVML to be that library.
        gpu: NVML index.
        period_s: Its update_period; 0.05 s is the shortest of which it does not warn. Left to itself, version 0.16
            polls without a pause.
    """

    name = "zeus"
    reads = f"field 186, or 185 where there is none; {CHANGES}"
    rule = "its own get_energy: trapezoid over the changes inside the window, 0 J with fewer than two"
    changes_only = True

    def __init__(
        self,
        library: str | os.PathLike[str] | None,
        environment: Mapping[str, str] | None = None,
        gpu: int = 0,
        period_s: float = 0.05,
    ) -> None:
        self.asked_hz = 1.0 / period_s
        self._binding, self._gpu, self._period_s = NvmlBinding(library), gpu, period_s
        self._environment = environment or {}
        self._monitor: Any = None
        self._domain, self._begun_s = "", 0.0

    def start(self) -> None:
        """Start its process and wait until it polls.

        Raises:
            NotSupported: It is not installed, finds no GPU, or its process does not start; says what it said.
        """
        try:
            with silence():
                import zeus.device.gpu as devices
                from zeus.monitor.power import PowerMonitor
        except ImportError as error:
            raise errors.NotSupported(f"Zeus is not installed ({error}); pip install zeus") from error
        self._binding.open()
        path = {name: self._environment[name] for name in ("LD_LIBRARY_PATH",) if name in self._environment}
        reasons = []
        try:
            with silence(), surroundings(path), deaf_children():
                devices._gpus = None  # it keeps the boards that it found first, whatever became of them
                for domain in FIELDS:
                    try:
                        self._monitor = PowerMonitor([self._gpu], self._period_s, power_domains=[domain])
                        self._domain = domain
                        break
                    except ValueError as error:  # the board has no such field
                        reasons.append(str(error))
        except Exception as error:  # whatever it raises is its reason
            reasons.append(f"{type(error).__name__}: {error}")
        if self._monitor is None:
            self._binding.close()
            raise errors.NotSupported(f"Zeus does not work here: {reasons[-1]}")
        self._begun_s = self._spent_s()
        self.reads = f"{FIELDS[self._domain]}; {CHANGES}"

    def _spent_s(self) -> float:
        return sum(cpu.process_s(process.pid) for process in self._monitor.processes.values())

    def stop(self) -> Samples:
        """Stop its process; the CPU time is that process's since it was ready, without its imports (seconds)."""
        nothing = Samples(np.empty(0, np.int64), np.empty(0), float("nan"), 0, "it did not run")
        if self._monitor is None:
            return nothing
        processes = list(self._monitor.processes.values())
        died = [process for process in processes if not process.is_alive()]
        cpu_s = self._spent_s() - self._begun_s
        try:
            self._monitor._process_all_queue_data()
            self._monitor.stop()
            ((_, timeline),) = self._monitor.get_power_timeline(self._domain, self._gpu).items()
        finally:
            self._binding.close()
        now = anchor()
        shift_ns = now["monotonic_ns"] - now["realtime_ns"]
        reason = f"its process ended with exit code {died[0].exitcode}" if died else None
        return Samples(
            np.array([round(t_s * 1e9) + shift_ns for t_s, _ in timeline], np.int64),
            np.array([watts for _, watts in timeline], np.float64),
            cpu_s,
            0,
            reason,
        )

    def account(self, samples: Samples, start_ns: int, end_ns: int) -> Account:
        """Return what its `get_energy` answers, 0 J included."""
        if self._monitor is None:
            return Account(None)
        now = anchor()
        shift_ns = now["realtime_ns"] - now["monotonic_ns"]
        found = self._monitor.get_energy((start_ns + shift_ns) / 1e9, (end_ns + shift_ns) / 1e9)
        return Account(None if found is None else float(found[self._gpu]))
