# SPDX-License-Identifier: Apache-2.0
"""A disk that is full, a real one: a tmpfs of a few hundred kilobytes. Raw data goes only once its Parquet is safe."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from powersample import store
from powersample._native import api
from powersample.errors import DiskFull

sys.path.insert(0, str(Path(__file__).parent))
import spools

MS = 1_000_000


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many KB."""
    mounted = []

    def mount(kilobytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("a small file system has to be mounted, which this user or machine may not")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Take what room is left; return the file that does."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return path


def write_spool(folder, parts=4, rows=1000):
    """A spool whose readings cannot be compressed away; return them."""
    spool = folder / "run.parquet.spool"
    spool.mkdir()
    chance = np.random.default_rng(1)
    raw = chance.integers(0, 2**40, parts * rows)
    for number in range(parts):
        t_ns = (np.arange(rows) + number * rows + 1) * MS
        some = spools.records(t_ns, raw[number * rows : (number + 1) * rows], seq=number * rows)
        spools.write_part(spool, number, some, [spools.channel()])
    spools.write_session(spool, host="box")
    (spool / "marks").write_text(
        f'v1 begin 1 {10 * MS} {spools.BOOT} 5 5 "a"\nv1 end 1 {50 * MS} {spools.BOOT} 5 5 ""\n'
    )
    return spool, raw.tolist()


def test_full_disk_stops_the_spool_keeps_windows_and_counts_and_is_recovered_elsewhere(small_disk, tmp_path):
    disk = small_disk(100)
    spool = disk / "run.parquet.spool"
    spool.mkdir()
    spools.write_session(spool, host="box")
    (spool / "marks").write_text(f'v1 begin 1 1000000 {"-"} 5 5 "a"\n'.replace("-", boot()))
    with api.Sampler() as sampler:
        steps = ((0, 0, 0, 0, 1, 0),)
        options = api.LaneOptions(mode="virtual", rate_hz=1000, max_passes=20_000)
        sampler.add(api.scripted_source("box", api.Script(steps=steps)), options)
        sampler.start()
        with api.Spool(spool, sampler) as writer:
            writer.start()
            while sampler.running:
                pass
            sampler.stop()
            with pytest.raises(OSError, match="No space left"):
                writer.stop()
            stats, lane = writer.stats(), sampler.stats(0)
    assert lane["records"] == lane["drained"] == 20_000  # the lane never noticed
    assert stats["records"] + stats["discarded"] == 20_000
    assert 1000 < stats["records"] < 4000
    with pytest.raises(DiskFull, match=r"no space left.*write to another file system"):
        store.recover(spool)
    assert not list(disk.rglob("*.new"))
    trace = store.recover(spool, tmp_path / "elsewhere.parquet")
    series = trace.series("box.power0")
    assert series.raw.tolist() == list(range(stats["records"]))
    assert [window.name for window in trace.windows] == ["a"]
    assert any("stopped writing" in text for text in trace.meta["trouble"])
    assert not spool.exists()


def boot():
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_disk_that_fills_up_during_conversion_or_merge_loses_nothing(small_disk):
    """Whichever file the last free page goes to, what was recorded is whole, and is written once there is room."""
    disk = small_disk(400)
    stages = set()
    for room, converted in itertools.product(range(0, 64, 8), (False, True)):
        spool, raw = write_spool(disk)
        if converted:  # while it was recorded
            store.Converter(spool, disk / "run.parquet").step()
        filler = fill(disk)
        with filler.open("rb+") as file:
            file.truncate(filler.stat().st_size - room * 1024)
        try:
            trace = store.recover(spool)
            stages.add("done")
        except DiskFull:
            stages.add(f"{len(list(spool.glob('*.parquet')))} of 4 parts converted")
            assert not list(disk.rglob("*.new"))
            assert store.read_spool(spool).series("gpu0.power.instant").raw.tolist() == raw
            filler.unlink()
            trace = store.recover(spool)
        assert trace.series("gpu0.power.instant").raw.tolist() == raw
        assert [window.name for window in trace.windows] == ["a"]
        assert not spool.exists()
        filler.unlink(missing_ok=True)
        trace.path.unlink()
    assert {"0 of 4 parts converted", "4 of 4 parts converted", "done"} <= stages


def test_full_disk_is_recovered_on_another_without_a_byte_of_its_own(small_disk, tmp_path):
    """Recovering needs no room where the spool is: it would be a poor help on the very disk that is full."""
    disk = small_disk(400)
    spool, raw = write_spool(disk)
    fill(disk)
    trace = store.recover(spool, tmp_path / "elsewhere.parquet")
    assert trace.series("gpu0.power.instant").raw.tolist() == raw
    assert not spool.exists()
