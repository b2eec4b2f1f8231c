# SPDX-License-Identifier: Apache-2.0
"""The readings of one channel, as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.model.channel import Channel

_DTYPES = {"t0_ns": np.int64, "t1_ns": np.int64, "status": np.uint16, "seq": np.uint32}
_OPTIONAL = {"span_ns": np.int64, "omitted": np.uint32}


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Readings in the order of their making. Arrays are 1-D, of one length, and read-only.

    Attributes:
        channel: whose readings these are.
        t0_ns: int64, CLOCK_MONOTONIC before the device call.
        t1_ns: int64, after it.
        raw: the device's own value, dtype `channel.raw_dtype`; undefined where status is not 0.
        status: uint16, 0 or the source's error code.
        seq: uint32, the lane's record number modulo 2^32.
        span_ns: int64, the time that each value averages; None unless `channel.span` is "sample".
        omitted: uint32, polls left out before each reading, because they said the same as it and as the reading before
            it, at the channel's own spacing (`--keep changes`); None when every poll is there.
    """

    channel: Channel
    t0_ns: NDArray[np.int64]
    t1_ns: NDArray[np.int64]
    raw: NDArray[Any]
    status: NDArray[np.uint16]
    seq: NDArray[np.uint32]
    span_ns: NDArray[np.int64] | None = None
    omitted: NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        dtypes: dict[str, Any] = {**_DTYPES, "raw": np.dtype(self.channel.raw_dtype)}
        dtypes |= {name: dtype for name, dtype in _OPTIONAL.items() if getattr(self, name) is not None}
        for name, dtype in dtypes.items():
            array = np.asarray(getattr(self, name), dtype).view()
            array.flags.writeable = False
            if array.ndim != 1 or len(array) != len(self.t0_ns):
                raise InvalidArgument(
                    f"{self.channel.name}: {name} has shape {array.shape}, t0_ns has {len(self.t0_ns)}"
                )
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.t0_ns)

    @property
    def t_ns(self) -> NDArray[np.int64]:
        """int64: the middle of each call, the best single stamp of its value."""
        return self.t0_ns + (self.t1_ns - self.t0_ns) // 2

    @property
    def good(self) -> NDArray[np.bool_]:
        """bool: where a value is to be had."""
        good: NDArray[np.bool_] = self.status == 0
        return good & np.isfinite(self.raw) if self.raw.dtype.kind == "f" else good

    @property
    def left_out(self) -> NDArray[np.uint32]:
        """uint32: `omitted`, zeros when every poll is there."""
        return np.zeros(len(self), np.uint32) if self.omitted is None else self.omitted

    @property
    def value(self) -> NDArray[np.float64]:
        """float64 in `channel.unit`, NaN where the reading failed."""
        return np.where(self.status == 0, self.raw * self.channel.scale, np.nan)

    def between(self, start_ns: int | None, end_ns: int | None) -> "Series":
        """Return the readings (views) whose call touches [start_ns, end_ns]; None leaves that side open."""
        first = 0 if start_ns is None else int(np.searchsorted(self.t1_ns, start_ns, "left"))
        last = len(self) if end_ns is None else int(np.searchsorted(self.t0_ns, end_ns, "right"))
        return self.take(slice(first, max(first, last)))

    def take(self, index: slice | NDArray[Any]) -> "Series":
        """Return the readings that `index` selects."""
        return Series(
            self.channel,
            self.t0_ns[index],
            self.t1_ns[index],
            self.raw[index],
            self.status[index],
            self.seq[index],
            None if self.span_ns is None else self.span_ns[index],
            None if self.omitted is None else self.omitted[index],
        )

    @classmethod
    def empty(cls, channel: Channel) -> "Series":
        """Return no readings."""
        none = np.empty(0, np.int64)
        spans = none if channel.span == "sample" else None
        return cls(channel, none, none, none, none.astype(np.uint16), none.astype(np.uint32), spans)

    @classmethod
    def concat(cls, channel: Channel, parts: Iterable["Series"]) -> "Series":
        """Return the readings of `parts`, one after the other."""
        parts = list(parts)
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty(channel)
        spans = [part.span_ns for part in parts if part.span_ns is not None]
        return cls(
            channel,
            np.concatenate([part.t0_ns for part in parts]),
            np.concatenate([part.t1_ns for part in parts]),
            np.concatenate([part.raw for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.seq for part in parts]),
            np.concatenate(spans) if len(spans) == len(parts) else None,
            None if all(part.omitted is None for part in parts) else np.concatenate([part.left_out for part in parts]),
        )
