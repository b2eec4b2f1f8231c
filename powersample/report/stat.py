# SPDX-License-Identifier: Apache-2.0
"""What `powersample stat` tells of repeats of a program: the mean energy of every device, as JSON, text and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from powersample.analysis import judge_of, mean_energy
from powersample.analysis.evidence import student_95
from powersample.analysis.totals import PART_DOMAINS, TOTAL, sum_budget
from powersample.model import TRUTH_PREFIX, BudgetTerm, Energy, Kind, Trace
from powersample.report.build import SCHEMA_VERSION, build
from powersample.report.many import SUMS
from powersample.report.stat_text import lines
from powersample.report.table import DASH, cut, interval
from powersample.report.untold import untold
from powersample.report.words import place

GROUP_OF = {"gpu": "gpu", "package": "cpu", "dram": "dram"}  # by domain
NODE = "node"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run, beside its window.

    Attributes:
        window: its window's name.
        exit_code: the program's.
        user_s: CPU time of it and of its children.
        system_s: the same, in the kernel.
        counted: whether it is in the mean.
    """

    window: str
    exit_code: int
    user_s: float
    system_s: float
    counted: bool


@dataclass(frozen=True, slots=True)
class StatReport:
    """What is told of repeats: `print` shows the table, `data` is the JSON object, `csv` a table for machines."""

    data: Mapping[str, Any]

    def __str__(self) -> str:
        return "\n".join(lines(self.data))

    @property
    def csv(self) -> str:
        """The means, then every run's energies, as CSV with a line of names; see `CSV_COLUMNS`."""
        return csv_header() + self.csv_rows

    @property
    def csv_rows(self) -> str:
        """The same without the names."""
        out = io.StringIO()
        rows = csv.DictWriter(out, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
        made_up = {"simulated": int(self.data["simulated"])}
        for one in self.data["means"]:
            rows.writerow(one | made_up | {"kind": "mean", "window": "", "duration_s": self.data["elapsed"]["mean_s"]})
        for run in self.data["runs"]:
            kind = "run" if run["counted"] else "left out"
            for one in run["energies"]:
                rows.writerow(one | run | made_up | {"kind": kind, "runs": 1})
        return out.getvalue()


CSV_COLUMNS = (
    *("simulated", "kind", "window", "runs", "end_s", "duration_s", "device", "uuid", "domain", "channel"),
    *("joules", "low_j", "high_j", "spread_j", "mean_w", "verdict", "few_updates"),
)


def csv_header() -> str:
    """Return the line of the columns' names."""
    return ",".join(CSV_COLUMNS) + "\n"


@dataclass(frozen=True, slots=True)
class IntervalLines:
    """One interval of one run, a row a device: as text, as JSON on a line, or as CSV.

    Attributes:
        rows: `CSV_COLUMNS` by name.
    """

    rows: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        lines = []
        for one in self.rows:
            few, digits = ("~", 3) if one["few_updates"] else ("", 6)
            joules, watts = (_digits(one[key], digits) for key in ("joules", "mean_w"))
            words = f"{one['end_s']:10.3f} s  {one['window']:<8} {cut(one['device'], 22):<22} {few + joules:>10} J"
            lines.append(f"{words} {interval(one):>9} {few + watts:>9} W  {one['verdict']}")
        return "\n".join(lines)

    @property
    def json(self) -> str:
        """One JSON object on one line."""
        first = {key: self.rows[0][key] for key in ("simulated", "kind", "window", "end_s", "duration_s")}
        rest = [{key: value for key, value in one.items() if key not in first} for one in self.rows]
        return json.dumps(first | {"energies": rest}, allow_nan=False)

    @property
    def csv(self) -> str:
        """A line a device, without one of names."""
        out = io.StringIO()
        csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n").writerows(self.rows)
        return out.getvalue()


def interval_lines(
    run: str, end_s: float, duration_s: float, energies: Sequence[tuple[Energy, bool]], *, simulated: bool
) -> IntervalLines:
    """Return what is told of an interval.

    Args:
        run: the window's name.
        end_s: the interval's end, since the run began.
        duration_s: its length.
        energies: of each device, and whether so few updates fit that it is mostly what lies around.
        simulated: of a simulated node.
    """
    rows = []
    for one, few in energies:
        device, _ = place({"channel": one.channel, "domain": one.domain})
        mean_w = one.joules / duration_s if one.joules is not None else None
        told = {
            "simulated": int(simulated),
            "kind": "interval",
            "window": run,
            "runs": 1,
            "end_s": end_s,
            "duration_s": duration_s,
        }
        ends = {"joules": one.joules, "low_j": one.low_j, "high_j": one.high_j, "spread_j": None, "mean_w": mean_w}
        names = {"device": device, "uuid": one.device, "domain": one.domain, "channel": one.channel}
        rows.append({**told, **names, **ends, "verdict": one.verdict, "few_updates": few})
    return IntervalLines(rows)


def _digits(value: float | None, digits: int) -> str:
    """Return a number to so many digits at most, never as a power of ten."""
    if value is None:
        return DASH
    size = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{round(value, digits - size):.{max(0, min(digits - size, 3))}f}"


def stat_report(
    trace: Trace, runs: Sequence[RunFacts], *, command: Sequence[str], asked_runs: int, asked_to_end: int | None = None
) -> StatReport:
    """Return what a recording of repeats tells.

    Args:
        trace: the recording, with a window a run.
        runs: in their order. Where none counts, those that are no warm-ups are shown, and are said to be cut short.
        command: program and arguments.
        asked_runs: how many were to count.
        asked_to_end: the signal that ended it early; None without.
    """
    by_name = {one.name: one for one in trace.windows}
    there = [one for one in runs if one.window in by_name]
    base = build(trace, [by_name[one.window] for one in there]).data
    told = [
        asdict(one) | {"duration_s": window["duration_s"], "energies": _energies(window), "window_data": window}
        for one, window in zip(there, base["windows"], strict=True)
    ]
    used = [one for one in told if one["counted"]]
    partial = not used
    if partial:
        used = [one for one in told if not one["window"].startswith("warm-up")]
    elapsed = _elapsed([one["duration_s"] for one in used])
    means = _means(used, base)
    used_windows = {one["window"] for one in used}
    data = {
        **{key: base[key] for key in ("simulated", "simulated_node", "simulated_meters", "checks", "meta")},
        "schema_version": SCHEMA_VERSION,
        "command": list(command),
        "runs_asked": asked_runs,
        "runs_told": len(used),
        "warmups": sum(one["window"].startswith("warm-up") for one in told),
        "partial": partial,
        "ended_by": None if asked_to_end is None else signal.Signals(asked_to_end).name,
        "elapsed": elapsed | {key: _mean([one[key] for one in used]) for key in ("user_s", "system_s")},
        "means": means,
        "total": _total([one["window_data"] for one in used], means),
        "idle": _idle(trace, means, elapsed["mean_s"]),
        "untold": list(untold({**base, "windows": [one for one in base["windows"] if one["name"] in used_windows]})),
        "sampled": _sampled(base, means),
        "runs": [{key: value for key, value in one.items() if key != "window_data"} for one in told],
    }
    return StatReport(data)


def _energies(window: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for one in (each for each in window["energies"] if each["primary"]):
        device, by = place(one)
        mean_w = one["joules"] / window["duration_s"] if one["joules"] is not None and one["whole"] else None
        kept = {key: one[key] for key in ("channel", "domain", "joules", "low_j", "high_j", "verdict", "reasons")}
        found.append(
            {"device": device, "uuid": one["device"], **kept, "by": by, "mean_w": mean_w, "truth_j": one.get("truth_j")}
        )
    return found


def _means(used: Sequence[Mapping[str, Any]], base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a mean a device, and the whole node's where a calibration tells it of every run."""
    windows = [one["window_data"] for one in used]
    keys = dict.fromkeys(
        (one["device"], one["domain"]) for window in windows for one in window["energies"] if one["primary"]
    )
    found = []
    for uuid, domain in sorted(keys, key=lambda key: key[1] not in PART_DOMAINS):  # what adds up comes first
        mine = [
            (one, window["duration_s"])
            for window in windows
            for one in window["energies"]
            if one["primary"] and (one["device"], one["domain"]) == (uuid, domain)
        ]
        rows, seconds = [one for one, _ in mine], [each_s if one["whole"] else None for one, each_s in mine]
        device, by = place(rows[0])
        channels = list(dict.fromkeys(one["channel"] for one in rows))
        names = {"device": device, "uuid": uuid, "domain": domain, "channel": channels[0], "by": by}
        truths = [one.get("truth_j") for one in rows]
        found.append(names | _mean_of([_energy(one) for one in rows], seconds, truths))
    nodes = [window["holistic"] for window in windows]
    if nodes and all(one["total_j"] is not None and one["level"] is not None for one in nodes):
        told = [
            _energy(one | {"device": NODE, "domain": NODE, "channel": "", "joules": one["total_j"], "method": ""})
            for one in nodes
        ]
        names = {"device": NODE, "uuid": None, "domain": NODE, "channel": None, "by": "calibration"}
        seconds = [window["duration_s"] for window in windows]
        found.append(names | _mean_of(told, seconds, [one.get("truth_j") for one in nodes]))
    return found


def _total(windows: Sequence[Mapping[str, Any]], means: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the mean of all GPUs, packages and memories together; None where they are one, or not whole in a run."""
    parts = [one for one in means if one["domain"] in PART_DOMAINS]
    if len(parts) < 2 or any(one["totals"]["joules"] is None for one in windows):
        return None
    energies, truths = [], []
    for window in windows:
        mine = [one for one in window["energies"] if one["primary"] and one["domain"] in PART_DOMAINS]
        known = [one.get("truth_j") for one in mine]
        truths.append(None if None in known else math.fsum(known))
        told = {key: window["totals"][key] for key in ("joules", "low_j", "high_j", "verdict")}
        budget = sum_budget([_energy(one) for one in mine])
        energies.append(Energy(**told, method="", budget=budget, reasons=(), channel=TOTAL, device=TOTAL, domain=TOTAL))
    by = " + ".join(name for name, domain in SUMS.values() if any(one["domain"] == domain for one in parts))
    names = {"device": TOTAL, "devices": [one["device"] for one in parts], "by": by}
    return names | _mean_of(energies, [window["duration_s"] for window in windows], truths)


def _mean_of(
    energies: Sequence[Energy], seconds: Sequence[float | None], truths: Sequence[float | None]
) -> dict[str, Any]:
    """Return the mean energy, and the mean power over the runs that are in it.

    Args:
        energies: one a run.
        seconds: the runs' lengths; None of one that its energy is not of the whole of: then no power is told.
        truths: the simulated node's.
    """
    one = mean_energy(energies)
    spans_s = [each for energy, each in zip(energies, seconds, strict=True) if energy.joules is not None]
    whole_s = [each for each in spans_s if each is not None]
    duration_s = _mean(whole_s) if len(whole_s) == len(spans_s) else None
    known = [each for each in truths if each is not None]
    data = asdict(one) | {"budget": [asdict(term) for term in one.budget], "reasons": list(one.reasons)}
    mean_w = one.joules / duration_s if one.joules is not None and duration_s else None
    return data | {"mean_w": mean_w, "truth_j": _mean(known) if len(known) == len(energies) else None}


def _energy(one: Mapping[str, Any]) -> Energy:
    """Return the energy behind its JSON form."""
    budget = tuple(BudgetTerm(term["term"], term["kind"], term["value_j"]) for term in one["budget"])
    told = {key: one[key] for key in ("joules", "low_j", "high_j", "method", "verdict", "channel", "device", "domain")}
    return Energy(**told, budget=budget, reasons=tuple(one["reasons"]))


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _elapsed(seconds: Sequence[float]) -> dict[str, Any]:
    mean_s = _mean(seconds)
    half_s = None
    if mean_s is not None and len(seconds) > 1:
        scatter_s = math.sqrt(math.fsum((one - mean_s) ** 2 for one in seconds) / (len(seconds) - 1))
        half_s = student_95(len(seconds) - 1) * scatter_s / math.sqrt(len(seconds))
    low_s, high_s = (None, None) if mean_s is None or half_s is None else (max(0.0, mean_s - half_s), mean_s + half_s)
    ends = {"least_s": min(seconds, default=None), "most_s": max(seconds, default=None)}
    return {"mean_s": mean_s, "low_s": low_s, "high_s": high_s} | ends


def _idle(trace: Trace, means: Sequence[Mapping[str, Any]], seconds: float | None) -> dict[str, Any] | None:
    """Return what the idle node would have taken in the same time, group by group; None without a calibration."""
    calibration = judge_of(trace).calibration
    if calibration is None or not seconds:
        return None
    idle_w = calibration.idle_w()
    groups: dict[str, dict[str, float]] = {}
    for one in means:
        group = {NODE: "wall", "wall": "wall"}.get(one["domain"]) or GROUP_OF.get(one["domain"])
        if group in idle_w and one["joules"] is not None and not (group == "wall" and group in groups):
            groups.setdefault(group, {})[one["device"]] = one["joules"]
    for domain, group in GROUP_OF.items():  # a group's idle power is that of all its devices
        if len(groups.get(group, {})) < len(_devices(trace, domain)):
            groups.pop(group, None)
    shares = [
        {"group": name, "idle_w": idle_w[name], "idle_j": idle_w[name] * seconds, "joules": math.fsum(joules.values())}
        for name, joules in groups.items()
    ]
    return {"made_ns": calibration.made_ns, "groups": shares} if shares else None


def _devices(trace: Trace, domain: str) -> set[str]:
    return {
        one.device
        for one in trace.channels.values()
        if one.domain == domain and one.kind is not Kind.AUX and not one.name.startswith(TRUTH_PREFIX)
    }


def _sampled(base: Mapping[str, Any], means: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    wanted = [one["channel"] for one in means]
    keys = ("name", "achieved_hz", "polls", "sensor_period_s", "averaging_window_s", "dropouts_total", "errors")
    return [{key: one[key] for key in keys} for one in base["channels"] if one["name"] in wanted]
