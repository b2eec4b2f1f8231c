# SPDX-License-Identifier: Apache-2.0
"""What a sensor's values mean: how often it publishes, over what it averages, how far its scale may be off."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from powersample.errors import BadFormat


class Response(StrEnum):
    """How a published value comes from the true power."""

    PART_TIME = "part-time"  # mean of the last W of every T, W < T: the rest is never looked at
    CONTIGUOUS = "contiguous"  # mean of the last T
    AVERAGE = "average"  # mean of the last W, W much longer than T
    LOGARITHMIC = "logarithmic"  # a first-order lag, no window
    POINT = "point"  # the power at an instant
    COUNTER = "counter"  # energy so far


@dataclass(frozen=True, slots=True)
class SensorModel:
    """A sensor as far as it is known.

    A value published at t is gain x (mean over [t - delay - W, t - delay] of the lagged power) + offset.

    Attributes:
        response: how a value comes from the true power.
        period_s: update period T.
        window_s: averaging window W; 0 for none.
        tau_s: time constant of the first-order lag before the window; 0 for none.
        delay_s: from the end of what a value averages to its publication.
        gain: expected published value per true watt (or joule).
        gain_sd: standard deviation of that between boards; of this board's once it has been calibrated.
        offset_w: expected published value at no power, W.
        offset_sd_w: its standard deviation.
        known: False for the wide defaults of a board that no table knows.
        origin: where each figure comes from, by its name.
    """

    response: Response
    period_s: float
    window_s: float = 0.0
    tau_s: float = 0.0
    delay_s: float = 0.0
    gain: float = 1.0
    gain_sd: float = 0.0
    offset_w: float = 0.0
    offset_sd_w: float = 0.0
    known: bool = True
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", MappingProxyType(dict(self.origin)))

    def measured(self, found: Mapping[str, Any], origin: str) -> "SensorModel":
        """Return this model with figures of this very board in their place.

        Args:
            found: plain values by field; unknown fields are left out.
            origin: what to say of each where it comes from.

        Raises:
            BadFormat: a value is wrong.
        """
        return SensorModel.from_json(
            self.as_json() | dict(found) | {"origin": dict(self.origin) | dict.fromkeys(found, origin)}
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("origin", "response")}
        return plain | {"response": str(self.response), "origin": dict(self.origin)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SensorModel":
        """Build a model from `as_json`'s form; unknown fields are left out.

        Raises:
            BadFormat: a field is missing or wrong.
        """
        known = {one.name for one in fields(cls)}
        try:
            given = {key: value for key, value in data.items() if key in known}
            return cls(**given | {"response": Response(given["response"]), "period_s": float(given["period_s"])})
        except (KeyError, TypeError, ValueError) as error:
            raise BadFormat(f"a sensor's description is malformed ({error}): {dict(data)!r}") from error
