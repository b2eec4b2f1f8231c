# SPDX-License-Identifier: Apache-2.0
"""SPEC PTDaemon as a meter: any analyser that it knows, over TCP.

    ptd:HOST[:PORT],interval=1,volts=230,amps=5,mark=training

The daemon stamps each sample by its own host's clock, in local time; the delay between that stamp and the earliest
arrival of late (`RL` is asked for what is new) is taken off, so that arrivals are as even as the daemon's clock is.
Options: interval (s), volts and amps (ranges; what is not given stays as it is), mark, timeout (s).
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from powersample import errors
from powersample.formats import ptdaemon as words
from powersample.formats import spl
from powersample.formats.parsed import BACKWARDS
from powersample.meters.contract import NO_NUMBER, MeterBatch, MeterGap, MeterInfo, MeterReading, power_channel
from powersample.meters.lines import Lines
from powersample.meters.registry import Address
from powersample.meters.transport import TcpPort, host_of
from powersample.model import Accuracy

ACCURACY = Accuracy(1.0, origin="SPEC accepts analysers whose uncertainty is at most 1 % where they are used")
RETRY_S = 0.5
ASK_SHARE = 20  # a question takes at most this part of the time: late answers are long where they hold every sample
LATE_ANSWERS = 64  # answers whose earliest tells the delay
SILENT_INTERVALS, SILENT_S = 5, 5.0
JUMP_NS = 60 * 10**9  # of the daemon's clock against ours: it was set, or daylight saving changed


def make(address: Address) -> PtDaemon:
    """Return the driver of a PTDaemon; nothing is opened.

    Raises:
        InvalidArgument: An option that it does not have, or no host.
    """
    address.refuse_unknown(("interval", "volts", "amps", "mark", "timeout"))
    return PtDaemon(address)


class PtDaemon:
    """A driver; see `meters.contract.Meter`."""

    def __init__(self, address: Address) -> None:
        host, port = host_of(f"tcp://{address.where.removeprefix('tcp://')}", "tcp", words.PORT)
        self._address = address
        self._lines = Lines(TcpPort(host, port), timeout_s=address.number("timeout", 3.0))
        self._interval_s = address.number("interval", 1.0)
        self._wanted = {
            what: address.number(option, 1.0)
            for what, option in (("V", "volts"), ("A", "amps"))
            if option in address.options
        }
        self._go = words.go(round(self._interval_s * 1e3), address.options.get("mark", "powersample"))
        self._before = words.Ranges(None, None)
        self._counts: Counter[str] = Counter()
        self._measuring = self._connected = False
        self._due_s = self._heard_s = 0.0
        self._stamp_ns: int | None = None
        self._delays_ns: deque[int] = deque(maxlen=LATE_ANSWERS)
        self._last_ns = 0
        self._gap: MeterGap | None = None
        self._ranges_set = False
        self._at_end = MeterBatch()

    def open(self) -> MeterInfo:
        """See `Meter`."""
        try:
            who = self._connect()
            self._before = words.ranges(self._lines.ask("RR"))
            self._ranges_set = bool(self._wanted)
            self._set_ranges(self._wanted)
            now = words.ranges(self._lines.ask("RR"))
        except BaseException:
            self.close()
            raise
        notes = ["readings are placed by the daemon's own stamps, less the least delay seen"]
        if who.simulated:
            notes.append("this is PTDaemon's dummy device: it measures nothing")
        if now.amps is None or now.volts is None:
            notes.append("the analyser chooses its range by itself: a change of it loses samples")
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker=(who.instrument or "").partition(";")[0],
            model=who.model,
            serial="",
            firmware=f"PTDaemon {who.version or 'of unknown version'}",
            channels=(power_channel(self._address.name, "ptdaemon", span="none"),),
            cycle_s=math.nan,
            latency_class="as late as the daemon's own question; below 1 s",
            latency_max_s=1.0,
            accuracy=ACCURACY,
            simulated=self._address.simulated or who.simulated,
            settings={"interval_s": self._interval_s, "volts": now.volts, "amps": now.amps},
            notes=tuple(notes),
        )

    def start(self) -> None:
        """See `Meter`; a daemon that is gone, or busy, is told as a gap."""
        self._measuring, self._last_ns = True, time.monotonic_ns()
        try:
            self._begin()
        except errors.PowerSampleError as error:
            self._lose(error)

    def read(self, timeout_s: float) -> MeterBatch:
        """See `Meter`; a question that is under way is waited for."""
        if not self._measuring:
            at_end, self._at_end = self._at_end, MeterBatch()
            return at_end
        wait_s = min(max(0.0, timeout_s), self._due_s - time.monotonic())
        if wait_s > 0:
            time.sleep(wait_s)
        if time.monotonic() < self._due_s:
            return MeterBatch()
        before = self._gap
        try:
            if not self._connected:
                self._connect()
                self._begin()
                self._counts["reconnects"] += 1
            found = self._new()
        except errors.PowerSampleError as error:
            self._lose(error)
            return MeterBatch((), (self._gap,) if self._gap is not None and before is None else ())
        return self._silence() if found is None else self._told(found)

    def _told(self, found: MeterReading) -> MeterBatch:
        self._heard_s = time.monotonic()
        gaps: tuple[MeterGap, ...] = ()
        if self._gap is not None:
            gone, self._gap = self._gap, None
            gaps = (MeterGap(gone.start_ns, int(found.arrival_ns[0]), gone.cause, None, gone.text),)
        self._last_ns = int(found.arrival_ns[-1])
        return MeterBatch((found,), gaps)

    def stop(self) -> None:
        """See `Meter`: asks for what came since the last question, and ends the measurement."""
        was_measuring, self._measuring = self._measuring, False
        if not was_measuring or not self._connected:
            return
        with self._counting_errors():
            found = self._new()
            self._at_end = MeterBatch() if found is None else self._told(found)
        with self._counting_errors():
            words.accepted("Stop", self._lines.ask("Stop"), "Stopping")

    def close(self) -> None:
        """See `Meter`: gives the ranges back as they were; to a daemon that was lost it connects once more for that."""
        self.stop()
        if self._ranges_set:
            self._ranges_set = False
            before = {"V": self._before.volts, "A": self._before.amps}
            with self._counting_errors():
                if not self._connected:
                    self._connect()
                    self._lines.ask("Stop")  # what it measures still, if anything: it changes no range meanwhile
                self._set_ranges({what: before[what] for what in self._wanted})
        self._connected = False
        self._lines.close()

    def counts(self) -> Mapping[str, int]:
        """See `Meter`."""
        return dict(self._counts)

    @contextmanager
    def _counting_errors(self) -> Iterator[None]:
        try:
            yield
        except errors.PowerSampleError:
            self._counts["errors"] += 1

    def _connect(self) -> words.Identity:
        self._lines.close()
        self._lines.open()
        words.accepted("Hello", self._lines.ask("Hello"), words.HELLO)
        who = words.identity(self._lines.ask("Identify"))
        self._connected = True
        return who

    def _set_ranges(self, wanted: Mapping[str, float | None]) -> None:
        for what, value in wanted.items():
            command = words.set_range(what, value)
            words.accepted(command, self._lines.ask(command), f"Range {what} changed")

    def _begin(self) -> None:
        try:
            words.interval_ms(self._lines.ask(self._go))
        except errors.DeviceError:  # a measurement that was left running: ours, or somebody's
            words.accepted("Stop", self._lines.ask("Stop"), "Stopping")
            words.interval_ms(self._lines.ask(self._go))
        self._heard_s = self._due_s = time.monotonic()

    def _new(self) -> MeterReading | None:
        """Ask for samples; return those that are new, None when there are none."""
        asked_s = time.monotonic()
        lines = [self._lines.line("RL") for _ in range(words.lines_to_come(self._lines.ask("RL")))]
        arrival_ns, ended_s = time.monotonic_ns(), time.monotonic()
        self._due_s = ended_s + max(self._interval_s / 4, (ASK_SHARE - 1) * (ended_s - asked_s))
        if not lines:
            return None
        try:
            power = spl.parse("\n".join(lines).encode(), self._lines.name).series[0]
        except errors.BadFormat:
            self._counts["bad_lines"] += len(lines)
            raise
        self._counts["bad_lines"] += len(lines) - len(power)
        fresh = power.status != BACKWARDS
        newest_ns = int(power.t0_ns[-1])
        if self._stamp_ns is not None:
            if self._delays_ns and abs(arrival_ns - newest_ns - self._delays_ns[-1]) > JUMP_NS:
                self._counts["clock_jumps"] += 1
                self._delays_ns.clear()
                fresh[:-1] = False
            else:
                fresh &= power.t0_ns > self._stamp_ns
        if not fresh.any():
            return None
        self._stamp_ns = newest_ns
        self._delays_ns.append(arrival_ns - newest_ns)
        stamps = np.minimum(power.t0_ns[fresh] + min(self._delays_ns), arrival_ns)
        stamps = np.maximum(stamps, self._last_ns + 1 + np.arange(len(stamps)))
        good = power.status[fresh] == 0
        watts = np.where(good, power.value[fresh], math.nan)
        flags = np.where(good, 0, NO_NUMBER).astype(np.uint16)
        return MeterReading(stamps, np.full(len(stamps), math.nan), watts, flags)

    def _silence(self) -> MeterBatch:
        """No new sample; that is ordinary until it lasts."""
        silent_s = time.monotonic() - self._heard_s
        if self._gap is not None or silent_s < max(SILENT_S, SILENT_INTERVALS * self._interval_s):
            return MeterBatch()
        self._gap = MeterGap(self._last_ns, None, "silent", None, f"{self._lines.name}: no sample for {silent_s:.0f} s")
        self._counts["losses"] += 1
        return MeterBatch((), (self._gap,))

    def _lose(self, error: errors.PowerSampleError) -> None:
        garbage = isinstance(error, errors.BadFormat)
        self._connected = False
        self._lines.close()
        self._due_s = time.monotonic() + RETRY_S
        if self._gap is None:
            self._gap = MeterGap(self._last_ns, None, "garbage" if garbage else "unplugged", None, str(error))
            self._counts["losses"] += 1
