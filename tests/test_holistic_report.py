# SPDX-License-Identifier: Apache-2.0
"""The whole node in reports, recordings and on the command line: what is found, refused, told and compared."""

import json
import time

import pytest
from nodes import HOST, calibration, ladder, trace, wall_w

import powersample as ps
from powersample import errors
from powersample.analysis import drift, judge
from powersample.cli import main
from powersample.fit.calibrate import calibrate
from powersample.model import simulated_key
from powersample.report import Factors, build
from powersample.session.simulate import make_node
from powersample.store import save
from powersample.store.calibrations import save_calibration

STEADY = {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}
WINDOWS = [("run", 10, 110), ("epoch 0", 30, 60)]
WALL = wall_w(300.0, 40.0, 200.0)


def recording(**more):
    return trace([120.0], STEADY, windows=WINDOWS, **more)


def told(made, **more):
    return json.loads(json.dumps(dict(build(made, **more).data)))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_node_j_is_the_meters_else_the_models_else_none():
    assert [one["totals"]["node_j"] for one in told(recording())["windows"]] == [None, None]
    modelled = told(recording(), calibration=calibration())["windows"][0]["totals"]
    assert modelled["node_by"] == "model"
    assert modelled["node_low_j"] < modelled["node_j"] < modelled["node_high_j"]
    both = told(recording(meter=1.01), calibration=calibration())["windows"][0]
    assert both["totals"]["node_by"] == "meter"
    assert both["totals"]["node_j"] == pytest.approx(101 * WALL, rel=1e-5)
    assert both["holistic"]["total_j"] == pytest.approx(100 * WALL, rel=1e-3)
    assert both["holistic"]["meter"]["residual_j"] == pytest.approx(-WALL, rel=0.1)
    assert "whole node, calibrated" in build(recording(), calibration=calibration()).every_channel()


def test_recordings_own_calibration_is_used_and_named():
    stored = {"origin": "/home/a/a.json", **calibration().as_json()}
    data = told(recording(calibration=stored))
    assert (data["calibration"]["origin"], data["calibration"]["used"]) == ("/home/a/a.json", True)
    assert data["calibration"]["leave_one_out_max_pct"] == 0.5
    assert data["windows"][0]["holistic"]["level"] == "model"
    text = str(build(recording(calibration=stored)))
    assert max(map(len, text.splitlines())) <= 100
    text = " ".join(text.split())
    assert "whole node, calibrated by ZES ZIMMER LMG450 (up to 0.5 % off" in text
    assert "by a P_busy that varies with the load, the open question of arXiv 2505.15631; 54 %" in text
    assert "54 % of it measured in components, 46 % modelled; bounds as in arXiv 2505.15631: [" in text


def test_without_calibration_and_meter_the_report_says_what_is_missing():
    text = str(build(recording()))
    assert "whole node: unknown; CPUs + memory + GPUs took 54000.0 J in 'run'." in text
    assert "supply's losses are in no counter" in " ".join(text.split())
    assert told(recording())["calibration"] is None


def test_refused_calibration_is_told_with_its_reason_and_used_only_when_overridden():
    other = calibration(host={**HOST, "id": "other", "name": "b"})
    data = told(recording(), calibration=other, calibration_origin="b.json")
    assert data["windows"][0]["holistic"]["level"] == "components"
    (found,) = [one for one in data["checks"] if one["code"] == "PSQ-CAL-HOST"]
    assert found["what"] == "the calibration b.json is not used: it is of b, and the recording of a"
    report = build(recording(), calibration=other, calibration_origin="b.json", calibration_anyway=True)
    assert report.data["calibration"]["overridden"]
    for text in (str(report), report.every_channel(), report.explained(), report.brief()):
        assert "REFUSED, AND USED ALL THE SAME" in " ".join(text.split())
        assert "warning: PSQ-CAL-HOST" in text


def test_remarks_of_the_calibration_itself_are_passed_on():
    remark = "PSQ-CAL-SHEET: the power at the wall is from a data sheet: no meter was read"
    checks = told(recording(), calibration=calibration(reasons=(remark,), source="data sheet"))["checks"]
    assert next(one["what"] for one in checks if one["code"] == "PSQ-CAL-SHEET").startswith("of the calibration: ")


def test_pue_and_co2_stand_apart_and_change_no_other_figure():
    plain = told(recording(), calibration=calibration())["windows"][0]["holistic"]
    data = told(recording(), calibration=calibration(), factors=Factors(1.5, 400.0, "UBA 2024"))
    one = data["windows"][0]["holistic"]
    assert one["kwh"] == pytest.approx(one["total_j"] / 3.6e6)
    assert one["pue"] == {"factor": 1.5, "kwh_with_it": pytest.approx(1.5 * one["kwh"])}
    assert one["co2"]["g"] == pytest.approx(400 * one["kwh"])
    assert one["co2"]["g_with_pue"] == pytest.approx(600 * one["kwh"])
    assert {**one, "pue": None, "co2": None} == plain
    text = " ".join(str(build(recording(), calibration=calibration(), factors=Factors(1.5, 400.0, "UBA 2024"))).split())
    assert "g CO2 at 400 g/kWh (UBA 2024)" in text
    assert "with the building's PUE of 1.5, as given:" in text


@pytest.mark.parametrize("wrong", [(0.9,), (11.0,), (None, -1.0, "x"), (None, 380.0, ""), (float("nan"),)])
def test_factors_that_cannot_be_are_refused(wrong):
    with pytest.raises(errors.InvalidArgument):
        Factors(*wrong)


def test_drift_is_told_where_most_stretches_lie_outside_on_one_side():
    same, other = (recording(meter=factor) for factor in (1.0, 1.06))
    run = same.windows[0]
    assert not drift(same, run, judge(same, calibration())).drifted
    found = drift(other, run, judge(other, calibration()))
    assert found.drifted
    assert found.outside == found.stretches == 50
    assert found.median_pct == pytest.approx(-100 * 0.06 / 1.06, rel=0.05)
    codes = [one["code"] for one in told(other, calibration=calibration())["checks"]]
    assert "PSQ-CAL-DRIFT" in codes
    assert "PSQ-CAL-DRIFT" not in [one["code"] for one in told(same, calibration=calibration())["checks"]]


def test_drift_needs_a_meter_a_model_and_enough_stretches():
    made = recording(meter=1.0)
    assert drift(recording(), made.windows[0], judge(made, calibration())) is None
    assert drift(made, made.windows[0], judge(made, calibration(best="bounds"))) is None
    short = trace([8.0], STEADY, windows=[("run", 0, 8)], meter=1.0)
    assert drift(short, short.windows[0], judge(short, calibration())) is None


# ---- command line and recordings ---------------------------------------------------------------------------------


@pytest.fixture
def stored(home):
    path = home / "run.parquet"
    save(recording(), path)
    return path


def test_report_finds_what_is_kept_of_the_recordings_host(stored, capsys):
    assert main(["report", str(stored)]) == 0
    assert "whole node: unknown" in capsys.readouterr().out
    kept = save_calibration(calibration(host=HOST))
    assert main(["report", str(stored), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["calibration"]["origin"] == str(kept)
    assert data["windows"][0]["holistic"]["level"] == "model"


def test_report_takes_a_named_calibration_and_refuses_or_overrides_it(stored, home, capsys):
    named = save_calibration(calibration(host={"name": "b"}), home / "b.json")
    assert main(["report", str(stored), "--calibration", str(named)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "b.json is not used: it is of b, and the recording of a" in out
    assert (
        main(["report", str(stored), "--calibration", str(named), "--calibration-anyway", "--load-like", "primes"]) == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "REFUSED, AND USED ALL THE SAME (--calibration-anyway)" in out
    assert "like primes:" in out


def test_report_passes_over_what_is_kept_and_damaged(stored, capsys):
    save_calibration(calibration(host=HOST)).write_text("{")
    assert main(["report", str(stored)]) == 0
    said = capsys.readouterr()
    assert "holds no calibration of a node" in said.err
    assert "whole node: unknown" in said.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--co2", "380"], "without its source"),
        (["--co2", "much,me"], "a number of g per kWh"),
        (["--pue", "0.5"], "a PUE of 0.5"),
        (["--load-like", "primes"], "no load 'primes' was calibrated"),
        (["--calibration", "none.json"], "there is no file none.json"),
    ],
)
def test_report_options_that_cannot_be_are_refused(stored, options, words, capsys):
    assert main(["report", str(stored), *options]) in (1, 2)
    assert words in capsys.readouterr().err


def test_recording_of_a_simulated_node_carries_its_calibration_and_its_interval_holds_the_truth(home):
    """The physics' ladder, then another node of the same seed under a load that was on no rung."""
    with make_node("paper-node", node_seed=3) as node:
        kept = save_calibration(calibrate(ladder(node), simulated=simulated_key(node.describe()), host={}))
    for _ in range(3):  # a machine that stalls for the whole window leaves no interval
        with make_node("paper-node", node_seed=3) as node:
            for gpu in range(4):
                node.load_wave(gpu, 60.0, 260.0, 0.35, 0.6)
            node.load_script("package-0", [(0.0, 220.0)])
            with ps.measure(simulate=node) as run, run.window("epoch 0"):
                time.sleep(0.4)
            data = run.report().data
            whole = run.holistic("epoch 0")
        if whole.total is not None and whole.total.low_j is not None:
            break
    assert data["calibration"]["origin"] == str(kept)
    assert data["calibration"]["used"]
    one = next(one for one in data["windows"] if one["name"] == "epoch 0")["holistic"]
    assert one["low_j"] < one["truth_j"] < one["high_j"]
    assert one["total_j"] == pytest.approx(whole.total.joules)
    before = next(term for term in whole.budget if term.term == "what ran before the recording")
    assert before.kind == "bound"
    assert before.value_j > 0.01 * whole.total.joules  # within a second of the record's begin
    with make_node("paper-node", node_seed=4) as node, ps.measure(simulate=node) as other:
        pass
    assert other.report().data["calibration"] is None


def test_calibration_that_cannot_be_read_is_a_note_and_the_recording_goes_on(home):
    with make_node("h100", node_seed=1) as node:
        path = home / "config" / "powersample" / "calibrations" / "simulated"
        path.mkdir(parents=True)
        (path / f"{simulated_key(node.describe())}.json").write_text("{")
        with ps.measure(simulate=node) as run:
            pass
    assert any("holds no calibration of a node" in note for note in run.trace.meta["notes"])
    assert run.report().data["calibration"] is None


def test_window_that_is_open_has_no_whole_nodes_energy_yet(home):
    with make_node("h100") as node, ps.measure(simulate=node) as run:
        run.begin_window("open")
        with pytest.raises(errors.StateError, match="still open"):
            run.holistic("open")
    assert run.holistic("run").level == "components"
    assert ps.holistic(run.trace, "run").components_j == run.holistic("run").components_j
