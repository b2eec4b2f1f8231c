# SPDX-License-Identifier: Apache-2.0
"""A node that is watched: lanes without a spool, and a running account of what they read.

A thread takes the records; whoever asks for the present state gets it from memory and never waits for a device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from powersample import errors
from powersample._native import api
from powersample.analysis.account import Account, Balance
from powersample.capture import Plan, discover, live_lanes

if TYPE_CHECKING:
    from types import TracebackType

    from powersample.capture import Lanes
    from powersample.model import LaneStats
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


class Watch:
    """Watches the devices of a plan until it is closed.

    Args:
        plan: What to watch; the simulated node's with `node`.
        node: The simulated node, or None on real devices.
        simulated: How that is named where its readings are shown.
        account: Where energies are kept from process to process, or None.
        on_trouble: Told once of each thing that fails while watching.

    Raises:
        NothingMeasurable: No source has a device.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        node: Node | None = None,
        simulated: str = "",
        account: AccountFile | None = None,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.inventory = discover(plan)
        self._simulated = simulated if node is not None else ("unnamed" if self.inventory.simulated else "")
        self._file = account
        self._on_trouble = on_trouble
        self._lanes: Lanes = live_lanes(plan, self.inventory)
        self._account = Account(time.time() - time.monotonic(), account.kept if account is not None else None)
        self._lock = threading.Lock()  # of the account and its file: the thread that takes, and all that ask
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._take_all, name="powersample-watch", daemon=True)
        self._trouble: dict[str, str] = {}  # by what has it
        self._started_unix_s = 0.0

    def start(self) -> None:
        """Return once every lane runs.

        Raises:
            PowerSampleError: A device cannot be read.
        """
        self._lanes.start()
        self._started_unix_s = time.time()
        self._thread.start()

    def _take_all(self) -> None:
        while not self._ending.wait(TAKE_EVERY_S):
            try:
                self._take()
            except errors.PowerSampleError as error:
                self._note("records", str(error))
                return

    def _take(self) -> None:
        pieces = [(piece.channel, piece.records) for piece in self._lanes.take()]
        period_ns = {lane.name: lane.period_ns or 0 for lane in self._lanes.stats()}
        with self._lock:
            self._account.add(pieces, period_ns)
        self._note("lanes", self._lanes.failure())

    def _note(self, what: str, text: str | None) -> None:
        """Remember a trouble, or that it is over; tell of a new one."""
        if text is None:
            self._trouble.pop(what, None)
        elif self._trouble.get(what) != text:
            self._trouble[what] = text
            self._on_trouble(text)

    def state(self) -> State:
        """Return the present state, kept before it is shown: a counter that was seen never goes back."""
        with self._lock:
            balances = tuple(self._account.balances(api.now_ns()))
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
            self._file.save(self._account.as_json(), closed=closed)
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
        if self._thread.is_alive():
            self._thread.join()
            self._take()
        self._lanes.stop()
        if self._started_unix_s:
            with self._lock:
                self._keep(closed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
