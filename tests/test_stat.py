# SPDX-License-Identifier: Apache-2.0
"""`powersample stat`: repeats of a program as a person types them, and what becomes of it when they fail."""

import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from unprivileged import as_nobody

from powersample import store
from powersample._native.api import LaneOptions, Sampler, Script, Spool, scripted_source
from powersample.cli import main
from powersample.model import Energy
from powersample.report.stat import StatReport, _mean_of
from powersample.session.intervals import SpoolReader
from powersample.session.repeat import Repeats
from powersample.session.simulate import make_node
from powersample.store import Converter

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
    asked = (
        "-r",
        "2",
        "--warmup",
        "1",
        "--cooldown",
        "0.35",
        "-I",
        "150",
        "--json",
        "--to",
        "stat.json",
        "-o",
        "stat.parquet",
    )
    done = powersample(*SIMULATED, *asked, "-o", "stat.parquet", "--", *BUSY, cwd=folder)
    *_, last = (folder / "stat.json").read_text().splitlines()
    return folder, done, json.loads(last)


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


def test_mean_power_is_of_the_runs_that_are_in_the_mean_energy():
    """100 J in 1 s beside a run of 10 s without an energy are 100 W, not 18."""
    told = Energy(100.0, 90.0, 110.0, "", (), "fair", (), "gpu0.energy", "gpu0", "gpu", "run 1")
    untold = dataclasses.replace(told, joules=None, low_j=None, high_j=None, verdict="unusable", window="run 2")
    data = _mean_of([told, untold], [1.0, 10.0], [None, None])
    assert (data["joules"], data["runs"], data["mean_w"]) == (100.0, 1, 100.0)
    assert _mean_of([told, told], [1.0, None], [None, None])["mean_w"] is None  # the second one's is of a part


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


def test_stat_tells_the_intervals_of_every_run_without_a_hole(repeated):
    folder, _, data = repeated
    lines = [json.loads(line) for line in (folder / "stat.json").read_text().splitlines()[:-1]]
    assert {one["window"] for one in lines} == {"warm-up 1", "run 1", "run 2"}
    mine = [one for one in lines if one["window"] == "run 1"]
    assert [one["duration_s"] for one in mine[:-1]] == [0.15] * (len(mine) - 1)
    assert [one["end_s"] for one in mine] == pytest.approx(np.cumsum([one["duration_s"] for one in mine]).tolist())
    assert all(one["simulated"] and one["kind"] == "interval" for one in lines)
    run = next(one for one in data["runs"] if one["window"] == "run 1")
    assert mine[-1]["end_s"] == pytest.approx(run["duration_s"], abs=0.1)
    whole_j = next(one["joules"] for one in run["energies"] if one["device"] == "package-0")
    told = [next(each for each in one["energies"] if each["device"] == "package-0") for one in mine]
    assert sum(one["joules"] for one in told) == pytest.approx(whole_j, rel=0.2)
    gpu = [next(each for each in one["energies"] if each["device"] == "gpu0") for one in mine]
    assert all(one["few_updates"] for one in gpu)  # 100 ms a value


def test_reader_of_a_spool_takes_every_record_once_though_parts_are_converted_meanwhile(tmp_path):
    spool = tmp_path / "run.spool"
    spool.mkdir()
    source = scripted_source("gpu0", Script(((0, 0, 0, 1000, 1, 0),)))
    with Sampler() as sampler:
        sampler.add(source, LaneOptions(rate_hz=1000.0))
        sampler.start()
        with Spool(spool, sampler, part_bytes=24_000, part_ms=60, drain_ms=10) as writing:
            writing.start()
            reader, converter, taken = SpoolReader(spool), Converter(spool, tmp_path / "run.parquet"), []
            for _ in range(12):
                time.sleep(0.04)
                writing.sync()
                taken += [records for _, records in reader.take()]
                converter.step()
            sampler.stop()
            writing.stop()
        taken += [records for _, records in reader.take()]
        reader.close()
    numbers = np.concatenate([records["seq"] for records in taken])
    assert len(list(spool.glob("part-*.parquet"))) > 2
    assert numbers.tolist() == list(range(len(numbers)))
    assert len(numbers) > 300


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


def test_stat_says_why_a_source_has_nothing_unless_it_is_quiet(tmp_path, capfd):
    """A table without the CPU looks as whole as one with it."""
    with make_node("h100+none") as made:
        asked = ("stat", "--nvml-lib", str(made.library), "--sysfs", str(tmp_path))
        assert main([*asked, "--", "true"]) == 0
        assert "powersample: rapl: not found" in capfd.readouterr().err
        assert main([*asked, "-q", "--", "true"]) == 0
        assert "powersample: rapl" not in capfd.readouterr().err


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


def stat_to(path, *arguments, ran=None):
    """Return the exit code of a `stat --to` in this process; its program makes a file `ran`."""
    return main(
        [*SIMULATED, "--to", str(path), *arguments, "--", "touch" if ran else "true", *([str(ran)] if ran else [])]
    )


def test_results_file_stays_as_it_was_when_the_run_comes_to_nothing(tmp_path, monkeypatch, capfd):
    from powersample.session import repeat

    old = tmp_path / "old.txt"
    old.write_text("the last one's")
    assert main(["stat", "--simulate", "h100", "--to", str(old), "--csv", "-I", "100", "--", "no-such-program"]) == 127
    assert old.read_text() == "the last one's"
    real = repeat.finish
    monkeypatch.setattr(repeat, "finish", lambda *given, **more: dataclasses.replace(real(*given, **more), trace=None))
    assert stat_to(old, "--csv", "-I", "100") == 0
    assert old.read_text() == "the last one's"
    assert [one.name for one in tmp_path.iterdir()] == ["old.txt"]


def test_results_file_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, capfd):
    (tmp_path / "file").touch()
    assert stat_to(tmp_path / "file" / "stat.txt", ran=tmp_path / "ran") == 1
    assert stat_to(tmp_path, ran=tmp_path / "ran") == 1
    assert not (tmp_path / "ran").exists()
    said = capfd.readouterr().err
    assert "is not a folder" in said
    assert "Is a directory" in said


def test_results_file_behind_a_closed_folder_is_refused_with_what_to_do(tmp_path, capfd):
    """Whether it is there cannot even be asked."""
    closed = tmp_path / "closed"
    closed.mkdir()
    with as_nobody(closed):
        assert stat_to(closed / "stat.txt") == 1
    said = capfd.readouterr().err
    assert f"{closed / 'stat.txt'} may not be written (Permission denied). Write into another folder." in said


def test_results_file_takes_the_old_ones_place_and_a_link_stays_one(tmp_path, capfd):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("the last one's")
    link.symlink_to("real.txt")
    assert stat_to(link) == 0
    assert link.is_symlink()
    assert "gpu0" in real.read_text()
    assert "the last one's" not in real.read_text()


def test_results_go_into_what_is_no_file_as_they_come(tmp_path, capfd):
    """Such as `--to >(consumer)`, or /dev/null, which must not be replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    assert stat_to(pipe) == 0
    assert "gpu0" in reader.communicate(timeout=60)[0]
    assert stat_to("/dev/null") == 0
    assert os.path.exists("/dev/null")
    assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("stat",), 2, "add `-- COMMAND`"),
        (("stat", "-r", "0", "--", "true"), 2, "at least 1"),
        (("stat", "--warmup", "-1", "--", "true"), 2, "warm-up"),
        (("stat", "--cooldown", "nan", "--", "true"), 2, "cool-down"),
        (("stat", "-I", "1", "--", "true"), 2, "at least 10 ms"),
        (("stat", "--load", "cpu", "--", "true"), 2, "--simulate"),
        (("stat", "-o", "x.csv", "--", "true"), 2, "Parquet"),
        (("stat", "--nvml-lib", "/no/lib.so", "--", "true"), 3, "The program was not started: true"),
        (("stat", "--simulate", "h100", "--", "no-such-program"), 127, "command not found"),
        (("stat", "--simulate", "h100", "--", "/etc"), 126, "directory"),
        (("stat", "--simulate", "h100", "--to", "/no/such/file", "--", "true"), 1, "/no/such is not a folder"),
    ],
)
def test_stat_refuses_with_a_code_and_what_to_do(arguments, code, words, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert words in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_repeats_are_named_in_their_order():
    assert Repeats(2, 1).names() == ["warm-up 1", "run 1", "run 2"]
