# SPDX-License-Identifier: Apache-2.0
"""The sampler as Python objects: status codes become exceptions, records land in numpy arrays the caller owns.

Nothing else is added here. Every object frees its C counterpart in `close()` (or at the end of a `with`), and again
harmlessly when collected. Records leave by copy; no view of ring memory is ever handed out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample._native.door import ffi, lib
from powersample.model import SAMPLE_DTYPE

MODES = {
    "paced": lib.PS_MODE_PACED,
    "tight": lib.PS_MODE_TIGHT,
    "virtual": lib.PS_MODE_VIRTUAL,
    "follow": lib.PS_MODE_FOLLOW,
}
KEEP_MODES = {"all": lib.PS_KEEP_ALL, "changes": lib.PS_KEEP_CHANGES}
KINDS = {lib.PS_KIND_POWER: "power", lib.PS_KIND_ENERGY: "energy", lib.PS_KIND_AUX: "aux"}
STAMPS = {lib.PS_STAMP_BRACKET: "bracket", lib.PS_STAMP_INSTANT: "instant"}
RATE_ORIGINS = {
    lib.PS_RATE_ASKED: "asked",
    lib.PS_RATE_CAP: "highest useful",
    lib.PS_RATE_LANE_BUDGET: "calls limited to 2 % of the lane's time",
    lib.PS_RATE_DRIVER_BUDGET: "calls limited to 5 % of the driver's time",
    lib.PS_RATE_TURNS: "not limited further: any slower, and a counter could turn round twice unseen",
    lib.PS_RATE_UPDATES: "by the sensor's updates",
}
MIN_HZ, MAX_HZ, MAX_CPU = 1e-3, 1e6, 65535  # as the executable's options
LANE_STATES = {
    lib.PS_LANE_NEW: "new",
    lib.PS_LANE_RUNNING: "running",
    lib.PS_LANE_DONE: "done",
    lib.PS_LANE_HUNG: "hung",
}


def _text(field: Any) -> str:
    return str(ffi.string(field).decode("utf-8", "replace"))


def _check(status: int, error: Any = None, call: str = "") -> None:
    """Raise what `status` stands for, with the C side's own account of it when there is one."""
    if status == lib.PS_OK:
        return
    if error is not None and error.status == status:
        raise errors.from_status(status, _text(error.call), _text(error.text), int(error.vendor))
    raise errors.from_status(status, call, _text(lib.ps_status_text(status)), 0)


def _path(path: str | os.PathLike[str] | None) -> Any:
    return ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))


def now_ns() -> int:
    """Return CLOCK_MONOTONIC in ns, from the very call that the lanes use."""
    return int(lib.ps_clock_now_ns())


def version() -> str:
    """Return the native core's version."""
    return _text(lib.ps_version())


def anchor() -> dict[str, int]:
    """Return one near-simultaneous reading of MONOTONIC, MONOTONIC_RAW, REALTIME and BOOTTIME, in ns."""
    out = ffi.new("ps_anchor *")
    _check(lib.ps_clock_anchor(out), call="clock_gettime")
    names = ("monotonic_ns", "monotonic_raw_ns", "realtime_ns", "boottime_ns", "width_ns")
    return {name: int(getattr(out, name)) for name in names}


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """How a lane runs.

    Attributes:
        mode: "paced", "tight", "follow" or "virtual".
        rate_hz: Passes a second; None lets the sampler choose by the cost of the calls.
        cpu: Pin the thread to this CPU, or None.
        ring_records: Ring capacity, a power of two; None takes the default.
        fifo: Real-time priority from 1 to 99 to run under SCHED_FIFO; None for the ordinary class.
        max_passes: Stop after so many, or None.
        virtual_start_ns: Time of slot 0 in virtual mode.
    """

    mode: str = "paced"
    rate_hz: float | None = None
    cpu: int | None = None
    ring_records: int | None = None
    fifo: int | None = None
    max_passes: int | None = None
    virtual_start_ns: int = 0

    def to_c(self) -> Any:
        """Return the `ps_lane_options *`."""
        if self.mode not in MODES:
            raise errors.InvalidArgument(f"mode {self.mode!r} is unknown; use one of {', '.join(MODES)}")
        if self.fifo is not None and not 1 <= self.fifo <= 99:
            raise errors.InvalidArgument(f"real-time priority {self.fifo}: give 1 to 99, or leave it out")
        if self.mode in ("tight", "follow") and self.rate_hz is not None:
            raise errors.InvalidArgument(f"mode {self.mode} finds its own rate: leave {self.rate_hz} Hz out")
        if self.rate_hz is not None and not MIN_HZ <= self.rate_hz <= MAX_HZ:
            raise errors.InvalidArgument(
                f"rate {self.rate_hz} Hz: give {MIN_HZ:g} to {MAX_HZ:.0f}, or leave it out for automatic"
            )
        if self.cpu is not None and not 0 <= self.cpu <= MAX_CPU:
            raise errors.InvalidArgument(f"CPU {self.cpu}: give the number of a CPU, or leave it out")
        return ffi.new(
            "ps_lane_options *",
            {
                "mode": MODES[self.mode],
                "cpu": -1 if self.cpu is None else self.cpu,
                "rate_hz": self.rate_hz or 0.0,
                "ring_records": self.ring_records or 0,
                "fifo_priority": self.fifo or 0,
                "max_passes": self.max_passes or 0,
                "virtual_start_ns": self.virtual_start_ns,
            },
        )


class _Owner:
    """Holds one C object; frees it once."""

    def __init__(self, pointer: Any, free: Any) -> None:
        self._pointer = ffi.gc(pointer, free)

    @property
    def pointer(self) -> Any:
        if self._pointer is None:
            raise errors.StateError(f"this {type(self).__name__} is closed")
        return self._pointer

    def close(self) -> None:
        """Free the C object; further calls do nothing."""
        if self._pointer is not None:
            ffi.release(self._pointer)
            self._pointer = None

    def give_away(self) -> None:
        """Forget the C object: somebody else owns it now."""
        if self._pointer is not None:
            ffi.gc(self._pointer, None)
            self._pointer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Source(_Owner):
    """A device to read; a sampler takes it over with `add`."""

    def __init__(self, pointer: Any) -> None:
        super().__init__(pointer, lib.ps_source_free)

    def channels(self) -> list[dict[str, Any]]:
        """Return the channels it offers, as dictionaries of `ps_channel`."""
        return _channels(lib.ps_source_channels, self.pointer)


@dataclass(frozen=True, slots=True)
class Script:
    """Table of the scripted source: see `ps_script` in the header.

    `steps` are (pass, channel, status, raw, raw_step, stall_ns), ascending by pass for each channel.
    """

    steps: tuple[tuple[int, int, int, int, int, int], ...]
    channels: int = 1
    kind: str = "power"
    raw_modulus: int = 0
    repeat_passes: int = 0
    scale: float = 1e-3
    max_hz: float = 1000.0


def scripted_source(device: str, script: Script) -> Source:
    """Return a device made of a table, for tests and benchmarks of everything behind it."""
    kinds = {name: value for value, name in KINDS.items()}
    head = {
        "channels": script.channels,
        "kind": kinds[script.kind],
        "raw_modulus": script.raw_modulus,
        "repeat_passes": script.repeat_passes,
        "scale": script.scale,
        "max_hz": script.max_hz,
    }
    names = ("pass", "channel", "status", "raw", "raw_step", "stall_ns")
    steps = ffi.new("ps_script_step[]", [dict(zip(names, step, strict=True)) for step in script.steps])
    out, error = ffi.new("ps_source **"), ffi.new("ps_error *")
    status = lib.ps_source_scripted_new(
        ffi.new("char[]", device.encode()), ffi.new("ps_script *", head), steps, len(script.steps), out, error
    )
    _check(status, error)
    return Source(out[0])


class Sampler(_Owner):
    """Lanes, each a thread with a ring. Add sources, start, drain (or attach a `Spool`), stop."""

    def __init__(self) -> None:
        out = ffi.new("ps_sampler **")
        _check(lib.ps_sampler_new(out), call="ps_sampler_new")
        super().__init__(out[0], lib.ps_sampler_free)

    def add(self, source: Source, options: LaneOptions | None = None) -> int:
        """Add a lane reading `source`, which the sampler then owns; return the lane's index."""
        lane, error = ffi.new("uint32_t *"), ffi.new("ps_error *")
        options_c = (options or LaneOptions()).to_c()
        _check(lib.ps_sampler_add(self.pointer, source.pointer, options_c, lane, error), error)
        source.give_away()
        return int(lane[0])

    def start(self) -> None:
        """Time the calls, choose rates, start the threads; at most once."""
        error = ffi.new("ps_error *")
        _check(lib.ps_sampler_start(self.pointer, error), error)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop every lane; one that hangs in its device call is left behind and said so in its statistics."""
        status = lib.ps_sampler_stop(self.pointer, timeout_s)
        if status != lib.PS_E_TIMEOUT:
            _check(status, call="ps_sampler_stop")

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return int(lib.ps_sampler_lanes(self.pointer))

    @property
    def running(self) -> int:
        """Number of lanes whose thread is alive."""
        return int(lib.ps_sampler_running(self.pointer))

    def channels(self) -> list[dict[str, Any]]:
        """Return all channels in the order of their ids, as dictionaries of `ps_channel`."""
        return _channels(lib.ps_sampler_channels, self.pointer)

    def stats(self, lane: int) -> dict[str, Any]:
        """Return the lane's statistics, as a dictionary of `ps_lane_stats`.

        `errors` maps code to count, `followed` a channel's number in its source to the period learnt in ns.
        """
        out = ffi.new("ps_lane_stats *")
        _check(lib.ps_sampler_stats(self.pointer, lane, out), call="ps_sampler_stats")
        skip = {"name", "driver", "note", "n_errors", "error_code", "error_count", "call_hist", "wake_hist"}
        skip |= {"n_followed", "followed_channel", "followed_period_ns"}
        stats = {name: getattr(out, name) for name, _ in ffi.typeof("ps_lane_stats").fields if name not in skip}
        stats["name"], stats["driver"], stats["note"] = _text(out.name), _text(out.driver), _text(out.note)
        stats["errors"] = {int(out.error_code[i]): int(out.error_count[i]) for i in range(out.n_errors)}
        followed = zip(list(out.followed_channel), list(out.followed_period_ns), strict=True)
        stats["followed"] = dict(list(followed)[: out.n_followed])
        stats["call_hist"], stats["wake_hist"] = list(out.call_hist), list(out.wake_hist)
        stats["rate_origin"] = RATE_ORIGINS.get(out.rate_origin, "unknown")
        stats["state"] = LANE_STATES.get(out.state, "unknown")
        return stats

    def drain(self, lane: int, out: NDArray[np.void]) -> int:
        """Move the lane's oldest records into `out` (1-D, `SAMPLE_DTYPE`, writable); return how many."""
        if out.dtype != SAMPLE_DTYPE or out.ndim != 1 or not out.flags.c_contiguous:
            raise errors.InvalidArgument("drain needs a contiguous 1-D array of SAMPLE_DTYPE")
        count = ffi.new("uint32_t *")
        target = ffi.from_buffer("ps_sample[]", out, require_writable=True)
        _check(lib.ps_sampler_drain(self.pointer, lane, target, len(out), count), call="ps_sampler_drain")
        return int(count[0])


class Spool(_Owner):
    """Writes what a sampler's lanes produce into a directory, from a thread of its own."""

    def __init__(
        self, directory: str | os.PathLike[str], sampler: Sampler, *, keep: str = "all", **options: int
    ) -> None:
        out, error = ffi.new("ps_spool **"), ffi.new("ps_error *")
        options_c = ffi.new("ps_spool_options *", options | {"keep": KEEP_MODES[keep]})
        _check(lib.ps_spool_new(_path(directory), sampler.pointer, options_c, out, error), error)
        super().__init__(out[0], lib.ps_spool_free)

    def start(self) -> None:
        """Start the drain thread; the sampler must have been started."""
        error = ffi.new("ps_error *")
        _check(lib.ps_spool_start(self.pointer, error), error)

    def sync(self, timeout_s: float = 5.0) -> None:
        """Return once every record pushed before the call is in a file."""
        _check(lib.ps_spool_sync(self.pointer, timeout_s), call="ps_spool_sync")

    def stop(self) -> None:
        """Drain what is left and close the part; call after the sampler's stop."""
        error = ffi.new("ps_error *")
        _check(lib.ps_spool_stop(self.pointer, error), error)

    def stats(self) -> dict[str, int]:
        """Return records, bytes, omitted, discarded, parts, status and sys_errno."""
        out = ffi.new("ps_spool_stats *")
        _check(lib.ps_spool_get_stats(self.pointer, out), call="ps_spool_get_stats")
        return {name: int(getattr(out, name)) for name, _ in ffi.typeof("ps_spool_stats").fields}


def _channels(function: Any, pointer: Any) -> list[dict[str, Any]]:
    count = ffi.new("uint32_t *")
    _check(function(pointer, ffi.NULL, 0, count), call="channels")
    rows = ffi.new("ps_channel[]", max(1, int(count[0])))
    _check(function(pointer, rows, int(count[0]), count), call="channels")
    texts = ("name", "device", "domain", "unit", "sensor")
    numbers = ("lane", "group", "divisor", "id", "modulus", "span_ns")
    return [
        {name: _text(getattr(row, name)) for name in texts}
        | {name: int(getattr(row, name)) for name in numbers}
        | {"scale": float(row.scale), "kind": KINDS[row.kind], "stamp": STAMPS[row.stamp]}
        for row in (rows[i] for i in range(int(count[0])))
    ]


def layout() -> dict[str, tuple[int, int]]:
    """Return offset and size of every field of `ps_sample`, for the test that compares it with the numpy dtype."""
    fields = ffi.typeof("ps_sample").fields
    return {name: (int(field.offset), int(ffi.sizeof(field.type))) for name, field in fields}
