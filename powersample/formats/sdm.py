# SPDX-License-Identifier: Apache-2.0
"""Registers of Eastron SDM energy meters: Modbus function 04, one IEEE float over two registers, high word first."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from powersample.errors import BadFormat
from powersample.model import Accuracy

FLOAT_REGISTERS = 2
# At unity power factor; below a tenth of the base current it is more.
ACCURACY = Accuracy(1.0, origin="class 1 (IEC 62053-21), as the maker declares")


@dataclass(frozen=True, slots=True)
class Model:
    """A model: where its active power is, W, and how it is usually wired.

    Attributes:
        what: For people.
        power: Input register of the total active power.
        bits: Framing that it ships with; many of one model ship with another.
    """

    what: str
    power: int
    bits: str = "8N1"


MODELS: Mapping[str, Model] = {
    "sdm120": Model("Eastron SDM120, one phase", 0x000C),
    "sdm230": Model("Eastron SDM230, one phase", 0x000C),
    "sdm72": Model("Eastron SDM72D-M, three phases", 0x0034),
    "sdm630": Model("Eastron SDM630, three phases", 0x0034),
}


def watts(registers: Sequence[int]) -> float:
    """Return the power that two input registers hold; NaN for the patterns that stand for none.

    Raises:
        BadFormat: They are not two words.
    """
    if len(registers) != FLOAT_REGISTERS or any(not 0 <= word < 1 << 16 for word in registers):
        raise BadFormat(f"{list(registers)[:8]!r} are not two registers of 16 bits")
    (value,) = struct.unpack(">f", struct.pack(">HH", *registers))
    return float(value) if math.isfinite(value) else math.nan
