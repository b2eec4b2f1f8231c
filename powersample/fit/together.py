# SPDX-License-Identifier: Apache-2.0
"""Two aligned records as one trace: stamps as they were written, and the clock fit by which the one is read.

The quicker record's clock is the trace's. What another clock stamped is placed as it is read (`Trace.chunks`); windows
and gaps of that record, which are no readings, are moved here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, count
from typing import Any

import numpy as np

from powersample.analysis.averaging import METHODS
from powersample.analysis.meter import info_of, is_meter
from powersample.errors import InvalidArgument
from powersample.fit.align import Aligned
from powersample.model import TRUTH_PREFIX, Channel, ClockFit, Extent, Series, Trace, Window
from powersample.sensors import model_of


def surer(trace: Trace, fit: ClockFit) -> ClockFit | None:
    """Return the accepted fit that a recording has of a channel's stamps, where it is surer than another; else None."""
    stored = trace.clock_fit(fit.channel)
    if stored is None or not stored.accepted or stored.own_clock or stored.lag_se_s is None:
        return None
    return None if fit.accepted and fit.lag_se_s is not None and fit.lag_se_s <= stored.lag_se_s else stored


def with_fit(trace: Trace, fit: ClockFit) -> Trace:
    """Return a recording with the clock fit of a meter of its own.

    Args:
        trace: the recording.
        fit: of one of its channels; it holds for all channels of that meter.

    Raises:
        InvalidArgument: the channel is no meter's: it bears this clock's stamps already; or it is read by the fit of
            another clock: a fit of stamps that were placed says nothing of those that were written.
    """
    channel = trace.channel(fit.channel)
    if not is_meter(trace, channel):
        raise InvalidArgument(
            f"{fit.channel} and {fit.reference} are of one record and on one clock: there is nothing to store",
            "Only a meter's clock is found out.",
        )
    stored = trace.clock_fit(channel.name)
    if stored is not None and stored.own_clock and stored.accepted:
        raise InvalidArgument(
            f"{channel.name} is read by a fit on {stored.reference} already: what was found now is what that left",
            "Align the records anew that this one was made of.",
        )
    info = info_of(trace, channel.name)
    names = [channel.name] if info is None else [one.name for one in info.channels if one.name in trace.channels]
    fits = {**(trace.meta.get("clock_fits") or {}), **_fits(fit, {name: name for name in names})}
    sync = dict(trace.meta.get("sync") or {})
    told = {name: truth for name, truth in (sync.get("truth") or {}).items() if name not in names}
    more = {"sync": sync | {"truth": told}} if sync.get("truth") else {}  # how far off it was is told of another fit
    return trace.as_stamped().with_meta(clock_fits=fits, **more)


def together(quick: Trace, slow: Trace, aligned: Aligned, label: str) -> Trace:
    """Return two aligned records as one trace.

    Args:
        quick: the record on whose clock the other was aligned.
        slow: the other.
        aligned: how.
        label: of the slow one, for names that both have: "LABEL.gpu0.energy", the window "LABEL: run"; numbered where
            a channel bears it already, "LABEL2".

    Raises:
        InvalidArgument: the slow record was put together so itself.
    """
    if any(ClockFit.from_json(one).own_clock for one in (slow.meta.get("clock_fits") or {}).values()):
        raise InvalidArgument(f"{label} holds channels of another clock already: align the records that it was made of")
    label = _free(label, quick, slow)
    moved = {
        name: _renamed(channel, quick, label)
        for name, channel in slow.channels.items()
        if not name.startswith(TRUTH_PREFIX)
    }
    fit = _of_the_clock(slow, aligned)
    backend = _Both(quick, slow, {channel.name: slow.channels[name] for name, channel in moved.items()})
    channels = (*quick.channels.values(), *moved.values())
    taken = {one.name for one in quick.windows}
    windows = [*quick.windows]
    for one in slow.windows:
        windows.append(_placed(replace(one, name=f"{label}: {one.name}") if one.name in taken else one, fit))
    lanes = (*quick.lanes, *(replace(one, name=_lane(one.name, quick, label)) for one in slow.lanes))
    names = {name: channel.name for name, channel in moved.items()}
    meta = {**quick.meta, **_merged(quick, slow, names, fit)}
    meta["clock_fits"] = {**(quick.meta.get("clock_fits") or {}), **_fits(fit, names)}
    note = f"{', '.join(names.values())}: of {label}, on this record's clock by the fit of {fit.channel}"
    meta["notes"] = [*(quick.meta.get("notes") or ()), *(slow.meta.get("notes") or ()), note]
    windows.sort(key=lambda one: one.start_ns)
    return Trace(backend, channels, windows=windows, anchors=quick.anchors, lanes=lanes, meta=meta)


class _Both:
    """A `Backend`: the quick record's readings, and the slow one's as they were stamped."""

    def __init__(self, quick: Trace, slow: Trace, theirs: Mapping[str, Channel]) -> None:
        self._quick, self._slow, self._theirs = quick.as_stamped(), slow.as_stamped(), theirs

    def chunks(self, channel: Channel, start_ns: int | None, end_ns: int | None) -> Iterator[Series]:
        """See `Backend`."""
        theirs = self._theirs.get(channel.name)
        if theirs is None:
            yield from self._quick.chunks(channel.name, start_ns, end_ns)
            return
        for series in self._slow.chunks(theirs.name, start_ns, end_ns):
            yield replace(series, channel=channel)

    def extent(self, channel: Channel) -> Extent | None:
        """See `Backend`."""
        theirs = self._theirs.get(channel.name)
        return self._quick.extent(channel.name) if theirs is None else self._slow.extent(theirs.name)


def _of_the_clock(slow: Trace, aligned: Aligned) -> ClockFit:
    """Return the fit without what the sensor takes, which energies take off by themselves."""
    model = model_of(slow, slow.channel(aligned.channel))
    if model is None or model.response not in METHODS or not model.delay_s:
        return replace(aligned.fit, own_clock=True)
    fit, delay_s = aligned.fit, model.delay_s
    knots = tuple(replace(knot, lag_s=knot.lag_s - delay_s) for knot in fit.knots)
    return replace(fit, own_clock=True, knots=knots, lag_s=None if fit.lag_s is None else fit.lag_s - delay_s)


def _fits(fit: ClockFit, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a fit as metadata for every channel of its clock; the residuals stay with the one that it was made of."""
    told = {}
    for name, here in names.items():
        mine = replace(fit, channel=here)
        told[here] = (mine if name == fit.channel else replace(mine, residual_ns=(), residual_w=())).as_json()
    return told


def _free(label: str, *traces: Trace) -> str:
    """Return a label that begins no channel's or lane's name yet."""
    names = [one for trace in traces for one in (*trace.channels, *(lane.name for lane in trace.lanes))]
    numbered = chain([label], (f"{label}{number}" for number in count(2)))
    return next(one for one in numbered if not any(name.startswith(f"{one}.") for name in names))


def _renamed(channel: Channel, quick: Trace, label: str) -> Channel:
    lane = _lane(channel.lane, quick, label)
    if channel.name not in quick.channels:
        return replace(channel, lane=lane)
    return replace(channel, name=f"{label}.{channel.name}", device=f"{label}.{channel.device}", lane=lane)


def _lane(name: str, quick: Trace, label: str) -> str:
    return f"{label}.{name}" if name and any(one.name == name for one in quick.lanes) else name


def _placed(window: Window, fit: ClockFit) -> Window:
    start_ns, end_ns = fit.to_host_ns(np.array([window.start_ns, window.end_ns], np.int64)).tolist()
    return replace(window, start_ns=start_ns, end_ns=end_ns)


def _merged(quick: Trace, slow: Trace, names: Mapping[str, str], fit: ClockFit) -> dict[str, Any]:
    """Return what the metadata of both say together; the rest is the quick one's."""
    models = dict(quick.meta.get("sensor_models") or {})
    for name, here in names.items():
        model = model_of(slow, slow.channel(name))
        if model is not None:
            models[here] = model.as_json()
    known = {one.get("uuid") for one in quick.meta.get("devices") or ()}
    devices = [*(quick.meta.get("devices") or ())]
    devices += [one for one in slow.meta.get("devices") or () if one.get("uuid") not in known]
    meters = [*(quick.meta.get("meters") or ())]
    for one in slow.meta.get("meters") or ():
        channels = [each | {"name": names.get(each["name"], each["name"])} for each in one["channels"]]
        meters.append(one | {"channels": channels, "gaps": [_gap(gap, fit) for gap in one.get("gaps") or ()]})
    found: dict[str, Any] = {"simulated": quick.simulated or slow.simulated}
    return found | {
        key: value for key, value in (("sensor_models", models), ("devices", devices), ("meters", meters)) if value
    }


def _gap(gap: Mapping[str, Any], fit: ClockFit) -> dict[str, Any]:
    """Return a gap on the trace's clock: its ends are stamps of readings, and are placed as those are."""
    at = {key: int(fit.to_host_ns(np.array([gap[key]], np.int64))[0]) for key in ("start_ns", "end_ns") if gap[key]}
    return {**gap, **at}
