# SPDX-License-Identifier: Apache-2.0
"""Windows by the hundreds, such as training steps: a line for all that bear one name, up to a number at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from powersample.analysis.interval import ORDER
from powersample.analysis.repeats import stem
from powersample.analysis.totals import PART_DOMAINS, TOTAL
from powersample.report.table import cut, interval, number, table
from powersample.report.words import place

ALONE = 60  # windows of one name, up to a number, that are told one by one
ALIKE = 12  # of the very same name, by which none can be told from another
SUMS = {"gpu_j": ("GPU", "gpu"), "cpu_j": ("CPU", "package"), "dram_j": ("DRAM", "dram")}  # names and domains
ALL_HAVE = "each row: middle length, mean, spread, and what they took in all, overlaps once; --json has all"
MOST_ROWS = 400  # of a page; of more windows, every stem is one row
HEADER = ("windows", "s", "device", "J each", "+-", "J in all", "95 %", "worst verdict")


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


def crowd_lines(
    windows: Sequence[Mapping[str, Any]], names: set[str], told: Sequence[Mapping[str, Any]]
) -> Iterable[str]:
    """Yield a table with a row for each of these names and each device.

    Columns: how many; their median length, s; the mean energy and the standard deviation of one, J; what the
    device took while any of them was open, J, with its interval; the worst verdict of one. What has no energy is in no
    mean, and is counted.

    Args:
        windows: a report's.
        names: of `crowds`.
        told: the report's sums.
    """
    found: dict[tuple[str, str, str], list[tuple[float, Mapping[str, Any]]]] = {}
    for window in windows:
        name = stem(window["name"])
        for energy in window["energies"] if name in names else ():
            if energy["primary"]:
                key = (name, energy["device"], energy["domain"])
                found.setdefault(key, []).append((window["duration_s"], energy))
    rows = []
    for (name, device, domain), many in found.items():
        known = [energy["joules"] for _, energy in many if energy["joules"] is not None]
        lacking = f" ({len(many) - len(known)} without)" if len(known) < len(many) else ""
        rows.append(
            [
                f"{cut(name.strip() or 'numbers', 20)} x {len(many)}{lacking}",
                number(median(seconds for seconds, _ in many)),
                cut(place(many[0][1])[0], 18),
                *_figures(known, in_all(told, name, device, domain)),
                max((energy["verdict"] for _, energy in many), key=_badness),
            ]
        )
    if rows:
        yield ""
        yield from table(list(HEADER), rows, "lrlrrrrl")
        yield ALL_HAVE


def sums(window: Mapping[str, Any]) -> dict[str, float]:
    """Return the joules that a window's total adds up, by the key of `totals`."""
    return {key: window["totals"][key] for key in SUMS if window["totals"][key] is not None}


def sums_lines(
    windows: Sequence[Mapping[str, Any]], names: set[str], told: Sequence[Mapping[str, Any]]
) -> Iterable[str]:
    """Yield a table with a row for each of these names: what `crowd_lines` tells by device, of all devices together.

    A window of which a device's energy cannot be told has no total, and is counted; a name none of whose windows has
    one is told by device.

    Args:
        windows: a report's.
        names: of `crowds`.
        told: the report's sums.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for window in windows:
        if (name := stem(window["name"])) in names:
            found.setdefault(name, []).append(window)
    rows, apart = [], set[str]()
    for name, many in found.items():
        known = [window["totals"]["joules"] for window in many if window["totals"]["joules"] is not None]
        if not known:
            apart.add(name)
            continue
        whole = in_all(told, name, TOTAL)
        alone = {
            (one["device"], one["domain"]) for one in told if one["name"] == name and one["domain"] in PART_DOMAINS
        }
        if len(alone) == 1:
            whole = in_all(told, name, *alone.pop())
        lacking = f" ({len(many) - len(known)} without)" if len(known) < len(many) else ""
        verdicts = Counter(window["totals"]["verdict"] for window in many)
        rows.append(
            [
                f"{cut(name.strip() or 'numbers', 24)} x {len(many)}{lacking}",
                number(median(window["duration_s"] for window in many)),
                *_figures(known, whole),
                ", ".join(f"{verdicts[one]} {one}" for one in sorted(verdicts, key=_badness)),
            ]
        )
    if rows:
        yield ""
        yield from table(["windows", "s", "J each", "+-", "J in all", "95 %", "verdicts"], rows, "lrrrrrl")
        yield ALL_HAVE
    yield from crowd_lines(windows, apart, told)


def in_all(told: Sequence[Mapping[str, Any]], name: str, device: str, domain: str | None = None) -> Mapping[str, Any]:
    """Return what the windows of a name took of a device in all, out of a report's sums; None where it is not told."""
    for one in told:
        if (one["name"], one["device"]) == (name, device) and domain in (None, one["domain"]):
            return one
    return {"joules": None, "low_j": None, "high_j": None, "verdict": "unrated"}


def _figures(known: Sequence[float], whole: Mapping[str, Any]) -> list[str]:
    """Return mean and standard deviation of one, and the energy of all with its interval."""
    return [
        number(fmean(known) if known else None),
        number(stdev(known) if len(known) > 1 else None),
        number(whole["joules"]),
        interval(whole),
    ]


def _badness(verdict: str) -> int:
    return ORDER.index(verdict) if verdict in ORDER else -1
