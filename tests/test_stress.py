# SPDX-License-Identifier: Apache-2.0
"""`powersample stress` as a person types it, and its table of a log whose numbers are known."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from load_tree import chip, one_core

from powersample import cli, errors, loads
from powersample.loads import EdgeLog, Step, edge_file, gpu
from powersample.loads.heat import Heat
from powersample.loads.level import parse_level
from powersample.report.stress import stress_json, stress_text

S = 1_000_000_000


def ran(capsys, *arguments):
    code = cli.main(["stress", *map(str, arguments)])
    out, trouble = capsys.readouterr()
    return code, out, trouble


def test_ladder_is_told_level_by_level_and_its_edges_are_kept(capsys, tmp_path):
    code, out, trouble = ran(
        capsys, "fma", "--levels", "0.1,0.3,0", "--duration", 0.3, "--period", 0.02, "--threads", 1,
        "--edges", tmp_path / "edges.csv", "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(out)
    assert [row["level"] for row in told["levels"]] == [0.1, 0.3, 0.0]
    assert [row["duration_s"] for row in told["levels"]] == pytest.approx([0.1] * 3)
    log = edge_file.load(tmp_path / "edges.csv")
    assert [row["duty"] for row in told["levels"]] == [one.duty for one in log.reached]
    assert told["bursts"] == len(log) == sum(row["bursts"] for row in told["levels"])
    assert (told["kernel"], told["wrong"], told["vectors"]) == ("fma", 0, log.vectors)
    assert len(told["cpus"]) == 1
    assert "level 0.1 from 0 s on" in trouble


def test_table_is_for_people(capsys):
    code, out, _ = ran(capsys, "primes:0.2", "--duration", 0.04, "--period", 0.02)
    assert code == 0
    assert out.startswith("primes: steady work for 0.04 s on ")
    assert "20.0 %" in out.splitlines()[2]


def test_pattern_is_cut_where_the_duration_ends(capsys, tmp_path):
    (tmp_path / "bursts.csv").write_text("on_s,off_s\n0,0.01\n0.02,9\n")
    code, out, _ = ran(
        capsys,
        "--pattern",
        f"file:{tmp_path / 'bursts.csv'}",
        "--duration",
        0.04,
        "--cpus",
        loads.allowed()[0],
        "--json",
    )
    assert code == 0
    assert json.loads(out)["levels"][0]["duration_s"] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["sieve"], "primes, fma"),
        (["primes:1.5"], "from 0 to 1"),
        (["primes:x"], "from 0 to 1"),
        (["primes:0.5", "--duty", "0.5"], "once"),
        (["--duty", "nan"], "from 0 to 1"),
        (["--levels", "0,,1"], "from 0 to 1"),
        (["--levels", "0,1", "--pattern", "random"], "leave --levels out"),
        (["--threads", "1", "--cpus", "0"], "leave --threads out"),
        (["--threads", "0"], "0 threads"),
        (["--threads", "99999"], "may use"),
        (["--cpus", "99999"], "may use"),
        (["--cpus", "a"], "0-3,8"),
        (["--duration", "0"], "above 0"),
        (["--pattern", "sine"], "no pattern"),
        (["--period", "0"], "period"),
        (["fma", "--gpu"], "the kernel: --gpu"),
        (["--gpu", "--max-temperature", "90"], "--max-temperature: --gpu"),
    ],
)
def test_words_that_are_no_load_are_usage_errors(capsys, arguments, what):
    code, out, trouble = ran(capsys, *arguments)
    assert (code, out) == (2, "")
    assert what in trouble


def test_edges_that_are_there_are_not_overwritten(capsys, tmp_path):
    (tmp_path / "edges.csv").write_text("mine")
    code, _, trouble = ran(capsys, "--duration", 9, "--edges", tmp_path / "edges.csv")
    assert code == 1
    assert "name of a new file" in trouble
    assert (tmp_path / "edges.csv").read_text() == "mine"


def test_temperature_ends_the_load_and_the_table_says_why(capsys, tmp_path):
    options = ("--sysfs", chip(tmp_path, 91500), "--max-temperature", 91)
    code, out, _ = ran(capsys, "primes:0.1", "--duration", 3600, "--threads", 1, *options)
    assert code == 1
    assert "91.5 degrees C, and 91 were to be the most" in out
    assert "91.5 C" in out


def test_threads_of_one_core_are_told(capsys, tmp_path):
    if len(mine := one_core(tmp_path)) < 2:
        pytest.skip("one CPU has no second thread")
    _, _, trouble = ran(capsys, "--duration", 0.01, "--sysfs", tmp_path)
    assert f"{len(mine) - 1} of {len(mine)} threads share a core" in trouble
    _, _, trouble = ran(capsys, "--duration", 0.01, "--sysfs", tmp_path, "--threads", 1)
    assert "share a core" not in trouble


def test_signal_ends_the_load_in_order_and_the_table_comes(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "powersample.cli", "stress", "--levels", "0.05,0.06", "--duration", "7200"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        told = any("from 0 s on" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert told
    assert process.returncode == 128 + signal.SIGTERM
    assert "levels of 3,600 s" in out


def test_gpu_takes_a_level_and_a_pattern(capsys, monkeypatch):
    seen = {}

    def run(pattern, **options):
        seen.update(options, pattern=pattern)
        none = np.zeros(0, np.int64)
        return EdgeLog("made up", none, none, none, none, kernel="gpu", reached=(Step(0, S, 0.7, 1, S),))

    monkeypatch.setattr(gpu, "run", run)
    code, out, _ = ran(capsys, "--gpu", "--duty", 0.7, "--duration", 5)
    assert code == 0
    assert (seen["level"], seen["pattern"].duration_s) == (0.7, 5.0)
    assert out.startswith("gpu: made up")


def test_gpu_without_a_library_says_why(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, trouble = ran(capsys, "--gpu")
    assert code == 1
    assert "torch is not there" in trouble


def known():
    late_ns = np.array([1_000_000, 3_000_000, 9_000_000, 5_000_000])
    rise_ns = np.array([0, 1, 2, 3]) * S
    steps = (
        Step(0, 2 * S, 0.5, 2, 2 * S, 2),
        Step(2 * S, 3 * S, 0.5, 2, S, 1),
        Step(3 * S, 4 * S, 1.0, 2, S, 1, missed=7, wrong=1),
    )
    return EdgeLog(
        "made up", rise_ns, rise_ns + S, np.zeros(4, np.int64), late_ns, wrong=1, kernel="primes",
        reached=steps,
        step=np.array([0, 0, 1, 2]), heat=Heat(np.array([1, 2]) * S, np.array([50.0, 60.0]), np.array([math.nan] * 2)),
    )  # fmt: skip


@pytest.mark.parametrize(("change", "code"), [({}, 0), ({"wrong": 1}, 1), ({"ended": "too warm"}, 1)])
def test_wrong_result_or_an_early_end_is_the_exit_code(capsys, monkeypatch, change, code):
    monkeypatch.setattr(loads, "run", lambda *_, **__: replace(known(), **{"wrong": 0, **change}))
    assert ran(capsys, "--duration", 1)[0] == code


def test_rows_hold_steps_of_one_level_that_follow_each_other():
    first, second = stress_json(known())["levels"]
    assert (first["level"], first["duty"], first["duration_s"], first["bursts"]) == (0.5, pytest.approx(0.5), 3.0, 3)
    assert (first["late_median_ms"], first["late_p99_ms"]) == (3.0, pytest.approx(8.88))
    assert (first["temperature_c"], first["hz"]) == (60.0, None)
    assert (second["duty"], second["missed"], second["wrong"]) == (0.5, 7, 1)
    assert (second["late_median_ms"], second["temperature_c"]) == (5.0, None)


def test_text_tells_wrong_results_below_the_table():
    text = stress_text(known())
    assert "this machine is not sound" in text.splitlines()[-1] + text.splitlines()[-2]
    assert "50.00 %" in text
    assert "60.0 C" in text


def test_log_of_nothing_has_no_rows():
    none = np.zeros(0, np.int64)
    assert stress_json(EdgeLog("none", none, none, none, none))["levels"] == []


@pytest.mark.parametrize(
    ("text", "level"), [("0.5", 0.5), ("50%", 0.5), ("50", 0.5), ("1", 1.0), ("1%", 0.01), ("2", 0.02), ("0", 0)]
)
def test_level_is_a_share_or_a_percent(text, level):
    assert parse_level(text, "primes") == level


@pytest.mark.parametrize("text", ["", "x", "1.5", "101", "150%", "-1", "nan", "50%x", "inf"])
def test_level_that_is_none_is_refused(text):
    with pytest.raises(errors.InvalidArgument, match=r"primes .*: a level is a number from 0 to 1, or 0% to 100%"):
        parse_level(text, "primes")
