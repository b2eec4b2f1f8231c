# SPDX-License-Identifier: Apache-2.0
"""A running account: joules of each device and domain from readings taken as they come, in constant memory.

For who watches a node for weeks. It has no windows and no intervals; a recording's energies are `primary.energies`.
A counter is followed by its differences, a power is summed by trapezoids between neighbouring readings, and what no
reading speaks for is counted as unseen time, never filled in.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.primary import rank
from powersample.model import Channel, Kind

HOLE_S = 1.0  # silence from which a power's neighbours say nothing of what lies between, unless it is read more seldom
HOLE_PERIODS = 3.0
STALE_S = 2.0  # a reading older than this is no present power
MOST_W = (
    10_000.0  # what no domain exceeds: a counter that could have turned half round at it has an unknown number of turns
)
SLACK_S = 0.01  # a reading may meet what its counter gained since before the reading before: updates, and their jitter
SETTLE_S = 2.0  # how long a power waits for a counter of the same device to answer
MEAN_S = 1.0  # a counter's power is its mean over the newest second at least
MEAN_POINTS = 64


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account says of one device and domain.

    Attributes:
        name: "gpu0", "package-0".
        device: the device's identity: a GPU's UUID, else as `name`.
        domain: gpu, package, dram ...
        joules: energy since `created_unix_s`; None before the first reading.
        created_unix_s: when this account began, s since 1970; None before the first reading. Where the count is the
            device's own, the boot of the machine, before which the device has counted nothing.
        unseen_s: seconds since then that no reading speaks for.
        power_w: present power, None when the newest reading is an error or too old.
        energy_from: the channel that `joules` come from, "" before one answered.
        power_from: the channel that `power_w` comes from.
        age_s: since the newest good reading, s; None before there was one.
    """

    name: str
    device: str
    domain: str
    joules: float | None
    created_unix_s: float | None
    unseen_s: float
    power_w: float | None
    energy_from: str
    power_from: str
    age_s: float | None


class _Line:
    """One channel's sum.

    Args:
        channel: the channel.
        unix_offset_s: unix time minus CLOCK_MONOTONIC, s.
        booted_unix_s: when the machine did, s since 1970.
        kept: what an earlier process kept of it, `as_json`'s form.
    """

    def __init__(
        self, channel: Channel, unix_offset_s: float, booted_unix_s: float, kept: Mapping[str, Any] | None
    ) -> None:
        self.channel = channel
        self.own = channel.kind is Kind.ENERGY and channel.modulus is None and channel.sensor.startswith("nvml.")
        self.joules = 0.0
        self.unseen_s = 0.0
        self.created_unix_s: float | None = None
        self.first_ns: int | None = None
        self.last: tuple[int, int] | None = None  # the newest good reading: t1_ns, raw
        self.newest_ns = 0
        self.newest_bad = True
        self.hole_ns = 0.0
        self._unix_offset_s, self._booted_unix_s = unix_offset_s, booted_unix_s
        self._kept = kept
        self._points: deque[tuple[int, float]] = deque(maxlen=MEAN_POINTS)

    def add(self, records: NDArray[np.void], period_ns: int) -> None:
        """Take the next records."""
        self.hole_ns = max(HOLE_S * 1e9, HOLE_PERIODS * period_ns)
        self.newest_ns, self.newest_bad = int(records["t1_ns"][-1]), bool(records["status"][-1])
        good = records[records["status"] == 0]
        if not len(good):
            return
        t_ns, raw = good["t1_ns"], good["raw"]
        if self.last is None:
            self._begin(int(t_ns[0]), int(raw[0]))
        assert self.last is not None
        before_ns, before_raw = self.last
        t_ns, raw = np.concatenate(([before_ns], t_ns)), np.concatenate(([before_raw], raw))
        self.last = int(t_ns[-1]), int(raw[-1])
        spacing_s = np.diff(t_ns) * 1e-9
        if self.channel.kind is Kind.ENERGY:
            self._count(raw, spacing_s)
        else:
            watts = np.maximum(raw * self.channel.scale, 0.0)  # a counter only rises: what a battery takes is not in it
            whole = spacing_s * 1e9 <= self.hole_ns
            self.joules += float(np.sum((watts[1:] + watts[:-1])[whole] * spacing_s[whole]) / 2)
            self.unseen_s += float(np.sum(spacing_s[~whole]))
        if not self._points or self.last[0] - self._points[-1][0] >= MEAN_S * 1e9 / 8:
            self._points.append((self.last[0], self.joules))

    def _begin(self, t_ns: int, raw: int) -> None:
        """Start at the first good reading: anew, or where an earlier process ended."""
        self.first_ns, self.last = t_ns, (t_ns, raw)
        now_unix_s = t_ns * 1e-9 + self._unix_offset_s
        kept = self._kept
        if self.own:  # it counts while nobody looks: the difference since then is a measurement, too
            self.joules, self.created_unix_s = raw * self.channel.scale, self._booted_unix_s
            if kept is not None:
                self.created_unix_s = kept["created_unix_s"] or self._booted_unix_s
                base_j = kept["joules"] - kept["raw"] * self.channel.scale
                self.joules += base_j if raw >= kept["raw"] else kept["joules"]
        elif kept is None:
            self.created_unix_s = now_unix_s
        else:
            self.joules, self.created_unix_s = kept["joules"], kept["created_unix_s"]
            self.unseen_s = kept["unseen_s"] + max(0.0, now_unix_s - kept["last_unix_s"])

    def _count(self, raw: NDArray[np.int64], spacing_s: NDArray[np.float64]) -> None:
        scale, modulus = self.channel.scale, self.channel.modulus
        step = np.diff(raw)
        if modulus is not None:
            step = step % modulus  # a counter that began again falls, too: only what could be consumed is a wrap
            known = spacing_s <= modulus * scale / (2 * MOST_W)
            known &= (step < modulus // 2) & (step * scale <= MOST_W * (spacing_s + SLACK_S))
        elif self.own:  # the driver was loaded again: it counts from 0, and what it says is energy since then
            step = np.where(step < 0, raw[1:], step)
            known = np.ones(len(step), bool)
        else:
            known = step >= 0
        self.joules += float(np.sum(step[known])) * scale
        self.unseen_s += float(np.sum(spacing_s[~known]))
        if not known.all():  # a mean over what is unseen would be too small
            self._points.clear()

    def power_w(self, now_ns: int) -> float | None:
        """Return the present power; None when there is none."""
        if self.last is None or self.newest_bad or now_ns - self.last[0] > max(STALE_S * 1e9, self.hole_ns):
            return None
        if self.channel.kind is Kind.POWER:
            return self.last[1] * self.channel.scale
        for t_ns, joules in reversed(self._points):
            if self.last[0] - t_ns >= MEAN_S * 1e9:
                return (self.joules - joules) / ((self.last[0] - t_ns) * 1e-9)
        return None

    def as_json(self) -> dict[str, Any] | None:
        """Return what the next process needs to go on; None before the first reading."""
        if self.last is None:
            return self._kept if self._kept is None else dict(self._kept)
        return {
            "channel": self.channel.name,
            "joules": self.joules,
            "created_unix_s": self.created_unix_s,
            "unseen_s": self.unseen_s,
            "raw": self.last[1],
            "last_unix_s": self.last[0] * 1e-9 + self._unix_offset_s,
        }


class _Entry:
    """One device and domain: its channels, the surest first, and which of them its energy comes from."""

    def __init__(self, kept: Mapping[str, Any] | None) -> None:
        self.kept = kept
        self.lines: list[_Line] = []
        self.chosen: _Line | None = None

    def line(self, channel: Channel, unix_offset_s: float, booted_unix_s: float) -> _Line:
        """Return the channel's line, made at its first record."""
        for line in self.lines:
            if line.channel.name == channel.name:
                return line
        kept = self.kept if self.kept is not None and self.kept["channel"] == channel.name else None
        made = _Line(channel, unix_offset_s, booted_unix_s, kept)
        self.lines = sorted([*self.lines, made], key=lambda one: rank(one.channel))
        return made

    def choose(self) -> None:
        """Settle what the energy comes from, once: another channel's sum would begin elsewhere."""
        answered = [line for line in self.lines if line.first_ns is not None]
        if self.chosen is not None or not answered:
            return
        if self.kept is not None:
            certain = next((line for line in answered if line.channel.name == self.kept["channel"]), None)
        else:
            certain = answered[0] if answered[0].channel.kind is Kind.ENERGY else None
        waited_ns = max(line.last[0] - line.first_ns for line in answered if line.last and line.first_ns is not None)
        if certain is not None or waited_ns >= SETTLE_S * 1e9:
            self.chosen = certain or answered[0]


class Account:
    """Joules by device and domain.

    Args:
        unix_offset_s: unix time minus CLOCK_MONOTONIC, s, as it was when the account was opened.
        kept: `as_json` of an earlier account of this machine, which this one goes on from.
        booted_unix_s: when the machine did, s since 1970; None: when CLOCK_MONOTONIC began, later by all suspends.
    """

    def __init__(
        self, unix_offset_s: float, kept: Mapping[str, Any] | None = None, booted_unix_s: float | None = None
    ) -> None:
        self._unix_offset_s = unix_offset_s
        self._booted_unix_s = unix_offset_s if booted_unix_s is None else booted_unix_s
        self._kept = dict(kept or {})
        self._entries: dict[tuple[str, str], _Entry] = {}

    def add(self, pieces: Iterable[tuple[Channel, NDArray[np.void]]], period_ns: Mapping[str, int]) -> None:
        """Take the newest records, in any order of channels.

        Args:
            pieces: channels and their records, `SAMPLE_DTYPE`, at least one each.
            period_ns: how often each lane passes, by its name.
        """
        for channel, records in pieces:
            if channel.kind is Kind.AUX:
                continue
            key = channel.device, channel.domain
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(self._kept.get("/".join(key)))
            period = period_ns.get(channel.lane, 0) * channel.divisor
            entry.line(channel, self._unix_offset_s, self._booted_unix_s).add(records, period)
        for entry in self._entries.values():
            entry.choose()

    def balances(self, now_ns: int) -> list[Balance]:
        """Return what it says of each device and domain at `now_ns`, in order of their names."""
        found = [_balance(device, domain, entry, now_ns) for (device, domain), entry in self._entries.items()]
        return sorted(found, key=lambda one: (one.name, one.domain, one.device))

    def as_json(self) -> dict[str, Any]:
        """Return what the next account of this machine needs to go on; devices that are gone for now stay in it."""
        mine = {"/".join(key): entry.chosen.as_json() for key, entry in self._entries.items() if entry.chosen}
        return self._kept | {key: one for key, one in mine.items() if one is not None}


def _balance(device: str, domain: str, entry: _Entry, now_ns: int) -> Balance:
    chosen = entry.chosen
    powers = [line for line in entry.lines if line.channel.kind is Kind.POWER] or entry.lines
    present = next(((line, w) for line in powers if (w := line.power_w(now_ns)) is not None), None)
    last_ns = max((line.last[0] for line in entry.lines if line.last is not None), default=None)
    return Balance(
        name=entry.lines[0].channel.name.partition(".")[0],
        device=device,
        domain=domain,
        joules=None if chosen is None else chosen.joules,
        created_unix_s=None if chosen is None else chosen.created_unix_s,
        unseen_s=0.0 if chosen is None else chosen.unseen_s,
        power_w=None if present is None else present[1],
        energy_from="" if chosen is None else chosen.channel.name,
        power_from=(present[0] if present else powers[0]).channel.name,
        age_s=None if last_ns is None else max(0.0, (now_ns - last_ns) * 1e-9),
    )
