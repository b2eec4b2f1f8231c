# SPDX-License-Identifier: Apache-2.0
"""`Node`: a simulated GPU node with a folder of its own, a load, faults on demand, and an exact truth."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample._native import api_sim
from powersample.errors import InvalidArgument, NotSupported, StateError
from powersample.sim import layout, scenario
from powersample.sim import profile as profiles
from powersample.sim.faults import FaultControl, Latency

LEAD_NS = 20_000_000  # a load begins so much after it is asked for, to be published before it is true


class Node(FaultControl):
    """A simulated node of 1 to 16 GPUs of one profile.

    Its folder holds a copy of the NVML stand-in `libnvidia-ml.so.1` (a copy, so that one process can load
    several nodes), the node's description and each GPU's truth. Whoever loads that library, this process or
    another, sees the boards through their sensors; this object gives the load and knows the truth. Boards are
    idle until a load is given.

    Use it as a context manager, or call `close`.

        with Node("a100") as node:
            node.load_wave(0, 60, 250, period_s=0.1, duty=0.5)
            ...                                   # measure with node.library
            node.truth_j(0, start_ns, end_ns)

    Args:
        profile: A name of `profile_names()`.
        gpus: Number of boards, 1 to 16.
        board_seed: None: sensors with gain 1, offset 0, no noise and ticks at multiples of T of
            CLOCK_MONOTONIC. An integer draws boards within the profile's spreads, the same for the same
            integer.
        directory: An empty or new folder that is kept; None makes a private one that `close` removes.
        latency: Of every call, or by function; see `set_latency`.
        one_lock: Calls of a process exclude each other, as in the driver.
        counter: What the energy counter counts: "integrating", the true power; "attended", only what a
            part-time sensor saw.
        driver_version: None for the profile's own. Before 530 the power fields do not exist; in 530
            PowerUsage is quick; before 396 the library itself lacks the newer calls, as a missing symbol.
        mig: None: MIG is off. Profiles of the instances of every GPU, such as ("3g.40gb", "1g.10gb"): MIG is
            on, instances have handles, names and UUIDs, and the power stays the whole board's.
        field_stamps: What the timestamps of field values are: "call" (the call's time), "update" (the
            publication's), "zero"; None for the profile's own.
        seed: Of jitter, noise and UUIDs.

    Raises:
        InvalidArgument: A setting outside its range; an unknown profile (the message lists the known ones).
        OutputExists: The directory is not empty.
        NotSupported: The stand-in library was not built.
    """

    def __init__(
        self,
        profile: str = "h100",
        *,
        gpus: int = 1,
        board_seed: int | None = None,
        directory: str | os.PathLike[str] | None = None,
        latency: Latency | Mapping[str, Latency] | None = None,
        one_lock: bool = True,
        counter: str = "integrating",
        driver_version: str | None = None,
        mig: Sequence[str] | None = None,
        field_stamps: str | None = None,
        seed: int = 0,
    ) -> None:
        self._profile = profiles.load_profile(profile)
        self._driver = profiles.driver(self._profile, driver_version)
        self._board_seed, self._counter, self._seed = board_seed, counter, seed
        if not 1 <= gpus <= api_sim.MAX_GPUS:
            raise InvalidArgument(f"gpus is {gpus}; a node has from 1 to {api_sim.MAX_GPUS}")
        if counter not in profiles.COUNTERS:
            raise InvalidArgument(f"counter {counter!r} is unknown; use {' or '.join(profiles.COUNTERS)}")
        field_stamps = field_stamps or self._profile["driver.field_stamps"]
        if field_stamps not in api_sim.FIELD_STAMPS:
            raise InvalidArgument(f"field_stamps {field_stamps!r} is unknown; use {', '.join(api_sim.FIELD_STAMPS)}")
        self._mig = None if mig is None else layout.instances(self._profile, mig, gpus, seed)
        now_ns = time.monotonic_ns()
        self._boards = tuple(
            profiles.draw_board(
                self._profile,
                board_seed=board_seed,
                gpu=gpu,
                seed=seed,
                branch=self._driver.branch,
                counter=counter,
                start_ns=now_ns,
            )
            for gpu in range(gpus)
        )
        self._uuids = tuple(layout.gpu_uuid(self._profile, seed, gpu) for gpu in range(gpus))
        self._truths: list[api_sim.Truth] = []
        self._file: api_sim.NodeFile | None = None
        self._follow: api_sim.Follow | None = None
        self._followed: api_sim.FollowStats | None = None
        self._owner = os.getpid()
        self._remove: weakref.finalize[Any, Any] | None = None
        self._directory = layout.make_directory(directory)
        if directory is None:
            self._remove = weakref.finalize(self, layout.remove, self._directory, self._owner)
        try:
            layout.copy_library(self._directory, self._driver)
            self._truths = layout.create_truths(self._directory, self._profile, gpus, now_ns)
            layout.write_node_file(
                self._directory,
                profile=self._profile,
                driver=self._driver,
                boards=self._boards,
                uuids=self._uuids,
                mig=self._mig,
                field_stamps=field_stamps,
                one_lock=one_lock,
            )
            self._file = api_sim.NodeFile(self._directory / layout.NODE_FILE)
            by_function = {"any": latency} if isinstance(latency, Latency) else (latency or {})
            for function, value in by_function.items():
                self.set_latency(function, value)
        except BaseException:
            self._release()
            raise

    # ---- what it is ------------------------------------------------------------

    @property
    def profile(self) -> profiles.Profile:
        """The boards' type, each figure with its origin."""
        return self._profile

    @property
    def directory(self) -> Path:
        """The node's folder."""
        return self._directory

    @property
    def library(self) -> Path:
        """The NVML library to load in place of the driver's."""
        return self._directory / layout.LIBRARY

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """UUIDs by index, "GPU-SIM-..."."""
        return self._uuids

    @property
    def mig_uuids(self) -> tuple[tuple[str, ...], ...]:
        """UUIDs of each GPU's MIG instances, "MIG-SIM-..."."""
        return tuple(tuple(one.uuid for one in instances) for instances in self._mig or ((),) * len(self._boards))

    @property
    def boards(self) -> tuple[profiles.Board, ...]:
        """What each board's sensors are really like."""
        return self._boards

    def environment(self) -> dict[str, str]:
        """Return what a child's environment needs for its NVML to be this node's; the search path stays."""
        before = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": f"{self._directory}:{before}" if before else str(self._directory)}

    def power_usage_meaning(self, gpu: int) -> str:
        """Return what nvmlDeviceGetPowerUsage tells here, such as "instant: 25 ms of every 100 ms"."""
        name = layout.power_usage(self._profile, self._driver, self._boards[0])
        sensor = self._sensor(gpu, "usage")
        period_ms, window_ms = sensor.period_ns / 1e6, sensor.window_ns / 1e6
        if not window_ms:
            return f"{name}: low-passed, every {period_ms:.3g} ms"
        if window_ms > 2 * period_ms:
            return f"{name}: mean of {window_ms / 1e3:.3g} s, every {period_ms:.3g} ms"
        return f"{name}: {window_ms:.3g} ms of every {period_ms:.3g} ms"

    def describe(self) -> dict[str, Any]:
        """Return all that sets this node apart, ready for JSON."""
        boards = [{**asdict(board), "uuid": uuid} for board, uuid in zip(self._boards, self._uuids, strict=True)]
        return {
            "profile": self._profile.name,
            "gpus": len(self._boards),
            "board_seed": self._board_seed,
            "seed": self._seed,
            "counter": self._counter,
            "driver_version": self._driver.version,
            "mig": None if self._mig is None else [one.profile for one in self._mig[0]],
            "boards": boards,
        }

    # ---- load ------------------------------------------------------------

    def load_script(self, gpu: int, steps: Iterable[tuple[float, float]], *, start_ns: int | None = None) -> int:
        """Let a GPU draw the power of `steps`, (seconds from the start, watts from then on); the last holds.

        Args:
            gpu: Index.
            steps: At least one, times ascending.
            start_ns: CLOCK_MONOTONIC, in the future and after any load given before; None: as soon as
                possible.

        Returns:
            The start.

        Raises:
            InvalidArgument: A step or `start_ns` outside its range.
            StateError: A program is being followed, or the node is closed.
            DiskFull: The truth found no space; what was given so far holds.
        """
        return self._append(gpu, [(t, (p,)) for t, p in scenario.checked_steps(steps)], start_ns)

    def load_trace(self, gpu: int, t_ns: ArrayLike, watts: ArrayLike, *, start_ns: int | None = None) -> int:
        """Let a GPU draw a recorded power: `watts[i]` from `t_ns[i] - t_ns[0]` on; else as `load_script`."""
        times, power = scenario.checked_trace(t_ns, watts)
        return self._append(gpu, [(t, (p,)) for t, p in zip(times.tolist(), power.tolist(), strict=True)], start_ns)

    def load_wave(
        self, gpu: int, p1_w: float, p2_w: float, period_s: float, duty: float, *, start_ns: int | None = None
    ) -> int:
        """Let a GPU draw `p1_w` for `duty` of each period, then `p2_w`, for ever; else as `load_script`."""
        period_ns = scenario.nanoseconds(period_s, "period")
        on_ns = round(period_ns * duty) if math.isfinite(duty) else 0
        if not 0 < on_ns < period_ns:
            raise InvalidArgument(f"a wave of {period_s!r} s with duty {duty!r} has no two levels")
        levels = (scenario.milliwatts(p1_w, "p1_w"), scenario.milliwatts(p2_w, "p2_w"))
        return self._append(gpu, [(0, (*levels, period_ns, on_ns))], start_ns)

    def follow(self, pid: int = 0, *, capacity_cpus: float | None = None) -> None:
        """Turn a program's CPU use into the load of all GPUs, idle to full power at `capacity_cpus` CPUs.

        Power comes 2 to 12 ms after the use. Until `unfollow`, no other load can be given.

        Args:
            pid: A process; what it starts from now on counts too where perf is allowed (`truth_state` tells),
                else its threads alone. 0: this process, the recorder's own small use included.
            capacity_cpus: None: the CPUs this process may use.

        Raises:
            InvalidArgument: `capacity_cpus` is not above 0.
            DeviceNotFound: There is no such process.
            StateError: One is being followed already, or the node is closed.
        """
        self._must_be_free()
        capacity = float(len(os.sched_getaffinity(0))) if capacity_cpus is None else float(capacity_cpus)
        if not (math.isfinite(capacity) and capacity > 0):
            raise InvalidArgument(f"capacity_cpus is {capacity_cpus!r}; it must be above 0")
        count = len(self._truths)
        idle, full = ([layout.milliwatts(self._profile, figure)] * count for figure in ("idle_w", "max_w"))
        self._follow = api_sim.Follow(pid, truths=self._truths, idle_mw=idle, max_mw=full, capacity_cpus=capacity)
        self._followed = None

    def unfollow(self) -> None:
        """Stop following; the GPUs become idle. Without effect when nothing is followed."""
        follow, self._follow = self._follow, None
        if follow is not None:
            self._followed = follow.stop()

    # ---- truth ------------------------------------------------------------

    def truth_j(self, gpu: int, a_ns: int, b_ns: int) -> float:
        """Return the true energy of [a_ns, b_ns], J; in the future it holds if no load is added."""
        return self._truth(gpu).joules(a_ns, b_ns)

    def truth_power_w(self, gpu: int, t_ns: ArrayLike) -> NDArray[np.float64]:
        """Return the true power at each of `t_ns`, W."""
        return self._truth(gpu).power_mw(t_ns) / 1e3

    def truth_counter(self, gpu: int, a_ns: int, b_ns: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (instants, ns; true energy since a_ns, nJ) in pieces: a_ns, every change of power, b_ns."""
        return self._truth(gpu).counter(a_ns, b_ns)

    def truth_state(self) -> dict[str, Any]:
        """Return whether the truth can be trusted, ready for JSON.

        `truth_void` is true when power was published after its own instant (`truth_late` times,
        `truth_late_max_ns` at worst) or could not be stored (`truth_full`); `follow` tells what was followed.
        """
        states = [truth.state() for truth in self._truths]
        stats = self._follow.stats() if self._follow is not None else self._followed
        late = sum(state.late for state in states)
        full = any(state.full for state in states)
        return {
            "truth_void": late > 0 or full,
            "truth_late": late,
            "truth_late_max_ns": max((state.late_max_ns for state in states), default=0),
            "truth_full": full,
            "follow": None if stats is None else asdict(stats),
        }

    def sensor_publications(self, gpu: int, kind: str, a_ns: int, b_ns: int) -> NDArray[np.int64]:
        """Return when in (a_ns, b_ns] a sensor published: one of the profile's `sensors`, or "usage".

        "usage" is whichever sensor nvmlDeviceGetPowerUsage answers with.

        Raises:
            NotSupported: This board has no such sensor.
        """
        return self._sensor(gpu, kind).publications(a_ns, b_ns)

    def sensor_values(self, gpu: int, kind: str, t_ns: ArrayLike) -> NDArray[np.float64]:
        """Return what a reader of a sensor sees at each of `t_ns`: W, or J of the energy counter."""
        return self._sensor(gpu, kind).read(self._truth(gpu), t_ns) / 1e3

    # ---- end ------------------------------------------------------------

    def close(self) -> None:
        """Stop following, let go of the files and remove a private folder. May be called twice."""
        if os.getpid() == self._owner:
            self.unfollow()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # ---- own ------------------------------------------------------------

    def _release(self) -> None:
        for truth in self._truths:
            truth.close()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._remove is not None:
            self._remove()

    def _truth(self, gpu: int) -> api_sim.Truth:
        if not 0 <= gpu < len(self._boards):
            raise InvalidArgument(f"no GPU {gpu}; this node has GPUs 0 to {len(self._boards) - 1}")
        return self._truths[gpu]

    def _node_file(self) -> api_sim.NodeFile:
        if self._file is None:
            raise StateError("the simulated node is closed")
        return self._file

    def _sensor(self, gpu: int, kind: str) -> api_sim.Sensor:
        self._truth(gpu)
        board = self._boards[gpu]
        name = layout.power_usage(self._profile, self._driver, board) if kind == "usage" else kind
        if name not in board.sensors:
            known = ", ".join(dict.fromkeys([*board.sensors, "usage"]))
            raise NotSupported(f"a simulated {self._profile.name} has no sensor {kind!r}; it has {known}")
        sensor = board.sensors[name]
        # A driver reload moves the counter's start, in the node file only.
        return replace(sensor, start_ns=self._node_file().counter_start_ns(gpu)) if name == "energy" else sensor

    def _must_be_free(self) -> None:
        self._node_file()
        if self._follow is not None:
            raise StateError("a program is being followed as the load", "Call unfollow first.")

    def _append(self, gpu: int, steps: list[tuple[int, tuple[int, ...]]], start_ns: int | None) -> int:
        truth = self._truth(gpu)
        self._must_be_free()
        last_ns, now_ns = truth.state().last_t0_ns, time.monotonic_ns()
        if start_ns is None:
            start_ns = max(now_ns + LEAD_NS, last_ns + 1)
        elif start_ns <= max(now_ns, last_ns):
            behind_s = (max(now_ns, last_ns) - start_ns) / 1e9
            raise InvalidArgument(f"start_ns lies {behind_s:.3f} s before now or before the end of the last load")
        for offset_ns, power in steps:
            truth.append(start_ns + offset_ns, *power, live=True)
        return start_ns
