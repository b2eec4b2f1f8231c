# SPDX-License-Identifier: Apache-2.0
"""Runs the races of docs/race.md and writes the page: `python docs/race/make.py`, about a minute and a half.

`python docs/race/make.py page` writes the page alone, of the figures there are. No number stands in the page that does
not come out of figures.json; tests/test_docs_race.py holds the one to the other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIGURES, PAGE, PICTURE = HERE / "figures.json", HERE.parent / "race.md", HERE / "paper.png"
TEMPLATE = HERE / "page.txt"
SLOW, QUICK = "power.draw as on this driver", "power.draw as in branch 530"
LEAVE_OUT = {"node", "ground", "planned_epochs", "epoch_s", "epoch_energy_j", "epoch_truth_j", "epoch_low_j"}
LEAVE_OUT |= {"epoch_high_j", "epoch_verdict"}


def measure() -> dict[str, Any]:
    """Run all, one after the other; return what they printed, and on what."""
    sys.path.insert(0, str(ROOT))
    from bench.machine import describe

    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "paper.png"
        found = {
            "machine": machine,
            "paper": race("--paper", "--png", str(png)),
            "causes": race("--causes"),
        }
        PICTURE.write_bytes(png.read_bytes())
    return found


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
    trusted, others = paper["by_verdict"]
    virtual = paper["virtual_time"]
    return {
        **{name: machine[name] for name in ("cpu", "cores", "kernel", "python", "date")},
        "load": machine["load_average_before"],
        "epochs": tracer["epochs"],
        "shortest": paper["epoch_lengths_s"][0],
        "longest": paper["epoch_lengths_s"][1],
        **sizes("tracer", tracer["epoch_error_pct"]["median"], tracer["epoch_error_pct"]["p95"]),
        **sizes("native", native["epoch_error_pct"]["median"], native["epoch_error_pct"]["p95"]),
        "tracer_r": tracer["epoch_power_pearson"],
        "native_r": native["epoch_power_pearson"],
        "tracer_run_r": tracer["run_energy_pearson"],
        "papers_r": paper["papers"]["epoch_r"],
        "papers_run_r": paper["papers"]["run_r"],
        "papers_few": 100 * paper["papers"]["few_share"],
        "trusted": trusted["epochs"],
        **sizes("trusted", trusted["native_median_pct"], trusted["native_p95_pct"]),
        **sizes("trusted_tracer", trusted["tracer_median_pct"], trusted["tracer_p95_pct"]),
        "others": others["epochs"],
        **sizes("others", others["native_median_pct"], others["native_p95_pct"]),
        **sizes("others_tracer", others["tracer_median_pct"], others["tracer_p95_pct"]),
        "held": trusted["held"] + others["held"],
        "virtual": virtual[SLOW][0]["epochs"],
        "table": "\n".join(row(one, other) for one, other in zip(virtual[SLOW], virtual[QUICK], strict=True)),
        **costs(of["causes"]["causes"]),
    }


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
        cells += [f"{one['epoch_error_pct']['median']:.1f} %", f"{one['epoch_power_pearson']:.2f}"]
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
