# SPDX-License-Identifier: Apache-2.0
"""A window as a context manager and as a decorator."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Markable(Protocol):
    """What windows can be marked in."""

    def begin_window(self, name: str, *, sync: str = "auto") -> int:
        """Begin a window; return its id."""

    def end_window(self, mark: int, *, raised: bool = False) -> None:
        """End it."""


class WindowMark:
    """One window: `with run.window("epoch 3"):`, or `@run.window("forward")` around every call of a function.

    The same object may be entered by several threads and asyncio tasks at once, and within itself. Decorated
    coroutines and generators are marked from their first step to their last.
    """

    __slots__ = ("_left", "_name", "_sync", "_where")

    def __init__(self, where: Markable, name: str, sync: str) -> None:
        self._where, self._name, self._sync = where, name, sync
        self._left: list[int] = []  # ids of what was entered, whoever did

    def __enter__(self) -> Self:
        mark = self._where.begin_window(self._name, sync=self._sync)
        self._left.append(mark)
        _ENTERED.set((*_ENTERED.get(), (self, mark)))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        entered = _ENTERED.get()
        if entered and entered[-1][0] is self and entered[-1][1] in self._left:
            mark = entered[-1][1]
            _ENTERED.set(entered[:-1])
        else:
            mark = self._last()
        self._left.remove(mark)
        self._where.end_window(mark, raised=kind is not None and _raised(kind))

    def _last(self) -> int:
        """Return the id of the last that this thread or task entered of this object."""
        entered = _ENTERED.get()
        for i in range(len(entered) - 1, -1, -1):
            if entered[i][0] is self and entered[i][1] in self._left:
                _ENTERED.set(entered[:i] + entered[i + 1 :])
                return entered[i][1]
        return self._left[-1]  # it is left in another context than it was entered in, as fixtures may be

    def __call__(self, function: F) -> F:
        """Return `function` with a window around every call."""
        from powersample.marks.decorate import decorated

        return cast(F, decorated(function, lambda: _Call(self._where, self._name, self._sync)))


class _Call:
    """The window of one call, which needs nobody to remember whose it is."""

    __slots__ = ("_mark", "_name", "_sync", "_where")

    def __init__(self, where: Markable, name: str, sync: str) -> None:
        self._where, self._name, self._sync = where, name, sync

    def __enter__(self) -> None:
        self._mark = self._where.begin_window(self._name, sync=self._sync)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._where.end_window(self._mark, raised=kind is not None and _raised(kind))


def _raised(kind: type[BaseException]) -> bool:
    return not issubclass(kind, GeneratorExit)  # who stops asking a generator raises nothing


# What this thread's, or asyncio task's, running blocks are. Of the module: a variable of each object would never go.
_ENTERED: ContextVar[tuple[tuple[WindowMark, int], ...]] = ContextVar("powersample_windows", default=())
