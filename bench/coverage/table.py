# SPDX-License-Identifier: Apache-2.0
"""The campaign's figures, and README.md's table of them: nobody writes a number there by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import readme
from bench.coverage.deck import Row, groups
from bench.coverage.swept import SPACINGS, Repeat

README = Path(__file__).resolve().parent / "README.md"
DECADES = ("< 0.5", "0.5-5", "5-60")
FAR = 2.0  # half-widths from which a miss is listed
LEAST = 250  # cases of a cell from which its figures are judged: a standard error of 1.4 points
Cell = tuple[str, str, int]
Decks = Mapping[str, Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was asked and what was found.

    Attributes:
        what: in words.
        asked: in words.
        found: in words.
        met: whether the one holds for the other; None where nothing was asked.
    """

    what: str
    asked: str
    found: str
    met: bool | None


def told(rows: Sequence[Row]) -> list[Row]:
    """Return rows that have an energy with an interval."""
    return [row for row in rows if row.joules is not None]


def cover(rows: Sequence[Row], held: Callable[[Row], bool] = lambda row: row.covered) -> float:
    """Return the share of intervals that hold the truth."""
    return float(np.mean([held(row) for row in rows])) if rows else float("nan")


def error(rows: Sequence[Row], *, known: bool) -> np.ndarray:
    """Return |error| / truth, with the board's gain and offset known and taken out, or not."""
    return np.array([abs((row.pure_j if known else row.joules) / row.truth_j - 1) for row in rows])  # type: ignore[operator]


def naive_error(rows: Sequence[Row], *, known: bool) -> np.ndarray:
    """Return the same of the naive figure."""
    return np.array([abs((row.naive_pure_j if known else row.naive_j) / row.truth_j - 1) for row in rows])  # type: ignore[operator]


def width_ratio(rows: Sequence[Row]) -> float:
    """Return the median half-width over the smallest half-width that, the same for all, would hold 95 %."""
    return float(np.median([row.half_j / row.truth_j for row in rows]) / np.quantile(error(rows, known=False), 0.95))


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Return rows of power that have a trapezoid beside them."""
    return [row for row in told(rows) if row.field != "energy" and np.isfinite(row.naive_j)]


def against(rows: Sequence[Row], *, known: bool) -> float:
    """Return the median error in joules over the trapezoid's."""
    mine = [abs((row.pure_j if known else row.joules) - row.truth_j) for row in rows]  # type: ignore[operator]
    its = [abs((row.naive_pure_j if known else row.naive_j) - row.truth_j) for row in rows]  # type: ignore[operator]
    return float(np.median(mine) / np.median(its))


def _pct(share: float) -> str:
    return f"{100 * share:.1f} %"


def _cell(key: Cell) -> str:
    return f"{key[0]} {key[1]} {DECADES[key[2]]} s"


def _worst(cells: Mapping[Cell, float], *, least: bool) -> tuple[str, float]:
    if not cells:
        return "too few", math.nan
    key = (min if least else max)(cells, key=lambda one: cells[one])
    return _cell(key), cells[key]


def _met(value: float, holds: bool) -> bool | None:
    """Return whether a figure is met; None where too few cases tell."""
    return None if math.isnan(value) else holds


def figures(decks: Decks, repeats: Sequence[Repeat] = ()) -> list[Figure]:
    """Return all that was asked of the campaign. The decks stand together: none is quoted without the others."""
    matched, found = decks["matched"], []
    good = told(matched)
    cells = {key: told(rows) for key, rows in groups(matched).items() if len(told(rows)) >= LEAST}
    scenarios = len({(row.profile, row.seed) for row in matched})

    def add(what: str, asked: str, value: str, met: bool | None) -> None:
        found.append(Figure(what, asked, value, met))

    add("matched: scenarios", ">= 2000", f"{scenarios}, {len(matched)} energies of channels", scenarios >= 2000)
    add("matched: intervals that hold the truth", "94-99 %", _pct(cover(good)), 0.94 <= cover(good) <= 0.99)
    pooled: dict[Cell, list[Row]] = {}
    for row in good:
        pooled.setdefault((row.profile, "all fields", row.decade), []).append(row)
    for words, those in (
        (" and window length", pooled),
        (f", field and window length of {LEAST} cases or more", cells),
    ):
        where, low = _worst({key: cover(rows) for key, rows in those.items()}, least=True)
        add(f"matched: the least of a profile{words}", ">= 93 %", f"{_pct(low)} ({where})", _met(low, low >= 0.93))
    every = {key: cover(some) for key, rows in groups(matched).items() if (some := told(rows))}
    where, low = _worst(every, least=True)
    add("matched: the least of such cells of any size", "", f"{_pct(low)} ({where})", None)
    where, wide = _worst({key: width_ratio(rows) for key, rows in cells.items()}, least=False)
    add(
        "matched: median half-width over the least constant one that holds 95 %, the greatest of a cell",
        "<= 3", f"{wide:.2f} ({where})", _met(wide, wide <= 3),
    )  # fmt: skip
    add("matched: refused", "", f"{len(matched) - len(good)} of {len(matched)}", None)
    beside = comparable(matched)
    for known, words, limit in ((True, "known", 0.35), (False, "unknown", 0.67)):
        ratio = against(beside, known=known)
        what = f"matched: median error over the trapezoid's, gain and offset {words}"
        add(what, f"<= {limit}", f"{ratio:.2f}", ratio <= limit)
    for known, board in ((True, "known"), (False, "unknown, which they share")):
        ratios = {
            key: float(np.median(error(some, known=known)) / np.median(naive_error(some, known=known)))
            for key, rows in cells.items()
            if (some := comparable(rows))
        }
        where, worst = _worst(ratios, least=False)
        words = f"matched: the same, relative, the greatest of a cell, gain and offset {board}"
        add(words, "<= 1" if known else "", f"{worst:.2f} ({where})", _met(worst, worst <= 1) if known else None)
    out = [row for row in good if row.excluded]
    wrong = cover(out, lambda row: abs((row.pure_j or 0.0) - row.truth_j) > row.told_j)
    add("matched: narrowed by a long average, and wrongly", "< 4 %", f"{_pct(wrong)} of {len(out)}", wrong < 0.04)
    near = [row for row in good if row.near and row.row != "contiguous"]
    words = "matched: loads within 15 % of the update period, part-time sensors"
    add(words, "", f"{_pct(cover(near))} of {len(near)}", None)
    contradicted = cover(good, lambda row: row.contradicted)
    add(
        "matched: energies that another channel of the board contradicts",
        "<= 5 %",
        _pct(contradicted),
        contradicted <= 0.05,
    )
    words = "matched: a processor's counter, 0.976 ms (`rapl`)"
    add(words, "94-99 %", *_deck(decks["rapl"], 0.94, 0.99))
    add("matched: one meter sample at a time (`samples`)", "94-99 %", *_deck(decks["samples"], 0.94, 0.99))
    words = "matched: firmware's averages of 0.1 to 3 s, one after the other (`hwmon`), of which no table speaks"
    add(words, ">= 95 %", *_deck(decks["hwmon"], 0.95))
    add("misspecified: intervals that hold the truth", ">= 90 %", *_deck(decks["misspecified"], 0.90))
    if repeats:
        found += _of_repeats(repeats)
    if decks["real"]:
        add("real: intervals that hold the meter's energy", ">= 90 %", *_deck(decks["real"], 0.90))
    else:
        found.append(Figure("real", ">= 90 %", "not run: the published traces are not here", None))
    return found


def _of_repeats(repeats: Sequence[Repeat]) -> list[Figure]:
    out = [one for one in repeats if one.excluded]
    wrong = float(np.mean([one.off for one in out])) if out else 0.0
    locked = [one for one in repeats if one.spacing == "locked"]
    by_mistake = sum(one.excluded for one in locked)
    return [
        Figure(
            "repeats: narrowed by their scatter, and wrongly", "< 4 %", f"{_pct(wrong)} of {len(out)}", wrong < 0.04
        ),
        Figure(
            "repeats in step with the sensor that were narrowed", "0", f"{by_mistake} of {len(locked)}", by_mistake == 0
        ),
    ]


def _swept(repeats: Sequence[Repeat]) -> list[str]:
    lines = [
        "| begins | load near T | n | holds % | narrowed | off, of these % | to (median) | aliasing found "
        "| off, of these % |",
        "|" + "---|" * 9,
    ]
    for spacing in SPACINGS:
        for near in (False, True):
            mine = [one for one in repeats if (one.spacing, one.near) == (spacing, near)]
            out, fooled = [one for one in mine if one.excluded], [one for one in mine if one.fooled]
            off = ["" if not some else f"{100 * np.mean([one.off for one in some]):.1f}" for some in (out, fooled)]
            to = f"{np.median([one.narrowed for one in out]):.2f}" if out else ""
            holds = f"{100 * np.mean([one.covered for one in mine]):.1f}" if mine else ""
            lines.append(
                f"| {spacing} | {'yes' if near else 'no'} | {len(mine)} | {holds} | {len(out)} | {off[0]} | {to} "
                f"| {len(fooled)} | {off[1]} |"
            )
    return lines


def _deck(rows: Sequence[Row], low: float, high: float = 1.0) -> tuple[str, bool]:
    good = told(rows)
    share, refused = cover(good), len(rows) - len(good)
    return f"{_pct(share)} of {len(good)}, {refused} refused", low <= share <= high


def _lines(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| profile | field | window s | n | refused | holds % | half-width % | ratio "
        "| without gain and offset: holds % | half-width % | error % | trapezoid's % | error ratio "
        "| the same, with gain and offset |",
        "|" + "---|" * 14,
    ]
    for key, some in groups(rows).items():
        good = told(some)
        if not good:
            lines.append(f"| {key[0]} | {key[1]} | {DECADES[key[2]]} | {len(some)} | {len(some)} |" + " |" * 9)
            continue
        cells = [
            key[0], key[1], DECADES[key[2]], str(len(some)), str(len(some) - len(good)), f"{100 * cover(good):.1f}",
            f"{100 * np.median([row.half_j / row.truth_j for row in good]):.3g}", f"{width_ratio(good):.2f}",
        ]  # fmt: skip
        there = [row for row in good if np.isfinite(row.naive_j)]
        if good[0].pure_j is None or not there:
            cells += [""] * 6
        else:
            mine, its = np.median(error(good, known=True)), np.median(naive_error(there, known=True))
            whole = np.median(error(there, known=False)) / np.median(naive_error(there, known=False))
            half = np.median([row.reconstruction_j / row.truth_j for row in good])
            cells += [
                f"{100 * cover(good, lambda row: row.covered_pure):.1f}", f"{100 * half:.3g}", f"{100 * mine:.2g}",
                f"{100 * its:.2g}", f"{mine / its:.2f}", f"{whole:.2f}",
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _by(rows: Sequence[Row], key: str) -> list[str]:
    kinds = sorted({getattr(row, key) for row in rows})
    lines = [f"| {key} | n | holds % | half-width % |", "|---|---|---|---|"]
    for kind in kinds:
        good = told([row for row in rows if getattr(row, key) == kind])
        if good:
            half = 100 * float(np.median([row.half_j / row.truth_j for row in good]))
            lines.append(f"| {kind} | {len(good)} | {100 * cover(good):.1f} | {half:.3g} |")
    return lines


def far_misses(rows: Sequence[Row]) -> list[str]:
    """Return every miss beyond two half-widths, a line each."""
    lines = [
        "| profile | field | seed | window s | load | what was not known | truth J | told J | half-width J |",
        "|" + "---|" * 9,
    ]
    for row in told(rows):
        off = abs((row.joules or 0.0) - row.truth_j)
        if off > FAR * row.half_j:
            lines.append(
                f"| {row.profile} | {row.field} | {row.seed} | {row.duration_s:.3g} | {row.load} | {row.exception} "
                f"| {row.truth_j:.4g} | {row.joules:.4g} | {row.half_j:.3g} |"
            )
    return lines


def render(decks: Decks, about: Mapping[str, Any], repeats: Sequence[Repeat] = ()) -> str:
    """Return everything as Markdown."""
    lines = [
        f"{about['date']}, after commit {about['commit']}, interval.toml version {about['version']}; seeds "
        f"{about['seeds']}; {about['seconds']:.0f} s on {about['cpu']}, {about['cores']} cores; Python "
        f"{about['python']}, numpy {about['numpy']}.",
        "",
        "| figure | asked | found | |",
        "|---|---|---|---|",
    ]
    words = {True: "met", False: "**missed**", None: ""}
    lines += [f"| {one.what} | {one.asked} | {one.found} | {words[one.met]} |" for one in figures(decks, repeats)]
    for name, title in (
        ("matched", "Matched"),
        ("samples", "Matched: meters that tell the power at instants"),
        ("rapl", "Matched: a processor's energy counter"),
        ("hwmon", "Matched: a firmware's own averages"),
    ):
        lines += ["", f"### {title}", "", *_lines(decks[name])]
    lines += ["", "By load:", "", *_by(decks["matched"], "load")]
    if repeats:
        lines += ["", "### Repeats", "", *_swept(repeats)]
    lines += ["", "### Misspecified", "", *_by(decks["misspecified"], "exception")]
    lines += ["", *_lines(decks["misspecified"])]
    lines += ["", "Misses beyond two half-widths:", "", *far_misses(decks["misspecified"])]
    if decks["real"]:
        lines += ["", "### Real", "", *_lines(decks["real"])]
        lines += ["", "Misses beyond two half-widths:", "", *far_misses(decks["real"])]
    return "\n".join(lines)


def update_readme(text: str) -> None:
    """Put the text between README.md's markers."""
    readme.update(README, "python -m bench.coverage", text)
