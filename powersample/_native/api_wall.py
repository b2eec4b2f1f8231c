# SPDX-License-Identifier: Apache-2.0
"""Typed bindings of the simulated node's wall power: parts and fans behind a supply with losses and a lag."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample._native.api_sim import Truth, _check
from powersample._native.door import ffi, lib
from powersample.errors import from_status

POINTS = 1 << 14  # instants a piece of `Wall.counter`
TOLERANCE_PJ = 1_000_000_000  # of a line between two of them: 1 mJ


@dataclass(frozen=True, slots=True)
class WallModel:
    """How the parts' power reaches the plug, as C's ps_wall_model; powersample_sim.h has the formulas.

    Attributes:
        loss_fixed_mw: What the supply loses without load, mW.
        loss_ratio: And of every watt that it gives.
        loss_per_mw: And of the square of what it gives, 1/mW.
        tau_ns: The supply's first-order lag, its hold-up; 0 for none.
        fan_max_mw: Power of all fans at full speed, mW.
        fan_min_speed: Their least speed as a share of the full one.
        fan_low_mw: Filtered power of the parts up to which they have it, mW.
        fan_high_mw: And from which on they have full speed, mW.
        fan_tau_ns: The filter's time constant.
        grid_ns: How often their speed is set.
    """

    loss_fixed_mw: float
    loss_ratio: float
    loss_per_mw: float
    tau_ns: int
    fan_max_mw: float
    fan_min_speed: float
    fan_low_mw: float
    fan_high_mw: float
    fan_tau_ns: int
    grid_ns: int


@dataclass(frozen=True, slots=True)
class WallState:
    """Everything at one instant.

    Attributes:
        parts_w: What the parts draw.
        fans_w: What the fans draw.
        supply_w: What the supply would draw if it had no lag.
        wall_w: What the plug gives.
    """

    parts_w: float
    fans_w: float
    supply_w: float
    wall_w: float


class Wall:
    """The wall power of some truths, exact and the same for whoever asks. Any thread may ask.

    Args:
        model: Fans and supply.
        truths: What lies behind the supply, 1 to 64. They must stay open until this is closed.

    Raises:
        InvalidArgument: A figure outside its range.
    """

    def __init__(self, model: WallModel, truths: Sequence[Truth]) -> None:
        out = ffi.new("ps_wall **")
        handles = ffi.new("ps_truth *[]", [truth.handle for truth in truths])
        status = lib.ps_wall_open(ffi.new("ps_wall_model *", asdict(model)), handles, len(truths), out)
        _check(status, "ps_wall_open", f"{model} of {len(truths)} truths")
        self._handle = out[0]
        self._lock = threading.Lock()  # C's memory of where it was; calls let other threads run

    def joules(self, a_ns: int, b_ns: int) -> float:
        """Return the exact energy of [a_ns, b_ns] on CLOCK_MONOTONIC, J."""
        out = ffi.new("double *")
        self._ask(lib.ps_wall_joules, f"[{a_ns}, {b_ns}] ns", a_ns, b_ns, out)
        return float(out[0])

    def energy_pj(self, a_ns: int, b_ns: int) -> int:
        """Return the same in pJ, up to 9.2 MJ: additive to the last digit."""
        out = ffi.new("int64_t *")
        self._ask(lib.ps_wall_energy_pj, f"[{a_ns}, {b_ns}] ns", a_ns, b_ns, out)
        return int(out[0])

    def mean_w(self, start_ns: int, end_ns: int) -> float:
        """Return the exact mean power of a span, W; its power at `start_ns` when the span is empty."""
        if end_ns == start_ns:
            return self.state(start_ns).wall_w
        return self.joules(start_ns, end_ns) / ((end_ns - start_ns) * 1e-9)

    def power_w(self, t_ns: ArrayLike) -> NDArray[np.float64]:
        """Return the power at each of `t_ns`, W."""
        times = np.atleast_1d(np.asarray(t_ns, np.int64))
        return np.array([self.state(t).wall_w for t in times.tolist()], np.float64)

    def state(self, t_ns: int) -> WallState:
        """Return parts, fans, supply and wall at an instant."""
        out = ffi.new("ps_wall_state *")
        self._ask(lib.ps_wall_state_get, f"{t_ns} ns", t_ns, out)
        return WallState(out.parts_mw / 1e3, out.fans_mw / 1e3, out.supply_mw / 1e3, out.wall_mw / 1e3)

    def counter(self, a_ns: int, b_ns: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (instants, energy since a_ns in nJ) in pieces: a_ns, then so that a line between two is within 1 mJ."""
        yield np.array([a_ns], np.int64), np.zeros(1, np.int64)
        times, energy = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
        into = [ffi.from_buffer("int64_t[]", array, require_writable=True) for array in (times, energy)]
        count = ffi.new("uint64_t *")
        at = a_ns
        while at < b_ns:
            self._ask(lib.ps_wall_counter_nj, f"({at}, {b_ns}] ns", a_ns, at, b_ns, TOLERANCE_PJ, *into, POINTS, count)
            yield times[: count[0]].copy(), energy[: count[0]].copy()
            at = int(times[count[0] - 1])

    def _ask(self, function: Any, text: str, *arguments: Any) -> None:
        with self._lock:
            if self._handle is None:
                raise from_status(lib.PS_E_STATE, "ps_wall", "the simulated node is closed", 0)
            status = function(self._handle, *arguments)
        _check(status, "ps_wall", text)

    def close(self) -> None:
        """Let go of the truths. May be called twice."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            lib.ps_wall_close(handle)
