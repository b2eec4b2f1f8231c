# SPDX-License-Identifier: Apache-2.0
"""Typed bindings of the simulated node: truth, sensors, node file, follower. Integers in, integers out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from powersample._native.door import ffi, lib
from powersample.errors import from_status

GAUGE: int = lib.PS_SENSOR_GAUGE
COUNTER: int = lib.PS_SENSOR_COUNTER
ATTENDED: int = lib.PS_SENSOR_ATTENDED
MAX_GPUS: int = lib.PS_NODE_MAX_GPUS
MAX_FAULTS: int = lib.PS_NODE_MAX_FAULTS
MAX_MIG: int = lib.PS_NODE_MAX_MIG

SENSORS: dict[str, int] = {
    "instant": lib.PS_NS_INSTANT,
    "average": lib.PS_NS_AVERAGE,
    "energy": lib.PS_NS_ENERGY,
    "module": lib.PS_NS_MODULE,
    "usage": lib.PS_NS_USAGE,
    "samples": lib.PS_NS_SAMPLES,
    "module_average": lib.PS_NS_MODULE_AVERAGE,
}
FIELD_STAMPS: dict[str, int] = {
    "call": lib.PS_NODE_STAMP_CALL,
    "update": lib.PS_NODE_STAMP_UPDATE,
    "zero": lib.PS_NODE_STAMP_ZERO,
}
FUNCTIONS: dict[str, int] = {
    "any": lib.PS_FN_ANY,
    "init": lib.PS_FN_INIT,
    "handle": lib.PS_FN_HANDLE,
    "power_usage": lib.PS_FN_POWER_USAGE,
    "field_values": lib.PS_FN_FIELD_VALUES,
    "energy": lib.PS_FN_ENERGY,
    "utilization": lib.PS_FN_UTILIZATION,
    "clock": lib.PS_FN_CLOCK,
    "temperature": lib.PS_FN_TEMPERATURE,
    "pstate": lib.PS_FN_PSTATE,
    "throttle": lib.PS_FN_THROTTLE,
    "processes": lib.PS_FN_PROCESSES,
    "samples": lib.PS_FN_SAMPLES,
}
ROUTES: dict[int, str] = {lib.PS_FOLLOW_PERF: "perf", lib.PS_FOLLOW_PROCESS_CLOCK: "process clock"}
LATENCIES: dict[str, int] = {
    "none": lib.PS_LATENCY_NONE,
    "fixed": lib.PS_LATENCY_FIXED,
    "lognormal": lib.PS_LATENCY_LOGNORMAL,
    "long_tail": lib.PS_LATENCY_LONG_TAIL,
}

EDGES = 1 << 16  # instants a piece of `counter`


def _check(status: int, call: str, text: str) -> None:
    if status != lib.PS_OK:
        raise from_status(status, call, text, 0)


def _path(path: str | os.PathLike[str]) -> bytes:
    return os.fsencode(os.fspath(path))


def _int64(values: Any) -> tuple[NDArray[np.int64], Any]:
    array = np.ascontiguousarray(values, dtype=np.int64)
    return array, ffi.from_buffer("int64_t[]", array)


@dataclass(frozen=True, slots=True)
class TruthState:
    """What a truth says about itself.

    Attributes:
        segments: Number of published segments.
        late: Live appends that were published after their own instant; not 0 voids the run's truth.
        late_max_ns: The latest of them.
        last_t0_ns: Start of the last segment.
        last_power_mw: Its power at that instant.
        full: Out of space; the last power holds.
    """

    segments: int
    late: int
    late_max_ns: int
    last_t0_ns: int
    last_power_mw: int
    full: bool


class Truth:
    """One device's exact power over time: an append-only file that any process may read."""

    def __init__(self, handle: Any, path: Path) -> None:
        self._handle = handle
        self._path = path

    @classmethod
    def create(cls, path: str | os.PathLike[str], t0_ns: int, power_mw: int, capacity: int = 0) -> Truth:
        """Begin a new timeline of constant power; `capacity` is in segments, 0 for 2^24 (sparse)."""
        out = ffi.new("ps_truth **")
        _check(lib.ps_truth_create(_path(path), capacity, t0_ns, power_mw, out), "ps_truth_create", str(path))
        return cls(out[0], Path(path))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Truth:
        """Map an existing timeline, read-only."""
        out = ffi.new("ps_truth **")
        _check(lib.ps_truth_open(_path(path), out), "ps_truth_open", str(path))
        return cls(out[0], Path(path))

    @property
    def handle(self) -> Any:
        """The C object. Raises StateError once closed."""
        if self._handle is None:
            raise from_status(lib.PS_E_STATE, "ps_truth", f"{self._path} is closed", 0)
        return self._handle

    def append(self, t0_ns: int, p1_mw: int, p2_mw: int = 0, period_ns: int = 0, on_ns: int = 0, *, live: bool) -> None:
        """Add a constant power, or with `period_ns` an endless wave, from `t0_ns` on."""
        status = lib.ps_truth_append(self.handle, t0_ns, p1_mw, p2_mw, period_ns, on_ns, int(live))
        if status:
            _check(status, "ps_truth_append", f"{p1_mw} mW from {t0_ns} ns on, {self._path}")

    def state(self) -> TruthState:
        """Return the counts of lateness and space."""
        out = ffi.new("ps_truth_state *")
        _check(lib.ps_truth_state_get(self.handle, out), "ps_truth_state_get", str(self._path))
        return TruthState(out.segments, out.late, out.late_max_ns, out.last_t0_ns, out.last_p_mw, bool(out.full))

    def energy_pj(self, a_ns: int, b_ns: int) -> int:
        """Return the exact energy of [a_ns, b_ns] in pJ, up to 9.2 MJ."""
        out = ffi.new("int64_t *")
        _check(lib.ps_truth_energy_pj(self.handle, a_ns, b_ns, out), "ps_truth_energy_pj", f"[{a_ns}, {b_ns}] ns")
        return int(out[0])

    def joules(self, a_ns: int, b_ns: int) -> float:
        """Return the energy of [a_ns, b_ns] in J, of any size."""
        out = ffi.new("double *")
        _check(lib.ps_truth_joules(self.handle, a_ns, b_ns, out), "ps_truth_joules", f"[{a_ns}, {b_ns}] ns")
        return float(out[0])

    def power_mw(self, t_ns: Any) -> NDArray[np.int32]:
        """Return the power at each of `t_ns`, mW."""
        times, pointer = _int64(np.atleast_1d(t_ns))
        power = np.empty(times.shape, np.int32)
        into = ffi.from_buffer("int32_t[]", power, require_writable=True)
        _check(lib.ps_truth_power_mw(self.handle, pointer, times.size, into), "ps_truth_power_mw", "")
        return power

    def edges(self, a_ns: int, b_ns: int) -> NDArray[np.int64]:
        """Return the first `EDGES` instants in (a_ns, b_ns] at which the power changes."""
        times = np.empty(EDGES, np.int64)
        into = ffi.from_buffer("int64_t[]", times, require_writable=True)
        count = ffi.new("uint64_t *")
        status = lib.ps_truth_edges(self.handle, a_ns, b_ns, into, EDGES, count)
        _check(status, "ps_truth_edges", f"[{a_ns}, {b_ns}] ns")
        return times[: count[0]].copy()

    def energy_nj(self, from_ns: int, t_ns: Any) -> NDArray[np.int64]:
        """Return the energy from `from_ns` to each of `t_ns`, whole nJ."""
        times, pointer = _int64(t_ns)
        energy = np.empty(times.shape, np.int64)
        into = ffi.from_buffer("int64_t[]", energy, require_writable=True)
        status = lib.ps_truth_counter_nj(self.handle, from_ns, pointer, times.size, into)
        _check(status, "ps_truth_counter_nj", f"from {from_ns} ns")
        return energy

    def close(self) -> None:
        """Unmap; lets the writer's lock go. May be called twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            lib.ps_truth_close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def counter(truths: Sequence[Truth], a_ns: int, b_ns: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (instants, energy of all since a_ns in nJ) in pieces: a_ns, every change of a power, b_ns."""
    yield np.array([a_ns], np.int64), np.zeros(1, np.int64)
    at = a_ns
    while at < b_ns:
        edges = [truth.edges(at, b_ns) for truth in truths]
        until = min((int(some[-1]) for some in edges if len(some) == EDGES), default=b_ns)  # all of them know so far
        times = np.unique(np.concatenate([*edges, [until]]))
        times = times[times <= until]
        yield times, np.sum([truth.energy_nj(a_ns, times) for truth in truths], axis=0)
        at = until


@dataclass(frozen=True, slots=True)
class Sensor:
    """Settings of one simulated sensor, as C's ps_sensor."""

    kind: int
    period_ns: int
    window_ns: int = 0
    tau_ns: int = 0
    delay_ns: int = 0
    phase_ns: int = 0
    jitter_ns: int = 0
    skip_per_million: int = 0
    seed: int = 0
    gain: float = 1.0
    offset_mw: float = 0.0
    noise_mw: float = 0.0
    quantum: int = 1
    start_ns: int = 0

    def publications(self, a_ns: int, b_ns: int) -> NDArray[np.int64]:
        """Return the instants of its publications in (a_ns, b_ns]."""
        room = max(0, b_ns - a_ns) // max(1, self.period_ns) + 2
        times = np.empty(room, np.int64)
        count = ffi.new("uint64_t *")
        into = ffi.from_buffer("int64_t[]", times, require_writable=True)
        status = lib.ps_sensor_publications(c_sensor(self), a_ns, b_ns, into, room, count)
        _check(status, "ps_sensor_publications", f"({a_ns}, {b_ns}] ns")
        return times[: count[0]].copy()

    def read(self, truth: Truth, t_ns: Any) -> NDArray[np.int64]:
        """Return what a reader sees at each of `t_ns`: mW, or mJ for a counter."""
        times = np.atleast_1d(np.asarray(t_ns, np.int64))
        values = np.empty(times.shape, np.int64)
        sensor, memo, out = c_sensor(self), ffi.new("ps_sensor_memo *"), ffi.new("int64_t *")
        for i, t in enumerate(times.tolist()):
            status = lib.ps_sensor_read(sensor, truth.handle, t, memo, out, ffi.NULL, ffi.NULL)
            _check(status, "ps_sensor_read", f"at {t} ns")
            values[i] = out[0]
        return values


def c_sensor(sensor: Sensor) -> Any:
    """Return it as a new ps_sensor."""
    return ffi.new("ps_sensor *", {name: getattr(sensor, name) for name in Sensor.__slots__})


def write_node(path: str | os.PathLike[str], fields: dict[str, Any], gpus: list[dict[str, Any]]) -> None:
    """Write a node file.

    Args:
        path: A file that does not exist.
        fields: Members of ps_node by name; text as bytes.
        gpus: Members of ps_node_gpu by name, one dict a GPU; `sensors` maps names of `SENSORS` to `Sensor`, `mig` lists
            dicts of ps_node_mig's members.
    """
    node = ffi.new("ps_node *")
    node.n_gpus = len(gpus)
    for name, value in fields.items():
        setattr(node, name, value)
    for gpu, members in zip(node.gpu, gpus, strict=False):
        for name, value in members.items():
            if name == "sensors":
                for which, sensor in value.items():
                    gpu.sensor[SENSORS[which]] = c_sensor(sensor)[0]
            elif name == "mig":
                gpu.n_mig = len(value)
                for instance, about in zip(gpu.mig, value, strict=False):
                    for member, figure in about.items():
                        setattr(instance, member, figure)
            else:
                setattr(gpu, name, value)
    _check(lib.ps_node_write(_path(path), node), "ps_node_write", str(path))


class NodeFile:
    """A node file in use: its faults, latencies and driver reloads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        out = ffi.new("ps_node **")
        _check(lib.ps_node_map(_path(path), 1, out), "ps_node_map", str(path))
        self._node = out[0]
        self._path = Path(path)

    @property
    def _mapped(self) -> Any:
        if self._node is None:
            raise from_status(lib.PS_E_STATE, "ps_node", f"{self._path} is closed", 0)
        return self._node

    def set_fault(self, index: int, **members: int) -> None:
        """Replace fault `index` by these members of ps_fault; none switches it off."""
        fault = ffi.new("ps_fault *", members)
        _check(lib.ps_node_set_fault(self._mapped, index, fault), "ps_node_set_fault", f"fault {index}")

    def set_latency(self, function: str, **members: float) -> None:
        """Replace a function's latency by these members of ps_latency."""
        latency = ffi.new("ps_latency *", members)
        status = lib.ps_node_set_latency(self._mapped, FUNCTIONS[function], latency)
        _check(status, "ps_node_set_latency", function)

    def reload(self, now_ns: int) -> None:
        """Let the simulated driver be reloaded: counters begin anew, handles and init are void."""
        _check(lib.ps_node_reload(self._mapped, now_ns), "ps_node_reload", str(self._path))

    def set_init(self, code: int) -> None:
        """Replace what nvmlInit answers from now on; 0 is success."""
        _check(lib.ps_node_set_init(self._mapped, code), "ps_node_set_init", str(self._path))

    def step_clock(self, at_ns: int, step_ns: int) -> None:
        """Let the driver's clock jump at an instant of CLOCK_MONOTONIC."""
        _check(lib.ps_node_step_clock(self._mapped, at_ns, step_ns), "ps_node_step_clock", str(self._path))

    def counter_start_ns(self, gpu: int) -> int:
        """Return the instant from which a GPU's energy counter counts."""
        return int(self._mapped.gpu[gpu].sensor[SENSORS["energy"]].start_ns)

    def close(self) -> None:
        """Unmap. May be called twice."""
        node, self._node = self._node, None
        if node is not None:
            lib.ps_node_unmap(node)


@dataclass(frozen=True, slots=True)
class FollowStats:
    """What a follower saw.

    Attributes:
        route: "perf" (the process and all it starts) or "process clock" (its own threads).
        perf_error: Why perf was refused; "" when it was not, or was not asked.
        ticks: Readings so far.
        late_ticks: Readings more than an interval late.
        cpu_s: CPU time seen.
    """

    route: str
    perf_error: str
    ticks: int
    late_ticks: int
    cpu_s: float


class Follow:
    """A thread that turns a process's CPU use into the load of truths."""

    def __init__(
        self,
        pid: int,
        *,
        truths: list[Truth],
        idle_mw: list[int],
        max_mw: list[int],
        capacity_cpus: float,
        interval_ns: int = 0,
    ) -> None:
        out = ffi.new("ps_follow **")
        handles = ffi.new("ps_truth *[]", [truth.handle for truth in truths])
        status = lib.ps_follow_start(pid, handles, idle_mw, max_mw, len(truths), capacity_cpus, interval_ns, out)
        _check(status, "ps_follow_start", f"process {pid}, {capacity_cpus} CPUs, every {interval_ns} ns")
        self._follow = out[0]

    def stop(self) -> FollowStats | None:
        """Append what was used, then idle; returns the last statistics, None the second time."""
        follow, self._follow = self._follow, None
        if follow is None:
            return None
        stats = ffi.new("ps_follow_stats *")
        _check(lib.ps_follow_stop(follow, stats), "ps_follow_stop", "")
        return _follow_stats(stats)

    def stats(self) -> FollowStats:
        """Return the statistics so far."""
        if self._follow is None:
            raise from_status(lib.PS_E_STATE, "ps_follow_stats_get", "it was stopped", 0)
        stats = ffi.new("ps_follow_stats *")
        _check(lib.ps_follow_stats_get(self._follow, stats), "ps_follow_stats_get", "")
        return _follow_stats(stats)


def _follow_stats(stats: Any) -> FollowStats:
    why = ""
    if stats.perf_errno:
        with contextlib.suppress(ValueError):
            why = os.strerror(stats.perf_errno)
    return FollowStats(ROUTES[stats.route], why, stats.ticks, stats.late_ticks, stats.cpu_s)
