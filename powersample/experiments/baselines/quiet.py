# SPDX-License-Identifier: Apache-2.0
"""Other people's packages, started without a word on standard output and with an environment of their own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from multiprocessing import resource_tracker


@contextlib.contextmanager
def surroundings(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a while: what it starts meanwhile inherits them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Let what this thread starts meanwhile not hear of a Ctrl-C: whoever started it ends it, without a traceback."""
    resource_tracker.ensure_running()  # multiprocessing's: as it starts it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Send what is printed to standard output nowhere, from this process and from what it starts meanwhile.

    Nothing is logged either: CodeCarbon logs to standard error as it is imported, whatever it was told.
    """
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), _unlogged():
        try:
            kept = os.dup(1)
        except OSError:  # closed: nothing can be printed there
            yield
            return
        try:
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()  # what was printed before must not follow
            os.dup2(nowhere.fileno(), 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
