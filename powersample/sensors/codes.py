# SPDX-License-Identifier: Apache-2.0
"""What the codes of failed readings mean, in words, by where a channel's values come from."""

import os

from powersample.formats.parsed import STATUS_TEXT
from powersample.sensors.lookup import RAPL_ROUTES

NVML = {  # nvmlReturn_t of nvml.h, API version 13
    1: "the driver is not initialised", 2: "invalid argument", 3: "not supported", 4: "no permission", 6: "not found",
    9: "the driver is not loaded", 10: "timed out", 11: "an interrupt request failed", 12: "NVML's library is missing",
    15: "the GPU is lost", 16: "the GPU requires a reset", 17: "the driver is blocked", 18: "driver and library differ",
    19: "in use", 20: "out of memory", 21: "no data", 27: "the driver is not ready", 999: "unknown error",
}  # fmt: skip
SYSTEM = (*RAPL_ROUTES, "hwmon", "battery")  # whose codes are errno


def code_words(sensor: str, code: int) -> str:
    """Return a code and what it means where that is known: "15, the GPU is lost"."""
    origin = sensor.partition(".")[0]
    meaning = STATUS_TEXT.get(code)
    if meaning is None and origin == "nvml":
        meaning = NVML.get(code)
    if meaning is None and origin in SYSTEM and 0 < code < 4096:
        meaning = os.strerror(code).lower()
    return f"{code}, {meaning}" if meaning else str(code)
