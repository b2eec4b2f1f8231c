# SPDX-License-Identifier: Apache-2.0
"""Fits interval.toml's weights and factors to simulated sensors: `python -m bench.coverage.fit [--count N] [--write]`.

One set of scenarios fits, another tests, and the published traces are asked as well: numbers are written only if all
are at least as good as with the table as it is. Each set has boards as the table describes them and boards that are
not (misspecified.py). Gain and offset are taken out, or long windows would hide what reconstruction fails to see behind
them.

Weights trade off against each other, and what carries the coverage is k: they are fitted for the classes or terms that
are named only, by descent along each in turn over a coarse grid for the least interval score (Gneiting and Raftery
2007).
Factors: split conformal, the 96.5 % quantile of |error| / u per class and window length, and no less than what holds

    95 % of any one profile of the class;
    90 % of the loads within 15 % of the update period, for sensors that look all the time. What a load so hides from a
         part-time sensor has no bound on its own channel (k would be 32): there PSQ-ALIAS says so;
    90 % of the boards that are not what the table says.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.coverage import deck
from bench.coverage.scenario import HWMON, RAPL, SAMPLED
from powersample.analysis import interval

FIT_FIRST, TEST_FIRST, REAL_SEED = 2_000_000, 3_000_000, 2
CLASSES = ("slow_part_time", "fast_part_time", "contiguous", "average", "logarithmic", "point", "stated")
COUNTERS = (
    "slow_counter",
    "unseen_counter",
    "fast_counter",
)  # two terms, an edge each
GRID = (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MISS_COST, MOST_SCORE = 2 / 0.05, 10.0  # at 95 %; what lies far outside says no more than that
ONLY = {"average": ("inversion",)}  # terms that one class alone has
CONFORMAL, ONE_PROFILE, NEAR_HELD, WRONG_HELD = 0.965, 0.95, 0.90, 0.90
BOUNDED = ("contiguous",)  # in which a load near the update period errs at the edges only
LEAST_ROWS = 50  # of a window length, from which a quantile of a part of a class tells anything
NOMINAL = 0.95
TINY = 1e-12  # a weight that keeps a term among the parts and does nothing else
Fitted = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Set:
    """Rows of one class as arrays of shape (rows,); `terms` of shape (names, rows), J^2 before their weights."""

    names: tuple[str, ...]
    terms: NDArray[np.float64]
    error_j: NDArray[np.float64]
    truth_j: NDArray[np.float64]
    board_j: NDArray[np.float64]
    decade: NDArray[np.int64]
    profile: NDArray[np.str_]
    near: NDArray[np.bool_]
    bounded: bool = False

    def u_j(self, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """Return sqrt(sum of weight x term)."""
        u: NDArray[np.float64] = np.sqrt(np.array([weights.get(name, 0.0) for name in self.names]) @ self.terms)
        return np.maximum(u, 1e-9)


def with_all_terms() -> None:
    """Give every term a weight in this process and those that it begets, so that rows hold them all."""
    for name, row in interval._table().items():
        if name in CLASSES:
            row["weights"] = dict.fromkeys(interval.NAMES, TINY) | row["weights"]


def as_set(rows: Sequence[deck.Row], name: str) -> Set:
    """Return the rows of one class. Their error is without gain and offset, where these are known."""
    mine = [row for row in rows if row.row == name and row.joules is not None]
    row_of = interval._table()[name]
    names = interval.EDGES if name in COUNTERS else interval.NAMES
    words = tuple(key for key in names if key in row_of["weights"])
    scale = np.array([row_of["k"][row.place] for row in mine])
    parts = np.array([[row.terms[names[key]] for row in mine] for key in words]).reshape(len(words), len(mine))
    weights = np.array([row_of["weights"][key] for key in words])[:, None]
    told = np.array([row.joules if row.pure_j is None else row.pure_j for row in mine], np.float64)
    truth = np.array([row.truth_j for row in mine])
    return Set(
        words,
        (parts / np.maximum(scale, 1e-9)) ** 2 / weights,
        np.abs(told - truth),
        truth,
        np.array([row.board_j for row in mine]),
        np.array([row.place for row in mine], np.int64),
        np.array([row.profile for row in mine]),
        np.array([row.near for row in mine], np.bool_),
        name in BOUNDED,
    )


def factors(some: Set, weights: Mapping[str, float], keep: NDArray[np.bool_], wrong: Set | None = None) -> list[float]:
    """Return k for each window length.

    Args:
        some: rows of boards as the table describes them.
        weights: of their terms.
        keep: bool, shape (rows,): those that count.
        wrong: rows of boards that are not.
    """
    ratio, found = some.error_j / some.u_j(weights), []
    wrong_ratio = np.empty(0) if wrong is None else wrong.error_j / wrong.u_j(weights)
    for decade in range(3):
        mine = keep & (some.decade == decade)
        parts = [(ratio[mine], CONFORMAL)]
        parts += [(ratio[mine & (some.profile == one)], ONE_PROFILE) for one in np.unique(some.profile[mine])]
        if some.bounded:
            parts.append((ratio[mine & some.near], NEAR_HELD))
        if wrong is not None:
            parts.append((wrong_ratio[wrong.decade == decade], WRONG_HELD))
        enough = parts[:1] + [part for part in parts[1:] if len(part[0]) >= LEAST_ROWS]
        found.append(float(max(np.quantile(*part) for part in enough)))
    return found


def score(some: Set, weights: Mapping[str, float], wrong: Set) -> float:
    """Return the mean relative interval score, each window length by its own factor; the sum of the logarithms.

    Boards as the table describes them and those that are not count alike.
    """
    k, total = np.array(factors(some, weights, some.decade >= 0, wrong)), 0.0
    for each in (some, wrong):
        half = k[each.decade] * each.u_j(weights) / each.truth_j
        cost = 2 * half + MISS_COST * np.maximum(each.error_j / each.truth_j - half, 0.0)
        cost = np.minimum(cost, MOST_SCORE)
        total += sum(float(np.log(cost[each.decade == one].mean())) for one in np.unique(each.decade))
    return total


def fit(some: Set, wrong: Set, name: str, begin: Mapping[str, float]) -> dict[str, float]:
    """Return all weights of a class, the better of two descents: from those there are, and from all alike."""
    special = {one for names in ONLY.values() for one in names} - set(ONLY.get(name, ()))
    free = [key for key, each in zip(some.names, some.terms, strict=True) if key not in special and each.any()]
    starts = ({key: float(begin.get(key, 0.0)) for key in free}, dict.fromkeys(free, 0.1))
    _, weights = min((descend(some, wrong, start, free) for start in starts), key=lambda one: one[0])
    size = max(weights.values())  # only their ratios tell: k is the rest
    return {key: float(f"{value / size:.1g}") for key, value in weights.items() if value > 0}


def descend(some: Set, wrong: Set, weights: Mapping[str, float], free: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Return the least score that a descent along `free` finds, and the weights that have it."""
    weights, best = dict(weights), score(some, weights, wrong)
    for _ in range(5):
        before = best
        for key in free:
            least, value = min((score(some, weights | {key: value}, wrong), value) for value in GRID)
            if least < best - 1e-4:
                best, weights = least, weights | {key: value}
        if best > before - 1e-3:
            break
    return best, weights


def fitted(rows: Sequence[deck.Row], wrong: Sequence[deck.Row], refit: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return weights and factors of every class, from boards as the table describes them and boards that are not."""
    table, found = interval._table(), {}
    for name in (*CLASSES, *COUNTERS):
        some, others = as_set(rows, name), as_set(wrong, name)
        begin = {key: value for key, value in table[name]["weights"].items() if value > TINY}
        weights = fit(some, others, name, begin) if name in refit else begin
        if terms := [one.partition(".")[2] for one in refit if one.startswith(f"{name}.")]:
            weights = descend(some, others, weights, terms)[1]
        row: dict[str, Any] = {"weights": weights, "k": _two(factors(some, weights, some.decade >= 0, others))}
        if "k_unaliased" in table[name]:
            row["k_unaliased"] = _two(factors(some, weights, ~some.near))
        found[name] = row
    return found


def _two(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.2g}") for value in values]


def coverage(some: Set, row: Mapping[str, Any], *, board: bool) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return bool and float64, shape (rows,): whether each interval holds the truth, and its relative half-width."""
    half = np.array(row["k"])[some.decade] * some.u_j(row["weights"])
    half = np.hypot(half, some.board_j) if board else half
    return some.error_j <= half, half / some.truth_j


def compare(rows: Sequence[deck.Row], new: Fitted, *, board: bool) -> tuple[float, float]:
    """Print coverage and width of every class and window length before and after; return both coverages of all."""
    held: list[list[NDArray[np.bool_]]] = [[], []]
    for name in (*CLASSES, *COUNTERS):
        some = as_set(rows, name)
        if not len(some.error_j):
            continue
        for i, row in enumerate((interval._table()[name], new[name])):
            held[i].append(coverage(some, row, board=board)[0])
        for decade in np.unique(some.decade):
            mine = some.decade == decade
            words = ("<T", "T-10T", ">10T") if "periods" in interval.table_row(name) else ("<0.5", "0.5-5", "5-60")
            line = f"{name:15} {words[decade]:6} {mine.sum():5}"
            for row in (interval._table()[name], new[name]):
                covered, half = coverage(some, row, board=board)
                line += f"   {100 * covered[mine].mean():5.1f} % in {100 * np.median(half[mine]):6.2f} %"
            print(line)
    before, after = (float(np.concatenate(one).mean()) for one in held)
    print(f"{'all':22} {sum(map(len, held[0])):5}   {100 * before:5.1f} %              {100 * after:5.1f} %")
    return before, after


def write(new: Fitted, count: int) -> None:
    """Put the numbers into interval.toml."""
    path = Path(str(resources.files("powersample.analysis"))) / "interval.toml"
    text = path.read_text("utf-8")
    for name, row in new.items():
        head, begin, rest = text.partition(f"[{name}]")
        body, mark, after = rest.partition("\n[")
        weights = ", ".join(f"{key} = {value:g}" for key, value in row["weights"].items())
        body = re.sub(r"weights = \{.*\}", f"weights = {{ {weights} }}", body)
        for key in ("k", "k_unaliased"):
            if key in row:
                body = re.sub(rf"^{key} = \[.*\]", f"{key} = {row[key]}", body, flags=re.MULTILINE)
        text = head + begin + body + mark + after
    version = int(interval._table()["version"]) + 1
    origin = (
        f"bench/coverage/fit.py, {time.strftime('%Y-%m-%d', time.gmtime())}: fitted on seeds {FIT_FIRST} to "
        f"{FIT_FIRST + count - 1}, tested on {TEST_FIRST} to {TEST_FIRST + count - 1}, of every profile"
    )
    text = re.sub(r"^version = .*", f"version = {version}", text, flags=re.MULTILINE)
    text = re.sub(r"^origin = .*", f'origin = "{origin}"', text, flags=re.MULTILINE)
    path.write_text(text, "utf-8")


def main() -> int:
    """Return 0 if the fitted numbers hold on the other half and on the real deck."""
    parser = argparse.ArgumentParser(prog="python -m bench.coverage.fit")
    parser.add_argument("--count", type=int, default=600, help="scenarios a profile, in each half")
    parser.add_argument("--write", action="store_true", help="put what holds into interval.toml")
    parser.add_argument("--weights", default="", help="whose weights are fitted, too: point,contiguous.range")
    asked = parser.parse_args()
    with_all_terms()
    profiles = (*deck.PROFILES, SAMPLED, RAPL, HWMON)
    fit_on, test_on = (range(first, first + asked.count) for first in (FIT_FIRST, TEST_FIRST))
    wrong = deck.run("misspecified", fit_on)
    new = fitted(deck.run("matched", fit_on, profiles), wrong, asked.weights.split(","))
    for name, row in new.items():
        print(name, row)
    good = True
    for words, rows, nominal, board in (
        ("other scenarios, gain and offset taken out", deck.run("matched", test_on, profiles), NOMINAL, False),
        ("other boards that are not as the table says, likewise", deck.run("misspecified", test_on), WRONG_HELD, False),
        ("the published traces, with gain and offset", deck.real(300, REAL_SEED), NOMINAL, True),
    ):
        if not rows:
            print(f"\n{words}: they are not here, and nothing is written")
            good = False
            continue
        print(f"\n{words}: as it is, as fitted")
        before, after = compare(rows, new, board=board)
        good = good and after >= min(before, nominal)
    if good and asked.write:
        write(new, asked.count)
    print("\nholds" if good else "\ndoes not hold: the table stays")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
