# SPDX-License-Identifier: Apache-2.0
"""A meter's time on this machine's clock: the lag between the end of what a value averages and its stamp.

The stamps themselves are never changed: a fit lies beside them and is applied as they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import BadFormat
from powersample.model.series import Series

INVERSIONS = 6  # each leaves a ten thousandth of the error before
CRYSTAL_PPM = 100.0  # two clocks of quartz differ by less, but for faults


@dataclass(frozen=True, slots=True)
class Knot:
    """The lag at one instant: of one burst, or of one stretch of the record.

    Attributes:
        at_ns: on the meter's stamps.
        lag_s: stamp less the end of what the value averages.
        se_s: standard error of that.
    """

    at_ns: int
    lag_s: float
    se_s: float


@dataclass(frozen=True, slots=True)
class ClockFit:
    """How a meter's stamps lie on CLOCK_MONOTONIC.

    Attributes:
        channel: whose stamps these are.
        reference: what they were aligned with, for people.
        lag_s: lag at the middle of the knots; None when it could not be told.
        lag_se_s: its standard error, what is unsure of tau included.
        skew_ppm: how fast the lag grows; None with one knot.
        skew_se_ppm: standard error of that.
        tau_s: time constant of the first-order lag between load and meter: power supply, regulators.
        tau_se_s: standard error of that; of a tau that was taken and not fitted, how far it may be off.
        tau_fitted: whether it was fitted.
        gain: meter watts per watt, or per level, of the reference.
        r2: share of the meter's variance that the reference explains.
        second_best_ratio: squared residuals of the next best lag over those of the best; None where the searched lags
            hold no other.
        accepted: whether it may be used.
        reasons: why not; each a code and a sentence.
        own_clock: the stamps are of another clock than this machine's, so that the lag drifts outside the knots.
        late_s: by how much the median stamp comes later than the earliest about it; in `lag_s`, not in the knots.
        jitter_s: by how much single stamps come later than usual, one standard deviation.
        knots: in the order of time; the lag goes in straight lines between them.
        residual_ns: stamps of the values that were compared.
        residual_w: value less description, W, of the same.
    """

    channel: str
    reference: str
    lag_s: float | None
    lag_se_s: float | None
    skew_ppm: float | None
    skew_se_ppm: float | None
    tau_s: float | None
    tau_se_s: float | None
    tau_fitted: bool
    gain: float | None
    r2: float | None
    second_best_ratio: float | None
    accepted: bool
    reasons: tuple[str, ...] = ()
    own_clock: bool = False
    late_s: float = 0.0
    jitter_s: float = 0.0
    knots: tuple[Knot, ...] = ()
    residual_ns: tuple[int, ...] = ()
    residual_w: tuple[float, ...] = ()

    def lag_ns(self, t_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the lag at each stamp, ns, of values that came as early as the earliest about them.

        Outside the knots it goes on at the skew.

        Raises:
            ValueError: the fit was not accepted.
        """
        if not self.accepted or not self.knots:
            raise ValueError(f"the clock fit of {self.channel} was not accepted: {'; '.join(self.reasons)}")
        at = np.array([knot.at_ns for knot in self.knots], np.int64)
        lag = np.array([knot.lag_s for knot in self.knots]) * 1e9
        since = np.asarray(t_ns - at[0], np.float64)
        found: NDArray[np.float64] = np.interp(since, (at - at[0]).astype(np.float64), lag)
        outside = since - np.clip(since, 0.0, float(at[-1] - at[0]))
        return found + outside * (self.skew_ppm or 0.0) * 1e-6

    def to_host_ns(self, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map stamps to the instants, on CLOCK_MONOTONIC, at which what the values average ended."""
        lag_ns = self.lag_ns(t_ns) + self.late_s * 1e9
        return np.asarray(t_ns - np.rint(lag_ns).astype(np.int64), np.int64)

    def to_stamp_ns(self, host_ns: int) -> int:
        """Return the stamp that `to_host_ns` maps to an instant, to a microsecond where lags bend."""
        stamp_ns = host_ns
        for _ in range(INVERSIONS):  # lags change by parts in ten thousand of the time at most
            stamp_ns += host_ns - int(self.to_host_ns(np.array([stamp_ns], np.int64))[0])
        return stamp_ns

    def placed(self) -> ClockFit:
        """Return the same fit for stamps that were mapped already: no lag, and the same errors at the same instants."""
        at_ns = self.to_host_ns(np.array([knot.at_ns for knot in self.knots], np.int64)).tolist()
        knots = tuple(Knot(at, 0.0, knot.se_s) for at, knot in zip(at_ns, self.knots, strict=True))
        return replace(self, lag_s=0.0, skew_ppm=None if self.skew_ppm is None else 0.0, late_s=0.0, knots=knots)

    def error_s(self, t_ns: int) -> float:
        """Return the standard uncertainty of a mapped stamp: between knots theirs, outside with the skew's."""
        at = np.array([knot.at_ns for knot in self.knots], np.float64)
        inside = float(np.interp(float(t_ns), at, [knot.se_s for knot in self.knots]))
        outside_s = max(0.0, float(at[0]) - t_ns, t_ns - float(at[-1])) * 1e-9
        drift_ppm = self.skew_se_ppm if self.skew_se_ppm is not None else CRYSTAL_PPM if self.own_clock else 0.0
        return float(np.hypot(inside, outside_s * drift_ppm * 1e-6))

    def apply(self, series: Series) -> Series:
        """Return the readings with mapped stamps; without an accepted fit as they are."""
        if not self.accepted:
            return series
        return replace(series, t0_ns=self.to_host_ns(series.t0_ns), t1_ns=self.to_host_ns(series.t1_ns))

    def verdict_json(self) -> dict[str, Any]:
        """Return what `powersample sync --json` tells at least."""
        told = [one.name for one in fields(self) if one.name not in ("knots", "residual_ns", "residual_w")]
        return {name: getattr(self, name) for name in told} | {"reasons": list(self.reasons)}

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        residuals = {"residual_ns": list(self.residual_ns), "residual_w": list(self.residual_w)}
        return self.verdict_json() | {"knots": [asdict(knot) for knot in self.knots]} | residuals

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClockFit:
        """Build a fit from `as_json`'s form; unknown fields are left out.

        Raises:
            BadFormat: a field is missing or wrong.
        """
        known = {one.name for one in fields(cls)}
        try:
            given: dict[str, Any] = {key: value for key, value in data.items() if key in known}
            given |= {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
            given["knots"] = tuple(
                Knot(int(one["at_ns"]), float(one["lag_s"]), float(one["se_s"])) for one in given.get("knots", ())
            )
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise BadFormat(f"a clock fit is malformed ({error})") from error
