# SPDX-License-Identifier: Apache-2.0
"""What of a trace is written, and what every format must say of it: whose it is, its clock, that it is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from powersample.model import TRUTH_PREFIX, Channel, Series, Trace, Window, simulated_name, to_realtime_ns


@dataclass(frozen=True, slots=True)
class Selection:
    """Channels of a trace, between two instants.

    Attributes:
        trace: the recording.
        channels: what is written of it, in its order.
        start_ns: what ends before is left out; None starts with the record.
        end_ns: what begins after is left out.
    """

    trace: Trace
    channels: tuple[Channel, ...]
    start_ns: int | None = None
    end_ns: int | None = None

    def chunks(self, channel: Channel) -> Iterator[Series]:
        """Yield the channel's readings, in order, in pieces of bounded size."""
        return self.trace.chunks(channel.name, self.start_ns, self.end_ns)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Those that touch the selection, whole."""
        return tuple(one for one in self.trace.windows if self.touches(one.start_ns, one.end_ns))

    def touches(self, start_ns: int, end_ns: int) -> bool:
        """Whether a span has a part in the selection."""
        return (self.start_ns is None or end_ns >= self.start_ns) and (self.end_ns is None or start_ns <= self.end_ns)

    def extent(self) -> tuple[int, int] | None:
        """Return the first and the last instant of its readings, truths left out; None when there are none."""
        found = [self._clipped(one) for one in self.channels if not one.name.startswith(TRUTH_PREFIX)]
        spans = [one for one in found if one is not None]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    def _clipped(self, channel: Channel) -> tuple[int, int] | None:
        extent = self.trace.extent(channel.name)
        if extent is None or not self.touches(extent.first_ns, extent.last_ns):
            return None
        first_ns = extent.first_ns if self.start_ns is None else max(self.start_ns, extent.first_ns)
        return first_ns, extent.last_ns if self.end_ns is None else min(self.end_ns, extent.last_ns)


def select(
    trace: Trace,
    patterns: Sequence[str] | None = None,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    truth: bool = True,
) -> Selection:
    """Return the channels that patterns of names take.

    Args:
        trace: the recording.
        patterns: names, with the shell's `*` and `?`; None takes all.
        start_ns: leave out what ends before.
        end_ns: leave out what begins after.
        truth: take a simulation's truth channels along where no pattern asks for them.

    Raises:
        DeviceNotFound: a pattern takes nothing; the message lists the channels there are.
    """
    if patterns is None:
        chosen = {name for name in trace.channels if truth or not name.startswith(TRUTH_PREFIX)}
    else:
        chosen = set()
        for pattern in patterns:
            found = {name for name in trace.channels if name == pattern or fnmatchcase(name, pattern)}
            if not found:
                raise trace.unknown_channel(pattern)
            chosen |= found
    return Selection(trace, tuple(one for name, one in trace.channels.items() if name in chosen), start_ns, end_ns)


def clock_of(trace: Trace) -> str:
    """Return what the trace's instants are.

    Returns:
        "monotonic" (CLOCK_MONOTONIC, with anchors to the time of day), "unanchored" (without), "utc" (ns since 1970),
        "local" (the same by a clock whose zone nobody tells), "start" (ns since the record began).
    """
    told = trace.meta.get("clock")
    if told is not None:
        return str(told)
    return "monotonic" if trace.anchors else "unanchored"


def realtime_ns(trace: Trace, t_ns: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return ns since 1970, UTC; by a log's own clock where that has no zone; None where nobody knows."""
    clock = clock_of(trace)
    if clock in ("utc", "local"):
        return t_ns
    return to_realtime_ns(trace.anchors, t_ns) if clock == "monotonic" else None


def quantity(channel: Channel) -> tuple[str, str]:
    """Return what a channel's values are, and their unit as letters: ("power", "w"), ("aux", "pct")."""
    letters = "".join(one for one in channel.unit.replace("%", "pct").lower() if one.isalnum())
    return channel.kind.value, "count" if letters in ("", "1") else letters


def made_up(trace: Trace, channel: Channel) -> bool:
    """Whether a channel is a simulation's: of a simulated node, or of a simulated meter beside a real one."""
    meters = {str(one.get("name")) for one in trace.meta.get("meters") or () if one.get("simulated")}
    return trace.simulated or channel.device in meters


def headline(trace: Trace) -> str | None:
    """Return the line that says that a trace is no measurement; None of one that is."""
    if trace.simulated:
        node = trace.meta.get("simulated_node") or {}
        return f"SIMULATED NODE {simulated_name(node)}".rstrip() + ", not a measurement"
    meters = sorted({one.device for one in trace.channels.values() if made_up(trace, one)})
    return f"SIMULATED: {', '.join(meters)}, not a measurement" if meters else None


def utf8(text: str) -> str:
    r"""Return a name as any reader of UTF-8 takes it: bytes that were none stand as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()
