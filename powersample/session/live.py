# SPDX-License-Identifier: Apache-2.0
"""A node that is watched: lanes without a spool, and a running account of what they read.

A thread takes the records; whoever asks for the present state gets it from memory and never waits for a device.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from powersample._native import api
from powersample.analysis.account import Account, Balance
from powersample.capture import Plan, discover, live_lanes
from powersample.session.meters import Asked
from powersample.session.recording import NO_METERS
from powersample.session.top_meters import TopMeters, start_together

if TYPE_CHECKING:
    from types import TracebackType

    from powersample.capture import Lanes
    from powersample.model import LaneStats
    from powersample.report.top import Gauge
    from powersample.sim import Node
    from powersample.store.accounts import AccountFile

TAKE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class State:
    """A node at one moment.

    Attributes:
        balances: energy and power of each device and domain.
        lanes: the lanes' statistics.
        started_unix_s: when watching began, s since 1970.
        version: powersample's.
        driver: NVIDIA driver's version, "" without one.
        simulated: the simulated node's name, "" for real devices.
        trouble: what has failed, a sentence each.
        kept: whether what is shown here has been kept for the next process; None when nothing is to be kept.
    """

    balances: tuple[Balance, ...]
    lanes: tuple[LaneStats, ...]
    started_unix_s: float
    version: str
    driver: str
    simulated: str
    trouble: tuple[str, ...]
    kept: bool | None


@dataclass(slots=True)
class _Wall:
    """A meter's account: what was kept of it, and what it has told since.

    Attributes:
        joules: kept.
        unseen_s: kept, and the time between then and its first reading now.
        created_unix_s: when it began.
        now: what it tells since.
        lost_s: of that the time that no reading speaks for; one that comes late takes nothing back.
        risen_j: the most that it has told: what a node feeds back does not make a counter fall.
    """

    joules: float
    unseen_s: float
    created_unix_s: float
    now: Gauge
    lost_s: float = 0.0
    risen_j: float = 0.0

    def balance(self) -> Balance:
        """Return what it says of the wall."""
        name, told = self.now.name, self.now.joules
        return Balance(
            name=name,
            device=name,
            domain="wall",
            joules=None if told is None else self.joules + max(told, self.risen_j),
            created_unix_s=self.created_unix_s,
            unseen_s=self.unseen_s + self.lost_s,
            power_w=self.now.power_w,
            energy_from=f"{name}.power",
            power_from=f"{name}.power",
            age_s=self.now.age_s,
        )

    def as_json(self, now_unix_s: float) -> dict[str, Any]:
        """Return what the next process needs to go on; a meter counts nothing by itself."""
        mine = self.balance()
        return {
            "channel": mine.energy_from,
            "joules": mine.joules or self.joules,
            "created_unix_s": mine.created_unix_s,
            "unseen_s": mine.unseen_s,
            "raw": 0,
            "last_unix_s": now_unix_s - (mine.age_s or 0.0),
        }


class Watch:
    """Watches the devices of a plan, and meters beside, until it is closed.

    Args:
        plan: What to watch; the simulated node's with `node`.
        node: The simulated node, or None on real devices.
        simulated: How that is named where its readings are shown.
        meters: The meters to watch beside.
        account: Where energies are kept from process to process, or None.
        on_trouble: Told once of each thing that fails while watching.

    Raises:
        NothingMeasurable: No source has a device, and there is no meter.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        node: Node | None = None,
        simulated: str = "",
        meters: Asked = NO_METERS,
        account: AccountFile | None = None,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._meters = TopMeters(meters, node)
        self.inventory = discover(plan, others=bool(meters.addresses))
        self._simulated = simulated if node is not None else ("unnamed" if self.inventory.simulated else "")
        self._file = account
        self._on_trouble = on_trouble
        self._lanes: Lanes = live_lanes(plan, self.inventory)
        self._kept = (account.kept if account is not None else None) or {}
        now_unix_s = time.time()
        booted_unix_s = now_unix_s - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._account = Account(now_unix_s - time.monotonic(), self._kept, booted_unix_s)
        self._walls: dict[str, _Wall] = {}
        self._lock = threading.Lock()  # of the account and its file: the thread that takes, and all that ask
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._take_all, name="powersample-watch", daemon=True)
        self._trouble: dict[str, str] = {}  # by what has it
        self._started_unix_s = 0.0

    def start(self) -> None:
        """Return once every lane and meter runs.

        Raises:
            PowerSampleError: A device or a meter cannot be read.
        """
        self._started_unix_s = time.time()
        start_together(self._meters, self._lanes)
        self._thread.start()

    def _take_all(self) -> None:
        while not self._ending.wait(TAKE_EVERY_S):
            try:
                self._take()
            except Exception as error:  # whatever it is: a thread that ends unheard leaves counters that stand still
                self._note("records", f"nothing is read any more: {error}")
                return

    def _take(self) -> None:
        pieces = [(piece.channel, piece.records) for piece in self._lanes.take()]
        period_ns = {lane.name: lane.period_ns or 0 for lane in self._lanes.stats()}
        self._meters.take()
        gauges = self._meters.gauges()
        with self._lock:
            self._account.add(pieces, period_ns)
            for gauge in gauges:
                self._add_wall(gauge)
        self._note("lanes", self._lanes.failure())
        self._note("meters", "; ".join(self._meters.trouble()) or None)

    def _add_wall(self, gauge: Gauge) -> None:
        """Take what a meter tells; its account begins, or goes on, at its first reading."""
        wall = self._walls.get(gauge.name)
        if wall is not None:
            wall.now, wall.lost_s = gauge, max(wall.lost_s, gauge.unseen_s)
            wall.risen_j = max(wall.risen_j, gauge.joules or 0.0)
        elif gauge.joules is not None:
            kept, began_unix_s = self._kept.get(f"{gauge.name}/wall"), time.time() - gauge.seconds
            if kept is None:
                self._walls[gauge.name] = _Wall(0.0, 0.0, began_unix_s, gauge)
            else:
                unseen_s = kept["unseen_s"] + max(0.0, began_unix_s - kept["last_unix_s"])
                self._walls[gauge.name] = _Wall(kept["joules"], unseen_s, kept["created_unix_s"], gauge)

    def _note(self, what: str, text: str | None) -> None:
        """Remember a trouble, or that it is over; tell of a new one."""
        if text is None:
            self._trouble.pop(what, None)
        elif self._trouble.get(what) != text:
            self._trouble[what] = text
            self._on_trouble(text)

    def note_metrics(self, text: str | None) -> None:
        """Remember why what is shown of the state could not be made; None: it could."""
        self._note("metrics", text)

    def notes(self) -> tuple[str, ...]:
        """Return what a reader should know of what is watched and what is not."""
        return (*self.inventory.notes, *self._meters.notes)

    def state(self) -> State:
        """Return the present state, kept before it is shown: a counter that was seen never goes back."""
        with self._lock:
            balances = (
                *self._account.balances(api.now_ns()),
                *(self._walls[name].balance() for name in sorted(self._walls)),
            )
            kept = self._keep(closed=False)
        return State(
            balances,
            tuple(self._lanes.stats()),
            self._started_unix_s,
            api.version(),
            self.inventory.driver or "",
            self._simulated,
            tuple(self._trouble.values()),
            kept,
        )

    def _keep(self, *, closed: bool) -> bool | None:
        if self._file is None:
            return None
        try:
            walls = {f"{name}/wall": wall.as_json(time.time()) for name, wall in self._walls.items()}
            self._file.save(self._account.as_json() | walls, closed=closed)
        except OSError as error:
            self._note("account", f"{self._file.path} cannot be written: {error.strerror}; a restart may show a reset")
            return False
        self._note("account", None)
        return True

    def close(self) -> None:
        """Stop the lanes and keep the account; harmless when repeated."""
        if self._ending.is_set():
            return
        self._ending.set()
        with contextlib.ExitStack() as last:  # whatever fails, the lanes end and the account is closed
            if self._started_unix_s:
                last.callback(self._keep_closed)
            last.callback(self._meters.close)
            last.callback(self._lanes.stop)
            if self._thread.is_alive():
                self._thread.join()
                self._take()

    def _keep_closed(self) -> None:
        with self._lock:
            self._keep(closed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
