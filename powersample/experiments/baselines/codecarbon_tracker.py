# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon's offline tracker: timers of this interpreter that read the GPU's energy counter.

Run without location, intensity, cloud, telemetry or files. Each tick is a new `threading.Timer`, begun when the last
one fires, so that late ticks move all that follow. It finds a GPU only if `nvidia-smi --help` runs on PATH.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from powersample import errors
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.base import Account, ByTrapezoid, Samples
from powersample.experiments.baselines.binding import NvmlBinding
from powersample.experiments.baselines.quiet import silence, surroundings

KWH_J = 3.6e6


class CodecarbonTracker(ByTrapezoid):
    """Reads one GPU as CodeCarbon does.

    Args:
        library: Path of the NVML library; None takes the driver's.
        gpu: NVML index.
        period_s: Its measure_power_secs: 0.1 s in the paper, 15 s by itself.
        nvidia_smi: Path of nvidia-smi; None searches, see `find_nvidia_smi`.
    """

    name = "codecarbon"
    reads = "the energy counter; PowerUsage where the board has none"
    rule = "its own account of the GPU's energy, a line between its ticks"

    def __init__(
        self,
        library: str | os.PathLike[str] | None,
        gpu: int = 0,
        period_s: float = 0.1,
        nvidia_smi: str | os.PathLike[str] | None = None,
    ) -> None:
        self.asked_hz = 1.0 / period_s
        self._binding, self._gpu, self._period_s = NvmlBinding(library), gpu, period_s
        self._program = nvidia_smi
        self._t_ns: list[int] = []
        self._watts: list[float] = []
        self._joules: list[float] = []
        self._cpu_s = 0.0
        self._tracker: Any = None

    def start(self) -> None:
        """Start the tracker.

        Raises:
            NotSupported: It is not installed, or finds no GPU; says why.
        """
        path = f"{find_nvidia_smi(self._program).parent}:{os.environ.get('PATH', '')}"
        pynvml = self._binding.open()
        try:
            with silence(), tempfile.TemporaryDirectory(prefix="powersample-") as folder:
                with surroundings({"PATH": path}):
                    tracker = _tracker(pynvml, folder, self._period_s, self._gpu)
                    tracker._ensure_hardware_ready()
                if not any(type(hardware).__name__ == "GPU" for hardware in tracker._hardware):
                    raise errors.NotSupported("CodeCarbon finds no GPU here")
                self._hook(tracker)
                self._tracker = tracker
                tracker.start()
        except errors.NotSupported:
            self._abandon()
            raise
        except Exception as error:  # whatever it raises is its reason
            self._abandon()
            raise errors.NotSupported(f"CodeCarbon does not work here: {type(error).__name__}: {error}") from error

    def _abandon(self) -> None:
        """End its timers, if they began, before the library goes that they read by."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            for timer in (tracker._scheduler, tracker._scheduler_monitor_power):
                with contextlib.suppress(Exception):
                    timer.stop()
        self._binding.close()

    def _hook(self, tracker: Any) -> None:
        """Note time, power and account after every one of its measurements, and the CPU time of its timers."""
        measure, watch = tracker._measure_power_and_energy, tracker._monitor_power

        def measured() -> None:
            measure()
            self._t_ns.append(time.monotonic_ns())
            self._watts.append(tracker._gpu_power.W)
            self._joules.append(tracker._total_gpu_energy.kWh * KWH_J)

        def ticked() -> None:
            measured()
            self._cpu_s += time.thread_time()  # the timer's thread began with this tick and ends with it

        def watched() -> None:
            watch()
            self._cpu_s += time.thread_time()

        tracker._measure_power_and_energy = measured  # what its start and stop call
        tracker._scheduler.function = ticked
        tracker._scheduler_monitor_power.function = watched

    def stop(self) -> Samples:
        """Take a last measurement and stop; the CPU time is its timers', its start left out."""
        tracker = self._tracker
        if tracker is not None:
            self._tracker = None
            tracker._scheduler.stop()
            tracker._scheduler_monitor_power.stop()
            tracker._measure_power_and_energy()
            self._binding.close()
        order = np.argsort(np.array(self._t_ns, np.int64), kind="stable")
        return Samples(np.array(self._t_ns, np.int64)[order], np.array(self._watts)[order], self._cpu_s, 0)

    def account(self, samples: Samples, start_ns: int, end_ns: int) -> Account:
        """Return its account's growth over the window; None when its ticks do not surround half of it."""
        if len(samples.t_ns) < 2:
            return Account(None)
        seen_ns = min(end_ns, int(samples.t_ns[-1])) - max(start_ns, int(samples.t_ns[0]))
        if 2 * seen_ns < end_ns - start_ns:
            return Account(None)
        at = np.interp([start_ns, end_ns], samples.t_ns.astype(np.float64), np.sort(self._joules))
        return Account(float(at[1] - at[0]))


def _tracker(pynvml: Any, folder: str, period_s: float, gpu: int) -> Any:
    logging.getLogger("codecarbon").disabled = True  # it warns as it is imported, and sets its own level
    try:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.core import gpu as gpus
        from codecarbon.core import gpu_nvidia, hardware_cache
    except ImportError as error:
        raise errors.NotSupported(f"CodeCarbon is not installed ({error}); pip install codecarbon") from error
    # Both are decided as it is imported, and that may have been before there was a library.
    for module in (gpu_nvidia, gpus):
        vars(module).update(pynvml=pynvml, PYNVML_AVAILABLE=True)
    gpu_nvidia.clear_nvidia_system_cache()
    hardware_cache._plans.clear()
    return OfflineEmissionsTracker(
        country_iso_code="USA",
        measure_power_secs=period_s,
        output_dir=str(Path(folder)),
        output_methods=[],
        api_call_interval=-1,
        emissions_endpoint=False,
        gpu_ids=[gpu],
        tracking_mode="machine",
        log_level="critical",
        force_cpu_power=1,  # a constant, so that it does not search for CPU, RAM and their registers
        force_ram_power=1,
        pue=1.0,
        wue=0.0,
        allow_multiple_runs=True,
    )
