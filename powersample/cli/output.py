# SPDX-License-Identifier: Apache-2.0
"""Standard output, whose reader may leave and whose disk may be full; and the names of what verbs write."""

import os
import sys
from pathlib import Path

from powersample.errors import InvalidArgument, SystemFailure

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
