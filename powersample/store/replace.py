# SPDX-License-Identifier: Apache-2.0
"""A small file that is either the old one or the new one, whenever somebody looks."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


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
