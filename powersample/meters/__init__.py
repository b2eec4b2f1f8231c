# SPDX-License-Identifier: Apache-2.0
"""External instruments: drivers behind one contract, each loaded when its kind of meter is named."""

from powersample.meters.contract import Meter, MeterBatch, MeterGap, MeterReading
from powersample.meters.registry import Address, known_kinds, make_meter, parse_addresses

__all__ = [
    "Address",
    "Meter",
    "MeterBatch",
    "MeterGap",
    "MeterReading",
    "known_kinds",
    "make_meter",
    "parse_addresses",
]
