# SPDX-License-Identifier: Apache-2.0
"""The simulated node behind `measure(simulate=...)` and `record --simulate`: which node, which load, and its truth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from powersample import errors

if TYPE_CHECKING:
    from powersample.capture import Plan
    from powersample.doctor import Machine
    from powersample.model import Series
    from powersample.sim import Node

TRUTH_SCALE = 1e-9  # the stored truth counts nanojoules: exact to 1 nJ, good for 9 GJ


def make_node(spec: str, board_seed: int | None = None) -> Node:
    """Return the node that `spec` names: a profile, or PROFILExN for N GPUs ("h100x4").

    Raises:
        InvalidArgument: Unknown profile, or a number of GPUs outside 1 to 16.
    """
    from powersample.sim import Node, profile_names

    profile, _, count = spec.rpartition("x")
    if spec in profile_names() or not count.isdigit():
        profile, count = spec, "1"
    return Node(profile, gpus=int(count), board_seed=board_seed)


def simulated_plan(plan: Plan, node: Node) -> Plan:
    """Return `plan` for `node`: its library, and of the sources those that it has.

    Raises:
        InvalidArgument: None of the plan's sources is simulated.
    """
    if "nvml" not in plan.sources:
        raise errors.InvalidArgument(f"a simulated node has GPUs only, not {', '.join(plan.sources)}; add nvml")
    return replace(plan, nvml_library=os.fspath(node.library), sources=("nvml",))


def node_machine(node: Node, name: str) -> Machine:
    """Return what the doctor sees of `node`: its devices on this machine's clock, scheduler and disk."""
    from powersample.doctor import Machine

    absent = node.directory / "absent"
    return Machine(
        sysfs_root=node.sysfs or absent,
        devfs_root=node.devfs or absent,
        nvml_library=os.fspath(node.library),
        simulated=name,
    )


def apply_load(node: Node, load: str, pid: int) -> None:
    """Give every GPU of `node` its load.

    Args:
        node: The node.
        load: "cpu" (the CPU use of `pid` and its descendants; 0 is this process), "idle", "script:FILE" (CSV
            `seconds,watts`) or "trace:FILE" (a recording, GPU by GPU, or such a CSV: see `replay`).
        pid: The process that "cpu" follows.

    Raises:
        InvalidArgument: Unknown kind of load.
        BadFormat: The file does not hold a load.
    """
    kind, _, path = load.partition(":")
    if kind == "cpu":
        node.follow(pid)
    elif kind == "script" and path:
        from powersample.sim.scenario import read_script

        steps = read_script(Path(path))
        for gpu in range(len(node.gpu_uuids)):
            node.load_script(gpu, steps)
    elif kind == "trace" and path:
        from powersample.session.replay import read_replays

        replays = read_replays(Path(path))
        for gpu in range(len(node.gpu_uuids)):  # a node of more GPUs than were recorded begins again with the first
            one = replays[gpu % len(replays)]
            node.load_trace(gpu, one.t_ns, one.watts)
        node.load_origin = "replay of " + "; ".join(str(one) for one in replays[: len(node.gpu_uuids)])
    elif load != "idle":
        raise errors.InvalidArgument(f"load {load!r} is unknown; use cpu, idle, script:FILE.csv or trace:FILE")


def truth_series(node: Node, start_ns: int, end_ns: int) -> Iterator[Series]:
    """Yield each GPU's exact energy as a counter channel, with a record at every change of power.

    A line between neighbours is then exact: power is constant between them. Bounded memory at any length.
    """
    import numpy as np

    from powersample.model import Channel, Kind, Series

    for gpu, uuid in enumerate(node.gpu_uuids):
        channel = Channel(
            name=f"truth.gpu{gpu}.energy",
            device=uuid,
            domain="gpu",
            kind=Kind.ENERGY,
            unit="J",
            scale=TRUTH_SCALE,
            stamp="instant",
            sensor="simulated truth",
        )
        sequence = 0
        for t_ns, energy_nj in node.truth_counter(gpu, start_ns, end_ns):
            count = len(t_ns)
            yield Series(
                channel=channel,
                t0_ns=t_ns,
                t1_ns=t_ns,
                raw=energy_nj,
                status=np.zeros(count, np.uint16),
                seq=np.arange(sequence, sequence + count, dtype=np.uint32),
            )
            sequence += count
