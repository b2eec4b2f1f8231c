# SPDX-License-Identifier: Apache-2.0
"""Standard output, whose reader may leave and whose disk may be full."""

import os
import sys

from powersample.errors import SystemFailure


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
