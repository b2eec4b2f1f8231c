# SPDX-License-Identifier: Apache-2.0
"""Windows by the hundreds, such as training steps: a line for all that bear one name, up to a number at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from powersample.analysis.interval import ORDER
from powersample.analysis.repeats import stem
from powersample.report.table import cut, number, table
from powersample.report.words import place

ALONE = 60  # windows of one name, up to a number, that are told one by one
ALIKE = 12  # of the very same name, by which none can be told from another
HEADER = ("windows", "s", "device", "J each", "+-", "J in all", "worst verdict")


def crowds(windows: Sequence[Mapping[str, Any]], *, crowded: bool = False) -> set[str]:
    """Return the names, without numbers, that more windows bear than are told one by one.

    Args:
        windows: a report's.
        crowded: there is no room for any that are alike.
    """
    names: dict[str, list[str]] = {}
    for window in windows:
        names.setdefault(stem(window["name"]), []).append(window["name"])
    return {name for name, some in names.items() if len(some) > (1 if crowded else _alone(some))}


def _alone(names: Sequence[str]) -> int:
    return ALONE if len(set(names)) > 1 else ALIKE


def crowd_lines(windows: Sequence[Mapping[str, Any]], names: set[str]) -> Iterable[str]:
    """Yield a table with a row for each of these names and each device.

    Columns: how many; their median length, s; the mean energy and the standard deviation of one, J; the sum, J; the
    worst verdict. What has no energy is in no figure, and is counted.

    Args:
        windows: a report's.
        names: of `crowds`.
    """
    found: dict[tuple[str, str, str], list[tuple[float, Mapping[str, Any]]]] = {}
    for window in windows:
        name = stem(window["name"])
        for energy in window["energies"] if name in names else ():
            if energy["primary"]:
                key = (name, energy["device"], energy["domain"])
                found.setdefault(key, []).append((window["duration_s"], energy))
    rows = []
    for (name, _, _), many in found.items():
        known = [energy["joules"] for _, energy in many if energy["joules"] is not None]
        lacking = f" ({len(many) - len(known)} without)" if len(known) < len(many) else ""
        rows.append(
            [
                f"{cut(name.strip() or 'numbers', 20)} x {len(many)}{lacking}",
                number(median(seconds for seconds, _ in many)),
                cut(place(many[0][1])[0], 18),
                number(fmean(known) if known else None),
                number(stdev(known) if len(known) > 1 else None),
                number(math.fsum(known) if known else None),
                max((energy["verdict"] for _, energy in many), key=_badness),
            ]
        )
    if rows:
        yield ""
        yield from table(list(HEADER), rows, "lrlrrrl")
        yield "of many alike each row tells the middle length, mean, spread and sum; --json has all"


def _badness(verdict: str) -> int:
    return ORDER.index(verdict) if verdict in ORDER else -1
