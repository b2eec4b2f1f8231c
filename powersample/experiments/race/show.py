# SPDX-License-Identifier: Apache-2.0
"""The race as one screen of text, and as JSON."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from powersample.experiments.figures import Figures, figures, known, method_json, published_few
from powersample.experiments.interpreter import free_threaded
from powersample.experiments.method import Method
from powersample.experiments.race.entrants import SENSORS
from powersample.experiments.race.run import Race
from powersample.experiments.race.slowdown import LEAST_RATED, Slowdown, lost_in

MISSING = "-"
WIDTH = 100
READ_COUNTER = tuple(name for name, sensor in SENSORS.items() if sensor == "energy")
SAME_FIELD = "PowerUsage (instant"  # how a thread says that its field is 186 by another name
MOST_LENGTHS = 4  # that have a column


def ran(race: Race) -> list[Method]:
    """Return the methods that ran."""
    return [method for method in race.methods if method.reason is None]


def lock_claim(race: Race) -> dict[str, Any]:
    """Return what the race says of the interpreter's lock: readings of those asked for, native beside a thread.

    `reason` tells why there is no claim; else `ratio` is how many times the thread's share the native sampler got.
    """
    found = {method.name: figures(method) for method in ran(race)}
    asked = {method.name: method.asked_hz for method in ran(race)}
    shares: dict[str, float | None] = {"native_share": None, "thread_share": None, "ratio": None}
    if free_threaded():
        return {**shares, "reason": "this interpreter has no global lock"}
    if not race.setup.python_load:
        return {**shares, "reason": "the program was not kept busy in Python; add --python-load"}
    if not ("native" in found and "pynvml-thread" in found and asked["native"] and asked["pynvml-thread"]):
        return {**shares, "reason": "native and pynvml-thread did not both run"}
    native, thread = (found[name].achieved_hz / float(asked[name] or 1) for name in ("native", "pynvml-thread"))
    return {
        "native_share": native,
        "thread_share": thread,
        "ratio": native / thread if thread else None,
        "reason": None,
    }


def to_json(race: Race) -> dict[str, Any]:
    """Return the machine-readable form, schema_version 1; missing values are None."""
    setup = race.setup
    shared = next((method.lap for method in ran(race) if setup.together), None)
    return {
        "schema_version": 1,
        "simulated": race.simulated,
        "headline": race.headline,
        "ground": race.described,
        "reference": race.reference,
        "reference_half_pct": [
            {"seconds": seconds, "half_pct": half} for seconds, half in reference_half_pct(race).items()
        ],
        "mode": "together" if setup.together else "in turn",
        "training": setup.training,
        "python_load": setup.python_load,
        "call_us": setup.call_us,
        "seed": setup.seed,
        "took_s": race.took_s,
        "planned_epochs": [asdict(epoch) for epoch in race.epochs],
        "truth_j": None if shared is None else known(shared.run_truth_j),
        "methods": [
            method_json(method) | {"slowdown_pct": _slowdown_json(race.slowdowns.get(method.name))}
            for method in race.methods
        ],
        "slow_to_start": list(race.untimed),
        "noise_slowdown_pct": _slowdown_json(race.noise),
        "interpreter": {"version": sys.version.split()[0], "free_threaded": free_threaded(), "lock": lock_claim(race)},
    }


def _slowdown_json(one: Slowdown | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"median": one.median_pct, "low": one.low_pct, "high": one.high_pct, "pairs": one.pairs}


def to_text(race: Race) -> str:
    """Return the result as a screen of at most 100 columns; it leads with updates and energy errors."""
    entries = [(method, figures(method)) for method in ran(race)]
    lines = [race.headline, *_opening(race), *_fields(race, {method.name: one for method, one in entries})]
    if entries:
        lines += ["", *_energy_table(race, entries), "", *_cost_table(race, entries), "", *_findings(race, entries)]
    lines += [f"{method.name}: not run. {method.reason}" for method in race.methods if method.reason is not None]
    return "\n".join(part for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ") if len(line) > WIDTH else [line]


def _opening(race: Race) -> list[str]:
    setup, epochs = race.setup, _lengths(race)
    how = "all methods at once" if setup.together else "every method by itself, the same epochs"
    busy = " and pure Python" if setup.python_load else ""
    calls = f"; every driver call takes {setup.call_us:g} us" if setup.call_us else ""
    idle = not race.simulated and setup.training == "numpy"
    return [
        f"training in {setup.training}{busy}, {epochs}; {how}{calls}",
        f"reference: {race.reference}{_board(race)}{_unsure(race)}",
        *(
            ["numpy trains on the CPU and leaves the GPU idle; install torch, and --training torch loads it"]
            if idle
            else []
        ),
    ]


def _fields(race: Race, found: dict[str, Figures]) -> list[str]:
    """Return what of the native sampler's lead is the field's: a thread that reads the same field tells."""
    ran_by = {method.name: method for method in ran(race)}
    median = {name: one.error_pct.median for name, one in found.items()}
    native, usage, instant = (median.get(name) for name in ("native", "pynvml-thread", "pynvml-instant"))
    if native is None or usage is None:
        return []
    theirs, ours = ran_by["pynvml-thread"].reads, ran_by["native"].reads
    if theirs.startswith(SAME_FIELD):
        return [f"On this board {theirs} is what field 186 tells too: native's lead is not the field's."]
    if instant is None:
        return [f"The field counts before the sampler: pynvml-thread reads {theirs}, native {ours}."]
    over = f"{usage:.1f} % (median of {len(race.epochs)} epochs: {_lengths(race)})"
    few = " So few epochs are a hint, no more." if len(race.epochs) < LEAST_RATED else ""
    if abs(usage - instant) < max((native, *reference_half_pct(race).values())):
        return [
            f"By PowerUsage a pynvml thread is off by {over} and by field 186 by {instant:.1f} %: that the field "
            f"counts is not seen here.{few}"
        ]
    said = "The field counts before the sampler" if instant < usage else "Here field 186 tells no more than PowerUsage"
    return [
        f"{said}: a pynvml thread is off by {over} by PowerUsage and by {instant:.1f} % by field 186; native, which "
        f"reads {ours} and takes each value for what its sensor means, by {native:.1f} %"
        f"{_doubted(ran_by['native'])}.{few}"
    ]


def _doubted(native: Method) -> str:
    """Return of how many epochs the native sampler itself says that they are not to be trusted."""
    doubted = sum(one.verdict in ("poor", "unusable") for one in native.accounts)
    return f", and calls {doubted} of its {len(native.accounts)} epochs poor or unusable itself" if doubted else ""


def _lengths(race: Race) -> str:
    by_length = Counter(epoch.seconds for epoch in race.epochs)
    return ", ".join(f"{count} x {seconds:g} s" for seconds, count in sorted(by_length.items()))


def reference_half_pct(race: Race) -> dict[float, float]:
    """Return by length of epoch, s, how far in % the reference itself may be off; nothing of an exact one.

    Medians of the half-widths of its own 95 % intervals, over all laps.
    """
    found: dict[float, list[float]] = {}
    for lap in (method.lap for method in ran(race)):
        if lap is not None and lap.truth_half_j is not None:
            for seconds, half_j, joules in zip(lap.lengths_s, lap.truth_half_j, lap.truth_j, strict=True):
                if np.isfinite(half_j) and joules > 0:
                    found.setdefault(seconds, []).append(100 * half_j / joules)
    return {seconds: float(np.median(found[seconds])) for seconds in sorted(found)}


def _unsure(race: Race) -> str:
    parts = [f"+-{half:.0f} % of {seconds:g} s" for seconds, half in reference_half_pct(race).items()]
    return f"; it is sure (95 %) to {', '.join(parts)}, and errors below that are no evidence" if parts else ""


def _board(race: Race) -> str:
    boards = race.described.get("boards")
    if not boards:
        return ""
    board, seed = boards[0], race.described["board_seed"]
    drawn = "perfect board" if seed is None else f"board {seed}"
    return f"; {drawn}, gain {board['gain']:.3f}, offset {board['offset_w']:+.1f} W"


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _short(value: float) -> str:
    """Return three digits, never an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _energy_table(race: Race, entries: Sequence[tuple[Method, Figures]]) -> list[str]:
    counted = Counter(epoch.seconds for epoch in race.epochs)
    lengths = sorted(counted)[:MOST_LENGTHS]
    counts = "".join(f"{f'n={counted[seconds]}':>7}" for seconds in lengths)
    names = "".join(f"{f'{seconds:g} s':>7}" for seconds in lengths)
    wide = 7 * len(lengths) + 7
    lines = [
        f"{'':16}{'updates':>10}{'error of an epoch, %':>{wide}}{'run':>7}{'truth':>8}{'mean power of epochs':>23}",
        f"{'':16}{'seen':>10}{names}{'worst':>7}{'%':>7}{'in 95 %':>8}{'r':>8}{'bias W':>9}{'+-':>6}",
        f"{'medians of':>26}{counts}{f'n={len(race.epochs)}':>7}",
    ]
    for method, one in entries:
        of = {part.seconds: part.error_pct.median for part in one.by_length}
        cells = "".join(f"{_number(of.get(seconds), '.1f'):>7}" for seconds in lengths)
        published = "?" if one.updates_published is None else one.updates_published
        held = MISSING if one.held is None else f"{one.held.held}/{one.held.rated}"
        limits = one.power.limits
        half_w = None if limits is None else (limits[1] - limits[0]) / 2
        lines.append(
            f"{method.name:16}{f'{one.updates_seen}/{published}':>10}{cells}{_number(one.error_pct.max, '.1f'):>7}"
            f"{_number(one.run_error_pct, '+.1f'):>7}{held:>8}{_number(one.power.pearson, '.3f'):>8}"
            f"{_number(one.power.bias, '+.1f'):>9}{_number(half_w, '.0f'):>6}"
        )
    return lines


def _cost_table(race: Race, entries: Sequence[tuple[Method, Figures]]) -> list[str]:
    lines = [
        f"{'':16}{'polls/s':>10}{'gap, ms':>20}{'epochs with <= 10':>19}{'CPU':>8}{'us':>8}{'slowdown':>19}",
        f"{'':16}{'got/asked':>10}{'p50':>6}{'p99':>7}{'max':>7}{'polls':>9}{'updates':>10}{'ms/s':>8}{'a poll':>8}"
        f"{'% [95 %]':>19}",
    ]
    for method, one in entries:
        lap = method.lap
        assert lap is not None
        cpu_s, epochs = method.cost.cpu_s, len(lap.epochs)
        asked = "" if method.asked_hz is None else f"/{method.asked_hz:.4g}"
        lines.append(
            f"{method.name:16}{f'{_short(one.achieved_hz)}{asked}':>10}"
            f"{_short(one.gap_p50_ms):>6}{_short(one.gap_p99_ms):>7}{_short(one.gap_max_ms):>7}"
            f"{f'{one.few_polls}/{epochs}':>9}{f'{one.few_updates}/{epochs}':>10}"
            f"{MISSING if cpu_s is None else _short(1e3 * cpu_s / lap.run.duration_s):>8}"
            f"{_number(one.cpu_us_per_poll, '.0f'):>8}{_slow(race.slowdowns.get(method.name)):>19}"
        )
    if race.noise is not None:
        lines.append(f"{'nothing (A/A)':16}{'':65}{_slow(race.noise):>19}")
    return lines


def _slow(one: Slowdown | None) -> str:
    if one is None:
        return MISSING
    if one.low_pct is None or one.high_pct is None:
        return f"{one.median_pct:+.0f}"
    return f"{one.median_pct:+.0f} [{one.low_pct:+.0f}, {one.high_pct:+.0f}]"


def _findings(race: Race, entries: Sequence[tuple[Method, Figures]]) -> list[str]:
    few = next((value for method, _ in entries if (value := published_few(method)) is not None), None)
    seen = "of the values that the sensor published" if few is not None else "values that differ from the one before"
    polls = (
        f"More polls of a {_period(entries)}sensor are no information: what counts is which of its values were seen, "
    )
    lines = [
        f"seen: {seen}; +-: limits of agreement; slowdown: of the same work beside the method and alone in turns, A/A "
        "being the noise.",
        (
            ""
            if few is None
            else f"In {few} of {len(race.epochs)} epochs the sensor itself published at most 10 values. "
        )
        + f"{polls}what each means, and what was made of them.",
    ]
    unshown = len({epoch.seconds for epoch in race.epochs}) - MOST_LENGTHS
    if unshown > 0:
        lines.append(f"Errors of {unshown} more epoch lengths are in the JSON form.")
    circular = [method.name for method, _ in entries if race.counter_is_reference and method.name in READ_COUNTER]
    if circular:
        lines.append(f"{', '.join(circular)}: reads the reference itself; that the two agree is no evidence.")
    lines += [
        f"{method.name} says itself how far to trust it: {_verdicts(method)}."
        for method, one in entries
        if one.held is not None
    ][:1]
    lines += _lock(race)
    lost = [name for name, one in race.slowdowns.items() if lost_in(one, race.noise)]
    if lost:
        lines.append(f"Slowdown lost in the noise of A/A, whose interval meets theirs: {', '.join(lost)}.")
    if any(one.low_pct is None for one in race.slowdowns.values()):
        lines.append(f"Slowdown without an interval: of fewer than {LEAST_RATED} pairs nothing holds the median 95 %.")
    slow = [f"{m.name} ({m.cost.start_s:.1f} s)" for m, _ in entries if m.name in race.untimed and m.cost.start_s]
    if slow:
        lines.append(f"Slow to start, and so not timed for slowdown unless --pairs asks for it: {', '.join(slow)}.")
    void = [f"{method.name} ({method.lap.void})" for method, _ in entries if method.lap and method.lap.void]
    if void:
        lines.append(f"Not to be trusted, their truth is void: {', '.join(void)}.")
    lines += [f"{method.name}: {method.trouble}." for method, _ in entries if method.trouble]
    lines += [f"{method.name}: {method.failed} readings failed." for method, _ in entries if method.failed]
    reads = dict.fromkeys(method.reads for method, _ in entries)
    lines += [f"{', '.join(m.name for m, _ in entries if m.reads == one)}: {one}." for one in reads]
    return lines


def _period(entries: Sequence[tuple[Method, Figures]]) -> str:
    """Return how often the first method's sensor publishes, as "100 ms "; "" when nobody knows."""
    published_ns = entries[0][0].published_ns
    return "" if published_ns is None or len(published_ns) < 2 else f"{np.median(np.diff(published_ns)) / 1e6:.0f} ms "


def _verdicts(method: Method) -> str:
    found = Counter(one.verdict for one in method.accounts if one.verdict)
    return ", ".join(f"{verdict} in {count}" for verdict, count in found.most_common()) + f" of {found.total()} epochs"


def _lock(race: Race) -> list[str]:
    claim = lock_claim(race)
    if claim["reason"] is None and claim["ratio"] is not None:
        return [
            f"Beside a Python-busy program a pynvml thread got {100 * claim['thread_share']:.0f} % of the readings it "
            f"asked for, the native sampler {100 * claim['native_share']:.0f} %."
        ]
    if free_threaded():
        return ["This interpreter has no global lock: what a Python-busy program does to a thread is left out."]
    return []
