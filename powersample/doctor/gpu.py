# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs: what stands between this process and NVML, what each board offers, and what a recording would do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample import errors
from powersample.doctor import nvidia_debs
from powersample.doctor.box import container
from powersample.doctor.check import FAIL, OK, SIMULATED, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine, group_of
from powersample.model import amount, duration

if TYPE_CHECKING:
    from powersample._native.api_nvml import Nvml, NvmlDevice

SECTION = "GPU"
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; class of VGA and 3D controllers
NO_PERMISSION, DRIVER_NOT_LOADED, VERSION_MISMATCH = 4, 9, 18
DEVICE_ERRORS = (
    errors.DeviceNotFound,
    errors.DeviceError,
    errors.AccessDenied,
    errors.NotSupported,
    errors.Timeout,
)
SIGNS = ("nvidiactl", "dxg", "nvhost-ctrl", "nvhost-gpu", "nvmap")  # as csrc/sources/nvml_lib.c looks for them
FEW_HZ = 20.0  # two polls for each update of a sensor with T = 100 ms
TRIAL_PASSES = 20
PASS_GPUS = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=utility,compute ..."
DRIVER_PACKAGES = {"debian": "sudo apt install nvidia-driver", "ubuntu": "sudo ubuntu-drivers install"}


def check_gpus(machine: Machine) -> Iterator[Check]:
    """Yield the way to NVML, then each GPU."""
    yield from _gpus(machine)
    yield _nvidia_smi(machine)


def _gpus(machine: Machine) -> Iterator[Check]:
    if machine.nvml_library is None:
        missing = _missing_driver(machine)
        if missing is not None:
            yield missing
            return
    try:
        with machine.load_nvml(machine.nvml_library) as nvml:
            yield from _boards(machine, nvml)
    except DEVICE_ERRORS as error:
        yield _refused(machine, error)


# ---- before NVML -----------------------------------------------------------------------------------------------


def boards_on_the_bus(machine: Machine) -> list[Path]:
    """Return the PCI folders of NVIDIA's graphics boards, which need no driver to be seen."""
    folder = machine.sys / "bus/pci/devices"
    return [
        folder / name
        for name in machine.names(folder)
        if machine.text(folder / name / "vendor") == NVIDIA
        and machine.text(folder / name / "class").startswith(DISPLAY)
    ]


def _missing_driver(machine: Machine) -> Check | None:
    """Return what is wrong when the library need not even be loaded; None when there is a driver."""
    module = machine.sys / "module/nvidia"
    nodes = [machine.dev / name for name in SIGNS]
    tried = (Tried(str(module)), *(Tried(str(node)) for node in nodes[:2]))
    if any(node.exists() for node in nodes):
        return None
    boards = boards_on_the_bus(machine)
    if module.exists():
        inside = container(machine) is not None
        return Check(
            "PS-NVML-03",
            FAIL,
            "NVIDIA's driver is loaded and has no device nodes here"
            + (": the container was given no GPU" if inside else ""),
            (Tried(str(module)), Tried(str(nodes[0]), 2)),
            PASS_GPUS if inside else "sudo nvidia-modprobe -c 0 -u",
        )
    if boards:
        loadable = machine.module("nvidia") == "available"
        package = DRIVER_PACKAGES.get(machine.os_release().get("ID", ""))
        return Check(
            "PS-NVML-02",
            FAIL,
            f"{len(boards)} NVIDIA GPU{'s' if len(boards) > 1 else ''} on the PCI bus and no driver"
            + (", though it is installed" if loadable else ""),
            (Tried(str(boards[0])), *tried),
            "sudo modprobe nvidia" if loadable else package,
        )
    return Check("PS-NVML-01", SKIP, "no NVIDIA GPU and no driver; --simulate h100 needs neither", tried)


# ---- NVML refuses ----------------------------------------------------------------------------------------------


def _refused(machine: Machine, error: errors.PowerSampleError) -> Check:
    said = str(error).removesuffix(error.remedy).rstrip(". ")
    tried = (Tried(error.call or "nvmlInit_v2", None), Tried(machine.nvml_library or "libnvidia-ml.so.1"))
    inside = container(machine) is not None
    if error.call == "dlopen":
        fix = PASS_GPUS if inside else {"debian": "sudo apt install libnvidia-ml1"}.get(_distribution(machine))
        why = " (the container has the GPU and not the driver's library)" if inside else ""
        return Check("PS-NVML-04", FAIL, f"NVIDIA's library is missing{why}: {said}", tried, fix)
    if error.code == VERSION_MISMATCH:
        loaded = machine.text(machine.sys / "module/nvidia/version")
        return Check(
            "PS-NVML-05",
            FAIL,
            f"library and kernel module are of different versions{f' (the module is {loaded})' if loaded else ''}: the "
            f"driver was updated and the old module is still loaded. {said}",
            tried,
            "sudo reboot",
            "sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia  # nothing may use the GPU",
        )
    if error.code == DRIVER_NOT_LOADED:
        return Check(
            "PS-NVML-06", FAIL, f"the driver is not loaded, or does not answer: {said}", tried, "sudo modprobe nvidia"
        )
    if error.code == NO_PERMISSION or isinstance(error, errors.AccessDenied):
        return _no_permission(machine, said)
    return Check("PS-NVML-08", FAIL, f"NVML does not work here: {said}", tried)


def _no_permission(machine: Machine, said: str) -> Check:
    node = machine.dev / "nvidiactl"
    group = group_of(node)
    fix = f'sudo usermod -aG {group} "$USER"  # then log in again' if group not in (None, "root") else None
    return Check("PS-NVML-07", FAIL, f"the GPUs may not be used by this user: {said}", (Tried(str(node), 13),), fix)


def _distribution(machine: Machine) -> str:
    return machine.os_release().get("ID", "")


# ---- boards ----------------------------------------------------------------------------------------------------


def _boards(machine: Machine, nvml: Nvml) -> Iterator[Check]:
    driver, _, simulated = nvml.versions()
    if simulated and machine.simulated is None:
        yield Check(SIMULATED, OK, f"{machine.nvml_library or 'the library'} is powersample's stand-in")
    count = nvml.count()
    if not count:
        inside = container(machine) is not None
        what = f"NVML works (driver {driver}) and shows no GPU" + (
            ": none is passed to this container" if inside else ""
        )
        yield Check("PS-NVML-09", FAIL, what, (Tried("nvmlDeviceGetCount_v2"),), PASS_GPUS if inside else None)
        return
    boards: list[NvmlDevice] = []
    for index in range(count):
        try:
            boards.append(nvml.describe(index))
        except DEVICE_ERRORS as error:
            yield _silent(index, error)
    yield from _trial(nvml, boards, driver)
    for board in boards:
        yield from _circumstances(board)
    off = [f"gpu{board.index}" for board in boards if board.persistence is False]
    if off:
        yield Check(
            "PS-NVML-11",
            WARN,
            f"persistence mode is off on {', '.join(off)}: the driver unloads between programs, the energy counter "
            "starts again, and the first call takes seconds",
            (Tried("nvmlDeviceGetPersistenceMode"),),
            "sudo nvidia-smi -pm 1",
            "sudo systemctl enable --now nvidia-persistenced",
        )


def _circumstances(board: NvmlDevice) -> Iterator[Check]:
    name = f"gpu{board.index}"
    if board.mig:
        what = f"{name} is in MIG mode: power and energy are the whole board's, whichever slice is used"
        yield Check("PS-NVML-12", WARN, what, (Tried("nvmlDeviceGetMigMode"),))
    if board.compute_processes:
        what = f"{name} is used by {board.compute_processes} other program(s): their energy is in every reading"
        tried = (Tried("nvmlDeviceGetComputeRunningProcesses"),)
        fix = "nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv"
        yield Check("PS-NVML-13", WARN, what, tried, fix)


def _silent(index: int, error: errors.PowerSampleError) -> Check:
    what = f"gpu{index} does not answer: {str(error).removesuffix(error.remedy).rstrip('. ')}"
    return Check("PS-NVML-10", FAIL, what, (Tried(error.call or f"gpu{index}"),), "sudo dmesg | grep -i xid")


def _trial(nvml: Nvml, boards: list[NvmlDevice], driver: str) -> Iterator[Check]:
    """Read all boards at once as a recording would, for the blink of an eye; the rates they get depend on all."""
    from powersample._native.api import LaneOptions, Sampler

    lanes: dict[int, NvmlDevice] = {}
    with Sampler() as sampler:
        for board in boards:
            try:
                lanes[sampler.add(nvml.source(board.index), LaneOptions(max_passes=TRIAL_PASSES))] = board
            except DEVICE_ERRORS as error:
                yield _silent(board.index, error)
        if not lanes:
            return
        channels = sampler.channels()
        sampler.start()
        sampler.stop()
        for lane, board in lanes.items():
            names = [channel["name"] for channel in channels if channel["lane"] == lane]
            yield _board(board, driver, names, sampler.stats(lane))


def _board(board: NvmlDevice, driver: str, channels: list[str], stats: dict[str, Any]) -> Check:
    name = f"gpu{board.index}"
    own = [channel.removeprefix(f"{name}.") for channel in channels]
    power = [channel.removeprefix("power.") for channel in own if channel.startswith("power.")]
    what = (
        f"{name} {board.name}, driver {driver}: power {', '.join(power) or 'none'}; "
        f"{'energy counter' if 'energy' in own else 'no energy counter'}; calls take "
        f"{duration(stats['call_cost_ns'] / 1e9)} a pass, recorded at {amount(stats['rate_hz'], 4)} Hz "
        f"({stats['rate_origin']})"
    )
    gives = tuple(channel for channel in channels if ".power." in channel or channel.endswith(".energy"))
    tried = (Tried("nvmlDeviceGetFieldValues"),)
    if stats["rate_hz"] < FEW_HZ:
        what += f"; below {FEW_HZ:.0f} Hz updates of its sensor go unseen"
        return Check("PS-NVML-14", WARN, what, tried, gives=gives)
    return Check("PS-NVML-00", OK, what, tried, gives=gives)


def _nvidia_smi(machine: Machine) -> Check:
    found = machine.which("nvidia-smi")
    if found:
        return Check("PS-SMI-00", OK, f"nvidia-smi to compare with: {found}")
    there = nvidia_debs.cached(nvidia_debs.cache_dir(machine.environment))
    if there is not None:
        return Check("PS-SMI-00", OK, f"nvidia-smi to compare with: {there.nvidia_smi}")
    return Check(
        "PS-SMI-01",
        SKIP,
        "no nvidia-smi: `powersample demo` compares without it",
        (Tried("PATH"), Tried(str(nvidia_debs.cache_dir(machine.environment)))),
        "powersample doctor --fetch-nvidia-smi",
    )
