# SPDX-License-Identifier: Apache-2.0
"""Who samples this node now, as far as this user's processes go.

Each sampler has a folder under the user's runtime folder, locked for as long as its process lives. It gets its name
once it is locked and tells of its sampler, so that what is unlocked is left from one that has died.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from powersample.errors import StateError
from powersample.marks.job import SAMPLER, one_program, publish, runtime_folder
from powersample.store.lock import SpoolLock, holder

MAKING = "new-"  # before the name of a folder that is not ready
ABOUT = "sampler.json"
CARD = "beside-"  # and the process: left by who comes later, for who looks only at its end
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Sampler:
    """A process that samples a node.

    Attributes:
        pid: its process.
        node: what it samples on: what two have of one node and one name is the same device.
        kind: what its node is in other processes' eyes: two simulated nodes of one profile and seed are alike, though
            each process has its own.
        job: the job of several ranks that it belongs to; None for one that stands alone.
        rank: its number on its node in that job.
        gpus: their UUIDs.
        parts: what else it samples: CPU packages and chips.
        started_ns: CLOCK_MONOTONIC.
    """

    pid: int
    node: str
    kind: str
    job: str | None
    started_ns: int
    rank: int | None = None
    gpus: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def shared(self, other: Sampler) -> tuple[str, ...]:
        """Return what both sample: each has all of it, and a sum of the two has it twice."""
        if self.node != other.node:
            return ()
        theirs = {*other.gpus, *other.parts}
        return tuple(one for one in (*self.gpus, *self.parts) if one in theirs)

    def is_rank_beside(self, other: Sampler) -> bool:
        """Whether the two are ranks of one training, of which one is to sample.

        Two of the same number are not: a job has each once. Nor are two tasks of Slurm with GPUs of their own.
        """
        if self.job is None or (self.job, self.kind) != (other.job, other.kind) or self.rank == other.rank:
            return False
        apart = self.gpus and other.gpus and not {*self.gpus} & {*other.gpus}
        return one_program(self.job) or not apart


class Registration:
    """A place among the node's samplers, from its making to `release`; the kernel releases it when the process dies.

    Where no folder can be had there is none, and nothing is found out: better unguarded than refused.

    Args:
        me: this sampler.
        marks: where its windows are marked; with a job, its ranks' too.

    Raises:
        StateError: another process of the same job samples this node.
    """

    def __init__(self, me: Sampler, marks: Path) -> None:
        self.me = me
        self._folder: Path | None = None
        self._lock: SpoolLock | None = None
        self._seen: dict[Path, Sampler] = {}
        runtime = runtime_folder()
        if runtime is None:
            return
        with contextlib.suppress(OSError), _alone(runtime) as alone:
            self._look(runtime)
            if alone:
                _clear(runtime)
            for one in self._seen.values():
                if me.is_rank_beside(one):
                    raise StateError(
                        f"process {one.pid}, of this job, samples this node already",
                        "One rank a node measures (local rank 0); in the others mark with ps.window and ps.step: their "
                        "windows go into its recording.",
                    )
            self._make(runtime, marks)

    def _make(self, runtime: Path, marks: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"{MAKING}{SAMPLER}{self.me.pid}-", dir=runtime))
        about = json.dumps(asdict(self.me))
        try:
            self._lock = SpoolLock(folder, patience_s=1.0)
            (folder / ABOUT).write_text(about, encoding="utf-8")
            if self.me.job is not None:
                publish(folder, self.me.job, self.me.rank, marks)
            self._folder = folder.rename(folder.with_name(folder.name.removeprefix(MAKING)))
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            self._lock = None
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for theirs in self._seen:
            with contextlib.suppress(OSError):  # it has just ended
                (theirs / f"{CARD}{self.me.pid}").write_text(about, encoding="utf-8")

    def others(self) -> list[Sampler]:
        """Return who else has sampled any of the same devices meanwhile, even if for a moment only."""
        for card in [] if self._folder is None else self._folder.glob(f"{CARD}*"):
            if (one := _read(card)) is not None:
                self._seen[card] = one
        found = {one.pid: one for one in self._seen.values() if self.me.shared(one)}
        return sorted(found.values(), key=lambda one: one.started_ns)

    def release(self) -> None:
        """Give the place up; harmless when repeated."""
        self.others()  # told on, though the folder goes
        if self._lock is not None and self._folder is not None:
            self._lock.release()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock = self._folder = None

    def _look(self, runtime: Path) -> None:
        """See who is there, and remove what is left of who has died."""
        for folder in runtime.glob(f"{SAMPLER}*"):
            if holder(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            one = _read(folder / ABOUT)
            if one is not None and one.pid != self.me.pid and os.path.exists(f"/proc/{one.pid}"):
                self._seen[folder] = one


def _read(path: Path) -> Sampler | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(path.read_text("utf-8"))
        return Sampler(**known | {"gpus": tuple(known["gpus"]), "parts": tuple(known["parts"])})
    return None


def _clear(runtime: Path) -> None:
    """Remove what was being made when its process died; who makes one holds the folder, as the caller does."""
    for folder in runtime.glob(f"{MAKING}{SAMPLER}*"):
        pid = folder.name.removeprefix(f"{MAKING}{SAMPLER}").partition("-")[0]
        if not os.path.exists(f"/proc/{pid}") and holder(folder) is None:  # who lost patience makes one all the same
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold the folder, so that of two that come at once one sees the other; who cannot goes on after two seconds.

    Yields whether it is held.
    """
    deadline, lock = time.monotonic() + PATIENCE_S, None
    while lock is None and time.monotonic() < deadline:
        try:
            lock = SpoolLock(folder)
        except StateError:
            time.sleep(0.01)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()
