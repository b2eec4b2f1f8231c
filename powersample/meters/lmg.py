# SPDX-License-Identifier: Apache-2.0
"""ZES ZIMMER LMG450, LMG95 and LMG500 on a serial line or behind a serial-to-TCP server, LMG600 on TCP.

Set up once (language, ranges fixed, cycle), then streaming: a line a cycle, with the meter's own cycle counter and the
cycle's true length where it gives them, and the power of each phase. The LMG450 has no clock in its stream: arrivals
are stamped here. The true cycle is a whole number of mains periods, so a cycle of 50 ms alternates between 40 and 60.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial

from powersample import errors
from powersample.formats.lmg import Identity, Line
from powersample.meters.contract import MeterBatch, MeterInfo, power_channel
from powersample.meters.link import Link
from powersample.meters.lmg_dialogue import Dialogue
from powersample.meters.lmg_settings import Settings
from powersample.meters.lmg_stream import Stream
from powersample.meters.registry import Address
from powersample.meters.transport import latency_timer_ms

DEAD_S = 10.0  # without a line, or 3 cycles: the link is dead (lmgd's rule)
DEAD_CYCLES = 3
RETRY_S = 0.5
BACK_S = 8.0  # to set it up anew: a meter that answers each question slowly must not outlast the recording's end
PROBE_S = 1.0
SIMULATED = "SIMULATED"  # in the firmware's place of a simulator's identity
MODELS = {"lmg450": "LMG450", "lmg95": "LMG95", "lmg500": "LMG500", "lmg600": "LMG6"}
CHUNKS_A_READ = 256


def make(address: Address) -> Lmg:
    """Return the driver of an address. Raises InvalidArgument for what it cannot mean."""
    return Lmg(Settings.parse(address))


class Lmg:
    """A driver; see `meters.contract.Meter`."""

    def __init__(self, settings: Settings) -> None:
        self._set = settings
        self._link = Link(settings.port())
        self._talk = Dialogue(self._link, settings.end)
        self._who: Identity | None = None
        self._with_count = self._with_cycle = False
        self._stream = Stream(len(settings.phases), settings.cycle_s)
        self._streaming = False
        self._retry_ns = 0
        self._counts = {"reconnects": 0, "errors": 0}

    # ---- life --------------------------------------------------------------------------------------------------

    def open(self) -> MeterInfo:
        """See `Meter`."""
        try:
            self._link.open()
            self._set_up()
            self._probe()
        except BaseException:
            self.close()
            raise
        return self._info()

    def _set_up(self) -> None:
        """Bring it from any state to the one to measure in."""
        talk, words = self._talk, self._set.words
        talk.reset()
        who = talk.identify(self._set.baud)
        wanted = MODELS[self._set.address.kind]
        if not who.model.upper().replace(" ", "").startswith(wanted):
            raise errors.DeviceError(
                f"{self._link.port.name}: this is a {who.maker} {who.model}, not an {wanted}",
                "Name the meter's own kind in its address.",
            )
        if self._who is not None and (who.model, who.serial) != (self._who.model, self._who.serial):
            raise errors.DeviceError(f"{self._link.port.name}: another meter is there now: {who.model} {who.serial}")
        self._who = who
        talk.speak(words)
        for setting in (words.cycle.format(f"{self._set.cycle_s:g}"), *self._set.range_words()):
            talk.settle(setting)
            talk.check_errors(words, setting)

    def _probe(self) -> None:
        """Find out whether it tells its cycle count and the cycle's length. What it does not know may never answer."""
        words = self._set.words
        for with_count, with_cycle in ((True, True), (False, True), (True, False), (False, False)):
            if (with_count and words.count is None) or (with_cycle and words.cycle_length is None):
                continue
            self._with_count, self._with_cycle = with_count, with_cycle
            items = self._items()
            types = "f" * len(items)
            wait_s = PROBE_S + 2 * self._set.cycle_s
            try:
                self._talk.ask(";".join([words.trigger, *items]), partial(_fits, types), wait_s)
            except errors.Timeout:
                self._set_up()
                continue
            self._talk.check_errors(words, "a measurement")
            self._set.check_pipe(len(items))
            return
        raise errors.Timeout(
            f"{self._link.port.name}: the meter gives no value", "Is every phase that is asked for there?"
        )

    def _items(self) -> list[str]:
        words = self._set.words
        extra = [words.count] * self._with_count + [words.cycle_length] * self._with_cycle
        return [word for word in extra if word] + [words.power.format(phase) for phase in self._set.phases]

    def _info(self) -> MeterInfo:
        assert self._who is not None
        address, who = self._set.address, self._who
        notes = []
        if not self._with_cycle:
            notes.append("the meter does not tell its cycles' true length; the nominal one is taken")
        if not self._with_count:
            notes.append("the meter does not count its cycles; missing ones are told by the time")
        if not self._set.peaks_known:
            peaks = f"{self._set.u_peak_v:g} V and {self._set.i_peak_a:g} A"
            notes.append(f"peak ranges are taken to be {peaks}; read them off the meter, and give upeak= and ipeak=")
        timer_ms = latency_timer_ms(address.where)
        if timer_ms is not None and timer_ms > 1:
            notes.append(
                f"the USB adapter holds bytes back for up to {timer_ms} ms; "
                f"write 1 to latency_timer of {address.where} in /sys"
            )
        parts = [f"p{phase}" for phase in self._set.phases] if len(self._set.phases) > 1 else []
        return MeterInfo(
            name=address.name,
            kind=address.kind,
            address=str(address),
            maker=who.maker,
            model=who.model,
            serial=who.serial,
            firmware=who.firmware,
            channels=tuple(power_channel(address.name, f"{address.kind}.P", part=part) for part in ("", *parts)),
            cycle_s=self._set.cycle_s,
            latency_s=self._set.wire_s(len(self._items())),
            latency_class="below 50 ms: wire, firmware and adapter",
            latency_max_s=0.05,
            accuracy=self._set.accuracy(),
            simulated=address.simulated or SIMULATED in who.firmware,
            settings=self._set.as_json() | {"count": self._with_count, "true_cycle": self._with_cycle},
            notes=tuple(notes),
        )

    def start(self) -> None:
        """See `Meter`."""
        self._streaming = True
        try:
            self._begin()
        except errors.PowerSampleError:
            self._stream.open_gap("unplugged", self._link.lost or "it took no commands")

    def _begin(self) -> None:
        words, talk, packed = self._set.words, self._talk, self._set.packed
        talk.say(words.packed if packed else words.ascii)
        talk.reader.packed = packed
        talk.say(";".join([words.list_words, *self._items()]))
        talk.say(words.on)
        with_count, with_cycle = self._with_count, self._with_cycle
        self._stream.begin(time.monotonic_ns(), with_count=with_count, with_cycle=with_cycle, packed=packed)

    def read(self, timeout_s: float) -> MeterBatch:
        """See `Meter`; where the link must be made anew it may take some seconds longer."""
        if self._streaming and self._link.lost:
            self._come_back(timeout_s)
        for turn in range(CHUNKS_A_READ if self._streaming else 0):
            chunk = self._link.read(0.0 if turn else timeout_s)
            if chunk is None:
                break
            for line in self._talk.reader.feed(chunk.data, chunk.arrival_ns):
                self._stream.take(line, self._talk.reader.garbage_bytes)
        if self._streaming:
            self._watch()
        return self._stream.batch()

    def _watch(self) -> None:
        if self._link.lost:
            self._stream.open_gap("unplugged", f"{self._link.port.name}: {self._link.lost}")
            return
        silent_s = (time.monotonic_ns() - self._stream.last_ns) / 1e9
        if silent_s > max(DEAD_S, DEAD_CYCLES * self._set.cycle_s):
            self._stream.open_gap("silent", f"nothing that is a reading came for {silent_s:.0f} s")
            self._link.close()

    def _come_back(self, timeout_s: float) -> None:
        """Try to make the link anew, at most each `RETRY_S`."""
        wait_s = (self._retry_ns - time.monotonic_ns()) / 1e9
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return
        self._retry_ns = time.monotonic_ns() + int(RETRY_S * 1e9)
        if not self._link.reopen():
            return
        self._talk.until_s = time.monotonic() + BACK_S
        try:
            self._set_up()
            self._begin()
        except errors.PowerSampleError as error:
            self._stream.tell_why(str(error))
            self._link.close()
            return
        finally:
            self._talk.until_s = math.inf
        self._counts["reconnects"] += 1

    def stop(self) -> None:
        """See `Meter`."""
        was_streaming, self._streaming = self._streaming, False
        if not was_streaming or self._link.lost:
            return
        words, talk = self._set.words, self._talk
        try:
            talk.say(words.off)
            talk.say("*OPC?")
            for line in talk.lines(max(1.0, 2 * self._set.cycle_s)):  # what is under way comes before the answer
                if line.word == "1":
                    break
                self._stream.take(line, talk.reader.garbage_bytes)
            talk.reader.packed = False
            talk.say(words.ascii)
            talk.check_errors(words, "the measurement")
            talk.say("GTL")
        except errors.PowerSampleError:
            self._counts["errors"] += 1

    def close(self) -> None:
        """See `Meter`."""
        self._streaming = False
        self._link.close()

    def counts(self) -> Mapping[str, int]:
        """See `Meter`."""
        lost = {"garbage_bytes": self._talk.reader.garbage_bytes, "dropped_bytes": self._link.dropped_bytes}
        return self._stream.counts | self._counts | lost


def _fits(types: str, line: Line) -> bool:
    return line.values(types) is not None
