# SPDX-License-Identifier: Apache-2.0
"""What a lane confesses at its end."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class LaneStats:
    """Statistics of one lane, as struct ps_lane_stats; None where the recording does not tell.

    `note` says what its source does not offer and why.

    `slots == passes + skipped` in paced mode; `records == drained + dropped + in_ring` once stopped.
    """

    name: str
    driver: str = ""
    note: str = ""
    mode: str | None = None
    state: str | None = None
    rate_hz: float | None = None
    rate_origin: str | None = None
    slots: int | None = None
    passes: int | None = None
    skipped: int | None = None
    records: int | None = None
    dropped: int | None = None
    drained: int | None = None
    in_ring: int | None = None
    reopens: int | None = None
    start_ns: int | None = None
    last_ns: int | None = None
    period_ns: int | None = None
    lead_ns: int | None = None
    cpu_ns: int | None = None
    call_cost_ns: float | None = None
    cpu: int | None = None
    cpu_errno: int | None = None
    errors: Mapping[int, int] = field(default_factory=dict)
    error_other: int | None = None
    call_hist: tuple[int, ...] = ()
    wake_hist: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; error codes become strings, as JSON wants its keys."""
        data = asdict(self)
        data["errors"] = {str(code): count for code, count in self.errors.items()}
        data["call_hist"], data["wake_hist"] = list(self.call_hist), list(self.wake_hist)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LaneStats":
        """Build statistics from `as_json`'s form or a spool's lane event; unknown keys are left out."""
        known = {item.name for item in fields(cls)}
        given = {key: value for key, value in data.items() if key in known and value is not None}
        for key, words in _WORDS.items():
            if isinstance(given.get(key), int):
                given[key] = words.get(given[key], str(given[key]))
        pairs = given.pop("errors", {}).items()
        if "error_code" in data:  # a spool's two arrays
            pairs = zip(data["error_code"], data["error_count"], strict=True)
        for key in ("call_hist", "wake_hist"):
            given[key] = tuple(int(count) for count in given.get(key, ()))
        return cls(**given, errors={int(code): int(count) for code, count in pairs})


_WORDS = {  # enum ps_mode, ps_lane_state, ps_rate_origin
    "mode": {1: "paced", 2: "tight", 3: "virtual"},
    "state": {0: "new", 1: "running", 2: "done", 3: "hung"},
    "rate_origin": {
        1: "asked",
        2: "highest useful",
        3: "calls limited to 2 % of the lane's time",
        4: "calls limited to 5 % of the driver's time",
        5: "not limited further: any slower, and a counter could turn round twice unseen",
    },
}
