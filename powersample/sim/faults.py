# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in the simulated driver, and how long its calls take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from powersample._native import api_sim
from powersample.errors import InvalidArgument, StateError
from powersample.sim import scenario

LIB_RM_VERSION_MISMATCH = 18  # nvml.h


@dataclass(frozen=True, slots=True)
class Latency:
    """Duration of a call; made by `none`, `fixed`, `lognormal` or `long_tail`.

    Attributes:
        kind: "none", "fixed", "lognormal" or "long_tail".
        median_s: The usual duration.
        sigma: Standard deviation of its logarithm ("lognormal").
        tail_share: Share of the calls that take `tail_s` instead ("long_tail").
        tail_s: Duration of those.
    """

    kind: str
    median_s: float = 0.0
    sigma: float = 0.0
    tail_share: float = 0.0
    tail_s: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("none", "fixed", "lognormal", "long_tail"):
            raise InvalidArgument(f"latency kind {self.kind!r} is unknown; use none, fixed, lognormal or long_tail")
        for name, limit in (("median_s", 3600.0), ("sigma", 5.0), ("tail_share", 1.0), ("tail_s", 3600.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= limit):
                raise InvalidArgument(f"{name} of a latency is {value!r}; it must be from 0 to {limit:g}")

    @classmethod
    def none(cls) -> Latency:
        """As fast as the stand-in is."""
        return cls("none")

    @classmethod
    def fixed(cls, seconds: float) -> Latency:
        """Every call takes so long."""
        return cls("fixed", seconds)

    @classmethod
    def lognormal(cls, median_s: float, sigma: float) -> Latency:
        """Log-normal around `median_s`."""
        return cls("lognormal", median_s, sigma)

    @classmethod
    def long_tail(cls, usual_s: float, share: float, tail_s: float) -> Latency:
        """`usual_s`, but `tail_s` for `share` of the calls."""
        return cls("long_tail", usual_s, tail_share=share, tail_s=tail_s)


class FaultControl:
    """The part of `Node` that makes its driver slow, wrong or gone; all of it acts on running processes."""

    _faults = 0

    def _node_file(self) -> api_sim.NodeFile:
        raise NotImplementedError

    def _truth(self, gpu: int) -> api_sim.Truth:
        raise NotImplementedError

    def set_latency(self, function: str, latency: Latency) -> None:
        """Set how long calls of `function` take; "any": those without a latency of their own.

        Raises:
            InvalidArgument: Unknown function; the message lists the known ones.
        """
        self._known(function)
        self._node_file().set_latency(
            function,
            kind=api_sim.LATENCIES[latency.kind],
            median_ns=latency.median_s * 1e9,
            sigma=latency.sigma,
            tail_share=latency.tail_share,
            tail_ns=latency.tail_s * 1e9,
        )

    def inject(
        self,
        function: str = "any",
        code: int = 0,
        *,
        gpu: int | None = None,
        field: int = 0,
        every: int = 1,
        from_s: float = 0.0,
        to_s: float | None = None,
        hang_s: float = 0.0,
    ) -> None:
        """Let calls go wrong, in every process that has the library loaded.

        Args:
            function: One of "any init handle power_usage field_values energy utilization clock temperature
                pstate throttle processes samples".
            code: The nvmlReturn_t to answer with; 0 only delays, by `hang_s`.
            gpu: Index; None for all.
            field: A field id inside a field_values call: that entry's own code; 0: the whole call.
            every: Each n-th of these calls.
            from_s: From so many seconds after now.
            to_s: Until so many seconds after now; None: until `clear_faults`.
            hang_s: Block so long first.

        Raises:
            InvalidArgument: A setting outside its range.
            StateError: There are 32 already, or the node is closed.
        """
        self._known(function)
        begin_ns = scenario.nanoseconds(from_s, "from_s")
        end_ns = None if to_s is None else scenario.nanoseconds(to_s, "to_s")
        hang_ns = scenario.nanoseconds(hang_s, "hang_s")
        if gpu is not None:
            self._truth(gpu)
        if not 0 <= code <= 999 or (code == 0 and hang_ns == 0):
            raise InvalidArgument(f"code is {code}; give an nvmlReturn_t from 1 to 999, or 0 with hang_s")
        if every < 1 or field < 0 or (end_ns is not None and end_ns <= begin_ns):
            raise InvalidArgument("every must be at least 1, field at least 0, and to_s after from_s")
        if self._faults == api_sim.MAX_FAULTS:
            raise StateError(f"there are {api_sim.MAX_FAULTS} faults already", "Call clear_faults first.")
        now_ns = time.monotonic_ns()
        self._node_file().set_fault(
            self._faults,
            function=api_sim.FUNCTIONS[function],
            gpu=-1 if gpu is None else gpu,
            field=field,
            code=code,
            every=every,
            active=1,
            from_ns=now_ns + begin_ns,
            to_ns=0 if end_ns is None else now_ns + end_ns,
            hang_ns=hang_ns,
        )
        self._faults += 1

    def clear_faults(self) -> None:
        """End all injected faults, hanging calls and a version mismatch included."""
        for index in range(self._faults):
            self._node_file().set_fault(index)
        self._faults = 0
        self._node_file().set_init(0)

    def reload_driver(self) -> None:
        """Reload the driver: energy counters begin anew, and processes must initialise NVML again."""
        self._node_file().reload(time.monotonic_ns())

    def version_mismatch(self) -> None:
        """Upgrade the driver under the library: nvmlInit answers 18 (LIB_RM_VERSION_MISMATCH) until `clear_faults`.

        As with a new kernel module and an old library: who runs loses its driver, as in a reload, and cannot
        initialise again; who starts cannot begin.
        """
        self._node_file().set_init(LIB_RM_VERSION_MISMATCH)
        self._node_file().reload(time.monotonic_ns())

    def step_clock(self, seconds: float, *, after_s: float = 0.0) -> None:
        """Let the driver's clock, that of sample and field stamps, jump by `seconds`, `after_s` from now.

        Samples of before keep the stamps that they had.
        """
        if not (math.isfinite(seconds) and abs(seconds) < 1e8):
            raise InvalidArgument(f"seconds is {seconds!r}; it must be finite and below 1e8")
        at_ns = time.monotonic_ns() + scenario.nanoseconds(after_s, "after_s")
        self._node_file().step_clock(at_ns, round(seconds * 1e9))

    def _known(self, function: str) -> None:
        if function not in api_sim.FUNCTIONS:
            raise InvalidArgument(f"no function {function!r}; there are {', '.join(api_sim.FUNCTIONS)}")
