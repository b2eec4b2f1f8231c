# SPDX-License-Identifier: Apache-2.0
"""`Node`: a simulated GPU node with folders of its own, a load, faults on demand, and an exact truth."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample._native import api_sim
from powersample._native.api_files import MovedFiles
from powersample._native.api_wall import Wall
from powersample.errors import InvalidArgument, NotSupported, StateError
from powersample.model import duration
from powersample.sim import cpu as cpus
from powersample.sim import folders, hwmon, layout, supply, tree
from powersample.sim import profile as profiles
from powersample.sim.faults import FaultControl, Latency
from powersample.sim.file_faults import FileFaultControl
from powersample.sim.loads import LoadControl
from powersample.sim.plug import PlugControl
from powersample.sim.truths import WALL, TruthControl

LATEST_NS = 10**18  # 31 years: sums of times stay far below 2^63


class Node(TruthControl, PlugControl, LoadControl, FaultControl, FileFaultControl):
    """A simulated node of 1 to 16 GPUs of one profile, and CPUs if it is given some.

    Its folder holds a copy of the NVML stand-in `libnvidia-ml.so.1` (a copy, so that one process can load
    several nodes), the node's description and each device's truth. Whoever loads that library, this process or
    another, sees the boards through their sensors; this object gives the load and knows the truth. Devices are
    idle until a load is given.

    With CPUs there are also folders that stand for /sys and /dev: powercap, MSR files and hwmon, which a thread
    of this process moves by the same truth, about once a millisecond, for as long as the node is open.

    Use it as a context manager, or call `close`.

        with Node("a100") as node:
            node.load_wave(0, 60, 250, period_s=0.1, duty=0.5)
            ...                                   # measure with node.library
            node.truth_j(0, start_ns, end_ns)

    Args:
        profile: A name of `profile_names()`, or of `node_profile_names()` for a node with its own GPUs and CPUs.
        gpus: Number of boards, 1 to 16; None for one, or as many as the node's profile has.
        board_seed: None: sensors with gain 1, offset 0, no noise and ticks at multiples of T of
            CLOCK_MONOTONIC. An integer draws boards within the profile's spreads, the same for the same
            integer.
        node_seed: None: fans, supply, the board's power, the CPUs' counters and the meter as the profile has them. An
            integer draws them within its spreads, and the boards too where `board_seed` is None.
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
        persistence: What persistence mode is said to be.
        seed: Of jitter, noise, UUIDs and the counters' beginnings.
        cpu: A name of `cpu_profile_names()`, such as "intel_spr" or "amd_milan"; None for GPUs alone, or the CPUs of
            the node's profile.
        packages: Number of CPU packages, 1 or 2; None for one.
        counter_bits: Powercap's counters wrap after so many bits, 8 to 32; the registers have 32 always.
        wrap_after_j: The energy counters begin so many joules before their wrap; None: far from it.
        time_scale: The supply's lag and the fans' are so many times as quick, for tests; loads and sensors are not.
        begin_ns: CLOCK_MONOTONIC at which the node's time begins, in the future, for studies that ask what will be and
            wait for nothing: at the same instant the same node tells the same, to the last digit. None: now.

    Raises:
        InvalidArgument: A setting outside its range; an unknown profile (the message lists the known ones).
        OutputExists: The directory is not empty.
        NotSupported: The stand-in library was not built.
    """

    def __init__(
        self,
        profile: str = "h100",
        *,
        gpus: int | None = None,
        board_seed: int | None = None,
        node_seed: int | None = None,
        directory: str | os.PathLike[str] | None = None,
        latency: Latency | Mapping[str, Latency] | None = None,
        one_lock: bool = True,
        counter: str = "integrating",
        driver_version: str | None = None,
        mig: Sequence[str] | None = None,
        field_stamps: str | None = None,
        persistence: bool = True,
        seed: int = 0,
        cpu: str | None = None,
        packages: int | None = None,
        counter_bits: int = 32,
        wrap_after_j: float | None = None,
        time_scale: float = 1.0,
        begin_ns: int | None = None,
    ) -> None:
        made, self._drawn = supply.draw(supply.made_of(profile, gpus, cpu, packages), node_seed, seed)
        self._name, self._profile, self._cpu, self._packages = made.name, made.gpu, made.cpu, made.packages
        gpus, board_seed = made.gpus, node_seed if board_seed is None else board_seed
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
        self._parts = () if self._cpu is None else cpus.parts(self._cpu, self._packages)
        self._sums = cpus.sums_of(self._parts, self._packages, gpus)
        if not 8 <= counter_bits <= 32 or not (wrap_after_j is None or 0 <= wrap_after_j < 1e6):
            raise InvalidArgument("counter_bits must be from 8 to 32, wrap_after_j from 0 to 1e6 J")
        if not 1 <= time_scale <= 1000:
            raise InvalidArgument(f"time_scale is {time_scale!r}; it must be from 1 to 1000")
        now_ns = time.monotonic_ns()
        if begin_ns is not None:
            if not now_ns <= begin_ns <= LATEST_NS:
                raise InvalidArgument(f"begin_ns is {begin_ns}; it must be from now on, {now_ns}, to {LATEST_NS}")
            now_ns = begin_ns
        counters = tree.Counters(now_ns, counter_bits, wrap_after_j, seed, self._drawn.counter_gains)
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
        self._truths = {}
        self._file: api_sim.NodeFile | None = None
        self._meters: tuple[hwmon.Meter, ...] = ()
        self._away = {}
        self._owner = os.getpid()
        self._remove: list[weakref.finalize[Any, Any]] = []
        self._directory = self._private() if directory is None else layout.empty_directory(directory)
        try:
            layout.copy_library(self._directory, self._driver)
            idle_mw = {name: idle for name, (idle, _) in self._ranges_mw().items()}
            self._truths = layout.create_truths(self._directory, idle_mw, now_ns)
            whole = self._sums[cpus.NODE]
            self._model = supply.wall_model(made, self._drawn, [self._ranges_mw()[name] for name in whole], time_scale)
            self._wall = Wall(self._model, [self._truths[name] for name in whole])
            layout.write_node_file(
                self._directory,
                profile=self._profile,
                driver=self._driver,
                boards=self._boards,
                uuids=self._uuids,
                mig=self._mig,
                field_stamps=field_stamps,
                persistence=persistence,
                one_lock=one_lock,
            )
            self._file = api_sim.NodeFile(self._directory / layout.NODE_FILE)
            by_function = {"any": latency} if isinstance(latency, Latency) else (latency or {})
            for function, value in by_function.items():
                self.set_latency(function, value)
            if self._cpu is not None:
                self._make_files(self._cpu, counters, private=directory is None)
        except BaseException:
            self._release()
            raise

    def _make_files(self, cpu: profiles.Profile, counters: tree.Counters, *, private: bool) -> None:
        folder = self._private(folders.SHARED_MEMORY) if private and tree.has_room() else self._directory
        try:
            self._tree = tree.build(folder, cpu, self._packages, self._sums, counters)
            self._meters = hwmon.build(self._tree, cpu, self._packages, self._sums, seed=self._seed)
        except OSError as error:
            raise layout.cannot_make(folder, error) from error
        truths = [self._truths[name] for name in self._tree.truths]
        self._moved = MovedFiles(self._tree.files, truths, round(cpu["rapl.period_us"] * 1e3))
        tree.link_registers(self._tree)

    def _private(self, parent: Path | None = None) -> Path:
        folder, fd = folders.make(parent)
        self._remove.append(weakref.finalize(self, folders.remove, folder, self._owner, fd))
        return folder

    # ---- what it is ------------------------------------------------------------

    @property
    def name(self) -> str:
        """The node's profile, or that of its boards."""
        return self._name

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
    def sysfs(self) -> Path | None:
        """What stands for /sys; None without CPUs."""
        return None if self._tree is None else self._tree.sysfs

    @property
    def devfs(self) -> Path | None:
        """What stands for /dev, where MSR files hold register R at byte R x 8; None without CPUs."""
        return None if self._tree is None else self._tree.devfs

    @property
    def cpu(self) -> profiles.Profile | None:
        """The CPUs' type, each figure with its origin."""
        return self._cpu

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of all that has a truth: "gpu0", "package-0", "package-0.dram" ..., sums such as "node", "wall"."""
        return (*self._sums, WALL)

    @property
    def parts(self) -> tuple[cpus.Part, ...]:
        """All that draws power beside the GPUs."""
        return self._parts

    @property
    def meters(self) -> tuple[hwmon.Meter, ...]:
        """The power meters that hwmon and the battery show."""
        return self._meters

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
            return f"{name}: low-passed, every {duration(period_ms / 1e3)}"
        if window_ms > 2 * period_ms:
            return f"{name}: mean of {duration(window_ms / 1e3)}, every {duration(period_ms / 1e3)}"
        return f"{name}: {duration(window_ms / 1e3)} of every {duration(period_ms / 1e3)}"

    def describe(self) -> dict[str, Any]:
        """Return all that sets this node apart, ready for JSON."""
        boards = [{**asdict(board), "uuid": uuid} for board, uuid in zip(self._boards, self._uuids, strict=True)]
        return {
            "profile": self._name,
            "gpu": self._profile.name,
            "gpus": len(self._boards),
            "board_seed": self._board_seed,
            "seed": self._seed,
            "counter": self._counter,
            "driver_version": self._driver.version,
            "mig": None if self._mig is None else [one.profile for one in self._mig[0]],
            "boards": boards,
            "cpu": None if self._cpu is None else {"profile": self._cpu.name, "packages": self._packages},
            "counter_gains": dict(self._drawn.counter_gains),
            "wall": {"node_seed": self._drawn.seed, **asdict(self._model)},
            "meter": dict(self._describe_meter()),
        }

    # ---- sensors ------------------------------------------------------------

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

    def clear_faults(self) -> None:
        """End all injected faults of the driver and of the files."""
        super().clear_faults()
        self.clear_file_faults()

    # ---- end ------------------------------------------------------------

    def close(self) -> None:
        """Stop following and moving, let go of the files and remove private folders. May be called twice."""
        if os.getpid() == self._owner:
            self.unfollow()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # ---- own ------------------------------------------------------------

    def _release(self) -> None:
        moved, self._moved = self._moved, None
        wall, self._wall = self._wall, None
        if os.getpid() == self._owner:  # a forked child has no such threads, nor what they held
            self._unplug()
            if moved is not None:
                moved.stop()
            if wall is not None:
                wall.close()
        for truth in self._truths.values():
            truth.close()
        if self._file is not None:
            self._file.close()
            self._file = None
        for remove in self._remove:
            remove()

    def _truth(self, gpu: int) -> api_sim.Truth:
        if not 0 <= gpu < len(self._boards):
            raise InvalidArgument(f"no GPU {gpu}; this node has GPUs 0 to {len(self._boards) - 1}")
        return self._truths[layout.gpu_name(gpu)]

    def _truths_of(self, device: int | str) -> tuple[api_sim.Truth, ...]:
        if not isinstance(device, str):
            return (self._truth(device),)
        if device == WALL:
            raise InvalidArgument("wall is what the whole node draws", f"Load {', '.join(self._sums[cpus.NODE])}.")
        if device not in self._sums:
            raise InvalidArgument(f"no device {device!r}; this node has {', '.join(self.devices)}")
        return tuple(self._truths[name] for name in self._sums[device])

    def _ranges_mw(self) -> dict[str, tuple[int, int]]:
        """Return idle and full power of everything that draws power."""
        gpu = (layout.milliwatts(self._profile, "idle_w"), layout.milliwatts(self._profile, "max_w"))
        boards = {layout.gpu_name(index): gpu for index in range(len(self._boards))}
        return boards | {part.name: (part.idle_mw, part.max_mw) for part in self._parts}

    def _most_w(self) -> float:
        ranges = self._ranges_mw()
        return supply.most_mw(self._model, sum(ranges[name][1] for name in self._sums[cpus.NODE])) / 1e3

    def _sources(self) -> dict[str, tuple[api_sim.Truth, int, int]]:
        return {name: (self._truths[name], *span) for name, span in self._ranges_mw().items()}

    def _package(self, device: int | str) -> tuple[cpus.Part, tuple[cpus.Part, ...]] | None:
        return cpus.package_of(self._parts, self._sums, device) if isinstance(device, str) else None

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

    def _must_be_open(self) -> None:
        self._node_file()
