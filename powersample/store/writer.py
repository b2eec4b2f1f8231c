# SPDX-License-Identifier: Apache-2.0
"""Writes readings into one Parquet file at bounded memory, complete or not at all."""

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from powersample.errors import AccessDenied, DiskFull, InvalidArgument, OutputExists
from powersample.model import Extent, Series
from powersample.store.schema import KEY, SCHEMA, SCHEMA_KEPT, WRITE_OPTIONS, Description, to_table

NEW = ".new"  # of a file that is being written
PART_ROWS = 1 << 17  # most rows of a row group in a converted part: two minutes at 1 kHz
GROUP_ROWS = 1 << 20  # in an output: pyarrow holds 8 KB a group until the file is closed, and there are days to hold
BUSY_ROWS = 1 << 14  # a channel that brings fewer at a time is gathered, and shares a row group with others
BUFFER_ROWS = 1 << 18  # gathered of those in all: 9 MB


def give_back_memory() -> None:
    """Return what pyarrow and the C library keep of freed memory: a recorder's neighbours need it more."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class TraceWriter:
    """Gathers readings into row groups and writes them to `path` + ".new", which becomes `path` on `close`.

    Args:
        path: the file to be.
        replace: replace an existing one; else `close` refuses to.
        kept: the readings are those that were kept of more; they tell how many were left out.
        group_rows: most rows of a row group.
    """

    def __init__(self, path: Path, *, replace: bool = False, kept: bool = False, group_rows: int = GROUP_ROWS) -> None:
        self.path = path
        self.extents: dict[str, Extent] = {}
        self._replace = replace
        self._schema = SCHEMA_KEPT if kept else SCHEMA
        self._new = path.with_name(path.name + NEW)
        self._held: dict[str, list[Series]] = {}
        self._rows: dict[str, int] = {}
        self._group_rows = group_rows
        self._newest = ""  # the channel that came last
        try:
            self._file = pa.OSFile(os.fsencode(self._new), "wb")  # as bytes: a name need not be UTF-8
        except OSError as error:
            raise disk_trouble(error, self._new) from error
        self._writer: pq.ParquetWriter | None = None
        try:
            self._writer = pq.ParquetWriter(self._file, self._schema, **WRITE_OPTIONS)
        except OSError as error:
            self.abandon()
            raise disk_trouble(error, self._new) from error

    def add(self, series: Series) -> None:
        """Append readings; those of one channel must come in their order, and best one channel after the other."""
        if not len(series):
            return
        name = series.channel.name
        omitted = 0 if series.omitted is None else int(series.omitted.sum())
        if omitted and self._schema is SCHEMA:
            raise InvalidArgument(f"{name}: {omitted} polls are left out, and {self.path} has no place to say so")
        before = self.extents.get(name)
        self.extents[name] = Extent(
            len(series) + (before.records if before else 0),
            before.first_ns if before else int(series.t0_ns[0]),
            int(series.t1_ns[-1]),
            omitted + (before.omitted if before else 0),
        )
        if name != self._newest:
            self._write_busy()
            self._newest = name
        first = 0
        while first < len(series):
            piece = series.take(slice(first, first + self._group_rows - self._rows.get(name, 0)))
            first += len(piece)
            self._held.setdefault(name, []).append(piece)
            self._rows[name] = self._rows.get(name, 0) + len(piece)
            if self._rows[name] >= self._group_rows:
                self._write([name])
        others = sorted(self._rows.keys() - {name})
        if sum(self._rows[other] for other in others) > BUFFER_ROWS:
            self._write(others)

    def _write_busy(self) -> None:
        """Write what is held of the channel that came last, unless it is so little that it shares a row group."""
        if self._rows.get(self._newest, 0) >= BUSY_ROWS:
            self._write([self._newest])

    def _flush(self) -> None:
        """Write what is held: a busy channel by itself, the rest in one row group."""
        self._write_busy()
        if self._rows:
            self._write(sorted(self._rows))

    def _write(self, names: list[str]) -> None:
        assert self._writer is not None
        pieces = [piece for name in names for piece in self._held.pop(name)]
        for name in names:
            del self._rows[name]
        table = to_table(pieces, self._schema)
        try:
            self._writer.write_table(table, row_group_size=table.num_rows)
        except OSError as error:
            raise disk_trouble(error, self._new) from error
        del table, pieces
        give_back_memory()

    def close(self, description: Description) -> None:
        """Write the rest and the metadata, sync, and give the file its name.

        Raises:
            OutputExists: the file has appeared meanwhile and may not be replaced.
            DiskFull: no space is left.
        """
        self._flush()
        assert self._writer is not None
        writer = self._writer
        try:
            writer.add_key_value_metadata({KEY.decode(): description.to_json(self.extents)})
            writer.close()
            self._writer = None
            self._file.close()
            with open(self._new, "rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_trouble(error, self._new) from error
        publish(self._new, self.path, replace=self._replace)

    def abandon(self) -> None:
        """Leave nothing behind."""
        writer, self._writer = self._writer, None
        for one in (writer, self._file):
            if one is not None:
                with contextlib.suppress(OSError, pa.ArrowInvalid):  # the full disk that brought us here
                    one.close()
        if writer is not None:
            writer.is_open = False  # else its finalizer tries again, and complains on stderr
        self._new.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None or self._writer is not None:
            self.abandon()


def publish(new: Path, path: Path, *, replace: bool) -> None:
    """Give the finished file `new` the name `path`, in one step.

    Raises:
        OutputExists: `path` exists and `replace` is False.
    """
    if replace:
        new.replace(path)
    else:
        try:
            os.link(new, path)  # unlike rename, this never replaces
            new.unlink()
        except FileExistsError:
            raise exists(path) from None
        except OSError:  # a file system without links
            if path.exists():
                raise exists(path) from None
            new.replace(path)
    sync_folder(path.parent)


def exists(path: Path) -> OutputExists:
    """Return the error for an output that is there already."""
    return OutputExists(f"{path} exists", "Choose another name; in Python pass replace=True.")


def disk_trouble(error: OSError, path: Path) -> OSError:
    """Return what to raise for an error while writing `path`: one of this package where it knows better."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left to write {path}", "Free space there, or write to another file system.")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return AccessDenied(f"{path.parent} is not a folder", "Create it first.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessDenied(f"{path} may not be written ({os.strerror(error.errno)})", "Write into another folder.")
    if error.errno == errno.EFBIG:
        return DiskFull(
            f"{path} would be larger than a file may be here ({os.strerror(error.errno)})",
            "Raise the limit (`ulimit -f`), or write to another file system.",
        )
    if error.errno is not None and error.filename is None:  # of a write: it does not know where to
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return error
