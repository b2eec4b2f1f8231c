# SPDX-License-Identifier: Apache-2.0
"""docs/race.md says what its committed figures say, and what they must say for the page to be true."""

import importlib.util
import json
from pathlib import Path

import pytest

from powersample.experiments.figures import FEW
from powersample.experiments.race.entrants import METHODS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make_race_page", DOCS / "race" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures():
    return json.loads((DOCS / "race" / "figures.json").read_text(encoding="utf-8"))


def test_page_is_written_of_the_committed_figures(made, figures):
    assert (DOCS / "race.md").read_text(encoding="utf-8") == made.page(figures)


def test_page_changes_with_a_figure(made, figures):
    other = json.loads(json.dumps(figures))
    other["paper"]["real_time"]["native"]["epoch_error_pct"]["median"] += 1
    assert made.page(other) != made.page(figures)


def test_page_says_of_how_many_epochs_each_median_is_and_how_far_off_the_worst(made, figures):
    assert "| 0.3 s, n = 20: median (worst) | 1 s, n = 6: median (worst) |" in made.page(figures)
    other = json.loads(json.dumps(figures))
    for one in other["fields"]["methods"]:
        assert sum(part["epochs"] for part in one["epoch_error_by_length_pct"]) == one["epochs"]
        one["epoch_error_by_length_pct"][1] |= {"epochs": 77, "median": 1.0, "max": 2.5}
    page = made.page(other)
    assert "| 1 s, n = 77: median (worst) |" in page
    assert page.count("| 1.0 % (2.5 %) |") == len(other["fields"]["methods"])


def test_figures_bear_out_what_the_page_claims(figures):
    """Native at most half as far off as the tracer where it trusts itself; elsewhere it says that it does not."""
    paper = figures["paper"]
    trusted = paper["by_verdict"][0]
    assert trusted["verdicts"] == ["good", "fair"]
    assert trusted["native_median_pct"] <= trusted["tracer_median_pct"] / 2
    assert trusted["native_p95_pct"] <= trusted["tracer_p95_pct"] / 2
    assert sum(one["epochs"] for one in paper["by_verdict"]) == paper["real_time"]["native"]["epochs"]
    assert sum(one["held"] for one in paper["by_verdict"]) >= 0.9 * paper["real_time"]["native"]["epochs"]
    assert paper["papers"]["few_share"] == 0.39


@pytest.mark.parametrize("quantity", ["power", "energy"])
def test_figures_set_epochs_below_trainings_like_with_like(figures, quantity):
    """One quantity is never set against the other: lengths lift an energy's correlation, and no power's."""
    epoch, run = f"epoch_{quantity}_pearson", f"run_{quantity}_pearson"
    tracer = figures["paper"]["real_time"]["ea-has-tracer"]
    assert tracer[epoch] < tracer[run]
    alike = figures["paper"]["virtual_time_alike"]["power.draw as on this driver"][0]
    assert alike[epoch] < 0.9
    assert alike[run] > 0.99
    tried = [one for one in figures["tried"] if one["field"] == "power.draw as on this driver"]
    same = [one for one in tried if one["lengths_s"] in ([0.5, 0.5], [1.0, 1.0]) and one["epochs"] >= 1000]
    assert len(same) == 4
    assert all(one[epoch] < 0.9 and one[run] > 0.99 for one in same)


def test_figures_of_fields_bear_out_that_the_field_counts_first(figures):
    """The same thread on another field is nearer by about half or more of what native is nearer by; few epochs tell."""
    of = {one["name"]: one for one in figures["fields"]["methods"]}
    for n in (0, 1):
        usage, instant, native = (
            of[name]["epoch_error_by_length_pct"][n]["median"] for name in ("pynvml-thread", "pynvml-instant", "native")
        )
        assert usage - instant > 0.4 * (usage - native)
        assert native < instant


def test_figures_of_the_races_took_less_than_90_s_each_and_leave_no_method_out(figures):
    assert figures["race"]["took_s"] < 90
    assert figures["paper"]["took_s"] < 90
    assert [one["name"] for one in figures["race"]["methods"]] == list(METHODS)
    assert all(one["available"] or one["reason"] for one in figures["race"]["methods"])


def test_page_is_written_whatever_the_verdicts_are(made, figures):
    """Of a run all of whose epochs are good there is one sentence; of epochs without an energy no figure."""
    other = json.loads(json.dumps(figures))
    other["paper"]["by_verdict"] = other["paper"]["by_verdict"][:1]
    other["paper"]["by_verdict"][0] |= {"native_median_pct": None, "native_p95_pct": None}
    page = " ".join(made.page(other).split())
    assert "calls itself good or fair, and is off by nothing that can be told (median)" in page
    assert "poor or unusable" not in page


def test_figures_keep_the_rule_of_ten_readings(figures):
    for one in figures["paper"]["share_of_few_by_length"]:
        assert one["rule_s"] == pytest.approx(FEW * (0.1 + one["call_s"]), rel=1e-4)
        assert one["longest_with_few_s"] is None or one["longest_with_few_s"] <= one["rule_s"] * 1.0001
        assert one["shortest_with_more_s"] is None or one["shortest_with_more_s"] >= one["rule_s"] * 0.9999


def test_figures_of_aliasing_are_alike_at_every_rate(figures):
    for method in ("field 186", "no lag, jitter"):
        causes = figures["causes"]["causes"]
        told = [one["median"] for one in causes if (one["cause"], one["method"]) == ("aliasing", method)]
        assert len(told) == 4
        assert max(told) - min(told) < 1


def test_figures_of_processes_are_no_noise(figures):
    """Differences of runs on a busy machine can come out as anything; such figures are not for a page."""
    steps = ("process start", "its and NVML's start", "the whole XML")
    told = [one for one in figures["causes"]["causes"] if one["cause"] in steps]
    assert len(told) == 3
    assert all(one["median"] > 0.2 for one in told)


def test_picture_is_there_and_small():
    data = (DOCS / "race" / "paper.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 400_000
