# SPDX-License-Identifier: Apache-2.0
"""What a live view shows of a node: plain values, and as JSON. `top_view` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from powersample.analysis.interval import ORDER, verdict

MINUTE_S = 60.0
SPARKS = 120  # points of the last minute that are kept, whatever the delay


@dataclass(frozen=True, slots=True)
class Gauge:
    """One device and domain at one moment; None where its source does not tell.

    Attributes:
        name: "gpu0", "package-0 dram", "wall".
        kind: "gpu", "cpu", "board" or "wall"; "total" of several.
        model: the board's name.
        power_w: now; None when the newest reading failed or is too old.
        limit_w: the power limit that is enforced.
        age_s: since the value changed.
        window_s: over which it averages.
        period_s: between a sensor's updates.
        joules: since `seconds` ago.
        half_j: half of the 95 % interval.
        verdict: as an energy's; "" before one is told.
        mean_w: those joules over the seconds that they are of.
        seconds: for how long it has been watched.
        unseen_s: of these that no reading speaks for.
        spark: (seconds ago, W) over the last minute, the oldest first.
        polls: reads so far.
        errors: failed ones.
        error: what the newest of them said; "" without, or once reads work again.
        dropouts: silences of several poll spacings.
        dropout_s: their length together.
        adds_up: as what it is part of the node's sum, "GPU", "CPU" or "DRAM"; "" where it is none.
    """

    name: str
    kind: str
    model: str | None = None
    power_w: float | None = None
    limit_w: float | None = None
    age_s: float | None = None
    window_s: float | None = None
    period_s: float | None = None
    joules: float | None = None
    mean_w: float | None = None
    half_j: float | None = None
    verdict: str = ""
    seconds: float = 0.0
    unseen_s: float = 0.0
    utilization_pct: float | None = None
    memory_pct: float | None = None
    clock_hz: float | None = None
    temperature_c: float | None = None
    processes: int | None = None
    spark: tuple[tuple[float, float], ...] = ()
    polls: int = 0
    errors: int = 0
    error: str = ""
    dropouts: int = 0
    dropout_s: float = 0.0
    adds_up: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """A node at one moment.

    Attributes:
        host: its name.
        simulated: the simulated node's, "" for real devices.
        unix_s: now, s since 1970.
        seconds: since watching began.
        driver: NVIDIA's, "" without one.
        gauges: of its devices: GPUs, CPUs, the rest, meters.
        rates_hz: passes a second of the lanes, the least and the most.
        lanes: how many run.
        dropped: records that were lost here.
        skipped: passes that lanes were late for.
        notes: what is missing and why.
        trouble: what has failed.
    """

    host: str
    simulated: str
    unix_s: float
    seconds: float
    driver: str
    gauges: tuple[Gauge, ...]
    rates_hz: tuple[float, float]
    lanes: int
    dropped: int
    skipped: int
    notes: tuple[str, ...]
    trouble: tuple[str, ...]

    @property
    def total(self) -> Gauge | None:
        """All GPUs, packages and memories together; None of fewer than two. What one of them lacks is not told."""
        parts = [one for one in self.gauges if one.adds_up]
        if len(parts) < 2:
            return None
        power_w = _sum([one.power_w for one in parts])
        joules = _sum([one.joules for one in parts])
        halves = [one.half_j for one in parts if one.half_j is not None]  # errors of different devices are their own
        half_j = math.hypot(*halves) if len(halves) == len(parts) else None
        sparks: dict[float, list[float]] = {}
        for one in parts:
            for ago_s, watts in one.spark:
                sparks.setdefault(ago_s, []).append(watts)
        return Gauge(
            name="total",
            kind="total",
            model=" + ".join(dict.fromkeys(one.adds_up for one in parts)),
            power_w=power_w,
            joules=joules,
            mean_w=_sum([one.mean_w for one in parts]),
            half_j=half_j,
            verdict=verdict(half_j, joules, _cap(parts)) if half_j is not None and joules else "",
            seconds=self.seconds,
            spark=tuple((ago_s, math.fsum(each)) for ago_s, each in sparks.items() if len(each) == len(parts)),
        )


def _cap(parts: Sequence[Gauge]) -> str:
    """Return the verdict that one's faults, a reset or a sleep, hold all of them together down to."""
    caps = [
        one.verdict
        for one in parts
        if one.half_j is not None and one.joules and one.verdict != verdict(one.half_j, one.joules)
    ]
    return max(caps, key=ORDER.index, default="good")


def _sum(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return math.fsum(known) if len(known) == len(values) else None


def frame_json(frame: Frame) -> Mapping[str, Any]:
    """Return a frame as plain values, with `schema_version`, and the total beside the gauges."""
    data = asdict(frame) | {"schema_version": 1}
    data["gauges"] = [_plain(one) for one in frame.gauges]
    total = frame.total
    data["total"] = None if total is None else _plain(total)
    return data


def _plain(one: Gauge) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "spark"}
