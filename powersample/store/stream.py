# SPDX-License-Identifier: Apache-2.0
"""A sampler's stream: taken apart, or put into a spool as if the sampler had written its files there itself.

The stream is described at `ps_spool_stream_new` in csrc/include/powersample.h: lines of JSON, and raw records after the
line that announces them. Whatever arrived whole is kept when it breaks off.
"""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from powersample.errors import BadFormat

SECOND_SAMPLER = 500_000  # its parts' numbers begin here, beyond all that another one in the same spool comes to
LINE_LIMIT = 1 << 24
SYNC_NS = 1_000_000_000


class SamplerStream:
    """Takes a stream apart; what becomes of its parts, records and events is a subclass's.

    Attributes:
        said: The sampler's own lines, the ready line first.
        drained_ns: Everything recorded before this instant has been handed on.
        ended: Whether the stream came to its orderly end.
        failure: What writing it elsewhere failed with, or None.
    """

    def __init__(self) -> None:
        self._any_part = False
        self._held = bytearray()
        self._left = 0  # bytes of records that are announced and have not come
        self.said: list[dict[str, Any]] = []
        self.drained_ns = 0
        self.ended = False
        self.failure: OSError | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream, cut wherever they may be.

        Raises:
            BadFormat: They are not a sampler's stream.
        """
        self._held += data
        while self._held:
            if self._left:
                piece = bytes(self._held[: self._left])
                del self._held[: len(piece)]
                self._left -= len(piece)
                self._write_records(piece)
                continue
            end = self._held.find(b"\n") + 1
            if not end:
                if len(self._held) > LINE_LIMIT:
                    raise BadFormat("the sampler's stream holds a line without an end")
                break
            line = bytes(self._held[:end])
            del self._held[:end]
            self._take_line(line)
        self._fed()

    def _take_line(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            event = said.get("event")
            if "powersample_spool" in said:
                self._any_part = True
                self._begin_part(line, said)
            elif event == "records":
                self._left = int(said["bytes"])
                if not self._any_part or self._left < 0:
                    raise ValueError("records of no part")
            elif event == "drained":
                self.drained_ns = int(said["t_ns"])
            elif event is not None:
                self.ended |= event == "end"
                self._write_event(line, said)
            else:
                self.said.append(said)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFormat(f"not a sampler's stream: {line[:80]!r} ({error})") from error

    def _begin_part(self, line: bytes, header: dict[str, Any]) -> None:
        raise NotImplementedError

    def _write_records(self, piece: bytes) -> None:
        raise NotImplementedError

    def _write_event(self, line: bytes, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def _fed(self) -> None:
        """Do what is due after some bytes; nothing by itself."""

    def close(self) -> None:
        """End what is open; nothing by itself."""


class StreamSpool(SamplerStream):
    """The files that one stream becomes.

    A disk that is full ends the files, not the reading: a sampler waits for its reader.

    Args:
        directory: The spool.
        first_part: Number of the stream's first part: 0, or `SECOND_SAMPLER` beside another sampler.

    Attributes:
        discarded_bytes: Bytes of records that came after a failure.
    """

    def __init__(self, directory: Path, *, first_part: int = 0) -> None:
        super().__init__()
        self._directory, self._number = directory, first_part
        self._events_name = "events.jsonl" if first_part == 0 else f"events-{first_part:06d}.jsonl"
        self._events: int | None = None
        self._part: int | None = None
        self._dirty = False
        self._sync_due_ns = 0
        self.discarded_bytes = 0

    def close(self) -> None:
        """Close the files; a part that had no end stays `.open`, as a killed sampler's."""
        self._end_part(whole=self.ended)
        if self._events is not None:
            os.close(self._events)
            self._events = None

    def _begin_part(self, line: bytes, header: dict[str, Any]) -> None:
        self._end_part(whole=True)
        if self.failure is not None:
            return
        with self._noting_failure():
            path = self._directory / f"part-{self._number:06d}.open"
            self._part = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            write_all(self._part, line)
            self._dirty = True

    def _end_part(self, *, whole: bool) -> None:
        part, self._part = self._part, None  # before anything can fail: the first failure ends the part, too
        if part is None:
            return
        with self._noting_failure():
            os.fdatasync(part)
        with self._noting_failure():
            os.close(part)
        if whole:
            with self._noting_failure():
                opened = self._directory / f"part-{self._number:06d}.open"
                opened.rename(opened.with_suffix(".part"))
        self._number += 1

    def _write_records(self, piece: bytes) -> None:
        if self._part is None:
            self.discarded_bytes += len(piece)
            return
        with self._noting_failure():
            write_all(self._part, piece)
            self._dirty = True

    def _write_event(self, line: bytes, event: dict[str, Any]) -> None:
        with self._noting_failure():
            if self._events is None:
                path = self._directory / self._events_name
                self._events = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
            write_all(self._events, line)

    def _fed(self) -> None:
        now_ns = time.monotonic_ns()
        if not self._dirty or self._part is None or now_ns < self._sync_due_ns:
            return
        self._dirty, self._sync_due_ns = False, now_ns + SYNC_NS
        with self._noting_failure():
            os.fdatasync(self._part)

    @contextlib.contextmanager
    def _noting_failure(self) -> Any:
        try:
            yield
        except OSError as error:
            first, self.failure = self.failure is None, self.failure or error
            if first:
                self._end_part(whole=True)  # what is on the disk stays, closed like any part


def write_all(fd: int, data: bytes) -> None:
    """Write bytes to a descriptor, in as many calls as it takes."""
    while data:
        data = data[os.write(fd, data) :]
