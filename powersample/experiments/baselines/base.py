# SPDX-License-Identifier: Apache-2.0
"""What every way of sampling must offer, and the integral that its users take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Samples:
    """What one method collected.

    Attributes:
        t_ns: CLOCK_MONOTONIC of each reading, int64, shape (n,), read-only.
        watts: The readings in W, float64, shape (n,), read-only.
        cpu_s: CPU time of everything that the method started.
        errors: Readings that failed.
    """

    t_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    cpu_s: float
    errors: int

    def __post_init__(self) -> None:
        self.t_ns.flags.writeable = False
        self.watts.flags.writeable = False


class Baseline(Protocol):
    """One method. `start` raises NotSupported with the reason when it cannot run here."""

    name: str
    asked_hz: float

    def start(self) -> None:
        """Begin to sample."""

    def stop(self) -> Samples:
        """End and hand over what there is."""


def trapezoid_j(samples: Samples, start_ns: int, end_ns: int) -> float | None:
    """Return the energy over a window as users of such samples take it, in J.

    The trapezoid over the readings inside the window, the outermost ones held to its edges.

    Args:
        samples: What was collected.
        start_ns: Window start, CLOCK_MONOTONIC.
        end_ns: Window end.

    Returns:
        None when no reading lies inside.
    """
    inside = (samples.t_ns >= start_ns) & (samples.t_ns <= end_ns)
    if not inside.any():
        return None
    t_s = (samples.t_ns[inside] - start_ns) / 1e9
    watts = samples.watts[inside]
    t_s = np.concatenate(([0.0], t_s, [(end_ns - start_ns) / 1e9]))
    return float(np.trapezoid(np.concatenate((watts[:1], watts, watts[-1:])), t_s))
