# SPDX-License-Identifier: Apache-2.0
"""The stand-in's ring of power samples and its field timestamps, seen through NVIDIA's own Python binding."""

import time

import numpy as np
import pytest
from nvml_client import first_gpu

from powersample.sim import Node

US = 1_000
RING = """
def ring(since=0, kind=nv.NVML_TOTAL_POWER_SAMPLES):
    kind, samples = nv.nvmlDeviceGetSamples(gpu, kind, since)
    return [[s.timeStamp, s.sampleValue.uiVal] for s in samples]
"""


def driver_clock_us(mono_ns: "np.typing.NDArray[np.int64]") -> "np.typing.NDArray[np.int64]":
    offset_ns = time.time_ns() - time.monotonic_ns()
    return (mono_ns + offset_ns) // US


@pytest.mark.parametrize("profile", ["a100", "v100", "gh200", "k40m"])
def test_samples_are_the_last_publications_with_their_stamps(profile: str) -> None:
    """What pynvml fetches in two calls is what the board's own sampling published, to the microsecond."""
    with Node(profile) as node:
        node.load_wave(0, 60, 200, period_s=0.13, duty=0.5)
        time.sleep(0.2)
        seen = first_gpu(node, RING + "done(ring=ring(), now=time.monotonic_ns())")
        stamps, values = np.array(seen["ring"], np.int64).T
        times = node.sensor_publications(0, "samples", seen["now"] - 4_000_000_000, seen["now"])
        truth = node.sensor_values(0, "samples", times)
    assert len(stamps) == 119
    assert np.median(np.diff(stamps)) == pytest.approx(20_000, rel=0.02)
    at = np.searchsorted(driver_clock_us(times), stamps - 500)  # both clocks were read apart, by some us
    assert np.abs(driver_clock_us(times)[at] - stamps).max() < 500
    assert (values / 1e3).tolist() == truth[at].tolist()
    assert len(set(values)) > 5


def test_samples_newer_than_the_last_seen_alone_and_then_none() -> None:
    with Node("a100") as node:
        seen = first_gpu(node, RING + """
first = ring()
try:
    again = ring(first[-1][0])
except nv.NVMLError as error:
    again = error.value
time.sleep(0.15)
later = ring(first[-1][0])
done(first=first, again=again, later=later, future=code(ring, 2**63))
""")  # fmt: skip
    assert seen["again"] == 6 or len(seen["again"]) <= 3  # NOT_FOUND, if no 20 ms lie between the calls
    assert 7 <= len(seen["later"]) < 119
    assert min(stamp for stamp, _ in seen["later"]) > seen["first"][-1][0]
    assert seen["future"] == ["NVMLError_NotFound", 6]


def test_samples_buffer_too_small_or_none_says_what_is_needed() -> None:
    with Node("a100") as node:
        seen = first_gpu(node, """
import ctypes
call = nv._nvmlGetFunctionPointer("nvmlDeviceGetSamples")
kind, count = ctypes.c_uint(9), ctypes.c_uint(0)
def ask(buffer, n, kind_of=0):
    count.value = n
    return call(gpu, kind_of, ctypes.c_ulonglong(0), ctypes.byref(kind), ctypes.byref(count), buffer), count.value
buffer = (nv.c_nvmlSample_t * 200)()
done(none=ask(None, 0), small=ask(buffer, 5), zero=ask(buffer, 0)[0], enough=ask(buffer, 200), kind=kind.value,
     other=ask(buffer, 200, 1)[0], module=ask(buffer, 200, 7)[0])
""")  # fmt: skip
    assert seen["none"] == [0, 119]
    assert seen["small"] == [7, 119]  # INSUFFICIENT_SIZE
    assert seen["zero"] == 2
    assert seen["enough"] == [0, 119]
    assert seen["kind"] == 1  # unsigned int
    assert seen["other"] == seen["module"] == 3  # utilisation samples, and a module where there is none


def test_samples_of_the_module_are_the_modules_power() -> None:
    with Node("gh200") as node:
        seen = first_gpu(node, RING + """
module = nv.nvmlDeviceGetFieldValues(gpu, [(186, 1)])[0]
done(ring=ring(kind=nv.NVML_MODULE_POWER_SAMPLES), field=[module.nvmlReturn, module.value.uiVal])
""")  # fmt: skip
    assert seen["field"] == [0, 190_000]  # 90 W of the GPU at rest and 100 W of the rest
    assert {value for _, value in seen["ring"]} == {190_000}


def test_samples_absent_failing_and_after_a_reload() -> None:
    with Node("h100") as node:
        assert first_gpu(node, RING + "done(error=code(ring))")["error"] == ["NVMLError_NotSupported", 3]
    with Node("a100") as node:
        node.reload_driver()
        assert first_gpu(node, RING + "done(n=len(ring()))")["n"] < 119  # a driver begins with an empty ring
        node.inject("samples", 15)
        assert first_gpu(node, RING + "done(error=code(ring))")["error"] == ["NVMLError_GpuIsLost", 15]


def test_samples_keep_their_stamps_when_the_drivers_clock_jumps() -> None:
    with Node("a100") as node:
        node.step_clock(-3600.0)
        time.sleep(0.2)
        stamps = np.array(first_gpu(node, RING + "done(ring=ring())")["ring"], np.int64)[:, 0]
    steps = np.flatnonzero(np.diff(stamps) < 0)
    assert len(steps) == 1
    assert np.diff(stamps)[steps[0]] == pytest.approx(-3600e6, abs=1e6)


@pytest.mark.parametrize("stamps", ["call", "update", "zero"])
def test_field_stamps_are_of_the_call_of_the_update_or_nothing(stamps: str) -> None:
    with Node("h100", field_stamps=stamps) as node:
        seen = first_gpu(node, """
def look():
    fields = nv.nvmlDeviceGetFieldValues(gpu, [186, 185])
    return [time.monotonic_ns(), *[[f.timestamp, f.latencyUsec] for f in fields]]
rows = []
for _ in range(30):
    rows.append(look()); time.sleep(0.01)
done(rows=rows)
""")  # fmt: skip
        now, instant, average = zip(*seen["rows"], strict=True)
        times = node.sensor_publications(0, "instant", now[0] - 400_000_000, now[-1])
    moments = np.array([stamp for stamp, _ in instant])
    if stamps == "zero":
        assert set(moments) == {0} == {latency for _, latency in instant}
        return
    assert all(0 <= latency < 1_000_000 for _, latency in (*instant, *average))
    calls = driver_clock_us(np.array(now))
    if stamps == "call":
        assert np.abs(calls - moments).max() < 20_000
        assert len(set(moments)) == 30
    else:
        known = driver_clock_us(times)
        nearest = known[np.clip(np.searchsorted(known, moments - 500), 0, len(known) - 1)]
        assert np.abs(nearest - moments).max() < 500
        assert 3 <= len(set(moments)) <= 6
