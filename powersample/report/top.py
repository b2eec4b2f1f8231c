# SPDX-License-Identifier: Apache-2.0
"""What a live view shows of a node: plain values, and as JSON. `top_view` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MINUTE_S = 60.0
SPARKS = 120  # points of the last minute that are kept, whatever the delay


@dataclass(frozen=True, slots=True)
class Gauge:
    """One device and domain at one moment; None where its source does not tell.

    Attributes:
        name: "gpu0", "package-0 dram", "wall".
        kind: "gpu", "cpu", "board" or "wall".
        model: the board's name.
        power_w: now; None when the newest reading failed or is too old.
        limit_w: the power limit that is enforced.
        age_s: since the value changed.
        window_s: over which it averages.
        period_s: between a sensor's updates.
        joules: since `seconds` ago.
        half_j: half of the 95 % interval.
        verdict: as an energy's; "" before one is told.
        seconds: for how long energy has been counted.
        unseen_s: of these that no reading speaks for.
        spark: (seconds ago, W) over the last minute, the oldest first.
        polls: reads so far.
        errors: failed ones.
        error: what the newest of them said; "" without, or once reads work again.
        dropouts: silences of several poll spacings.
        dropout_s: their length together.
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


def frame_json(frame: Frame) -> Mapping[str, Any]:
    """Return a frame as plain values, with `schema_version`."""
    data = asdict(frame) | {"schema_version": 1}
    data["gauges"] = [{name: value for name, value in one.items() if name != "spark"} for one in data["gauges"]]
    return data
