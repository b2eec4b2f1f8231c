# SPDX-License-Identifier: Apache-2.0
"""Tells when a call into a framework has been left: some have no hook for a training that ends by an exception."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType

LOOK_EVERY_S = 0.25
MISSES = 3  # a frame that returns just while its callers are walked hides them: once, not time and again


class Left:
    """Calls `then` once the outermost call of this thread into a package is over, unless cancelled before.

    Args:
        package: Such as "keras"; its modules' frames are looked for among the callers.
        then: What to do; in a thread of its own.
    """

    def __init__(self, package: str, then: Callable[[], None]) -> None:
        self._frame = _outermost(package)
        self._then, self._owner = then, threading.get_ident()
        self._cancelled = threading.Event()
        if self._frame is not None:
            threading.Thread(target=self._watch, name="powersample-left", daemon=True).start()

    def cancel(self) -> None:
        """Let it be."""
        self._cancelled.set()
        self._frame = None  # it holds whatever the call holds

    def _watch(self) -> None:
        missed = 0
        while not self._cancelled.wait(LOOK_EVERY_S):
            missed = 0 if self._inside() else missed + 1
            if missed == MISSES:
                self._frame = None
                self._then()
                return

    def _inside(self) -> bool:
        frame, looked_for = sys._current_frames().get(self._owner), self._frame
        while frame is not None and frame is not looked_for:
            frame = frame.f_back
        return frame is not None


def _outermost(package: str) -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            found = frame
        frame = frame.f_back
    return found
