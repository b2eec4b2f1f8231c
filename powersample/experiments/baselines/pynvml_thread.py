# SPDX-License-Identifier: Apache-2.0
"""A Python thread that polls `nvmlDeviceGetPowerUsage` through pynvml: what most tools do."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from types import MappingProxyType

import numpy as np

from powersample import errors
from powersample.experiments.baselines.base import ByTrapezoid, Samples
from powersample.experiments.baselines.binding import NvmlBinding


class PynvmlThread(ByTrapezoid):
    """Polls one GPU on a fixed grid from a thread of this interpreter.

    Args:
        library: Path of the NVML library; None takes the driver's.
        gpu: NVML index.
        asked_hz: Readings a second; infinite is back to back.
        meaning: What PowerUsage tells on this board and driver, for `reads`.
    """

    name = "pynvml-thread"

    def __init__(
        self,
        library: str | os.PathLike[str] | None,
        gpu: int = 0,
        asked_hz: float = 1000.0,
        meaning: str = "",
    ) -> None:
        self.asked_hz = asked_hz
        self.reads = f"PowerUsage ({meaning})" if meaning else "PowerUsage"
        self._binding, self._gpu = NvmlBinding(library), gpu
        self._t_ns: list[int] = []
        self._milliwatts: list[int] = []
        self._wrong: Counter[str] = Counter()
        self._cpu_s = 0.0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Initialise NVML and start the thread.

        Raises:
            NotSupported: pynvml or the library will not work here.
        """
        pynvml = self._binding.open()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._gpu)
        except pynvml.NVMLError as error:
            self._binding.close()
            raise errors.NotSupported(f"NVML refuses: {error}") from error
        self._thread = threading.Thread(target=self._loop, args=(pynvml, handle), daemon=True)
        self._thread.start()

    def _loop(self, pynvml: object, handle: object) -> None:
        read, failure = pynvml.nvmlDeviceGetPowerUsage, pynvml.NVMLError  # type: ignore[attr-defined]
        period_s = 1.0 / self.asked_hz
        begin_cpu_s, due_s = time.thread_time(), time.monotonic()
        while not self._end.is_set():
            try:
                milliwatts = read(handle)
                self._t_ns.append(time.monotonic_ns())
                self._milliwatts.append(milliwatts)
            except failure as error:
                self._wrong[str(error)] += 1
            due_s = max(due_s + period_s, time.monotonic())  # late: go on from now, as such loops do
            time.sleep(max(0.0, due_s - time.monotonic()))
        self._cpu_s = time.thread_time() - begin_cpu_s

    def stop(self) -> Samples:
        """Stop the thread and return its readings; their CPU time is the thread's own, without NVML's start."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._binding.close()
        lost = bool(self._wrong) and not self._t_ns
        return Samples(
            np.array(self._t_ns, np.int64),
            np.array(self._milliwatts, np.float64) / 1000,
            self._cpu_s,
            self._wrong.total(),
            f"no reading succeeded: {self._wrong.most_common(1)[0][0]}" if lost else None,
            MappingProxyType(dict(self._wrong)),
        )
