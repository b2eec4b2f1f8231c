# SPDX-License-Identifier: Apache-2.0
"""The folder of a simulated node: the stand-in library, the node file, and a truth for each GPU."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from powersample._native import api_sim
from powersample.errors import DiskFull, NotSupported, OutputExists, PowerSampleError, SystemFailure
from powersample.sim.profile import (
    ARCHITECTURES,
    BRANDS,
    FIELDS_SINCE,
    Board,
    Driver,
    Profile,
    mig_instances,
    power_usage_sensor,
    stable_hash,
)

LIBRARY = "libnvidia-ml.so.1"
OLD_LIBRARY = "libnvidia-ml-r361.so.1"  # packaged name of the one that lacks what old drivers lack
NODE_FILE = "node.bin"
HISTORY_NS = 10_000_000_000  # the boards were idle for so long before the node existed
SERIAL = b"SIMULATED"


@dataclass(frozen=True, slots=True)
class Mig:
    """A MIG instance: a slice of a board, without a power of its own.

    Attributes:
        uuid: "MIG-SIM-...".
        profile: "1g.10gb".
        slices: Of seven.
        memory_mib: Its own memory, MiB.
    """

    uuid: str
    profile: str
    slices: int
    memory_mib: int


def empty_directory(directory: str | os.PathLike[str]) -> Path:
    """Return `directory` as a node's folder; it may exist if it is empty.

    Raises:
        OutputExists: It holds something, or is no folder.
    """
    path = Path(directory).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputExists(f"{path} is not an empty folder", "Name a new one for the simulated node.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def cannot_make(directory: Path, error: OSError) -> PowerSampleError:
    """Return what to raise where the node's files cannot be made."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left in {directory} for the simulated node", "Free space there, or name a folder.")
    return SystemFailure(f"{error.filename or directory}: {error.strerror}", code=error.errno)


def copy_library(directory: Path, driver: Driver) -> None:
    """Copy the packaged stand-in of that driver's generation into a node's folder.

    Raises:
        NotSupported: The package was installed without it.
    """
    packaged = resources.files("powersample") / "_lib" / (OLD_LIBRARY if driver.branch < FIELDS_SINCE else LIBRARY)
    with resources.as_file(packaged) as built:
        if not built.is_file():
            raise NotSupported(
                f"the NVML stand-in {built} is missing", "Reinstall powersample with a C compiler at hand."
            )
        shutil.copy(built, directory / LIBRARY)


def gpu_uuid(profile: Profile, seed: int, gpu: int) -> str:
    """Return the UUID of a simulated GPU: it looks like one, and like no real one."""
    digits = f"{stable_hash('uuid', profile.name, seed, gpu):016x}{gpu:08x}"
    return f"GPU-SIM-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:]}"


def mig_uuid(profile: Profile, seed: int, gpu: int, instance: int) -> str:
    """Return the UUID of a simulated MIG instance."""
    digits = f"{stable_hash('mig', profile.name, seed, gpu, instance):016x}{gpu:04x}{instance:04x}"
    return f"MIG-SIM-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:]}"


def instances(profile: Profile, names: Sequence[str], gpus: int, seed: int) -> tuple[tuple[Mig, ...], ...]:
    """Return the MIG instances of each GPU; raises as `mig_instances`."""
    found = mig_instances(profile, names)
    return tuple(
        tuple(Mig(mig_uuid(profile, seed, gpu, i), *one) for i, one in enumerate(found)) for gpu in range(gpus)
    )


def milliwatts(profile: Profile, figure: str) -> int:
    """Return a figure of the board that is in W, as mW."""
    return round(float(profile[f"board.{figure}"]) * 1e3)


def power_usage(profile: Profile, driver: Driver, board: Board) -> str:
    """Return the name of the sensor that nvmlDeviceGetPowerUsage answers with."""
    return "usage" if "usage" in board.sensors else power_usage_sensor(profile, driver.branch)


def gpu_name(gpu: int) -> str:
    """Return the name of a GPU's truth."""
    return f"gpu{gpu}"


def create_truths(directory: Path, idle_mw: Mapping[str, int], now_ns: int) -> dict[str, api_sim.Truth]:
    """Begin a truth for each name, idle since some time ago."""
    truths: dict[str, api_sim.Truth] = {}
    try:
        for name, power_mw in idle_mw.items():
            truths[name] = api_sim.Truth.create(directory / _truth_file(name), now_ns - HISTORY_NS, power_mw)
    except BaseException:
        for truth in truths.values():
            truth.close()
        raise
    return truths


def write_node_file(
    directory: Path,
    *,
    profile: Profile,
    driver: Driver,
    boards: tuple[Board, ...],
    uuids: tuple[str, ...],
    mig: tuple[tuple[Mig, ...], ...] | None,
    field_stamps: str,
    persistence: bool,
    one_lock: bool,
) -> None:
    """Describe the node for the stand-in; its presence makes the folder a node."""
    fields = {
        "profile": profile.name.encode(),
        "driver_version": driver.version.encode(),
        "nvml_version": driver.nvml.encode(),
        "cuda_version": driver.cuda,
        "one_lock": int(one_lock),
    }
    gpus = [_gpu(profile, driver, board, uuids[gpu], gpu) for gpu, board in enumerate(boards)]
    for gpu, members in enumerate(gpus):
        members["field_stamps"] = api_sim.FIELD_STAMPS[field_stamps]
        members["persistence"] = int(persistence)
        if mig is not None:
            members["mig_mode"] = 1
            members["mig"] = [
                {
                    "profile": one.profile.encode(),
                    "uuid": one.uuid.encode(),
                    "slices": one.slices,
                    "memory_bytes": one.memory_mib << 20,
                }
                for one in mig[gpu]
            ]
    api_sim.write_node(directory / NODE_FILE, fields, gpus)


def _truth_file(name: str) -> str:
    return f"{name}.truth"


def _gpu(profile: Profile, driver: Driver, board: Board, uuid: str, gpu: int) -> dict[str, Any]:
    major, minor = profile["board.compute_capability"]
    return {
        "name": profile["board.name"].encode(),
        "uuid": uuid.encode(),
        "serial": SERIAL,
        "truth_file": _truth_file(gpu_name(gpu)).encode(),
        "pci_bus": gpu + 1,
        "pci_device_id": int(profile["board.pci_device_id"], 16),
        "architecture": ARCHITECTURES[profile["board.architecture"]],
        "brand": BRANDS[profile["board.brand"]],
        "power_usage": api_sim.SENSORS[power_usage(profile, driver, board)],
        "compute_major": major,
        "compute_minor": minor,
        "limit_mw": milliwatts(profile, "limit_w"),
        "limit_default_mw": milliwatts(profile, "limit_default_w"),
        "limit_min_mw": milliwatts(profile, "limit_min_w"),
        "limit_max_mw": milliwatts(profile, "limit_max_w"),
        "idle_mw": milliwatts(profile, "idle_w"),
        "max_mw": milliwatts(profile, "max_w"),
        "clock_idle_mhz": profile["board.clock_idle_mhz"],
        "clock_max_mhz": profile["board.clock_max_mhz"],
        "clock_mem_mhz": profile["board.clock_mem_mhz"],
        "memory_bytes": profile["board.memory_mib"] << 20,
        "sensors": board.sensors,
    }
