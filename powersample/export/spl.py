# SPDX-License-Identifier: Apache-2.0
"""A power channel as PTDaemon would have logged it, for tools that read `spl.txt`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.export.selection import clock_of, realtime_ns
from powersample.formats import spl
from powersample.model import TRUTH_PREFIX, Channel, Kind, Trace, Window

SIMULATED = "SIMULATED"  # in the mark, the only free text that the format has


def spl_lines(
    trace: Trace, channel: str | None = None, *, zone_s: int | None = None, mark: str = "powersample"
) -> Iterator[str]:
    """Yield the lines of a `spl.txt`, without their ends, at bounded memory.

    Args:
        trace: the recording.
        channel: a POWER channel; None takes the wall's, if there is one only.
        zone_s: seconds east of UTC that stamps are local to; None takes this machine's zone at the recording's begin,
            daylight saving included. One zone holds for the whole file. Ignored for logs whose clock has no zone.
        mark: the label of samples outside every window; inside one, its name. Of a simulation it begins with SIMULATED.

    Raises:
        InvalidArgument: another kind of channel, which one is not certain, or a record without the time of day.
        DeviceNotFound: no such channel.
    """
    chosen = _chosen(trace, channel)
    clock = clock_of(trace)
    if trace.start_ns is None or clock == "unanchored":
        raise InvalidArgument("this record does not know the time of day, which every line of a spl.txt bears")
    if clock == "start":
        raise InvalidArgument("this record counts from its start; a spl.txt bears the time of day")
    if clock == "local":
        zone_s = 0
    elif zone_s is None:
        zone_s = _own_zone_s(int(_of_day_ns(trace, np.array([trace.start_ns], np.int64))[0]))
    label = f"{SIMULATED} {mark}" if trace.simulated else mark
    return _lines(trace, chosen, zone_s * 10**9, label)


def _lines(trace: Trace, channel: Channel, zone_ns: int, label: str) -> Iterator[str]:
    windows = sorted(trace.windows, key=lambda one: one.end_ns - one.start_ns)  # the innermost first
    for piece in trace.chunks(channel.name):
        t_ns = piece.t_ns
        marks = [_mark(windows, at_ns, label, simulated=trace.simulated) for at_ns in t_ns.tolist()]
        yield from spl.text(_of_day_ns(trace, t_ns) + zone_ns, piece.value, marks=marks)


def _mark(windows: list[Window], at_ns: int, label: str, *, simulated: bool) -> str:
    inside = next((one.name for one in windows if one.start_ns <= at_ns < one.end_ns), None)
    if inside is None:
        return label
    return f"{SIMULATED} {inside}" if simulated else inside


def _chosen(trace: Trace, name: str | None) -> Channel:
    if name is not None:
        found = trace.channel(name)
        if found.kind is not Kind.POWER:
            raise InvalidArgument(f"{name} is in {found.unit}: a spl.txt holds W")
        return found
    walls = [
        one
        for one in trace.channels.values()
        if one.kind is Kind.POWER and one.domain == "wall" and not one.name.startswith(TRUTH_PREFIX)
    ]
    totals = [one for one in walls if one.name.endswith(".power")] or walls
    if len(totals) != 1:
        powers = ", ".join(one.name for one in trace.channels.values() if one.kind is Kind.POWER) or "none"
        raise InvalidArgument(f"which power is meant is not certain: {len(totals)} of the wall; there are {powers}")
    return totals[0]


def _of_day_ns(trace: Trace, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    found = realtime_ns(trace, t_ns)
    assert found is not None  # `spl_lines` refused the others
    return found


def _own_zone_s(at_ns: int) -> int:
    from datetime import datetime

    offset = datetime.fromtimestamp(at_ns / 1e9).astimezone().utcoffset()
    return 0 if offset is None else round(offset.total_seconds())
