# SPDX-License-Identifier: Apache-2.0
"""The race, short: who runs, who is listed with a reason, what is compared with what, and what is left behind."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample import cli, errors
from powersample.experiments import race
from powersample.experiments.baselines import Samples
from powersample.experiments.race import cost, entrants, ground, run, show
from powersample.experiments.race import slowdown as slowdowns
from powersample.experiments.race.slowdown import Slowdown, lost_in, slowdown
from powersample.experiments.workload import Epoch
from powersample.sim import Node

SHORT = {"lengths_s": (0.3,), "epochs": 1, "pairs": 0}


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Margins and blocks are long for the sake of figures that no test here looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "MARGIN_S", 0.1)
        patch.setattr(slowdowns, "BLOCK_S", 0.03)
        yield


@pytest.fixture(scope="module")
def raced(brief, tmp_path_factory):
    missing = tmp_path_factory.mktemp("race") / "no-nvidia-smi"
    told = []
    setup = race.Setup(
        methods=("native", "pynvml-thread", "nvidia-smi-lms"), simulate="h100", nvidia_smi=missing,
        lengths_s=(0.25, 0.5), epochs=3, pairs=2, board_seed=3, python_load=True,
    )  # fmt: skip
    return race.run_race(setup, told.append), told


def methods_of(raced):
    return {method["name"]: method for method in race.to_json(raced[0])["methods"]}


def test_race_in_turn_gives_every_method_the_same_epochs(raced):
    """Lengths, loads and order are the same for all; only so is a difference the method's."""
    laps = [method.lap for method in raced[0].methods if method.reason is None]
    assert len(laps) == 2
    planned = [round(epoch.seconds / 0.25) for epoch in raced[0].epochs]
    for lap in laps:
        assert [int(window.duration_s / 0.25) for window in lap.epochs] == planned
    assert all(lap.run_truth_j > 0 for lap in laps)


def test_race_lists_a_method_that_cannot_run_with_its_reason(raced):
    one = methods_of(raced)["nvidia-smi-lms"]
    assert (one["available"], "no-nvidia-smi" in one["reason"]) == (False, True)
    assert "nvidia-smi-lms: not run." in race.to_text(raced[0])


def test_race_json_is_strict_and_has_what_the_design_promises(raced):
    data = json.loads(json.dumps(race.to_json(raced[0]), allow_nan=False))
    promised = {
        "name", "available", "reason", "asked_hz", "achieved_hz", "polls", "updates_seen", "updates_published",
        "gap_p50_ms", "gap_p99_ms", "gap_max_ms", "epochs", "epochs_at_most_10_polls", "epochs_at_most_10_updates",
        "run_energy_j", "run_error_pct", "epoch_error_pct", "pearson", "spearman", "ks_p", "bias_w", "cpu_s",
        "limits_w", "slowdown_pct",
    }  # fmt: skip
    assert data["schema_version"] == 1
    assert data["simulated"] is True
    assert "truth_j" in data
    assert data["reference_half_pct"] == []  # the truth is exact
    assert all(promised <= set(one) for one in data["methods"] if one["available"])


def test_race_native_sees_the_updates_and_rates_every_epoch(raced):
    native = methods_of(raced)["native"]
    assert native["updates_seen"] >= 0.7 * native["updates_published"] > 0
    assert native["intervals"]["rated"] == native["epochs"] == 3
    assert set(native["epoch_verdict"]) <= {"good", "fair", "poor", "unusable"}


def test_race_text_is_one_screen_that_leads_with_updates_and_energy_errors(raced):
    lines = race.to_text(raced[0]).splitlines()
    assert lines[0] == "SIMULATED NODE h100, not a measurement"
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert text.index("updates") < text.index("polls/s")
    assert "are no information" in text.replace("\n  ", " ")


def test_race_text_shows_four_lengths_and_says_where_the_others_are(raced):
    result = raced[0]
    lap = dataclasses.replace(result.methods[0].lap, lengths_s=(0.3, 1.0, 3.0))
    native = dataclasses.replace(result.methods[0], lap=lap)
    epochs = tuple(Epoch(seconds, 0.5) for seconds in (0.3, 1.0, 3.0, 10.0, 30.0))
    text = race.to_text(dataclasses.replace(result, epochs=epochs, methods=(native,)))
    assert max(map(len, text.splitlines())) <= 100
    assert "Errors of 1 more epoch lengths are in the JSON form." in text


def test_race_measures_the_slowdown_with_its_own_noise_beside(raced):
    result, _ = raced
    assert set(result.slowdowns) == {"native", "pynvml-thread"}
    assert result.noise.pairs == 2
    text = race.to_text(result).replace("\n  ", " ")
    assert "nothing (A/A)" in text
    assert "Slowdown without an interval: of fewer than 6 pairs" in text
    told = [one["slowdown_pct"] for one in methods_of(raced).values() if one["available"]]
    assert all((one["low"], one["high"], one["pairs"]) == (None, None, 2) for one in told)


def test_race_cost_is_the_methods_own_and_not_the_trainings(raced):
    """The training keeps a core busy; a method's part of that is some per cent, or the account is wrong."""
    for one in raced[0].methods:
        if one.reason is None:
            assert 0 < one.cost.cpu_s < 0.8 * one.lap.run.duration_s


def test_race_says_what_happens(raced):
    told = "\n".join(raced[1])
    assert "trying native" in told
    assert "lap 2 of 2" in told
    assert "slowdown, round 2 of 2" in told


def test_race_together_gives_all_methods_one_truth():
    setup = race.Setup(methods=("native", "pynvml-thread"), simulate="a100", together=True, **SHORT)
    result = race.run_race(setup)
    first, second = result.methods
    assert first.lap is second.lap
    assert race.to_json(result)["truth_j"] == first.lap.run_truth_j


def test_race_on_a_library_compares_with_the_counter_and_native_does_without_it():
    """Who is the reference may not judge itself. The library is the stand-in, and the first line says so."""
    with Node("h100") as node:
        node.load_script(0, [(0.0, 200.0)])
        result = race.run_race(
            race.Setup(methods=("native", "pynvml-thread"), nvml_library=node.library, **SHORT | {"lengths_s": (0.6,)})
        )
    assert result.headline.startswith("SIMULATED NODE")
    assert "energy counter" in result.reference
    (half,) = race.to_json(result)["reference_half_pct"]
    assert half["seconds"] == 0.6
    assert 5 < half["half_pct"] < 40  # the counter's own: a board's gain, and a step of 100 ms at either edge
    assert f"sure (95 %) to +-{half['half_pct']:.0f} % of 0.6 s" in race.to_text(result).replace("\n  ", " ")
    native, thread = result.methods
    assert "counter" not in native.reads
    assert "values that differ from the one before" in race.to_text(result).replace("\n  ", " ")
    for one in (native, thread):
        assert one.cost.cpu_s < 0.5 * one.lap.run.duration_s
        assert one.published_ns is None
        assert np.nanmedian(one.lap.truth_j / 0.6) == pytest.approx(200.0, rel=0.25)
        assert np.nanmedian(one.epoch_j / one.lap.truth_j) == pytest.approx(1.0, abs=0.3)


class Faulty(entrants.Sampled):
    """A baseline that fails at a chosen moment."""

    fails_at, started = 0, 0

    def start(self):
        type(self).started += 1
        if self.started == self.fails_at:
            raise errors.NotSupported("it failed this once")
        super().start()


@pytest.mark.parametrize("fails_at", [1, 3], ids=["probe", "lap"])
def test_race_goes_on_without_a_method_that_fails(monkeypatch, fails_at):
    """At the first try or only in its lap: it is listed with what it said."""
    monkeypatch.setattr(Faulty, "fails_at", fails_at)
    monkeypatch.setattr(Faulty, "started", 0)
    monkeypatch.setattr(entrants, "Sampled", Faulty)
    result = race.run_race(race.Setup(methods=("native", "pynvml-thread"), simulate="h100", **SHORT))
    native, thread = result.methods
    assert native.reason is None
    assert thread.reason == "it failed this once"


class Odd:
    """Somebody's package that raises what it likes at a chosen moment, a line too many included."""

    def __init__(self, moment, log):
        self.name, self.asked_hz, self.reads, self.rule = "zeus", 1.0, "x", "y"
        self.moment, self.log = moment, log

    def _at(self, moment):
        self.log.append(moment)
        if moment == self.moment:
            raise IndexError(f"{moment}\n  of it")

    def start(self):
        self._at("start")

    def stop(self):
        self._at("stop")
        return Samples(np.empty(0, np.int64), np.empty(0), 0.0, 0)

    def account(self, samples, start_ns, end_ns):
        self._at("account")

    def energy_j(self, samples, start_ns, end_ns):
        self._at("energy")


@pytest.mark.parametrize("moment", ["start", "stop", "account"])
def test_race_lists_a_method_whose_package_raises_anything_at_all(monkeypatch, moment):
    log = []
    monkeypatch.setattr(entrants, "baselines_for", lambda target, names: [Odd(moment, log)])
    result = race.run_race(race.Setup(methods=("native", "zeus"), simulate="h100", **SHORT))
    native, odd = result.methods
    assert native.reason is None
    assert odd.reason == f"IndexError: {moment} of it"
    assert f"zeus: not run. IndexError: {moment} of it" in race.to_text(result)


def test_race_goes_on_without_a_lap_whose_reference_fails(monkeypatch):
    laps = []

    def lap(ground, trained):
        laps.append(trained)
        if len(laps) == 1:
            raise errors.SystemFailure("its recorder died")
        return whole(ground, trained)

    whole = ground.SimulatedGround.lap
    monkeypatch.setattr(ground.SimulatedGround, "lap", lap)
    result = race.run_race(race.Setup(methods=("native", "pynvml-thread"), simulate="h100", **SHORT))
    reasons = sorted(method.reason or "" for method in result.methods)
    assert reasons == ["", "the reference failed in its lap: its recorder died"]


def test_slowdown_goes_on_without_a_pair_whose_method_fails(monkeypatch):
    """It could run before: its slowdown has a pair less, the others' none."""
    monkeypatch.setattr(Faulty, "fails_at", 4)  # two of the probe, one of the lap, the first of the pairs
    monkeypatch.setattr(Faulty, "started", 0)
    monkeypatch.setattr(entrants, "Sampled", Faulty)
    told = []
    setup = race.Setup(methods=("native", "pynvml-thread"), simulate="h100", **SHORT | {"pairs": 2})
    result = race.run_race(setup, told.append)
    assert (result.slowdowns["native"].pairs, result.slowdowns["pynvml-thread"].pairs) == (2, 1)
    assert any("no slowdown of pynvml-thread in this round: it failed this once" in line for line in told)


def test_race_without_any_method_says_why_each(tmp_path):
    setup = race.Setup(methods=("nvidia-smi-lms",), simulate="h100", nvidia_smi=tmp_path / "none", **SHORT)
    with pytest.raises(errors.NothingMeasurable, match=r"nvidia-smi-lms: .*none"):
        race.run_race(setup)


def test_race_with_a_late_load_says_that_its_truth_is_void(raced):
    result, _ = raced
    native = result.methods[0]
    lap = dataclasses.replace(native.lap, void="the load came late 2 times")
    changed = dataclasses.replace(result, methods=(dataclasses.replace(native, lap=lap),))
    assert "truth is void: native (the load came late 2 times)" in race.to_text(changed).replace("\n  ", " ")


def test_lock_claim_needs_a_lock(raced, monkeypatch):
    """Beside a Python-busy program a thread is held up by the interpreter's lock; where there is none, no claim."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    claim = show.lock_claim(raced[0])
    assert claim["reason"] is None
    assert claim["ratio"] == pytest.approx(claim["native_share"] / claim["thread_share"])
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert show.lock_claim(raced[0])["ratio"] is None
    assert "no global lock" in show.lock_claim(raced[0])["reason"]
    assert "no global lock" in race.to_text(raced[0])


def test_used_counts_a_child_while_it_runs_and_goes_on_when_it_has_ended():
    """A method's process is waited for only at the end; what it used until then must not appear all at once."""
    before = cost.Used.now()
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as child:
        end_s = time.monotonic() + 10
        while cost.Used.now().children_s < before.children_s + 0.05 and time.monotonic() < end_s:
            time.sleep(0.01)
        running = cost.Used.now()
        child.kill()
    ended = cost.Used.now()
    assert before.children_s + 0.05 <= running.children_s <= ended.children_s + 0.02  # the kernel's ticks
    assert child.pid not in cost.children()


def test_used_leaves_out_a_child_that_is_no_methods():
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as child:
        apart = cost.children()
        before = cost.Used.now(apart).children_s
        time.sleep(0.2)
        assert child.pid in apart
        assert cost.Used.now(apart).children_s == before
        child.kill()


def test_cost_leaves_the_training_threads_own_time_out():
    """By hand: 3 s of all threads and children between start and end, 2 s of them the training's."""
    used = [cost.Used(*of) for of in ((0, 0, 0), (1, 0.5, 0.5), (4, 2.5, 0.5), (4.25, 2.75, 1.0))]
    found = cost.cost_of(*used, start_s=0.2)
    assert found.cpu_s == pytest.approx((5.25 - 1.5) - (2.75 - 0.5))
    assert found.aside_cpu_s == pytest.approx(1.5 + 0.25)
    assert found.start_s == 0.2


@given(st.lists(st.floats(0.05, 0.5), min_size=6, max_size=12), st.floats(0.8, 1.5))
def test_slowdown_of_a_constant_factor_is_that_factor(without_s, factor):
    found = slowdown([factor * one for one in without_s], without_s)
    wanted = 100 * (factor - 1)
    assert (found.median_pct, found.low_pct, found.high_pct) == pytest.approx((wanted,) * 3, abs=1e-6)
    assert found.pairs == len(without_s)


def test_slowdown_interval_holds_the_median_and_widens_with_the_spread():
    quiet, wild = (slowdown(1 + np.array([-1, 1, -1, 1, 0, 0]) * by, np.ones(6)) for by in (0.01, 0.2))
    assert quiet.low_pct <= quiet.median_pct <= quiet.high_pct
    assert wild.high_pct - wild.low_pct > 10 * (quiet.high_pct - quiet.low_pct)


def test_slowdown_of_5_pairs_has_no_interval_and_of_6_one():
    """Of 5 pairs least and greatest hold the median 15 times in 16: none of them is a 95 % interval."""
    five, six = (slowdown(1 + np.arange(n) / 100, np.ones(n)) for n in (5, 6))
    assert (five.low_pct, five.high_pct) == (None, None)
    assert five.median_pct == pytest.approx(2.0)
    assert six.low_pct < six.median_pct < six.high_pct


@pytest.mark.parametrize("count", [6, 12])
def test_median_interval_holds_the_median_about_95_times_in_100(count):
    dice = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        low, high = slowdowns.median_interval(dice.standard_normal(count))
        held += low <= 0 <= high
    assert 0.90 <= held / 300 <= 0.99


NOISE = Slowdown(-9.0, -39.0, 11.0, 6)


@pytest.mark.parametrize(
    ("one", "noise", "lost"),
    [
        (Slowdown(8.0, -11.0, 186.0, 6), NOISE, True),
        (Slowdown(30.0, 11.5, 50.0, 6), NOISE, False),
        (Slowdown(30.0, None, None, 5), NOISE, False),
        (Slowdown(8.0, -11.0, 186.0, 6), None, False),
    ],
)
def test_slowdown_whose_interval_meets_that_of_nothing_is_lost_in_the_noise(raced, one, noise, lost):
    assert lost_in(one, noise) is lost
    result = dataclasses.replace(raced[0], slowdowns={"native": one}, noise=noise)
    assert ("lost in the noise of A/A, whose interval meets theirs: native." in race.to_text(result)) is lost


def test_slowdown_of_no_pair_is_missing():
    assert slowdown([], []) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "native,nvidia-smy"], "nvidia-smy is unknown; there are native"),
        (["--methods", ","], r"\(none\) is unknown"),
        (["--methods", "native,native"], "named twice"),
        (["--epoch-seconds", "0.3,x"], "numbers of seconds"),
        (["--epoch-seconds", "0.01"], "0.01 s"),
        (["--epoch-seconds", ","], "no epoch length"),
        (["--epoch-seconds", "0.3,1", "--epochs", "1"], "1 epochs of 2 lengths"),
        (["--simulate", "h1000"], "h1000"),
        (["--simulate", "h100", "--nvml-lib", "x.so"], "brings its own"),
        (["--simulate", "h100+amd_milan"], "without CPUs, h100"),
        (["--simulate", "h100x2", "--gpus", "1"], "for a real machine"),
        (["--gpus", "-1"], "no GPU -1"),
        (["--nvml-lib", "x.so", "--latency", "5us"], "for a simulated node"),
        (["--latency=-1us"], "400us"),
        (["--latency", "9s"], "calls of 9e\\+06 us"),
        (["--pairs", "-1"], "-1 pairs"),
        (["--training", "jax"], "numpy or torch"),
    ],
)
def test_race_command_refuses_what_it_cannot_do(arguments, says, capsys):
    assert cli.main(["race", *arguments]) == 2
    assert re.search(says, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epoch-seconds", "-1,2"], "begins with - is written --epoch-seconds=-..."),
        (["--latency", "-5ms"], "begins with - is written --latency=-..."),
    ],
)
def test_race_command_says_how_to_write_a_value_with_a_minus(arguments, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["race", *arguments])
    assert says in capsys.readouterr().err


def test_race_command_replaces_nothing_that_is_somebodys(tmp_path, capsys):
    mine = tmp_path / "race.json"
    mine.write_text("mine")
    assert cli.main(["race", "-o", str(mine)]) == 1
    assert "--force" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_race_command_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "race.json"
    arguments = ["--methods", "native", "--simulate", "h100", "--epoch-seconds", "0.3", "--epochs", "1", "--pairs", "0"]
    assert cli.main(["race", *arguments, "--json", "-o", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


def test_race_command_leaves_nothing_behind_when_it_is_interrupted(tmp_path):
    """Ctrl-C amid a lap: no folder, no child, the usual exit code."""
    pids = tmp_path / "pids"
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\necho $$ >> {pids}\nwhile :; do echo '2026/11/22 10:00:00.000, 100.00'; sleep 0.05; done\n"
    )
    program.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    methods = "native,native-binary,pynvml-thread,nvidia-smi-lms"
    arguments = [
        "--simulate",
        "h100",
        "--methods",
        methods,
        "--nvidia-smi",
        str(program),
        "--together",
        "--epochs",
        "9",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "powersample.cli", "race", *arguments, "--epoch-seconds", "3"],
        env={**os.environ, "TMPDIR": str(tmp_path / "scratch")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    for line in process.stderr:
        if "one lap" in line:
            break
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    out, trouble = process.communicate(timeout=30)
    assert (process.returncode, out, "Traceback" in trouble) == (130, "", False), trouble
    assert trouble.splitlines()[-1] == "powersample: interrupted; nothing was written"
    assert list((tmp_path / "scratch").iterdir()) == []
    started = [process.pid, *map(int, pids.read_text().split())]
    assert len(started) > 3  # it was tried twice, and then raced
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_help_names_every_method(capsys):
    with pytest.raises(SystemExit):
        cli.main(["race", "--help"])
    words = set(re.split(r"[\s,]+", capsys.readouterr().out.split("methods:")[1].split("examples:")[0]))
    assert set(entrants.METHODS) <= words


@pytest.mark.parametrize(
    ("asked", "simulated", "installed", "expected"),
    [
        (None, True, True, "numpy"),
        (None, False, True, "torch"),
        (None, False, False, "numpy"),
        ("numpy", False, True, "numpy"),
        ("torch", True, False, "torch"),
    ],
)
def test_training_is_what_loads_the_gpu_unless_told(monkeypatch, asked, simulated, installed, expected):
    monkeypatch.setattr("powersample.experiments.race.run.find_spec", lambda name: object() if installed else None)
    assert run.training_of(race.Setup(training=asked), simulated=simulated) == expected
