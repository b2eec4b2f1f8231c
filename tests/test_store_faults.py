# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out, folders that may not be written, garbage where marks should be, two recorders at once."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import powersample as ps
from powersample import store
from powersample.errors import AccessDenied, BadFormat
from powersample.report import build
from powersample.sim import Node

sys.path.insert(0, str(Path(__file__).parent))
import spools

MS = 1_000_000
LIMITED = """
import resource, sys
import numpy, pyarrow.parquet
from powersample import store
store.recover(sys.argv[1], sys.argv[1] + ".warm", replace=True)  # whatever is loaded late is loaded now
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    store.recover(sys.argv[2])
except MemoryError:
    sys.exit(9)
"""


def spool_of(folder, rows):
    spool = folder / "run.parquet.spool"
    spool.mkdir(parents=True)
    t_ns = (np.arange(rows) + 1) * MS
    spools.write_part(spool, 0, spools.records(t_ns, np.arange(rows) % 977), [spools.channel()])
    spools.write_session(spool, host="box")
    return spool


def test_memory_limit_during_conversion_leaves_the_raw_part(tmp_path):
    """`ulimit -v`, as batch systems set it: an error and no crash, and nothing of what was recorded is touched."""
    small, large = spool_of(tmp_path / "small", 100), spool_of(tmp_path / "large", 1_500_000)
    command = [sys.executable, "-c", LIMITED, small, large, str(8 << 20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr
    assert (large / "part-000000.part").exists()
    assert not list(large.parent.rglob("*.new"))
    assert store.recover(large).series("gpu0.power.instant").raw[-1] == 1_499_999 % 977


@pytest.fixture
def read_only(tmp_path):
    """A file system that may not be written, not even by root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=100k", "none", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a read-only file system has to be mounted, which this user or machine may not")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_read_only_folder_is_refused_before_recording_and_the_spool_stays(read_only, tmp_path):
    with pytest.raises(AccessDenied, match="not writable"):
        ps.measure(simulate="h100", output=read_only / "x.parquet").start()
    spool = spool_of(tmp_path, 100)
    with pytest.raises(AccessDenied, match=r"may not be written \(Read-only file system\)"):
        store.recover(spool, read_only / "x.parquet")
    assert len(store.recover(spool).series("gpu0.power.instant")) == 100


def test_spool_that_may_not_be_written_is_still_read(tmp_path, read_only):
    """From a read-only copy, as a backup is one: looked at without a lock, never taken apart."""
    subprocess.run(["mount", "-o", "remount,rw", read_only], check=True)
    spool = spool_of(read_only, 100)
    subprocess.run(["mount", "-o", "remount,ro", read_only], check=True)
    assert len(store.read_spool(spool).series("gpu0.power.instant")) == 100
    with pytest.raises(AccessDenied, match=r"read-only file system.*Copy it"):
        store.recover(spool, tmp_path / "x.parquet")
    copy = tmp_path / "copy.parquet.spool"
    shutil.copytree(spool, copy)
    assert len(store.recover(copy).series("gpu0.power.instant")) == 100


def test_marks_full_of_garbage_keep_the_windows_among_them(tmp_path):
    spool = spool_of(tmp_path, 100)
    begin, end = f'v1 begin 1 {10 * MS} {spools.BOOT} 5 5 "a"', f"v1 end 1 {50 * MS} {spools.BOOT} 5 5"
    garbage = [os.urandom(400).replace(b"\n", b"") for _ in range(20)] + [
        b"v1 begin x y z",
        b"v9 begin 1 2 3",
        bytes(600),
    ]
    lines = [begin.encode(), *garbage, end.encode(), b"v1 end 7 7"]
    (spool / "marks").write_bytes(b"\n".join(lines))
    trace = store.recover(spool)
    assert [(window.name, window.flags) for window in trace.windows] == [("a", ())]
    assert trace.meta["marks_left_out"]["unknown"] == len(garbage) + 1
    assert "lines of the marks' file are no marks" in " ".join(str(build(trace)).split())


def test_spool_of_a_later_version_is_refused_by_name_and_left_alone(tmp_path):
    spool = spool_of(tmp_path, 100)
    part = spool / "part-000000.part"
    part.write_bytes(part.read_bytes().replace(b'"powersample_spool": 1', b'"powersample_spool": 7', 1))
    before = part.read_bytes()
    with pytest.raises(BadFormat, match=r"spool version 7 is newer than 1.*Use a newer powersample"):
        store.recover(spool)
    assert part.read_bytes() == before


def test_two_recordings_of_one_device_do_not_disturb_each_other():
    with (
        Node("h100") as node,
        ps.measure(simulate=node, rate_hz=200) as one,
        ps.measure(simulate=node, rate_hz=200) as other,
    ):
        time.sleep(0.3)
    for run in (one, other):
        (lane,) = run.trace.lanes
        assert lane.slots == lane.passes + lane.skipped
        assert lane.dropped == 0
        assert not lane.errors
        assert len(run.trace.series("gpu0.power.instant")) == lane.passes
