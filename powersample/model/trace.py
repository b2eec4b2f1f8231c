# SPDX-License-Identifier: Apache-2.0
"""A recording: channels, windows, anchors, lane statistics, metadata, and readings wherever they lie.

The readings come through a backend in chunks, so that the same code runs on a test's arrays and on a file
of two days.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from powersample.errors import DeviceNotFound, InvalidArgument, did_you_mean
from powersample.model.channel import Channel
from powersample.model.clock import Anchor, to_realtime_ns
from powersample.model.clock_fit import ClockFit
from powersample.model.energy import Window
from powersample.model.host import simulated_name
from powersample.model.lane import LaneStats
from powersample.model.series import Series

if TYPE_CHECKING:
    import pandas as pd

TRUTH_PREFIX = "truth."
STAMP_SLACK_NS = 1_000_000  # to either side of what is asked of a foreign clock's channel, before it is placed
MEMORY_CHUNK = 1 << 18  # readings; two megabytes an array, so that temporaries stay in the cache's reach


@dataclass(frozen=True, slots=True)
class Extent:
    """How many readings a channel has, and from when to when; `omitted`: how many polls more it was read."""

    records: int
    first_ns: int
    last_ns: int
    omitted: int = 0

    @property
    def polls(self) -> int:
        """Every read that was made and not lost."""
        return self.records + self.omitted


class Backend(Protocol):
    """Where readings lie."""

    def chunks(self, channel: Channel, start_ns: int | None, end_ns: int | None) -> Iterator[Series]:
        """Yield the channel's readings that touch [start_ns, end_ns], in order, in pieces of bounded size."""

    def extent(self, channel: Channel) -> Extent | None:
        """Return what there is of a channel without reading it; None when there is nothing."""


class InMemory:
    """Readings in arrays."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series: dict[str, Series] = {}
        for one in series:
            if one.channel.name in self._series:
                raise InvalidArgument(f"channel {one.channel.name} is given twice")
            self._series[one.channel.name] = one

    def chunks(self, channel: Channel, start_ns: int | None, end_ns: int | None) -> Iterator[Series]:
        """See `Backend`."""
        found = self._series[channel.name].between(start_ns, end_ns)
        for first in range(0, len(found), MEMORY_CHUNK):
            yield found.take(slice(first, first + MEMORY_CHUNK))

    def extent(self, channel: Channel) -> Extent | None:
        """See `Backend`."""
        one = self._series[channel.name]
        omitted = 0 if one.omitted is None else int(one.omitted.sum())
        return Extent(len(one), int(one.t0_ns[0]), int(one.t1_ns[-1]), omitted) if len(one) else None


class Trace:
    """A recording. Nothing in it changes.

    Args:
        backend: where the readings lie.
        channels: what was recorded.
        windows: in the order of their begin.
        anchors: in the order of time.
        lanes: statistics of the sampler's lanes.
        meta: host, driver, devices, versions, `simulated` and so on: plain JSON values.
    """

    def __init__(
        self,
        backend: Backend,
        channels: Iterable[Channel],
        *,
        windows: Iterable[Window] = (),
        anchors: Iterable[Anchor] = (),
        lanes: Iterable[LaneStats] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self._backend = backend
        self.channels: Mapping[str, Channel] = MappingProxyType({one.name: one for one in channels})
        self.windows = tuple(windows)
        self.anchors = tuple(anchors)
        self.lanes = tuple(lanes)
        self.meta: Mapping[str, Any] = MappingProxyType(dict(meta or {}))
        self._placed = True  # stamps of other clocks are read by their fits
        self._foreign_fits: dict[str, ClockFit | None] = {}

    @classmethod
    def of(cls, series: Iterable[Series], **more: Any) -> "Trace":
        """Return a trace of arrays in memory; `more` as the constructor's keywords."""
        series = list(series)
        return Trace(InMemory(series), [one.channel for one in series], **more)

    @property
    def simulated(self) -> bool:
        """Whether this is a simulation and no measurement."""
        return bool(self.meta.get("simulated"))

    def __repr__(self) -> str:
        start_ns, end_ns = self.start_ns, self.end_ns
        length = "empty" if start_ns is None or end_ns is None else f"{(end_ns - start_ns) / 1e9:.4g} s"
        node = self.meta.get("simulated_node") or {}
        banner = f"SIMULATED {simulated_name(node)}".rstrip() + " " if self.simulated else ""
        channels = sum(not name.startswith(TRUTH_PREFIX) for name in self.channels)
        windows = f"{len(self.windows)} windows" if len(self.windows) != 1 else "1 window"
        return f"<Trace {banner}{self._where()}{length}, {channels} channels, {windows}>"

    def _where(self) -> str:
        """Return where the readings lie, for whoever prints the trace, with a comma and a space behind it."""
        return ""

    @property
    def start_ns(self) -> int | None:
        """First instant of the record; None when it is empty."""
        return min((extent.first_ns for extent in self._extents()), default=None)

    @property
    def end_ns(self) -> int | None:
        """Last instant of the record; None when it is empty."""
        return max((extent.last_ns for extent in self._extents()), default=None)

    def _extents(self) -> Iterator[Extent]:
        for channel in self.channels.values():
            extent = self.extent(channel.name)
            if extent is not None and not channel.name.startswith(TRUTH_PREFIX):
                yield extent

    def channel(self, name: str) -> Channel:
        """Return the channel called `name`.

        Raises:
            DeviceNotFound: there is none; the message lists those there are.
        """
        try:
            return self.channels[name]
        except KeyError:
            raise self.unknown_channel(name) from None

    def unknown_channel(self, name: str) -> DeviceNotFound:
        """Return what to say of a channel that there is not: those there are, without a simulation's truth."""
        there = [one for one in self.channels if not one.startswith(TRUTH_PREFIX)]
        what = f"the trace has no channel {name!r}; it has {', '.join(there) or 'none'}"
        return DeviceNotFound(what, did_you_mean(name, self.channels))

    def clock_fit(self, name: str) -> ClockFit | None:
        """Return how a meter's stamps lie on this trace's clock (`meta["clock_fits"]`); None where nobody found out.

        Raises:
            DeviceNotFound: there is no such channel.
            BadFormat: what is stored is no clock fit.
        """
        stored = (self.meta.get("clock_fits") or {}).get(self.channel(name).name)
        return None if stored is None else ClockFit.from_json(stored)

    def _foreign(self, name: str) -> ClockFit | None:
        """Return the fit of a channel whose stamps are of another clock; None for those of this trace's own."""
        if name not in self._foreign_fits:
            fit = self.clock_fit(name) if self._placed else None
            self._foreign_fits[name] = fit if fit is not None and fit.own_clock and fit.accepted else None
        return self._foreign_fits[name]

    def as_stamped(self) -> "Trace":
        """Return the trace whose readings bear the stamps that were written, also where another clock wrote them."""
        found = self.with_meta()
        found._placed = False
        return found

    def with_meta(self, **meta: Any) -> "Trace":
        """Return the trace with more metadata, or other."""
        found = Trace(
            self._backend,
            self.channels.values(),
            windows=self.windows,
            anchors=self.anchors,
            lanes=self.lanes,
            meta={**self.meta, **meta},
        )
        found._placed = self._placed
        return found

    def extent(self, name: str) -> Extent | None:
        """Return how many readings a channel has, and from when to when; None when it has none."""
        found, fit = self._backend.extent(self.channel(name)), self._foreign(name)
        if found is None or fit is None:
            return found
        first_ns, last_ns = fit.to_host_ns(np.array([found.first_ns, found.last_ns], np.int64)).tolist()
        return Extent(found.records, first_ns, last_ns, found.omitted)

    def chunks(self, name: str, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Series]:
        """Yield the channel's readings whose call touches [start_ns, end_ns], in order, at bounded memory.

        What another clock stamped (an accepted clock fit with `own_clock`) is placed on this trace's by the fit.
        """
        channel, fit = self.channel(name), self._foreign(name)
        if fit is None:
            yield from self._backend.chunks(channel, start_ns, end_ns)
            return
        first_ns = None if start_ns is None else fit.to_stamp_ns(start_ns) - STAMP_SLACK_NS
        last_ns = None if end_ns is None else fit.to_stamp_ns(end_ns) + STAMP_SLACK_NS
        for series in self._backend.chunks(channel, first_ns, last_ns):
            placed = fit.apply(series).between(start_ns, end_ns)
            if len(placed):
                yield placed

    def series(self, name: str, start_ns: int | None = None, end_ns: int | None = None) -> Series:
        """Return the same as `chunks` in one piece: 35 bytes a reading of memory."""
        return Series.concat(self.channel(name), self.chunks(name, start_ns, end_ns))

    def to_pandas(
        self, names: Iterable[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> "pd.DataFrame":
        """Return readings as a long table.

        Args:
            names: channels; None takes all.
            start_ns: leave out what ends before; None starts with the record.
            end_ns: leave out what begins after.

        Returns:
            Columns `time` (datetime64[ns, UTC], middle of the call; NaT without anchors), `channel`
            (categorical), `t0_ns`, `t1_ns`, `raw`, `value` (SI, NaN on errors), `status`, `seq`; and `omitted`, the
            polls left out before each, where some are.
        """
        import pandas as pd

        chosen = [self.channel(name) for name in (self.channels if names is None else names)]
        all_series = [self.series(channel.name, start_ns, end_ns) for channel in chosen]
        t_ns = np.concatenate([one.t_ns for one in all_series] or [np.empty(0, np.int64)])
        real_ns = to_realtime_ns(self.anchors, t_ns)
        stamps = np.full(len(t_ns), "NaT", "datetime64[ns]") if real_ns is None else real_ns.view("datetime64[ns]")
        codes = np.repeat(np.arange(len(chosen)), [len(one) for one in all_series])
        whole = {
            key: np.concatenate([getattr(one, key) for one in all_series] or [np.empty(0)])
            for key in ("t0_ns", "t1_ns", "raw", "value", "status", "seq")
        }
        if any(one.omitted is not None for one in all_series):
            whole["omitted"] = np.concatenate([one.left_out for one in all_series])
        return pd.DataFrame(
            {
                "time": pd.Series(stamps).dt.tz_localize("UTC"),
                "channel": pd.Categorical.from_codes(codes, [channel.name for channel in chosen]),
                **whole,
            }
        )
