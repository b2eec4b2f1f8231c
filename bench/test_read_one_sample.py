# SPDX-License-Identifier: Apache-2.0
"""Group `read-one-sample`: what one reading of a board's power takes, by every method.

Stand-ins: a stub library that answers a constant, for what is called in process; a simulated board without added
latency for NVIDIA's own program, which wants a whole one, and for its compiled binding, bound once in a process.
"""

from __future__ import annotations

import ctypes
import subprocess
import time

import pytest

from bench import native
from powersample._native import api
from powersample._native.api_nvml import Nvml
from powersample.errors import NotSupported

PASSES = 1 << 14

pytestmark = pytest.mark.benchmark(group="read-one-sample")


@pytest.fixture
def library():
    return native.stub_library()


def test_native_lane(benchmark, library):
    """A pass of the shipped lane: call, time stamp, record, ring, statistics; its start is not in it."""

    def lane():
        with api.Sampler() as sampler:
            with Nvml(library) as nvml:
                sampler.add(nvml.source(0), api.LaneOptions(mode="tight", max_passes=PASSES))
            sampler.start()
            while sampler.running:
                time.sleep(0.0002)
            sampler.stop()
            stats = sampler.stats(0)
        return (stats["last_ns"] - stats["start_ns"]) / stats["passes"]

    benchmark.extra_info |= {"ns_a_reading": [round(lane(), 2) for _ in range(21)], "cost": "ns_a_reading is one pass"}
    benchmark.pedantic(lane, rounds=5, warmup_rounds=1)


def test_c_function_through_cffi(benchmark, library):
    """The bare function by cffi's dlopen, its result looked at."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(
        "int nvmlInit_v2(void); int nvmlDeviceGetHandleByIndex_v2(unsigned, void **);"
        "int nvmlDeviceGetPowerUsage(void *, unsigned *);"
    )
    nvml, board, milliwatts = ffi.dlopen(str(library)), ffi.new("void **"), ffi.new("unsigned *")
    assert nvml.nvmlInit_v2() == 0
    assert nvml.nvmlDeviceGetHandleByIndex_v2(0, board) == 0
    read, device = nvml.nvmlDeviceGetPowerUsage, board[0]

    def reading():
        return milliwatts[0] if read(device, milliwatts) == 0 else None

    assert benchmark(reading) == 123456


def test_c_function_through_ctypes(benchmark, library):
    nvml, board, milliwatts = ctypes.CDLL(str(library)), ctypes.c_void_p(), ctypes.c_uint()
    assert nvml.nvmlInit_v2() == 0
    assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(board)) == 0
    read, out = nvml.nvmlDeviceGetPowerUsage, ctypes.byref(milliwatts)

    def reading():
        return milliwatts.value if read(board, out) == 0 else None

    assert benchmark(reading) == 123456


def test_pynvml(benchmark, library):
    from powersample.experiments.baselines.binding import NvmlBinding

    binding = NvmlBinding(library)
    pynvml = binding.open()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        assert benchmark(pynvml.nvmlDeviceGetPowerUsage, handle) == 123456
    finally:
        binding.close()


def test_cuda_bindings(benchmark, board):
    from powersample.experiments.baselines.pynvml_thread import CudaBindingsThread

    method = CudaBindingsThread(board.library)
    try:
        read, handle, _ = method._open()
    except NotSupported as error:
        pytest.skip(str(error))
    try:
        assert benchmark(read, handle) > 0
    finally:
        method._close()


def test_nvidia_smi_process(benchmark, board):
    """NVIDIA's own program, started and waited for; what a real driver's initialisation takes is not in it."""
    from powersample.doctor.nvidia_debs import find_nvidia_smi

    try:
        program = find_nvidia_smi(None)
    except NotSupported as error:
        pytest.skip(str(error))
    command = [program, "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-i", "0"]

    def reading():
        done = subprocess.run(command, env=board.environment, capture_output=True, check=True, timeout=30)
        return float(done.stdout)

    assert benchmark.pedantic(reading, rounds=50, warmup_rounds=2) > 0
