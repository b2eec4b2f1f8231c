# SPDX-License-Identifier: Apache-2.0
"""The standalone sampler as a process: what signals, a costly rate and a hanging driver do to it."""

import errno
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from powersample.capture.recorder import sampler_path
from powersample.sim import Latency, Node

TIMEOUT_S = 30.0


@pytest.fixture
def node():
    with Node("h100") as made:
        yield made


def started(*arguments, ignored=""):
    """Start it; return it once it is ready, with the signals in `ignored` ignored from birth."""
    shell = ["sh", "-c", f"trap '' {ignored}; exec \"$@\"", "sh"] if ignored else []
    process = subprocess.Popen(
        [*shell, str(sampler_path()), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert json.loads(process.stdout.readline())["ready"] is True
    return process


def finished(process):
    out, trouble = process.communicate(timeout=TIMEOUT_S)
    return json.loads(out.splitlines()[-1]), trouble


def test_sampler_ends_by_a_signal_and_says_which():
    process = started("--sources", "scripted")
    process.send_signal(signal.SIGTERM)
    last, trouble = finished(process)
    assert (process.returncode, last["reason"], last["signal"], trouble) == (0, "signal", signal.SIGTERM, "")


def test_sampler_started_with_a_signal_ignored_goes_on_ignoring_it():
    process = started("--sources", "scripted", "--duration", "0.5", ignored="HUP INT")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    last, _ = finished(process)
    assert (process.returncode, last["reason"]) == (0, "duration")


def test_sampler_rate_beyond_the_budget_is_taken_with_one_warning(node):
    node.set_latency("any", Latency.fixed(1e-3))
    library = ("--nvml-lib", str(node.library))
    last, trouble = finished(started(*library, "--rate", "200", "--duration", "0.2"))
    assert last["lanes"][0]["rate_hz"] == 200
    assert trouble.startswith("powersample-sampler: --rate 200: calls of ")
    assert trouble.count("\n") == 1
    _, trouble = finished(started(*library, "--duration", "0.2"))
    assert trouble == ""


def test_sampler_follow_learns_the_period_of_the_nodes_sensor(node):
    node.load_wave(0, 100, 400, period_s=0.37, duty=0.5)
    last, trouble = finished(started("--nvml-lib", str(node.library), "--mode", "follow", "--duration", "2.5"))
    lane = last["lanes"][0]
    periods_ns = lane["followed_period_ns"]
    assert trouble == ""
    assert lane["slots"] == lane["passes"] + lane["skipped"]
    assert len(periods_ns) == 2  # instant and average; PowerUsage repeats one of them, once a second
    assert any(abs(period_ns - 100e6) < 5e6 for period_ns in periods_ns)


def test_sampler_follow_without_a_power_says_why_and_is_paced(tmp_path):
    zone = tmp_path / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in {"name": "package-0", "energy_uj": "1000", "max_energy_range_uj": "262143328850"}.items():
        (zone / name).write_text(f"{text}\n")
    arguments = ("--sources", "rapl", "--sysfs", str(tmp_path), "--mode", "follow", "--duration", "0.1")
    last, trouble = finished(started(*arguments))
    assert trouble.startswith("powersample-sampler: --mode follow: ")
    assert trouble.count("\n") == 1
    assert last["lanes"][0]["mode"] == 1


def test_sampler_fifo_without_the_right_says_the_fix_once_and_goes_on():
    command = [str(sampler_path()), "--fifo=20", "--duration", "0.2"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        command = ["setpriv", "--bounding-set", "-sys_nice", *command]
    with Node("h100", gpus=2) as node:
        command += ["--nvml-lib", str(node.library)]
        shell = ["sh", "-c", 'ulimit -r 0 && exec "$@"', "sh"]
        process = subprocess.run([*shell, *command], capture_output=True, text=True, timeout=TIMEOUT_S)
    lanes = json.loads(process.stdout.splitlines()[-1])["lanes"]
    assert process.returncode == 0
    assert "CAP_SYS_NICE" in process.stderr
    assert process.stderr.count("\n") == 1
    assert {(lane["fifo_priority"], lane["fifo_errno"]) for lane in lanes} == {(0, errno.EPERM)}


@pytest.mark.parametrize("option", ["--fifo=0", "--fifo=100", "--fifo=high"])
def test_sampler_fifo_of_no_such_priority_is_refused(option):
    process = subprocess.run([str(sampler_path()), option], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert "1 to 99" in process.stderr


def test_sampler_with_a_call_that_hangs_ends_with_all_that_was_read(node, tmp_path):
    process = started("--nvml-lib", str(node.library), "--rate", "100", "--spool", str(tmp_path / "spool"))
    time.sleep(0.1)
    node.inject("field_values", hang_s=3600)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    last, trouble = finished(process)
    lane = last["lanes"][0]
    assert process.returncode == 1
    assert "still inside a device call" in trouble
    assert lane["slots"] == lane["passes"] + lane["skipped"]
    assert lane["records"] == lane["drained"] == last["spool"]["records"] > 0
    assert (tmp_path / "spool" / "part-000000.part").exists()


def test_sampler_asked_to_finish_twice_ends_at_once(node):
    process = started("--nvml-lib", str(node.library), "--rate", "100")
    node.inject("field_values", hang_s=3600)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # it now waits for the hanging call, 2 s
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGTERM


def test_sampler_hanging_before_it_is_ready_ends_by_a_signal(node, tmp_path):
    node.inject("field_values", hang_s=3600, every=5)  # answers when probed, hangs when timed
    spool = tmp_path / "spool"
    process = subprocess.Popen(
        [str(sampler_path()), "--nvml-lib", str(node.library), "--spool", str(spool)], stdout=subprocess.PIPE
    )
    end = time.monotonic() + TIMEOUT_S
    while not spool.exists() and time.monotonic() < end:  # made just before it starts its lanes
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (-signal.SIGTERM, b"")
