# SPDX-License-Identifier: Apache-2.0
"""The study as text and as JSON: what was put in, the paper's findings, and ours beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from powersample.experiments.reproduce.figures import WAYS, Over, extreme, held_share, over, tracing_figures
from powersample.experiments.reproduce.findings import MEANS, findings, r_of, share
from powersample.experiments.reproduce.holistic import (
    AFFINE,
    EPOCHS,
    HIGH,
    IDLE,
    LENGTHS_S,
    LOW,
    NODE,
    PRIMES,
    PRIOR,
    RUNS,
    STRESS,
    Holistic,
    uncaptured_w,
)
from powersample.experiments.reproduce.inputs import FINDINGS, PAPER
from powersample.experiments.reproduce.run import OnNode, Reproduction
from powersample.experiments.reproduce.tracing import Setting, Tracing, settings
from powersample.model import amount
from powersample.report.agreement import agreement_text

WIDTH = 117
CLAIM = (
    "What is simulated shows the paper's mechanism: on a node made up of what is listed below, the same ways of "
    "measuring fail in the same way. A likeness of figures is no evidence about the paper's node."
)
SAID = {
    LOW: "counters + P_idle",
    HIGH: "counters + P_busy, stress",
    PRIOR: "counters + P_busy, primes",
    AFFINE: "affine model (ours)",
    NODE: "node model (ours)",
}


def headline(study: Reproduction) -> str:
    """Return the line that every form of the result begins with."""
    return f"SIMULATED NODE {study.profile}, not a measurement"


# ---- JSON -----------------------------------------------------------------------------------------------------------


def to_json(study: Reproduction) -> dict[str, Any]:
    """Return the machine-readable form, schema_version 1."""
    return {
        "schema_version": 1,
        "simulated": True,
        "headline": headline(study),
        "claim": CLAIM,
        "seed": study.seed,
        "took_s": study.took_s,
        "inputs": [asdict(one) for one in study.inputs],
        "paper": {name: asdict(one) for name, one in FINDINGS.items()},
        "here": _node_json(study.here),
        "drawn": [_node_json(one) for one in study.drawn],
        "tracing": [
            {
                **asdict(setting),
                "figures": {name: over(study, of).as_json() for name, of in tracing_figures(place).items()},
            }
            for place, setting in enumerate(settings())
        ],
        "holistic": {
            name: {
                way: over(study, extreme(name, way, end)).as_json() | {"held_share": held_share(study, name, way)}
                for way, _, end in WAYS
            }
            for name in ("one", "four")
        },
    }


def _node_json(one: OnNode) -> dict[str, Any]:
    best = one.calibration.node
    return {
        "node_seed": one.node_seed,
        "uncaptured_w": {name: uncaptured_w(one.calibration, name) for name in (IDLE, PRIMES, STRESS)},
        "leave_one_out_max_pct": None if best is None else best.leave_one_out_max_pct,
        "tracing": [_tracing_json(each) for each in one.tracings],
        "one": _holistic_json(one.one),
        "four": _holistic_json(one.four),
    }


def _tracing_json(one: Tracing) -> dict[str, Any]:
    return {
        **asdict(one.setting),
        "epochs": one.epochs,
        "few_share": one.few_share,
        "held_share": one.held_share,
        "epoch_error_pct": {tool: asdict(each) for tool, each in one.error.items()},
        "against_meter": [each.as_json() for each in one.meter],
        "against_truth": [each.as_json() for each in one.truth],
    }


def _holistic_json(one: Holistic) -> dict[str, Any]:
    return {
        "gpus": one.gpus,
        "wall_w": [float(watts) for watts in one.wall_w],
        "held_share": dict(one.held_share),
        "against_meter": [each.as_json() for each in one.agreement],
        "error_pct": {way: [float(each) for each in errors] for way, errors in one.error_pct.items()},
        "offset_w": {name: {"mean": mean, "sd": sd} for name, (mean, sd) in one.offset_w.items()},
        "usage_w": list(one.usage_w),
        "limit_w": one.limit_w[0],
        "idle_w": one.limit_w[1],
    }


# ---- text -----------------------------------------------------------------------------------------------------------


def to_text(study: Reproduction) -> str:
    """Return the study as text of at most 117 columns."""
    lines = [
        headline(study),
        CLAIM,
        f"Every cell is of the node of the profile; in brackets 5 to 95 % of {len(study.drawn)} nodes drawn around it. "
        f"What stands under or beside {PAPER!r} are the paper's own values, of its own node.",
        "",
        *_tracing_table(study),
        "",
        *_agreement(study),
        "",
        *_holistic_table(study),
        "",
        *findings(study),
        "",
        f"Put in, and so no finding (seed {study.seed}):",
        *(f"  {one.what}: {one.value} [{one.origin}]" for one in study.inputs),
    ]
    return "\n".join(part for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ") if len(line) > WIDTH else [line]


def _tracing_table(study: Reproduction) -> list[str]:
    columns = (
        "few_share",
        "smi_epoch_r",
        "smi_run_r",
        "smi_epoch_j_r",
        "smi_run_j_r",
        "nvml_epoch_r",
        "native_epoch_r",
    )
    widths = (11, *[13] * 6)
    smi, run, nvml = (f"{FINDINGS[name].value} *" for name in ("smi_epoch_r", "smi_run_r", "nvml_r"))
    titles = (
        ("epochs of", "nvidia-smi:", "", "", "", "NVML, 10/s:", "powersample:"),
        ("<= 10", "epoch, W", "training, W", "epoch, J", "training, J", "epoch, W", "epoch, W"),
        (FINDINGS["few_share"].value, smi, run, smi, run, nvml, ""),
    )
    heads = [f"{'power.draw':12}{'a call':>6} {'epochs, s':>9}", "", PAPER]
    lines = ["Experiments 1 and 2c, one GPU: Pearson's r with the GPU power seen through the meter"]
    lines += [
        f"{head:28}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for head, cells in zip(heads, titles, strict=True)
    ]
    for place, setting in enumerate(settings()):
        figures = tracing_figures(place)
        found = [(over(study, figures[name]), share if name == "few_share" else r_of) for name in columns]
        here = "".join(f"{form(one.here):>{width}}" for (one, form), width in zip(found, widths, strict=True))
        drawn = "".join(f"{_range(one, form):>{width}}" for (one, form), width in zip(found, widths, strict=True))
        lines += [f"{_name(setting):28}{here}", f"{'':28}{drawn}"]
    lines.append("* of power or of energy is not said, of NVML's neither whether of epochs or of trainings")
    return lines


def _name(setting: Setting) -> str:
    low_s, high_s = setting.lengths_s
    return (
        f"{MEANS[setting.field]:11}{f'{1e3 * setting.call_s:g} ms':>7}{f'{amount(low_s, 2)}-{amount(high_s, 2)}':>10}"
    )


def _agreement(study: Reproduction) -> list[str]:
    """Return the paper's table: of one setting, in which its mechanism is plainest, and of the whole node."""
    one, (low_s, high_s) = study.here.tracings[-1], LENGTHS_S
    return [
        f"Agreement with the meter's side ({MEANS[one.setting.field]}, calls of {1e3 * one.setting.call_s:g} ms, "
        f"{one.epochs} epochs of {one.setting.lengths_s[0]:g} to {one.setting.lengths_s[1]:g} s)",
        *agreement_text(one.meter, "the GPU power seen through the meter").splitlines(),
        "Code Carbon tracks the GPU that trains from a training's begin to its end: its run has the pauses between "
        "epochs, and so has the meter's beside it.",
        "",
        f"The whole node (experiment 2a, {RUNS} trainings of {EPOCHS} epochs of {low_s:g} to {high_s:g} s)",
        *agreement_text(study.here.one.agreement, "the meter at the node's plugs").splitlines(),
    ]


def _signed(value: float) -> str:
    return f"{value:+.1f}"


def _size(value: float) -> str:
    return f"{value:.1f}"


def _range(one: Over, form: Callable[[float], str]) -> str:
    low, high = form(one.low), form(one.high)
    return f"[{low.removesuffix(' %')}, {high.removesuffix(' %')}]"


def _holistic_table(study: Reproduction) -> list[str]:
    lines = [
        "Experiments 2a and 2b, the whole node: error of a training's energy against the meter, %, the greatest of all",
        f"{'':26}{PAPER:>10}{'2a: one GPU':>12}{'drawn nodes':>21}{'held':>7}{'2b: four':>10}{'drawn nodes':>21}"
        f"{'held':>7}",
    ]
    for way, finding, end in WAYS:
        form = _size if end == "size" else _signed
        cells = ""
        for name, width in (("one", 12), ("four", 10)):
            each, held = over(study, extreme(name, way, end)), held_share(study, name, way)
            cells += f"{form(each.here):>{width}}{f'{form(each.median)} {_range(each, form)}':>21}"
            cells += f"{'' if held is None else share(held):>7}"
        lines.append(f"{SAID.get(way, way):26}{_of_paper(finding, end):>10}{cells}".rstrip())
    lines += [
        "drawn nodes: median [5, 95 %]. Of a bound that end for which it is one; of Code Carbon with its sign.",
        "held: how many trainings of the drawn nodes have their exact energy between the two bounds (beside the upper "
        "one), or within the 95 % interval that `report` gives by the model.",
    ]
    return lines


def _of_paper(finding: str, end: str) -> str:
    if finding != "bounds":
        return FINDINGS[finding].value if finding else ""
    high, _, low = FINDINGS["bounds"].value.removesuffix(" %").partition(" .. ")
    return f"{low if end == 'low' else high} %"
