# SPDX-License-Identifier: Apache-2.0
"""Points of a calibration under way, a line of JSON each, so that an interruption costs the point it falls into.

The first line says what is calibrated and how; points of another node, ladder or rate are never mixed in.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from powersample.errors import AccessDenied, BadFormat, DiskFull, StateError

SCHEMA_VERSION = 1


class Journal:
    """The file, held by its lock as long as it is open.

    Args:
        path: where it is; its folder is made.
        about: what is calibrated, plain values: points of another calibration are refused.
        restart: whether points that are kept there are thrown away.

    Attributes:
        kept: points that an interrupted calibration left, plain values.
        scratch: the folder that it worked in; None where it is not known.
        devices: what they were measured by, as `match_devices` was told; None where it was not.

    Raises:
        StateError: another process calibrates here now, or what was interrupted was another calibration.
        AccessDenied: the folder cannot be written.
        BadFormat: the file is none of these.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], *, restart: bool = False) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise AccessDenied(
                f"{error.filename or path} cannot be written: {error.strerror} [errno {error.errno}]",
                "Name another folder: --directory DIR.",
            ) from error
        self._points = -1  # not known, and perhaps another's
        try:
            self._lock()
            self.scratch: Path | None = None
            self.devices: dict[str, Any] | None = None
            self.kept = self._read(about, restart)
            self._points = len(self.kept)
            if not self.kept:
                os.ftruncate(self._fd, 0)
                self._write({"schema_version": SCHEMA_VERSION, "about": dict(about)})
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{self.path} is held by a calibration that is going on", "Wait for its end.") from None
        except OSError:  # a file system without locks: better unguarded than refused
            return

    def _read(self, about: Mapping[str, Any], restart: bool) -> tuple[dict[str, Any], ...]:
        """Return the points; what a kill tore off at the end is cut away."""
        with open(os.dup(self._fd), "rb") as file:
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            if not lines:
                return ()
            head, points = lines[0], [dict(line["point"]) for line in lines[1:] if "point" in line]
            folders = [Path(line["scratch"]) for line in lines[1:] if "scratch" in line]
            devices = [dict(line["devices"]) for line in lines[1:] if "devices" in line]
            if head["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"version {head['schema_version']}")
            before = dict(head["about"])
        except (KeyError, TypeError, ValueError) as error:  # a JSON error is a ValueError
            if restart:
                return ()
            raise BadFormat(
                f"{self.path} is no calibration under way ({error!r})", "Begin anew with --restart, or remove it."
            ) from error
        self.scratch = folders[-1] if folders else None
        if restart:
            return ()
        asked = json.loads(json.dumps(about))
        if points and before != asked:
            raise self._other(points, before, asked, "options")
        self.devices = devices[-1] if points and devices else None
        if len(whole) < len(content):
            os.ftruncate(self._fd, len(whole))
        return tuple(points)

    def _other(
        self, points: Sequence[Mapping[str, Any]], before: Mapping[str, Any], now: Mapping[str, Any], what: str
    ) -> StateError:
        differs = ", ".join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))
        return StateError(
            f"{self.path} keeps {counted(len(points))} of a calibration that was interrupted, and this one differs in "
            f"{differs}",
            f"Go on with the {what} that it began with, or throw them away with --restart.",
        )

    def match_devices(self, devices: Mapping[str, Any]) -> None:
        """Keep what points are measured by, which nobody knows before it is opened; the same goes on only with that.

        Args:
            devices: plain values.

        Raises:
            StateError: points that are kept were measured by others.
            DiskFull: as `add`.
        """
        now = json.loads(json.dumps(devices))
        if self.devices is not None and self.devices != now:
            raise self._other(self.kept, self.devices, now, "devices")
        if self.devices is None:
            self._write({"devices": now})
            self.devices = now

    def add(self, point: Mapping[str, Any]) -> None:
        """Keep one more point; it is on the disk when this returns.

        Raises:
            DiskFull: there is no room for it.
        """
        self._write({"point": dict(point)})
        self._points += 1

    def note_scratch(self, folder: Path) -> None:
        """Keep where the calibration works, for whoever goes on after a kill. Raises as `add`."""
        self._write({"scratch": str(folder)})

    def _write(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        try:
            if os.write(self._fd, data) < len(data):
                raise DiskFull(f"no space left for {self.path}", "Free space there.")
            os.fsync(self._fd)
        except OSError as error:
            if isinstance(error, DiskFull):
                raise
            raise DiskFull(
                f"{self.path} cannot be written: {error.strerror} [errno {error.errno}]", "Free space there."
            ) from error

    def remove(self) -> None:
        """Take it away: the calibration is complete."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it, and take it away if nothing is in it; harmless twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._points == 0:
                self.remove()
            with contextlib.suppress(OSError):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def counted(points: int) -> str:
    """Return "1 point" or "2 points"."""
    return f"{points} point{'' if points == 1 else 's'}"
