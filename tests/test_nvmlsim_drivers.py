# SPDX-License-Identifier: Apache-2.0
"""Drivers of other times and kinds: old libraries, upgrades under a running program, MIG; by NVIDIA's own binding."""

import ctypes
import json
import subprocess
import sys
import time

import pytest
from nvml_client import PRELUDE, child_environment, client, first_gpu

from powersample._native.api_nvml import Nvml
from powersample.errors import InvalidArgument, PowerSampleError
from powersample.sim import Latency, Node, load_profile, profile_names

# ---- old drivers ----


def test_old_driver_lacks_the_symbols_themselves() -> None:
    """A `dlsym` must fail; an answer of 13 from a function that exists would be another fault."""
    with Node("k40m", driver_version="361.119") as old, Node("k40m") as new:
        libraries = [ctypes.CDLL(str(node.library)) for node in (old, new)]
        later = ("nvmlInitWithFlags", "nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption",
                 "nvmlDeviceGetMigMode", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetArchitecture")  # fmt: skip
        assert [[hasattr(library, name) for name in later] for library in libraries] == [[False] * 6, [True] * 6]
        for name in ("nvmlInit_v2", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetSamples", "powersample_nvmlsim"):
            assert all(hasattr(library, name) for library in libraries)


def test_old_driver_seen_by_pynvml_misses_functions() -> None:
    with Node("k40m", driver_version="361.119") as node:
        seen = client(child_environment(node), """
first = code(nv.nvmlInit)
nv._nvmlGetFunctionPointer("nvmlInit_v2")()
gpu = nv.nvmlDeviceGetHandleByIndex(0)
done(first=first, usage=nv.nvmlDeviceGetPowerUsage(gpu), energy=code(nv.nvmlDeviceGetTotalEnergyConsumption, gpu),
     fields=code(nv.nvmlDeviceGetFieldValues, gpu, [186]), driver=nv.nvmlSystemGetDriverVersion())
""")  # fmt: skip
    missing = ["NVMLError_FunctionNotFound", 13]
    assert seen == {"first": missing, "usage": 20_000, "energy": missing, "fields": missing, "driver": "361.119"}


def test_old_driver_native_source_reads_what_there_is() -> None:
    with Node("v100", driver_version="384.183") as node, Nvml(node.library) as nvml:
        assert nvml.versions() == ("384.183", "9.384.183", True)
        device = nvml.describe(0)
        assert (device.uuid, device.architecture, device.mig) == (node.gpu_uuids[0], None, None)
        assert device.pci_bus_id == "0000:01:00.0"
        names = {channel["name"] for channel in nvml.source(0).channels()}
    assert {"gpu0.power.usage", "gpu0.throttle", "gpu0.processes"} <= names
    assert not names & {"gpu0.power.instant", "gpu0.energy"}


# ---- an upgrade under a running program ----


def test_version_mismatch_stops_new_and_running_programs_until_it_is_mended() -> None:
    text = """
nv.nvmlInit(); gpu = nv.nvmlDeviceGetHandleByIndex(0)
for _ in sys.stdin:
    print(json.dumps([code(nv.nvmlDeviceGetPowerUsage, gpu), code(nv.nvmlInit)]), flush=True)
"""
    lost, mismatch = ["NVMLError_Uninitialized", 1], ["NVMLError_LibRmVersionMismatch", 18]
    with (
        Node("h100") as node,
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + text], env=child_environment(node), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as child,
    ):  # fmt: skip
        assert child.stdin
        assert child.stdout

        def ask() -> list[object]:
            print(file=child.stdin, flush=True)
            answer: list[object] = json.loads(child.stdout.readline())
            return answer

        assert ask() == [None, None]
        node.version_mismatch()
        assert ask() == [lost, mismatch]
        assert client(child_environment(node), "done(error=code(nv.nvmlInit))")["error"] == mismatch
        with pytest.raises(PowerSampleError, match="mismatch"):
            Nvml(node.library)
        node.clear_faults()
        assert ask() == [lost, None]  # the old handle stays void
        child.stdin.close()
        assert child.wait(30) == 0


# ---- MIG ----


def test_mig_instances_have_names_and_no_power_and_the_parent_has() -> None:
    with Node("h100", gpus=2, mig=("3g.40gb", "1g.10gb")) as node:
        seen = first_gpu(node, """
parts, i = [], 0
while code(nv.nvmlDeviceGetMigDeviceHandleByIndex, gpu, i) is None:
    parts.append(nv.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i)); i += 1
one = parts[1]
back = nv.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(one)
done(mode=nv.nvmlDeviceGetMigMode(gpu), most=nv.nvmlDeviceGetMaxMigDeviceCount(gpu),
     end=code(nv.nvmlDeviceGetMigDeviceHandleByIndex, gpu, i),
     names=[nv.nvmlDeviceGetName(part) for part in parts], uuids=[nv.nvmlDeviceGetUUID(part) for part in parts],
     is_mig=[nv.nvmlDeviceIsMigDeviceHandle(h).value for h in (gpu, one)], back=nv.nvmlDeviceGetUUID(back),
     by_uuid=nv.nvmlDeviceGetName(nv.nvmlDeviceGetHandleByUUID(nv.nvmlDeviceGetUUID(one))),
     memory=nv.nvmlDeviceGetMemoryInfo(one).total >> 20, slices=nv.nvmlDeviceGetAttributes(one).gpuInstanceSliceCount,
     ids=[nv.nvmlDeviceGetGpuInstanceId(one), nv.nvmlDeviceGetComputeInstanceId(one)],
     power=code(nv.nvmlDeviceGetPowerUsage, one), energy=code(nv.nvmlDeviceGetTotalEnergyConsumption, one),
     fields=code(nv.nvmlDeviceGetFieldValues, one, [186]), whole=nv.nvmlDeviceGetPowerUsage(gpu),
     busy=code(nv.nvmlDeviceGetUtilizationRates, gpu))
""")  # fmt: skip
        unsupported = ["NVMLError_NotSupported", 3]
        assert (seen["mode"], seen["most"], seen["end"]) == ([1, 1], 7, ["NVMLError_NotFound", 6])
        assert seen["names"] == ["NVIDIA H100 PCIe MIG 3g.40gb", "NVIDIA H100 PCIe MIG 1g.10gb"]
        assert seen["uuids"] == list(node.mig_uuids[0])
        assert len({*node.mig_uuids[0], *node.mig_uuids[1]}) == 4
        assert seen["uuids"][0].startswith("MIG-SIM-")
        assert (seen["is_mig"], seen["back"]) == ([0, 1], node.gpu_uuids[0])
        assert (seen["by_uuid"], seen["memory"], seen["slices"]) == (seen["names"][1], 10 << 10, 1)
        assert seen["ids"] == [2, 0]
        assert seen["power"] == seen["energy"] == seen["fields"] == seen["busy"] == unsupported
        assert seen["whole"] == 48_000
        assert node.describe()["mig"] == ["3g.40gb", "1g.10gb"]


@pytest.mark.parametrize(
    ("profile", "mig", "complaint"),
    [
        ("v100", ("1g.5gb",), "has no MIG"),
        ("rtx3090", (), "has no MIG"),
        ("a100", ("8g.5gb",), "1g.10gb"),
        ("a100", ("small",), "1g.10gb"),
        ("a100", ("4g.20gb", "4g.20gb"), "do not fit"),
        ("a100", ("1g.80gb",), "do not fit"),
    ],
)
def test_mig_that_a_board_cannot_have_is_refused(profile: str, mig: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        Node(profile, mig=mig)


# ---- persistence mode ----


def test_persistence_mode_off_is_told_and_init_may_be_slow() -> None:
    """Without it the driver unloads between programs, and the first call of each pays for waking it."""
    with (
        Node("h100", persistence=False, latency={"init": Latency.fixed(0.2)}) as node,
        Node("h100") as usual,
        Nvml(usual.library) as ours,
    ):
        assert ours.describe(0).persistence is True
        begin_s = time.monotonic()
        with Nvml(node.library) as nvml:
            assert time.monotonic() - begin_s >= 0.2
            assert nvml.describe(0).persistence is False
        assert first_gpu(node, "done(mode=nv.nvmlDeviceGetPersistenceMode(gpu))") == {"mode": 0}


# ---- every profile ----


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_is_a_board_that_the_native_source_reads(profile: str) -> None:
    """Names, limits and idle power of each board; exactly the channels of its sensors."""
    figures = load_profile(profile)
    with Node(profile) as node, Nvml(node.library) as nvml:
        device = nvml.describe(0)
        names = {channel["name"] for channel in nvml.source(0).channels()}
        seen = first_gpu(node, "done(mw=nv.nvmlDeviceGetPowerUsage(gpu), name=nv.nvmlDeviceGetName(gpu))")
        sensors = node.boards[0].sensors
    assert seen == {"mw": round(figures["board.idle_w"] * 1e3), "name": figures["board.name"]}
    assert device.architecture == figures["board.architecture"]
    assert device.power_limit_w == figures["board.limit_w"]
    channels = {"instant": "power.instant", "average": "power.average", "module": "module.power.instant"}
    channels |= {"module_average": "module.power.average", "energy": "energy"}
    for sensor, channel in channels.items():
        assert (f"gpu0.{channel}" in names) == (sensor in sensors)
