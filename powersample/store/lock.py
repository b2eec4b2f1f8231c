# SPDX-License-Identifier: Apache-2.0
"""Who holds a spool: the recording that writes it, or the recovery that takes it apart, never both."""

import contextlib
import errno
import fcntl
import os
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from powersample.errors import AccessDenied, InputNotFound, StateError

NAME = "lock"


class SpoolLock:
    """Holds the lock of a spool; the kernel takes it back when the holder dies, however it dies.

    Forked children let go of it at once, and programs that are started never get it, unless `fd` is passed on.

    Args:
        spool: the spool folder.
        patience_s: how long to wait for a sampler that is ending after its recorder was killed.

    Raises:
        StateError: another holds it; the message names the process.
        AccessDenied: the spool may not be written.
        InputNotFound: there is no such folder.
    """

    def __init__(self, spool: Path, *, patience_s: float = 0.0) -> None:
        path = spool / NAME
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            raise InputNotFound(f"{spool}: no such folder", "Check the path.") from None
        except PermissionError:
            raise AccessDenied(f"{path} may not be written", "Do it as the user who recorded.") from None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise AccessDenied(f"{spool} is on a read-only file system", "Copy it to another one first.") from None
        deadline = time.monotonic() + patience_s
        while not _take(self.fd):
            pid = _said(self.fd)
            if _alive(pid) or time.monotonic() >= deadline:
                os.close(self.fd)
                raise StateError(f"{spool} is still being recorded by process {pid}", "Wait for its end, or end it.")
            time.sleep(0.02)
        with contextlib.suppress(OSError):  # a full disk: who holds it is then not told, and it is held all the same
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)
        _HELD.add(self)

    def release(self) -> None:
        """Let go; harmless when repeated."""
        if self in _HELD:
            _HELD.discard(self)
            os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


_HELD: weakref.WeakSet[SpoolLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_HELD):
        lock.release()  # of the child's copy; its parent's lock lives on


os.register_at_fork(after_in_child=_after_fork)


def holder(spool: Path) -> str | None:
    """Return the process that holds the spool's lock, None when nobody does."""
    try:
        fd = os.open(spool / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _take(fd) else _said(fd)
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, as some cluster file systems are: better unguarded than refused
        return True
    return True


def _said(fd: int) -> str:
    return os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
