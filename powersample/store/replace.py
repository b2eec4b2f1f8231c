# SPDX-License-Identifier: Apache-2.0
"""A file that is whole whenever somebody looks: the old one or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from powersample.errors import PowerSampleError


def replace_text(path: Path, text: str) -> None:
    """Put a whole file in the place of the old one, or leave that as it is.

    Raises:
        OSError: it cannot be written.
    """
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_new(path: Path, chunks: Iterable[bytes], *, replace: bool = False) -> None:
    """Write a file that is whole or not there: beside its name first.

    Raises:
        OutputExists: it is there and `replace` is False; nothing was asked of `chunks` then.
        DiskFull, AccessDenied, OSError: it cannot be written.
    """
    with new_file(path, replace=replace) as file, disk_told(path):
        file.writelines(chunks)


def write_together(outputs: Sequence[tuple[Path, Iterable[bytes]]], *, replace: bool = False) -> None:
    """Write files that belong together: each whole, and none gets its name before all are on the disk.

    Where a name then cannot be given, those that were given are taken back, unless they replaced an older file.

    Raises:
        OutputExists, DiskFull, AccessDenied, OSError: as `write_new`; of any of them.
    """
    from powersample.store.writer import exists

    for path, _ in outputs:
        if path.exists() and not replace:
            raise exists(path)
    ours: list[tuple[Path, os.stat_result]] = []
    try:
        with contextlib.ExitStack() as stack:
            for path, chunks in outputs:
                older = path.exists()
                file = stack.enter_context(new_file(path, replace=replace))
                with disk_told(path):
                    file.writelines(chunks)
                    file.flush()
                    os.fsync(file.fileno())
                if not older:
                    ours.append((path, os.fstat(file.fileno())))
    except BaseException:
        for path, known in ours:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), known):  # not what somebody else put there meanwhile
                    path.unlink()
        raise


@contextlib.contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write in, which gets its name at the block's end; where that raises the old one stands.

    Raises:
        OutputExists, DiskFull, AccessDenied, OSError: as `write_new`; what can be told at once, before the block.
    """
    from powersample.store.writer import NEW, exists, publish

    if path.exists() and not replace:
        raise exists(path)
    new = path.with_name(f"{path.name}.{os.getpid()}{NEW}")
    with disk_told(path):
        new.unlink(missing_ok=True)
        file = new.open("xb")
    try:
        with file:
            yield file
            with disk_told(path):
                file.flush()
                os.fsync(file.fileno())
        with disk_told(path):
            publish(new, path, replace=replace)
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_told(path: Path) -> Iterator[None]:
    """Tell what the block meets while it writes `path` as this package does."""
    from powersample.store.writer import disk_trouble

    try:
        yield
    except PowerSampleError:
        raise
    except OSError as error:
        raise disk_trouble(error, path) from error
