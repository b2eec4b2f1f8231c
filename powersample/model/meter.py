# SPDX-License-Identifier: Apache-2.0
"""What an external meter is: its identity, its timing and the errors that its maker admits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powersample.errors import BadFormat
from powersample.model.channel import Channel


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A meter's limits of error, as data sheets give them: dP = reading_pct |P| + range_pct range_w + floor_w.

    The errors of one meter's readings are one error: they add up linearly over time and over its channels.

    Attributes:
        reading_pct: Percent of the reading.
        range_pct: Percent of the range.
        range_w: What "range" is, W: for a power analyser the product of the PEAK ranges of voltage and current; None
            when it is unknown, and then there is no limit.
        floor_w: What comes on top, such as half a step of the display, W.
        origin: Where this is from, such as a manual's page.
    """

    reading_pct: float
    range_pct: float = 0.0
    range_w: float | None = None
    floor_w: float = 0.0
    origin: str = ""

    @property
    def offset_w(self) -> float | None:
        """What does not depend on the reading, W; None where the range is unknown."""
        if self.range_pct and self.range_w is None:
            return None
        return self.range_pct / 100 * (self.range_w or 0.0) + self.floor_w

    def limit_w(self, watts: ArrayLike) -> NDArray[np.float64]:
        """Return the limit of error of each reading, W, of the shape of `watts`; NaN where the range is unknown."""
        offset_w = np.nan if self.offset_w is None else self.offset_w
        return np.asarray(np.abs(np.asarray(watts, np.float64)) * (self.reading_pct / 100) + offset_w)


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """Everything about a meter that a reader of its record must know.

    Attributes:
        name: What its channels are called by: "wall", "wall1", or the user's own.
        kind: The driver, as in the address: "lmg450".
        address: Where it was found.
        maker: As the meter says it.
        model: As the meter says it.
        serial: Its serial number; "" where it does not tell.
        firmware: Its version; "" where it does not tell.
        channels: What it records. The first is the total that stands for the meter.
        cycle_s: What one reading averages over, nominally, s; NaN for a reading of an instant.
        latency_s: The part of (arrival - end of the cycle) that can be computed, such as the time on the wire, s.
        latency_class: The rest of it, in words: "below 10 ms", "up to 1 s and jittering"; `latency_max_s` as a number.
        latency_max_s: The latest that a reading is known to arrive after its cycle's end, s; None: nobody knows.
        accuracy: Limits of error of the first channel; None: the maker admits none.
        simulated: Whether there is no such device.
        settings: What it was set to: ranges, baud rate, language ...
        notes: What a reader should know.
    """

    name: str
    kind: str
    address: str
    maker: str
    model: str
    serial: str
    firmware: str
    channels: tuple[Channel, ...]
    cycle_s: float
    latency_s: float = 0.0
    latency_class: str = ""
    latency_max_s: float | None = None
    accuracy: Accuracy | None = None
    simulated: bool = False
    settings: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; the cycle of an instant is null."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return data | {
            "channels": [channel.as_json() for channel in self.channels],
            "cycle_s": self.cycle_s if np.isfinite(self.cycle_s) else None,
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            "settings": dict(self.settings or {}),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "MeterInfo":
        """Build it from `as_json`'s form; unknown fields are left out.

        Raises:
            BadFormat: A field is missing or wrong.
        """
        known = {field.name for field in fields(cls)}
        try:
            given = {key: value for key, value in data.items() if key in known}
            given["channels"] = tuple(Channel.from_json(one) for one in data["channels"])
            given["cycle_s"] = np.nan if data["cycle_s"] is None else float(data["cycle_s"])
            given["accuracy"] = Accuracy(**data["accuracy"]) if data.get("accuracy") else None
            given["notes"] = tuple(data.get("notes", ()))
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise BadFormat(f"a meter's description is malformed ({error!r})") from error
