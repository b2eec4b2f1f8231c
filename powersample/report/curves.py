# SPDX-License-Identifier: Apache-2.0
"""Power over time as it is drawn: of each device its power channels as they were read, else its counter's mean power.

A value stands until the next one is read. Repeats of a value are left out, which changes no drawing of that kind, and
what is still too much is reduced without losing an extreme (`powersample.report.reduce`). Across a gap nothing is
drawn, nor across a suspend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import pace
from powersample.analysis.bins import binned_w, grid_of
from powersample.analysis.polls import polls
from powersample.model import TRUTH_PREFIX, Channel, Kind, Trace
from powersample.report.reduce import Points, Reducer
from powersample.report.words import place

MOST_POINTS = 80_000  # of all curves together: some 0.9 MB in a page
MOST_OF_ONE = 20_000
LEAST_OF_ONE = 400
MOST_CURVES = 3  # of a device
LEAST_BIN_S = 0.1  # of a counter: its reads jitter, and what is told of shorter spans is mostly that
UPDATES_A_BIN = 10
CUTS_SHARE = 16  # one in so many points may be spent on edges of windows
HIDES = 1.5  # update periods from one reading to the next, from which an update went unread
DOMAINS = ("wall", "gpu", "module", "package", "dram", "core", "uncore", "psys", "supply")  # the order of panels


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a panel.

    Attributes:
        channel: whose.
        label: what it is called beside its device: "power.instant".
        points: in W.
        mean_ns: over how long each value of a counter is the mean; 0: a power as it was read, each value until the
            next.
        truth: whether it is the exact power of a simulated node.
    """

    channel: str
    label: str
    points: Points
    mean_ns: int = 0
    truth: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn of one device and domain.

    Attributes:
        name: "gpu0", "package-0 dram".
        device: its own identity.
        domain: gpu, package ...
        board: its name in its maker's words; "" where nobody says.
        curves: the channels, the surest first; the truth, where there is one, is the last.
        channels: all its power and energy channels.
    """

    name: str
    device: str
    domain: str
    board: str
    curves: tuple[Curve, ...]
    channels: tuple[str, ...]


def panels(trace: Trace, data: Mapping[str, Any], most_points: int = MOST_POINTS) -> list[Panel]:
    """Return the panels of a trace, in one pass over each channel that is drawn, at bounded memory.

    Args:
        trace: the recording.
        data: its report's JSON object.
        most_points: of all curves together; no curve has fewer than 400.
    """
    groups: dict[tuple[str, str], list[Channel]] = {}
    for channel in trace.channels.values():
        if channel.kind is not Kind.AUX and not channel.name.startswith(TRUTH_PREFIX):
            groups.setdefault((channel.device, channel.domain), []).append(channel)
    chosen = {key: _chosen(channels, data) for key, channels in groups.items()}
    truths = {
        (channel.device, channel.domain): channel
        for channel in trace.channels.values()
        if channel.name.startswith(TRUTH_PREFIX) and (channel.device, channel.domain) in groups
    }
    count = sum(map(len, chosen.values())) + len(truths)
    most = max(LEAST_OF_ONE, min(MOST_OF_ONE, most_points // max(1, count)))
    draw = _Draw(trace, data, most)
    boards = {str(one.get("uuid")): str(one.get("name") or "") for one in data["meta"].get("devices") or ()}
    found = []
    for key in sorted(groups, key=lambda key: (_rank(key[1]), [channel.name for channel in groups[key]])):
        curves = [draw.curve(channel) for channel in chosen[key]]
        if key in truths:
            curves.append(draw.truth(truths[key]))
        name = place({"channel": groups[key][0].name, "domain": key[1]})[0]
        names = tuple(channel.name for channel in groups[key])
        found.append(Panel(name, *key, boards.get(key[0], ""), tuple(curves), names))
    return found


def _rank(domain: str) -> int:
    return DOMAINS.index(domain) if domain in DOMAINS else len(DOMAINS)


def _chosen(channels: Sequence[Channel], data: Mapping[str, Any]) -> list[Channel]:
    """Return what is drawn of a device: powers, the one that stands for it first; counters only where there are none.

    A power that is read once in a while, because others carry its updates, is left out beside them.
    """
    carried = {one["name"] for one in data["channels"] if one["carried_by"]}
    primary = {one["channel"] for window in data["windows"] for one in window["energies"] if one["primary"]}
    powers = [one for one in channels if one.kind is Kind.POWER]
    drawn = [one for one in powers if one.name not in carried] or powers or list(channels)
    return sorted(drawn, key=lambda one: (one.name not in primary, "average" in one.name))[:MOST_CURVES]


class _Draw:
    """The curves of one trace.

    Args:
        trace: it.
        data: its report's JSON object.
        most: points of a curve.
    """

    def __init__(self, trace: Trace, data: Mapping[str, Any], most: int) -> None:
        self._trace, self._most = trace, most
        self._sleeps = [
            (one["start_ns"], one["end_ns"]) for one in data["clock"]["events"] if one["kind"] in ("suspend", "boot")
        ]
        windows = sorted(data["windows"], key=lambda one: -float(one["duration_s"]))[: most // CUTS_SHARE]
        self._cuts = np.array([one[key] for one in windows for key in ("start_ns", "end_ns")], np.int64)
        self._period_s = {one["name"]: one["sensor_period_s"] for one in data["channels"]}

    def curve(self, channel: Channel) -> Curve:
        label = place({"channel": channel.name, "domain": channel.domain})[1] or channel.name
        if channel.kind is Kind.POWER:
            return Curve(channel.name, label, self._power(channel))
        least_s = max(LEAST_BIN_S, UPDATES_A_BIN * (self._period_s.get(channel.name) or 0.0))
        grid_ns = grid_of(self._trace, least_s)
        mean_ns = int(grid_ns[1] - grid_ns[0]) if len(grid_ns) > 1 else 0
        return Curve(channel.name, label, self._counter(channel, grid_ns), mean_ns)

    def truth(self, channel: Channel) -> Curve:
        """Return the slope of a simulated device's exact energy, which is straight between its points."""
        reducer = Reducer(self._most, self._cuts)
        last: tuple[int, float] | None = None
        held_w = math.nan
        for piece in self._trace.chunks(channel.name):
            t_ns, joules = piece.t_ns, piece.value
            if last is not None:
                t_ns, joules = np.append(last[0], t_ns), np.append(last[1], joules)
            moved = np.append(np.diff(t_ns) > 0, True)
            t_ns, joules = t_ns[moved], joules[moved]
            watts = np.diff(joules) / np.diff(t_ns) * 1e9
            reducer.add(t_ns[:-1], watts, np.zeros(len(watts), np.bool_))
            last, held_w = (int(t_ns[-1]), float(joules[-1])), float(watts[-1]) if len(watts) else held_w
        if last is not None and math.isfinite(held_w):  # the last slope holds to the end
            reducer.add(np.array([last[0]], np.int64), np.array([held_w]), np.zeros(1, np.bool_))
        return Curve(channel.name, "exact power", reducer.close(), truth=True)

    def _power(self, channel: Channel) -> Points:
        reducer = Reducer(self._most, self._cuts)
        hides_ns = HIDES * (self._period_s.get(channel.name) or 0.0) * 1e9
        gap_ns = max(pace(self._trace, channel.name).gap_ns, hides_ns)
        woken_ns = np.array([self._woken_ns(channel, *span) for span in self._sleeps], np.int64)
        changes = _Changes()
        for piece in polls(self._trace.chunks(channel.name), counter=False):
            if not len(piece.t_ns):
                continue
            hole = (np.diff(piece.t_ns, prepend=changes.last_ns(piece.t_ns)) > gap_ns) & (piece.omitted == 0)
            broken = hole | np.isin(piece.t_ns, woken_ns)
            t_ns, raw, broken = changes.add(piece.t_ns, piece.raw, broken)
            reducer.add(t_ns, raw * channel.scale, broken)
        t_ns, raw, broken = changes.close()
        reducer.add(t_ns, raw * channel.scale, broken)
        return reducer.close()

    def _woken_ns(self, channel: Channel, start_ns: int, end_ns: int) -> int:
        """Return the first reading after a suspend between two anchors: the one that came latest after another."""
        t_ns = self._trace.series(channel.name, start_ns, end_ns).t_ns
        return int(t_ns[np.diff(t_ns).argmax() + 1]) if len(t_ns) > 1 else end_ns

    def _counter(self, channel: Channel, grid_ns: NDArray[np.int64]) -> Points:
        watts = binned_w(self._trace, channel.name, grid_ns)
        known = np.isfinite(watts)
        ends = np.flatnonzero(known & ~np.append(known[1:], False))  # their values hold to the end of their bin
        asleep = np.zeros(len(watts), np.bool_)
        for start_ns, end_ns in self._sleeps:
            at = int(np.searchsorted(grid_ns, self._woken_ns(channel, start_ns, end_ns), "right")) - 1
            asleep[min(max(at, 0), len(watts) - 1)] = True
        broken = known & (~np.append(True, known[:-1]) | asleep)
        order = np.argsort(np.concatenate((np.flatnonzero(known), ends + 0.5)))
        reducer = Reducer(self._most, self._cuts)
        reducer.add(
            np.concatenate((grid_ns[:-1][known], grid_ns[ends + 1] - 1))[order],
            np.concatenate((watts[known], watts[ends]))[order],
            np.concatenate((broken[known], np.zeros(len(ends), np.bool_)))[order],
        )
        return reducer.close()


Piece = tuple[NDArray[np.int64], NDArray[Any], NDArray[np.bool_]]


class _Changes:
    """Leaves out repeats of a value, but for the last before a gap and the last of all."""

    def __init__(self) -> None:
        self._held: Piece | None = None  # the last reading: what follows decides about it
        self._changed = True

    def last_ns(self, t_ns: NDArray[np.int64]) -> int:
        """Return when the reading before the next ones was; their own first where there is none."""
        return int(t_ns[0]) if self._held is None else int(self._held[0][0])

    def add(self, t_ns: NDArray[np.int64], raw: NDArray[Any], broken: NDArray[np.bool_]) -> Piece:
        """Take the next readings, and return those of the readings so far that are points."""
        if self._held is not None:
            t_ns, raw, broken = (np.concatenate(pair) for pair in zip(self._held, (t_ns, raw, broken), strict=True))
        keep = broken.copy()
        keep[0] = self._changed
        keep[1:] |= np.diff(raw) != 0
        keep[:-1] |= broken[1:]
        self._held, self._changed = (t_ns[-1:], raw[-1:], broken[-1:]), bool(keep[-1])
        keep[-1] = False
        return t_ns[keep], raw[keep], broken[keep]

    def close(self) -> Piece:
        """Return the last reading, if there was one."""
        return self._held or (np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))


def leaves(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the windows that hold no other, by their begin: what is shaded, for the others hold them."""
    windows = sorted(data["windows"], key=lambda one: (one["start_ns"], -one["end_ns"]))
    pairs = zip_longest(windows, windows[1:])
    return [
        one
        for one, following in pairs
        if following is None or not following["start_ns"] < one["end_ns"] >= following["end_ns"]
    ]


def spans(panel: Panel, data: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return the spans in which a panel's channels were not read for so long that an update went by: begin, end, ns.

    A counter's spans that are shorter than one of its means are left out: its gain over them is known and drawn.
    """
    drawn = {curve.channel: curve.mean_ns for curve in panel.curves}
    found: dict[tuple[int, int], None] = {}
    for channel in data["channels"]:
        if channel["name"] in drawn and not channel["carried_by"]:
            hides_ns = HIDES * (channel["sensor_period_s"] or 0.0) * 1e9
            holes = [one for one in channel["gaps"] if one["end_ns"] - one["start_ns"] > hides_ns]
            ends = [(one["start_ns"], one["end_ns"]) for one in [*channel["dropouts"], *holes]]
            found |= dict.fromkeys(one for one in ends if one[1] - one[0] >= drawn[channel["name"]])
    return list(found)
