# SPDX-License-Identifier: Apache-2.0
"""Who takes part in a race: native recordings and re-created baselines, behind one interface."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from powersample import errors
from powersample.experiments.baselines import BASELINES, Target, baselines_for
from powersample.experiments.method import method_of_samples, method_of_trace, rate_or_none
from powersample.session.recording import Recording, spool_of

if TYPE_CHECKING:
    from powersample.experiments.baselines import Baseline, Samples
    from powersample.experiments.method import Cost, Lap, Method
    from powersample.experiments.race.ground import Ground
    from powersample.experiments.race.setup import Setup
    from powersample.model import Trace

NATIVE = {"native": ("paced", True), "native-follow": ("follow", True), "native-binary": ("paced", False)}
# What a baseline reads where that is not what PowerUsage answers with, as a sensor of `Ground.published`.
SENSORS = {"pynvml-instant": "instant", "codecarbon": "energy", "zeus": "instant"}
METHODS = (*NATIVE, *BASELINES)


class Entrant(Protocol):
    """One method, for one use. `quit` may follow anything, also a failed `start`."""

    @property
    def name(self) -> str:
        """As in the machine-readable output."""

    @property
    def reads(self) -> str:
        """What it reads, in plain words."""

    @property
    def asked_hz(self) -> float | None:
        """Readings a second it tries for; None where it does not go by a rate, or not until it runs."""

    def start(self) -> None:
        """Begin to sample; any `PowerSampleError` is the reason why it cannot."""

    def stop(self) -> None:
        """End, and keep what there is."""

    def quit(self) -> None:
        """End, and leave nothing behind."""

    def method(self, lap: Lap, cost: Cost | None) -> Method:
        """Return what it makes of a lap, after `stop`."""


def enter(name: str, setup: Setup, ground: Ground, folder: Path) -> Entrant:
    """Return a method ready to start; its files go under `folder`."""
    if name in NATIVE:
        return Native(name, setup, ground, folder)
    at = Target(ground.nvml_library, ground.environment, setup.gpu, setup.nvidia_smi, ground.power_usage_meaning)
    (baseline,) = baselines_for(at, [name])
    return Sampled(baseline, ground)


class Native:
    """The native sampler, in process or as its executable."""

    def __init__(self, name: str, setup: Setup, ground: Ground, folder: Path) -> None:
        self.name = name
        self.reads, self.asked_hz = "the board's channels", None
        self._mode, self._in_process = NATIVE[name]
        self._gpu, self._ground, self._output = setup.gpu, ground, folder / f"{name}.parquet"
        self._recording: Recording | None = None
        self._trace: Trace | None = None

    def start(self) -> None:
        """Start its lanes."""
        self._recording = self._ground.recording(self._output, mode=self._mode, in_process=self._in_process)
        self._recording.start()

    def stop(self) -> None:
        """End them, and open the trace."""
        assert self._recording is not None
        self._trace = self._recording.finish()

    def quit(self) -> None:
        """End them, and remove what was written."""
        if self._recording is not None:
            self._recording.discard()
        shutil.rmtree(spool_of(self._output), ignore_errors=True)
        self._output.unlink(missing_ok=True)

    def method(self, lap: Lap, cost: Cost | None) -> Method:
        """Return the energies with their intervals; where the counter is the reference they are the power's own."""
        assert self._trace is not None
        return method_of_trace(
            self.name,
            self._trace,
            lap,
            self._ground.published(lap.run, "instant"),
            cost,
            gpu=self._gpu,
            counter=not self._ground.counter_is_reference,
        )


class Sampled:
    """A baseline."""

    def __init__(self, baseline: Baseline, ground: Ground) -> None:
        self.name, self.asked_hz = baseline.name, rate_or_none(baseline)
        self._baseline, self._ground = baseline, ground
        self._samples: Samples | None = None
        self._running = False

    @property
    def reads(self) -> str:
        """Return what it reads; some know only when they have started."""
        return self._baseline.reads

    def start(self) -> None:
        """Start it; one that a Ctrl-C interrupts is half there, and ended by `quit`."""
        self._running = True
        try:
            self._baseline.start()
        except errors.PowerSampleError:
            self._running = False
            raise

    def stop(self) -> None:
        """End it."""
        self._running = False
        self._samples = self._baseline.stop()

    def quit(self) -> None:
        """End it if it runs."""
        if self._running:
            with contextlib.suppress(Exception):  # whatever a half-started one says
                self.stop()

    def method(self, lap: Lap, cost: Cost | None) -> Method:
        """Return what its samples make of a lap."""
        assert self._samples is not None
        published_ns = self._ground.published(lap.run, SENSORS.get(self.name, "usage"))
        return method_of_samples(self._baseline, self._samples, lap, published_ns, cost)
