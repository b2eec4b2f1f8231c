# SPDX-License-Identifier: Apache-2.0
"""The head of a report's page: the energy with its interval and verdict, its parts, what is to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from powersample.model import amount
from powersample.report.answer import Answer, answer, longest
from powersample.report.explain import VERDICTS
from powersample.report.html_parts import escaped, joules, name, verdict
from powersample.report.table import number
from powersample.report.text import TOTAL_NAMES
from powersample.report.untold import untold

NOT_ALL = "Not the whole node: fans, disks, boards and the supply's losses are in no counter."
KWH_J = 3.6e6


def head(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the longest window's energy in words, its parts, and which checks speak up."""
    window = longest(data)
    if window is None:
        yield '<section class="sum"><p class="big">Nothing was recorded.</p></section>'
        return
    yield '<section class="sum" aria-label="summary">'
    many = len(data["windows"])
    which = f", the longest of {many:,} windows" if many > 1 else ""
    yield f'<p class="of">Energy of {name(window["name"])}{which}: {escaped(number(window["duration_s"]))} s</p>'
    told = answer(window)
    if told is None:
        yield '<p class="big">No total can be told.</p>'
        yield from (f"<p>{escaped(words)}</p>" for words in [*window["totals"]["reasons"], *untold(data)][:4])
    else:
        yield from _told(told)
    cards = [
        f"<div><dt>{escaped(label)}</dt><dd>{joules(window['totals'][key])} <small>{_mean(window, key)}</small></dd>"
        "</div>"
        for key, label in TOTAL_NAMES.items()
        if window["totals"][key] is not None
    ]
    if len(cards) > 1:
        yield f'<dl class="cards">{"".join(cards)}</dl>'
    grave = [one for one in data["checks"] if one["level"] != "info"]
    if grave:
        codes = ", ".join(dict.fromkeys(f"<code>{escaped(one['code'])}</code>" for one in grave))
        yield f'<p class="look">To be looked at: {codes}. <a href="#checks">What they mean, and what to do</a></p>'
    yield "</section>"


def _told(told: Answer) -> Iterator[str]:
    low_j, high_j = told.low_j, told.high_j
    if low_j is None or high_j is None:
        yield f'<p class="big">{joules(told.joules)} <small>of {escaped(told.what)}</small></p>'
        words = escaped(VERDICTS[told.verdict].removeprefix(told.verdict))
        yield f"<p>{verdict(told.verdict)}{words}. It has no interval.</p>"
    else:
        half_pct = 100 * max(told.joules - low_j, high_j - told.joules) / told.joules if told.joules else 0.0
        half = f'<span class="half">&plusmn;&nbsp;{amount(half_pct, 2)}&nbsp;%</span>'
        yield f'<p class="big">{joules(told.joules)} {half} <small>of {escaped(told.what)}</small></p>'
        words = escaped(VERDICTS[told.verdict].removeprefix(told.verdict))
        yield (
            f"<p>{verdict(told.verdict)}{words}. The true energy lies between {joules(low_j)} and {joules(high_j)} "
            "95 times in 100.</p>"
        )
    wh = f"{amount(told.joules / KWH_J)} kWh" if told.joules >= 0.1 * KWH_J else f"{amount(told.joules / 3600)} Wh"
    yield f'<p class="note">That is {wh}.{f" {NOT_ALL}" if told.in_part else ""}</p>'


def _mean(window: Mapping[str, Any], key: str) -> str:
    return f"{number(window['totals'][key] / window['duration_s'])} W" if window["duration_s"] else ""
