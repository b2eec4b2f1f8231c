# SPDX-License-Identifier: Apache-2.0
"""A simulated ZES ZIMMER LMG: the meter's clock, its cycles, its answers and its faults, on a pseudo-terminal or TCP.

A cycle ends with the mains period that its nominal end lies in: at 50 Hz a cycle of 50 ms is 40 or 60 ms long. Its
value is the exact mean of the power over it; the line leaves when the firmware is done, and arrives when the last byte
has left the wire. It says SIMULATED where a real one tells its firmware.
"""

from __future__ import annotations

import os
import random
import select
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from powersample.errors import InvalidArgument
from powersample.formats.lmg import INFINITE, NOT_A_NUMBER
from powersample.meters.contract import PowerFunction
from powersample.sim.lmg_line import Line, PtyLine
from powersample.sim.lmg_words import PHASES, Item, Panel, encode

MAINS_V, POWER_FACTOR = 230.0, 0.97
CREST_OF_RANGE = 1.3  # a current above this much of its range is out of it
HELD_BYTES = 1 << 16  # that a host which does not read lets pile up; then lines are lost
LOG_CYCLES = 1 << 18
GARBLED = bytes(byte ^ 0xB5 for byte in range(256))  # what another baud rate makes of a byte, more or less

# What may befall a cycle, besides bytes of one's own before its line.
FAULTS = ("missing", "half", "repeat", "nan", "over", "silent", "restart", "unplug", "plug")


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle that was measured: its count, its exact span on the simulation's clock, and its mean W."""

    count: int
    start_ns: int
    end_ns: int
    watts: float


class LmgSimulator:
    """A meter that runs until it is closed. Use it as a context manager.

    Args:
        power: Mean W over a span of the simulation's clock, which is CLOCK_MONOTONIC while `time_scale` is 1.
        line: Where it is connected; None makes a pseudo-terminal.
        model: As *IDN? says it.
        baud: Of its serial port: how long bytes take; a host on a pseudo-terminal at another one gets and gives
            garbage. None: no time on the wire.
        latency_s: From a cycle's end to the first byte.
        mains_hz: Cycles end with its periods.
        skew_ppm: By how much its clock is fast.
        gain_pct: Its error, percent of the reading.
        noise_w: Standard deviation of what is added to each cycle.
        one_block: Packed readings in one block a line, else one each.
        whole_counts: Packed counts as int32.
        end: End of its lines of text.
        with_cycr: Whether it knows CYCR and COUNT.
        faults: What befalls the n-th cycle: bytes sent before its line, or one of `FAULTS`.
        time_scale: How much faster than CLOCK_MONOTONIC everything runs.
        first_count: Where its cycle counter begins.
        seed: Of its noise.
    """

    def __init__(
        self,
        power: PowerFunction,
        *,
        line: Line | None = None,
        model: str = "LMG450",
        baud: int | None = 115200,
        latency_s: float = 0.003,
        mains_hz: float = 50.0,
        skew_ppm: float = 0.0,
        gain_pct: float = 0.0,
        noise_w: float = 0.0,
        one_block: bool = True,
        whole_counts: bool = False,
        end: bytes = b"\n",
        with_cycr: bool = True,
        faults: Mapping[int, str | bytes] | None = None,
        time_scale: float = 1.0,
        first_count: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0 < time_scale <= 1000 or mains_hz <= 0:
            raise InvalidArgument("time_scale must be from above 0 to 1000, mains_hz above 0")
        unknown = [what for what in (faults or {}).values() if isinstance(what, str) and what not in FAULTS]
        if unknown:
            raise InvalidArgument(f"fault {unknown[0]!r} is unknown; use {', '.join(FAULTS)}, or bytes")
        self.line = PtyLine() if line is None else line
        self._power, self._baud, self._latency_s = power, baud, latency_s
        self._mains_s, self._rate = 1 / mains_hz, 1 + skew_ppm * 1e-6
        self._gain, self._noise_w = 1 + gain_pct / 100, noise_w
        self._one_block, self._whole_counts, self._end = one_block, whole_counts, end
        self._with_cycr, self._faults, self._scale = with_cycr, dict(faults or {}), time_scale
        self._random = random.Random(seed)
        self.panel = Panel(f"ZES ZIMMER Electronic Systems GmbH,{model},SIM-{seed:04d},SIMULATED", self._value)
        self.cycles: deque[Cycle] = deque(maxlen=LOG_CYCLES)
        self.lost_lines = 0
        self._count = first_count
        self._nth = 0  # cycles since the stream was switched on
        self._silent = False
        self._last = Cycle(first_count, 0, 1, 0.0)
        self._shown = 0.0
        self._out: deque[tuple[int, bytes]] = deque()  # (host instant at which it has arrived, bytes)
        self._wire_free_ns = 0
        self._heard = bytearray()
        self._begin_host_ns = self._begin_ns = time.monotonic_ns()
        self._mains_ns = self._mains_s * 1e9
        self._period = 0  # the mains period that the last cycle ended with
        self._ideal_ns = 0.0  # where the current cycle ends by the meter's clock
        self._lock = threading.Lock()
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="powersample-lmg-sim", daemon=True)
        self._thread.start()

    # ---- for its owner -----------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where a driver finds it: a path or a URL."""
        return self.line.address

    def ends_ns(self) -> NDArray[np.int64]:
        """Return when the cycles of the stream ended, on CLOCK_MONOTONIC."""
        return np.array([self._host(one.end_ns) for one in list(self.cycles)], np.int64)

    def unplug(self) -> None:
        """Pull the plug out of the host; the meter goes on."""
        with self._lock:
            self.line.unplug()
            self._out.clear()
        self._nudge()

    def plug(self) -> None:
        """Put it in again, under the same name."""
        with self._lock:
            self.line.plug()
        self._nudge()

    def power_cycle(self) -> None:
        """Switch it off and on: it forgets everything."""
        with self._lock:
            self.panel.break_()
            self.panel.execute("*RST;*CLS")
            self._count = 0
            self._out.clear()

    def send(self, data: bytes) -> None:
        """Put bytes on the line that nobody asked for."""
        with self._lock:
            self._queue(data, self._host_now())
        self._nudge()

    def close(self) -> None:
        """End it; harmless twice."""
        if self._closing:
            return
        self._closing = True
        self._nudge()
        self._thread.join()
        self.line.close()
        for one in self._wake:
            os.close(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _nudge(self) -> None:
        os.write(self._wake[1], b"x")

    # ---- clockwork ---------------------------------------------------------------------------------------------

    def _host_now(self) -> int:
        return time.monotonic_ns()

    def _host(self, t_ns: float) -> int:
        """Return the host's instant of one of the simulation's."""
        return self._begin_host_ns + int((t_ns - self._begin_ns) / self._scale)

    def _next_end(self) -> int:
        """Return where the cycle under way ends: with the first mains period at or after its nominal end."""
        ideal_ns = self._ideal_ns + self.panel.cycle_s * 1e9 / self._rate
        period = max(self._period + 1, -int(-(ideal_ns - 1e3) // self._mains_ns))
        return self._begin_ns + round(period * self._mains_ns)

    def _run(self) -> None:
        while not self._closing:
            end_ns = self._next_end()
            due_ns = min([self._host(end_ns), *[self._out[0][0] for _ in range(bool(self._out))]])
            with self._lock:
                watched = self.line.descriptors()
            wait_s = max(0.0, (due_ns - self._host_now()) / 1e9)
            try:
                ready, _, _ = select.select([*watched, self._wake[0]], [], [], wait_s)
            except OSError:  # the line was pulled since, by another thread
                continue
            with self._lock:
                for one in ready:
                    if one == self._wake[0]:
                        os.read(one, 4096)
                    elif one in self.line.descriptors():
                        self._hear(self.line.read(one))
                if self.line.broke():
                    self.panel.break_()
                if self._host_now() >= self._host(end_ns):
                    self._end_cycle(end_ns)
                self._flush()

    def _end_cycle(self, end_ns: int) -> None:
        self._ideal_ns += self.panel.cycle_s * 1e9 / self._rate
        self._period = round((end_ns - self._begin_ns) / self._mains_ns)
        if abs(self._ideal_ns - (end_ns - self._begin_ns)) > 2 * self._mains_ns:  # the cycle was changed
            self._ideal_ns = float(end_ns - self._begin_ns)
        start_ns = self._last.end_ns if self._last.start_ns else self._begin_ns
        watts = self._power(start_ns, end_ns)
        self._count = (self._count + 1) % 65536
        self._last = Cycle(self._count, start_ns, end_ns, watts)
        self._shown = self._gain * watts + (self._random.gauss(0, self._noise_w) if self._noise_w else 0.0)
        if self.panel.streaming:
            self.cycles.append(self._last)
        fault = self._faults.get(self._nth) if self.panel.streaming else None
        self._nth += self.panel.streaming
        for items in self.panel.cycle_is_over():
            self._send_line(items, end_ns, fault)

    def _send_line(self, items: list[Item], end_ns: int, fault: str | bytes | None) -> None:
        if fault in ("nan", "over"):
            said = NOT_A_NUMBER if fault == "nan" else INFINITE
            items = [item if i < len(items) - 1 else said for i, item in enumerate(items)]
        data = self._encode(items)
        if fault == "missing" or self._silent:
            return
        if fault in ("unplug", "plug"):
            (self.line.unplug if fault == "unplug" else self.line.plug)()
        elif fault == "silent":
            self._silent = True
            return
        elif fault == "restart":
            self._count = 0
        elif fault == "half":
            data = data[: len(data) // 2]
        elif fault == "repeat":
            data += data
        elif isinstance(fault, bytes):
            data = fault + data
        self._queue(data, self._host(end_ns + self._latency_s * 1e9))

    def _encode(self, items: list[Item]) -> bytes:
        return encode(
            items,
            packed=self.panel.packed,
            one_block=self._one_block,
            end=self._end,
            whole_counts=self._whole_counts,
        )

    def _value(self, name: str) -> Item | None:
        """Return a reading of the last cycle; None for one that there is not."""
        kind, phase = name.rstrip("0123456789"), int(name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") or 0)
        if kind in ("COUNT", "CYCR") and not self._with_cycr:
            return None
        last = self._last
        single: dict[str, Item] = {
            "COUNT": last.count,
            "CYCR": (last.end_ns - last.start_ns) / 1e9 * self._rate,
            "SCTC": (last.end_ns - last.start_ns) / 1e9,
            "CYCL": self.panel.cycle_s,
            "FREQ": 1 / self._mains_s,
            "URNG": self.panel.ranges["U"],
            "IRNG": self.panel.ranges["I"],
        }
        if kind in single:
            return single[kind]
        if not 1 <= phase <= PHASES:
            return None
        watts = self._shown if phase == 1 else 0.0  # the node hangs on the first phase
        apparent = watts / POWER_FACTOR
        current = apparent / MAINS_V
        if not self.panel.auto["I"] and current > CREST_OF_RANGE * self.panel.ranges["I"]:
            return INFINITE
        return {
            "P": watts,
            "S": apparent,
            "Q": (apparent**2 - watts**2) ** 0.5,
            "PF": POWER_FACTOR,
            "UTRMS": MAINS_V,
            "ITRMS": current,
        }.get(kind)

    # ---- the line ----------------------------------------------------------------------------------------------

    def _is_foreign(self) -> bool:
        host = self.line.host_baud()
        return host is not None and self._baud is not None and host != self._baud

    def _hear(self, data: bytes) -> None:
        self._heard += data.translate(GARBLED) if self._is_foreign() else data
        *lines, rest = self._heard.replace(b"\r", b"\n").split(b"\n")
        self._heard = bytearray(rest[-1024:])
        for line in lines:
            streaming = self.panel.streaming
            answer = self.panel.execute(line.decode("latin-1"))
            if self.panel.streaming and not streaming:
                self._nth, self._silent = 0, False
            if answer:
                self._queue(self._encode(answer), self._host_now())

    def _queue(self, data: bytes, ready_ns: int) -> None:
        if sum(len(one) for _, one in self._out) > HELD_BYTES:
            self.lost_lines += 1
            return
        wire_ns = 0 if self._baud is None else int(len(data) * 10e9 / self._baud / self._scale)
        self._wire_free_ns = max(ready_ns, self._wire_free_ns) + wire_ns
        self._out.append((self._wire_free_ns, data))

    def _flush(self) -> None:
        while self._out and self._out[0][0] <= self._host_now():
            due_ns, data = self._out.popleft()
            went = self.line.write(data.translate(GARBLED) if self._is_foreign() else data)
            if went < len(data):
                self._out.appendleft((due_ns + 1_000_000, data[went:]))
                return
