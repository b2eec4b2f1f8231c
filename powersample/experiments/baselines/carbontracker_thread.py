# SPDX-License-Identifier: Apache-2.0
"""carbontracker's own measuring thread, with its readings stamped as they are taken.

Only its thread and its GPU component run: no intensity is looked up, nothing is logged to a file. Its handler calls
`nvmlDeviceGetPowerUsage` and the thread then sleeps the interval, so the period is the interval plus the work.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import MappingProxyType
from typing import Any

import numpy as np

from powersample import errors
from powersample.experiments.baselines import cpu
from powersample.experiments.baselines.base import Account, ByTrapezoid, Samples, mean_j
from powersample.experiments.baselines.binding import NvmlBinding
from powersample.experiments.baselines.quiet import silence, surroundings

START_S = 10.0


class CarbontrackerThread(ByTrapezoid):
    """Reads one GPU as carbontracker does.

    Args:
        library: Path of the NVML library; None takes the driver's.
        gpu: NVML index.
        interval_s: Its update_interval; 1 s is its own default.
        meaning: What PowerUsage tells on this board and driver, for `reads`.
    """

    name = "carbontracker"
    rule = "mean of the readings inside x the window's length; without one, of the last before it (PUE left out)"

    def __init__(
        self, library: str | os.PathLike[str] | None, gpu: int = 0, interval_s: float = 1.0, meaning: str = ""
    ) -> None:
        self.asked_hz = 1.0 / interval_s
        self.reads = f"PowerUsage ({meaning})" if meaning else "PowerUsage"
        self._binding, self._gpu, self._interval_s = NvmlBinding(library), gpu, interval_s
        self._t_ns: list[int] = []
        self._watts: list[float] = []
        self._log = _Log()
        self._thread: Any = None

    def start(self) -> None:
        """Start its thread.

        Raises:
            NotSupported: It is not installed, finds no GPU, or does not start; says what it said.
        """
        try:
            with silence():
                from carbontracker.components.component import create_components
                from carbontracker.tracker import CarbonTrackerThread
        except ImportError as error:
            raise errors.NotSupported(f"carbontracker is not installed ({error}); pip install carbontracker") from error
        self._binding.open()
        try:
            self._begin(create_components, CarbonTrackerThread)
        except errors.NotSupported:
            self._abandon()
            raise
        except Exception as error:  # whatever it raises is its reason
            self._abandon()
            raise errors.NotSupported(f"carbontracker does not work here: {type(error).__name__}: {error}") from error

    def _begin(self, create_components: Any, thread: Any) -> None:
        with surroundings({"CUDA_VISIBLE_DEVICES": str(self._gpu)}):  # it takes such numbers for NVML's
            components = create_components("gpu", pids=[os.getpid()], devices_by_pid=False, logger=self._log)
            if not components[0].available():
                raise errors.NotSupported("carbontracker finds no GPU here")
            self._hook(components[0].handler)
            self._thread = thread(
                components, self._log, ignore_errors=True, delete=lambda: None, update_interval=self._interval_s
            )
            started = self._log.started.wait(START_S)
        if not started:
            raise errors.NotSupported(f"carbontracker did not start: {self._log.trouble or 'it said nothing'}")
        self._thread.epoch_start()

    def _abandon(self) -> None:
        """End its thread, if it began, before the library goes that it reads by."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(Exception):
                thread.stop()
        self._binding.close()

    def _hook(self, handler: Any) -> None:
        """Stamp what its handler returns, and pass it on."""
        read = handler.power_usage

        def stamped() -> list[float]:
            watts: list[float] = read()
            self._t_ns.append(time.monotonic_ns())
            self._watts.append(watts[0])
            return watts

        handler.power_usage = stamped

    def stop(self) -> Samples:
        """Stop its thread; the CPU time is that thread's."""
        cpu_s, reason = float("nan"), None
        if self._thread is not None:
            if self._thread.is_alive():
                cpu_s = cpu.thread_s(self._thread.native_id)
            else:
                reason = f"its thread ended: {self._log.trouble or 'it said nothing'}"
            self._thread.epoch_end()
            self._thread.stop()
            self._binding.close()
        wrong = self._log.wrong
        if reason is None and wrong and not self._t_ns:
            reason = f"no reading succeeded: {next(iter(wrong))}"
        return Samples(
            np.array(self._t_ns, np.int64),
            np.array(self._watts, np.float64),
            cpu_s,
            sum(wrong.values()),
            reason,
            MappingProxyType(dict(wrong)),
        )

    def account(self, samples: Samples, start_ns: int, end_ns: int) -> Account:
        """Return its rule's energy: an epoch without a reading gets a copy of what was read last before it."""
        joules = mean_j(samples, start_ns, end_ns)
        if joules is None:
            before = samples.watts[samples.t_ns < start_ns]
            joules = float(before[-1]) * (end_ns - start_ns) / 1e9 if len(before) else None
        return Account(joules)


class _Log:
    """What carbontracker takes for its logger: keeps what it says of failures, prints nothing."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.trouble = ""
        self.wrong: dict[str, int] = {}

    def info(self, text: str) -> None:
        if text.startswith("Monitoring thread started"):
            self.started.set()

    def output(self, text: str, verbose_level: int = 0) -> None:
        pass

    def err_info(self, text: str) -> None:
        pass

    def err_warn(self, text: str) -> None:
        pass

    def err_critical(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = lines[0] if lines else "it said nothing"
        self.trouble = next((line for line in reversed(lines) if "Error" in line), said)
        self.wrong[said] = self.wrong.get(said, 0) + 1
