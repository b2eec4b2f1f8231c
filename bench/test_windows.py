# SPDX-License-Identifier: Apache-2.0
"""Groups `step` and `windows`: what a window takes of the program that marks it, and what ten thousand take later.

No GPU: a step is a plain mark here. What an event's record adds on one is not measured.
"""

from __future__ import annotations

import numpy as np
import pytest

import powersample as ps
from powersample.analysis import energies, window_energies
from powersample.model import Channel, Kind, Series, Trace, Window
from powersample.report import build

SECONDS, WINDOWS = 1000, 10_000


@pytest.fixture(scope="module")
def run():
    with ps.measure(simulate="h100") as made:
        yield made


@pytest.mark.benchmark(group="step")
def test_step_of_a_run(benchmark, run):
    def step():
        with run.step():
            pass

    benchmark(step)


@pytest.mark.benchmark(group="step")
def test_step_by_ids(benchmark, run):
    benchmark(lambda: run.end_window(run.begin_window("step", sync="event")))


@pytest.mark.benchmark(group="step")
def test_step_of_a_program_that_is_recorded(benchmark, run):
    def step():
        with ps.step():
            pass

    benchmark(step)


@pytest.mark.benchmark(group="step")
def test_window_that_is_written_at_once(benchmark, run):
    def window():
        with run.window("epoch"):
            pass

    benchmark(window)


def trace_of(windows: int, apart_ns: int = 0) -> Trace:
    """Return a thousand seconds of an H100's power and counter and of a package's counter at 1 kHz."""
    dice, count = np.random.default_rng(1), SECONDS * 1000
    t_ns = np.arange(count, dtype=np.int64) * 1_000_000 + dice.integers(0, 200_000, count)
    power_mw = dice.integers(60_000, 300_000, count // 100 + 2)[(t_ns + 37_000_000) // 100_000_000]
    counter_mj = np.cumsum(power_mw) // 1000
    package_uj = np.cumsum(dice.integers(60_000, 90_000, count))
    channels = (
        ("gpu0.power.instant", "GPU-X", "gpu", Kind.POWER, "W", 1e-3, "nvml.field.186", power_mw),
        ("gpu0.energy", "GPU-X", "gpu", Kind.ENERGY, "J", 1e-3, "nvml.energy", counter_mj),
        ("package-0.energy", "package-0", "package", Kind.ENERGY, "J", 1e-6, "rapl.powercap", package_uj),
    )
    series = [
        Series(
            Channel(name, device, domain, kind, unit, scale, stamp="bracket", sensor=sensor),
            t_ns,
            t_ns + 20_000,
            raw.astype(np.int64),
            np.zeros(count, np.uint16),
            np.arange(count, dtype=np.uint32),
        )
        for name, device, domain, kind, unit, scale, sensor, raw in channels
    ]
    step_ns = (SECONDS - 2) * 1_000_000_000 // windows
    begins_ns = range(10**9, 10**9 + windows * step_ns, step_ns)
    marked = [Window("step", at_ns, at_ns + step_ns - apart_ns, (), "marks pid 7") for at_ns in begins_ns]
    board = {"uuid": "GPU-X", "name": "NVIDIA H100 PCIe", "architecture": "hopper"}
    return Trace.of(series, windows=marked, meta={"devices": [board], "driver": "535.247.01"})


@pytest.fixture(scope="module")
def trace():
    return trace_of(WINDOWS)


@pytest.mark.benchmark(group="windows")
def test_energies_of_ten_thousand_windows_of_three_channels(benchmark, trace):
    found = benchmark.pedantic(window_energies, (trace, trace.windows), rounds=5, warmup_rounds=1)
    assert len(found) == WINDOWS


@pytest.mark.benchmark(group="windows")
def test_report_of_ten_thousand_windows_of_three_channels(benchmark, trace):
    report = benchmark.pedantic(lambda: str(build(trace)), rounds=5, warmup_rounds=1)
    assert "step" in report


@pytest.mark.benchmark(group="windows")
@pytest.mark.parametrize("apart_ns", [0, 1_000_000], ids=["that_touch", "1_ms_apart"])
def test_energies_by_name_of_ten_thousand_windows(benchmark, apart_ns):
    trace = trace_of(WINDOWS, apart_ns)
    found = benchmark.pedantic(energies, (trace, "step", "gpu0"), rounds=5, warmup_rounds=1)
    assert len(found) == WINDOWS
    assert len(found.sum().pieces) == (WINDOWS if apart_ns else 1)
