# SPDX-License-Identifier: Apache-2.0
"""The other ways of sampling: their integrals and their parsers."""

import subprocess
import sys

import numpy as np
import pytest

from powersample import errors
from powersample.experiments.baselines import Samples, find_nvidia_smi, trapezoid_j
from powersample.experiments.baselines.nvidia_smi import parse_lines
from powersample.experiments.baselines.quiet import deaf_children

S = 1_000_000_000


def samples(t_s, watts):
    return Samples(np.array([round(t * S) for t in t_s], np.int64), np.array(watts, float), 0.0, 0)


def test_trapezoid_of_constant_power_is_power_times_time():
    assert trapezoid_j(samples([0.5, 1.5, 2.5], [100, 100, 100]), 0, 3 * S) == pytest.approx(300.0)


def test_trapezoid_of_a_ramp_is_exact_between_samples():
    assert trapezoid_j(samples([0, 1, 2], [0, 10, 20]), 0, 2 * S) == pytest.approx(20.0)


def test_trapezoid_without_a_sample_inside_is_missing():
    assert trapezoid_j(samples([5.0], [100]), 0, 3 * S) is None


def test_parse_lines_reads_stamps_to_the_millisecond():
    result = parse_lines([b"2026/11/22 10:00:00.000, 100.50\n", b"2026/11/22 10:00:00.125, 200.25\n"], 1.5)
    assert list(result.watts) == [100.5, 200.25]
    assert np.diff(result.t_ns).tolist() == [125_000_000]
    assert (result.cpu_s, result.errors) == (1.5, 0)


@pytest.mark.parametrize(
    "cell",
    [b"[N/A]", b"[GPU is lost]", b"[Timeout]", b"[Unknown Error]", b""],
    ids=lambda cell: cell.decode(),
)
def test_parse_lines_counts_cells_that_are_no_number(cell):
    lines = [
        b"2026/11/22 10:00:00.000, 100.00\n",
        b"2026/11/22 10:00:00.100, " + cell + b"\n",
        b"2026/11/22 10:0",
    ]
    result = parse_lines(lines, 0.0)
    assert list(result.watts) == [100.0]
    assert result.errors == 2


def test_find_nvidia_smi_without_any_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(errors.NotSupported, match="no nvidia-smi on PATH"):
        find_nvidia_smi()


def test_find_nvidia_smi_refuses_a_path_that_is_no_program(tmp_path):
    with pytest.raises(errors.NotSupported, match="not an executable"):
        find_nvidia_smi(tmp_path / "missing")


def test_find_nvidia_smi_prefers_path_to_cache(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_nvidia_smi() == program


def test_children_started_deaf_hear_no_interrupt_and_later_ones_do():
    """A tool's own process must not fill the screen with a traceback at a Ctrl-C; whoever started it ends it."""
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    def hears():
        run = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
        return run.stdout.strip() == "False"

    with deaf_children():
        assert not hears()
    assert hears()
