# SPDX-License-Identifier: Apache-2.0
"""What a page and a picture say first: the energy of the longest window, of what, its interval and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from powersample.analysis.interval import ORDER
from powersample.analysis.totals import PART_DOMAINS, PARTS
from powersample.report.text import TOTAL_NAMES


@dataclass(frozen=True, slots=True)
class Answer:
    """An energy to be quoted.

    Attributes:
        what: whose energy: "the whole node, by the meter", "GPU + CPU + DRAM", "package-0.energy".
        joules: it.
        low_j: the lower end of its 95 % interval; None where nothing is known of what the sensors may be off by.
        high_j: its upper end; None likewise.
        verdict: on its interval.
        in_part: whether it is the sum of what counters of the node saw, and not all of it.
    """

    what: str
    joules: float
    low_j: float | None
    high_j: float | None
    verdict: str
    in_part: bool = False


def longest(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the longest window of a report's JSON object; None if there is none."""
    return max(data["windows"], key=lambda one: float(one["duration_s"]), default=None)


def answer(window: Mapping[str, Any]) -> Answer | None:
    """Return a window's energy: the node's where a meter or a calibration tells it, else the sum of what was measured.

    Returns:
        None where neither is told, and no single device stands alone.
    """
    totals, node = window["totals"], window["holistic"]
    if totals["node_j"] is not None:
        by_meter = totals["node_by"] == "meter"
        what = "the whole node, by the meter" if by_meter else "the whole node, calibrated"
        verdict = node["verdict"] if node["total_j"] is not None else _meter_verdict(window)
        return Answer(what, totals["node_j"], totals["node_low_j"], totals["node_high_j"], verdict)
    seen = [key for key in PARTS if totals[key] is not None]
    if seen:
        joules = math.fsum(totals[key] for key in seen)
        names = " + ".join(TOTAL_NAMES[key] for key in seen)
        verdict = totals["verdict"] if totals["low_j"] is not None else _worst(window)
        return Answer(names, joules, totals["low_j"], totals["high_j"], verdict, in_part=True)
    alone = [one for one in window["energies"] if one["primary"] and one["joules"] is not None]
    if len(alone) == 1:
        (one,) = alone
        return Answer(one["channel"], one["joules"], one["low_j"], one["high_j"], one["verdict"])
    return None


def _worst(window: Mapping[str, Any]) -> str:
    """Return the verdict on a sum without an interval: what no part of it may be quoted by, it may not, either."""
    parts = [one["verdict"] for one in window["energies"] if one["primary"] and one["domain"] in PART_DOMAINS]
    return "unusable" if "unusable" in parts else "unrated"


def _meter_verdict(window: Mapping[str, Any]) -> str:
    found = [
        one["verdict"] for one in window["energies"] if one["primary"] and one["domain"] == "wall" and not one["spare"]
    ]
    return max(found, key=lambda word: ORDER.index(word) if word in ORDER else len(ORDER), default="unrated")
