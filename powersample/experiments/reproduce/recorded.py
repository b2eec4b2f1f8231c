# SPDX-License-Identifier: Apache-2.0
"""What a simulated node's counters stand at, at any instants of its future, and a trace of polls of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from powersample.model import Channel, Kind, Series, Trace
from powersample.sim import Node
from powersample.sim.cpu import unit

RAPL_J = 2.0**-14
DOMAINS = {"cpu": "package", "dram": "dram"}


def counted_parts(node: Node) -> dict[str, list[str]]:
    """Return the node's parts that RAPL counts, by group: "cpu", "dram"; no group that it has no counter for."""
    cpu = node.cpu
    if cpu is None:
        return {}
    return {
        group: [part.name for part in node.parts if part.domain == domain]
        for group, domain in DOMAINS.items()
        if unit(cpu, domain) is not None
    }


def rapl_j(node: Node, name: str, t_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the energy of a part since the first of instants as its package counts it, J; its unit left out.

    Args:
        node: it.
        name: "package-0", "package-0.dram".
        t_ns: shape (n,), in any order.
    """
    begin_ns = int(t_ns.min())
    pieces = list(node.truth_counter(name, begin_ns, int(t_ns.max())))
    at_ns, energy_nj = (np.concatenate(column) for column in zip(*pieces, strict=True))
    gain = float(node.describe()["counter_gains"][name.partition(".")[0]])
    return np.asarray(gain * np.interp(t_ns - begin_ns, at_ns - begin_ns, energy_nj * 1e-9))


def recorded(node: Node, t_ns: NDArray[np.int64]) -> Trace:
    """Return the trace of a lane that polls all RAPL counters and all boards' energy at these instants, rising."""
    return Trace.of(list(_counters(node, t_ns)), meta=meta_of(node))


def meta_of(node: Node) -> dict[str, object]:
    """Return what a recording of the node says of it."""
    board = {"name": node.profile["board.name"], "architecture": node.profile["board.architecture"]}
    told = node.describe()
    return {
        "simulated": True,
        "simulated_node": told,
        "devices": [{"uuid": uuid, **board} for uuid in node.gpu_uuids],
        "driver": told["driver_version"],
    }


def series_of(channel: Channel, t_ns: NDArray[np.int64], values: NDArray[np.float64]) -> Series:
    """Return polls without an error and without a duration: raw values are whole units of the channel."""
    raw = np.rint(values / channel.scale).astype(np.int64)
    return Series(channel, t_ns, t_ns, raw, np.zeros(len(t_ns), np.uint16), np.arange(len(t_ns), dtype=np.uint32))


def energy_channel(node: Node, gpu: int) -> Channel:
    """Return the channel of a board's own counter."""
    return Channel(f"gpu{gpu}.energy", node.gpu_uuids[gpu], "gpu", Kind.ENERGY, "J", 1e-3, sensor="nvml.total_energy")


def _counters(node: Node, t_ns: NDArray[np.int64]) -> Iterator[Series]:
    for group, names in counted_parts(node).items():
        for name in names:
            channel = Channel(
                f"{name}.energy", name.partition(".")[0], DOMAINS[group], Kind.ENERGY, "J", RAPL_J, sensor="powercap",
                modulus=1 << 32,
            )  # fmt: skip
            yield series_of(channel, t_ns, rapl_j(node, name, t_ns))
    for gpu in range(len(node.gpu_uuids)):
        yield series_of(energy_channel(node, gpu), t_ns, node.sensor_values(gpu, "energy", t_ns))
