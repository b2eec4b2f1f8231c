# SPDX-License-Identifier: Apache-2.0
"""What a lane confesses at its end."""

import errno
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class LaneStats:
    """Statistics of one lane, as struct ps_lane_stats; None where the recording does not tell.

    `note` says what its source does not offer and why; `notes()` says that, and what else it could not have.

    `slots == passes + skipped`; `records == drained + dropped + in_ring` once stopped. In the mode "follow" slots are
    polls planned, `updates` counts the changes seen and `acquisitions` how often a channel's updates were found;
    `followed` maps a channel's number among the lane's to the period learnt in ns, 0 while it is looked for.
    `unfollowed` says why a lane does not follow; its `mode` is then "follow" only if it did at first.
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
    fifo_priority: int | None = None
    fifo_refusal: str | None = None
    fifo_errno: int | None = None
    unfollowed: str | None = None
    updates: int | None = None
    acquisitions: int | None = None
    followed: Mapping[int, int] = field(default_factory=dict)
    errors: Mapping[int, int] = field(default_factory=dict)
    error_other: int | None = None
    call_hist: tuple[int, ...] = ()
    wake_hist: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; error codes become strings, as JSON wants its keys."""
        data = asdict(self)
        data["errors"] = {str(code): count for code, count in self.errors.items()}
        data["followed"] = {str(channel): period_ns for channel, period_ns in self.followed.items()}
        data["call_hist"], data["wake_hist"] = list(self.call_hist), list(self.wake_hist)
        return data

    def notes(self) -> list[str]:
        """Return what it could not have, a sentence each, with the way out where there is one."""
        said = [f"{self.name}: {self.note}"] if self.note else []
        if self.cpu_errno == errno.ENODEV:
            said.append(f"{self.name} lost the CPU it was pinned to while it ran, and went on elsewhere")
        elif self.cpu_errno:
            said.append(f"{self.name} was not pinned to the CPU asked for: {os.strerror(self.cpu_errno)}")
        if self.fifo_refusal:
            why = f": {os.strerror(self.fifo_errno)}. {FIFO_FIX}" if self.fifo_errno else ""
            said.append(f"{self.name} did not run under SCHED_FIFO: {self.fifo_refusal}{why}")
        if self.unfollowed:
            how = "no longer followed" if self.mode == "follow" else "did not follow"
            said.append(f"{self.name} {how} its sensor's updates and was read on a grid: {self.unfollowed}")
        return said

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LaneStats":
        """Build statistics from `as_json`'s form or a spool's lane event; unknown keys are left out."""
        known = {item.name for item in fields(cls)}
        given = {key: value for key, value in data.items() if key in known and value is not None}
        for key, words in _WORDS.items():
            if isinstance(given.get(key), int):
                given[key] = words.get(given[key], str(given[key]))
        followed = given.pop("followed", {}).items()
        if "followed_channel" in data:
            followed = zip(data["followed_channel"], data["followed_period_ns"], strict=True)
        pairs = given.pop("errors", {}).items()
        if "error_code" in data:  # a spool's two arrays
            pairs = zip(data["error_code"], data["error_count"], strict=True)
        for key in ("call_hist", "wake_hist"):
            given[key] = tuple(int(count) for count in given.get(key, ()))
        return cls(
            **given,
            errors={int(code): int(count) for code, count in pairs},
            followed={int(channel): int(period_ns) for channel, period_ns in followed},
        )


FIFO_FIX = "Allow it by `ulimit -r` (rtprio in /etc/security/limits.d), or by CAP_SYS_NICE on powersample-sampler."

_WORDS: dict[str, dict[int, str | None]] = {  # enum ps_mode, ps_lane_state, ps_rate_origin ...
    "mode": {1: "paced", 2: "tight", 3: "virtual", 4: "follow"},
    "state": {0: "new", 1: "running", 2: "done", 3: "hung"},
    "rate_origin": {
        1: "asked",
        2: "highest useful",
        3: "calls limited to 2 % of the lane's time",
        4: "calls limited to 5 % of the driver's time",
        5: "not limited further: any slower, and a counter could turn round twice unseen",
        6: "by the sensor's updates",
    },
    "fifo_refusal": {
        0: None,
        1: "the kernel refused it",
        2: "it would take more than 90 % of a CPU, which the kernel answers by holes of 50 ms",
        3: "it took more than 90 % of a CPU and went back to the ordinary class by itself",
    },
    "unfollowed": {
        0: None,
        1: "it has no power that a grid would read at 100 Hz or more",
        2: "polls around each update would take more than its share of time",
        3: "the sensor publishes more often than each 8 ms",
    },
}
