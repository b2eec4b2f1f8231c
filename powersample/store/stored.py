# SPDX-License-Identifier: Apache-2.0
"""A trace whose readings stay in its file until somebody asks for them."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from powersample.errors import AccessDenied, BadFormat, InputNotFound, PowerSampleError
from powersample.model import Backend, Channel, Extent, Series, Trace
from powersample.store.schema import (
    KEY,
    OMITTED,
    READ_COLUMNS,
    Description,
    channel_names,
    column_names,
    row_groups,
    to_series,
)
from powersample.store.writer import NEW, TraceWriter, disk_trouble, exists, publish

READ_ROWS = 1 << 17  # decoded at once

PathLike = str | os.PathLike[str]


class ParquetFile:
    """One Parquet file as a trace's backend; it is opened for each read and its index kept.

    Args:
        path: the file.
        metadata: its footer.
        extents: what it holds of each channel.
    """

    def __init__(self, path: Path, metadata: pq.FileMetaData, extents: Mapping[str, Extent]) -> None:
        self.path = path
        self._metadata = metadata
        self._groups = row_groups(metadata)
        self.extents = extents
        self._columns = READ_COLUMNS + ([OMITTED.name] if OMITTED.name in column_names(metadata) else [])

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with pa.OSFile(os.fsencode(self.path), "rb") as source, pq.ParquetFile(source, metadata=self._metadata) as file:
            yield file

    def alone(self) -> set[str]:
        """Return the channels that have a row group to themselves."""
        return {group.first_channel for group in self._groups if group.first_channel == group.last_channel}

    def shared(self, channels: Mapping[str, Channel]) -> Iterator[Series]:
        """Yield the readings of `channels` from the row groups that hold several channels, each read once."""
        if all(group.first_channel == group.last_channel for group in self._groups):
            return
        with self._open() as file:
            for group in self._groups:
                if group.first_channel != group.last_channel:
                    table = file.read_row_group(group.index, columns=[*self._columns, "span_ns"], use_threads=False)
                    for name in sorted(set(channel_names(table)) & channels.keys()):
                        yield to_series(table, channels[name])

    def chunks(self, channel: Channel, start_ns: int | None, end_ns: int | None) -> Iterator[Series]:
        """See `powersample.model.Backend`."""
        columns = self._columns + (["span_ns"] if channel.span == "sample" else [])
        groups = [group for group in self._groups if group.may_hold(channel.name, start_ns, end_ns)]
        if not groups:
            return
        with self._open() as file:
            for group in groups:
                for batch in file.iter_batches(READ_ROWS, [group.index], columns, use_threads=False):
                    whole = to_series(pa.Table.from_batches([batch]), channel)
                    series = whole.between(start_ns, end_ns)
                    if len(series):
                        yield series
                    if len(whole) and end_ns is not None and whole.t0_ns[-1] > end_ns:
                        break

    def extent(self, channel: Channel) -> Extent | None:
        """See `powersample.model.Backend`."""
        return self.extents.get(channel.name)


class StoredTrace(Trace):
    """A `Trace` in a file or spool, at `path`.

    Attributes:
        path: the file or folder.
        keep: an object that must live as long as the trace, such as the owner of a temporary folder; or None.
    """

    def __init__(self, path: Path, backend: Backend, description: Description) -> None:
        super().__init__(
            backend,
            description.channels,
            windows=description.windows,
            anchors=description.anchors,
            lanes=description.lanes,
            meta=description.meta,
        )
        self.path = path
        self.keep: object = None

    def _where(self) -> str:
        return f"{self.path.name}, "

    def save(self, path: PathLike, *, replace: bool = False) -> None:
        """Write the trace to another Parquet file.

        Raises:
            OutputExists: the file is there and `replace` is False.
            DiskFull: no space is left.
            AccessDenied: its folder is missing or not writable.
        """
        target = Path(path)
        if not self.path.is_file():
            save(self, target, replace=replace)
            return
        if target.exists() and not replace:
            raise exists(target)
        new = target.with_name(target.name + NEW)
        try:
            shutil.copyfile(self.path, new)
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            publish(new, target, replace=replace)
        except PowerSampleError:
            raise
        except OSError as error:
            raise disk_trouble(error, target) from error
        finally:
            with suppress(OSError):  # the folder may be what is missing
                new.unlink(missing_ok=True)


def open_parquet(path: Path) -> tuple[ParquetFile, Description]:
    """Open a file that this package wrote.

    Raises:
        InputNotFound: there is no such file.
        AccessDenied: it may not be read.
        BadFormat: it is no Parquet file, not powersample's, or newer than this version.
    """
    try:
        with pa.OSFile(os.fsencode(path), "rb") as source:  # as bytes: a name need not be UTF-8
            metadata = pq.read_metadata(source)
    except FileNotFoundError:
        raise InputNotFound(f"{path}: no such file", "Check the path.") from None
    except PermissionError:
        raise AccessDenied(f"{path} may not be read", "Ask its owner for read access.") from None
    except (pa.ArrowInvalid, OSError) as error:
        if path.is_dir():
            raise BadFormat(f"{path} is a folder", f"Is it a spool? Try `powersample recover {path}`.") from None
        raise BadFormat(f"{path} is not a Parquet file ({str(error).splitlines()[0]})") from None
    text = (metadata.metadata or {}).get(KEY)
    if text is None:
        raise BadFormat(f"{path} is a Parquet file without powersample's metadata", "Give a recording.")
    description, extents = Description.from_json(text, str(path))
    try:
        return ParquetFile(path, metadata, extents), description
    except (KeyError, AttributeError) as error:
        raise BadFormat(f"{path}: its columns are not a recording's ({error})") from None


def load(path: PathLike) -> StoredTrace:
    """Open a recording; its readings are read when they are asked for.

    Raises:
        InputNotFound: there is no such file.
        AccessDenied: it may not be read.
        BadFormat: it is no recording, or newer than this version.
    """
    backend, description = open_parquet(Path(path))
    return StoredTrace(Path(path), backend, description)


def save(trace: Trace, path: PathLike, *, replace: bool = False) -> None:
    """Write any trace to a Parquet file, at bounded memory.

    Raises:
        OutputExists: the file is there and `replace` is False.
        DiskFull: no space is left.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise exists(target)
    trace = trace.as_stamped()
    kept = any(extent.omitted for extent in map(trace.extent, trace.channels) if extent)
    with TraceWriter(target, replace=replace, kept=kept) as writer:
        for name in sorted(trace.channels):
            for series in trace.chunks(name):
                writer.add(series)
        writer.close(describe(trace))


def describe(trace: Trace, more: Sequence[Channel] = (), **meta: Any) -> Description:
    """Return a trace's description, with more channels and metadata."""
    return Description(
        (*trace.channels.values(), *more),
        trace.windows,
        trace.anchors,
        trace.lanes,
        {**trace.meta, **meta},
    )
