# SPDX-License-Identifier: Apache-2.0
"""The simulated node behind `measure(simulate=...)` and `record --simulate`: which node, which load, and its truth."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample import errors

if TYPE_CHECKING:
    from powersample.capture import Plan
    from powersample.doctor import Machine
    from powersample.model import Series
    from powersample.sim import Node

KINDS = "cpu, idle, script:FILE.csv, trace:FILE or wave:WATTS,WATTS,PERIOD_S,SHARE"
TOGETHER_NS = 50_000_000  # loads of several devices begin so much after they are asked for
TRUTH_SCALE = 1e-9  # the stored truth counts nanojoules: exact to 1 nJ, good for 9 GJ


def make_node(spec: str, board_seed: int | None = None, **settings: Any) -> Node:
    """Return the node that `spec` names: a node's profile, GPUS, or GPUS+CPUS.

    A node's profile is "paper-node", and "paper-nodex2" the same with two GPUs. GPUS is a profile, or PROFILExN for N
    of them ("h100x4"). CPUS is a CPU profile, PROFILExN for N packages of it ("amd_milanx2"), or "none"; left out,
    one package of the CPU that goes with the GPU. `settings` go to `Node`.

    Raises:
        InvalidArgument: Unknown profile, or a number outside its range.
    """
    from powersample.sim import Node, cpu_profile_names, node_profile_names, profile_names
    from powersample.sim.cpu import cpu_beside

    gpus, _, cpus = spec.partition("+")
    profile, count = _times(gpus, (*profile_names(), *node_profile_names()))
    if profile in node_profile_names():
        if cpus:
            raise errors.InvalidArgument(f"{profile} has its own CPUs; name a GPU to choose them, as h100x4+{cpus}")
        return Node(profile, gpus=count if gpus != profile else None, board_seed=board_seed, **settings)
    cpu, packages = _times(cpus, cpu_profile_names()) if cpus else (cpu_beside(profile), 1)
    named = None if cpu == "none" else cpu
    return Node(profile, gpus=count, board_seed=board_seed, cpu=named, packages=packages, **settings)


def without_number(text: str) -> str:
    """Return "h100" for "h100x4"; a profile's own name stays whole."""
    from powersample.sim import cpu_profile_names, node_profile_names, profile_names

    return _times(text, (*profile_names(), *node_profile_names(), *cpu_profile_names()))[0]


def _times(text: str, names: tuple[str, ...]) -> tuple[str, int]:
    """Split "h100x4" into "h100" and 4; a name that ends in x and a number stays whole."""
    name, _, count = text.rpartition("x")
    return (text, 1) if text in names or not count.isdigit() else (name, int(count))


def simulated_plan(plan: Plan, node: Node) -> Plan:
    """Return `plan` for `node`: its library and folders, and of the sources those that it has.

    Raises:
        InvalidArgument: None of the plan's sources is simulated.
    """
    has = {"nvml": True, "rapl": bool(node.counters), "hwmon": bool(node.meters)}
    sources = tuple(name for name in plan.sources if has.get(name))
    if not sources:
        raise errors.InvalidArgument(
            f"this simulated node has no {' and no '.join(plan.sources)}; add {', '.join(n for n in has if has[n])}"
        )
    sysfs = None if node.sysfs is None else os.fspath(node.sysfs)
    devfs = None if node.devfs is None else os.fspath(node.devfs)
    return replace(plan, nvml_library=os.fspath(node.library), sysfs=sysfs, devfs=devfs, sources=sources)


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
    """Give `node` its load.

    Args:
        node: The node.
        load: "cpu" (the CPU use of `pid` and its descendants; 0 is this process), "idle", "script:FILE" (CSV
            `seconds,watts`), "trace:FILE" (a recording, GPU by GPU, or such a CSV: see `replay`) or
            "wave:WATTS,WATTS,PERIOD_S,SHARE" (the first power for that share of each period, then the second).
            Scripts, traces and waves are for all GPUs, or with "DEVICE=" before them for one device.
        pid: The process that "cpu" follows.

    Raises:
        InvalidArgument: Unknown kind of load or device.
        BadFormat: The file does not hold a load.
    """
    device, equals, rest = load.partition("=")
    named = bool(equals) and ":" not in device
    kind, _, what = (rest if named else load).partition(":")
    devices: list[int | str] = [device] if named else list(range(len(node.gpu_uuids)))
    start_ns = time.monotonic_ns() + TOGETHER_NS
    if kind == "script" and what:
        from powersample.sim.scenario import read_script

        steps = read_script(Path(what))
        for one in devices:
            node.load_script(one, steps, start_ns=start_ns)
    elif kind == "trace" and what:
        from powersample.session.replay import read_replays

        replays = read_replays(Path(what))
        for i, one in enumerate(devices):  # a node of more GPUs than were recorded begins again with the first
            replay = replays[i % len(replays)]
            node.load_trace(one, replay.t_ns, replay.watts)  # each from its own start: there may be many steps
        node.load_origin = "replay of " + "; ".join(str(replay) for replay in replays[: len(devices)])
    elif kind == "wave" and what:
        wave = _wave(what)
        for one in devices:
            node.load_wave(one, *wave, start_ns=start_ns)
    elif load == "cpu":
        node.follow(pid)
    elif load != "idle":
        raise errors.InvalidArgument(f"load {load!r} is unknown; use {KINDS}, for one device as gpu0=...")


def _wave(text: str) -> tuple[float, float, float, float]:
    try:
        p1_w, p2_w, period_s, share = map(float, text.split(","))
    except ValueError:
        raise errors.InvalidArgument(
            f"wave {text!r} is not WATTS,WATTS,PERIOD_S,SHARE, such as 60,300,0.5,0.25"
        ) from None
    return p1_w, p2_w, period_s, share


def _told(node: Node) -> dict[tuple[str, str], str]:
    """Return the truth behind every device and domain, named as the channels are that tell of them."""
    told = {(uuid, "gpu"): f"gpu{gpu}" for gpu, uuid in enumerate(node.gpu_uuids)}
    told |= {meter.told_as: meter.device for meter in node.meters}
    for part in node.parts:
        told.setdefault((part.device, part.domain), part.name)
    if "psys" in node.counters:
        told["psys", "psys"] = "psys"
    return {("wall", "wall"): "wall", ("node", "node"): "node"} | told


def truth_series(node: Node, start_ns: int, end_ns: int) -> Iterator[Series]:
    """Yield each device's exact energy as a counter channel, with a record at every change of power.

    A line between neighbours is then exact: power is constant between them; the wall's, which moves all the time, is
    within 1 mJ. Bounded memory at any length.
    """
    import numpy as np

    from powersample.model import Channel, Kind, Series

    names: set[str] = set()
    for (device, domain), truth in _told(node).items():
        name = truth if truth not in names else f"{truth}.{device}"  # the same power, told by another device
        names.add(name)
        channel = Channel(
            name=f"truth.{name}.energy",
            device=device,
            domain=domain,
            kind=Kind.ENERGY,
            unit="J",
            scale=TRUTH_SCALE,
            stamp="instant",
            sensor="simulated truth",
        )
        sequence = 0
        for t_ns, energy_nj in node.truth_counter(truth, start_ns, end_ns):
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
