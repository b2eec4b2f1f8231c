# SPDX-License-Identifier: Apache-2.0
"""Answers of power analysers that speak SCPI, and the words by which each family gives its active power.

Yokogawa WT and GW Instek GPM share `:NUMeric:NORMal:VALue?`; Hioki has `:MEASure? P`. Values are comma- or semicolon-
separated; NAN is no data, INF out of range; SCPI's own 9.91E37 and 9.9E37 stand for the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from powersample.errors import BadFormat
from powersample.model import Accuracy

NOT_A_NUMBER = 9.91e37  # SCPI-99, 7.2.1.4; its infinity is 9.9E37
ABSURD_W = 1e9  # other makers have sentinels of their own, such as 9999.9E+9
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(E[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family of instruments is asked.

    Attributes:
        what: Maker and models, for people.
        models: What its `*IDN?` must contain, any of them.
        setup: Sent at the start; `{element}` and `{rate}` stand for the options.
        question: Asks for active power, in W.
        rates: Update intervals that can be set, s, and their words; empty: only as the instrument is.
        update_s: Default update interval, s.
        accuracy: Limits of error of the family's data sheets at 50/60 Hz, without the range.
        ranges: Ask for the ranges of voltage and current, whose product is the range of power.
        element: Default input element.
        port: TCP port of its raw socket; None where it has none.
    """

    what: str
    models: tuple[str, ...]
    setup: tuple[str, ...]
    question: str
    rates: Mapping[float, str]
    update_s: float
    accuracy: Accuracy
    ranges: tuple[str, ...] = ()
    element: str = "1"
    port: int | None = None


_WT = (
    ":COMMunicate:REMote ON",
    ":NUMeric:FORMat ASCii",
    ":NUMeric:NORMal:NUMber 1",
    ":NUMeric:NORMal:ITEM1 P,{element}",
)
_ASK = ":NUMeric:NORMal:VALue?"
_WT_RANGES = (":INPut:VOLTage:RANGe?", ":INPut:CURRent:RANGe?")
_SHEET = "data sheet, from memory: verify for your model and range"


def _sheet(reading_pct: float, range_pct: float) -> Accuracy:
    return Accuracy(reading_pct, range_pct, origin=_SHEET)


DIALECTS: Mapping[str, Dialect] = {
    "wt310": Dialect(
        "Yokogawa WT310/WT310E/WT330/WT330E",
        ("WT31", "WT33"),
        (*_WT, ":RATE {rate}"),
        _ASK,
        {0.1: "100MS", 0.25: "250MS", 0.5: "500MS", 1.0: "1S", 2.0: "2S", 5.0: "5S"},
        0.25,
        _sheet(0.1, 0.05),
        _WT_RANGES,
    ),
    "wt5000": Dialect(
        "Yokogawa WT3000/WT5000",
        ("WT50", "WT30", "WT18", "WT5000"),
        (*_WT, ":RATE {rate}"),
        _ASK,
        {0.05: "50MS", 0.1: "100MS", 0.2: "200MS", 0.5: "500MS", 1.0: "1S", 2.0: "2S", 5.0: "5S"},
        0.1,
        _sheet(0.03, 0.05),
        _WT_RANGES,
    ),
    "gpm": Dialect(
        "GW Instek GPM-8310/GPM-8213",
        ("GPM",),
        _WT[2:],
        _ASK,
        {},
        0.25,
        _sheet(0.1, 0.1),
        port=23,
    ),
    "hioki": Dialect(
        "Hioki PW3335/PW3336/PW3337",
        ("PW333",),
        (":HEADer OFF",),
        ":MEASure? P{element}",
        {},
        0.2,
        _sheet(0.1, 0.05),
        (":VOLTage:RANGe?", ":CURRent:RANGe?"),
        element="",
        port=3300,
    ),
}


def identity(reply: str) -> tuple[str, str, str, str]:
    """Return maker, model, serial number and firmware from the answer to `*IDN?`.

    Raises:
        BadFormat: No maker and model.
    """
    cells = [cell.strip() for cell in reply.strip().split(",")]
    if len(cells) < 2 or not cells[0] or not cells[1]:
        raise BadFormat(f"{reply[:80]!r} is no answer to *IDN?: maker, model, serial number, firmware")
    return cells[0], cells[1], cells[2] if len(cells) > 2 else "", cells[3] if len(cells) > 3 else ""


def power(reply: str) -> float:
    """Return the watts that an answer begins with: NaN for no data, infinity for out of range.

    Raises:
        BadFormat: It is no number.
    """
    cell = re.split(r"[,;]", reply.strip(), maxsplit=1)[0].strip()
    cell = cell.rpartition(" ")[2]  # with its header switched on: "P +1.234E+2"
    word = cell.upper().lstrip("+-")
    if word in ("NAN", "----", "------"):
        return math.nan
    if word in ("INF", "INFINITY", "OF", "O.F", "O.R"):
        return math.inf
    if not NUMBER.fullmatch(cell):
        raise BadFormat(f"{reply[:80]!r} is no number of watts")
    value = float(cell)
    if abs(value) >= NOT_A_NUMBER:
        return math.nan
    return math.inf if abs(value) >= ABSURD_W else value
