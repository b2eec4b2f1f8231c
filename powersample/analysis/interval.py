# SPDX-License-Identifier: Apache-2.0
"""The 95 % interval of an averaging sensor's energy, term by term, and the verdict on it.

    h^2 = (1.96 gain_sd E)^2 + (1.96 offset_sd D)^2 + k^2 sum(weight x term)

Gain and offset are the board's, the same in every window of it; the rest is what reconstruction from updates cannot
know. Terms, J^2, with D the window, T the spacing of updates, s = 0.35 (delay + tau), A the range of values at an edge,
v and rho the variance and slowness of values in and near the window, q the quantum:

    step   sum of (step x unseen time)^2 / 12 over neighbouring updates, unseen = max(spacing - W, 0.15 spacing)
    lag    (A_start^2 + A_end^2) min(s, D)^2
    edge   (A_start^2 + A_end^2) min(T, D)^2
    white  min(rho, 1.5) v D min(T, D)
    range  (range of everything around)^2 min(T, D)^2
    update (range of everything around)^2 T^2: what one update holds may all lie in a window that is shorter
    gap    (range near the window x time hidden in holes or held beyond the record)^2 / 12
    floor  0.09 D min(T, D) + (0.02 D)^2 + q^2 D^2 / 12

Weights, k and the limits of verdicts and reasons live in interval.toml.
"""

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Floats
from powersample.analysis.cells import CellSums
from powersample.model import BudgetTerm, Response, SensorModel

NORMAL_95 = 1.96
DECADES_S = (0.5, 5.0)  # window lengths that k differs by, but for rows that give theirs in update periods
SLOW_S = 0.05  # update period from which a load near it is one that people run
NAMES = {
    "step": "duty cycle",
    "lag": "averaging lag at edges",
    "edge": "edge alignment",
    "white": "fast load",
    "range": "hidden power",
    "update": "hidden within an update",
    "gap": "gaps",
    "floor": "noise and quantisation",
    "inversion": "averaging inversion",
}
EDGES = {"start": "counter step at the start", "end": "counter step at the end"}
ORDER = ("good", "fair", "poor", "unusable")


class Reconstruction(NamedTuple):
    """What reconstruction may be off by, one window.

    Attributes:
        half_j: half-width of its 95 % interval, J.
        unaliased_j: the same once it is known that no load near the update period hides; equal where that cannot be.
        terms: each term's share of `half_j`, J; their squares sum to its square.
    """

    half_j: float
    unaliased_j: float
    terms: tuple[BudgetTerm, ...]


def sensor_class(model: SensorModel, period_s: float, *, resolved: bool = True) -> str:
    """Return the row of interval.toml for a sensor.

    Args:
        model: of it.
        period_s: its update period.
        resolved: of a counter: whether polls see when it moves.
    """
    if model.response is Response.COUNTER:
        slow = "slow_counter" if resolved else "unseen_counter"
        return slow if model.period_s >= SLOW_S else "fast_counter"
    if model.response is Response.CONTIGUOUS and not model.known:
        return "stated"
    if model.response is Response.PART_TIME:
        return "slow_part_time" if period_s >= SLOW_S else "fast_part_time"
    return str(model.response)


def reconstructions(
    model: SensorModel,
    sums: CellSums,
    *,
    scale: float,
    duration_s: Floats,
    period_s: float,
    spacing_s: float,
    quantum_w: float,
    inversion_j: Floats | None = None,
) -> list[Reconstruction]:
    """Return what reconstruction may be off by, for every window.

    Args:
        model: of the sensor.
        sums: of its updates.
        scale: raw unit to W.
        duration_s: of the windows, shape (windows,).
        period_s: the sensor's update period.
        spacing_s: of the updates that were seen: that, or the poll spacing where it is longer.
        quantum_w: step between neighbouring values.
        inversion_j: cost of the places chosen in inverting a long average.
    """
    row = _table()[sensor_class(model, period_s)]
    d, near_s = duration_s, np.minimum(spacing_s, duration_s)
    edge2 = np.sum((sums.edge_range * scale) ** 2, axis=0)
    lag_s = np.minimum(0.35 * (model.delay_s + model.tau_s), d)
    terms: dict[str, Floats] = {
        "step": np.minimum(sums.steps * 1e-18, sums.step_squares * d * d / 12) * scale**2,
        "lag": edge2 * lag_s**2,
        "edge": edge2 * near_s**2,
        "white": np.minimum(sums.slowness, 1.5) * sums.variance * scale**2 * d * near_s,
        "range": (sums.wide_range * scale * near_s) ** 2,
        "update": (sums.wide_range * scale * spacing_s) ** 2,
        "gap": (sums.near_range * scale * (sums.hidden_ns + sums.carried_ns) * 1e-9) ** 2 / 12,
        "floor": 0.09 * d * near_s + (0.02 * d) ** 2 + (quantum_w * d) ** 2 / 12,
        "inversion": np.zeros_like(d) if inversion_j is None else inversion_j**2,
    }
    weighted = {name: weight * terms[name] for name, weight in row["weights"].items()}
    u = np.sqrt(sum(weighted.values(), np.zeros_like(d)))
    decade = k_place(row, d, period_s)
    k = np.asarray(row["k"])[decade]
    unaliased_k = np.asarray(row.get("k_unaliased", row["k"]))[decade]
    halves = {name: k * np.sqrt(each) for name, each in weighted.items()}
    names = [NAMES[name] for name in halves]
    return [
        Reconstruction(half_j, unaliased_j, tuple(map(_standard, names, each)))
        for half_j, unaliased_j, *each in zip(
            (k * u).tolist(), (unaliased_k * u).tolist(), *(half.tolist() for half in halves.values()), strict=True
        )
    ]


def k_place(row: Mapping[str, Any], duration_s: Floats, period_s: float) -> NDArray[np.intp]:
    """Return which of a row's three factors is for windows so long, shape (windows,)."""
    limits_s = np.multiply(row["periods"], period_s) if "periods" in row else DECADES_S
    return np.searchsorted(limits_s, duration_s, "right")


def _standard(term: str, value_j: float) -> BudgetTerm:
    return BudgetTerm(term, "standard", value_j)


def pulse_half_width_j(model: SensorModel, duration_s: float, swing_w: float) -> float:
    """Return the reconstruction's half-width for one pulse from idle to idle: both edges step by swing_w."""
    one = np.ones(1)
    unseen_s = max(model.period_s - model.window_s, 0.15 * model.period_s)
    sums = CellSums(
        **dict.fromkeys(
            ("area", "uncovered_ns", "hidden_ns", "carried_ns", "variance", "slowness", "phase_ns"), 0 * one
        ),
        **dict.fromkeys(("near_range", "wide_range", "wide_most"), swing_w * one),
        wide_least=0 * one,
        ends=np.zeros((2, 1)),
        holes=np.zeros(1, np.int64),
        updates=np.zeros(1, np.int64),
        steps=2 * (swing_w * unseen_s * 1e9) ** 2 / 12 * one,
        step_squares=2 * swing_w**2 * one,
        edge_range=np.full((2, 1), swing_w),
    )
    (found,) = reconstructions(
        model,
        sums,
        scale=1.0,
        duration_s=np.array([duration_s]),
        period_s=model.period_s,
        spacing_s=model.period_s,
        quantum_w=0.0,
    )
    return found.half_j


def half_width_j(model: SensorModel, joules: float, duration_s: float, reconstruction_j: float) -> float:
    """Return the half-width of the interval in J: gain, offset and reconstruction in quadrature."""
    gain_j = NORMAL_95 * model.gain_sd * joules
    offset_j = NORMAL_95 * model.offset_sd_w * duration_s
    return math.sqrt(gain_j**2 + offset_j**2 + reconstruction_j**2)


def board_terms(model: SensorModel, joules: float, duration_s: float) -> tuple[BudgetTerm, ...]:
    """Return the terms that all windows of a board share."""
    return (
        BudgetTerm("gain", "gain", NORMAL_95 * model.gain_sd * joules),
        BudgetTerm("offset", "gain", NORMAL_95 * model.offset_sd_w * duration_s),
    )


def verdict(half_j: float, joules: float, cap: str = "good") -> str:
    """Return "good", "fair", "poor" or "unusable" by the relative half-width, at best `cap`."""
    limits: Mapping[str, float] = _table()["verdict"]
    relative = half_j / joules if joules > 0 else math.inf
    place = 0
    while place < 3 and not relative <= limits[ORDER[place]]:
        place += 1
    return ORDER[max(place, ORDER.index(cap))]


def beats_often(
    model: SensorModel, period_s: float, load_s: tuple[float, float], duration_s: float, *, resolved: bool = True
) -> bool:
    """Whether a load of a known period cannot hide from a part-time sensor over a window.

    No harmonic n / p below 1 / W may lie so near a multiple m / T that fewer than `least_beats` beats fit the window:
    D |n / p - m / T| >= 5 for every n and m, and every p that the load may have.

    Args:
        model: of the sensor.
        period_s: its update period T.
        load_s: the load's shortest and longest period, s.
        duration_s: of the window, D.
        resolved: whether T was measured here; boards of a kind scatter by some per cent.
    """
    shortest_s, longest_s = load_s
    if not 0 < shortest_s <= longest_s or not model.window_s > 0:
        return False
    unsure = 0.0 if resolved else limit("period_unsure")
    number = np.arange(1, max(1, math.ceil(longest_s / model.window_s)) + 1)
    low, high = number / longest_s * (1 - unsure), number / shortest_s * (1 + unsure)
    below = np.maximum(1, np.floor(low * period_s)) / period_s
    above = np.maximum(1, np.ceil(low * period_s)) / period_s
    apart = np.where(above <= high, 0.0, np.minimum(np.abs(low - below), np.abs(above - high)))
    return bool(np.all(duration_s * apart >= limit("least_beats")))


@cache
def limit(name: str) -> float:
    """Return a limit: from where a reason is given, or what a choice between channels hangs on."""
    return float(_table()["limits"][name])


def counter_reconstructions(
    model: SensorModel, edge_j: Floats, duration_s: Floats, *, resolved: bool
) -> list[Reconstruction]:
    """Return what a counter's difference may be off by, for every window.

    Args:
        model: of the counter.
        edge_j: standard uncertainty of the gain up to the start and up to the end, shape (2, windows).
        duration_s: of the windows, shape (windows,).
        resolved: whether polls see when it moves.
    """
    row = _table()[sensor_class(model, model.period_s, resolved=resolved)]
    k = np.asarray(row["k"])[k_place(row, duration_s, model.period_s)]
    start_j, end_j = (k * edge_j[i] * math.sqrt(row["weights"][key]) for i, key in enumerate(EDGES))
    return [
        Reconstruction(half_j, half_j, tuple(map(_standard, EDGES.values(), each)))
        for half_j, *each in zip(np.hypot(start_j, end_j).tolist(), start_j.tolist(), end_j.tolist(), strict=True)
    ]


def table_row(name: str) -> Mapping[str, Any]:
    """Return a class's weights and factors."""
    row: Mapping[str, Any] = _table()[name]
    return row


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((resources.files("powersample.analysis") / "interval.toml").read_text("utf-8"))


def table_version() -> int:
    """Return the version of the table of weights and factors."""
    return int(_table()["version"])
