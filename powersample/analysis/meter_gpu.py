# SPDX-License-Identifier: Apache-2.0
"""The power of the GPUs as a meter at the wall tells it, by taking away all else, and what that costs in certainty.

    P_GPU^meter = P_total - P_CPU - P_Memory - P_busy
    u^2         = u^2(P_total) + u^2(P_CPU) + u^2(P_Memory) + (P_busy,high - P_busy,low)^2 / 12

The first three are measured; the uncaptured power P_busy is only known to lie between two calibrated values, anywhere
between them alike. That does not average out over a run, so it is added linearly to the 95 % limits of the others:
783 to 811 W are +-14 W, which is 9.6 % of 146 W and 4.6 % of 305 W, above the meter's own error. A correlation does not
see it: beside one there must be a bias and limits of agreement (`analysis.agreement`).

Source: arXiv 2505.15631, section IV, for the difference and the figures; the uncertainty is derived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from powersample.analysis.interval import NORMAL_95
from powersample.analysis.primary import Measured, window_energies
from powersample.analysis.totals import totals
from powersample.errors import InvalidArgument
from powersample.model import Energy, Trace, Window

PARTS = {"wall": "node_j", "package": "cpu_j", "dram": "dram_j", "gpu": "gpu_j"}


@dataclass(frozen=True, slots=True)
class Watts:
    """A mean power and its standard uncertainty, W."""

    watts: float
    u_w: float = 0.0


@dataclass(frozen=True, slots=True)
class MeterSide:
    """What a meter tells of the GPUs in one window; None where a part is missing, and `reason` says which.

    Attributes:
        window: its name.
        watts: mean power of all GPUs together, W.
        u_w: its standard uncertainty.
        low_w, high_w: 95 % limits.
        counted_w: the same by the GPUs' own counters; None where they tell nothing.
        total, cpu, memory: what went into it; `memory` None where it lies in the uncaptured power.
        reason: "" where there is a figure.
    """

    window: str
    watts: float | None
    u_w: float | None = None
    low_w: float | None = None
    high_w: float | None = None
    counted_w: float | None = None
    total: Watts | None = None
    cpu: Watts | None = None
    memory: Watts | None = None
    reason: str = ""


def subtract(total: Watts, cpu: Watts, memory: Watts, busy_w: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return (mean power of the GPUs, standard uncertainty, 95 % limits), W.

    Args:
        total: at the plug.
        cpu: of all packages.
        memory: of all DRAM; `Watts(0)` where it is part of `busy_w`.
        busy_w: lowest and highest uncaptured power.

    Raises:
        InvalidArgument: the lowest is above the highest.
    """
    least_w, most_w = busy_w
    if not least_w <= most_w:
        raise InvalidArgument(f"uncaptured power from {least_w} to {most_w} W: the lower value goes first")
    watts = total.watts - cpu.watts - memory.watts - (least_w + most_w) / 2
    chance_w = math.hypot(total.u_w, cpu.u_w, memory.u_w)
    half_w = NORMAL_95 * chance_w + (most_w - least_w) / 2
    return watts, math.hypot(chance_w, (most_w - least_w) / 12**0.5), watts - half_w, watts + half_w


def meter_side_gpu(
    trace: Trace, windows: Sequence[Window], busy_w: tuple[float, float], *, memory: str = "measured"
) -> list[MeterSide]:
    """Return what the meter tells of the GPUs in every window.

    Args:
        trace: a recording of a meter, packages and, unless `memory` is "inside", DRAM.
        windows: the windows.
        busy_w: lowest and highest uncaptured power, W, of the calibration.
        memory: "measured": DRAM is a counter here and was one at the calibration; "inside": it was none, so that the
            uncaptured power holds it.

    Raises:
        InvalidArgument: `memory` is neither.
    """
    if memory not in ("measured", "inside"):
        raise InvalidArgument(f"memory is {memory!r}: measured or inside")
    found = window_energies(trace, windows)
    return [_one(window, measured, busy_w, memory) for window, measured in zip(windows, found, strict=True)]


def _one(window: Window, measured: Sequence[Measured], busy_w: tuple[float, float], memory: str) -> MeterSide:
    sums = totals(measured, window)
    gpu = sums["gpu_j"]
    counted_w = None if gpu is None or not window.duration_s else gpu / window.duration_s
    needed = ("wall", "package") if memory == "inside" else ("wall", "package", "dram")
    parts = {domain: _mean(domain, sums, measured, window) for domain in needed}
    if reason := _reason(parts, sums):
        return MeterSide(window.name, None, counted_w=counted_w, reason=reason)
    total, cpu, dram = (parts.get(domain) for domain in ("wall", "package", "dram"))
    assert total is not None
    assert cpu is not None
    watts, u_w, low_w, high_w = subtract(total, cpu, dram or Watts(0.0), busy_w)
    return MeterSide(window.name, watts, u_w, low_w, high_w, counted_w, total, cpu, dram)


def _reason(parts: Mapping[str, Watts | None], sums: Mapping[str, Any]) -> str:
    absent = [domain for domain in parts if sums[PARTS[domain]] is None]
    if absent:
        return f"no {' and no '.join(absent)} energy"
    unrated = [domain for domain, part in parts.items() if part is None]
    return f"{' and '.join(unrated)}: no interval is known" if unrated else ""


def _mean(domain: str, sums: Mapping[str, Any], measured: Sequence[Measured], window: Window) -> Watts | None:
    """Return the mean power of all devices of a domain; None where one lacks its energy or its interval."""
    joules = sums[PARTS[domain]]
    mine = [one.energy for one in measured if one.primary and not one.spare and one.energy.domain == domain]
    halves = [_half_j(one) for one in mine]
    if joules is None or not window.duration_s or None in halves:
        return None
    u_j = math.hypot(*(half for half in halves if half is not None)) / NORMAL_95
    return Watts(joules / window.duration_s, u_j / window.duration_s)


def _half_j(energy: Energy) -> float | None:
    if energy.joules is None or energy.low_j is None or energy.high_j is None:
        return None
    return max(energy.joules - energy.low_j, energy.high_j - energy.joules)
