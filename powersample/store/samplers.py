# SPDX-License-Identifier: Apache-2.0
"""Who samples this node now, as far as this user's processes go.

Each sampler has a folder under the user's runtime folder, locked for as long as its process lives.
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
from powersample.marks.job import publish, runtime_folder
from powersample.store.lock import SpoolLock, holder

PREFIX = "sampler-"
ABOUT = "sampler.json"
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Sampler:
    """A process that samples a node.

    Attributes:
        pid: its process.
        node: what it samples: two that say the same share devices.
        kind: what its node is in other processes' eyes: two simulated nodes of one profile and seed are alike, though
            each process has its own.
        job: the job of several ranks that it belongs to; None for one that stands alone.
        started_ns: CLOCK_MONOTONIC.
    """

    pid: int
    node: str
    kind: str
    job: str | None
    started_ns: int


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
        self._link: Path | None = None
        self._marks = os.fspath(marks.absolute())
        self._seen: dict[int, Sampler] = {}
        runtime = runtime_folder()
        if runtime is None:
            return
        with contextlib.suppress(OSError), _alone(runtime):
            self._look(runtime)
            for one in self._seen.values():
                if me.job is not None and (one.job, one.kind) == (me.job, me.kind):
                    raise StateError(
                        f"process {one.pid}, of this job, samples this node already",
                        "One rank a node measures (local rank 0); in the others mark with ps.window and ps.step: their "
                        "windows go into its recording.",
                    )
            self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{me.pid}-", dir=runtime))
            self._lock = SpoolLock(self._folder, patience_s=1.0)  # first: what tells of itself unlocked has died
            (self._folder / ABOUT).write_text(json.dumps(asdict(me)), encoding="utf-8")
            if me.job is not None:
                self._link = publish(me.job, marks)

    def others(self) -> list[Sampler]:
        """Return who else has been seen to sample the same devices, from before until now."""
        runtime = runtime_folder()
        if self._lock is not None and runtime is not None:
            with contextlib.suppress(OSError):
                self._look(runtime)
        return sorted((one for one in self._seen.values() if one.node == self.me.node), key=lambda one: one.started_ns)

    def release(self) -> None:
        """Give the place up; harmless when repeated."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == self._marks:
                    self._link.unlink()
        if self._lock is not None and self._folder is not None:
            self._lock.release()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock = self._link = None

    def _look(self, runtime: Path) -> None:
        for folder in runtime.glob(f"{PREFIX}*"):
            if folder == self._folder:
                continue
            if holder(folder) is None:
                if (folder / ABOUT).exists():  # its process died
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with contextlib.suppress(OSError, ValueError, TypeError):
                one = Sampler(**json.loads((folder / ABOUT).read_text("utf-8")))
                if one.pid != self.me.pid and os.path.exists(f"/proc/{one.pid}"):
                    self._seen[one.pid] = one


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, so that of two that come at once one sees the other; who cannot goes on after two seconds."""
    deadline, lock = time.monotonic() + PATIENCE_S, None
    while lock is None and time.monotonic() < deadline:
        try:
            lock = SpoolLock(folder)
        except StateError:
            time.sleep(0.01)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
