# SPDX-License-Identifier: Apache-2.0
"""Load scripts and traces: what is accepted, and what is refused by file and line."""

from __future__ import annotations

import numpy as np
import pytest

from powersample.errors import BadFormat, InputNotFound, InvalidArgument
from powersample.sim import read_script
from powersample.sim.scenario import checked_steps, checked_trace


def test_script_comments_and_blank_lines_skipped(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text("# a step\nseconds,watts\n\n0, 60\n1.5,400.5 \n", encoding="utf-8")
    assert read_script(path) == [(0.0, 60.0), (1.5, 400.5)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0,60\n", "line 1: the first line must be 'seconds,watts'"),
        ("seconds,watts\n0,60\n1;70\n", "line 3.*not two numbers"),
        ("seconds,watts\n0,60,5\n", "line 2.*not two numbers"),
        ("seconds,watts\n0,nan\n", "line 2.*from 0 to"),
        ("seconds,watts\n0,-1\n", "line 2.*from 0 to"),
        ("seconds,watts\n-1,5\n", "line 2.*from 0 to"),
        ("seconds,watts\n1,60\n1,70\n", "line 3: 1 s does not come after"),
        ("seconds,watts\n", "holds no step"),
        ("", "holds no step"),
    ],
)
def test_script_malformed_refused_by_line(tmp_path, text, complaint):
    path = tmp_path / "load.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadFormat, match=complaint) as caught:
        read_script(path)
    assert str(path) in str(caught.value)


def test_script_missing_or_binary_refused(tmp_path):
    with pytest.raises(InputNotFound, match=r"nothing\.csv"):
        read_script(tmp_path / "nothing.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BadFormat, match="no load script"):
        read_script(tmp_path / "binary")


def test_steps_become_integers_and_bad_ones_are_named():
    assert checked_steps([(0, 60), (0.25, 400.5)]) == [(0, 60_000), (250_000_000, 400_500)]
    for steps, complaint in (
        ([], "at least one"),
        ([(0, 5), (0, 6)], "step 1"),
        ([(0, float("inf"))], "power of step 0"),
        ([(float("nan"), 5)], "time of step 0"),
    ):
        with pytest.raises(InvalidArgument, match=complaint):
            checked_steps(steps)


def test_trace_counts_from_its_first_instant_and_drops_repeats():
    times, power = checked_trace(np.array([10, 20, 30, 45]), [5.0, 5.0, 6.0, 5.0])
    assert times.tolist() == [0, 20, 35]
    assert power.tolist() == [5000, 6000, 5000]


@pytest.mark.parametrize(
    ("t_ns", "watts", "complaint"),
    [
        ([], [], "at least one"),
        ([1, 2], [5.0], "as many"),
        ([1.5, 2.5], [5.0, 6.0], "whole nanoseconds"),
        ([1, 2, 2], [5.0, 6.0, 7.0], "instant 2"),
        ([1, 2], [5.0, float("nan")], "power 1"),
        ([1, 2], [-5.0, 6.0], "power 0"),
    ],
)
def test_trace_malformed_refused(t_ns, watts, complaint):
    with pytest.raises(InvalidArgument, match=complaint):
        checked_trace(t_ns, watts)
