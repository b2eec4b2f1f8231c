# SPDX-License-Identifier: Apache-2.0
"""Records meters into a spool, each by a thread of its own, so that one that is gone delays nothing else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from powersample import errors
from powersample.meters.contract import Meter, MeterBatch, MeterInfo

if TYPE_CHECKING:
    from powersample.store.meter_spool import MeterSpool

READ_S = 0.2
GATHER_S = 0.2  # readings are taken together: waking a thread for each costs more than they do
QUICK_S = 0.02  # cycles shorter than this come in such numbers that they gather by themselves
STOP_TIMEOUT_S = 20.0  # a meter that is just being set up anew
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
                self._close(meter)
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
        assert self._spool is not None
        try:
            meter.start()
            while not self._ending.is_set():
                self._write(info, meter.read(READ_S))
                self._ending.wait(gather_s(info))
            meter.stop()
            self._write(info, meter.read(0.0))
        except Exception as error:  # a driver's mistake ends that meter, and nothing else
            log.exception("meter %s", info.name)
            self._trouble.append(f"meter {info.name} ended early: {error or type(error).__name__}")
        finally:
            self._close(meter, info.name)
            self._spool.event("meter_counts", info.name, counts=dict(meter.counts()))

    def _close(self, meter: Meter, name: str = "") -> None:
        """Close a meter; that it cannot be is no reason to lose what it told, or why it is closed."""
        try:
            meter.close()
        except Exception as error:
            log.exception("meter %s", name)
            self._trouble.append(f"meter {name}: not closed: {error or type(error).__name__}".replace(" :", ":"))

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
            self._spool.readings(channel, reading.arrival_ns, span_ns, reading.watts, reading.flags, before)

    def stop(self) -> None:
        """End it; harmless twice."""
        self._ending.set()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S)
            if thread.is_alive():
                self._trouble.append(f"{thread.name.removeprefix('powersample-')}: the meter did not end; left behind")
        if not self._threads:
            for meter in self._meters:
                self._close(meter)
        self._threads = []
        if self._spool is not None:
            self._spool.close()

    def trouble(self) -> list[str]:
        """Return what went wrong with recording them; gaps are no trouble, they stand in the trace."""
        found = list(self._trouble)
        if self._spool is not None and self._spool.failure is not None:
            found.append(f"meters: the spool stopped writing: {self._spool.failure.strerror}")
        return found
