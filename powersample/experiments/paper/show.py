# SPDX-License-Identifier: Apache-2.0
"""The paper's findings beside ours: one screen of text, and JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from powersample.experiments.figures import FEW, Spread, figures, known, method_json, spread
from powersample.experiments.paper.epochs import LENGTHS_S, SLEEP_S
from powersample.experiments.paper.loop import ALIKE_S, Traced
from powersample.experiments.paper.run import Paper
from powersample.model import amount, duration

WIDTH = 100
# arXiv 2505.15631: section V.B (Pearson by epoch), the abstract (by training), section V (epochs of few samples).
PAPERS = {"few_share": 0.39, "epoch_r": 0.64, "run_r": 0.99, "samples": FEW}
TRUSTED = ("good", "fair")


@dataclass(frozen=True, slots=True)
class Judged:
    """Errors of native and tracer over the epochs of which the native verdict says one thing.

    Attributes:
        verdicts: Which verdicts.
        epochs: How many epochs bear them.
        native: Size of the native errors.
        tracer: The same of the tracer; None where it could not run.
        held: In how many of them the truth lies in the native interval.
    """

    verdicts: tuple[str, ...]
    epochs: int
    native: Spread
    tracer: Spread | None
    held: int


def judged(paper: Paper) -> tuple[Judged, ...]:
    """Return both errors where the native verdict is at least fair, and where it is worse."""
    verdict = np.array([one.verdict for one in paper.native.accounts])
    held = np.array(
        [
            one.low_j is not None and one.high_j is not None and one.low_j <= truth <= one.high_j
            for one, truth in zip(paper.native.accounts, paper.lap.truth_j.tolist(), strict=True)
        ]
    )
    found = []
    for verdicts in (TRUSTED, ("poor", "unusable")):
        these = np.isin(verdict, verdicts)
        if these.any():
            native = spread(paper.told.error_pct[these])
            tracer = None if paper.traced is None else spread(paper.traced.error_pct[these])
            found.append(Judged(verdicts, int(these.sum()), native, tracer, int(held[these].sum())))
    return tuple(found)


def to_json(paper: Paper) -> dict[str, Any]:
    """Return the machine-readable form, schema_version 1; missing values are None."""
    return {
        "schema_version": 1,
        "simulated": True,
        "headline": paper.headline,
        "node": paper.node,
        "power_draw": paper.meaning,
        "epoch_lengths_s": list(LENGTHS_S),
        "call_s": paper.call_s,
        "late_epochs": paper.late,
        "took_s": paper.took_s,
        "papers": {**PAPERS, "source": "arXiv 2505.15631, sections V and V.B"},
        "methods": [method_json(paper.tracer), method_json(paper.native)],
        "real_time": {
            "ea-has-tracer": None if paper.traced is None else traced_json(paper.traced),
            "native": traced_json(paper.told),
        },
        "by_verdict": [
            {
                "verdicts": list(one.verdicts),
                "epochs": one.epochs,
                "held": one.held,
                "native_median_pct": one.native.median,
                "native_p95_pct": one.native.p95,
                "tracer_median_pct": None if one.tracer is None else one.tracer.median,
                "tracer_p95_pct": None if one.tracer is None else one.tracer.p95,
            }
            for one in judged(paper)
        ],
        "virtual_time": {
            "power.draw as on this driver": [traced_json(one) for one in paper.model],
            "power.draw as in branch 530": [traced_json(one) for one in paper.quick],
        },
        "alike_epoch_lengths_s": list(ALIKE_S),
        "virtual_time_alike": {
            "power.draw as on this driver": [traced_json(one) for one in paper.alike],
            "power.draw as in branch 530": [traced_json(one) for one in paper.alike_quick],
        },
        "share_of_few_by_length": few_by_length(paper.model),
    }


def traced_json(one: Traced) -> dict[str, Any]:
    """Return what the loop made of many epochs as plain values."""
    return {
        "call_s": known(one.cost_s),
        "trainings": one.trainings,
        "epochs": len(one.counts),
        "epochs_at_most_10_share": one.few_share,
        "epoch_error_pct": {"median": one.error.median, "p95": one.error.p95, "max": one.error.max},
        "epoch_power_pearson": one.epoch_power_r,
        "run_power_pearson": one.run_power_r,
        "epoch_energy_pearson": one.epoch_energy_r,
        "run_energy_pearson": one.run_energy_r,
        "middle_third_share": one.middle_share,
        "meter_middle_third_share": one.meter_share,
    }


def few_by_length(model: Sequence[Traced]) -> list[dict[str, Any]]:
    """Return of each cost the length up to which an epoch has at most 10 readings: the rule, and as it was met."""
    found = []
    for one in model:
        few = one.counts <= FEW
        found.append(
            {
                "call_s": one.cost_s,
                "rule_s": FEW * (SLEEP_S + one.cost_s),
                "longest_with_few_s": float(one.lengths_s[few].max()) if few.any() else None,
                "shortest_with_more_s": float(one.lengths_s[~few].min()) if not few.all() else None,
            }
        )
    return found


def to_text(paper: Paper) -> str:
    """Return the result as one screen of at most 100 columns."""
    near = min(paper.model, key=lambda one: abs(one.cost_s - (paper.call_s or SLEEP_S / 10)))
    alike, quick = (of[paper.model.index(near)] for of in (paper.alike, paper.quick))
    slow = next((one for one in paper.quick if one.cost_s >= 0.5), paper.quick[-1])
    shown = (paper.traced, paper.told, near, alike, quick, slow)
    virtual = ["tracer"] * 4
    gpu = "-" if paper.call_s is None else _ms(paper.call_s)
    calls = [gpu, "native", *(_ms(one.cost_s) for one in shown[2:] if one is not None)]
    kind = "1 s" if paper.slow_field else "quick"
    lengths = f"{LENGTHS_S[0]:g}-{LENGTHS_S[1]:g} s"

    def row(title: str, papers: str, cell: Callable[[Traced], str]) -> str:
        return _row(title, [papers, *("-" if one is None else cell(one) for one in shown)])

    lines = [
        paper.headline,
        f"EA-HAS-Bench's loop (sleep 0.1 s, run nvidia-smi -q -x) and the native sampler, on the same "
        f"{len(paper.epochs)} epochs of {LENGTHS_S[0]:g} to {LENGTHS_S[1]:g} s; the loop on more, in virtual time.",
        "",
        _row("", ["the paper", "tracer", "native", *virtual]),
        _row("time", ["its GPUs", "real", "real", *["virtual"] * len(virtual)]),
        _row("power.draw tells", ["", kind, "-", kind, kind, "quick", "quick"]),
        _row("cost of a call", ["", *calls]),
        _row("an epoch lasts", ["", *[lengths] * 3, f"{ALIKE_S[0]:g} s", *[lengths] * 2]),
        row("epochs", "", lambda one: str(len(one.counts))),
        row("epochs of a training", "", lambda one: f"{len(one.counts) / one.trainings:g}"),
        row("energy error, median", "", lambda one: _pct(one.error.median)),
        row("energy error, p95", "", lambda one: _pct(one.error.p95)),
        row("r of power, epochs", f"{PAPERS['epoch_r']:g} (a)", lambda one: _r(one.epoch_power_r)),
        row("r of power, trainings", f"{PAPERS['run_r']:g} (a)", lambda one: _r(one.run_power_r)),
        row("r of energy, epochs", f"{PAPERS['epoch_r']:g} (a)", lambda one: _r(one.epoch_energy_r)),
        row("r of energy, trainings", f"{PAPERS['run_r']:g} (a)", lambda one: _r(one.run_energy_r)),
        _updates(paper),
        row("epochs, <= 10 readings", "39 %", lambda one: _share(one.few_share)),
        row("in the middle third", "none (b)", lambda one: _share(one.middle_share)),
        row("100 ms means there", "some (b)", lambda one: _share(one.meter_share)),
        "",
        *_verdicts(paper),
        *_notes(paper),
    ]
    return "\n".join(line for long in lines for line in (textwrap.wrap(long, WIDTH) if len(long) > WIDTH else [long]))


def _row(title: str, cells: Sequence[str]) -> str:
    return f"{title:>25}" + "".join(f"{cell:>10}" for cell in cells)


def _ms(seconds: float) -> str:
    return duration(seconds)


def _pct(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _r(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _updates(paper: Paper) -> str:
    cells = [""]
    for method in (paper.tracer, paper.native):
        if method.reason is None:
            cells.append(f"{figures(method).few_updates} of {len(paper.epochs)}")
        else:
            cells.append("-")
    return _row("epochs of <= 10 updates", cells)


def _verdicts(paper: Paper) -> list[str]:
    lines = []
    for one in judged(paper):
        beside = ""
        if one.tracer is not None:
            beside = f"; the tracer's {_pct(one.tracer.median)} and {_pct(one.tracer.p95)}"
        lines.append(
            f"Native says {' or '.join(one.verdicts)} of {one.epochs} epochs: error {_pct(one.native.median)} (median) "
            f"and {_pct(one.native.p95)} (p95){beside}. Truth inside its interval: {one.held} of {one.epochs}."
        )
    return lines


def turn_s(model: Sequence[Traced]) -> float | None:
    """Return the cost of a call from which on an epoch's power is told as well as a training's; None where never."""
    pairs = [(one.epoch_power_r, one.run_power_r) for one in model]
    over = [a is not None and b is not None and a >= b for a, b in pairs]
    first = len(over) - next((n for n, each in enumerate(reversed(over)) if not each), len(over))
    return model[first].cost_s if first < len(model) else None


def _like_with_like(paper: Paper) -> str:
    """Return whether an epoch's r lies below a training's: as this run shows it, and nowhere else."""
    said, one = ["r is Pearson's with the truth, like with like."], paper.traced
    if one is not None:
        pairs = {"power": (one.epoch_power_r, one.run_power_r), "energy": (one.epoch_energy_r, one.run_energy_r)}
        below = [name for name, (of, run) in pairs.items() if of is not None and run is not None and of < run]
        said.append(f"In real time an epoch's lies below a training's in {' and in '.join(below) or 'neither'}.")
    if paper.slow_field:
        said.append("A 1 s mean gives to the next epoch what it takes from one; over a training that evens out.")
    turns_s = [at_s for at_s in (turn_s(paper.model), turn_s(paper.quick)) if at_s is not None]
    if turns_s:
        lengths = f"{LENGTHS_S[0]:g}-{LENGTHS_S[1]:g} s"
        said.append(f"From {_ms(min(turns_s))} a call, of epochs of {lengths}, a training's power is told no better.")
    return " ".join(said)


def _notes(paper: Paper) -> list[str]:
    lines = [
        f"The rule: at most {FEW} readings in an epoch of up to 10 x (0.1 s + cost of a call); GPUs are told of where "
        "that is 20 ms to 1.5 s. More readings are no more information: the sensor publishes ten values a second.",
        _like_with_like(paper),
        "(a) The public text does not say of which quantity, nor how long the epochs were. Lengths and insides are "
        "assumed here: the mechanism is the claim, a likeness of figures is none.",
        "(b) Of the exact power in 100 ms means, as an ideal meter tells it: two clusters and nothing between, in the "
        "paper's figure 2. A 1 s mean does the opposite; a quick field read seldom comes nearer.",
    ]
    native = figures(paper.native) if paper.native.lap is not None else None
    if native is not None and native.few_polls:
        lines.append(
            f"Native itself got at most {FEW} readings in {native.few_polls} of {len(paper.epochs)} epochs, at "
            f"{amount(native.achieved_hz)} a second: left to itself it takes up to 2 % of the time by the driver's "
            "calls, and here they are slow. Its errors are those of a sampler held back, not of a sensor."
        )
    if paper.tracer.reason is not None:
        lines.append(f"The tracer did not run: {paper.tracer.reason}")
    if paper.late:
        lines.append(f"In {paper.late} epochs the tracer began late: this machine is busy.")
    if paper.lap.void:
        lines.append(f"The truth is void: {paper.lap.void}.")
    return lines
