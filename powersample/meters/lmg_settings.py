# SPDX-License-Identifier: Apache-2.0
"""What an LMG is set to, from its address, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass

from powersample import errors
from powersample.formats.lmg import SCPI, SHORT, SHORT_600, Words, line_bytes
from powersample.meters.registry import Address
from powersample.meters.transport import Port, port_of
from powersample.model import Accuracy

OPTIONS = ("baud", "cycle", "u", "i", "upeak", "ipeak", "phases", "lang", "format", "end", "handshake")
CYCLE_LIMITS_S = (0.05, 60.0)
SERIAL_TCP_PORT, LMG600_PORT, LMG600_BREAK_PORT = 2101, 5025, 5026
MOST_OF_A_CYCLE = 0.5
MANUAL = "LMG450 user manual 2009, p. 241, 45-65 Hz, direct inputs"
READING_PCT, RANGE_PCT = 0.07, 0.04

# Peak ranges of nominal ones, V and A: those that the manual's example tells. Of any other a peak range is taken to be
# this much larger, above all that are known: the limit of error is then too wide, never too narrow.
U_PEAKS = {250.0: 400.0}
I_PEAKS = {1.2: 3.75}
PEAK_FACTOR = 3.2


@dataclass(frozen=True, slots=True)
class Settings:
    """An LMG's settings; see the fields of an address in `parse`."""

    address: Address
    words: Words
    baud: int | None  # None on TCP
    cycle_s: float
    u_range_v: float
    i_range_a: float
    u_peak_v: float
    i_peak_a: float
    peaks_known: bool
    phases: tuple[int, ...]
    packed: bool
    end: bytes
    handshake: bool

    @classmethod
    def parse(cls, address: Address) -> Settings:
        """Return the settings of an address such as `lmg450:/dev/ttyUSB0,baud=57600,cycle=0.1,u=250,i=5,phases=1+2`.

        Raises:
            InvalidArgument: An unknown option, or a value outside its range.
        """
        address.refuse_unknown(OPTIONS)
        is_600 = address.kind == "lmg600"
        languages = {"short": SHORT_600 if is_600 else SHORT, "scpi": SCPI}
        on_tcp = "://" in address.where
        u_range, i_range = address.number("u", 250.0), address.number("i", 10.0)
        known = all(
            peak in address.options or nominal in table
            for peak, nominal, table in (("upeak", u_range, U_PEAKS), ("ipeak", i_range, I_PEAKS))
        )
        settings = cls(
            address=address,
            words=languages[_choice(address, "lang", "short", tuple(languages))],
            baud=None if on_tcp and is_600 else int(address.number("baud", 115200)),
            cycle_s=address.number("cycle", 0.05),
            u_range_v=u_range,
            i_range_a=i_range,
            u_peak_v=address.number("upeak", U_PEAKS.get(u_range, PEAK_FACTOR * u_range)),
            i_peak_a=address.number("ipeak", I_PEAKS.get(i_range, PEAK_FACTOR * i_range)),
            peaks_known=known,
            phases=_phases(address),
            packed=_choice(address, "format", "ascii", ("ascii", "packed")) == "packed",
            end={"lf": b"\n", "crlf": b"\r\n"}[_choice(address, "end", "lf", ("lf", "crlf"))],
            handshake=_choice(address, "handshake", "rtscts", ("rtscts", "none")) == "rtscts",
        )
        least, most = CYCLE_LIMITS_S
        if not least <= settings.cycle_s <= most:
            raise errors.InvalidArgument(
                f"meter {address}: a cycle of {settings.cycle_s:g} s; it must be from {least:g} to {most:g} s"
            )
        settings.check_pipe(len(settings.phases))
        return settings

    def wire_s(self, values: int) -> float:
        """Return how long a line of so many values is on the wire, s; 0 without one."""
        return 0.0 if self.baud is None else line_bytes(values, packed=self.packed) * 10 / self.baud

    def check_pipe(self, values: int) -> None:
        """Raise where the line is too slow for the cycle.

        Raises:
            InvalidArgument: It takes more than half of it.
        """
        wire_s = self.wire_s(values)
        if wire_s > MOST_OF_A_CYCLE * self.cycle_s:
            raise errors.InvalidArgument(
                f"meter {self.address}: {values} values a cycle take {wire_s * 1e3:.1f} ms at {self.baud} baud, more "
                f"than half of a cycle of {self.cycle_s * 1e3:g} ms",
                "Set a higher baud rate at the meter and here, format=packed, or a longer cycle=.",
            )

    def port(self) -> Port:
        """Return the port that it is at.

        Raises:
            InvalidArgument: The address names none.
        """
        where, is_600 = self.address.where, self.address.kind == "lmg600"
        return port_of(
            where,
            baud=self.baud or 115200,
            rtscts=self.handshake,
            tcp_port=LMG600_PORT if is_600 else SERIAL_TCP_PORT,
            break_port=LMG600_BREAK_PORT if is_600 else None,
        )

    def accuracy(self) -> Accuracy:
        """Return the limits of error of the sum of its phases: those of one meter add up."""
        power_range = self.u_peak_v * self.i_peak_a * len(self.phases)
        return Accuracy(READING_PCT, RANGE_PCT, power_range, origin=MANUAL)

    def range_words(self) -> tuple[str, ...]:
        """Return the commands that fix the ranges."""
        channels = self.phases if self.words.per_channel else (1,)
        u, i = f"{self.u_range_v:g}", f"{self.i_range_a:g}"
        return tuple(words.format(n=channel, u=u, i=i) for channel in channels for words in self.words.ranges)

    def as_json(self) -> dict[str, object]:
        """Return them as plain values."""
        return {
            "language": self.words.name,
            "format": "packed" if self.packed else "ascii",
            "baud": self.baud,
            "u_range_v": self.u_range_v,
            "i_range_a": self.i_range_a,
            "u_peak_v": self.u_peak_v,
            "i_peak_a": self.i_peak_a,
            "phases": list(self.phases),
        }


def _choice(address: Address, key: str, default: str, known: tuple[str, ...]) -> str:
    value = address.options.get(key, default).lower()
    if value not in known:
        raise errors.InvalidArgument(f"meter {address}: {key}={value} is unknown; use {' or '.join(known)}")
    return value


def _phases(address: Address) -> tuple[int, ...]:
    text = address.options.get("phases", "1")
    phases = tuple(int(one) for one in text.split("+") if one.isdigit())
    if not phases or "+".join(map(str, phases)) != text or not all(1 <= one <= 8 for one in phases):
        raise errors.InvalidArgument(f"meter {address}: phases={text} is no list such as 1+2+3")
    if len(set(phases)) != len(phases):
        raise errors.InvalidArgument(f"meter {address}: phases={text} names one twice")
    return phases
