# SPDX-License-Identifier: Apache-2.0
"""Anchors between the machine's clocks, and the way from CLOCK_MONOTONIC to the time of day."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# NTP slews by at most 500 ppm; what moves further between two anchors was set, not slewed.
SLEW_LIMIT = 500e-6
STEP_SLACK_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Anchor:
    """One simultaneous reading of four clocks, in ns; `width_ns`: how far from simultaneous it may be."""

    monotonic_ns: int
    monotonic_raw_ns: int
    realtime_ns: int
    boottime_ns: int
    width_ns: int

    def as_json(self) -> dict[str, int]:
        """Return the fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Anchor":
        """Build an anchor from `as_json`'s form; other keys are left out."""
        return cls(
            int(data["monotonic_ns"]),
            int(data["monotonic_raw_ns"]),
            int(data["realtime_ns"]),
            int(data["boottime_ns"]),
            int(data["width_ns"]),
        )


def to_realtime_ns(anchors: Sequence[Anchor], t_ns: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Map CLOCK_MONOTONIC to CLOCK_REALTIME by the anchors around each instant.

    Between two anchors the offset goes in a line, so that a slewed clock stays monotonic; where the clock
    was set in between, the nearer anchor's offset holds. Outside, the outermost anchor's.

    Args:
        anchors: in the order of time.
        t_ns: int64, CLOCK_MONOTONIC.

    Returns:
        int64 ns since 1970 UTC, of the same shape; None without anchors.
    """
    return _mapped(anchors, [anchor.realtime_ns for anchor in anchors], t_ns) if anchors else None


def to_boottime_ns(anchors: Sequence[Anchor], t_ns: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Map CLOCK_MONOTONIC to CLOCK_BOOTTIME, which counts suspends too, as `to_realtime_ns` maps to its clock."""
    return _mapped(anchors, [anchor.boottime_ns for anchor in anchors], t_ns) if anchors else None


def _mapped(anchors: Sequence[Anchor], other_ns: Sequence[int], t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    at_ns = np.array([anchor.monotonic_ns for anchor in anchors], np.int64)
    offset_ns = np.array(other_ns, np.int64) - at_ns
    stepped = np.abs(np.diff(offset_ns)) > SLEW_LIMIT * np.diff(at_ns) + STEP_SLACK_NS
    t_ns = np.asarray(t_ns, np.int64)
    left = np.clip(np.searchsorted(at_ns, t_ns, "right") - 1, 0, len(at_ns) - 1)
    right = np.minimum(left + 1, len(at_ns) - 1)
    width_ns = np.maximum(at_ns[right] - at_ns[left], 1)
    share = np.clip((t_ns - at_ns[left]) / width_ns, 0.0, 1.0)
    if len(stepped):
        share = np.where(stepped[np.minimum(left, len(stepped) - 1)], np.round(share), share)
    shift_ns = np.rint(share * (offset_ns[right] - offset_ns[left])).astype(np.int64)
    return np.asarray(t_ns + offset_ns[left] + shift_ns, np.int64)
