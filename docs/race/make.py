# SPDX-License-Identifier: Apache-2.0
"""Runs the races of docs/race.md and writes the page: `python docs/race/make.py`, about five minutes.

`python docs/race/make.py page` writes the page alone, of the figures there are. No number stands in the page that does
not come out of figures.json; tests/test_docs_race.py holds the one to the other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIGURES, PAGE, PICTURE = HERE / "figures.json", HERE.parent / "race.md", HERE / "paper.png"
TEMPLATE = HERE / "page.txt"
SLOW, QUICK = "power.draw as on this driver", "power.draw as in branch 530"
LEAVE_OUT = {"node", "ground", "planned_epochs", "epoch_s", "epoch_energy_j", "epoch_truth_j", "epoch_low_j"}
LEAVE_OUT |= {"epoch_high_j", "epoch_verdict", "epoch_reasons"}
# Few enough that each has epochs enough: who reads the 1 s mean, field 186, the energy counter.
FIELDS = ("ea-has-tracer", "pynvml-thread", "pynvml-instant", "codecarbon", "native")
FIELD_EPOCHS = 26
LENGTHS_S = ((0.3, 3.0), (0.5, 0.5), (1.0, 1.0), (3.0, 3.0))
EACH = (3, 10, 50)  # epochs of a training
TRAININGS = 100


def measure() -> dict[str, Any]:
    """Run all, one after the other; return what they printed, and on what."""
    sys.path.insert(0, str(ROOT))
    from bench.machine import describe

    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "paper.png"
        found = {
            "machine": machine,
            "race": race(),
            "fields": race("--methods", ",".join(FIELDS), "--epochs", str(FIELD_EPOCHS), "--pairs", "0"),
            "tried": tried(),
            "paper": race("--paper", "--png", str(png)),
            "causes": race("--causes"),
        }
        PICTURE.write_bytes(png.read_bytes())
    return found


def tried() -> list[dict[str, Any]]:
    """Follow the loop in virtual time over trainings of several kinds, on either field."""
    from powersample.experiments.paper.loop import curve
    from powersample.experiments.paper.run import QUICK_DRIVER
    from powersample.experiments.paper.show import traced_json

    found = []
    for lengths_s, each in product(LENGTHS_S, EACH):
        for field, driver, cost_s in ((SLOW, None, 0.01), (QUICK, QUICK_DRIVER, 0.1)):
            (one,) = curve(
                "h100+none", driver=driver, costs_s=(cost_s,), count=TRAININGS, epochs_each=each, lengths_s=lengths_s
            )
            found.append({"lengths_s": list(lengths_s), "field": field, **traced_json(one)})
    return short(found)


def race(*options: str) -> dict[str, Any]:
    """Run `powersample race` and return its JSON, without what is long and not told of."""
    command = [sys.executable, "-m", "powersample.cli", "race", *options, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return short(json.loads(done.stdout))


def short(value: Any) -> Any:
    """Return the value with five digits a number, and without the long lists."""
    if isinstance(value, dict):
        return {key: short(each) for key, each in value.items() if key not in LEAVE_OUT}
    if isinstance(value, list):
        return [short(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def page(of: dict[str, Any]) -> str:
    """Return the page: page.txt with the figures in it."""
    paragraphs = TEMPLATE.read_text(encoding="utf-8").format(**names(of)).strip().split("\n\n")
    filled = [
        text if text.startswith(("|", "#", "!")) else textwrap.fill(text, 120, break_on_hyphens=False)
        for text in paragraphs
    ]
    return "\n\n".join(filled) + "\n"


def names(of: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by the names that page.txt has for them."""
    paper, machine = of["paper"], of["machine"]
    tracer, native = paper["real_time"]["ea-has-tracer"], paper["real_time"]["native"]
    virtual, alike = paper["virtual_time"], paper["virtual_time_alike"][SLOW]
    fields = {one["name"]: one for one in of["fields"]["methods"]}
    same = [one for one in of["tried"] if one["field"] == SLOW and one["lengths_s"][0] == one["lengths_s"][1] <= 1]
    same = [one for one in same if one["epochs"] > EACH[0] * one["trainings"]]
    return {
        **{name: machine[name] for name in ("cpu", "cores", "kernel", "python", "date")},
        "load": machine["load_average_before"],
        **{f"{name}_took": of[name]["took_s"] for name in ("race", "paper", "causes")},
        "methods": sum(one["available"] for one in of["race"]["methods"]),
        "field_names": ",".join(FIELDS),
        "field_epochs": fields["native"]["epochs"],
        **{
            f"field_n_{part}": fields["native"]["epoch_error_by_length_pct"][n]["epochs"]
            for n, part in enumerate(("short", "long"))
        },
        "fields": "\n".join(field_row(one) for one in fields.values()),
        **{
            f"{name.replace('-', '_')}_{part}": fields[name]["epoch_error_by_length_pct"][n]["median"]
            for name in FIELDS
            for n, part in enumerate(("short", "long"))
        },
        "epochs": tracer["epochs"],
        "trainings": tracer["trainings"],
        "shortest": paper["epoch_lengths_s"][0],
        "longest": paper["epoch_lengths_s"][1],
        **sizes("tracer", tracer["epoch_error_pct"]["median"], tracer["epoch_error_pct"]["p95"]),
        **sizes("native", native["epoch_error_pct"]["median"], native["epoch_error_pct"]["p95"]),
        **correlations("tracer", tracer),
        **correlations("native", native),
        **correlations("alike", alike[0]),
        "alike_call": 1e3 * alike[0]["call_s"],
        "alike_each": alike[0]["epochs"] / alike[0]["trainings"],
        "turn": turn(virtual),
        "papers_r": paper["papers"]["epoch_r"],
        "papers_run_r": paper["papers"]["run_r"],
        "papers_few": 100 * paper["papers"]["few_share"],
        "by_verdict": " ".join(verdict(one) for one in paper["by_verdict"]),
        "held": sum(one["held"] for one in paper["by_verdict"]),
        "virtual": virtual[SLOW][0]["epochs"],
        "table": "\n".join(row(one, other) for one, other in zip(virtual[SLOW], virtual[QUICK], strict=True)),
        "tried_trainings": TRAININGS,
        "tried": "\n".join(tried_rows(of["tried"])),
        "same_least": min(one["epoch_power_pearson"] for one in same),
        "same_most": max(one["epoch_power_pearson"] for one in same),
        "same_run": min(one["run_power_pearson"] for one in same),
        **costs(of["causes"]["causes"]),
    }


def field_row(one: dict[str, Any]) -> str:
    """Return a row of the table of fields: a method's errors by length of epoch, and what it reads."""
    if not one["available"]:
        return f"| {one['name']} | not run: {one['reason']} | | | |"
    parts = [f"{part['median']:.1f} % ({part['max']:.3g} %)" for part in one["epoch_error_by_length_pct"]]
    cells = [one["name"], one["reads"], *parts, f"{one['power_pearson']:.3f}"]
    return f"| {' | '.join(cells)} |"


def correlations(name: str, one: dict[str, Any]) -> dict[str, float]:
    """Return r of epochs and of trainings, in power and in energy."""
    return {
        f"{name}_{what}_{quantity}_r": one[f"{what}_{quantity}_pearson"]
        for what in ("epoch", "run")
        for quantity in ("power", "energy")
    }


def pair(one: dict[str, Any], quantity: str) -> str:
    """Return r of epochs and of trainings of one quantity, in as many digits as tell them apart."""
    digits = 2 if quantity == "power" else 3
    return " / ".join(f"{one[f'{what}_{quantity}_pearson']:.{digits}f}" for what in ("epoch", "run"))


def turn(virtual: dict[str, Any]) -> str:
    """Return from which cost of a call on, ms, the power of an epoch is told as well as that of a training."""
    over = [
        [one["call_s"] for one in curve if one["epoch_power_pearson"] < one["run_power_pearson"]]
        for curve in (virtual[SLOW], virtual[QUICK])
    ]
    costs_s = sorted({one["call_s"] for one in virtual[SLOW]})
    return f"{1e3 * min(cost_s for cost_s in costs_s if cost_s > min(map(max, over))):g}"


def verdict(one: dict[str, Any]) -> str:
    """Return a sentence about the epochs of which the native sampler says one thing."""

    def size(value: float | None, digits: int) -> str:
        return "nothing that can be told" if value is None else f"{value:.{digits}f} %"

    return (
        f"Of {one['epochs']} epochs the native sampler calls itself {' or '.join(one['verdicts'])}, and is off by "
        f"{size(one['native_median_pct'], 1)} (median) and {size(one['native_p95_pct'], 1)} (95th percentile), where "
        f"the tracer is by {size(one['tracer_median_pct'], 0)} and {size(one['tracer_p95_pct'], 0)}."
    )


def tried_rows(tried: list[dict[str, Any]]) -> list[str]:
    """Return the rows of the table of kinds of trainings, one for both fields."""
    rows = []
    for slow, quick in zip(tried[::2], tried[1::2], strict=True):
        least, most = slow["lengths_s"]
        length = f"{least:g} s" if least == most else f"{least:g} to {most:g} s"
        cells = [length, f"{slow['epochs'] / slow['trainings']:g}"]
        rows.append(f"| {' | '.join(cells + [pair(one, q) for one in (slow, quick) for q in ('power', 'energy')])} |")
    return rows


def sizes(name: str, median: float, p95: float) -> dict[str, float]:
    return {f"{name}_median": median, f"{name}_p95": p95}


def row(slow: dict[str, Any], quick: dict[str, Any]) -> str:
    """Return a row of the table: the loop at one cost of a call, on either field."""
    cells = [
        f"{1e3 * slow['call_s']:g} ms",
        f"{10 * (0.1 + slow['call_s']):.1f} s",
        f"{100 * slow['epochs_at_most_10_share']:.0f} %",
    ]
    for one in (slow, quick):
        cells += [f"{one['epoch_error_pct']['median']:.1f} %", pair(one, "power"), pair(one, "energy")]
    return f"| {' | '.join(cells)} |"


def costs(causes: list[dict[str, Any]]) -> dict[str, float]:
    """Return the medians that the page names, ms, and the sizes of the aliasing errors, %."""

    def median(name: str, method: str, call_us: float | None = None, unit: str = "ms a reading") -> float:
        wanted = (name, method, call_us, unit)
        found = ((one["cause"], one["method"], one["call_us"], one["unit"]) for one in causes)
        return next(one["median"] for one, words in zip(causes, found, strict=True) if words == wanted)

    def aliased(method: str, rate_hz: float) -> float:
        wanted = ("aliasing", method, rate_hz)
        return abs(next(one["median"] for one in causes if (one["cause"], one["method"], one["rate_hz"]) == wanted))

    return {
        "start": median("process start", "nvidia-smi-spawn"),
        "own": median("its and NVML's start", "nvidia-smi-spawn"),
        "xml": median("the whole XML", "ea-has-tracer"),
        "tracer_call": median("driver calls", "ea-has-tracer", 5000.0),
        "spawn_call": median("driver calls", "nvidia-smi-spawn", 5000.0),
        "native_call": median("driver calls", "native", 5000.0),
        "pynvml_call": median("driver calls", "pynvml-thread", 5000.0),
        "thread_lost": median("interpreter's lock", "pynvml-thread", unit="% of readings lost"),
        "native_lost": median("interpreter's lock", "native", unit="% of readings lost"),
        "ideal_slow": aliased("no lag, jitter", 10.0),
        "ideal_fast": aliased("no lag, jitter", 10_000.0),
        "real_slow": aliased("field 186", 10.0),
        "real_fast": aliased("field 186", 10_000.0),
    }


def main(arguments: list[str]) -> None:
    """Measure unless only the page is wanted, and write it."""
    if arguments != ["page"]:
        FIGURES.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(FIGURES.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
