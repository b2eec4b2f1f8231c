# SPDX-License-Identifier: Apache-2.0
"""Marks: how a measured program says where its windows begin and end.

The recorder names a file in $POWERSAMPLE_MARKS; each mark is one line appended by one write():

    v1 begin|end|event ID MONOTONIC_NS BOOT_ID PID TID "NAME"

The name is a JSON string. Without the variable every call here does nothing, so a program keeps its marks
when nobody measures. Nothing heavy is imported.
"""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.errors import InvalidArgument, StateError

if TYPE_CHECKING:
    from powersample.model import Window

ENVIRONMENT = "POWERSAMPLE_MARKS"
LINE_BYTES = 512  # newline included: far below what the kernel writes at once


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


@cache
def boot_id() -> str:
    """Return this boot's identity, to which CLOCK_MONOTONIC belongs; "-" where the kernel does not tell."""
    return _read("/proc/sys/kernel/random/boot_id").strip() or "-"


def time_is_shifted(offsets: str | None = None) -> bool:
    """Whether this process lives in a time namespace whose CLOCK_MONOTONIC is not the machine's.

    Args:
        offsets: text of /proc/self/timens_offsets; None reads it.
    """
    text = _read("/proc/self/timens_offsets") if offsets is None else offsets
    lines = (line.split() for line in text.splitlines())
    return any(
        words[0] in ("monotonic", "1") and any(word not in ("0", "-0") for word in words[1:])
        for words in lines
        if words
    )


# ---- writing -----------------------------------------------------------------------------------------------


def _line(verb: str, mark: int, name: str) -> bytes:
    head = f"v1 {verb} {mark} {time.monotonic_ns()} {boot_id()} {os.getpid()} {threading.get_native_id()} "
    room = LINE_BYTES - len(head) - 1
    quoted = json.dumps(name)
    while len(quoted) > room:
        name = name[: max(0, len(name) - 1 - (len(quoted) - room) // 6)]
        quoted = json.dumps(name + "...")
    return f"{head}{quoted}\n".encode("ascii")


def _check(name: str) -> None:
    if not isinstance(name, str):
        raise InvalidArgument(f"{name!r} cannot name a window", "Give text, such as f'epoch {epoch}'.")


class MarkWriter:
    """Appends marks to one file. Thread-safe; in a forked child it goes on with ids of the child's own.

    The file is opened for each mark: a descriptor that is kept could, in a program that closes what it does not know,
    come to mean another file. It is never created: once the recorder has taken it away, the recording is over, and a
    file made anew would only stand in the way of its clean-up.

    Args:
        path: the marks file, which the recorder has made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open: set[int] = set()
        self._inherited: set[int] = set()
        self._last = 0
        self._lock = threading.Lock()
        self._silent = time_is_shifted()
        if self._silent:
            warnings.warn(
                "powersample: in a shifted time namespace marks would lie; this process writes none",
                RuntimeWarning,
                stacklevel=2,
            )
        _WRITERS.add(self)

    def begin(self, name: str) -> int:
        """Begin a window; return the id for `end`.

        Raises:
            InvalidArgument: the name is no text.
        """
        _check(name)
        with self._lock:
            self._last += 1
            mark = self._last
            self._open.add(mark)
        self._append("begin", mark, name)
        return mark

    def end(self, mark: int) -> None:
        """End the window that `begin` returned. A forked child leaves its parent's windows alone.

        Raises:
            StateError: it was ended before, or never begun.
        """
        now = _line("end", mark, "")
        with self._lock:
            if mark in self._inherited:
                self._inherited.discard(mark)
                return
            if mark not in self._open:
                raise StateError(f"window {mark} was ended before, or never begun", "End each window once.")
            self._open.discard(mark)
        self._write(now)

    def event(self, name: str) -> None:
        """Mark an instant.

        Raises:
            InvalidArgument: the name is no text.
        """
        _check(name)
        with self._lock:
            self._last += 1
            mark = self._last
        self._append("event", mark, name)

    def _append(self, verb: str, mark: int, name: str) -> None:
        self._write(_line(verb, mark, name))

    def _write(self, line: bytes) -> None:
        if self._silent:
            return
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except FileNotFoundError:  # the recording has ended before this program
            self._silent = True
        except OSError as error:  # the measured program matters more than its marks
            self._silent = True
            warnings.warn(f"powersample: no more marks, {self.path}: {error.strerror}", RuntimeWarning, stacklevel=4)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        self._inherited |= self._open
        self._open = set()


_WRITERS: weakref.WeakSet[MarkWriter] = weakref.WeakSet()
_by_path: dict[str, MarkWriter] = {}
_by_path_lock = threading.Lock()


def _after_fork() -> None:
    global _by_path_lock  # noqa: PLW0603 (a lock that a fork copied in its held state is lost)
    _by_path_lock = threading.Lock()
    for writer in list(_WRITERS):
        writer._forked()


os.register_at_fork(after_in_child=_after_fork)


def _writer() -> MarkWriter | None:
    path = os.environ.get(ENVIRONMENT)
    if not path:
        return None
    with _by_path_lock:
        if path not in _by_path:
            _by_path[path] = MarkWriter(path)
        return _by_path[path]


def enlist(writer: MarkWriter) -> str | None:
    """Let this module's marks, and those of programs started from here, go where `writer` writes.

    Returns:
        What $POWERSAMPLE_MARKS was, for `dismiss`.
    """
    before, path = os.environ.get(ENVIRONMENT), str(writer.path.absolute())
    with _by_path_lock:
        _by_path[path] = writer  # the same one: two writers of a process would use the same ids
    os.environ[ENVIRONMENT] = path
    return before


def dismiss(writer: MarkWriter, before: str | None) -> None:
    """Undo `enlist`."""
    path = str(writer.path.absolute())
    with _by_path_lock:
        _by_path.pop(path, None)
    if os.environ.get(ENVIRONMENT) == path:
        os.environ.pop(ENVIRONMENT)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def begin(name: str) -> int:
    """Begin a window in the recording of this program, if there is one; return the id for `end`, else 0.

    Raises:
        InvalidArgument: the name is no text; said without a recording too, lest it first be heard of in one.
    """
    _check(name)
    writer = _writer()
    return 0 if writer is None else writer.begin(name)


def end(mark: int) -> None:
    """End the window that `begin` returned.

    Raises:
        StateError: it was ended before, or never begun.
    """
    writer = _writer()
    if writer is not None and mark != 0:
        writer.end(mark)


def event(name: str) -> None:
    """Mark an instant in the recording of this program, if there is one.

    Raises:
        InvalidArgument: the name is no text.
    """
    _check(name)
    writer = _writer()
    if writer is not None:
        writer.event(name)


@contextmanager
def window(name: str) -> Iterator[None]:
    """Mark the block, or each call of a decorated function, as a window called `name`."""
    mark = begin(name)
    try:
        yield
    finally:
        end(mark)


# ---- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Marks:
    """What a marks file says.

    Attributes:
        windows: in the order of their begin; those never ended bear the flag "open".
        events: (name, CLOCK_MONOTONIC ns).
        unknown: lines that are no marks.
        unmatched: ends without a begin.
        other_boot: marks of another boot, whose clock means nothing here.
    """

    windows: tuple[Window, ...]
    events: tuple[tuple[str, int], ...]
    unknown: int
    unmatched: int
    other_boot: int


def parse(lines: Iterable[bytes], boot: str | None, end_ns: int | None) -> Marks:
    """Read mark lines.

    Args:
        lines: of the file, torn ones included.
        boot: the recording's boot id; None takes every boot's marks.
        end_ns: the record's end, where windows that were never ended close; None closes them at the last
            mark.

    Returns:
        The windows and events, and counts of what was left out.
    """
    from powersample.model import Window
    from powersample.model.energy import OPEN

    windows: list[Window] = []
    events: list[tuple[str, int]] = []
    begun: dict[tuple[int, int], tuple[str, int]] = {}
    still_open: list[tuple[str, int, int]] = []
    unknown = unmatched = other_boot = 0
    last_ns = 0
    for line in lines:
        mark = _parse_line(line)
        if mark is None:
            unknown += bool(line.strip())
            continue
        verb, number, t_ns, its_boot, pid, name = mark
        if boot is not None and its_boot != boot:
            other_boot += 1
            continue
        last_ns = max(last_ns, t_ns)
        key = (pid, number)
        if verb == "event":
            events.append((name, t_ns))
        elif verb == "begin":
            if key in begun:  # the number came around in a new process of the old one's pid
                still_open.append((*begun[key], pid))
            begun[key] = (name, t_ns)
        elif key in begun:
            name, start_ns = begun.pop(key)
            windows.append(Window(name, start_ns, max(start_ns, t_ns), (), f"marks pid {pid}"))
        else:
            unmatched += 1
    still_open += [(name, start_ns, pid) for (pid, _), (name, start_ns) in begun.items()]
    close_ns = last_ns if end_ns is None else end_ns
    windows += [
        Window(name, start_ns, max(start_ns, close_ns), (OPEN,), f"marks pid {pid}")
        for name, start_ns, pid in still_open
    ]
    windows.sort(key=lambda one: (one.start_ns, -one.end_ns))
    return Marks(tuple(windows), tuple(events), unknown, unmatched, other_boot)


def _parse_line(line: bytes) -> tuple[str, int, int, str, int, str] | None:
    if len(line) > LINE_BYTES or not line.endswith(b"\n"):
        return None
    words = line.split(maxsplit=7)
    if len(words) == 7 and words[1] == b"end":  # its name is its begin's
        words.append(b'""')
    if len(words) != 8 or words[0] != b"v1" or words[1] not in (b"begin", b"end", b"event"):
        return None
    try:
        name = json.loads(words[7])
        if not isinstance(name, str):
            return None
        return words[1].decode(), int(words[2]), int(words[3]), words[4].decode(), int(words[5]), name
    except ValueError:
        return None
