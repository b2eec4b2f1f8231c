# SPDX-License-Identifier: Apache-2.0
"""One pass over a channel for all windows: which parts of the record to read, and for which windows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Edges
from powersample.analysis.polls import polls
from powersample.model import Kind, Series, Trace, Window

CONTEXT_NS = 30_000_000_000  # read around a window: updates that reach into it lie outside
APART_NS = 120_000_000_000  # windows less apart are read in one piece: a row group is about as long

Result_co = TypeVar("Result_co", covariant=True)


class Pass(Protocol[Result_co]):
    """Sums over one pass, and what they say of each window."""

    def add(self, piece: Any) -> None:
        """Take the next polls, or what else `sweep` was told to make of the readings."""

    def lacks(self) -> NDArray[np.bool_]:
        """Return bool, shape (2, windows): edges that the polls do not reach across."""

    def results(self) -> Sequence[Result_co]:
        """Return what is told, a window each."""


def sweep(
    trace: Trace,
    name: str,
    windows: Sequence[Window],
    make: Callable[[Sequence[Window]], Pass[Result_co]],
    pieces: Callable[[Iterable[Series]], Iterator[Any]] | None = None,
) -> list[Result_co]:
    """Run passes over the parts of the record that windows need; `pieces` makes of the readings what they take.

    An edge that 30 s of context do not reach across gets the whole record, so that a window's result never depends on
    which others are asked for with it.
    """
    extent = trace.extent(name)
    pieces = pieces or partial(polls, counter=trace.channel(name).kind is Kind.ENERGY)
    found: dict[int, Result_co] = {}
    todo = list(range(len(windows)))
    for reach_ns in (CONTEXT_NS, None):
        wider = []
        for some, start_ns, end_ns in _stretches(windows, todo, reach_ns):
            run = make([windows[i] for i in some])
            for piece in pieces(trace.chunks(name, start_ns, end_ns)):
                run.add(piece)
            for i, result, lacks in zip(some, run.results(), run.lacks().T, strict=True):
                found[i] = result
                if reach_ns is not None and extent is not None:
                    before = lacks[0] and extent.first_ns < windows[i].start_ns - reach_ns
                    if before or (lacks[1] and extent.last_ns > windows[i].end_ns + reach_ns):
                        wider.append(i)
        todo = wider
    return [found[i] for i in range(len(windows))]


def _stretches(
    windows: Sequence[Window], todo: Iterable[int], reach_ns: int | None
) -> Iterator[tuple[list[int], int | None, int | None]]:
    """Yield windows that lie near each other, with the stretch to read for them."""
    order = sorted(todo, key=lambda i: windows[i].start_ns)
    if reach_ns is None:
        if order:
            yield order, None, None
        return
    some: list[int] = []
    start_ns = end_ns = 0
    for i in order:
        first_ns, last_ns = windows[i].start_ns - reach_ns, windows[i].end_ns + reach_ns
        if some and first_ns > end_ns + APART_NS:
            yield some, start_ns, end_ns
            some = []
        start_ns, end_ns = (start_ns, max(end_ns, last_ns)) if some else (first_ns, last_ns)
        some.append(i)
    if some:
        yield some, start_ns, end_ns


def edges(windows: Sequence[Window], shift_ns: int = 0) -> Edges:
    """Return int64 ns, shape (2, windows): starts and ends."""
    return np.array([[one.start_ns for one in windows], [one.end_ns for one in windows]], np.int64) + shift_ns
