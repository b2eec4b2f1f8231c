# SPDX-License-Identifier: Apache-2.0
"""What a node draws at the wall beyond what its counters see: operating points, and models fitted to them.

Uncaptured power P_x = P_wall - (P_cpu + P_dram + P_gpu), of arXiv 2505.15631, section IV: P_idle of the idle node,
P_busy under a stated load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample.errors import BadFormat, InvalidArgument

GROUPS = ("cpu", "dram", "gpu")
KERNELS = ("idle", "primes", "fma", "stream", "mix", "gpu", "other")
SUM = "sum"
SOURCES = ("meter", "bmc", "data sheet", "file")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A steady state of the node: mean powers over one span.

    Attributes:
        name: for people, such as "primes 50 %".
        kernel: the load, of `KERNELS`.
        level: share of the time that it works, 0 to 1; None where it is unknown.
        components_w: by group of `GROUPS`: all packages, memory, GPUs. A group that was not measured is not there.
        components_u_w: standard uncertainties of these by chance, gain and offset not included.
        wall_w: at the wall.
        wall_u_w: standard uncertainty of that by chance.
        accuracy_w: the meter's limit of error at that reading: one error, the same at all points; None where unknown.
        duration_s: the span.
        start_ns: its begin on CLOCK_REALTIME; None where it is unknown.
        temperature_c: the hottest sensor's mean; None where none was read.
        fan_rpm: mean of the fans; None likewise.
        marks: what was wrong: "disturbed", "throttled", "unsteady" ..., each a word of its own.
        used: whether the models were fitted to it.
    """

    name: str
    kernel: str
    level: float | None
    components_w: Mapping[str, float]
    components_u_w: Mapping[str, float]
    wall_w: float
    wall_u_w: float
    accuracy_w: float | None = None
    duration_s: float = float("nan")
    start_ns: int | None = None
    temperature_c: float | None = None
    fan_rpm: float | None = None
    marks: tuple[str, ...] = ()
    used: bool = True

    @property
    def sum_w(self) -> float:
        """All groups that were measured, W."""
        return float(sum(self.components_w.values()))

    @property
    def uncaptured_w(self) -> float:
        """P_x, W."""
        return self.wall_w - self.sum_w

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; NaN as None."""
        data = asdict(self) | {"components_w": dict(self.components_w), "components_u_w": dict(self.components_u_w)}
        return data | {"duration_s": _known(self.duration_s), "marks": list(self.marks)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build a point from `as_json`'s form; unknown fields are left out.

        Raises:
            BadFormat: a field is missing or wrong.
        """
        try:
            values = {one.name: data[one.name] for one in fields(cls) if one.name in data}
            values["duration_s"] = float("nan") if values.get("duration_s") is None else float(values["duration_s"])
            for name in ("components_w", "components_u_w"):
                values[name] = {str(group): float(w) for group, w in dict(values[name]).items()}
            return cls(**values | {"marks": tuple(values.get("marks", ()))})
        except (KeyError, TypeError, ValueError) as error:
            raise BadFormat(f"this is no operating point: {error!r}") from error


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Wall power as a sum of terms of component powers.

    Attributes:
        kind: "affine": a + b sum; "node": c0 + c1 cpu + c2 dram + c3 gpu + c4 sum^2.
        groups: the components that `sum` adds; all must be given to `predict`.
        terms: names of those that were fitted: "1", "sum", "cpu", "dram", "gpu", "sum^2".
        coefficients: one a term; W, W/W or 1/W.
        covariance: of these, terms x terms.
        misfit_w: how far a steady state lies from the model, one standard deviation; the same as long as it lasts.
        free: degrees of freedom of the fit.
        leave_one_out_max_pct: greatest error of a point that the fit had not seen, percent of its wall power.
        leave_one_out_p95_pct: 95th percentile of these.
    """

    kind: str
    groups: tuple[str, ...]
    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    misfit_w: float
    free: int
    leave_one_out_max_pct: float
    leave_one_out_p95_pct: float

    def design(self, components_w: Mapping[str, ArrayLike]) -> Floats:
        """Return the terms' values, float64 (..., terms), of powers by group, W, of one shape.

        Raises:
            InvalidArgument: a group is missing.
        """
        if missing := [group for group in self.groups if group not in components_w]:
            raise InvalidArgument(f"the model of the node needs the power of {', '.join(missing)} too")
        return design(self.terms, {group: components_w[group] for group in self.groups})

    def predict(self, components_w: Mapping[str, ArrayLike]) -> tuple[Floats, Floats]:
        """Return wall power and the standard uncertainty of its coefficients, W, of the shape of the powers given.

        `misfit_w` and the meter's accuracy are not in it.

        Raises:
            InvalidArgument: a group is missing.
        """
        rows = self.design(components_w)
        watts = rows @ np.asarray(self.coefficients)
        variance = np.einsum("...i,ij,...j->...", rows, np.asarray(self.covariance), rows)
        return np.asarray(watts), np.sqrt(np.maximum(variance, 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        lists = {name: list(getattr(self, name)) for name in ("groups", "terms", "coefficients")}
        return asdict(self) | lists | {"covariance": [list(row) for row in self.covariance]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build a model from `as_json`'s form; unknown fields are left out.

        Raises:
            BadFormat: a field is missing or wrong.
        """
        try:
            values = {one.name: data[one.name] for one in fields(cls)}
            for name in ("groups", "terms"):
                values[name] = tuple(map(str, values[name]))
            values["coefficients"] = tuple(map(float, values["coefficients"]))
            values["covariance"] = tuple(tuple(map(float, row)) for row in values["covariance"])
            count = len(values["terms"])
            if {len(values["coefficients"]), len(values["covariance"]), *map(len, values["covariance"])} != {count}:
                raise ValueError("coefficients and covariance are not of the terms' number")
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise BadFormat(f"this is no model of a node: {error!r}") from error


def design(terms: tuple[str, ...], components_w: Mapping[str, ArrayLike]) -> Floats:
    """Return the values of terms, float64 (..., terms), of component powers, W, of one shape."""
    powers = {group: np.asarray(watts, np.float64) for group, watts in components_w.items()}
    total = np.asarray(sum(powers.values()))
    values = {"1": np.ones_like(total), SUM: total, "sum^2": total * total, **powers}
    return np.stack([values[term] for term in terms], axis=-1)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found of one node.

    Attributes:
        points: in the order in which they were taken.
        groups: components that were measured, of `GROUPS`.
        p_idle_w: uncaptured power of the idle node; None without a point for it.
        p_idle_u_w: standard uncertainty of that, the meter's accuracy as a rectangle in it.
        p_busy_w: uncaptured power by load, each with its standard uncertainty.
        affine: second in trust; None where it could not be fitted.
        node: the best there is; None likewise.
        best: what is to be used: "node", "affine", "bounds" or "none".
        hull_w: lowest and highest of the points that were used, by group and of "sum".
        accuracy_w: the meter's limit of error at the points, the greatest; None where it is unknown.
        accuracy_pct: the same in percent of the readings, the greatest.
        accepted: whether it may be used.
        reasons: why not, or what is to be known; each a code and a sentence.
        source: where the wall's power is from: one of `SOURCES`.
        meter: the meter's name, for people.
        host: whose it is: plain values by name, compared before use.
        simulated: name and seeds of a simulated node; None for a real one.
        made_ns: CLOCK_REALTIME; None where it is unknown.
        rates_hz: of the lanes that sampled meanwhile.
        software: versions by name.
    """

    points: tuple[OperatingPoint, ...]
    groups: tuple[str, ...]
    p_idle_w: float | None
    p_idle_u_w: float | None
    p_busy_w: Mapping[str, tuple[float, float]]
    affine: LinearModel | None
    node: LinearModel | None
    best: str
    hull_w: Mapping[str, tuple[float, float]]
    accuracy_w: float | None
    accuracy_pct: float | None
    accepted: bool
    reasons: tuple[str, ...] = ()
    source: str = "meter"
    meter: str = ""
    host: Mapping[str, Any] | None = None
    simulated: str | None = None
    made_ns: int | None = None
    rates_hz: Mapping[str, float] | None = None
    software: Mapping[str, str] | None = None

    @property
    def model(self) -> LinearModel | None:
        """The model that is to be used; None for bounds."""
        return {"node": self.node, "affine": self.affine}.get(self.best)

    @property
    def leave_one_out_max_pct(self) -> float | None:
        """Greatest error of the model that is to be used at a point that it had not seen; None for bounds."""
        return None if self.model is None else self.model.leave_one_out_max_pct

    @property
    def leave_one_out_p95_pct(self) -> float | None:
        """95th percentile of these errors; None for bounds."""
        return None if self.model is None else self.model.leave_one_out_p95_pct

    @property
    def bounds_w(self) -> tuple[float, float] | None:
        """P_idle and the greatest P_busy, W, in order; None without both."""
        if self.p_idle_w is None or not self.p_busy_w:
            return None
        known = (self.p_idle_w, *(w for w, _ in self.p_busy_w.values()))
        return min(known), max(known)

    def idle_w(self) -> dict[str, float]:
        """Return the idle node's power, W: its idle points' mean by group (of all its devices) and of "wall"."""
        points = [one for one in self.points if one.kernel == "idle" and one.used]
        found: dict[str, float] = {}
        for name in (*GROUPS, "wall") if points else ():
            watts = [one.wall_w if name == "wall" else one.components_w.get(name) for one in points]
            known = [each for each in watts if each is not None and np.isfinite(each)]
            if len(known) == len(points):
                found[name] = math.fsum(known) / len(known)
        return found

    def outside(self, components_w: Mapping[str, float]) -> dict[str, float]:
        """Return by how much powers lie outside the calibrated range, W, by group and "sum"; not those inside."""
        all_w = {**components_w, SUM: float(sum(components_w.values()))}
        found = {}
        for name, (low, high) in self.hull_w.items():
            if name in all_w and (by := max(low - all_w[name], all_w[name] - high)) > 0:
                found[name] = by
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values, and the greatest leave-one-out error of the model that is used."""
        return {
            **{one.name: getattr(self, one.name) for one in fields(self)},
            "points": [one.as_json() for one in self.points],
            "groups": list(self.groups),
            "p_busy_w": {load: list(pair) for load, pair in self.p_busy_w.items()},
            "affine": self.affine and self.affine.as_json(),
            "node": self.node and self.node.as_json(),
            "hull_w": {name: list(pair) for name, pair in self.hull_w.items()},
            "reasons": list(self.reasons),
            "host": self.host and dict(self.host),
            "rates_hz": self.rates_hz and dict(self.rates_hz),
            "software": self.software and dict(self.software),
            "leave_one_out_max_pct": self.leave_one_out_max_pct,
            "leave_one_out_p95_pct": self.leave_one_out_p95_pct,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build a calibration from `as_json`'s form; unknown fields are left out.

        Raises:
            BadFormat: a field is missing or wrong.
        """
        try:
            values = {one.name: data[one.name] for one in fields(cls)}
            return cls(
                **values
                | {
                    "points": tuple(map(OperatingPoint.from_json, values["points"])),
                    "groups": tuple(map(str, values["groups"])),
                    "p_busy_w": {str(load): _pair(pair) for load, pair in values["p_busy_w"].items()},
                    "affine": None if values["affine"] is None else LinearModel.from_json(values["affine"]),
                    "node": None if values["node"] is None else LinearModel.from_json(values["node"]),
                    "hull_w": {str(name): _pair(pair) for name, pair in values["hull_w"].items()},
                    "reasons": tuple(map(str, values["reasons"])),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, BadFormat):
                raise
            raise BadFormat(f"this is no calibration: {error!r}") from error


def _pair(pair: Any) -> tuple[float, float]:
    low, high = pair
    return float(low), float(high)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
