# SPDX-License-Identifier: Apache-2.0
"""Tests somebody's tool on the simulated node: the same program, unchanged, against an exact truth."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from powersample.sim import Node

TOOL = Path(__file__).with_name("energy_of.py")


def run(node):
    """Run the tool around a program of half a second; return what became of it."""
    command = [sys.executable, TOOL, "sleep", "0.5"]
    return subprocess.run(command, env={**os.environ, **node.environment()}, capture_output=True, text=True)


def mean_watts(done):
    joules, seconds = map(float, done.stdout.split())
    return joules / seconds


def test_steady_power_is_told_right():
    with Node("a100") as node:
        start = node.load_script(0, [(0, 200)])
        time.sleep(0.4)  # until the sensor has settled
        truth_w = node.truth_j(0, start, start + 1_000_000_000)  # of one second
        assert mean_watts(run(node)) == pytest.approx(truth_w, rel=0.01)


def test_load_in_step_with_the_sensor_is_told_wrong():
    """An A100's sensor looks 25 ms in every 102: who polls it more often learns nothing new."""
    with Node("a100") as node:
        start = (time.monotonic_ns() // 102_000_000 + 3) * 102_000_000 + 41_000_000
        node.load_wave(0, 60, 250, period_s=0.102, duty=0.5, start_ns=start)
        time.sleep(0.6)
        truth_w = node.truth_j(0, start, start + 102_000_000) / 0.102
        assert truth_w == pytest.approx(155)
        assert mean_watts(run(node)) < 0.7 * truth_w


def test_lost_gpu_is_an_error_and_no_number():
    with Node("a100") as node:
        node.inject("power_usage", 15)  # NVML_ERROR_GPU_IS_LOST
        done = run(node)
        assert done.returncode != 0
        assert done.stdout == ""
