# SPDX-License-Identifier: Apache-2.0
"""pytest-benchmark comparisons, for looking at a change: `pytest bench/test_bench.py`. Nothing here is a gate."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

import numpy as np
import pytest

from bench import endurance, native
from powersample import store
from powersample._native import api
from powersample._native.api_nvml import Nvml
from powersample.analysis.energy import channel_energy
from powersample.model import SAMPLE_DTYPE, Window

BATCH = 10_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Ten simulated minutes of a power channel."""
    folder = tmp_path_factory.mktemp("recording")
    endurance._finish(endurance._record(folder, endurance._virtual(1 / 6)))
    return folder / "run.parquet"


def test_read_one_sample_native(benchmark):
    """A pass of the shipped lane over the stub library, back to back; 2^16 a round."""

    def run():
        with api.Sampler() as sampler:
            with Nvml(native.stub_library()) as nvml:
                sampler.add(nvml.source(0), api.LaneOptions(mode="tight", max_passes=1 << 16))
            sampler.start()
            while sampler.running:
                pass
            sampler.stop()

    benchmark(run)


def test_read_one_sample_pynvml(benchmark):
    """As many reads of the same library through nvidia-ml-py."""
    import time

    import pynvml

    pynvml.nvmlLib = ctypes.CDLL(str(native.stub_library()))
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def run():
        read, now_ns = pynvml.nvmlDeviceGetPowerUsage, time.monotonic_ns
        return [(now_ns(), read(handle)) for _ in range(1 << 16)]

    benchmark(run)


def test_ring_drain_into_numpy(benchmark):
    out = np.zeros(BATCH, SAMPLE_DTYPE)
    options = api.LaneOptions(mode="virtual", rate_hz=1000.0, virtual_start_ns=0)
    with api.Sampler() as sampler:
        sampler.add(api.scripted_source("bench", endurance._sensor()), options)
        sampler.start()

        def filled():
            while sampler.stats(0)["in_ring"] < BATCH:
                pass

        assert benchmark.pedantic(sampler.drain, (0, out), setup=filled, rounds=500) == BATCH
        sampler.stop()


def test_energy_of_a_window(benchmark, recording):
    trace = store.load(recording)
    (name,) = trace.channels
    window = Window("run", trace.start_ns, trace.end_ns)
    assert benchmark(channel_energy, trace, name, window).joules > 0


def test_spool_and_parquet(benchmark, tmp_path):
    """Ten simulated minutes, from the lane to one Parquet file."""
    number = itertools.count()

    def run():
        folder = Path(tmp_path / str(next(number)))
        folder.mkdir()
        endurance._finish(endurance._record(folder, endurance._virtual(1 / 6)))

    benchmark.pedantic(run, rounds=5)
