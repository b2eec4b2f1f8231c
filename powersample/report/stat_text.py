# SPDX-License-Identifier: Apache-2.0
"""What `powersample stat` tells of repeats of a program, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from powersample.model import amount
from powersample.report.table import DASH, cut, interval, number, table, times
from powersample.report.text import block, check_lines, paragraph
from powersample.report.words import error_pct, headline

COMMAND = 60  # letters of it
LEGEND = (
    "95 %: of the mean; from the scatter of the runs (Student's t) or the chance in each, the larger, and what all "
    "share, which no number of runs makes smaller: a board's gain, a meter's limits. spread: one standard deviation of "
    "a run."
)


def lines(data: Mapping[str, Any]) -> Iterable[str]:
    """Yield the text of what a stat report's `data` hold."""
    yield from block(headline(data))
    yield f"Power counter stats for {cut(shlex.join(data['command']), COMMAND)} ({_counts(data)}):"
    yield ""
    if not data["means"]:
        yield "  No energy can be told."
    else:
        yield from _table(data)
    yield ""
    yield from _times(data["elapsed"])
    yield from _idle_lines(data["idle"])
    yield from _remarks(data)


def _counts(data: Mapping[str, Any]) -> str:
    told, asked = data["runs_told"], data["runs_asked"]
    words = ["1 run, so no spread" if told == 1 else f"{told} runs"]
    if data["partial"]:
        words = [f"{told} cut short" if told else "none ended"]
    if told != asked:
        words.append(f"of {asked} asked for")
    if data["warmups"]:
        words.append(f"{data['warmups']} warm-up{'s' * (data['warmups'] > 1)}")
    return ", ".join(words)


def _table(data: Mapping[str, Any]) -> Iterable[str]:
    means, total = data["means"], data["total"]
    spread = data["runs_told"] > 1
    truth = any(one["truth_j"] is not None for one in means)
    header = ["J", "device", "95 %", *(["spread"] if spread else []), "mean W", "by", "verdict"]
    header += ["truth J", "error %"] if truth else []
    rows = [_row(one, spread=spread, truth=truth) for one in means]
    if total is not None:
        rows.insert(len(total["devices"]), _row(total, spread=spread, truth=truth))
    align = "rlr" + "r" * spread + "rll" + "rr" * truth
    yield from table(header, rows, align, indent=2)


def _row(one: Mapping[str, Any], *, spread: bool, truth: bool) -> list[str]:
    row = [number(one["joules"]), cut(one["device"], 24), interval(one)]
    if spread:
        known = one["spread_j"] is not None and one["joules"]
        row.append(f"{amount(100 * one['spread_j'] / one['joules'], 2)} %" if known else DASH)
    row += [number(one["mean_w"]), one["by"], one["verdict"]]
    return row + ([number(one["truth_j"]), error_pct(one)] if truth else [])


def _times(elapsed: Mapping[str, Any]) -> Iterable[str]:
    mean_s = elapsed["mean_s"]
    if mean_s is None:
        return
    words = f"{number(mean_s)} s elapsed"
    if elapsed["low_s"] is not None:
        words += f" +-{amount(100 * (elapsed['high_s'] - mean_s) / mean_s, 2)} %"
        words += f" ({number(elapsed['least_s'])} to {number(elapsed['most_s'])})"
    yield f"  {words}, {number(elapsed['user_s'])} s user, {number(elapsed['system_s'])} s sys"


def _idle_lines(idle: Mapping[str, Any] | None) -> Iterable[str]:
    if idle is None:
        return
    parts = [
        f"{one['group']} {number(one['idle_j'])} J of {number(one['joules'])} ({number(one['idle_w'])} W)"
        for one in idle["groups"]
    ]
    when = f", calibrated {datetime.fromtimestamp(idle['made_ns'] / 1e9, UTC):%Y-%m-%d}" if idle["made_ns"] else ""
    yield from paragraph(f"idle share{when}: {'; '.join(parts)}", 2)


def _remarks(data: Mapping[str, Any]) -> Iterable[str]:
    yield ""
    for one in data["runs"]:
        if one["exit_code"] and not one["window"].startswith("warm-up"):
            left_out = "" if one["counted"] or data["partial"] else "; it is in no mean"
            yield from paragraph(f"{one['window']} ended with exit code {one['exit_code']}{left_out}", 2)
        elif one["exit_code"]:
            yield from paragraph(f"{one['window']} ended with exit code {one['exit_code']}", 2)
    if data["ended_by"]:
        yield from paragraph(f"ended early by {data['ended_by']}: this is what was measured until then", 2)
    codes: dict[str, list[str]] = {}
    for one in data["means"]:
        for reason in one["reasons"]:
            code, _, words = reason.partition(" ")
            codes.setdefault(code, []).append(f"{one['device']}: {words}")
    for code, cases in sorted(codes.items()):
        more = f" (and {times(len(cases) - 1)} more)" if len(cases) > 1 else ""
        yield from paragraph(f"{code} {cases[0]}{more}", 4)
    yield from _losses(data["sampled"])
    for words in data["untold"]:
        yield from paragraph(words, 2)
    yield from check_lines([one for one in data["checks"] if one["level"] != "info"])
    if data["runs_told"] > 1 and data["means"]:
        yield from paragraph(LEGEND, 0)


def _losses(sampled: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield what was not read, channels of one fate on one line: those of a lane mostly share it."""
    alike: dict[tuple[int, int, int], list[str]] = {}
    for one in sampled:
        failed = sum(one["errors"].values())
        if one["dropouts_total"] or failed:
            alike.setdefault((one["dropouts_total"], failed, one["polls"]), []).append(one["name"])
    for (dropouts, failed, polls), names in alike.items():
        yield from paragraph(
            f"{', '.join(names)}: {dropouts} dropout{'s' * (dropouts != 1)}, {failed} failed reads in {polls}", 2
        )
