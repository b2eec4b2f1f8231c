# SPDX-License-Identifier: Apache-2.0
"""`powersample stat`: repeats of a program as a person types them, and what becomes of it when they fail."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from traces import S, node

from powersample import store
from powersample.cli import main
from powersample.model import Window
from powersample.report.stat import RunFacts, StatReport, stat_report
from powersample.session.repeat import Repeats

POWERSAMPLE = [sys.executable, "-m", "powersample.cli"]
SIMULATED = ("stat", "--simulate", "h100", "--load", "wave:300,100,0.05,0.5")
BUSY = (sys.executable, "-c", "import time; print('the program speaks'); time.sleep(0.35)")


def powersample(*arguments, **options):
    command = [*POWERSAMPLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Two repeats after a warm-up, with everything written to files."""
    folder = tmp_path_factory.mktemp("repeated")
    asked = ("-r", "2", "--warmup", "1", "--cooldown", "0.35", "--json", "--to", "stat.json", "-o", "stat.parquet")
    done = powersample(*SIMULATED, *asked, "--", *BUSY, cwd=folder)
    return folder, done, json.loads((folder / "stat.json").read_text())


def test_stat_tells_a_mean_a_device_with_the_truth_inside(repeated):
    _, done, data = repeated
    assert done.returncode == 0, done.stderr
    assert data["schema_version"] == 1
    assert data["simulated_node"] is True
    means = {one["device"]: one for one in data["means"]}
    gpu = means["gpu0"]
    assert gpu["low_j"] <= gpu["truth_j"] <= gpu["high_j"]
    assert gpu["runs"] == 2
    assert gpu["mean_w"] == pytest.approx(gpu["joules"] / data["elapsed"]["mean_s"])
    assert {"package-0", "package-0 dram"} <= set(means)


def test_stat_counts_no_warm_up_and_marks_every_run(repeated):
    folder, _, data = repeated
    assert [(one["window"], one["counted"]) for one in data["runs"]] == [
        ("warm-up 1", False),
        ("run 1", True),
        ("run 2", True),
    ]
    assert (data["runs_told"], data["warmups"], data["partial"]) == (2, 1, False)
    trace = store.load(folder / "stat.parquet")
    windows = {one.name: one for one in trace.windows}
    assert list(windows) == ["warm-up 1", "run 1", "run 2"]
    assert windows["run 2"].start_ns - windows["run 1"].end_ns >= 0.35e9
    mean_j = sum(
        one["joules"] for run in data["runs"] if run["counted"] for one in run["energies"] if one["device"] == "gpu0"
    )
    assert data["means"][0]["joules"] == pytest.approx(mean_j / 2)


def test_stat_leaves_the_programs_output_alone(repeated):
    _, done, _ = repeated
    assert done.stdout == "the program speaks\n" * 3


def test_stat_csv_has_a_row_a_mean_and_a_row_a_run(repeated):
    _, _, data = repeated
    rows = list(csv.DictReader(io.StringIO(StatReport(data).csv)))
    gpu = [row for row in rows if row["device"] == "gpu0"]
    assert [(row["kind"], row["window"]) for row in gpu] == [
        ("mean", ""),
        ("left out", "warm-up 1"),
        ("run", "run 1"),
        ("run", "run 2"),
    ]
    assert float(gpu[0]["joules"]) == pytest.approx((float(gpu[2]["joules"]) + float(gpu[3]["joules"])) / 2)


def test_stat_text_says_first_that_it_is_no_measurement(repeated):
    _, _, data = repeated
    lines = str(StatReport(data)).splitlines()
    assert lines[0] == "SIMULATED NODE h100, not a measurement"
    assert "(2 runs, 1 warm-up)" in str(StatReport(data))
    assert max(map(len, lines)) <= 110


def facts(*runs):
    return [RunFacts(name, code, 1.0, 0.1, counted) for name, code, counted in runs]


def told(*runs, asked=3, **more):
    """What is told of runs of two seconds each on an idle node of 100 W in memory."""
    names = [name for name, _, _ in runs]
    windows = [Window(name, (1 + 3 * i) * S, (3 + 3 * i) * S) for i, name in enumerate(names)]
    trace = node(seconds=3 * len(runs) + 2, windows=windows)
    return stat_report(trace, facts(*runs), command=["./solver", "a b"], asked_runs=asked, **more)


def test_stat_leaves_a_failed_run_out_of_the_mean_and_says_so():
    found = told(("run 1", 0, True), ("run 2", 0, True), ("run 3", 7, False))
    assert found.data["means"][0]["joules"] == pytest.approx(200.0)
    assert (found.data["runs_told"], found.data["partial"]) == (2, False)
    assert "(2 runs, of 3 asked for)" in str(found)
    assert "run 3 ended with exit code 7; it is in no mean" in str(found)


def test_stat_of_one_run_says_there_is_no_spread():
    text = str(told(("run 1", 0, True), asked=1))
    assert "for ./solver 'a b' (1 run, so no spread)" in text
    assert "Student" not in text


def test_stat_of_nothing_but_a_run_cut_short_shows_that_one():
    found = told(("warm-up 1", 0, False), ("run 1", 130, False), asked_to_end=2)
    assert found.data["partial"]
    assert found.data["means"][0]["joules"] == pytest.approx(200.0)
    assert "(1 cut short, of 3 asked for, 1 warm-up)" in str(found)
    assert "ended early by SIGINT" in str(found)


def test_stat_interrupted_before_the_first_run_says_that_none_ended():
    found = told(asked_to_end=15)
    assert found.data["means"] == []
    assert "No energy can be told" in str(found)


def test_stat_goes_on_after_failures_where_it_is_told_to_and_stdout_is_nothing_but_json():
    program = ("sh", "-c", "echo speaks; sleep 0.2; exit 7")
    done = powersample(*SIMULATED, "-r", "2", "-i", "--json", "--", *program)
    assert done.returncode == 7
    assert [one["counted"] for one in json.loads(done.stdout)["runs"]] == [True, True]
    assert done.stderr.count("speaks") == 2


def test_stat_of_a_program_killed_by_a_signal_answers_as_shells_do():
    done = powersample(*SIMULATED, "-r", "3", "--", "sh", "-c", "sleep 0.3; kill -SEGV $$")
    assert done.returncode == 128 + signal.SIGSEGV
    assert "run 1 ended with exit code 139" in done.stderr
    assert "(1 cut short, of 3 asked for)" in done.stderr


@pytest.mark.parametrize("where", ["run", "pause"])
def test_stat_interrupted_tells_what_was_measured_until_then(where):
    """SIGINT to the process alone, as `kill -INT` does it: a Ctrl-C reaches the program by itself."""
    cooldown = "30" if where == "pause" else "0"
    seconds = "0.3" if where == "pause" else "30"
    command = [
        *POWERSAMPLE,
        *SIMULATED,
        "-r",
        "5",
        "--cooldown",
        cooldown,
        "--",
        "sh",
        "-c",
        f"echo on; exec sleep {seconds}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    assert process.stdout.readline() == "on\n"
    if where == "pause":
        assert "run 1 ended" in process.stderr.readline()
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "ended early by SIGINT" in said
    assert "gpu0" in said
    if where == "pause":
        assert "(1 run, so no spread, of 5 asked for)" in said
    else:
        assert "(1 cut short, of 5 asked for)" in said
    assert process.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("stat",), 2, "add `-- COMMAND`"),
        (("stat", "-r", "0", "--", "true"), 2, "at least 1"),
        (("stat", "--warmup", "-1", "--", "true"), 2, "warm-up"),
        (("stat", "--cooldown", "nan", "--", "true"), 2, "cool-down"),
        (("stat", "--load", "cpu", "--", "true"), 2, "--simulate"),
        (("stat", "-o", "x.csv", "--", "true"), 2, "Parquet"),
        (("stat", "--nvml-lib", "/no/lib.so", "--", "true"), 3, "The program was not started: true"),
        (("stat", "--simulate", "h100", "--", "no-such-program"), 127, "command not found"),
        (("stat", "--simulate", "h100", "--", "/etc"), 126, "directory"),
        (("stat", "--simulate", "h100", "--to", "/no/such/file", "--", "true"), 1, "/no/such/file"),
    ],
)
def test_stat_refuses_with_a_code_and_what_to_do(arguments, code, words, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert words in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_repeats_are_named_in_their_order():
    assert Repeats(2, 1).names() == ["warm-up 1", "run 1", "run 2"]
