# SPDX-License-Identifier: Apache-2.0
"""A recording from which sensors can be told: quick polls; on a simulated node, a load that tells."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.analysis import truth_void
from powersample.errors import InvalidArgument
from powersample.fit import Reference
from powersample.model import TRUTH_PREFIX, Channel, Kind, Trace
from powersample.sensors import field_of
from powersample.session.recording import Recording

if TYPE_CHECKING:
    from powersample.capture import Plan
    from powersample.sim import Node

# Periods of the square wave over the sensor's T. The first seven force aliasing (arXiv 2312.02741); the others show a
# lag and a long window. All a little off: at exactly 1/2 T every update would see the same phase.
FRACTIONS = (1 / 2, 2 / 3, 3 / 4, 4 / 5, 6 / 5, 5 / 4, 4 / 3, 3.3, 11.0, 23.0)
OFF = 1.0137
LEAST_S = 1.0
SETTLE_S = 0.3


def record(plan: Plan, duration_s: float, node: Node | None = None) -> Trace:
    """Record power sensors for a while; a simulated node draws square waves meanwhile.

    Args:
        plan: what to record; of its sources NVML alone has power sensors to be told.
        duration_s: of the load.
        node: the simulated node, or None.

    Returns:
        The trace, in memory.

    Raises:
        InvalidArgument: the duration is below a second.
        NothingMeasurable: there is no GPU.
    """
    if not duration_s >= LEAST_S:
        raise InvalidArgument(f"a duration of {duration_s} s: it takes {LEAST_S:.0f} s or more")
    plan = replace(plan, sources=("nvml",), keep="all")
    with tempfile.TemporaryDirectory(prefix="powersample-characterize-") as folder:
        recording = Recording(plan, Path(folder) / "sensors.parquet", node=node)
        with recording:
            recording.start()
            start_ns = time.monotonic_ns() + round(SETTLE_S * 1e9)
            if node is not None:
                _waves(node, start_ns, round(duration_s * 1e9))
            time.sleep(duration_s + 2 * SETTLE_S)
            stored = recording.finish()
        return Trace.of(
            [stored.series(name) for name in stored.channels],
            anchors=stored.anchors,
            lanes=stored.lanes,
            meta=stored.meta,
        )


def _waves(node: Node, start_ns: int, duration_ns: int) -> None:
    idle_w, max_w = (float(node.profile[f"board.{name}_w"]) for name in ("idle", "max"))
    names = [name for name in ("instant", "usage", "average") if name in node.profile.sensors]
    period_s = float(node.profile[f"sensor.{names[0]}.period_ms"]) * 1e-3
    for gpu in range(len(node.gpu_uuids)):
        for i, fraction in enumerate(FRACTIONS):
            at_ns = start_ns + i * duration_ns // len(FRACTIONS)
            node.load_wave(gpu, max_w, idle_w, fraction * OFF * period_s, 0.5, start_ns=at_ns)
        node.load_script(gpu, [(0.0, idle_w)], start_ns=start_ns + duration_ns)


def sensors_of(trace: Trace, name: str | None = None) -> tuple[str, ...]:
    """Return the channels to tell: the named one, or all power sensors that the table speaks of.

    Raises:
        DeviceNotFound: there is no channel of that name.
        InvalidArgument: none is to be told.
    """
    if name is not None:
        return (trace.channel(name).name,)
    found = tuple(one.name for one in trace.channels.values() if one.kind is Kind.POWER and field_of(one) is not None)
    if not found:
        raise InvalidArgument("there is no power sensor in this record that is known of; name a channel: --channel")
    return found


def truth_of(trace: Trace, channel: Channel) -> Reference | None:
    """Return a simulated node's exact power of the channel's device; None where there is none."""
    if truth_void(trace.meta):
        return None
    for name, truth in trace.channels.items():
        if name.startswith(TRUTH_PREFIX) and (truth.device, truth.domain) == (channel.device, channel.domain):
            return Reference.of_channel(trace, name, calibrated=True, own_clock=True, label="the simulated truth")
    return None
