# SPDX-License-Identifier: Apache-2.0
"""A file that is whole whenever somebody looks: the old one or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

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
    from powersample.store.writer import NEW, disk_trouble, exists, publish

    if path.exists() and not replace:
        raise exists(path)
    new = path.with_name(f"{path.name}.{os.getpid()}{NEW}")
    try:
        new.unlink(missing_ok=True)
        with new.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        publish(new, path, replace=replace)
    except PowerSampleError:
        raise
    except OSError as error:
        raise disk_trouble(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
