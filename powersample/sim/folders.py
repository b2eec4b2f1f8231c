# SPDX-License-Identifier: Apache-2.0
"""The simulated node's private folders: made, held for as long as their process lives, and swept up after a kill.

Whoever is killed by SIGKILL leaves its folders; the next node of the same user on the same machine removes them. The
kernel tells which those are: a folder's lock is taken back when its process dies, however it dies, and in whatever
container it lived.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

PREFIX = "powersample-sim-"
UNFINISHED = "powersample-new-"  # under this name until it is locked: what has the other name and no lock is dead
LOCK = ".owner"
SHARED_MEMORY = Path("/dev/shm")


def make(parent: Path | None = None) -> tuple[Path, int]:
    """Make a private folder; None is where temporary files go. What killed processes left there is removed first.

    Returns:
        The folder, and the descriptor that holds it: for `remove`.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(parent)
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    try:
        fd = os.open(unfinished / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return unfinished.rename(parent / (PREFIX + unfinished.name.removeprefix(UNFINISHED))), fd
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def remove(folder: Path, owner: int, fd: int) -> None:
    """Remove a private folder and let it go; in a forked child it is the parent's, and stays."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def sweep(parent: Path) -> tuple[Path, ...]:
    """Remove this user's private folders in `parent` that no living process holds; return those that are gone."""
    try:
        with os.scandir(parent) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return ()
    return tuple(folder for folder in found if _swept(folder))


def _swept(folder: Path) -> bool:
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            return False
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # gone meanwhile, or a folder of that name that is none of ours
        return False
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
