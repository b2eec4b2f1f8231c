# SPDX-License-Identifier: Apache-2.0
"""The paper's experiments on simulated nodes: what is put in, what the instruments say, and what follows from it."""

import dataclasses
import json
import math
from itertools import combinations, pairwise

import numpy as np
import pytest

from powersample import cli
from powersample.experiments import reproduce
from powersample.experiments.calibrate.ground import NODE_SHARES
from powersample.experiments.paper.epochs import trainings
from powersample.experiments.paper.loop import readings
from powersample.experiments.reproduce import carbon, figures, findings, holistic, loads, recorded, show, tools, tracing
from powersample.formats.codecarbon import memory_rule_w

S = loads.S


@pytest.fixture(scope="module")
def study():
    """Few trainings: what is tested here holds for any number."""
    return reproduce.run_reproduce(nodes=2, trainings=6)


# ---- what is put in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call_s", [0.02, 0.5])
@pytest.mark.parametrize("share", [0.1, 0.39, 0.9])
def test_epochs_are_scaled_so_that_the_share_of_few_readings_is_what_was_put_in(call_s, share):
    shortest_s, longest_s = tracing.lengths_for(share, call_s)
    lengths_s = np.exp(np.linspace(math.log(shortest_s), math.log(longest_s), 2001))
    few = np.mean([len(readings(one, call_s)) <= 10 for one in lengths_s])
    assert few == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("count", [10, 60])
def test_even_trainings_have_the_share_that_was_put_in_however_few_they_are(count):
    """Ten lengths drawn at random have anything from 10 to 80 %."""
    call_s = 0.05
    lengths_s = tracing.lengths_for(tracing.FEW_SHARE, call_s)
    found = trainings(count, 4, seed=3, call_s=call_s, lengths_s=lengths_s, even=True)
    few = np.mean([len(readings(one.seconds, call_s)) <= 10 for one in found])
    assert few == pytest.approx(tracing.FEW_SHARE, abs=1.5 / count)


def test_paper_node_has_the_two_figures_that_were_put_in(study):
    powers = {name: holistic.uncaptured_w(study.here.calibration, name) for name in (holistic.IDLE, holistic.PRIMES)}
    assert powers == pytest.approx({"idle": 783.0, "primes": 811.0}, abs=0.5)


def test_drawn_nodes_are_others_and_differ_from_each_other(study):
    idle = [holistic.uncaptured_w(one.calibration, holistic.IDLE) for one in (study.here, *study.drawn)]
    assert len({round(watts) for watts in idle}) == 3


def test_every_input_is_told_with_its_origin_and_the_papers_are_marked(study):
    text = reproduce.to_text(study)
    for one in study.inputs:
        assert one.what in text
        assert one.origin
    values = {one.what: one.origin for one in study.inputs}
    assert values["uncaptured power of the idle node"] == "the paper"
    assert values["a call of nvidia-smi -q -x"] == "assumed"


def test_what_stands_for_firestarter_and_what_the_loads_draw_are_told_as_assumed(study):
    told = {one.what: one for one in study.inputs}
    assert "'mix'" in told["the stress load"].value
    assert "stand-in assumed" in told["the stress load"].origin
    shares = next(one for what, one in told.items() if what.startswith("what a load draws"))
    assert shares.origin == "assumed"
    for kernel in (holistic.PRIMES, holistic.STRESS):
        for device, share in NODE_SHARES[kernel].items():
            assert f"{100 * share:.0f} % {device}" in shares.value.partition(f"{kernel}: ")[2]
    assert "a range of 5000 W" in told["the meter's limit of error"].value


# ---- the instruments ----------------------------------------------------------------------------------------------


def test_instruments_tell_the_truth_times_their_gains():
    with loads.fresh("paper-node", 3) as node:
        start_ns = loads.give(
            node, {"package-0": [(0.0, 300.0)], "package-0.dram": [(0.0, 60.0)], "gpu0": [(0.0, 200.0)]}
        )
        span = (start_ns + 100 * S, start_ns + 160 * S)
        told, gains = tools.Tools(node, 1), node.describe()["counter_gains"]
        counted = told.components_j([span])
        idle_w = 100.0 * gains["package-1"]
        assert counted["cpu"][0] / 60 == pytest.approx(300.0 * gains["package-0"] + idle_w, rel=1e-6)
        assert counted["dram"][0] / 60 == pytest.approx(60 * gains["package-0"] + 28 * gains["package-1"], rel=1e-6)
        assert told.nvml_j([span], 0)[0] / 60 == pytest.approx(200.0 * node.boards[0].gain, rel=0.003)
        exact_w = node.truth_j("wall", *span) / 60
        gain = 1 + node.describe()["meter"]["gain_pct"] / 100
        assert told.wall_j([span])[0] / 60 == pytest.approx(exact_w * gain, abs=0.1)


def test_meter_through_which_gpu_power_is_seen_is_off_by_what_p_busy_is_off_by():
    """783 W are uncaptured of an idle node: who subtracts 811 W sees 28 W too little of its GPU."""
    with loads.fresh("paper-node", None) as node:
        start_ns = loads.give(node, {"gpu0": [(0.0, 48.0)]})
        windows = [(start_ns + 100 * S, start_ns + 110 * S)]
        seen_j = tracing._through_meter_j(tools.Tools(node), windows, np.array([10.0]), 811.0)
    assert seen_j[0] / 10 == pytest.approx(48.0 - 28.0, abs=0.5)


def test_tracker_that_reads_every_15_s_gives_an_epoch_what_was_read_within_it():
    """Closed form: 100 W throughout; two trainings, a second between them; begin and end of each are read, too."""
    epochs = [(0, 10 * S), (10 * S, 20 * S), (20 * S, 40 * S), (41 * S, 44 * S), (44 * S, 45 * S)]
    number = np.array([0, 0, 0, 1, 1])

    def counts(t_ns):
        return 100.0 * t_ns / S

    assert carbon.epochs_j(counts, epochs, number, 15.0).tolist() == [0.0, 1500.0, 2500.0, 0.0, 400.0]
    seconds = np.diff(np.array(epochs) / S).ravel()
    assert carbon.epochs_j(counts, epochs, number, 1.0) == pytest.approx(100 * seconds)


def test_tracker_reads_at_begin_and_end_and_every_interval_between():
    assert carbon.readings_ns(5 * S, 36 * S, 15.0).tolist() == [5 * S, 20 * S, 35 * S, 36 * S]
    assert carbon.readings_ns(0, 30 * S, 15.0).tolist() == [0, 15 * S, 30 * S]


def test_counters_by_themselves_are_those_that_a_recording_of_them_tells():
    with loads.fresh("paper-node", 5) as node:
        start_ns = loads.give(node, {"package-0": [(0.0, 200.0), (3.0, 310.0)], "gpu1": [(0.0, 90.0), (2.0, 333.0)]})
        t_ns = start_ns + np.arange(0, 10 * S, S // 10)
        trace = recorded.recorded(node, t_ns)
        told = tools.Tools(node).components_j([(int(t_ns[0]), int(t_ns[-1]))])
    for group, of in (("cpu", "package-0.energy package-1.energy"), ("gpu", "gpu0 gpu1 gpu2 gpu3")):
        names = [name if "." in name else f"{name}.energy" for name in of.split()]
        grown = sum(float(np.diff(trace.series(name).value[[0, -1]])[0]) for name in names)
        assert grown == pytest.approx(told[group][0], abs=0.005)


def test_node_that_begins_in_the_future_tells_the_same_whenever_it_is_asked():
    told = []
    for _ in range(2):
        with loads.fresh("paper-node", 7) as node:
            start_ns = loads.give(node, {"gpu0": [(0.0, 90.0), (0.37, 333.0)]})
            t_ns = start_ns + np.arange(0, 3 * S, S // 50)
            told.append([node.sensor_values(0, kind, t_ns).tolist() for kind in ("instant", "usage", "energy")])
            told[-1].append(node.truth_j("wall", start_ns, start_ns + S))
    assert told[0] == told[1]


# ---- what follows -------------------------------------------------------------------------------------------------


def test_study_is_the_same_for_the_same_seed_and_another_for_another():
    def told(seed):
        one = tracing.traced("paper-node", 1, tracing.settings()[-1], count=2, seed=seed, busy_w=850.0)
        return {name: watts.tolist() for name, watts in one.told_w.items()}, one.few_share, one.held_share

    first = told(1)
    assert told(1) == first
    assert told(2) != first
    assert holistic.calibrated("paper-node", 1, 1).points == holistic.calibrated("paper-node", 1, 1).points


def test_code_carbons_versions_differ_by_what_they_take_for_memory(study):
    differ_w = memory_rule_w(2, carbon.MEMORY_GIB, arm=False) - memory_rule_w(3, carbon.MEMORY_GIB, arm=False)
    for one in (study.here.one, study.here.four, study.drawn[0].one):
        old, new = (one.offset_w[version] for version in carbon.VERSIONS)
        assert new[0] - old[0] == pytest.approx(differ_w)
        assert new[1] == pytest.approx(old[1])


def test_bounds_are_in_order_and_the_models_beat_code_carbon(study):
    for one in (study.here.one, study.here.four, *(each.four for each in study.drawn)):
        low, prior, high = (one.error_pct[way] for way in (holistic.LOW, holistic.PRIOR, holistic.HIGH))
        assert np.all((low < prior) & (prior < high))
        sizes = {way: np.abs(errors_pct).max() for way, errors_pct in one.error_pct.items()}
        assert sizes[holistic.NODE] < sizes["Code Carbon 2"] < sizes["Code Carbon 3"]


def test_models_are_told_with_the_interval_of_a_report_and_it_holds_nearly_always(study):
    held = [one.held_share[way] for node in (study.here, *study.drawn) for one in (node.one, node.four)
            for way in holistic.MODELS]  # fmt: skip
    assert np.mean(held) > 0.9
    for one in (study.here.one, *(each.one for each in study.drawn)):
        low, high = one.error_pct[holistic.LOW], one.error_pct[holistic.HIGH]
        about = np.mean((low < 0) & (high > 0))  # of the meter, which is close to the truth
        assert one.held_share[holistic.HIGH] == pytest.approx(about, abs=0.3)


def test_share_that_is_held_counts_the_truth_between_the_ends_and_no_interval_is_none():
    low, high, truth = np.array([1.0, 1.0, 1.0]), np.array([2.0, 2.0, np.nan]), np.array([2.0, 3.0, 1.5])
    assert holistic._held(low, high, truth) == 0.5
    assert holistic._held(low * np.nan, high, truth) is None


def test_code_carbon_is_in_both_tables_and_its_epochs_need_its_readings(study):
    """A reading each 15 s in epochs of 0.3 to 3 s is a lottery, one each 0.1 s is none; trainings are the same."""
    slow, quick = carbon.TRACKERS
    rows = study.here.tracings[-1].meter
    r = {
        (name, level): tracing.row(rows, name, level, "J").pearson
        for name in (slow, quick)
        for level in ("epoch", "run")
    }
    assert r[slow, "epoch"] < 0.6
    assert r[quick, "epoch"] > 0.9
    assert r[slow, "run"] == r[quick, "run"] > 0.95
    whole = {(one.method, one.level): one for one in study.here.one.agreement if one.unit == "W"}
    assert set(whole) == {(name, level) for name in (*carbon.VERSIONS, "powersample") for level in ("epoch", "run")}
    assert abs(whole["powersample", "run"].bias_pct) < 2 < abs(whole["Code Carbon 2", "run"].bias_pct)


def test_quick_field_read_seldom_loses_the_epochs_and_keeps_the_trainings(study):
    """The paper's mechanism, like with like: 0.5 s a call leaves a reading or two of an epoch."""
    seldom = study.here.tracings[-1]
    assert (seldom.setting.field, seldom.setting.call_s) == ("quick", max(tracing.CALLS_S))
    for unit in "JW":
        epoch, run_of_it = (tracing.row(seldom.meter, tracing.SMI, level, unit) for level in ("epoch", "run"))
        assert epoch.pearson < run_of_it.pearson
    assert seldom.error[tracing.SMI].median > 5 * seldom.error[tracing.NATIVE].median
    assert seldom.few_share == 1.0


def test_native_intervals_hold_the_truth_of_nearly_all_epochs(study):
    held = [one.held_share for node in (study.here, *study.drawn) for one in node.tracings]
    assert np.mean(held) > 0.9


def test_figures_over_nodes_are_their_median_and_range(study):
    one = figures.over(study, lambda node: 0.0 if node.node_seed is None else float(node.node_seed))
    assert (one.here, one.median) == (0.0, 1.5)
    assert 1.0 < one.low < one.high < 2.0


def test_findings_say_what_the_figures_say():
    """A sentence that is the same whatever came out would be no finding."""
    place = {one.field: i for i, one in reversed(list(enumerate(tracing.settings())))}["mean"]

    def rows(r_of_first, r_of_others, nvml):
        found = []
        for i in range(len(tracing.settings())):
            r = r_of_first if i == place else r_of_others
            found.append(
                {"smi_epoch_r": figures.Over(r, r, r, r), "nvml_epoch_r": figures.Over(nvml, nvml, nvml, nvml)}
            )
        return found

    (low,) = findings._by_share(rows(0.9, 0.4, 0.9))
    (never,) = findings._by_share(rows(0.9, 0.8, 0.9))
    (at_once,) = findings._by_share(rows(0.6, 0.4, 0.9))
    assert "few readings alone do not" in low
    assert "in no setting as low" in never
    assert at_once.endswith("0.60 beside its 0.64.")
    (mends,) = findings._by_field(rows(0.9, 0.4, 0.95))
    (neither,) = findings._by_field(rows(0.9, 0.9, 0.2))
    assert "mend r of a 1 s mean and a quick field" in mends
    assert "mend neither" in neither


# ---- what is shown ------------------------------------------------------------------------------------------------


def test_text_says_first_that_it_is_no_measurement_and_never_that_it_confirms(study):
    text = reproduce.to_text(study)
    lines = text.splitlines()
    assert lines[0] == "SIMULATED NODE paper-node, not a measurement"
    assert "shows the paper's mechanism" in text
    assert "confirm" not in text.lower()
    assert max(map(len, lines)) <= show.WIDTH


def test_json_is_strict_and_marks_the_papers_values(study):
    data = json.loads(json.dumps(reproduce.to_json(study), allow_nan=False))
    assert (data["schema_version"], data["simulated"], len(data["drawn"])) == (1, True, 2)
    assert data["paper"]["smi_epoch_r"]["value"] == "0.64"
    assert len(data["tracing"]) == len(tracing.settings())
    rows = data["here"]["tracing"][0]["against_meter"]
    assert {(one["method"], one["level"], one["unit"]) for one in rows} == {
        (method, level, unit)
        for method in ("SMI", "NVML", "Code Carbon, 15 s", "Code Carbon, 0.1 s", "powersample")
        for level in ("epoch", "run")
        for unit in "JW"
    }
    assert all(one["paper_pearson"] is None for one in rows if one["method"] == "powersample")


def test_json_of_a_setting_without_a_correlation_has_none(study):
    """Fewer than three trainings, or constant powers, have no r: that is no 0 and no NaN."""
    lacks = [dataclasses.replace(one, pearson=None) for one in study.here.tracings[0].meter]
    first = dataclasses.replace(study.here.tracings[0], meter=tuple(lacks))
    here = dataclasses.replace(study.here, tracings=(first, *study.here.tracings[1:]))
    without = dataclasses.replace(study, here=here)
    data = json.loads(json.dumps(reproduce.to_json(without), allow_nan=False))
    assert data["tracing"][0]["figures"]["smi_epoch_r"]["here"] is None
    assert reproduce.to_text(without)


def test_picture_is_a_png(study, tmp_path):
    reproduce.write_png(study, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_words_of_the_picture_lie_on_nothing(study, tmp_path, monkeypatch):
    """Legends and notes off bars and boxes, labels of a scale and titles of a row off each other."""
    from matplotlib.figure import Figure

    drawings = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: (figure.canvas.draw(), drawings.append(figure)))
    reproduce.write_png(study, tmp_path / "study.png")
    (figure,) = drawings
    titles = [axes._left_title.get_window_extent() for axes in figure.axes]
    for axes in figure.axes:
        labels = [one.get_window_extent() for one in axes.get_xticklabels() if one.get_text()]
        assert not any(a.overlaps(b) for a, b in pairwise(labels))
        words = [one.get_window_extent() for one in axes.texts]
        words += [axes.get_legend().get_window_extent()] if axes.get_legend() else []
        drawn = [one.get_window_extent() for one in axes.patches]  # the bars
        assert not any(a.overlaps(b) for a in words for b in drawn)
    assert not any(a.overlaps(b) for a, b in combinations(titles, 2))


@pytest.mark.parametrize("options", [["--nodes", "0"], ["--trainings", "2"], ["--nodes", "1001"]])
def test_command_refuses_numbers_outside_their_range(options, capsys):
    assert cli.main(["reproduce", *options]) == 2
    assert "it takes" in capsys.readouterr().err


def test_command_prints_and_writes_and_replaces_nothing(tmp_path, monkeypatch, capsys, study):
    monkeypatch.setattr(reproduce, "run_reproduce", lambda **_: study)
    out, png = tmp_path / "study.json", tmp_path / "study.png"
    assert cli.main(["reproduce", "--json", "-o", str(out), "--png", str(png)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    assert png.exists()
    assert cli.main(["reproduce", "-o", str(out)]) == 1
    assert "--force" in capsys.readouterr().err
