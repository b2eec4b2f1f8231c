# SPDX-License-Identifier: Apache-2.0
"""A named span of a trace, and the energy over it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from operator import attrgetter
from typing import Any

OPEN = "open"  # flag: never ended; closed at the record's end
SIMULATED = "SIMULATED, not a measurement"
UNRESOLVED = "unresolved"  # flag: marked by events whose instants are not known; the host's marks stand


@dataclass(frozen=True, slots=True)
class Window:
    """A named span on CLOCK_MONOTONIC.

    Attributes:
        name: need not be unique.
        start_ns: its begin.
        end_ns: its end.
        flags: "open" when it was never ended and stands to the record's end; "raised" when an exception left it;
            "unsynchronised" when the accelerator could not be waited for; "unresolved" when its events' instants are
            not known.
        source: who marked it: "marks pid 4711", "trace".
        marked: how its edges were marked: "" by the host alone, "device" once the accelerator had done all that was
            queued, "event" by the accelerator itself.
        edge_errors_ns: standard errors of its begin and its end; 0 where the host's clock tells them.
    """

    name: str
    start_ns: int
    end_ns: int
    flags: tuple[str, ...] = ()
    source: str = ""
    marked: str = ""
    edge_errors_ns: tuple[float, float] = (0.0, 0.0)

    def __hash__(self) -> int:
        return hash((self.start_ns, self.end_ns, self.name))  # enough to tell windows apart, in a third of the time

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "name": self.name,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "flags": list(self.flags),
            "source": self.source,
            "marked": self.marked,
            "edge_errors_ns": list(self.edge_errors_ns),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Window":
        """Build a window from `as_json`'s form."""
        errors_ns = data.get("edge_errors_ns") or (0.0, 0.0)
        return cls(
            str(data["name"]),
            int(data["start_ns"]),
            int(data["end_ns"]),
            tuple(data.get("flags", ())),
            str(data.get("source", "")),
            str(data.get("marked", "")),
            (float(errors_ns[0]), float(errors_ns[1])),
        )


@dataclass(frozen=True, slots=True)
class BudgetTerm:
    """One contribution to an energy's uncertainty: `kind` is "standard", "bound" or "gain"."""

    term: str
    kind: str
    value_j: float


@dataclass(frozen=True, slots=True, repr=False)
class Energy:
    """Energy of one channel over one window.

    Printed it is a careful line; in a list it is short, and `dataclasses.asdict` has everything.

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
        bridged_s: seconds between readings that hid updates; their neighbours stand for them in the joules.
        excluded: what showed that no load near a part-time sensor's update period hides; "" where nothing did.
        simulated: whether nothing of it was measured.
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
    bridged_s: float = 0.0
    excluded: str = ""
    simulated: bool = False

    def but(self, **changes: Any) -> "Energy":
        """Return the same with other fields, as `dataclasses.replace` does, in a third of its time."""
        values = list(_values(self))
        for name, value in changes.items():
            values[_PLACES[name]] = value
        return Energy(*values)

    @property
    def codes(self) -> tuple[str, ...]:
        """The reasons' codes alone: ("PSQ-GAP",)."""
        return tuple(reason.split(" ", 1)[0] for reason in self.reasons)

    def __str__(self) -> str:
        name = f"{self.channel} over {self.window!r}" if self.window else self.channel
        because = "".join(f"; {reason}" for reason in self.reasons)
        banner = "SIMULATED " if self.simulated else ""
        return f"{banner}{name}: {in_words(self.joules, self.low_j, self.high_j)}, {self.verdict}{because}"

    def __repr__(self) -> str:
        joules = "None" if self.joules is None else f"{_figure(self.joules)} J"
        if self.low_j is not None and self.high_j is not None:
            joules += f" ({_figure(self.low_j)} to {_figure(self.high_j)})"
        codes = "".join(f" {code}" for code in dict.fromkeys(self.codes))
        banner = "SIMULATED " if self.simulated else ""
        return f"<Energy {banner}{self.window!r} {self.channel} {joules} {self.verdict}{codes}>"

    def _repr_html_(self) -> str:
        """Return it as a notebook shows it: the energy, and a line a reason."""
        banner = f"<strong>{SIMULATED}</strong><br>" if self.simulated else ""
        name = escape(f"{self.channel} over {self.window!r}" if self.window else self.channel)
        words, _, interval = in_words(self.joules, self.low_j, self.high_j).partition(" (")
        interval = f" ({interval}" if interval else ""
        reasons = "".join(f"<li><small>{escape(one)}</small></li>" for one in self.reasons)
        listed = f"<ul>{reasons}</ul>" if reasons else ""
        return f"<div>{banner}{name}: <strong>{words}</strong>{interval}, {escape(self.verdict)}{listed}</div>"


_FIELDS = tuple(one.name for one in fields(Energy))
_PLACES = {name: place for place, name in enumerate(_FIELDS)}
_values = attrgetter(*_FIELDS)


def in_words(joules: float | None, low_j: float | None, high_j: float | None) -> str:
    """Return an energy and its interval as words: "1234.5 J (95 %: 1200.1 to 1268.9)"."""
    if joules is None:
        return "no energy can be told"
    between = "without an interval"
    if low_j is not None and high_j is not None:
        between = f"95 %: {_figure(low_j)} to {_figure(high_j)}"
    return f"{_figure(joules)} J ({between})"


def _figure(joules: float) -> str:
    """Return joules to five digits, never as a power of ten: "1234.5", "0.012346"."""
    if joules == 0 or not math.isfinite(joules):
        return f"{joules:g}"
    return f"{joules:.{max(0, 4 - math.floor(math.log10(abs(joules))))}f}"
