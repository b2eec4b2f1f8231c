# SPDX-License-Identifier: Apache-2.0
"""Records meters into a spool, each by a thread of its own, so that one that is gone delays nothing else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from powersample import errors
from powersample.meters.contract import Meter, MeterBatch, MeterGap, MeterInfo

if TYPE_CHECKING:
    from powersample.store.meter_spool import MeterSpool

READ_S = 0.2
GATHER_S = 0.2  # readings are taken together: waking a thread for each costs more than they do
QUICK_S = 0.02  # cycles shorter than this come in such numbers that they gather by themselves
STOP_TIMEOUT_S = 20.0  # and two cycles: a meter that is just being set up anew
MARGIN_CYCLES = 2  # that the recording goes on after a window, for the one that its end lies in
MOST_MARGIN_S = 5.0
UNKNOWN_LATENCY_S = 0.3
UNKNOWN_MISSING = 1  # readings at least, where nobody knows how many

log = logging.getLogger(__name__)


def gather_s(info: MeterInfo) -> float:
    """Return how long a meter's readings are left to come together before they are taken, s."""
    return GATHER_S if info.cycle_s >= QUICK_S else 0.0


class MeterRecorder:
    """Meters of one recording.

    Attributes:
        infos: Of the meters, once they are open.
    """

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = tuple(meters)
        self.infos: tuple[MeterInfo, ...] = ()
        self._spool: MeterSpool | None = None
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()
        self._trouble: list[str] = []
        self._newest_ns: dict[str, int] = {}  # by meter: its last reading's arrival, or when it was started

    @property
    def margin_s(self) -> float:
        """How long after a window readings come that it needs, s."""
        waits = [
            (MARGIN_CYCLES * info.cycle_s if np.isfinite(info.cycle_s) else 0.0)
            + gather_s(info)
            + (UNKNOWN_LATENCY_S if info.latency_max_s is None else info.latency_max_s)
            for info in self.infos
        ]
        return min(MOST_MARGIN_S, max(waits, default=0.0))

    def open(self) -> None:
        """Open all of them. Raises as `Meter.open`; then none is open."""
        try:
            self.infos = tuple(meter.open() for meter in self._meters)
        except BaseException:
            for meter in self._meters:
                self._tried("a meter: not closed", meter.close)
            raise

    def open_some(self) -> list[str]:
        """Open those that can be used; return why the others cannot."""
        there, infos, why = [], [], []
        for meter in self._meters:
            try:
                infos.append(meter.open())
                there.append(meter)
            except errors.PowerSampleError as error:
                why.append(str(error))
        self._meters, self.infos = tuple(there), tuple(infos)
        return why

    def start(self, directory: Path) -> None:
        """Begin to record into a spool."""
        from powersample.store.meter_spool import MeterSpool

        if not self._meters:
            return
        channels = [channel for info in self.infos for channel in info.channels]
        self._spool = MeterSpool(directory, channels)
        for meter, info in zip(self._meters, self.infos, strict=True):
            self._spool.event("meter", info.name, meter=info.as_json())
            name = f"powersample-{info.name}"
            self._threads.append(threading.Thread(target=self._run, args=(meter, info), name=name, daemon=True))
            self._threads[-1].start()

    def _run(self, meter: Meter, info: MeterInfo) -> None:
        spool, name = self._spool, info.name
        assert spool is not None
        self._newest_ns[name] = time.monotonic_ns()
        why = self._tried(f"meter {name} ended early", lambda: self._until_asked(meter, info))
        if why is not None:
            gap = MeterGap(self._newest_ns[name], None, "ended", None, f"its driver failed: {why}")
            self._write(info, MeterBatch((), (gap,)))
        self._tried(f"meter {name}: not stopped", meter.stop)
        if why is None:
            self._tried(f"meter {name}: its last readings", lambda: self._write(info, meter.read(0.0)))
        self._tried(f"meter {name}: not closed", meter.close)
        self._tried(f"meter {name}: its counts", lambda: spool.event("meter_counts", name, counts=dict(meter.counts())))

    def _until_asked(self, meter: Meter, info: MeterInfo) -> None:
        meter.start()
        while not self._ending.is_set():
            self._write(info, meter.read(READ_S))
            self._ending.wait(gather_s(info))

    def _tried(self, what: str, step: Callable[[], object]) -> str | None:
        """Take a step; a driver's mistake ends its meter, and loses neither what that told nor any other. Return it."""
        try:
            step()
        except Exception as error:
            log.exception(what)
            self._trouble.append(f"{what}: {(why := str(error) or type(error).__name__)}")
            return why
        return None

    def _write(self, info: MeterInfo, batch: MeterBatch) -> None:
        assert self._spool is not None
        for gap in batch.gaps:
            self._spool.event("meter_gap", info.name, gap=gap.as_json())
        before: dict[int, int] = {}
        for gap in batch.gaps:
            if gap.end_ns is not None:  # where two end at one reading, the one that knows how many
                missing = UNKNOWN_MISSING if gap.missing is None else gap.missing
                before[gap.end_ns] = max(missing, before.get(gap.end_ns, 0))
        for reading in batch.readings:
            span_ns = np.rint(np.nan_to_num(reading.cycle_s) * 1e9).astype(np.int64)
            channel = info.channels[reading.channel].name
            if len(reading):
                self._newest_ns[info.name] = int(reading.arrival_ns[-1])
            self._spool.readings(channel, reading.arrival_ns, span_ns, reading.watts, reading.flags, before)

    def stop(self) -> None:
        """End it; harmless twice."""
        self._ending.set()
        for thread, info in zip(self._threads, self.infos, strict=False):
            thread.join(STOP_TIMEOUT_S + (2 * info.cycle_s if np.isfinite(info.cycle_s) else 0.0))
            if thread.is_alive():
                self._trouble.append(f"{thread.name.removeprefix('powersample-')}: the meter did not end; left behind")
        if not self._threads:
            for meter in self._meters:
                self._tried("a meter: not closed", meter.close)
        self._threads = []
        if self._spool is not None:
            self._spool.close()

    def trouble(self) -> list[str]:
        """Return what went wrong with recording them; gaps are no trouble, they stand in the trace."""
        found = list(self._trouble)
        if self._spool is not None and self._spool.failure is not None:
            found.append(f"meters: the spool stopped writing: {self._spool.failure.strerror}")
        return found
