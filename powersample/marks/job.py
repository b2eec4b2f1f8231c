# SPDX-License-Identifier: Apache-2.0
"""The job of several processes that this one belongs to, and where its marks go.

A node's devices cannot be divided between the ranks on it: one of them records, all of them mark, in its file. Who
records publishes that file under the job's name in a folder of this user.

A name is not always one job's: a batch script may start several trainings side by side, each with the same numbers in
its environment. Then a process marks in what records above it, or in another rank's, and in no stranger's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from powersample.marks.lines import boot_id

LOOK_EVERY_NS = 1_000_000_000
WAIT_STEP_S = 0.02
SAMPLER = "sampler-"  # and the process: the folder of one that records
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


def one_program(job: str) -> bool:
    """Whether a job's ranks are one program's; the tasks of Slurm may each be one of their own."""
    return not job.startswith("SLURM_")


def _marks_name(job: str) -> str:
    known = f"{boot_id()} {job}"  # nodes may share the folder
    return f"marks-{hashlib.sha256(known.encode()).hexdigest()[:24]}"


def publish(folder: Path, job: str, rank: int | None, marks: Path) -> None:
    """Let the job's ranks mark in `marks`, as long as `folder` is there.

    Raises:
        OSError: it cannot be written in.
    """
    (folder / f"{_marks_name(job)}-{'' if rank is None else rank}").symlink_to(marks.absolute())


def _published(job: str) -> str | None:
    """Return the marks file for this process, of those that are published under a job's name; None without one."""
    runtime, mine = runtime_folder(), local_rank()
    found: dict[int, str] = {}
    ranks: dict[int, list[str]] = {}
    for link in [] if runtime is None else runtime.glob(f"{SAMPLER}*/{_marks_name(job)}-*"):
        with contextlib.suppress(OSError, ValueError):
            marks = os.readlink(link)
            if os.path.exists(marks):  # who recorded may have been killed
                found[int(link.parent.name.split("-")[1])] = marks
                ranks.setdefault(int(link.name.rpartition("-")[2]), []).append(marks)
    if not found:
        return None
    for pid in _ancestors():
        if pid in found:
            return found[pid]
    ranks.pop(-1 if mine is None else mine, None)  # a job has each rank once: that one's is no job of this process
    first = ranks[min(ranks)] if ranks else []
    return first[0] if len(first) == 1 else None


def _ancestors() -> Iterator[int]:
    """Yield this process, its parent, and so on up."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        try:
            status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return
        pid = int(status.rpartition(")")[2].split()[1])


class JobMarks:
    """Where the marks of this job go, asked as often as there are marks."""

    def __init__(self) -> None:
        self._next_ns = 0
        self._path: str | None = None

    def path(self) -> str | None:
        """Return the marks file that a rank of this job has published; looks for it once a second at most."""
        now = time.monotonic_ns()
        if now >= self._next_ns:
            name = job()
            self._next_ns, self._path = now + LOOK_EVERY_NS, None if name is None else _published(name)
        return self._path

    def wait(self, seconds: float) -> bool:
        """Wait until a rank of this job marks in a file that it has published, `seconds` at most.

        One that records marks once its devices have been read for a while: what others mark before is known in part.

        Returns:
            Whether there is such a file. Where no launcher started this process there is none to wait for.
        """
        until_ns, self._next_ns = time.monotonic_ns() + int(seconds * 1e9), 0
        while not _holds_marks(self.path()) and job() is not None and time.monotonic_ns() < until_ns:
            time.sleep(WAIT_STEP_S)
            self._next_ns = 0
        return self._path is not None


def _holds_marks(path: str | None) -> bool:
    with contextlib.suppress(OSError):
        return path is not None and os.stat(path).st_size > 0
    return False
