# SPDX-License-Identifier: Apache-2.0
"""The command interpreter of the simulated LMG: SHORT and SCPI, settings, questions, and the error queue. No I/O."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from powersample.formats.lmg import pack

Item = str | float | int  # an answer: a word, a reading, a count

UNKNOWN, OUT_OF_RANGE = (-113, "Undefined header"), (-222, "Data out of range")
CYCLE_S = (0.05, 60.0)
LARGEST = {"U": 600.0, "I": 16.0}
PHASES = 4

# One pattern a command; SCPI words may be long or short. A group takes the argument.
COMMON = {
    r"\*IDN\?": "identify",
    r"\*RST": "reset",
    r"\*CLS": "clear",
    r"\*OPC\?": "done",
    r":?SYST(?:EM)?:LANG(?:UAGE)? (\w+)": "language",
    r"\*ZLANG (\w+)": "language",
    r"GTL": "local",
}
SHORT = {
    r"LANG (\w+)": "language",
    r"CYCL ([\d.]+)": "cycle",
    r"([UI])AM (MANUAL|AUTO)": "auto",
    r"([UI])AUTO\d? ([01])": "auto",
    r"([UI])RNG\d? ([\d.]+)": "range",
    r"SCPL \w+": "nothing",
    r"FAAF \d": "nothing",
    r"FILT \d": "nothing",
    r"INIM": "trigger",
    r"ACTN": "list",
    r"CONT (ON|OFF)": "stream",
    r"FRMT (ASCII|PACKED)": "format",
    r"ERRALL\?": "errors",
    r"((?:PF|UTRMS|ITRMS|[PQS])\d+|FREQ|COUNT|SCTC|CYCR|CYCL|[UI]RNG\d?)\?": "value",
}
SCPI = {
    r":?SENS(?:E)?:SWE(?:EP)?:TIME ([\d.]+)": "cycle",
    r":?SENS(?:E)?:(VOLT|CURR)(?:AGE|ENT)?:RANG(?:E)?:AUTO\d? ([01])": "auto",
    r":?SENS(?:E)?:(VOLT|CURR)(?:AGE|ENT)?:RANG(?:E)?\d? ([\d.]+)": "range",
    r":?SENS(?:E)?:ZPR(?:EJECT)? [01]": "nothing",
    r":?INP(?:UT)?:COUP(?:LING)? [01]": "nothing",
    r":?INIT(?:IATE)?:IMM(?:EDIATE)?": "trigger",
    r":?TRIG(?:GER)?:ACT(?:ION)?": "list",
    r":?INIT(?:IATE)?:CONT(?:INUOUS)? (ON|OFF)": "stream",
    r":?FORM(?:AT)?:DATA ([01])": "format",
    r":?SYST(?:EM)?:ERR(?:OR)?:ALL\?": "errors",
    r"(?::?(?:FETC(?:H)?|READ))?:((?:POW(?:ER)?:(?:ACT|APP|REAC)|(?:VOLT|CURR)(?:AGE|ENT)?:TRMS)\w*?\d?)\?": "value",
}
SCPI_VALUES = {"POW:ACT": "P", "POW:APP": "S", "POW:REAC": "Q", "VOLT:TRMS": "UTRMS", "CURR:TRMS": "ITRMS"}
SPLIT = re.compile(r'(?:"[^"]*"|[^;"])+')


@dataclass(slots=True)
class Panel:
    """Everything that commands change.

    Attributes:
        identity: What *IDN? answers.
        values: What it can be asked for; a name that it lacks is an error.
        language: "SHORT" or "SCPI".
        packed: The format of answers.
        cycle_s: As set.
        ranges: Nominal ranges, "U" in V and "I" in A.
        auto: Whether each goes by itself.
        listed: What a cycle's line holds.
        streaming: Whether lines come.
        queue: Errors, oldest first.
        resets: How often it was reset.
        hangs_on_unknown: A question for a phase that is not there is never answered, and neither is its line.
    """

    identity: str
    values: Callable[[str], Item | None]
    language: str = "SCPI"
    packed: bool = False
    cycle_s: float = 0.5
    ranges: dict[str, float] = field(default_factory=lambda: {"U": 600.0, "I": 16.0})
    auto: dict[str, bool] = field(default_factory=lambda: {"U": True, "I": True})
    listed: list[str] = field(default_factory=list)
    streaming: bool = False
    queue: list[tuple[int, str]] = field(default_factory=list)
    resets: int = 0
    hangs_on_unknown: bool = True
    _line: list[Item] = field(default_factory=list)
    _later: list[str] | None = None  # of a line that waits for its cycle's end
    _listing: bool = False
    _hung: bool = False

    def break_(self) -> None:
        """Take a serial break: the interface is as after power-on."""
        self.language, self.packed, self.streaming = "SCPI", False, False
        self.listed, self._later = [], None

    def execute(self, line: str) -> list[Item]:
        """Obey a line; return what it answers at once."""
        self._line, self._listing, self._hung = [], False, False
        for word in SPLIT.findall(line):
            self._obey(word.strip())
        return [] if self._hung else self._line

    def cycle_is_over(self) -> list[list[Item]]:
        """Return the lines that a cycle's end brings."""
        lines = []
        if self._later is not None:
            lines.append(self._answers(self._later))
            self._later = None
        if self.streaming and self.listed:
            lines.append(self._answers(self.listed))
        return [line for line in lines if line]

    def _answers(self, names: Sequence[str]) -> list[Item]:
        return [value for name in names if (value := self.values(name)) is not None]

    def _obey(self, word: str) -> None:
        if not word:
            return
        for table in (COMMON, SHORT if self.language == "SHORT" else SCPI):
            for pattern, name in table.items():
                found = re.fullmatch(pattern, word, re.IGNORECASE)
                if found is not None:
                    getattr(self, f"_{name}")(*found.groups())
                    return
        self.queue.append(UNKNOWN)

    # ---- one method a command ----------------------------------------------------------------------------------

    def _identify(self) -> None:
        self._line.append(self.identity)

    def _reset(self) -> None:
        self.cycle_s, self.listed, self.streaming = 0.5, [], False
        self.ranges, self.auto = {"U": 600.0, "I": 16.0}, {"U": True, "I": True}
        self.resets += 1

    def _clear(self) -> None:
        self.queue.clear()

    def _done(self) -> None:
        self._line.append("1")

    def _language(self, name: str) -> None:
        self.language = name.upper()

    def _local(self) -> None:
        self.streaming = False

    def _nothing(self) -> None:
        pass

    def _cycle(self, text: str) -> None:
        least, most = CYCLE_S
        if least <= float(text) <= most:
            self.cycle_s = float(text)
        else:
            self.queue.append(OUT_OF_RANGE)

    def _auto(self, which: str, how: str) -> None:
        self.auto[_side(which)] = how.upper() in ("AUTO", "1")

    def _range(self, which: str, text: str) -> None:
        if 0 < float(text) <= LARGEST[_side(which)]:
            self.ranges[_side(which)] = float(text)
        else:
            self.queue.append(OUT_OF_RANGE)

    def _trigger(self) -> None:
        self._later = []

    def _list(self) -> None:
        self.listed, self._listing = [], True

    def _stream(self, how: str) -> None:
        self.streaming = how.upper() == "ON"

    def _format(self, how: str) -> None:
        self.packed = how.upper() in ("PACKED", "1")

    def _errors(self) -> None:
        code, text = self.queue.pop(0) if self.queue else (0, "No error")
        self._line.append(f'{code},"{text}"')

    def _value(self, name: str) -> None:
        name = name.upper()
        for long, short in SCPI_VALUES.items():
            family, _, quantity = long.partition(":")
            found = re.fullmatch(rf"{family}\w*:{quantity}\w*?(\d?)", name)
            if found:
                name = short + (found[1] or "1")
        if self.values(name) is None:
            self.queue.append(UNKNOWN)
            self._hung |= self.hangs_on_unknown
        elif self._listing:
            self.listed.append(name)
        elif self._later is not None:
            self._later.append(name)
        else:
            self._line += self._answers([name])


def _side(word: str) -> str:
    return "U" if word.upper().startswith(("U", "V")) else "I"


def encode(items: Sequence[Item], *, packed: bool, one_block: bool, end: bytes, whole_counts: bool) -> bytes:
    """Return an answer as bytes.

    Args:
        items: What it holds.
        packed: Blocks, or text.
        one_block: Packed readings in one block, else in one each.
        end: End of a line of text.
        whole_counts: Packed counts as int32 instead of float32.
    """
    if not packed:
        words = [f"{item:.5E}" if isinstance(item, float) else str(item) for item in items]
        return ";".join(words).encode("ascii") + end
    blocks = []
    for item in items:
        if isinstance(item, str):
            blocks.append(item.encode("ascii"))
        else:
            blocks.append(struct.pack("<i" if isinstance(item, int) and whole_counts else "<f", item))
    return pack([b"".join(blocks)] if one_block else blocks)
