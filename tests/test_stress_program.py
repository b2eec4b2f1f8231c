# SPDX-License-Identifier: Apache-2.0
"""The standalone sampler's --stress: loads beside lanes where there is no Python."""

import json
import signal
import subprocess

import pytest
from load_tree import chip, one_core

from powersample import loads, store
from powersample.capture.recorder import sampler_path
from powersample.loads import edge_file

TIMEOUT_S = 30.0


def started(*arguments, fds=()):
    return subprocess.Popen(
        [str(sampler_path()), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=fds,
    )  # fmt: skip


def finished(process):
    out, trouble = process.communicate(timeout=TIMEOUT_S)
    return json.loads(out.splitlines()[-1]) if out else None, trouble, process.returncode


def ran(*arguments, **more):
    return finished(started(*arguments, **more))


def alone(*arguments, **more):
    return ran("--sources", "none", *arguments, **more)


def test_ladder_beside_a_lane_is_logged_as_python_reads_it(tmp_path):
    edges = tmp_path / "edges.csv"
    last, trouble, code = ran(
        "--sources", "scripted", "--spool", tmp_path / "run.spool", "--stress", "primes", "--levels", "0.3,0,1",
        "--duration", "0.3", "--period", "0.02", "--edges", edges,
    )  # fmt: skip
    assert (code, last["reason"], trouble) == (0, "duration", "")
    log = edge_file.load(edges)
    assert [one.level for one in log.reached] == [0.3, 0.0, 1.0]
    assert [round(one.duration_s, 6) for one in log.reached] == [0.1] * 3
    assert [one.bursts for one in log.reached] == [int((log.step == step).sum()) for step in range(3)]
    assert (log.rise_ns >= log.reached[0].begin_ns).all()
    assert log.reached[0].duty < 0.35
    assert log.reached[1].bursts == 0
    assert (log.kernel, log.wrong, log.cpus) == ("primes", 0, tuple(loads.allowed()))
    told = last["load"]
    assert [step["cpu_ns"] for step in told["steps"]] == [one.cpu_ns for one in log.reached]
    assert told["bursts"] == len(log)
    assert last["lanes"][0]["passes"] > 10
    recorded = store.read_spool(tmp_path / "run.spool")
    assert len(recorded.series(next(iter(recorded.channels)))) == last["spool"]["records"] > 10


@pytest.mark.parametrize("kernel", ["primes", "fma", "stream", "mix", "idle"])
def test_every_kernel_works_alone(kernel):
    last, trouble, code = alone("--stress", f"{kernel}:0.2", "--duration", "0.05", "--threads", "1", "--period", "0.01")
    assert (code, trouble) == (0, "")
    load = last["load"]
    assert (load["kernel"], load["wrong"], len(load["cpus"])) == (kernel, 0, 1)
    assert bool(load["vectors"]) == (kernel in ("fma", "mix"))
    assert bool(load["stream_bytes"]) == (kernel in ("stream", "mix"))
    assert (load["bursts"] + load["missed"] > 0) == (kernel != "idle")
    assert last["lanes"] == []


def test_pattern_of_a_file_is_cut_where_the_duration_ends(tmp_path):
    path = tmp_path / "bursts.csv"
    path.write_text("on_s,off_s\r\n0, 0.01\r\n\r\n0.02,0.06\r\n0.1,0.2\r\n")
    last, _, code = alone("--stress", "primes", "--pattern", f"file:{path}", "--duration", "0.05", "--duty", "0.5")
    assert code == 0
    steps = last["load"]["steps"]
    begin = steps[0]["begin_ns"]
    assert [(step["begin_ns"] - begin, step["end_ns"] - begin) for step in steps] == [
        (0, 10_000_000), (20_000_000, 50_000_000),
    ]  # fmt: skip
    assert {step["level"] for step in steps} == {0.5}
    assert last["load"]["name"] == f"the bursts of bursts.csv on {len(loads.allowed())} CPUs"


def test_pattern_of_python_s_own_runs_here(tmp_path):
    """Random, prbs and chirp come from Python, as a file."""
    path = tmp_path / "bursts.csv"
    rows = loads.random_edges(1.0, seed=3).edge_s.reshape(-1, 2) * 0.1
    path.write_text("on_s,off_s\n" + "".join(f"{on!r},{off!r}\n" for on, off in rows.tolist()))
    last, _, code = alone("--stress", "primes", "--pattern", f"file:{path}")
    assert code == 0
    assert len(last["load"]["steps"]) == len(rows)


def test_square_wave_has_its_periods():
    last, _, _ = alone("--stress", "primes", "--pattern", "square:0.02", "--duration", "0.1", "--threads", "1")
    assert len(last["load"]["steps"]) == 5
    assert last["load"]["bursts"] + last["load"]["missed"] == 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("time,level\n0,1\n", "line 1"),
        ("on_s,off_s\n0,x\n", "line 2"),
        ("on_s,off_s\n0,1\n0.5,2\n", "line 3"),
        ("on_s,off_s\n1,1\n", "line 2"),
        ("on_s,off_s\n-1,1\n", "line 2"),
        ("on_s,off_s\n", "no burst"),
        ("", "line 1"),
    ],
)
def test_file_that_is_no_pattern_is_refused(text, what, tmp_path):
    path = tmp_path / "bursts.csv"
    path.write_text(text)
    _, trouble, code = alone("--stress", "primes", "--pattern", f"file:{path}")
    assert code == 1
    assert what in trouble


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--duty", "0.5"], "--duty belongs to --stress"),
        (["--stress", "sieve", "--duration", "1"], "give primes, fma"),
        (["--stress", "primes:1.5", "--duration", "1"], "LEVEL, 0 to 1"),
        (["--stress", "primes:0.5", "--duty", "0.5", "--duration", "1"], "once"),
        (["--stress", "primes"], "--duration"),
        (["--stress", "primes", "--duration", "1", "--duty", "1.5"], "from 0 to 1"),
        (["--stress", "primes", "--duration", "1", "--period", "0"], "0.001"),
        (["--stress", "primes", "--duration", "1", "--levels", "0,1.5"], "levels from 0 to 1"),
        (["--stress", "primes", "--duration", "1", "--levels", "0,,1"], "levels from 0 to 1"),
        (["--stress", "primes", "--duration", "1", "--levels", "0,1", "--pattern", "square:1"], "leave --pattern out"),
        (["--stress", "primes", "--duration", "1", "--pattern", "random"], "powersample stress --pattern random"),
        (["--stress", "primes", "--duration", "1", "--cpus", "3-1"], "0-3,8"),
        (["--stress", "primes", "--duration", "1", "--cpus", "0,"], "0-3,8"),
        (["--stress", "primes", "--duration", "1", "--cpus", "0,0"], "each once"),
        (["--stress", "primes", "--duration", "1", "--cpus", "0-4095,0-4095"], "each once"),
        (["--stress", "primes", "--duration", "1", "--cpus", "0", "--threads", "1"], "leave --threads out"),
        (["--stress", "primes", "--duration", "1", "--threads", "0"], "number of threads"),
        (["--stress", "primes", "--duration", "1", "--edges", "fd:1"], "from 3 on"),
        (["--stress", "primes", "--duration", "1", "--edges", "fd:999"], "from 3 on"),
        (["--stress", "primes", "--duration", "1", "--max-temperature", "cold"], "degrees C"),
        (["--stress", "primes", "--duration", "1", "--list"], "leave --list out"),
    ],
)
def test_words_that_are_no_load_are_usage_errors(arguments, what):
    _, trouble, code = ran("--sources", "scripted", *arguments)
    assert code == 2
    assert what in trouble


def test_no_sources_are_for_a_load_alone():
    _, trouble, code = ran("--sources", "none", "--duration", "0.1")
    assert code == 2
    assert "belongs to --stress" in trouble


@pytest.mark.parametrize("option", [("--cpus", "4000"), ("--threads", "4000")])
def test_cpus_that_are_not_there_are_refused(option):
    _, trouble, code = alone("--stress", "primes", "--duration", "1", *option)
    assert code == 1
    assert "this process" in trouble


def test_edges_go_to_a_descriptor_that_the_caller_opened(tmp_path):
    with open(tmp_path / "edges.csv", "wb") as file:
        _, trouble, code = alone(
            "--stress", "primes", "--duration", "0.02", "--edges", f"fd:{file.fileno()}", fds=[file.fileno()]
        )
    assert (code, trouble) == (0, "")
    assert edge_file.load(tmp_path / "edges.csv").reached[0].level == 1


def test_edges_overwrite_nothing_and_need_a_folder(tmp_path):
    (tmp_path / "edges.csv").write_text("mine")
    for path in (tmp_path / "edges.csv", tmp_path / "none" / "edges.csv"):
        _, trouble, code = alone("--stress", "primes", "--duration", "9", "--edges", path)
        assert code == 1
        assert "name of a new file" in trouble
    assert (tmp_path / "edges.csv").read_text() == "mine"


def test_edges_on_a_full_disk_are_told():
    with open("/dev/full", "wb") as full:
        _, trouble, code = alone(
            "--stress", "primes", "--duration", "0.02", "--edges", f"fd:{full.fileno()}", fds=[full.fileno()]
        )
    assert code == 1
    assert "No space left" in trouble


def test_signal_ends_the_load_and_its_edges_are_written(tmp_path):
    process = started(
        "--sources", "none", "--stress", "primes:0.1", "--duration", "3600", "--edges", tmp_path / "e.csv"
    )
    assert json.loads(process.stdout.readline())["ready"] is True
    process.send_signal(signal.SIGTERM)
    last, trouble, code = finished(process)
    assert (code, last["reason"], trouble) == (0, "signal", "")
    log = edge_file.load(tmp_path / "e.csv")
    assert all(one.duration_s < TIMEOUT_S for one in log.reached)


def test_temperature_ends_the_load_in_order_and_says_why(tmp_path):
    root, edges = chip(tmp_path / "sys", 91500), tmp_path / "edges.csv"
    last, trouble, code = alone(
        "--stress", "primes:0.1", "--duration", "3600", "--sysfs", root, "--max-temperature", "91", "--edges", edges
    )
    assert (code, last["reason"]) == (1, "temperature")
    assert (last["load"]["temperature_max_c"], last["load"]["hz_mean"]) == (91.5, None)
    assert "91.5 degrees C, and 91 were to be the most" in trouble
    log = edge_file.load(edges)
    assert log.ended in trouble
    assert log.heat.temperature_c.tolist() == [91.5]


def test_load_below_the_highest_temperature_runs_to_its_end(tmp_path):
    last, trouble, code = alone(
        "--stress", "primes:0.1", "--duration", "0.05", "--sysfs", chip(tmp_path, 40000), "--max-temperature", "91"
    )
    assert (code, last["reason"], trouble) == (0, "duration", "")


def test_rule_without_a_sensor_is_refused_before_anything_runs(tmp_path):
    _, trouble, code = alone("--stress", "primes", "--duration", "9", "--sysfs", tmp_path, "--max-temperature", "91")
    assert code == 1
    assert "no temperature" in trouble


def test_threads_of_one_core_are_told(tmp_path):
    if len(mine := one_core(tmp_path)) < 2:
        pytest.skip("one CPU has no second thread")
    last, trouble, code = alone("--stress", "primes", "--duration", "0.01", "--sysfs", tmp_path)
    assert code == 0
    assert f"{len(mine) - 1} of {len(mine)} threads share a core" in trouble
    assert last["load"]["second_threads"] == len(mine) - 1
