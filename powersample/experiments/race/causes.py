# SPDX-License-Identifier: Apache-2.0
"""What costs what: the causes that keep a reading from coming, one by one, by differences of neighbouring runs.

Everything is measured here and now, on the stand-in library: what a process costs to start is this machine's, what a
driver's call costs is injected and swept, and what the sensor itself withholds is worked out from the board's profile.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from powersample import errors
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.interpreter import free_threaded
from powersample.experiments.race.cause_cells import (
    ALIASING,
    LATE,
    MS,
    OLD,
    PCT,
    UNSEEN,
    Cause,
    beside,
    calls,
    initialisation,
    processes,
    sensor,
)
from powersample.model import duration
from powersample.session.simulate import make_node

CALLS_S = (5e-6, 50e-6, 0.4e-3, 5e-3)  # science.md's range of one NVML call, up to a blocked one
ROUNDS = 41
BESIDE_ROUNDS = 5
WIDTH = 100
UNITS = (
    "call, at: how long a call of the driver takes, or polls a second; quartiles: of the runs, of aliasing the range.",
    f"{MS}: what it takes longer; {LATE}: of 99 in 100 readings the most beyond their 1 ms;",
    f"{OLD}: since the middle of what a value tells of; {UNSEEN}: that no value tells of;",
    f"{PCT}: of those asked for; % of energy: error of an energy by the trapezoid.",
)


@dataclass(frozen=True, slots=True)
class Causes:
    """All of them.

    Attributes:
        headline: That this is no measurement of a GPU.
        causes: The causes, in the order of a reading's way.
        refused: What could not be told, and why.
        took_s: How long it took.
    """

    headline: str
    causes: tuple[Cause, ...]
    refused: tuple[str, ...]
    took_s: float


def run_causes(
    *,
    simulate: str = "h100+none",
    nvidia_smi: str | os.PathLike[str] | None = None,
    rounds: int = ROUNDS,
    beside_rounds: int = BESIDE_ROUNDS,
    calls_s: Sequence[float] = CALLS_S,
    say: Callable[[str], None] = lambda _: None,
) -> Causes:
    """Measure every cause.

    Args:
        simulate: The node, as of `powersample record --simulate`.
        nvidia_smi: Path of NVIDIA's program; None looks on PATH and in the cache.
        rounds: Runs of each cell, by turns; fewer where they take long, at least 3.
        beside_rounds: Runs beside a program, of 0.4 s for each of two methods and loads.
        calls_s: Injected durations of a driver call.
        say: Told what happens next.
    """
    begin_s = time.monotonic()
    found: list[Cause] = []
    refused: list[str] = []
    with make_node(simulate) as node:
        try:
            say("starting processes")
            found += processes(node, find_nvidia_smi(nvidia_smi), rounds, calls_s)
        except errors.NotSupported as error:
            refused.append(f"processes of nvidia-smi: {error}")
        say("driver calls")
        found += initialisation(node, rounds)
        found += calls(node, calls_s)
        say("scheduling and the interpreter's lock")
        found += beside(node, beside_rounds)
        if free_threaded():
            refused.append("the interpreter's lock: this interpreter has none")
        found += sensor(node)
        headline = f"SIMULATED NODE {node.name}, not a measurement"
    return Causes(headline, tuple(found), tuple(refused), time.monotonic() - begin_s)


def to_json(causes: Causes) -> dict[str, Any]:
    """Return the machine-readable form, schema_version 1."""
    return {
        "schema_version": 1,
        "simulated": True,
        "headline": causes.headline,
        "took_s": causes.took_s,
        "causes": [asdict(one) for one in causes.causes],
        "refused": list(causes.refused),
    }


def to_text(causes: Causes) -> str:
    """Return the table, at most 100 columns."""
    lines = [
        causes.headline,
        "What costs what: medians and quartiles of neighbouring runs with and without. Processes, scheduling",
        "and lock are this machine's; a driver's calls are injected, for no stand-in knows them; what the",
        "sensor withholds is its model's, and of aliasing the worst and the range over all phases are told.",
        "",
        f"{'cause':21}{'method':17}{'call, at':>8}{'median':>10}{'quartiles':>19}{'n':>5}  unit",
    ]
    for before, one in zip((None, *causes.causes), causes.causes, strict=False):
        same = before is not None and before.cause == one.cause
        lines.append(
            f"{'' if same else one.cause:21}{one.method:17}{_with(one):>8}{_figure(one.median):>10}"
            f"{_range(one):>19}{one.count or '-':>5}  {one.unit}"
        )
    lines += ["", *UNITS, "", *conclusions(causes.causes)]
    lines += [f"not told: {reason}" for reason in causes.refused]
    return "\n".join(part for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ") if len(line) > WIDTH else [line]


def conclusions(causes: Sequence[Cause]) -> list[str]:
    """Return a sentence a cause, of those that were told: what its figures come to."""

    def median(cause: str, method: str, unit: str, call_us: float | None = None) -> float | None:
        wanted = (cause, method, unit, call_us)
        found = (one.median for one in causes if (one.cause, one.method, one.unit, one.call_us) == wanted)
        return next(found, None)

    dearest = max((one.call_us for one in causes if one.call_us), default=None)
    spread = [one for one in causes if one.cause == ALIASING and one.method == "field 186"]
    every: list[tuple[str, list[float | None]]] = [
        (
            "Processes: a reading by nvidia-smi costs {} ms for a process at all, {} ms more for nvidia-smi and NVML, "
            "and {} ms more for its XML.",
            [
                median("process start", "nvidia-smi-spawn", MS),
                median("its and NVML's start", "nvidia-smi-spawn", MS),
                median("the whole XML", "ea-has-tracer", MS),
            ],
        ),
        (
            f"Driver calls: where each takes {_call(dearest)}, a reading takes {{}} ms by native, {{}} ms by pynvml, "
            "{} ms more by nvidia-smi for one field and {} ms more by its XML: they count by how many they are.",
            [
                median("driver calls", name, MS, dearest)
                for name in ("native", "pynvml-thread", "nvidia-smi-spawn", "ea-has-tracer")
            ],
        ),
        (
            "Scheduling: beside a program that sleeps, native is {} ms late and pynvml {} ms.",
            [median("scheduling", name, LATE) for name in ("native", "pynvml-thread")],
        ),
        (
            "The lock: beside pure Python, native loses {} % of its readings and pynvml {} %.",
            [median("interpreter's lock", name, PCT) for name in ("native", "pynvml-thread")],
        ),
        (
            "The sensor: a value of field 186 is {} ms old on average, and {} % of the time is in none; no poll helps.",
            [median("the sensor", "field 186", unit) for unit in (OLD, UNSEEN)],
        ),
        (
            "Aliasing: a load of the sensor's own period is off by {} % at the fewest polls and by {} % at the most.",
            [abs(one.median) for one in (spread[0], spread[-1])] if spread else [None],
        ),
    ]
    return [said.format(*(_figure(v) for v in values if v is not None)) for said, values in every if None not in values]


def _with(one: Cause) -> str:
    return _call(one.call_us) if one.rate_hz is None else f"{one.rate_hz:.0f}/s"


def _call(call_us: float | None) -> str:
    if call_us is None:
        return ""
    return duration(call_us / 1e6)


def _range(one: Cause) -> str:
    return "" if one.low is None or one.high is None else f"{_figure(one.low)} to {_figure(one.high)}"


def _figure(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"
