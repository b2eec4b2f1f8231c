# SPDX-License-Identifier: Apache-2.0
"""What a command owes its process: standard streams that are there, and an end in order when it is asked to end."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGTERM, signal.SIGHUP)


def fill_streams() -> None:
    """Put /dev/null where a standard stream is closed, and have the others write any text.

    Else a file of ours would take the stream's number, and what is meant for a closed standard error would go to
    standard output. `sys.stdout` stays None then, so that `emit` can tell.
    """
    while (found := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest free number
        pass
    os.close(found)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a window may have any name, a terminal only some letters
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: lanes stop, temporary folders go, 128 + N is the answer.

    One that is ignored, as under nohup, stays ignored; outside the main thread nothing changes.
    """
    mine = threading.current_thread() is threading.main_thread()
    numbers = [number for number in ENDING if mine and signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
