# SPDX-License-Identifier: Apache-2.0
"""Marks in whatever recording this program has.

That is the one of `powersample record` around it, or of a `Run` in it; in a rank of a job, the one of its node's rank
that records.
"""

from __future__ import annotations

import atexit
import os
import threading

from powersample.marks.device import EVENT, check_mode
from powersample.marks.job import JobMarks
from powersample.marks.lines import ENVIRONMENT
from powersample.marks.window import WindowMark
from powersample.marks.writer import MarkWriter, check_name, writer_of

_VARIABLE = ENVIRONMENT.encode()
_by_path: dict[bytes, MarkWriter] = {}  # as the environment has it: a step has no time to decode it
_lock = threading.RLock()  # a signal handler that marks may come into its own thread's first mark
_job_marks = JobMarks()
_recent: MarkWriter | None = None


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 (a lock that a fork copied in its held state is lost)
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _flush() -> None:
    for writer in list(_by_path.values()):
        writer.close()


def _writer() -> MarkWriter | None:
    path = os.environb.get(_VARIABLE)
    if not path:
        job_path = _job_marks.path()
        if not job_path:
            return None
        path = os.fsencode(job_path)
    found = _by_path.get(path)
    if found is None or (found.ended and os.path.exists(path)):
        with _lock:
            found = _by_path.get(path)
            if found is None or found.ended:
                found = _by_path[path] = MarkWriter(os.fsdecode(path))
    return found


def enlist(writer: MarkWriter) -> str | None:
    """Let this module's marks, and those of programs started from here, go where `writer` writes.

    Returns:
        What $POWERSAMPLE_MARKS was, for `dismiss`.
    """
    before, path = os.environ.get(ENVIRONMENT), str(writer.path.absolute())
    with _lock:
        _by_path[os.fsencode(path)] = writer  # the same one: two writers of a process would use the same ids
    os.environ[ENVIRONMENT] = path
    return before


def dismiss(writer: MarkWriter, before: str | None) -> None:
    """Undo `enlist`."""
    path = str(writer.path.absolute())
    with _lock:
        _by_path.pop(os.fsencode(path), None)
    if os.environ.get(ENVIRONMENT) == path:
        os.environ.pop(ENVIRONMENT)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def wait_for_recording(seconds: float) -> bool:
    """Wait until this program has a recording to mark in, such as that of its job's first rank, which begins later.

    Returns:
        Whether there is one; False at once for a program that nobody records and no launcher started.
    """
    return bool(os.environb.get(_VARIABLE)) or _job_marks.wait(seconds)


def begin(name: str, sync: str = "auto") -> int:
    """Begin a window in the recording of this program, if there is one; return the id for `end`, else 0.

    Args:
        name: the window's.
        sync: see `powersample.session.Run.window`.

    Raises:
        InvalidArgument: the name is no text, or `sync` no mode; said without a recording too, lest it first be heard
            of in one.
    """
    global _recent  # noqa: PLW0603 (most windows end where the last one began: that saves a look at the environment)
    writer = _recent = _writer()
    if writer is not None:
        return writer.begin(name, sync)
    check_name(name)
    check_mode(sync)
    return 0


def end(mark: int, *, raised: bool = False) -> None:
    """End the window that `begin` returned.

    Raises:
        StateError: it was ended before, or never begun.
    """
    if mark == 0:
        return
    writer = _recent
    if writer is None or not writer.holds(mark):
        writer = writer_of(mark) or _writer()  # it may have begun in a recording that is over, or in another
    if writer is not None:
        writer.end(mark, raised=raised)


def event(name: str) -> None:
    """Mark an instant in the recording of this program, if there is one.

    Raises:
        InvalidArgument: the name is no text.
    """
    check_name(name)
    writer = _writer()
    if writer is not None:
        writer.event(name)


class _Here:
    """This program's recording, as `WindowMark` wants it."""

    begin_window = staticmethod(begin)
    end_window = staticmethod(end)


_HERE = _Here()


def window(name: str, *, sync: str = "auto") -> WindowMark:
    """Mark the block, or each call of a decorated function, as a window called `name`; see `Run.window`."""
    return WindowMark(_HERE, name, sync)


def step(name: str = "step") -> WindowMark:
    """Mark one of many short windows; see `Run.step`."""
    return WindowMark(_HERE, name, EVENT)
