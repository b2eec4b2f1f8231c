# SPDX-License-Identifier: Apache-2.0
"""A named span of a trace, and the energy over it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

OPEN = "open"  # flag: never ended; closed at the record's end


@dataclass(frozen=True, slots=True)
class Window:
    """A named span on CLOCK_MONOTONIC.

    Attributes:
        name: need not be unique.
        start_ns: its begin.
        end_ns: its end.
        flags: "open" when it was never ended and stands to the record's end.
        source: who marked it: "marks pid 4711", "trace".
    """

    name: str
    start_ns: int
    end_ns: int
    flags: tuple[str, ...] = ()
    source: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self) | {"flags": list(self.flags)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Window":
        """Build a window from `as_json`'s form."""
        return cls(
            str(data["name"]),
            int(data["start_ns"]),
            int(data["end_ns"]),
            tuple(data.get("flags", ())),
            str(data.get("source", "")),
        )


@dataclass(frozen=True, slots=True)
class BudgetTerm:
    """One contribution to an energy's uncertainty: `kind` is "standard", "bound" or "gain"."""

    term: str
    kind: str
    value_j: float


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one channel over one window.

    Attributes:
        joules: None when it cannot be said; `reasons` tells why.
        low_j: lower end of the 95 % interval; None while no interval is known.
        high_j: its upper end.
        method: "counter difference", "updates held backwards" or "trapezoid".
        budget: terms of the interval.
        verdict: good, fair, poor, unusable; "unrated" while no interval is known.
        reasons: each a code and a sentence: "PSQ-GAP 2 gaps hide 0.31 s of 10.00 s".
        channel: the channel's name.
        device: the device's identity.
        domain: gpu, module, package ...
        window: the window's name.
        updates: published values inside the window.
        polls: good reads inside it.
        covered_s: seconds of the window that readings speak for.
        excluded: what showed that no load near a part-time sensor's update period hides; "" where nothing did.
    """

    joules: float | None
    low_j: float | None
    high_j: float | None
    method: str
    budget: tuple[BudgetTerm, ...]
    verdict: str
    reasons: tuple[str, ...]
    channel: str = ""
    device: str = ""
    domain: str = ""
    window: str = ""
    updates: int = 0
    polls: int = 0
    covered_s: float = 0.0
    excluded: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        """The reasons' codes alone: ("PSQ-GAP",)."""
        return tuple(reason.split(" ", 1)[0] for reason in self.reasons)
