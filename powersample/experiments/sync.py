# SPDX-License-Identifier: Apache-2.0
"""A meter and a load of a known pattern at once: bursts, what the meter shows of them, and the fit of its clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powersample.errors import NothingMeasurable
from powersample.fit import Cycles, Reference, Search, Synced, default_search, synchronise
from powersample.loads import EdgeLog, Pattern
from powersample.meters import make_meter
from powersample.meters.contract import MeterBatch, MeterReading
from powersample.session.bursts import Load, check_pattern, node_load
from powersample.session.syncing import against

if TYPE_CHECKING:
    from powersample.meters import Address, Meter
    from powersample.model import MeterInfo
    from powersample.sim import Node

READ_S = 0.1
REST_S = 1.0  # around bursts; and some cycles more
REST_CYCLES = 3
MANY = 1000  # batches, of a few readings each, that are kept before they are put together


@dataclass(frozen=True, slots=True)
class Live:
    """What came of it.

    Attributes:
        synced: the fit.
        info: who the meter is.
        logs: of the bursts.
        stamp_ns: int64, when the meter's values arrived.
        truth: errors against a simulated meter's own cycles; None with a real one.
    """

    synced: Synced
    info: MeterInfo
    logs: tuple[EdgeLog, ...]
    stamp_ns: NDArray[np.int64]
    truth: Mapping[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return who the meter is, how the bursts ran, and the errors against a simulated meter's own cycles."""
        late = [float(np.median(log.late_ns)) * 1e-9 for log in self.logs if len(log)]
        return {
            "meter": self.info.as_json(),
            "bursts": [{"name": log.name, "edges": 2 * len(log), "missed": log.missed} for log in self.logs],
            "burst_late_median_s": late,
            "truth": self.truth,
        }

    @property
    def trouble(self) -> list[str]:
        """What has to be told of the bursts."""
        return [f"burst {i}: {text}" for i, log in enumerate(self.logs, 1) for text in log.trouble]


def _total(batch: MeterBatch) -> list[MeterReading]:
    """Return what a batch holds of the channel that stands for the meter."""
    return [one for one in batch.readings if one.channel == 0 and len(one)]


def cycles_of(readings: Sequence[MeterReading], name: str) -> Cycles:
    """Return what a meter said; readings without a value are left out."""
    if not readings:
        raise NothingMeasurable(f"{name} told nothing while the load ran: is it measuring?")
    good = np.concatenate([(one.flags == 0) & np.isfinite(one.watts) for one in readings])
    arrival, cycle, watts = (
        np.concatenate([getattr(one, field) for one in readings])[good] for field in ("arrival_ns", "cycle_s", "watts")
    )
    return Cycles(arrival, np.nan_to_num(cycle) * 1e9, watts, name)


def _together(readings: list[MeterReading]) -> list[MeterReading]:
    """Return readings of one channel as one: hours of bursts and pauses are many small arrays."""
    if len(readings) <= MANY:
        return readings
    return [
        MeterReading(
            np.concatenate([one.arrival_ns for one in readings]),
            np.concatenate([one.cycle_s for one in readings]),
            np.concatenate([one.watts for one in readings]),
            np.concatenate([one.flags for one in readings]),
        )
    ]


def sync(
    meter: Meter,
    load: Load,
    pattern: Callable[[float, int], Pattern],
    *,
    bursts: int = 1,
    pause_s: float = 60.0,
    search: Search | None = None,
    on_start: Callable[[MeterInfo], None] = lambda _: None,
) -> Live:
    """Run bursts while a meter is read, and fit its clock.

    This thread talks to the meter; the load runs in another, and ends at once when this one is interrupted.

    Args:
        meter: not opened yet.
        load: what works.
        pattern: of the meter's cycle, s, and the burst's number.
        bursts: how many; from two on there is a skew.
        pause_s: between them.
        search: lags to look at; None: a second and five cycles each way.
        on_start: told who is there, before the first burst.

    Raises:
        InvalidArgument: a pattern that tells no lag.
        NothingMeasurable: the meter told nothing.
        Everything that `Meter.open` and the load raise.
    """
    info = meter.open()
    readings: list[MeterReading] = []
    try:
        cycle_s = info.cycle_s if np.isfinite(info.cycle_s) else 0.0
        plans = [pattern(cycle_s, i) for i in range(bursts)]
        for plan in plans:
            check_pattern(plan)
        on_start(info)
        meter.start()
        with _beside(load, plans, REST_S + REST_CYCLES * cycle_s, pause_s) as worker:
            while worker.thread.is_alive():
                readings = _together(readings + _total(meter.read(READ_S)))
        meter.stop()
        readings += _total(meter.read(READ_S))
    finally:
        meter.close()
    if worker.failure is not None:
        raise worker.failure
    cycles = cycles_of(readings, info.channels[0].name)
    search = search or default_search(max(cycles.cycle_ns, cycle_s * 1e9))
    references = [Reference.of_edges(log) for log in worker.logs]
    return Live(synchronise(cycles, references, search), info, tuple(worker.logs), cycles.stamp_ns)


class _Worker:
    """Bursts and the rest around them, in a thread."""

    def __init__(self, load: Load, plans: list[Pattern], rest_s: float, pause_s: float) -> None:
        self.logs: list[EdgeLog] = []
        self.failure: BaseException | None = None
        self.asked = threading.Event()
        self._load, self._plans, self._rest_s, self._pause_s = load, plans, rest_s, pause_s
        self.thread = threading.Thread(target=self._run, name="powersample-bursts", daemon=True)

    def _run(self) -> None:
        try:
            for i, plan in enumerate(self._plans):
                if self.asked.wait(max(self._pause_s, self._rest_s) if i else self._rest_s):
                    return
                self.logs.append(self._load(plan, self.asked.is_set))
            self.asked.wait(self._rest_s)
        except BaseException as error:  # told where the results are asked for
            self.failure = error


@contextmanager
def _beside(load: Load, plans: list[Pattern], rest_s: float, pause_s: float) -> Iterator[_Worker]:
    worker = _Worker(load, plans, rest_s, pause_s)
    worker.thread.start()
    try:
        yield worker
    finally:
        worker.asked.set()
        worker.thread.join()


def sync_node(
    node: Node,
    address: Address,
    pattern: Callable[[float, int], Pattern],
    *,
    bursts: int = 1,
    pause_s: float = 60.0,
    on_start: Callable[[MeterInfo], None] = lambda _: None,
) -> Live:
    """Do the same on a simulated node with its own meter, whose true cycles are known. Args and Raises as `sync`."""
    meter = make_meter(node.address_of_meter(address))
    live = sync(meter, node_load(node), pattern, bursts=bursts, pause_s=pause_s, on_start=on_start)
    fit, ends_ns = live.synced.fit, node.meter().ends_ns()
    return replace(live, truth=against(fit, live.stamp_ns, ends_ns)) if fit.accepted else live
