# SPDX-License-Identifier: Apache-2.0
"""A simulated node's private folders: gone with it, and swept up by the next one where it was killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from powersample.sim import Node, folders

HOLD = """
import sys
from powersample.sim import Node
with Node("h100", cpu="intel_spr") as node:
    print(node.directory, node.sysfs, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A place for temporary files of this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def other(temporary):
    """Another process that has a node, and the node's folders."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    node, sysfs = map(Path, process.stdout.readline().split())
    yield process, (node, sysfs.parent)
    process.communicate()


def test_folders_of_a_killed_node_are_removed_by_the_next(temporary, other):
    process, left = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(folder.is_dir() for folder in left)
    with Node("k40m", cpu="intel_spr") as node:
        assert not any(folder.exists() for folder in left)
        assert node.library.is_file()
    assert list(temporary.iterdir()) == []


def test_folders_of_a_living_node_stay_whoever_looks(temporary, other):
    _, theirs = other
    with Node("k40m"):
        mine = next(path for path in temporary.iterdir() if path not in theirs)
        assert folders.sweep(temporary) == ()  # a second look of the same process
        code = "import sys; from powersample.sim.folders import sweep, Path; print(sweep(Path(sys.argv[1])))"
        done = subprocess.run([sys.executable, "-c", code, temporary], capture_output=True, text=True, check=True)
        assert done.stdout == "()\n"
        assert mine.is_dir()
        assert all((folder / folders.LOCK).is_file() for folder in theirs)


def test_node_folder_of_a_forked_child_stays_its_parents(temporary):
    with Node("k40m") as node:
        if (pid := os.fork()) == 0:
            node.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert node.library.is_file()
        assert folders.sweep(temporary) == ()


def test_sweep_touches_nothing_that_is_not_a_dead_node(tmp_path):
    """In a folder that everybody may write to, names mean nothing."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / folders.LOCK).write_text("")
    (tmp_path / f"{folders.PREFIX}link").symlink_to(precious)
    unlocked = tmp_path / f"{folders.PREFIX}unlocked"
    unlocked.mkdir()
    (unlocked / "data").write_text("")
    through = tmp_path / f"{folders.PREFIX}through"
    through.mkdir()
    (through / folders.LOCK).symlink_to(precious / folders.LOCK)
    (tmp_path / f"{folders.PREFIX}file").write_text("")
    making = tmp_path / f"{folders.UNFINISHED}half"
    making.mkdir()
    (making / folders.LOCK).write_text("")
    dead = tmp_path / f"{folders.PREFIX}dead"
    dead.mkdir()
    (dead / folders.LOCK).write_text("")
    before = set(tmp_path.rglob("*"))
    assert folders.sweep(tmp_path) == (dead,)
    assert before - set(tmp_path.rglob("*")) == {dead, dead / folders.LOCK}
    assert folders.sweep(tmp_path / "nowhere") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user takes root")
def test_sweep_leaves_other_peoples_folders(tmp_path):
    theirs = tmp_path / f"{folders.PREFIX}theirs"
    theirs.mkdir()
    (theirs / folders.LOCK).write_text("")
    os.chown(theirs, 12345, 12345)
    assert folders.sweep(tmp_path) == ()


def test_made_folder_is_locked_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    real = fcntl.flock

    def flock(fd, how):
        seen.append([path.name for path in tmp_path.iterdir()])
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    folder, fd = folders.make(tmp_path)
    assert [name.startswith(folders.UNFINISHED) for name in seen[0]] == [True]
    assert folder.stat().st_mode & 0o777 == 0o700
    folders.remove(folder, os.getpid(), fd)
    assert list(tmp_path.iterdir()) == []
