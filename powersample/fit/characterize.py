# SPDX-License-Identifier: Apache-2.0
"""What one power channel of a trace says about its sensor, each figure with its error or with why it cannot be told.

The method follows arXiv 2312.02741: the update period from the spacing of changes, the window from a square wave at
fractions of it, whose aliased image depends on W, compared with a meter or with the wave itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.fit.figure import Figure
from powersample.fit.period import Updates, updates
from powersample.fit.reference import Reference
from powersample.fit.response import Fit, ResponseFit
from powersample.model import Kind, Response, SensorModel, Series, Trace

MS = 1e6
FIGURES = (  # name, unit
    ("period_s", "s"), ("phase_s", "s"), ("jitter_s", "s"), ("repeats", "1"), ("quantum", "W"),
    ("call_median_s", "s"), ("call_p99_s", "s"),
    ("window_s", "s"), ("tau_s", "s"), ("delay_s", "s"), ("rise_s", "s"), ("gain", "1"), ("offset_w", "W"),
)  # fmt: skip
OF_RESPONSE = ("window_s", "tau_s", "delay_s", "rise_s", "gain", "offset_w")
OF_MODEL = ("period_s", "window_s", "tau_s", "delay_s", "gain", "offset_w")  # what a SensorModel takes over
LEAST_EDGES = 16
LEAST_UPDATES = 40
LEAST_SWING = 0.05  # of the reference's mean: the load hardly moves below
LEAST_R = 0.9  # below, the values do not follow this load
KNOWN_TO = 0.3  # of W: half the 95 % range
QUANTUM_DIFFERENCES = 6  # from which their divisor is the step but for one chance in 2^6
EARLIEST_NS = -100 * MS  # clocks of a log and its meter may differ so much
LATEST_NS = 150 * MS  # beyond a period
BEFORE_NS = 1_000 * MS  # of the reference before the first value that is compared; it rests before it begins
WHOLE = 0.15  # of T: how far W may lie off it and the sensor still look all the time
LONG = 2.5  # periods in W, from which it is an average
NO_WINDOW = 0.25  # of T: a range of W that begins at nothing and ends below is no window
BLUR = 1.5  # poll spacings


@dataclass(frozen=True, slots=True)
class Characterization:
    """What was found of one sensor.

    Attributes:
        channel: whose values were looked at.
        figures: by the names of `FIGURES`.
        response: how a value comes from the power; None when it could not be told, and `reason` says why.
        reason: why the response is unknown, or "".
        updates: changes seen.
        polls: good ones.
        r: correlation of the values with the best description by the load; None without one.
        reference: what the load was known from; "" without.
        calibrated: whether gain and offset are the sensor's own.
        own_clock: whether the delay is the sensor's own, and no difference of clocks.
        simulated: no measurement.
        origin: for a table: when, on what.
    """

    channel: str
    figures: Mapping[str, Figure]
    response: Response | None
    reason: str
    updates: int
    polls: int
    r: float | None
    reference: str
    calibrated: bool
    own_clock: bool
    simulated: bool
    origin: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", MappingProxyType(dict(self.figures)))

    def found(self) -> dict[str, Any]:
        """Return what goes into a `SensorModel`: its fields that were measured, as plain values."""
        told: dict[str, Any] = {name: one.value for name in OF_MODEL if (one := self.figures[name]).value is not None}
        foreign = () if self.calibrated else ("gain", "offset_w")
        for name in (*foreign, *(() if self.own_clock else ("delay_s",))):
            told.pop(name, None)
        for name, spread in (("gain", "gain_sd"), ("offset_w", "offset_sd_w")):
            if name in told:
                told[spread] = self.figures[name].se
        return told if self.response is None else {"response": str(self.response), **told}

    def model(self, prior: SensorModel) -> SensorModel:
        """Return the prior with what was measured in its place."""
        return prior.measured(self.found(), self.origin)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "channel": self.channel,
            "figures": {name: {"unit": unit, **self.figures[name].as_json()} for name, unit in FIGURES},
            "response": None if self.response is None else str(self.response),
            "reason": self.reason or None,
            "updates": self.updates,
            "polls": self.polls,
            "r": self.r,
            "reference": self.reference or None,
            "calibrated": self.calibrated,
            "own_clock": self.own_clock,
            "simulated": self.simulated,
            "origin": self.origin,
        }


def characterize(trace: Trace, name: str, reference: Reference | None = None, *, on: str = "") -> Characterization:
    """Return what a power channel's readings tell about its sensor.

    Args:
        trace: the recording.
        name: of the channel.
        reference: the load that it watched; without one, window, lag, gain and offset stay unknown.
        on: the day, for the figures' origin: "2026-11-25".

    Raises:
        DeviceNotFound: there is no such channel.
        InvalidArgument: it is no power channel.
    """
    channel = trace.channel(name)
    if channel.kind is not Kind.POWER:
        raise InvalidArgument(f"channel {name} is {channel.kind}: only power sensors can be characterized")
    series = trace.series(name)
    seen = updates(series)
    figures = {
        "period_s": seen.period_s,
        "phase_s": seen.phase_s,
        "jitter_s": seen.jitter_s,
        "repeats": seen.repeats,
        "quantum": _quantum(series),
        **_latency(series),
    }
    best, found = _response(series, seen, reference)
    response = None if isinstance(best, str) else _class_of(found, seen)
    driver = trace.meta.get("driver")
    where = f"{channel.device}, driver {driver or 'unknown'}" + (", simulated" if trace.simulated else "")
    against = "" if reference is None or isinstance(best, str) else f", against {reference.name}"
    return Characterization(
        channel=name,
        figures=figures | found,
        response=response,
        reason=best if isinstance(best, str) else "",
        updates=len(seen.t_ns),
        polls=int(series.good.sum()),
        r=None if isinstance(best, str) else best.r,
        reference="" if reference is None else reference.name,
        calibrated=reference is not None and reference.calibrated,
        own_clock=reference is not None and reference.own_clock,
        simulated=trace.simulated,
        origin=f"characterized {on + ' ' if on else ''}on {where}{against}",
    )


def _quantum(series: Series) -> Figure:
    """Return the step between values: the largest number that divides all differences."""
    raw = series.raw[series.good]
    scale = series.channel.scale
    if raw.dtype.kind == "f":  # a log's decimals
        raw, scale = np.rint(raw * scale * 1e6).astype(np.int64), 1e-6
    differences = np.diff(np.unique(raw))
    if len(differences) < QUANTUM_DIFFERENCES:
        return Figure.unknown("too few different values")
    return Figure(int(np.gcd.reduce(differences)) * scale, 0.0)


def _latency(series: Series) -> dict[str, Figure]:
    """Return median and 99th percentile of the calls' duration."""
    spent = (series.t1_ns - series.t0_ns)[series.good] * 1e-9
    if series.channel.stamp != "bracket" or not len(spent) or not spent.any():
        reason = "this record does not hold how long its calls took"
        return {"call_median_s": Figure.unknown(reason), "call_p99_s": Figure.unknown(reason)}
    result = {}
    for key, share in (("call_median_s", 0.5), ("call_p99_s", 0.99)):
        margin = 1.96 * np.sqrt(
            share * (1 - share) / len(spent)
        )  # of the rank: no shape of the distribution is assumed
        low, value, high = np.quantile(spent, [max(0.0, share - margin), share, min(1.0, share + margin)])
        result[key] = Figure(float(value), low=float(low), high=float(high))
    return result


def _response(series: Series, seen: Updates, reference: Reference | None) -> tuple[Fit | str, dict[str, Figure]]:
    """Return the fit, or why there is none, and the figures of the response."""

    def refused(reason: str) -> tuple[str, dict[str, Figure]]:
        return reason, {name: Figure.unknown(reason) for name in OF_RESPONSE}

    reason = _unfit(seen, reference)
    if reference is None or reason:
        return refused(reason)
    t_ns, value = seen.every()
    t_ns = t_ns + float(int(series.t0_ns[series.good][0]) - int(reference.t_ns[0]))
    reach = float(reference.t_ns[-1] - reference.t_ns[0])
    known = (t_ns > BEFORE_NS) & (t_ns < reach)
    if known.sum() < LEAST_UPDATES:
        return refused(f"{int(known.sum())} updates lie within the reference; it takes {LEAST_UPDATES}")
    latest_ns = (seen.period_s.value or 0.0) * 1e9 + LATEST_NS
    fit = ResponseFit(t_ns[known], value[known], reference, (EARLIEST_NS, latest_ns))
    best = fit.best()
    if best.gain <= 0 or best.r < LEAST_R:
        return refused(f"the values do not follow this load (r {best.r:.2f}): is it this board's, on this clock?")
    if reference.edges < LEAST_EDGES:
        lag_ms = (best.window_ns / 2 + best.tau_ns + best.delay_ns) / MS
        return refused(
            f"{reference.edges} edges of the load are too few: steps tell the whole lag ({lag_ms:.0f} ms, "
            f"r {best.r:.4f}) but not what it is made of"
        )
    return best, _figures(fit, best, seen)


def _unfit(seen: Updates, reference: Reference | None) -> str:
    """Return why nothing can be fitted, or nothing."""
    if reference is None:
        return "needs a known load: a meter's record, or the instants of its edges"
    if seen.period_s.value is None:
        return f"the update period is unknown: {seen.period_s.reason}"
    mean_w = float(np.average(np.abs(reference.power_w), weights=np.diff(reference.t_ns)))
    if reference.swing_w <= LEAST_SWING * mean_w:
        return "the load hardly moves: put a square wave on it"
    return ""


def _figures(fit: ResponseFit, best: Fit, seen: Updates) -> dict[str, Figure]:
    low, high = fit.window_range(best)
    se = fit.errors(best)
    # Polls blur every value's instant over their spacing, as a window of that length would.
    within_polls = high < BLUR * seen.poll_ns
    if within_polls or (low < BLUR * seen.poll_ns and high < NO_WINDOW * (seen.period_s.value or 0.0) * 1e9):
        window = Figure(0.0, low=0.0, high=high / 1e9)
    elif not np.isfinite(high) or (high - low) / 2 > KNOWN_TO * best.window_ns:
        most = "any length" if not np.isfinite(high) else f"{high / MS:.0f} ms"
        window = Figure.unknown(f"this load tells W only to between {low / MS:.0f} ms and {most}")
    else:
        window = Figure(best.window_ns / 1e9, low=low / 1e9, high=high / 1e9)
    told = {
        "window_s": window,
        "tau_s": Figure(best.tau_ns / 1e9, se["tau_ns"] / 1e9),
        "delay_s": Figure(best.delay_ns / 1e9, se["delay_ns"] / 1e9),
        "rise_s": Figure(rise_s(best.window_ns / 1e9, best.tau_ns / 1e9), None),
        "gain": Figure(best.gain, se["gain"]),
        "offset_w": Figure(best.offset_w, se["offset_w"]),
    }
    if window.value is None:  # lag and window stand for each other then
        told |= {name: Figure.unknown(window.reason) for name in ("tau_s", "delay_s")}
    return told


def _class_of(found: Mapping[str, Figure], seen: Updates) -> Response | None:
    window, tau, period = found["window_s"], found["tau_s"].value, seen.period_s.value
    if window.value is None or window.span is None or period is None:
        return None
    if window.value == 0.0:
        return Response.LOGARITHMIC if (tau or 0.0) > period / 2 else Response.POINT
    if window.value > LONG * period:
        return Response.AVERAGE
    if abs(window.value - period) <= max(WHOLE * period, (window.span[1] - window.span[0]) / 2):
        return Response.CONTIGUOUS
    return Response.PART_TIME if window.value < period else Response.AVERAGE


def rise_s(window_s: float, tau_s: float) -> float:
    """Return the time from 10 to 90 % of a step behind a first-order lag and a window."""
    if tau_s <= 0:
        return 0.8 * window_s
    t = np.linspace(0.0, window_s + 6 * tau_s, 20_001)

    def ramp(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The integral of the lag's own step response."""
        x = np.maximum(x, 0.0)
        return x + tau_s * np.expm1(-x / tau_s)

    step = (ramp(t) - ramp(t - window_s)) / window_s if window_s > 0 else -np.expm1(-t / tau_s)
    return float(np.interp(0.9, step, t) - np.interp(0.1, step, t))
