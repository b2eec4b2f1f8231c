# SPDX-License-Identifier: Apache-2.0
"""The job of several processes that this one belongs to, and where its marks go.

A node's devices cannot be divided between the ranks on it: one of them records, all of them mark, in its file. Who
records publishes that file under the job's name in a folder of this user.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

from powersample.marks.lines import boot_id

LOOK_EVERY_NS = 1_000_000_000
LAUNCHERS = (  # a rank's number on its node, and what tells its job from others on it
    ("LOCAL_RANK", ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")),
    ("OMPI_COMM_WORLD_LOCAL_RANK", ("OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE")),
    ("MPI_LOCALRANKID", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
    ("SLURM_LOCALID", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
)


def local_rank() -> int | None:
    """Return this process's number on its node, as torchrun, MPI or Slurm tells it; None where nobody does."""
    told = next((os.environ[name] for name, _ in LAUNCHERS if os.environ.get(name)), "")
    return int(told) if told.isdigit() else None


def job() -> str | None:
    """Return what this job is known by on this node; None for a process that no launcher started."""
    for rank, names in LAUNCHERS:
        told = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
        if os.environ.get(rank) and told:
            return " ".join(told)
    return None


def runtime_folder() -> Path | None:
    """Return this user's folder for what lives as long as a process, made where it is missing; None without one."""
    user = os.getuid()
    for parent, name in (
        (os.environ.get("XDG_RUNTIME_DIR") or "", "powersample"),
        (f"/run/user/{user}", "powersample"),
        ("/tmp", f"powersample-{user}"),
    ):
        folder = Path(parent, name)
        if not parent or not os.path.isdir(parent):
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return folder
    return None


def marks_link(job: str) -> Path | None:
    """Return the link to a job's marks file, whether it is there or not; None without a folder for it."""
    folder = runtime_folder()
    known = f"{boot_id()} {job}"  # nodes may share the folder
    return None if folder is None else folder / f"marks-{hashlib.sha256(known.encode()).hexdigest()[:24]}"


def publish(job: str, marks: Path) -> Path | None:
    """Let the job's ranks mark in `marks`; return the link, for whoever ends the recording."""
    link = marks_link(job)
    if link is not None:
        try:
            new = link.with_name(f"{link.name}.{os.getpid()}")
            new.unlink(missing_ok=True)
            new.symlink_to(marks.absolute())
            new.replace(link)
        except OSError:
            return None
    return link


class JobMarks:
    """Where the marks of this job go, asked as often as there are marks."""

    def __init__(self) -> None:
        self._next_ns = 0
        self._path: str | None = None

    def path(self) -> str | None:
        """Return the marks file that a rank of this job has published; looks for it once a second at most."""
        now = time.monotonic_ns()
        if now >= self._next_ns:
            self._next_ns, self._path = now + LOOK_EVERY_NS, None
            name = job()
            link = None if name is None else marks_link(name)
            try:
                there = "" if link is None else os.readlink(link)
            except OSError:
                there = ""
            if there and os.path.exists(there):  # who recorded may have been killed
                self._path = there
        return self._path
