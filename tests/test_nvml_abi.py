# SPDX-License-Identifier: Apache-2.0
"""The hand-written NVML interface against NVIDIA's official header, fetched for the test and never kept."""

import ctypes
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"

STRUCTS = {
    "nv_field_value": ("nvmlFieldValue_t", {
        "field": "fieldId", "scope": "scopeId", "timestamp_us": "timestamp", "latency_us": "latencyUsec",
        "value_type": "valueType", "code": "nvmlReturn", "value": "value",
    }),
    "nv_value": ("nvmlValue_t", {
        "as_double": "dVal", "as_u32": "uiVal", "as_u64": "ullVal", "as_s64": "sllVal", "as_s32": "siVal",
        "as_u16": "usVal",
    }),
    "nv_utilization": ("nvmlUtilization_t", {"gpu": "gpu", "memory": "memory"}),
    "nv_pci_info": ("nvmlPciInfo_t", {
        "bus_id_legacy": "busIdLegacy", "domain": "domain", "bus": "bus", "device": "device",
        "device_id": "pciDeviceId", "subsystem_id": "pciSubSystemId", "bus_id": "busId",
    }),
    "nv_memory": ("nvmlMemory_t", {"total": "total", "free": "free", "used": "used"}),
    "nv_memory_v2": ("nvmlMemory_v2_t", {
        "version": "version", "total": "total", "reserved": "reserved", "free": "free", "used": "used",
    }),
    "nv_sample": ("nvmlSample_t", {"timestamp_us": "timeStamp", "value": "sampleValue"}),
    "nv_attributes": ("nvmlDeviceAttributes_t", {
        "multiprocessors": "multiprocessorCount", "copy_engines": "sharedCopyEngineCount",
        "decoders": "sharedDecoderCount", "encoders": "sharedEncoderCount", "jpeg": "sharedJpegCount",
        "ofa": "sharedOfaCount", "gpu_slices": "gpuInstanceSliceCount",
        "compute_slices": "computeInstanceSliceCount", "memory_mib": "memorySizeMB",
    }),
    "nv_process_v1": ("nvmlProcessInfo_v1_t", {"pid": "pid", "used_memory": "usedGpuMemory"}),
    "nv_process_v2": ("nvmlProcessInfo_t", {
        "pid": "pid", "used_memory": "usedGpuMemory", "gpu_instance": "gpuInstanceId",
        "compute_instance": "computeInstanceId",
    }),
}  # fmt: skip

SCALARS = {
    "nv_return": "nvmlReturn_t", "nv_device": "nvmlDevice_t", "uint32_t": "nvmlValueType_t",
    "int32_t": "nvmlEnableState_t", "enum nv_clock": "nvmlClockType_t",
}  # fmt: skip

ERRORS = (
    "UNINITIALIZED", "INVALID_ARGUMENT", "NOT_SUPPORTED", "NO_PERMISSION", "NOT_FOUND", "INSUFFICIENT_SIZE",
    "DRIVER_NOT_LOADED", "TIMEOUT", "LIBRARY_NOT_FOUND", "FUNCTION_NOT_FOUND", "GPU_IS_LOST",
    "RESET_REQUIRED", "LIB_RM_VERSION_MISMATCH", "IN_USE", "NO_DATA", "ARGUMENT_VERSION_MISMATCH", "UNKNOWN",
)  # fmt: skip

CONSTANTS = {
    "NV_OK": "NVML_SUCCESS",
    **{f"NV_{name}": f"NVML_ERROR_{name}" for name in ERRORS},
    "NV_TYPE_DOUBLE": "NVML_VALUE_TYPE_DOUBLE",
    "NV_TYPE_U32": "NVML_VALUE_TYPE_UNSIGNED_INT",
    "NV_TYPE_ULONG": "NVML_VALUE_TYPE_UNSIGNED_LONG",
    "NV_TYPE_U64": "NVML_VALUE_TYPE_UNSIGNED_LONG_LONG",
    "NV_TYPE_S64": "NVML_VALUE_TYPE_SIGNED_LONG_LONG",
    "NV_TYPE_S32": "NVML_VALUE_TYPE_SIGNED_INT",
    "NV_TYPE_U16": "NVML_VALUE_TYPE_UNSIGNED_SHORT",
    "NV_FIELD_TOTAL_ENERGY": "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "NV_FIELD_POWER_AVERAGE": "NVML_FI_DEV_POWER_AVERAGE",
    "NV_FIELD_POWER_INSTANT": "NVML_FI_DEV_POWER_INSTANT",
    "NV_FIELD_LIMIT_MIN": "NVML_FI_DEV_POWER_MIN_LIMIT",
    "NV_FIELD_LIMIT_MAX": "NVML_FI_DEV_POWER_MAX_LIMIT",
    "NV_FIELD_LIMIT_DEFAULT": "NVML_FI_DEV_POWER_DEFAULT_LIMIT",
    "NV_FIELD_LIMIT_CURRENT": "NVML_FI_DEV_POWER_CURRENT_LIMIT",
    "NV_FIELD_ENERGY": "NVML_FI_DEV_ENERGY",
    "NV_FIELD_LIMIT_REQUESTED": "NVML_FI_DEV_POWER_REQUESTED_LIMIT",
    "NV_SAMPLES_TOTAL_POWER": "NVML_TOTAL_POWER_SAMPLES",
    "NV_SAMPLES_MODULE_POWER": "NVML_MODULE_POWER_SAMPLES",
    "NV_SCOPE_GPU": "NVML_POWER_SCOPE_GPU",
    "NV_SCOPE_MODULE": "NVML_POWER_SCOPE_MODULE",
    **{f"NV_CLOCK_{name}": f"NVML_CLOCK_{name}" for name in ("GRAPHICS", "SM", "MEM", "VIDEO")},
    "NV_THROTTLE_GPU_IDLE": "nvmlClocksEventReasonGpuIdle",
    "NV_THROTTLE_POWER_CAP": "nvmlClocksEventReasonSwPowerCap",
    "NV_TEMPERATURE_GPU": "NVML_TEMPERATURE_GPU",
    "NV_BRAND_GEFORCE": "NVML_BRAND_GEFORCE",
    **{f"NV_ARCH_{name}": f"NVML_DEVICE_ARCH_{name}" for name in (
        "KEPLER", "MAXWELL", "PASCAL", "VOLTA", "TURING", "AMPERE", "ADA", "HOPPER", "BLACKWELL"
    )},
    "NV_MEMORY_V2": "nvmlMemory_v2",
}  # fmt: skip


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml-header")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
    command += ["-d", str(folder), "nvidia-nvml-dev"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("NVIDIA's header package: no answer within 120 s")
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["nothing fetched"])[-1]
        pytest.skip(f"NVIDIA's header package cannot be fetched: {reason}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/nvml.h"))
        return Path(wheel.extract(name, folder))


def compile_probe(header: Path, lines: list[str]) -> str:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    text = ['#include "nvml.h"', '#include "sources/nvml_abi.h"', "#include <stddef.h>", *lines]
    done = subprocess.run(
        [compiler, "-std=c11", "-fsyntax-only", f"-I{header.parent}", f"-I{CSRC}", "-x", "c", "-"],
        input="\n".join(text), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stderr if done.returncode else ""


def asserted(condition: str) -> str:
    return f'_Static_assert({condition}, "{condition}");'


def test_structs_match_official_header(header: Path) -> None:
    lines = [asserted(f"sizeof({ours}) == sizeof({theirs})") for ours, theirs in SCALARS.items()]
    for ours, (theirs, members) in STRUCTS.items():
        lines.append(asserted(f"sizeof({ours}) == sizeof({theirs})"))
        for mine, official in members.items():
            lines.append(asserted(f"offsetof({ours}, {mine}) == offsetof({theirs}, {official})"))
            lines.append(asserted(f"sizeof((({ours} *)0)->{mine}) == sizeof((({theirs} *)0)->{official})"))
    assert compile_probe(header, lines) == ""


def test_constants_match_official_header(header: Path) -> None:
    lines = [asserted(f"(long long)({ours}) == (long long)({theirs})") for ours, theirs in CONSTANTS.items()]
    assert compile_probe(header, lines) == ""


CALLS = {
    "nvmlDeviceGetSamples": "nv_return (*)(nv_device, nvmlSamplingType_t, unsigned long long, nvmlValueType_t *, "
    "unsigned int *, nvmlSample_t *)",
    "nvmlDeviceGetMigMode": "nv_return (*)(nv_device, unsigned int *, unsigned int *)",
    "nvmlDeviceGetMaxMigDeviceCount": "nv_return (*)(nv_device, unsigned int *)",
    "nvmlDeviceGetMigDeviceHandleByIndex": "nv_return (*)(nv_device, unsigned int, nv_device *)",
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": "nv_return (*)(nv_device, nv_device *)",
    "nvmlDeviceIsMigDeviceHandle": "nv_return (*)(nv_device, unsigned int *)",
    "nvmlDeviceGetGpuInstanceId": "nv_return (*)(nv_device, unsigned int *)",
    "nvmlDeviceGetComputeInstanceId": "nv_return (*)(nv_device, unsigned int *)",
    "nvmlDeviceGetAttributes_v2": "nv_return (*)(nv_device, nvmlDeviceAttributes_t *)",
}  # fmt: skip


def test_calls_take_what_the_official_header_says(header: Path) -> None:
    lines = ["#define nv_return nvmlReturn_t", "#define nv_device nvmlDevice_t"]
    for name, signature in CALLS.items():
        lines.append(asserted(f"_Generic(&{name}, {signature}: 1, default: 0)"))
    assert compile_probe(header, lines) == ""


def test_probe_that_must_fail_fails(header: Path) -> None:
    assert "static assertion failed" in compile_probe(header, [asserted("NV_TIMEOUT == NVML_ERROR_UNKNOWN")])


def test_stand_in_exports_every_function_of_the_header(header: Path) -> None:
    names = re.findall(r"\bDECLDIR\s+(nvml\w+)\s*\(", header.read_text(encoding="utf-8", errors="replace"))
    assert len(set(names)) > 400
    with resources.as_file(resources.files("powersample").joinpath("_lib", "libnvidia-ml.so.1")) as path:
        library = ctypes.CDLL(str(path))
    assert [name for name in sorted(set(names)) if not hasattr(library, name)] == []
