# SPDX-License-Identifier: Apache-2.0
"""What a recording tells while it goes on: the meters' readings, and the means of every part over a window."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from powersample.errors import DeviceError
from powersample.experiments.calibrate.steadiness import Readings, trend
from powersample.experiments.calibrate.surroundings import gpu_busy_pct, gpus_held_back

if TYPE_CHECKING:
    from powersample.analysis import Measured
    from powersample.model import Window
    from powersample.session.recording import Recording

WALL = "wall"
NORMAL_95 = 1.96
UNKNOWN_LATENCY_S = 1.0
NS = 1e-9


@dataclass(frozen=True, slots=True)
class Means:
    """Mean powers of a window, W.

    Attributes:
        components_w: by group: cpu, dram, gpu; one that is not measured is not there.
        components_u_w: standard uncertainties by chance: without gain and offset, which are the same all the time.
        wall_w: of all meters together; NaN when they do not speak for the window.
        wall_u_w: standard uncertainty by chance, drift included.
        accuracy_w: the meters' limits of error at these readings; those of one make add up. NaN where unknown.
        throttled: whether a GPU's driver said that heat held it back.
        gpu_busy_pct: share of the time in which the busiest GPU worked, as its driver tells.
        lacks: what could not be told, and why, a sentence each.
    """

    components_w: Mapping[str, float]
    components_u_w: Mapping[str, float]
    wall_w: float
    wall_u_w: float
    accuracy_w: float
    throttled: bool = False
    gpu_busy_pct: float = 0.0
    lacks: tuple[str, ...] = ()


class Seen(Protocol):
    """The recording under way, and its clock."""

    @property
    def late_s(self) -> float:
        """How long after a window all is there that its energies need, s."""

    @property
    def unsure_s(self) -> float:
        """By how much the meters' readings may be older than their stamps tell, s."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC."""

    def sleep(self, duration_s: float) -> None:
        """Wait; not at all for less than nothing."""

    def readings(self, since_ns: int) -> Sequence[Readings]:
        """Return every meter's readings since then; raises `DeviceError` when the sampler has ended."""

    def means(self, window: Window) -> Means:
        """Return what a window's means are, once it is over for `late_s`."""


@dataclass(frozen=True, slots=True)
class RecordingSeen:
    """A recording."""

    recording: Recording

    @property
    def late_s(self) -> float:
        """See `Seen`."""
        return self.recording.margin_s

    @property
    def unsure_s(self) -> float:
        """See `Seen`."""
        latest = [info.latency_max_s for info in self.recording.meters.recorder.infos]
        return max((UNKNOWN_LATENCY_S if one is None else one for one in latest), default=0.0)

    def now_ns(self) -> int:
        """See `Seen`."""
        return time.monotonic_ns()

    def sleep(self, duration_s: float) -> None:
        """See `Seen`."""
        time.sleep(max(0.0, duration_s))

    def readings(self, since_ns: int) -> Sequence[Readings]:
        """See `Seen`."""
        if why := self.recording.recorder.failure():
            raise DeviceError(why)
        trace = self.recording.so_far()
        found = []
        for info in self.recording.meters.recorder.infos:
            if info.channels[0].domain != WALL:
                continue
            if trace.extent(info.channels[0].name) is None:
                found.append(Readings(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)))
                continue
            series = trace.series(info.channels[0].name, since_ns, None)
            series = series.take(series.good)
            span_ns = np.zeros(len(series), np.int64) if series.span_ns is None else series.span_ns
            late_ns = round(info.latency_s * 1e9)
            found.append(Readings(series.t1_ns - late_ns, span_ns.astype(np.float64) * NS, series.value))
        return found

    def means(self, window: Window) -> Means:
        """See `Seen`."""
        from powersample.analysis import totals, window_energies
        from powersample.analysis.course import GROUPS, KEYS

        trace = self.recording.so_far()
        measured = window_energies(trace, [window])[0]
        sums = totals(measured, window)
        there = {one.energy.domain for one in measured if not one.spare}
        components_w = {name: sums[key] / window.duration_s for name, key in KEYS.items() if sums[key] is not None}
        chance_w = {name: _chance_w(measured, GROUPS[name], window) for name in components_w}
        wall_w = math.nan if sums["node_j"] is None else sums["node_j"] / window.duration_s
        wall_u_w = _chance_w(measured, WALL, window)
        return Means(
            components_w=components_w,
            components_u_w={name: u_w for name, u_w in chance_w.items() if math.isfinite(u_w)},
            wall_w=wall_w,
            wall_u_w=math.hypot(wall_u_w if math.isfinite(wall_u_w) else 0.0, self._scatter_w(window)),
            accuracy_w=self._accuracy_w(measured, window),
            throttled=gpus_held_back(trace, window.start_ns, window.end_ns),
            gpu_busy_pct=gpu_busy_pct(trace, window.start_ns, window.end_ns),
            lacks=tuple(sums["reasons"]) + (() if WALL in there else ("no meter has told anything",)),
        )

    def _scatter_w(self, window: Window) -> float:
        """Return the standard uncertainty of the wall's mean by its readings' scatter and drift."""
        lines = [trend(one.between(window.start_ns, window.end_ns)) for one in self.readings(window.start_ns)]
        squares = [
            one.scatter_w**2 / one.count + one.drift_u_w(window.duration_s) ** 2 for one in lines if one is not None
        ]
        return math.sqrt(sum(squares))

    def _accuracy_w(self, measured: Sequence[Measured], window: Window) -> float:
        limits = {info.channels[0].device: info.accuracy for info in self.recording.meters.recorder.infos}
        found = 0.0
        for one in measured:
            if one.primary and not one.spare and one.energy.domain == WALL and one.energy.joules is not None:
                accuracy = limits.get(one.energy.device)
                found += (
                    math.nan if accuracy is None else float(accuracy.limit_w(one.energy.joules / window.duration_s))
                )
        return found


def _chance_w(measured: Sequence[Measured], domain: str, window: Window) -> float:
    """Return the standard uncertainty by chance of a domain's mean power, W; NaN where one has no interval."""
    from powersample.analysis.relative import chance_j

    mine = [one.energy for one in measured if one.primary and not one.spare and one.energy.domain == domain]
    return chance_j(mine) / NORMAL_95 / window.duration_s
