# SPDX-License-Identifier: Apache-2.0
"""`powersample top`: what every device of a node draws now and has taken since, from memory of bounded size.

Records are taken as they come and kept for half a minute, so that stretches of them get the energies and intervals that
a recording would: `analysis.RunningEnergy` adds them up for as long as it runs. Nothing goes to a disk.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from powersample import errors
from powersample._native import api
from powersample.analysis import RunningEnergy, window_energies
from powersample.analysis.account import STALE_S, Account, Balance
from powersample.analysis.interval import verdict
from powersample.capture import Plan, discover, live_lanes
from powersample.model import Channel, Kind, LaneStats, Series, Trace, Window
from powersample.report.many import SUMS
from powersample.report.top import MINUTE_S, SPARKS, Frame, Gauge
from powersample.sensors import code_words, model_of
from powersample.session.meters import Asked
from powersample.session.recording import MARGIN_S, NO_METERS
from powersample.session.tail import Tail
from powersample.session.top_meters import TopMeters, start_together

if TYPE_CHECKING:
    from types import TracebackType

    from powersample.sim import Node

KEEP_S = 40.0  # of readings: what is around a stretch tells what it may be off by
STRETCH_S = 16.0  # whose energy is worked out at a time: the longer, the cheaper; the first ones are shorter
FIRST_S = 2.0
GAP_PERIODS = 3.0
MOST_LOOKS = 1000  # of a stretch
SUMMED = {domain: name for name, domain in SUMS.values()}
AUX = {
    "utilization.gpu": "utilization_pct",
    "utilization.memory": "memory_pct",
    "clock.sm": "clock_hz",
    "temperature": "temperature_c",
    "processes": "processes",
}


@dataclass(slots=True)
class _Seen:
    """What is remembered of one channel."""

    raw: int | None = None
    changed_ns: int = 0
    t1_ns: int = 0
    polls: int = 0
    errors: int = 0
    error: str = ""
    dropouts: int = 0
    dropout_ns: int = 0

    def add(self, records: NDArray[np.void], sensor: str, period_ns: float) -> None:
        t1_ns = records["t1_ns"]  # np.diff of so few readings would be most of the view's work
        longest_ns = GAP_PERIODS * period_ns or np.inf
        first_ns = int(t1_ns[0]) - (self.t1_ns or int(t1_ns[0]))
        spacing_ns = t1_ns[1:] - t1_ns[:-1]
        silent = spacing_ns[spacing_ns > longest_ns]
        self.dropouts += len(silent) + (first_ns > longest_ns)
        self.dropout_ns += int(silent.sum()) + (first_ns if first_ns > longest_ns else 0)
        self.t1_ns = int(t1_ns[-1])
        self.polls += len(records)
        bad = records["status"] != 0
        self.errors += int(np.count_nonzero(bad))
        self.error = code_words(sensor, int(records["status"][-1])) if bad[-1] else ""
        good = records[~bad] if bad.any() else records
        if not len(good):
            return
        raw = good["raw"]
        changes = np.flatnonzero(raw[1:] != raw[:-1])
        if len(changes):
            self.changed_ns = int(good["t1_ns"][changes[-1] + 1])
        elif self.raw != int(raw[0]):
            self.changed_ns = int(good["t1_ns"][0])
        self.raw = int(raw[-1])


@dataclass(slots=True)
class _Since:
    """Energy of one device and domain since watching began, and its last minute."""

    until_ns: int  # up to where its power was looked at
    told: RunningEnergy = field(default_factory=RunningEnergy)
    looks: deque[tuple[int, int, float]] = field(
        default_factory=lambda: deque(maxlen=MOST_LOOKS)
    )  # from, to, W: untold
    spark: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SPARKS))


class TopWatch:
    """Watches a node's devices until it is closed.

    Args:
        plan: What to watch; the simulated node's with `node`.
        node: The simulated node, or None on real devices.
        simulated: Its name.
        meters: The meters to watch beside.

    Raises:
        NothingMeasurable: No source has a device, and there is no meter.
    """

    def __init__(self, plan: Plan, *, node: Node | None = None, simulated: str = "", meters: Asked = NO_METERS) -> None:
        self._meters = TopMeters(meters, node)
        self._inventory = discover(plan, others=bool(meters.addresses))
        self._simulated = simulated if node is not None else ("unnamed" if self._inventory.simulated else "")
        self._lanes = live_lanes(plan, self._inventory)
        self._lane_stats = self._lanes.stats()
        self._account = Account(time.time() - time.monotonic())
        self._tail = Tail(KEEP_S)
        self._seen: dict[str, _Seen] = {}
        self._since: dict[tuple[str, str], _Since] = {}
        self._channels: dict[str, Channel] = {}
        self._models: dict[str, tuple[float | None, float | None]] = {}
        self._stretch_ns, self._stretch_s, self._started_ns, self._looked_ns = 0, FIRST_S, 0, 0
        self._trouble: tuple[str, ...] = ()
        self._meta = {
            "devices": [asdict(device) for device in self._inventory.devices],
            "driver": self._inventory.driver,
            "simulated": bool(self._simulated),
        }

    def start(self) -> None:
        """Return once every lane and meter runs.

        Raises:
            PowerSampleError: A device or a meter cannot be read.
        """
        start_together(self._meters, self._lanes)
        self._started_ns = self._stretch_ns = self._looked_ns = api.now_ns()

    def take(self, *, settle: bool = False) -> list[Balance]:
        """Take what has been read since the last call; to be called every few seconds, whatever is looked at.

        Args:
            settle: tell the energies so far with their intervals now, and not when enough has come for that.

        Returns:
            The account's balances.
        """
        pieces = [(piece.channel, piece.records) for piece in self._lanes.take()]
        lanes = self._lane_stats = self._lanes.stats()
        period_ns = {lane.name: lane.period_ns or 0 for lane in lanes}
        for channel, records in pieces:
            self._channels[channel.name] = channel
            seen = self._seen.setdefault(channel.name, _Seen())
            seen.add(records, channel.sensor, period_ns.get(channel.lane, 0) * channel.divisor)
        self._account.add(pieces, period_ns)
        self._tail.add(pieces)
        self._meters.take()
        now_ns = api.now_ns()
        balances = self._account.balances(now_ns)
        self._remember(balances, pieces, now_ns)
        self._tell(lanes, settle=settle)
        return balances

    def look(self, *, settle: bool = False) -> Frame:
        """Take what has been read and return the present state; `settle` as in `take`."""
        balances, now_ns = self.take(settle=settle), api.now_ns()
        lanes = self._lane_stats
        gauges = [self._gauge(one, now_ns) for one in balances]
        order = {"gpu": 0, "cpu": 1, "board": 2, "wall": 3}
        gauges += self._meters.gauges()
        gauges.sort(key=lambda one: (order[one.kind], _natural(one.name)))
        rates = [lane.rate_hz for lane in lanes if lane.rate_hz]
        failed = self._lanes.failure()
        return Frame(
            host=socket.gethostname(),
            simulated=self._simulated,
            unix_s=time.time(),
            seconds=(now_ns - self._started_ns) / 1e9,
            driver=self._inventory.driver or "",
            gauges=tuple(gauges),
            rates_hz=(min(rates, default=0.0), max(rates, default=0.0)),
            lanes=sum(lane.state == "running" for lane in lanes),
            dropped=sum(lane.dropped or 0 for lane in lanes),
            skipped=sum(lane.skipped or 0 for lane in lanes),
            notes=(*self._inventory.notes, *self._meters.notes),
            trouble=tuple(
                text
                for text in (
                    failed,
                    *(f"{lane.name}: a device call never returned" for lane in lanes if lane.state == "hung"),
                    *self._trouble,
                    *self._meters.trouble(),
                )
                if text
            ),
        )

    def _remember(
        self, balances: Sequence[Balance], pieces: Sequence[tuple[Channel, NDArray[np.void]]], now_ns: int
    ) -> None:
        """Note each device's mean power since the last look."""
        fresh = {channel.name: records for channel, records in pieces}
        for one in balances:
            since = self._since.setdefault((one.device, one.domain), _Since(self._started_ns))
            records, channel = fresh.get(one.power_from), self._channels.get(one.power_from)
            watts = one.power_w
            if records is not None and channel is not None and channel.kind is Kind.POWER and watts is not None:
                watts = float(np.mean(records["raw"][records["status"] == 0])) * channel.scale
            if watts is None:
                continue
            recent = now_ns - since.until_ns <= STALE_S * 1e9  # a counter's first power comes after a second
            start_ns = since.until_ns if recent else self._looked_ns
            since.looks.append((max(start_ns, self._stretch_ns), now_ns, watts))
            since.until_ns = now_ns
            if not since.spark or now_ns - since.spark[-1][0] >= MINUTE_S * 1e9 / SPARKS:
                since.spark.append((now_ns, watts))
        self._looked_ns = now_ns

    def _tell(self, lanes: Sequence[LaneStats], *, settle: bool) -> None:
        """Work out the energies of the stretch that has passed, with what the sensors may be off by."""
        end_ns = self._tail.end_ns
        if end_ns is None:
            return
        until_ns = end_ns - round(MARGIN_S * 1e9)
        if until_ns - self._stretch_ns < (0 if settle else self._stretch_s * 1e9) or until_ns <= self._stretch_ns:
            return
        window = Window("stretch", self._stretch_ns, until_ns)
        try:
            (measured,) = window_energies(self._tail.trace(lanes, self._meta), [window])
        except errors.PowerSampleError as error:
            self._trouble = (f"intervals cannot be told: {error}",)
            measured = []
        for one in measured:
            key = one.energy.device, one.energy.domain
            if one.primary and key in self._since:
                self._since[key].told.add(one.energy, window.duration_s)
        for since in self._since.values():
            later = [(max(start_ns, until_ns), end_ns, w) for start_ns, end_ns, w in since.looks if end_ns > until_ns]
            since.looks = deque(later, maxlen=MOST_LOOKS)
        self._stretch_ns, self._stretch_s = until_ns, min(STRETCH_S, 2 * self._stretch_s)

    def _gauge(self, one: Balance, now_ns: int) -> Gauge:
        since, seen = self._since[one.device, one.domain], self._seen.get(one.power_from, _Seen())
        board = next((each for each in self._inventory.devices if each.uuid == one.device), None)
        seconds = (now_ns - self._started_ns) / 1e9
        told_s = since.told.seconds
        rest_s = math.fsum(end_ns - start_ns for start_ns, end_ns, _ in since.looks) / 1e9
        rest_j = math.fsum((end_ns - start_ns) * watts for start_ns, end_ns, watts in since.looks) / 1e9
        joules = since.told.joules + rest_j if told_s or since.looks else None
        spoken_s = since.told.spoken_s + rest_s
        half_j = since.told.half_j
        if half_j is not None:
            half_j *= (told_s + rest_s) / told_s  # what is not told yet is as unsure
        channels = [each for each in self._channels.values() if _same(each, one)]
        mine = [self._seen[each.name] for each in channels]
        # What is read seldom may look well for a while after the device has gone.
        errors_now = [self._seen[each.name].error for each in channels if each.divisor == 1]
        error = errors_now[0] if errors_now and all(errors_now) else seen.error
        window_s, period_s = self._sensor(one.power_from)
        rated = "unrated" if told_s and half_j is None else ""
        kind = "gpu" if board is not None else "cpu" if one.domain in ("package", "dram", "core", "uncore") else "board"
        domain = one.domain if one.power_from.partition(".")[2].startswith(f"{one.domain}.") else ""
        return Gauge(
            name=f"{one.name} {domain}".rstrip(),
            kind=kind,
            model=board.name if board else None,
            power_w=None if error else one.power_w,
            limit_w=board.power_limit_w if board and one.domain == "gpu" else None,
            age_s=(now_ns - seen.changed_ns) / 1e9 if seen.changed_ns else None,
            window_s=window_s,
            period_s=period_s,
            joules=joules,
            mean_w=joules / spoken_s if joules is not None and spoken_s else None,
            half_j=half_j,
            verdict=verdict(half_j, joules, since.told.cap) if half_j is not None and joules else rated,
            seconds=seconds,
            unseen_s=since.told.untold_s,
            spark=tuple((ago_s, watts) for t_ns, watts in since.spark if (ago_s := (now_ns - t_ns) / 1e9) <= MINUTE_S),
            polls=sum(each.polls for each in mine),
            errors=sum(each.errors for each in mine),
            error=error,
            dropouts=max((each.dropouts for each in mine), default=0),
            dropout_s=max((each.dropout_ns for each in mine), default=0) / 1e9,
            adds_up=SUMMED.get(one.domain, ""),
            **(self._aux(one) if board is not None and one.domain == "gpu" else {}),
        )

    def _aux(self, one: Balance) -> dict[str, Any]:
        """Return a board's auxiliary values that its newest reading told."""
        found: dict[str, Any] = {}
        for suffix, field_name in AUX.items():
            channel, seen = self._channels.get(f"{one.name}.{suffix}"), self._seen.get(f"{one.name}.{suffix}")
            if channel is not None and seen is not None and seen.raw is not None and not seen.error:
                value = seen.raw * channel.scale
                found[field_name] = int(value) if field_name == "processes" else value
        return found

    def _sensor(self, name: str) -> tuple[float | None, float | None]:
        """Return over what a channel's sensor averages, and how often it updates, s."""
        if name not in self._models and name in self._channels:
            channel = self._channels[name]
            model = model_of(Trace.of([Series.empty(channel)], meta=self._meta), channel)
            known = model is not None and model.known
            self._models[name] = (model.window_s or None, model.period_s or None) if model and known else (None, None)
        return self._models.get(name, (None, None))

    def close(self) -> None:
        """Stop the lanes and the meters; harmless when repeated."""
        try:
            self._lanes.stop()
        finally:
            self._meters.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort names by it as people number things: gpu2 before gpu10."""
    return tuple((int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", name))


def _same(channel: Channel, one: Balance) -> bool:
    return (channel.device, channel.domain) == (one.device, one.domain) and channel.kind is not Kind.AUX
