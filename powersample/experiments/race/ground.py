# SPDX-License-Identifier: Apache-2.0
"""Where a race takes place and what is known there for sure: a simulated node's truth, or a GPU's energy counter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from powersample import errors
from powersample.analysis import channel_energy
from powersample.capture import Plan, discover, plan_with_defaults
from powersample.experiments.method import Lap
from powersample.session.recording import Recording
from powersample.session.simulate import make_node, simulated_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from powersample.experiments.race.setup import Setup
    from powersample.experiments.workload import Trained
    from powersample.model import Energy, Trace, Window
    from powersample.sim import Node

NODE = "h100"  # without a GPU, and unless another is named


class Ground(Protocol):
    """Where a race takes place."""

    headline: str
    reference: str
    simulated: bool
    nvml_library: str | os.PathLike[str] | None
    environment: Mapping[str, str]
    power_usage_meaning: str
    counter_is_reference: bool
    node: Node | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def describe(self) -> dict[str, Any]:
        """Return what it is, ready for JSON."""

    def recording(self, output: Path, *, mode: str = "paced", in_process: bool = True) -> Recording:
        """Return a native recording of the GPU, to be started."""

    def begin(self, folder: Path) -> None:
        """Begin to observe a lap."""

    def lap(self, trained: Trained) -> Lap:
        """End to observe, and return what the lap was for certain."""

    def published(self, run: Window, sensor: str) -> NDArray[np.int64] | None:
        """Return when a sensor ("instant", "usage" or "energy") published; None where nobody knows."""


def ground_for(setup: Setup) -> Ground:
    """Return the ground that `setup` means: a node, or this machine's GPU, or a node where it has none.

    Raises:
        InvalidArgument: An unknown node; an option that only a simulated node can follow, on a real GPU.
        NothingMeasurable: The library that was named shows no GPU.
    """
    if setup.wants_node and setup.nvml_library is None:
        return SimulatedGround(setup, setup.simulate or NODE)
    if setup.wants_node:
        raise errors.InvalidArgument("--board and --latency are for a simulated node; add --simulate h100")
    plan = _plan(setup)
    try:
        return CounterGround(setup, plan)
    except errors.NothingMeasurable:
        if setup.nvml_library is not None or setup.gpu:
            raise
        return SimulatedGround(setup, NODE, note="no GPU here: ")


def _plan(setup: Setup) -> Plan:
    from powersample.store.config import load_configuration

    given: dict[str, Any] = {"gpus": (str(setup.gpu),), "sources": ("nvml",)}
    if setup.nvml_library is not None:
        given["nvml_library"] = os.fspath(setup.nvml_library)
    return plan_with_defaults(given, load_configuration(), keys=("nvml_library",))


class SimulatedGround:
    """A simulated node: its truth is exact."""

    counter_is_reference, simulated = False, True

    def __init__(self, setup: Setup, name: str, note: str = "") -> None:
        node = make_node(f"{name.partition('+')[0]}+none", setup.board_seed)
        self.node: Node | None = node
        self._node, self._late = node, 0
        if setup.call_us:
            from powersample.sim import Latency

            node.set_latency("any", Latency.fixed(setup.call_us * 1e-6))
        self.headline = f"SIMULATED NODE {node.describe()['profile']}, not a measurement"
        self.reference = f"{note}the simulated node's exact energy"
        self.nvml_library: str | os.PathLike[str] | None = node.library
        self.environment: Mapping[str, str] = {**os.environ, **node.environment()}
        self.power_usage_meaning = node.power_usage_meaning(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._node.close()

    def describe(self) -> dict[str, Any]:
        """Return the node's own description."""
        return self._node.describe()

    def recording(self, output: Path, *, mode: str = "paced", in_process: bool = True) -> Recording:
        """Return a recording of GPU 0."""
        plan = simulated_plan(Plan(sources=("nvml",), gpus=("0",), mode=mode), self._node)
        return Recording(plan, output, node=self._node, in_process=in_process)

    def begin(self, folder: Path) -> None:
        """Remember how often the truth was late until now."""
        self._late = int(self._node.truth_state()["truth_late"])

    def lap(self, trained: Trained) -> Lap:
        """Return the lap with its exact energies."""
        state = self._node.truth_state()
        late = int(state["truth_late"]) - self._late
        void = (
            f"the load came late {late} times" if late else "the truth found no space" if state["truth_full"] else None
        )
        truth_j = [self._node.truth_j(0, window.start_ns, window.end_ns) for window in trained.epochs]
        run_j = self._node.truth_j(0, trained.run.start_ns, trained.run.end_ns)
        return Lap(
            trained.run,
            trained.epochs,
            np.array(truth_j),
            run_j,
            void,
            trained.lengths_s,
            power=self._power(trained.run),
        )

    def _power(self, run: Window) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        t_ns, energy_nj = map(np.concatenate, zip(*self._node.truth_counter(0, run.start_ns, run.end_ns), strict=True))
        t_ns, first = np.unique(t_ns, return_index=True)  # pieces meet in an instant that both have
        return t_ns, np.diff(energy_nj[first]) / np.diff(t_ns)

    def published(self, run: Window, sensor: str) -> NDArray[np.int64] | None:
        """Return the sensor's own instants; a board without that sensor is read by PowerUsage."""
        kind = sensor if sensor in self._node.boards[0].sensors else "usage"
        return self._node.sensor_publications(0, kind, run.start_ns, run.end_ns)


class CounterGround:
    """A GPU: the reference is its energy counter, read by the sampler's executable beside every method.

    Raises:
        NothingMeasurable: There is no GPU.
    """

    counter_is_reference = True
    node: Node | None = None
    power_usage_meaning = ""

    def __init__(self, setup: Setup, plan: Plan) -> None:
        self._inventory, self._plan, self._gpu = discover(plan), plan, setup.gpu
        (self._device,) = self._inventory.devices
        self.simulated = self._inventory.simulated
        what = f"{self._device.name}, driver {self._inventory.driver}"
        self.headline = f"SIMULATED NODE {what}, not a measurement" if self.simulated else what
        self.reference = "the GPU's energy counter, itself unproven"
        self.nvml_library: str | os.PathLike[str] | None = plan.nvml_library
        self.environment: Mapping[str, str] = os.environ
        if plan.nvml_library is not None and "/" in plan.nvml_library:  # nvidia-smi must meet the same one
            folder = os.path.dirname(os.path.abspath(plan.nvml_library))
            before = os.environ.get("LD_LIBRARY_PATH")
            self.environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{before}" if before else folder}
        self._beside = ExitStack()
        self._watching: Recording | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._watching is not None:
            self._watching.discard()

    def describe(self) -> dict[str, Any]:
        """Return the GPU and its driver."""
        return {"gpu": self._device.name, "driver": self._inventory.driver, "nvml": self._inventory.nvml}

    def recording(self, output: Path, *, mode: str = "paced", in_process: bool = True) -> Recording:
        """Return a recording of the GPU."""
        return Recording(replace(self._plan, mode=mode), output, in_process=in_process)

    def begin(self, folder: Path) -> None:
        """Start the counter's recording."""
        self._watching = self.recording(folder / "reference.parquet", in_process=False)
        self._watching.start()

    def lap(self, trained: Trained) -> Lap:
        """Return the lap with the counter's energies and how sure they are; NaN where it has none or does not cover."""
        assert self._watching is not None
        watching, self._watching = self._watching, None
        trace = watching.finish()
        try:
            return self._lap(trace, trained)
        finally:
            watching.output.unlink()

    def _lap(self, trace: Trace, trained: Trained) -> Lap:
        name = f"gpu{self._gpu}.energy"
        if name not in trace.channels:
            nothing = np.full(len(trained.epochs), np.nan)
            void = f"this board has no {name}"
            return Lap(trained.run, trained.epochs, nothing, float("nan"), void, trained.lengths_s)
        told = [channel_energy(trace, name, window) for window in (trained.run, *trained.epochs)]
        run_j, *epoch_j = [np.nan if one.joules is None else one.joules for one in told]
        half_j = np.array([_half_j(one) for one in told[1:]])
        return Lap(trained.run, trained.epochs, np.array(epoch_j), float(run_j), None, trained.lengths_s, half_j)

    def published(self, run: Window, sensor: str) -> NDArray[np.int64] | None:
        """Return None: a real sensor does not say when it publishes."""
        return None


def _half_j(one: Energy) -> float:
    return float("nan") if one.low_j is None or one.high_j is None else (one.high_j - one.low_j) / 2
