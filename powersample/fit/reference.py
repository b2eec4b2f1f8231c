# SPDX-License-Identifier: Apache-2.0
"""The load that a sensor was watching: its power as steps, with exact integrals and an exact first-order lag."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.loads.edge_log import EdgeLog
from powersample.model import Kind, Trace

GRID_NS = 1_000_000  # a meter's samples are put together to so much: far below any sensor's window

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reference:
    """A power that is constant between instants, on the clock of the trace it is compared with.

    Attributes:
        t_ns: int64 (n,), instants, rising; the power before the first and behind the last is unknown.
        power_w: float64 (n - 1,), from each instant to the next; of edges without watts any level will do.
        name: what it is, for people.
        calibrated: whether its watts are the board's own, so that gain and offset against it are the sensor's.
        own_clock: whether its instants are of the trace's clock; if not, a delay holds the clocks' difference too.
    """

    t_ns: NDArray[np.int64]
    power_w: Floats
    name: str
    calibrated: bool = False
    own_clock: bool = False
    _energy: Floats = field(init=False, repr=False)  # from the first instant to each, W x ns
    _since: Floats = field(init=False, repr=False)  # from the first instant to each, ns

    def __post_init__(self) -> None:
        if len(self.t_ns) < 2 or len(self.power_w) != len(self.t_ns) - 1 or not (np.diff(self.t_ns) > 0).all():
            raise InvalidArgument(f"{self.name} is no reference: it needs two instants or more, in rising order")
        steps = self.power_w * np.diff(self.t_ns)
        object.__setattr__(self, "_since", (self.t_ns - self.t_ns[0]).astype(np.float64))
        object.__setattr__(self, "_energy", np.concatenate(([0.0], np.cumsum(steps))))

    @classmethod
    def of_channel(
        cls,
        trace: Trace,
        name: str,
        *,
        shift_ns: int = 0,
        calibrated: bool = False,
        own_clock: bool = False,
        label: str = "",
    ) -> Reference:
        """Return a meter's power channel, or a simulated node's truth, as a reference.

        Args:
            trace: where it lies.
            name: of the channel: power, or an energy counter that has a record at every change of power.
            shift_ns: added to its times, where its clock is another.
            calibrated: see `Reference`.
            own_clock: see `Reference`.
            label: how to call it; the channel's name unless told.

        Raises:
            InvalidArgument: it is no power and no energy, or has too few good readings.
        """
        channel = trace.channel(name)
        series = trace.series(name)
        series = series.take(series.good)
        t_ns, first = np.unique(series.t_ns, return_index=True)
        value = series.value[first]
        if channel.kind is Kind.AUX or len(t_ns) < 2:
            raise InvalidArgument(f"channel {name} is no reference: it needs two good readings of power or energy")
        span_ns = np.diff(t_ns)
        joules = np.diff(value) if channel.kind is Kind.ENERGY else (value[1:] + value[:-1]) / 2 * span_ns * 1e-9
        if channel.kind is Kind.POWER and np.median(span_ns) < GRID_NS:
            energy = np.concatenate(([0.0], np.cumsum(joules)))
            grid = np.arange(t_ns[0], t_ns[-1], GRID_NS, dtype=np.int64)
            joules = np.diff(np.interp(grid - t_ns[0], t_ns - t_ns[0], energy))
            t_ns, span_ns = grid, np.diff(grid)
        return cls(t_ns + shift_ns, joules / (span_ns * 1e-9), label or name, calibrated, own_clock)

    @classmethod
    def of_edges(cls, log: EdgeLog) -> Reference:
        """Return a load generator's log as a reference: how many of its threads worked, on CLOCK_MONOTONIC."""
        t_ns, level = log.steps()
        return cls(t_ns, level, f"the edges of {log.name}", own_clock=True)

    @property
    def edges(self) -> int:
        """How often the power goes from low to high or back; what moves less than a quarter of its range does not."""
        low, high = np.quantile(np.repeat(self.power_w, self._weights()), [0.05, 0.95])
        up, down = self.power_w > low + 0.75 * (high - low), self.power_w < low + 0.25 * (high - low)
        state = up[up | down]
        return int((state[1:] != state[:-1]).sum())

    @property
    def swing_w(self) -> float:
        """The range in which the power lies nine tenths of the time."""
        low, high = np.quantile(np.repeat(self.power_w, self._weights()), [0.05, 0.95])
        return float(high - low)

    def _weights(self) -> NDArray[np.int64]:
        span_ns = np.diff(self.t_ns)
        weights: NDArray[np.int64] = np.maximum(1, np.rint(span_ns / span_ns.sum() * 10_000)).astype(np.int64)
        return weights

    def lagged(self, tau_ns: float) -> Lagged:
        """Return the power behind a first-order lag that rests at the first power before it begins."""
        if tau_ns <= 0:
            return Lagged(self, 0.0, np.empty(0))
        decay = np.exp(-np.diff(self.t_ns) / tau_ns)
        y, factor = np.concatenate((self.power_w[:1], self.power_w * -np.expm1(-np.diff(self.t_ns) / tau_ns))), decay
        factor = np.concatenate(([0.0], factor))
        shift = 1
        while shift < len(y):  # y[k] = factor[k] y[k - 1] + y[k]: doubling strides instead of a loop
            y[shift:] = y[shift:] + factor[shift:] * y[:-shift]
            factor[shift:] = factor[shift:] * factor[:-shift]
            shift *= 2
        return Lagged(self, tau_ns, y)


@dataclass(frozen=True, slots=True)
class Lagged:
    """A reference behind a first-order lag (facts: x - y = tau y', so its integral needs y at two instants only)."""

    reference: Reference
    tau_ns: float
    y_w: Floats  # at the reference's instants; empty without a lag

    def power_w(self, t_ns: Floats) -> Floats:
        """Return the lagged power at instants on the reference's clock."""
        return self._power(*self._place(t_ns))

    def mean_w(self, t_ns: Floats, window_ns: float | Floats) -> Floats:
        """Return the mean of the lagged power over the window that ends at each instant; 0 is the power itself.

        One window for all, or each its own, and then all above 0.
        """
        end = self._place(t_ns)
        if np.max(window_ns) < 1.0:
            return self._power(*end)
        begin = self._place(t_ns - window_ns)
        spent = self._energy(*end) - self._energy(*begin)
        if self.tau_ns:
            spent -= self.tau_ns * (self._power(*end) - self._power(*begin))
        return spent / window_ns

    def _place(self, t_ns: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Return in which step each instant lies, and how far behind the step's begin."""
        since = self.reference._since
        at = np.minimum(np.maximum(np.searchsorted(since, t_ns, "right") - 1, 0), len(since) - 2)
        return at, t_ns - since[at]

    def _power(self, at: NDArray[np.int64], since_ns: Floats) -> Floats:
        power = self.reference.power_w[at]
        if not self.tau_ns:
            return power
        result: Floats = power + (self.y_w[at] - power) * np.exp(-np.maximum(since_ns, 0.0) / self.tau_ns)
        return result

    def _energy(self, at: NDArray[np.int64], since_ns: Floats) -> Floats:
        result: Floats = self.reference._energy[at] + self.reference.power_w[at] * since_ns
        return result
