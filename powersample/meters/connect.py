# SPDX-License-Identifier: Apache-2.0
"""Connections in bounded time, the look-up of a name included, which no library gives a deadline."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from powersample import errors

T = TypeVar("T")
LEAST_S = 1e-3


def bounded(call: Callable[[], T], timeout_s: float, give_back: Callable[[T], object] = lambda _: None) -> T:
    """Return what a call returns, and raise what it raises, unless it takes too long: then it is left behind.

    Args:
        call: Something that may block for longer than anybody can say.
        timeout_s: How long it may take.
        give_back: What becomes of a result that came too late.

    Raises:
        TimeoutError: It took longer.
    """
    over, lock = threading.Event(), threading.Lock()
    results: list[T] = []
    failures: list[BaseException] = []
    left = False

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # it is raised again by whoever waits
            failures.append(error)
        else:
            with lock:
                if not left:
                    results.append(result)
                    over.set()
                    return
            give_back(result)
        over.set()

    threading.Thread(target=run, name="powersample-bounded", daemon=True).start()
    try:
        over.wait(timeout_s)
    except BaseException:  # Ctrl-C: nobody takes the result any more
        with lock:
            left = True
        for result in results:
            give_back(result)
        raise
    with lock:
        left = not results
    if results:
        return results[0]
    if failures:
        raise failures[0]
    raise TimeoutError(f"it took longer than {timeout_s:g} s")


def connected(host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a TCP connection to the first of a host's addresses that takes one.

    Args:
        host: Name or address.
        port: Its number.
        timeout_s: For the look-up and all addresses together; it stays the socket's timeout.

    Raises:
        Timeout: The look-up of the name did not end.
        OSError: What the last address failed with; TimeoutError where it did not answer.
    """
    deadline_s = time.monotonic() + timeout_s
    failure: OSError = TimeoutError(f"no answer within {timeout_s:g} s")
    there = _addresses(host, port, timeout_s)
    for tried, (family, kind, protocol, _, address) in enumerate(there):
        one = socket.socket(family, kind, protocol)
        try:  # an even share of what is left: an address that is silent takes nothing from the next one
            one.settimeout(max(LEAST_S, (deadline_s - time.monotonic()) / (len(there) - tried)))
            one.connect(address)
            one.settimeout(timeout_s)
        except OSError as error:
            one.close()
            failure = error
        else:
            return one
    raise failure


def _addresses(host: str, port: int, timeout_s: float) -> list[Any]:
    """Return what `getaddrinfo` does."""
    try:
        return bounded(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout_s)
    except TimeoutError as error:
        raise errors.Timeout(
            f"the look-up of the name {host} did not end within {timeout_s:g} s",
            "Check the name server, or write the address in numbers.",
        ) from error
