# SPDX-License-Identifier: Apache-2.0
"""One quantity of one device, and the 32-byte record that its readings travel in."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np

from powersample.errors import BadFormat

# Equal to struct ps_sample and struct ps_kept of csrc/include/powersample.h; a test compares.
SAMPLE_DTYPE = np.dtype(
    [
        ("t0_ns", "<i8"),
        ("t1_ns", "<i8"),
        ("raw", "<i8"),
        ("seq", "<u4"),
        ("channel", "<u2"),
        ("status", "<u2"),
    ]
)
KEPT_DTYPE = np.dtype([*SAMPLE_DTYPE.descr, ("omitted", "<u4"), ("reserved", "<u4")])
METER_DTYPE = np.dtype([*SAMPLE_DTYPE.descr, ("span_ns", "<i8")])  # of a meter's part in a spool, which no C writes


class Kind(StrEnum):
    """What a channel's values are."""

    POWER = "power"  # gauge, W
    ENERGY = "energy"  # monotonic counter, J
    AUX = "aux"  # utilisation, clock, temperature ...


KIND_BY_CODE = {1: Kind.POWER, 2: Kind.ENERGY, 3: Kind.AUX}  # enum ps_kind


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel's identity and how to understand its raw values.

    Attributes:
        name: unique within a trace: "gpu0.power.instant".
        device: the device's own identity: a UUID, or "package-0".
        domain: gpu, module, package, core, uncore, dram, psys, wall; or supply, a rail or battery of
            which nobody says what hangs on it.
        kind: POWER, ENERGY or AUX.
        unit: of raw * scale: "W", "J", "Hz", "%", "degC", "1".
        scale: value in `unit` = raw * scale.
        raw_dtype: "int64", or "float64" for sources that speak in floats.
        stamp: what t0_ns and t1_ns are: "bracket" of the device call, "instant" of the value, or "arrival"
            here.
        span: over what a value averages: "none" said, "fixed" (`span_ns`), or "sample" (each its own, in
            the series).
        span_ns: that span when it is fixed.
        lane: name of the lane that reads it; "" outside a sampler.
        sensor: where the value comes from, in its source's words: "nvml.field.186".
        divisor: read on every so many passes of its lane.
        modulus: raw counters wrap to 0 here; None when they do not, or nobody knows.
    """

    name: str
    device: str
    domain: str
    kind: Kind
    unit: str
    scale: float = 1.0
    raw_dtype: str = "int64"
    stamp: str = "bracket"
    span: str = "none"
    span_ns: int | None = None
    lane: str = ""
    sensor: str = ""
    divisor: int = 1
    modulus: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Channel":
        """Build a channel from `as_json`'s form or a spool header's; unknown fields are left out.

        Raises:
            BadFormat: a field that every channel needs is missing or wrong.
        """
        known = {field.name for field in fields(cls)}
        try:
            given = {key: value for key, value in data.items() if key in known}
            kind = given["kind"]
            given["kind"] = KIND_BY_CODE[kind] if isinstance(kind, int) else Kind(kind)
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise BadFormat(f"a channel's description is malformed ({error}): {dict(data)!r}") from error
