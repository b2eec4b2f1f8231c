# SPDX-License-Identifier: Apache-2.0
"""A profile of torch from its file, gzipped or not."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from powersample.errors import AccessDenied, BadFormat, InputNotFound
from powersample.formats import torch_trace
from powersample.formats.torch_trace import TorchTrace

MOST_BYTES = 4 << 30  # of JSON; what is read stands in memory twice for a moment
GZIP = b"\x1f\x8b"


def read_torch(path: str | os.PathLike[str]) -> tuple[str, TorchTrace]:
    """Return a profile's text, and what is to be known of it.

    The text is decoded so that encoding it with "surrogateescape" gives the file's bytes again.

    Raises:
        InputNotFound, AccessDenied: it cannot be read.
        BadFormat: it is torn, no profile, does not tell when it began, or is above 4 GiB of JSON.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
        with gzip.open(path) if packed else path.open("rb") as source:
            data = source.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFormat(f"{path} is torn ({error})", "Let the profiler export it to its end.") from None
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
    if len(data) > MOST_BYTES:
        raise BadFormat(f"{path} holds more than 4 GiB of JSON", "Profile fewer steps: no viewer opens so much.")
    text = data.decode("utf-8", "surrogateescape")
    del data
    return text, torch_trace.parse(text, str(path))
