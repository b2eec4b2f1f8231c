# SPDX-License-Identifier: Apache-2.0
"""What every way of sampling must offer, and the energies that its users take from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Samples:
    """What one method collected.

    Attributes:
        t_ns: CLOCK_MONOTONIC of each reading, int64, shape (n,), read-only.
        watts: The readings in W, float64, shape (n,), read-only.
        cpu_s: CPU time of everything that the method started; NaN where it cannot be told.
        errors: Readings that failed.
        reason: Why it ended early, or read nothing; None when neither.
        wrong: What the failed readings said, and how often.
    """

    t_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    cpu_s: float
    errors: int
    reason: str | None = None
    wrong: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        self.t_ns.flags.writeable = False
        self.watts.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Account:
    """What a user of the method would report for a window.

    Attributes:
        joules: The energy in J; None when the method has nothing to say of the window.
        low_j: Lower end of its 95 % interval, where the method has one.
        high_j: Upper end.
        verdict: "good", "fair", "poor" or "unusable", of methods that judge themselves.
        reasons: Coded reasons of the verdict.
    """

    joules: float | None
    low_j: float | None = None
    high_j: float | None = None
    verdict: str | None = None
    reasons: tuple[str, ...] = ()


class Baseline(Protocol):
    """One method. `start` raises NotSupported with the reason when it cannot run here.

    Attributes:
        name: As in the machine-readable output.
        asked_hz: Readings a second that it tries for; infinite when back to back.
        reads: What it reads, and what that means on this board and driver, in plain words.
        rule: How its users make an energy of it, in plain words.
        changes_only: Whether it keeps changes of the value alone: how often it polled nobody knows.
    """

    name: str
    asked_hz: float
    reads: str
    rule: str
    changes_only: bool

    def start(self) -> None:
        """Begin to sample."""

    def stop(self) -> Samples:
        """End and hand over what there is."""

    def account(self, samples: Samples, start_ns: int, end_ns: int) -> Account:
        """Return what its users would report for [start_ns, end_ns], CLOCK_MONOTONIC."""

    def energy_j(self, samples: Samples, start_ns: int, end_ns: int) -> float | None:
        """Return the energy of `account` alone."""


class ByTrapezoid:
    """The account of most tools: the trapezoid over the readings."""

    rule = "trapezoid over the readings inside, the outermost held to the edges"
    changes_only = False

    def account(self, samples: Samples, start_ns: int, end_ns: int) -> Account:
        """See `Baseline`."""
        return Account(trapezoid_j(samples, start_ns, end_ns))

    def energy_j(self, samples: Samples, start_ns: int, end_ns: int) -> float | None:
        """See `Baseline`."""
        return self.account(samples, start_ns, end_ns).joules


class ByMean(ByTrapezoid):
    """The account of tools that average: the mean of the readings times the window's length."""

    rule = "arithmetic mean of the readings inside x the window's length"

    def account(self, samples: Samples, start_ns: int, end_ns: int) -> Account:
        """See `Baseline`."""
        return Account(mean_j(samples, start_ns, end_ns))


def inside(samples: Samples, start_ns: int, end_ns: int) -> NDArray[np.bool_]:
    """Return which readings lie in the window, edges included, shape (n,)."""
    return (samples.t_ns >= start_ns) & (samples.t_ns <= end_ns)


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
    within = inside(samples, start_ns, end_ns)
    if not within.any():
        return None
    t_s = (samples.t_ns[within] - start_ns) / 1e9
    watts = samples.watts[within]
    t_s = np.concatenate(([0.0], t_s, [(end_ns - start_ns) / 1e9]))
    return float(np.trapezoid(np.concatenate((watts[:1], watts, watts[-1:])), t_s))


def mean_j(samples: Samples, start_ns: int, end_ns: int) -> float | None:
    """Return the mean of the readings inside times the window's length, in J; None when none lies inside."""
    within = inside(samples, start_ns, end_ns)
    return float(samples.watts[within].mean()) * (end_ns - start_ns) / 1e9 if within.any() else None
