# SPDX-License-Identifier: Apache-2.0
"""The standalone sampler as a process: what signals, a costly rate and a hanging driver do to it."""

import json
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
    node.inject("field_values", hang_s=3600, every=2)  # answers when probed, hangs when timed
    spool = tmp_path / "spool"
    process = subprocess.Popen(
        [str(sampler_path()), "--nvml-lib", str(node.library), "--spool", str(spool)], stdout=subprocess.PIPE
    )
    while not spool.exists():  # made just before it starts its lanes
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (-signal.SIGTERM, b"")
