# SPDX-License-Identifier: Apache-2.0
"""Groups `step` and `windows`: what a window takes of the program that marks it, and what ten thousand take later.

No GPU: a step is a plain mark here. What an event's record adds on one is not measured.
"""

from __future__ import annotations

import pytest

import powersample as ps
from bench.windows import WINDOWS, trace_of
from powersample.analysis import energies, window_energies
from powersample.report import build


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
