# SPDX-License-Identifier: Apache-2.0
"""Groups `ring`, `drain`, `energy`, `spool-and-parquet` and `import`: the parts of a recording, one by one."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import endurance, native
from powersample import store
from powersample._native import api
from powersample.analysis.energy import channel_energy
from powersample.model import SAMPLE_DTYPE, Window

BATCH = 10_000
MINUTES = 10


def recorded(folder: Path) -> Path:
    """Record ten simulated minutes of a power channel at 1 kHz, from the lane to one Parquet file."""
    folder.mkdir()
    endurance._finish(endurance._record(folder, endurance._virtual(MINUTES / 60)))
    return folder / "run.parquet"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("recording") / "one")


@pytest.mark.benchmark(group="ring")
def test_push_and_drain_in_c(benchmark):
    """A program of its own, which times itself: `ns` holds what a push and a drained record took in each round."""
    push, drain = np.array(benchmark.pedantic(native.rows, ("ring_cost", BATCH, 53), rounds=1))[2:].T
    benchmark.extra_info |= {
        "push_ns": {"median": float(np.median(push)), "min": float(push.min()), "count": len(push)},
        "drain_ns": {"median": float(np.median(drain)), "min": float(drain.min()), "count": len(drain)},
    }


@pytest.mark.benchmark(group="drain")
@pytest.mark.parametrize("batch", [100, BATCH])
def test_drain_into_numpy(benchmark, batch):
    out = np.zeros(batch, SAMPLE_DTYPE)
    options = api.LaneOptions(mode="virtual", rate_hz=1000.0, virtual_start_ns=0)
    with api.Sampler() as sampler:
        sampler.add(api.scripted_source("bench", endurance._sensor()), options)
        sampler.start()

        def filled():
            while sampler.stats(0)["in_ring"] < batch:
                pass

        benchmark.extra_info["records"] = batch
        assert benchmark.pedantic(sampler.drain, (0, out), setup=filled, rounds=500) == batch
        sampler.stop()


@pytest.mark.benchmark(group="energy")
def test_energy_of_ten_minutes_in_a_file(benchmark, recording):
    trace = store.load(recording)
    (name,) = trace.channels
    window = Window("run", trace.start_ns, trace.end_ns)
    assert benchmark(channel_energy, trace, name, window).joules > 0


@pytest.mark.benchmark(group="spool-and-parquet")
def test_record_ten_minutes(benchmark, tmp_path):
    number = itertools.count()
    benchmark.extra_info["records"] = MINUTES * 60_000
    assert benchmark.pedantic(lambda: recorded(tmp_path / str(next(number))), rounds=5).exists()


@pytest.mark.benchmark(group="import")
@pytest.mark.parametrize("module", ["powersample", "powersample._native.api", "powersample.session"])
def test_import_in_a_fresh_process(benchmark, module):
    """The interpreter's own start is in it: `sys` is there to be subtracted."""
    benchmark.pedantic(_import, (module,), rounds=7, warmup_rounds=1)


@pytest.mark.benchmark(group="import")
def test_import_of_nothing(benchmark):
    benchmark.pedantic(_import, ("sys",), rounds=7, warmup_rounds=1)


def _import(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=60)
