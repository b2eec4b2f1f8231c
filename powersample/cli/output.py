# SPDX-License-Identifier: Apache-2.0
"""Standard output, whose reader may leave and whose disk may be full; and the names of what verbs write."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from powersample.errors import InvalidArgument, NotSupported, SystemFailure

OTHER_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".h5", ".hdf5", ".feather", ".arrow", ".npz")


def emit(text: str) -> None:
    """Print a verb's result, all of it or an error.

    Raises:
        BrokenPipeError: The reader left, as `head` does.
        SystemFailure: It is closed, or cannot be written.
    """
    if sys.stdout is None:
        raise SystemFailure("standard output is closed; send it to a file, or to /dev/null")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _drop()
        raise
    except OSError as error:
        _drop()
        raise SystemFailure(f"standard output cannot be written: {error.strerror}", code=error.errno) from error


def pour(chunks: Iterable[bytes]) -> None:
    """Write bytes to standard output, all of them or an error.

    Raises:
        BrokenPipeError, SystemFailure: as `emit`.
    """
    if sys.stdout is None:
        raise SystemFailure("standard output is closed; send it to a file, or to /dev/null")
    for chunk in chunks:
        try:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            _drop()
            raise
        except OSError as error:
            _drop()
            raise SystemFailure(f"standard output cannot be written: {error.strerror}", code=error.errno) from error


def _drop() -> None:
    """Let what can no longer be written vanish, instead of failing once more at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse_other_suffix(output: Path) -> None:
    """Refuse a trace's name that says it were something else.

    Raises:
        InvalidArgument: it does.
    """
    if output.suffix.lower() in OTHER_SUFFIXES:
        raise InvalidArgument(
            f"-o {output}: a trace is a Parquet file, and its name would say otherwise",
            f"Name it {output.with_suffix('.parquet')}; `Trace.to_pandas()` makes a table of it.",
        )


def check_picture(path: Path | None, *, replace: bool, option: str = "--png") -> None:
    """Raise when the picture that an option names could not be drawn at the end, before anything runs; None is fine.

    Raises:
        InvalidArgument: The name's end is no kind of picture that matplotlib writes.
        NotSupported: matplotlib is not installed.
        OutputExists: The file is there.
        AccessDenied: Its folder is missing or not writable.
    """
    from powersample.session.recording import check_output

    if path is None:
        return
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise NotSupported(
            f"{option} needs matplotlib ({error})", "Install it: pip install 'powersample[plot]'"
        ) from None
    if path.suffix.lower().removeprefix(".") not in FigureCanvasBase.get_supported_filetypes():
        raise InvalidArgument(f"{option} {path}: no kind of picture ends so", "Let it end in .png, .svg or .pdf")
    check_output(path, replace=replace)
