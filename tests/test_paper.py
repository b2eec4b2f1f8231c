# SPDX-License-Identifier: Apache-2.0
"""The paper's collection loop: the rule of its readings, its model in virtual time, and a short run of both."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample import cli, errors
from powersample.experiments import paper
from powersample.experiments.figures import FEW
from powersample.experiments.method import Method
from powersample.experiments.paper import epochs as plans
from powersample.experiments.paper import loop, run, show
from powersample.session.simulate import make_node

XML = (
    "<nvidia_smi_log><gpu><gpu_power_readings><power_draw>{} W</power_draw></gpu_power_readings></gpu></nvidia_smi_log>"
)


# ---- the rule -----------------------------------------------------------------------------------------------------


@given(st.floats(0.05, 60), st.floats(0.0, 2.0))
def test_epoch_has_at_most_10_readings_up_to_10_sleeps_and_calls(seconds, cost_s):
    count = len(loop.readings(seconds, cost_s))
    limit_s = FEW * (plans.SLEEP_S + cost_s)
    if abs(seconds - limit_s) > 1e-6:
        assert (count <= FEW) == (seconds < limit_s)


@given(st.floats(0.05, 60), st.floats(0.0, 2.0))
def test_readings_are_a_period_apart_and_the_last_one_was_begun_inside(seconds, cost_s):
    at_s = loop.readings(seconds, cost_s)
    assert at_s[0] == pytest.approx(plans.SLEEP_S + cost_s)
    assert np.allclose(np.diff(at_s), plans.SLEEP_S + cost_s)
    assert at_s[-1] - plans.SLEEP_S - cost_s < seconds <= at_s[-1] + 1e-6


def test_loop_of_one_epoch_is_the_loop_by_hand():
    """As the original's: look whether to go on, sleep, call, append."""
    by_hand, now = [], 0.0
    while now < 1.0:
        now += 0.1 + 0.03
        by_hand.append(now)
    assert loop.readings(1.0, 0.03) == pytest.approx(by_hand)


# ---- the epochs ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_trainings_lie_one_after_the_other_within_the_papers_powers(seed):
    found = plans.trainings(4, 3, seed=seed, call_s=0.02)
    assert found == plans.trainings(4, 3, seed=seed, call_s=0.02)
    assert all(a.end_s + plans.SLEEP_S + 0.02 <= b.begin_s for a, b in pairwise(found))
    steps = plans.load(found)
    assert [t for t, _ in steps] == sorted({t for t, _ in steps})
    assert {w for _, w in steps} - {plans.REST_W, plans.WAIT_W} == {epoch.power_w for epoch in found}
    assert all(146 <= epoch.power_w <= 305 for epoch in found)
    assert {len([e for e in found if e.training == t]) for t in range(4)} == {3}


def test_virtual_loop_of_a_constant_power_is_exact():
    constant = tuple(plans.PaperEpoch(0, i, 2.0 + 3 * i, 2.0, plans.REST_W, 0.1, 0.5) for i in range(2))
    with make_node("h100+none") as node:
        start_ns = node.load_script(0, [(0.0, 200.0)])
        found = loop.trace(node, constant, start_ns, sensor="usage", cost_s=0.1)
    assert found.error_pct == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found.counts.tolist() == [10, 10]
    assert found.few_share == 1.0


def test_virtual_loop_tells_less_of_epochs_than_of_trainings_and_costly_calls_less_still():
    """The mechanism, on a quick field: nothing but the number of readings differs."""
    cheap, costly = loop.curve("h100+none", driver="530.30.02", costs_s=(0.01, 0.5), count=60)
    assert cheap.few_share < costly.few_share == 1.0
    assert cheap.error.median < costly.error.median / 2
    assert costly.epoch_power_r < 0.8 < cheap.epoch_power_r
    assert costly.epoch_energy_r < costly.run_energy_r
    assert costly.middle_share < costly.meter_share


def test_virtual_loop_of_a_1_s_mean_is_poor_at_epochs_however_cheap_its_calls():
    (found,) = loop.curve("h100+none", costs_s=(0.001,), count=60)
    assert found.epoch_power_r < found.run_power_r < 0.95
    assert found.middle_share > found.meter_share  # it smooths: no clusters there


def test_virtual_loop_on_alike_epochs_is_poor_at_epochs_and_good_at_trainings_in_power_and_energy_alike():
    """Like with like: no length lifts anything, and what a 1 s mean takes from an epoch it gives to the next."""
    (found,) = loop.curve("h100+none", costs_s=(0.01,), count=40, epochs_each=10, lengths_s=loop.ALIKE_S)
    assert (found.trainings, len(found.counts)) == (40, 400)
    assert found.epoch_power_r < 0.9
    assert found.epoch_energy_r < 0.9
    assert found.run_power_r > 0.99
    assert found.run_energy_r > 0.99


def turning(pairs):
    """Curves whose epochs and trainings correlate so in power, at costs of 1, 2, 3 ... s."""
    (one,) = loop.curve("h100+none", costs_s=(0.5,), count=2)
    return [replace(one, cost_s=float(n), epoch_power_r=a, run_power_r=b) for n, (a, b) in enumerate(pairs, start=1)]


@pytest.mark.parametrize(
    ("pairs", "from_s"),
    [
        ([(0.5, 0.9), (0.8, 0.7), (0.8, 0.8)], 2.0),
        ([(0.8, 0.7), (0.5, 0.9)], None),  # the last is what counts
        ([(0.8, 0.7)], 1.0),
        ([(None, 0.7)], None),
    ],
)
def test_turn_is_the_cost_from_which_on_epochs_correlate_as_well_as_trainings(pairs, from_s):
    assert show.turn_s(turning(pairs)) == from_s


@pytest.mark.parametrize(("values", "share"), [([0, 100, 50, 50], 0.5), ([0, 100, 0, 100], 0.0), ([], None)])
def test_middle_share_counts_between_the_clusters(values, share):
    one = (plans.PaperEpoch(0, 0, 0.0, 1.0, 100.0, 0.1, 0.5),)
    assert loop.middle_share(one, [np.array(values, float)], [np.linspace(0, 100, 101)]) == share


# ---- a short run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One training of three short epochs, its nvidia-smi a script that knows one figure."""
    program = tmp_path_factory.mktemp("bin") / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{XML.format('150.00')}'\n")
    program.chmod(0o755)
    return paper.run_paper(simulate="h100+none", nvidia_smi=program, count=1, seed=34, costs_s=(0.01, 0.5))


def test_run_counts_the_tracers_readings_as_its_model_does(ran):
    expected = [len(loop.readings(epoch.seconds, ran.call_s)) for epoch in ran.epochs]
    assert np.abs(ran.traced.counts - expected).max() <= 2  # the machine is not alone
    assert ran.tracer.epoch_j == pytest.approx([150.0 * epoch.seconds for epoch in ran.epochs])


def test_run_native_intervals_hold_the_truth_that_the_tracer_misses(ran):
    assert ran.lap.void is None
    assert {one.verdict for one in ran.native.accounts} <= {"good", "fair", "poor", "unusable"}
    judged = show.judged(ran)
    assert sum(one.epochs for one in judged) == 3
    assert sum(one.held for one in judged) >= 2  # a 95 % interval may miss one of three
    assert ran.told.error.median < ran.traced.error.median


def test_text_says_first_that_it_is_no_measurement_and_marks_the_papers_figures(ran):
    lines = paper.to_text(ran).splitlines()
    assert lines[0] == "SIMULATED NODE h100, not a measurement"
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 40
    text = "\n".join(lines)
    assert "the paper" in text
    assert text.index("energy error") < text.index("<= 10 updates") < text.index("<= 10 readings")


def test_text_says_where_the_native_sampler_held_itself_back(ran):
    """By calls of 5 ms its cap of 2 % leaves it a few readings a second: as few as the tracer's, and as far off."""
    assert "Native itself got" not in paper.to_text(ran)
    few = slice(None, None, max(1, len(ran.native.t_ns) // 8))
    held = replace(ran.native, t_ns=ran.native.t_ns[few], watts=ran.native.watts[few])
    text = " ".join(paper.to_text(replace(ran, native=held)).split())
    assert "Native itself got at most 10 readings in 3 of 3 epochs, at" in text
    assert "2 % of the time" in text


def test_json_is_strict_and_holds_every_share(ran):
    data = json.loads(json.dumps(paper.to_json(ran), allow_nan=False))
    assert (data["schema_version"], data["simulated"]) == (1, True)
    assert data["papers"]["few_share"] == 0.39
    assert [one["name"] for one in data["methods"]] == ["ea-has-tracer", "native"]
    for one in data["share_of_few_by_length"]:
        longest, shortest = one["longest_with_few_s"], one["shortest_with_more_s"]
        assert longest is None or longest <= one["rule_s"] + 1e-6
        assert shortest is None or shortest > one["rule_s"] - 1e-6


def test_text_json_and_table_give_all_four_correlations_like_with_like(ran):
    """Of an epoch and of a training, in power and in energy: one quantity is never set against the other."""
    rows = {line[:25].strip(): line[25:].split() for line in paper.to_text(ran).splitlines() if line.startswith("  ")}
    data = paper.to_json(ran)
    for what, title in (("epoch", "epochs"), ("run", "trainings")):
        for quantity in ("power", "energy"):
            cells = rows[f"r of {quantity}, {title}"]
            assert cells[:2] == [f"{show.PAPERS[f'{what}_r']:g}", "(a)"]
            near = data["virtual_time_alike"]["power.draw as on this driver"][0]
            assert cells[5] == f"{near[f'{what}_{quantity}_pearson']:.3f}"
    assert (near["trainings"], near["epochs"], rows["epochs of a training"][3]) == (100, 1000, "10")


@pytest.mark.parametrize(
    ("power", "energy", "said"),
    [
        ((0.6, 0.8), (0.98, 0.99), "below a training's in power and in energy"),
        ((0.9, 0.8), (0.98, 0.99), "below a training's in energy."),
        ((0.9, 0.8), (0.99, None), "below a training's in neither"),
    ],
)
def test_text_says_of_correlations_what_this_run_showed(ran, power, energy, said):
    figures = dict(
        zip(("epoch_power_r", "run_power_r", "epoch_energy_r", "run_energy_r"), (*power, *energy), strict=True)
    )
    text = paper.to_text(replace(ran, traced=replace(ran.traced, **figures)))
    assert said in " ".join(text.split())


def test_json_of_epochs_without_an_energy_is_strict(ran):
    """A verdict of "unusable" may come without joules, and native makes no calls: null both, never NaN or 0."""
    told = replace(ran.told, error_pct=np.full(3, np.nan))
    data = json.loads(json.dumps(paper.to_json(replace(ran, told=told)), allow_nan=False))
    assert all(one["native_median_pct"] is None for one in data["by_verdict"])
    assert data["real_time"]["native"]["call_s"] is None
    assert data["real_time"]["ea-has-tracer"]["call_s"] == ran.call_s
    assert "error - (median)" in paper.to_text(replace(ran, told=told)).replace("\n", " ")


def test_picture_is_a_png(ran, tmp_path):
    paper.write_png(ran, tmp_path / "paper.png")
    assert (tmp_path / "paper.png").read_bytes().startswith(b"\x89PNG")


def test_without_nvidia_smi_the_rest_is_told_and_why(ran, tmp_path):
    with make_node("h100+none") as node:
        _, traces, call_s, reason = run._ready(node, tmp_path / "none", 1, 1)
    assert (traces, call_s) == (None, None)
    assert "not an executable" in reason
    tracer = Method(ran.tracer.name, ran.tracer.reads, ran.tracer.asked_hz, reason=reason)
    found = replace(ran, tracer=tracer, traced=None, call_s=None)
    assert "The tracer did not run" in paper.to_text(found)
    json.dumps(paper.to_json(found), allow_nan=False)
    paper.write_png(found, tmp_path / "paper.png")


def test_command_passes_its_options_on_prints_json_and_draws(ran, tmp_path, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(paper, "run_paper", lambda **given: asked.update(given) or ran)
    drawn = []
    monkeypatch.setattr(paper, "write_png", lambda found, path: drawn.append((found, path)))
    out, png = tmp_path / "paper.json", tmp_path / "paper.png"
    options = ["--seed", "5", "--board", "7", "--latency", "50us", "--simulate", "a100", "--nvidia-smi", "smi"]
    assert cli.main(["race", "--paper", *options, "--json", "-o", str(out), "--png", str(png)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    assert drawn == [(ran, png)]
    del asked["say"]
    assert asked == {
        "seed": 5, "board_seed": 7, "call_us": 50.0, "simulate": "a100", "nvidia_smi": Path("smi"),
    }  # fmt: skip


def test_run_of_no_training_is_refused():
    with pytest.raises(errors.InvalidArgument, match="0 trainings"):
        paper.run_paper(count=0)
