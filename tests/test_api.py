# SPDX-License-Identifier: Apache-2.0
"""The boundary to C: layouts, ownership, statuses as exceptions, and the sampler's identities through it."""

import gc
import subprocess
import sys
import time

import numpy as np
import pytest

from powersample import errors
from powersample._native import api
from powersample._native.api_nvml import Nvml
from powersample.model import SAMPLE_DTYPE

STEP = (0, 0, 0, 100_000, 0, 0)  # pass, channel, status, raw, raw_step, stall_ns


def drained(sampler, lane=0):
    parts, buffer = [], np.zeros(4096, SAMPLE_DTYPE)
    while count := sampler.drain(lane, buffer):
        parts.append(buffer[:count].copy())
    return np.concatenate(parts) if parts else buffer[:0]


def finish(sampler):
    """Wait for max_passes, reading meanwhile so that the ring never fills."""
    parts = [drained(sampler)]
    while sampler.running:
        parts.append(drained(sampler))
    sampler.stop()
    parts.append(drained(sampler))
    return np.concatenate(parts)


def virtual(script, passes, ring_records=None, rate_hz=1000.0):
    sampler = api.Sampler()
    options = api.LaneOptions(
        mode="virtual", rate_hz=rate_hz, max_passes=passes, ring_records=ring_records, virtual_start_ns=10**9
    )
    sampler.add(api.scripted_source("fake", script), options)
    sampler.start()
    return sampler


def test_layout_of_a_sample_is_the_same_in_c_and_numpy():
    fields = {
        name: (SAMPLE_DTYPE.fields[name][1], SAMPLE_DTYPE.fields[name][0].itemsize) for name in SAMPLE_DTYPE.names
    }
    assert fields == api.layout()
    assert SAMPLE_DTYPE.itemsize == 32


def test_sampler_virtual_lane_delivers_every_value_in_order():
    with virtual(api.Script(steps=((0, 0, 0, 5, 3, 0),)), passes=5000, ring_records=64) as sampler:
        records = finish(sampler)
        stats = sampler.stats(0)
    assert records["raw"].tolist() == list(range(5, 5 + 3 * 5000, 3))
    assert records["seq"].tolist() == list(range(5000))
    assert np.diff(records["t0_ns"]).tolist() == [1_000_000] * 4999
    assert records["t0_ns"][0] == 10**9
    assert stats["slots"] == stats["passes"] + stats["skipped"] == 5000
    assert stats["records"] == stats["drained"] + stats["dropped"] + stats["in_ring"] == 5000


def test_sampler_paced_lane_accounts_for_every_slot_and_record():
    """Exact identities, however the machine behaves; the ring is too small on purpose."""
    with api.Sampler() as sampler:
        sampler.add(
            api.scripted_source("fake", api.Script(steps=(STEP,))),
            api.LaneOptions(rate_hz=5000, ring_records=16, max_passes=400),
        )
        sampler.start()
        while sampler.running:
            pass
        sampler.stop()
        stats = sampler.stats(0)
        assert stats["slots"] == stats["passes"] + stats["skipped"]
        assert stats["passes"] == stats["records"] == 400
        assert (stats["in_ring"], stats["dropped"]) == (16, 384)
        assert drained(sampler)["seq"].tolist() == list(range(16))  # the newest were dropped
        stats = sampler.stats(0)
        assert stats["records"] == stats["drained"] + stats["dropped"] + stats["in_ring"]


def test_sampler_statuses_are_records_and_counted_by_code():
    script = api.Script(steps=((0, 0, 0, 7, 0, 0), (10, 0, 15, 0, 0, 0), (15, 0, 0, 8, 0, 0)))
    with virtual(script, passes=20) as sampler:
        records = finish(sampler)
        assert sampler.stats(0)["errors"] == {15: 5}
    assert records["status"].tolist() == [0] * 10 + [15] * 5 + [0] * 5


def test_sampler_channels_describe_their_source():
    steps = tuple((0, channel, 0, 0, 1, 0) for channel in range(3))
    with virtual(api.Script(steps=steps, channels=3, kind="energy", scale=1e-6), passes=1) as sampler:
        finish(sampler)
        channels = sampler.channels()
    assert [c["id"] for c in channels] == [0, 1, 2]
    assert {c["kind"] for c in channels} == {"energy"}
    assert {c["unit"] for c in channels} == {"J"}
    assert {c["scale"] for c in channels} == {1e-6}


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_lane_options_with_a_rate_that_is_none_are_refused(rate_hz):
    with pytest.raises(errors.InvalidArgument, match="rate"):
        api.LaneOptions(rate_hz=rate_hz).to_c()


@pytest.mark.parametrize("ring_records", [3, 1, 1 << 30])
def test_sampler_ring_that_is_no_power_of_two_or_too_large_is_refused(ring_records):
    with api.Sampler() as sampler, pytest.raises(errors.InvalidArgument):
        sampler.add(api.scripted_source("fake", api.Script(steps=(STEP,))), api.LaneOptions(ring_records=ring_records))


def test_sampler_started_twice_or_added_to_late_is_refused():
    with api.Sampler() as sampler:
        sampler.add(api.scripted_source("fake", api.Script(steps=(STEP,))), api.LaneOptions(rate_hz=100))
        sampler.start()
        with pytest.raises(errors.StateError):
            sampler.start()
        with pytest.raises(errors.StateError):
            sampler.add(api.scripted_source("fake", api.Script(steps=(STEP,))))


def test_drain_into_an_array_of_another_type_is_refused():
    with virtual(api.Script(steps=(STEP,)), passes=1) as sampler:
        with pytest.raises(errors.InvalidArgument, match="SAMPLE_DTYPE"):
            sampler.drain(0, np.zeros(4, np.int64))
        with pytest.raises(errors.InvalidArgument, match="SAMPLE_DTYPE"):
            sampler.drain(0, np.zeros(8, SAMPLE_DTYPE)[::2])
        finish(sampler)


def test_closed_objects_say_so():
    sampler = api.Sampler()
    sampler.close()
    sampler.close()
    with pytest.raises(errors.StateError, match="closed"):
        sampler.start()


def test_spool_in_a_missing_folder_is_refused(tmp_path):
    with virtual(api.Script(steps=(STEP,)), passes=1) as sampler, pytest.raises(errors.PowerSampleError):
        api.Spool(tmp_path / "missing", sampler)


def spooling(directory):
    sampler = api.Sampler()
    sampler.add(api.scripted_source("fake", api.Script(steps=(STEP,))), api.LaneOptions(rate_hz=1000.0))
    sampler.start()
    spool = api.Spool(directory, sampler, drain_ms=1)
    spool.start()
    while sampler.stats(0)["records"] < 5:
        time.sleep(0.001)
    return sampler, spool


def test_sampler_closed_before_its_spool_leaves_a_whole_part(tmp_path):
    sampler, spool = spooling(tmp_path)
    sampler.close()
    spool.sync()
    spool.stop()
    records = spool.stats()["records"]
    spool.close()
    part = (tmp_path / "part-000000.part").read_bytes()
    header = part.index(b"\n") + 1
    assert records >= 5
    assert len(part) == header + records * SAMPLE_DTYPE.itemsize


def test_sampler_and_spool_dropped_in_a_cycle_close_the_part(tmp_path):
    sampler, spool = spooling(tmp_path)
    sampler.cycle, spool.cycle = spool, sampler
    del sampler, spool
    gc.collect()
    assert (tmp_path / "part-000000.part").exists()


def test_nvml_without_a_library_says_what_was_tried(tmp_path):
    path = tmp_path / "libnvidia-ml.so.1"
    with pytest.raises(errors.DeviceNotFound, match=str(path)):
        Nvml(path)


def test_nvml_with_a_library_that_is_none_says_what_is_missing():
    with pytest.raises(errors.PowerSampleError, match="nvml"):
        Nvml("libm.so.6")


def test_public_names_survive_the_import_of_every_room():
    """A lazy name that is also a room's would turn into a module when that room is imported."""
    program = (
        "import contextlib, pkgutil, importlib, powersample as ps\n"
        "from powersample.errors import PackageMissing\n"
        "for module in pkgutil.walk_packages(ps.__path__, 'powersample.'):\n"
        "    if not module.name.endswith(('__main__', 'build_native', '_powersample')):\n"
        "        with contextlib.suppress(PackageMissing):  # of an extra\n"
        "            importlib.import_module(module.name)\n"
        "assert set(dir(ps)) == set(ps.__all__)\n"
        "assert all(callable(getattr(ps, name)) for name in ps.__all__ if name != '__version__')"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_import_is_light():
    program = (
        "import sys, powersample\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'matplotlib', 'torch', 'pynvml', 'serial'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
