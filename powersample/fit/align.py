# SPDX-License-Identifier: Apache-2.0
"""Two records of one machine on one clock, by what both saw of its load.

The quicker record is the reference, and the other is described as means of it over each value's own window: a sensor's
from the behaviour table, at its updates and not at the polls that repeat them; a meter's cycle. A lag near a whole
number of quarters of an hour is a time zone, and the rest is what is left between the two clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.fit.forward import Cycles, Floats, Forward
from powersample.fit.lag import Lag, Search, find_lag
from powersample.fit.period import updates
from powersample.fit.reference import Reference
from powersample.fit.sync import Synced, default_search, joined
from powersample.model import TRUTH_PREFIX, Channel, ClockFit, Kind, Response, SensorModel, Trace
from powersample.sensors import model_of

ZONE_NS = 900_000_000_000
ZONES = 56  # fourteen hours each way
LEAST_OVERLAP = 0.5  # of the shorter record
ODD_ZONE_NS = 60_000_000_000  # further from a quarter of an hour, it is no zone
SAME_KIND = (0.5, 2.0)  # gains between two records of one thing
COMPONENTS = (0.8, 1.4)  # of wall power over that of boards and packages: a supply's losses, fans
DOMAINS = ("gpu", "package", "dram")
PREFERRED = (".power.instant", ".power.usage", ".power.average", ".energy")  # of a device's channels
GRID_NS = 5_000_000
HOLE = 0.5  # of a value's span, between it and the one before
MOST_GRID = 4_000_000
WINDOW_UNSURE = 0.15  # of a table's window, one standard deviation: boards of a kind differ by 30 %
STRETCH_S = 600.0  # of a long record, each with a lag of its own
MOST_STRETCHES = 12


@dataclass(frozen=True, slots=True)
class Aligned:
    """What was found.

    Attributes:
        synced: the fit of the slower record's stamps on the quicker one's clock, zone included.
        channel: of the slower one.
        reference: of the quicker one.
        swapped: the first record is the slower one.
        zone_s: how many seconds of the lag are a time zone; 0 for none.
        rest_s: the lag without them; None where there is none.
        delay_s: how much of that the slower one's sensor is known to take.
        r_before: correlation of both as they are stamped, zone taken out; None where they do not overlap.
        r_after: as they are aligned.
    """

    synced: Synced
    channel: str
    reference: str
    swapped: bool
    zone_s: float
    rest_s: float | None
    delay_s: float
    r_before: float | None
    r_after: float | None

    @property
    def fit(self) -> ClockFit:
        """The clock fit."""
        return self.synced.fit


@dataclass(frozen=True, slots=True)
class _Record:
    trace: Trace
    channel: Channel
    model: SensorModel | None
    cycles: Cycles


def align(
    first: Trace, second: Trace, names: tuple[str, str], *, shift_s: float = 0.0, search_s: float | None = None
) -> Aligned:
    """Return how two power records lie on each other.

    Args:
        first: a recording.
        second: another, or the same.
        names: a channel of each, POWER or ENERGY.
        shift_s: by how much the second's stamps are known to be ahead; lags are searched around it.
        search_s: how far; None: wherever at least half of the shorter record is covered by the other.

    Raises:
        DeviceNotFound: there is no such channel.
        InvalidArgument: a channel is no power, or holds too little.
    """
    one, other = (_record(trace, name) for trace, name in zip((first, second), names, strict=True))
    swapped = one.cycles.cycle_ns > other.cycles.cycle_ns
    quick, slow = (other, one) if swapped else (one, other)
    around = (-1 if swapped else 1) * shift_s * 1e9
    reference = _reference(quick)
    search = _search(slow, reference, around, search_s)
    return _on(slow, reference, search, zoned=_knows_the_day(first) and _knows_the_day(second), swapped=swapped)


def align_meter(trace: Trace, name: str, *, search_s: float | None = None) -> Aligned:
    """Return how a meter's stamps lie in its own recording, by the load that the machine's own sensors saw.

    For a recording without bursts. The reference is the sum of the boards' and packages' power, each value where its
    sensor really looked; how well that is known, a quarter of the slowest one's update period, is in the error.

    Args:
        trace: the recording; all of it is read.
        name: the meter's channel.
        search_s: as `align`'s; None: a second and five cycles.

    Raises:
        DeviceNotFound: there is no such channel.
        InvalidArgument: it is no power, or there is no sensor to go by.
    """
    slow = _record(trace, name)
    reference, unsure_ns = _components(trace)
    reach = search_s * 1e9 if search_s is not None else default_search(slow.cycles.cycle_ns).high_ns
    search = Search(-reach, reach, unsure_ns=unsure_ns, gains=COMPONENTS)
    return _on(slow, reference, search, zoned=False, swapped=False, own_clock=False)


def _components(trace: Trace) -> tuple[Reference, float]:
    """Return the sum of all boards' and packages' power on an even grid, and how far off in time it may be, ns."""
    chosen: dict[tuple[str, str], tuple[int, str]] = {}
    for channel in trace.channels.values():
        if channel.domain not in DOMAINS or channel.name.startswith(TRUTH_PREFIX) or trace.extent(channel.name) is None:
            continue
        rank = next((i for i, end in enumerate(PREFERRED) if channel.name.endswith(end)), None)
        if rank is not None:
            key = (channel.device, channel.domain)
            chosen[key] = min(chosen.get(key, (rank, channel.name)), (rank, channel.name))
    if not chosen:
        raise InvalidArgument("there is no power of a board or a package in this record to align by")
    records = [_record(trace, name) for _, name in chosen.values()]
    parts = [_reference(record) for record in records]
    begin, end = max(int(one.t_ns[0]) for one in parts), min(int(one.t_ns[-1]) for one in parts)
    step_ns = max(GRID_NS, (end - begin) // MOST_GRID)
    if end - begin < 2 * step_ns:
        raise InvalidArgument("the sensors' records do not overlap: there is nothing to align by")
    grid = np.arange(begin, end, step_ns, dtype=np.int64)
    total = np.zeros(len(grid) - 1)
    for one in parts:
        ends = (grid[1:] - one.t_ns[0]).astype(np.float64)
        total += one.lagged(0.0).mean_w(ends, float(step_ns))
    slowest_s = max((record.model.period_s if record.model is not None else 0.0) for record in records)
    names = sorted(record.channel.name for record in records)
    label = names[0] if len(names) == 1 else f"the sum of {len(names)} sensors ({', '.join(names[:3])} ...)"
    return Reference(grid, total, label, own_clock=True), slowest_s * 1e9 / 4


def _on(
    slow: _Record, reference: Reference, search: Search, *, zoned: bool, swapped: bool, own_clock: bool = True
) -> Aligned:
    found = find_lag(slow.cycles, reference, search)
    stretches = (
        [found] if isinstance(found, str) or found.reasons else _stretches(slow.cycles, reference, found, search)
    )
    fitted = isinstance(found, Lag) and found.tau_fitted
    fit = joined(slow.cycles, [reference], stretches, own_clock, fitted)
    synced = Synced(fit, tuple(stretches), (reference,), slow.cycles)
    zone_ns = _zone_ns(fit) if zoned else 0
    delay_s = slow.model.delay_s if slow.model is not None else 0.0
    return Aligned(
        synced,
        slow.channel.name,
        reference.name,
        swapped,
        zone_ns * 1e-9,
        None if fit.lag_s is None else fit.lag_s - zone_ns * 1e-9,
        delay_s,
        _correlation(slow.cycles, reference, float(zone_ns), 0.0),
        None if isinstance(found, str) or not fit.accepted else found.r2**0.5,
    )


def _record(trace: Trace, name: str) -> _Record:
    channel = trace.channel(name)
    if channel.kind is Kind.AUX:
        raise InvalidArgument(f"{name} is in {channel.unit}: two records are aligned by power, or by energy")
    model = model_of(trace, channel)
    series = trace.series(name)
    series = series.take(series.good)
    if len(series) < 2:
        raise InvalidArgument(f"{name} holds {len(series)} readings: too few to align")
    if channel.kind is Kind.ENERGY:
        moved = np.flatnonzero(np.diff(series.value) > 0)
        at, joules = series.t_ns[moved + 1], series.value[moved + 1]
        span_ns = np.diff(at).astype(np.float64)
        return _Record(trace, channel, model, Cycles(at[1:], span_ns, np.diff(joules) / (span_ns * 1e-9), name))
    if channel.span != "none":
        return _Record(trace, channel, model, Cycles.of_series(series))
    if model is None or model.response is Response.POINT:
        return _Record(trace, channel, model, Cycles.of_series(series).gapless())
    t_ns, value = updates(series).every()
    stamps = int(series.t0_ns[0]) + np.rint(t_ns).astype(np.int64)
    window_ns = np.full(len(stamps), model.window_s * 1e9)
    return _Record(trace, channel, model, Cycles(stamps, window_ns, value, name))


def _reference(record: _Record) -> Reference:
    """Return the quicker record as steps of power, each where the sensor really looked."""
    cycles, model = record.cycles, record.model
    averaging = model is not None and model.response is not Response.POINT
    if record.channel.kind is Kind.POWER and record.channel.span == "none" and not averaging:
        return Reference.of_channel(record.trace, record.channel.name)
    end_ns: NDArray[np.int64] = cycles.stamp_ns
    if model is not None and record.channel.kind is Kind.POWER and record.channel.span == "none":
        # The middle of what a value averages is the middle of the step: windows that leave gaps say nothing of them.
        # A first-order lag is late by its time constant, on the mean.
        middle_ns = round((model.delay_s + model.tau_s + model.window_s / 2 - model.period_s / 2) * 1e9)
        end_ns = end_ns - middle_ns
        length_ns = np.full(len(end_ns), round(model.period_s * 1e9), np.int64)
    else:
        length_ns = np.rint(cycles.span_ns).astype(np.int64)
    t_ns, power_w = _steps(end_ns, length_ns, cycles.value)
    return Reference(t_ns, power_w, record.channel.name)


def _steps(end_ns: NDArray[np.int64], length_ns: NDArray[np.int64], value: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return values as steps; each holds until the next one begins: updates that repeat it were not seen."""
    begin_ns = end_ns - length_ns
    hole = np.flatnonzero(begin_ns[1:] - end_ns[:-1] > HOLE * length_ns[1:]) + 1
    t_ns = np.concatenate((begin_ns[:1], np.insert(end_ns, hole, begin_ns[hole])))
    power_w = np.insert(value, hole, value[hole - 1])
    kept = np.concatenate(([True], np.diff(t_ns) > 0))
    return t_ns[kept], power_w[kept[1:]]


def _search(slow: _Record, reference: Reference, around_ns: float, search_s: float | None) -> Search:
    stamps = slow.cycles.stamp_ns
    begin, end = int(reference.t_ns[0]), int(reference.t_ns[-1])
    if search_s is None:
        least = LEAST_OVERLAP * min(end - begin, int(stamps[-1] - stamps[0]))
        low, high = float(stamps[0] - end) + least, float(stamps[-1] - begin) - least
    else:
        low, high = around_ns - search_s * 1e9, around_ns + search_s * 1e9
    tau_ns = slow.model.tau_s * 1e9 if slow.model is not None else 0.0
    window_ns = slow.model.window_s * 1e9 if slow.model is not None and slow.channel.span == "none" else 0.0
    same = slow.channel.domain == "wall"
    return Search(
        low,
        high,
        tau_ns=tau_ns,
        tau_se_ns=float(np.hypot(tau_ns / 2, WINDOW_UNSURE * window_ns / 2)),
        gains=SAME_KIND if not same else (0.0, float("inf")),
        fit_tau=None if same else False,
    )


def _stretches(cycles: Cycles, reference: Reference, whole: Lag, search: Search) -> list[Lag | str]:
    """Return the lag of each stretch of a long record that tells one; of a short one the whole's."""
    first, last = int(whole.stamp_ns[0]), int(whole.stamp_ns[-1])
    count = min(MOST_STRETCHES, int((last - first) * 1e-9 / STRETCH_S))
    if count < 2:
        return [whole]
    reach = 5 * cycles.cycle_ns + 1e8
    near = replace(search, low_ns=whole.lag_ns - reach, high_ns=whole.lag_ns + reach)
    if whole.tau_fitted:
        near = replace(near, tau_ns=whole.tau_ns, tau_se_ns=whole.tau_se_ns, fit_tau=False)
    edges = np.linspace(first, last, count + 1).astype(np.int64)
    parts = [find_lag(cycles.between(a, b), reference, near) for a, b in pairwise(edges)]
    told: list[Lag | str] = [one for one in parts if isinstance(one, Lag) and not one.reasons]
    return told if len(told) > 1 else [whole]


def _zone_ns(fit: ClockFit) -> int:
    """Return the quarter of an hour that a lag is near to; 0 for none."""
    if fit.lag_s is None:
        return 0
    quarters = round(fit.lag_s * 1e9 / ZONE_NS)
    off_ns = abs(fit.lag_s * 1e9 - quarters * ZONE_NS)
    return quarters * ZONE_NS if 0 < abs(quarters) <= ZONES and off_ns <= ODD_ZONE_NS else 0


def _knows_the_day(trace: Trace) -> bool:
    return trace.meta.get("clock") in ("utc", "local")


def _correlation(cycles: Cycles, reference: Reference, lag_ns: float, tau_ns: float) -> float | None:
    """Return r of values and description at a lag; None where they hardly overlap."""
    forward = Forward(cycles, reference)
    kept = forward.inside(lag_ns)
    some: NDArray[np.bool_] = np.ones(len(cycles.value), bool) if kept is None else kept
    if some.sum() < 3:
        return None
    model, value = forward.model(lag_ns, tau_ns)[some], cycles.value[some]
    spread = float(np.std(model) * np.std(value))
    return float(np.mean((model - model.mean()) * (value - value.mean()))) / spread if spread > 0 else None
