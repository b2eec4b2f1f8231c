# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own Python binding on the stand-in library, in a process that believes in its driver."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nvml_client import PRELUDE, child_environment, client, first_gpu

from powersample.sim import Latency, Node

IDLE_MW = 48_000  # of the h100 profile


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("h100", gpus=2) as built:
        yield built


def test_pynvml_identity_matches_node(node: Node) -> None:
    seen = first_gpu(node, """
same = nv.nvmlDeviceGetHandleByUUID(nv.nvmlDeviceGetUUID(gpu))
pci = nv.nvmlDeviceGetPciInfo(gpu)
by_bus = nv.nvmlDeviceGetHandleByPciBusId(pci.busId)
done(count=nv.nvmlDeviceGetCount(), name=nv.nvmlDeviceGetName(gpu), index=nv.nvmlDeviceGetIndex(same),
     uuids=[nv.nvmlDeviceGetUUID(nv.nvmlDeviceGetHandleByIndex(i)) for i in range(2)],
     by_bus=nv.nvmlDeviceGetIndex(by_bus), driver=nv.nvmlSystemGetDriverVersion(),
     architecture=nv.nvmlDeviceGetArchitecture(gpu), capability=nv.nvmlDeviceGetCudaComputeCapability(gpu),
     limit=nv.nvmlDeviceGetPowerManagementLimit(gpu),
     limits=nv.nvmlDeviceGetPowerManagementLimitConstraints(gpu),
     memory=nv.nvmlDeviceGetMemoryInfo(gpu).total, mig=nv.nvmlDeviceGetMigMode(gpu))
""")  # fmt: skip
    assert seen["uuids"] == list(node.gpu_uuids)
    assert all(uuid.startswith("GPU-SIM-") for uuid in seen["uuids"])
    assert (seen["count"], seen["index"], seen["by_bus"]) == (2, 0, 0)
    assert seen["name"] == node.profile["board.name"]
    assert seen["driver"] == node.describe()["driver_version"]
    assert seen["architecture"] == 9
    assert seen["capability"] == [9, 0]
    assert seen["limit"] == 350_000
    assert seen["limits"] == [200_000, 350_000]
    assert seen["memory"] == 81559 << 20
    assert seen["mig"] == [0, 0]


def test_pynvml_constant_power_is_the_truth(node: Node) -> None:
    seen = first_gpu(node, """
fields = nv.nvmlDeviceGetFieldValues(gpu, [186, 185, 83, 191, 187, 188, 189, 190, 192, (186, 1), 7])
def value(field):
    return getattr(field.value, {1: "uiVal", 3: "ullVal"}[field.valueType]) if field.nvmlReturn == 0 else None
t0 = time.monotonic_ns(); counter = nv.nvmlDeviceGetTotalEnergyConsumption(gpu); t1 = time.monotonic_ns()
wall = time.time()
done(usage=nv.nvmlDeviceGetPowerUsage(gpu), t0=t0, t1=t1, counter=counter,
     fields=[[f.nvmlReturn, value(f)] for f in fields],
     age_s=wall - fields[0].timestamp / 1e6)
""")  # fmt: skip
    assert seen["usage"] == IDLE_MW
    power, average, energy, energy_too, *limits, module, unknown = seen["fields"]
    assert power == average == [0, IDLE_MW]
    assert energy[0] == energy_too[0] == 0
    assert limits == [[0, 200_000], [0, 350_000], [0, 350_000], [0, 350_000], [0, 350_000]]
    assert module[0] == unknown[0] == 3  # NOT_SUPPORTED in the entry, the call itself succeeds
    start_ns = node.boards[0].sensors["energy"].start_ns
    period_ns = 1.02 * node.boards[0].sensors["energy"].period_ns  # jitter included
    assert (seen["t0"] - start_ns - period_ns) * IDLE_MW / 1e9 - 1 <= seen["counter"]
    assert seen["counter"] <= (seen["t1"] - start_ns) * IDLE_MW / 1e9 + 1
    assert 0 <= seen["age_s"] < 60


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (2, "NVMLError_InvalidArgument"),
        (3, "NVMLError_NotSupported"),
        (4, "NVMLError_NoPermission"),
        (10, "NVMLError_Timeout"),
        (15, "NVMLError_GpuIsLost"),
        (16, "NVMLError_ResetRequired"),
        (18, "NVMLError_LibRmVersionMismatch"),
        (999, "NVMLError_Unknown"),
    ],
)
def test_injected_code_is_raised_by_pynvml(node: Node, code: int, name: str) -> None:
    node.inject("power_usage", code, gpu=0)
    seen = first_gpu(node, """
other = nv.nvmlDeviceGetHandleByIndex(1)
done(error=code(nv.nvmlDeviceGetPowerUsage, gpu), energy=code(nv.nvmlDeviceGetTotalEnergyConsumption, gpu),
     other=code(nv.nvmlDeviceGetPowerUsage, other))
""")  # fmt: skip
    assert seen == {"error": [name, code], "energy": None, "other": None}


def test_injected_faults_by_entry_by_turn_and_by_time(node: Node) -> None:
    node.inject("field_values", 15, field=185)
    node.inject("power_usage", 10, every=3)
    node.inject("energy", 999, from_s=3600.0)
    seen = first_gpu(node, """
fields = nv.nvmlDeviceGetFieldValues(gpu, [186, 185])
done(fields=[f.nvmlReturn for f in fields], later=code(nv.nvmlDeviceGetTotalEnergyConsumption, gpu),
     turns=[code(nv.nvmlDeviceGetPowerUsage, gpu) is not None for _ in range(6)])
""")  # fmt: skip
    assert seen == {"fields": [0, 15], "later": None, "turns": [False, False, True] * 2}


def test_fault_and_end_seen_by_a_running_client(node: Node) -> None:
    text = """
nv.nvmlInit(); gpu = nv.nvmlDeviceGetHandleByIndex(0)
for _ in sys.stdin:
    print(code(nv.nvmlDeviceGetPowerUsage, gpu), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + text], env=child_environment(node), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdin
        assert child.stdout

        def ask() -> str:
            print(file=child.stdin, flush=True)
            return child.stdout.readline().strip()

        assert ask() == "None"
        node.inject("any", 15, gpu=0)
        assert ask() == "['NVMLError_GpuIsLost', 15]"
        node.clear_faults()
        assert ask() == "None"
        node.reload_driver()
        assert ask() == "['NVMLError_Uninitialized', 1]"
        child.stdin.close()
        assert child.wait(30) == 0


def test_init_counts_and_refuses_outside(node: Node) -> None:
    seen = client(child_environment(node), """
nv.nvmlInit(); nv.nvmlInit(); gpu = nv.nvmlDeviceGetHandleByIndex(0)
nv.nvmlShutdown(); still = code(nv.nvmlDeviceGetPowerUsage, gpu)
nv.nvmlShutdown(); after = code(nv.nvmlDeviceGetPowerUsage, gpu)
again = code(nv.nvmlShutdown)
done(still=still, after=after, again=again, count=code(nv.nvmlDeviceGetCount))
""")  # fmt: skip
    refused = ["NVMLError_Uninitialized", 1]
    assert seen == {"still": None, "after": refused, "again": refused, "count": refused}


def test_reload_restarts_counter_and_voids_handles(node: Node) -> None:
    text = """
before = nv.nvmlDeviceGetTotalEnergyConsumption(gpu)
print("ready", flush=True); sys.stdin.readline()
stale = code(nv.nvmlDeviceGetPowerUsage, gpu)
nv.nvmlInit()
old_handle = code(nv.nvmlDeviceGetPowerUsage, gpu)
gpu = nv.nvmlDeviceGetHandleByIndex(0)
done(before=before, stale=stale, old_handle=old_handle, after=nv.nvmlDeviceGetTotalEnergyConsumption(gpu),
     now=time.monotonic_ns())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + "nv.nvmlInit(); gpu = nv.nvmlDeviceGetHandleByIndex(0)" + text],
        env=child_environment(node), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        reload_ns = time.monotonic_ns()
        node.reload_driver()
        seen = json.loads(child.communicate("\n", timeout=30)[0])
    assert seen["stale"] == seen["old_handle"] == ["NVMLError_Uninitialized", 1]
    assert 0 <= seen["after"] <= (seen["now"] - reload_ns) * IDLE_MW / 1e9 + 1


def test_without_node_driver_not_loaded_and_environment_names_one(node: Node, tmp_path: Path) -> None:
    shutil.copy(node.library, tmp_path)
    bare = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    bare.pop("POWERSAMPLE_NODE", None)
    text = "done(error=code(nv.nvmlInit))"
    assert client(bare, text)["error"] == ["NVMLError_DriverNotLoaded", 9]
    named = {**bare, "POWERSAMPLE_NODE": str(node.directory / "node.bin")}
    assert client(named, text)["error"] is None
    (tmp_path / "node.bin").write_bytes(b"not a node")
    # What lies beside the library comes first, and is of no version that it knows.
    assert client(named, text)["error"] == ["NVMLError_LibRmVersionMismatch", 18]


def test_unsupported_call_answers_so(node: Node) -> None:
    seen = first_gpu(node, """
done(fan=code(nv.nvmlDeviceGetFanSpeed, gpu), samples=code(nv.nvmlDeviceGetSamples, gpu, 0, 0),
     reasons=nv.nvmlDeviceGetCurrentClocksEventReasons(gpu), busy=nv.nvmlDeviceGetUtilizationRates(gpu).gpu)
""")  # fmt: skip
    unsupported = ["NVMLError_NotSupported", 3]
    assert seen == {"fan": unsupported, "samples": unsupported, "reasons": 1, "busy": 0}


def test_latency_is_spent_in_the_call(node: Node) -> None:
    node.set_latency("power_usage", Latency.fixed(0.02))
    seen = first_gpu(node, """
t0 = time.monotonic_ns(); nv.nvmlDeviceGetPowerUsage(gpu); t1 = time.monotonic_ns()
done(slow_ns=t1 - t0)
""")  # fmt: skip
    assert seen["slow_ns"] >= 20_000_000


def test_two_nodes_in_one_process_stay_apart(node: Node) -> None:
    with Node("a100") as other:
        names = []
        for one in (node, other):
            library = ctypes.CDLL(str(one.library))
            handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            assert library.nvmlInit_v2() == 0
            assert library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0
            assert library.nvmlDeviceGetName(handle, name, 96) == 0
            names.append(name.value.decode())
            assert library.nvmlShutdown() == 0
    assert names == [node.profile["board.name"], other.profile["board.name"]]
