# SPDX-License-Identifier: Apache-2.0
"""The lines of a marks file. Each is one mark, and is appended whole.

    v1 begin|end|event ID MONOTONIC_NS BOOT_ID PID TID "NAME" [NOTE ...]
    v1 edge ID MONOTONIC_NS BOOT_ID PID TID "" begin|end ERROR_NS

The name is a JSON string. Notes are words: how the edge was marked ("device", "event", "unsynchronised"), that an
exception left the window ("raised"), which rank of a job marks ("rank=1"); unknown ones are let pass. An `edge` tells
later, with its standard error, when an edge that was marked by an event was: it replaces the host's instant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

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


def line(verb: str, mark: int, t_ns: int, tid: int, name: str, notes: Iterable[str] = (), *, pid: int) -> bytes:
    """Return one line; a name that is too long for it is cut."""
    head = f"v1 {verb} {mark} {t_ns} {boot_id()} {pid} {tid} "
    tail = "".join(f" {note}" for note in notes)
    room = LINE_BYTES - len(head) - len(tail) - 1
    quoted = json.dumps(name)
    while len(quoted) > room:
        name = name[: max(0, len(name) - 1 - (len(quoted) - room) // 6)]
        quoted = json.dumps(name + "...")
    return f"{head}{quoted}{tail}\n".encode("ascii")


# ---- reading -----------------------------------------------------------------------------------------------

VERBS = frozenset((b"begin", b"end", b"event", b"edge"))
_decode = json.JSONDecoder().raw_decode


class Line(NamedTuple):
    """One mark as it was read."""

    verb: str
    mark: int
    t_ns: int
    boot: str
    pid: int
    name: str
    notes: tuple[str, ...]


def parse_line(line: bytes) -> Line | None:
    """Return what a line says; None where it is no mark."""
    if len(line) > LINE_BYTES or not line.endswith(b"\n"):
        return None
    words = line.split(maxsplit=7)
    if len(words) == 7 and words[1] == b"end":  # its name is its begin's
        words.append(b'""')
    if len(words) != 8 or words[0] != b"v1" or words[1] not in VERBS:
        return None
    try:
        text = words[7].decode()
        name, length = _decode(text)
        if not isinstance(name, str) or text[length : length + 1].strip():
            return None
        notes = tuple(text[length:].split())
        return Line(words[1].decode(), int(words[2]), int(words[3]), words[4].decode(), int(words[5]), name, notes)
    except (ValueError, RecursionError):
        return None
