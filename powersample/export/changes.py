# SPDX-License-Identifier: Apache-2.0
"""A channel as the step function that a viewer draws: where it changed, and its last reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from powersample.model import Series


def changes(chunks: Iterable[Series]) -> Iterator[Series]:
    """Yield the first reading of every run of equal ones, and the very last, at the memory of a chunk.

    Failed reads are equal when their codes are; their values are undefined.
    """
    before: Series | None = None  # the reading that came last
    pending = False  # and it was not yielded
    for chunk in chunks:
        if not len(chunk):
            continue
        whole = chunk if before is None else Series.concat(chunk.channel, [before, chunk])
        new = _differs(whole)
        first = np.concatenate(([True], new)) if before is None else new
        if first.any():
            yield chunk.take(first)
        before, pending = chunk.take(slice(-1, None)), not first[-1]
    if before is not None and pending:
        yield before


def _differs(series: Series) -> NDArray[np.bool_]:
    """Say of each reading but the first whether it differs from the one before; bits tell, so that NaN equals NaN."""
    bits, failed = series.raw.view(np.int64), series.status != 0
    other: NDArray[np.bool_] = series.status[1:] != series.status[:-1]
    other |= (bits[1:] != bits[:-1]) & ~failed[1:]
    return other
