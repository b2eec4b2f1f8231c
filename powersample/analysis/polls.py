# SPDX-License-Identifier: Apache-2.0
"""A channel's polls as sums over them need them: good ones, forward in time, without a counter's glitches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Array
from powersample.model import Series

NOT_A_NUMBER = -1  # stands among the sources' codes for a value that is none


@dataclass(frozen=True, slots=True)
class Polls:
    """A stretch of polls; all stamps are int64 ns and rise.

    Where a recording kept changes only, `omitted` says how many polls were left out before each: then nothing is hidden
    between the two, for they had the same value, or the same failure, at the channel's own spacing.

    Attributes:
        failed: stamps of failed reads by code; `NOT_A_NUMBER` for values that are none.
        failed_omitted: the same failures left out before each of them.
        read_ns: every read, failed ones included.
        read_omitted: reads left out before each.
        t_ns: good polls.
        raw: their values.
        omitted: good polls left out before each.
        glitch_ns: reads of a counter that are left out, because they do not fit between their neighbours.
        back_ns: reads that are left out because the clock did not advance, at the stamp that they fall back behind.
    """

    failed: dict[int, NDArray[np.int64]]
    failed_omitted: dict[int, NDArray[np.uint32]]
    read_ns: NDArray[np.int64]
    read_omitted: NDArray[np.uint32]
    t_ns: NDArray[np.int64]
    raw: Array
    omitted: NDArray[np.uint32]
    glitch_ns: NDArray[np.int64]
    back_ns: NDArray[np.int64]


NONE_NS = np.empty(0, np.int64)
NONE_OMITTED = np.empty(0, np.uint32)


def polls(chunks: Iterable[Series], *, counter: bool) -> Iterator[Polls]:
    """Yield the polls of `chunks`.

    Args:
        chunks: a channel's readings in their order.
        counter: leave out single reads of a counter that jump away and come back. A counter only grows (and rarely
            restarts), so of three reads x, y, z the middle one is wrong when y < x <= z, or when x < z < y.
    """
    latest_ns: int | None = None
    before: Array | None = None  # the good value before the one that waits
    waits_ns, waits, waits_omitted = NONE_NS, None, NONE_OMITTED
    for chunk in chunks:
        t_ns, raw, status, good, omitted = chunk.t_ns, chunk.raw, chunk.status, chunk.good, chunk.left_out
        back_ns = NONE_NS
        reached_ns = np.maximum.accumulate(t_ns)
        bound_ns = np.concatenate(([t_ns[0] - 1 if latest_ns is None else latest_ns], reached_ns[:-1]))
        if latest_ns is not None:
            bound_ns = np.maximum(bound_ns, latest_ns)
        forward = t_ns > bound_ns
        if not forward.all():
            back_ns = bound_ns[~forward]
            t_ns, raw, status, good = t_ns[forward], raw[forward], status[forward], good[forward]
            omitted = omitted[forward]
        if not len(t_ns):
            yield Polls({}, {}, NONE_NS, NONE_OMITTED, NONE_NS, raw, NONE_OMITTED, NONE_NS, back_ns)
            continue
        latest_ns = int(t_ns[-1])
        read_ns, read_omitted, failed, failed_omitted = t_ns, omitted, {}, {}
        if not good.all():
            for code in np.unique(status[~good]):
                mine = ~good & (status == code)
                failed[int(code) or NOT_A_NUMBER] = t_ns[mine]
                failed_omitted[int(code) or NOT_A_NUMBER] = omitted[mine]
            t_ns, raw, omitted = t_ns[good], raw[good], omitted[good]
        glitch_ns = NONE_NS
        if counter and len(t_ns):
            if waits is not None:
                t_ns, raw = np.concatenate((waits_ns, t_ns)), np.concatenate((waits, raw))
                omitted = np.concatenate((waits_omitted, omitted))
            wrong = _glitches(before, raw)
            waits_ns, waits, waits_omitted = t_ns[-1:], raw[-1:], omitted[-1:]
            before = raw[-2:-1] if len(raw) > 1 else before
            glitch_ns = t_ns[:-1][wrong]
            t_ns, raw, omitted = t_ns[:-1][~wrong], raw[:-1][~wrong], omitted[:-1][~wrong]
        yield Polls(failed, failed_omitted, read_ns, read_omitted, t_ns, raw, omitted, glitch_ns, back_ns)
    if waits is not None:
        yield Polls({}, {}, NONE_NS, NONE_OMITTED, waits_ns, waits, waits_omitted, NONE_NS, NONE_NS)


def _glitches(before: Array | None, raw: Array) -> NDArray[np.bool_]:
    """Say of all values but the last whether they do not fit between their neighbours."""
    x = np.concatenate((raw[:1] if before is None else before, raw[:-2])) if len(raw) > 1 else raw[:0]
    y, z = raw[:-1], raw[1:]
    low: NDArray[np.bool_] = (y < x) & (x <= z)
    return low | ((x < z) & (z < y))
