# SPDX-License-Identifier: Apache-2.0
"""`--png` of every verb that draws: what could not be drawn at the end is refused at the start."""

import sys

import pytest

from powersample.cli import main

DRAWING = (
    ["race"], ["race", "--paper"], ["sync", "a.csv", "b.csv"], ["calibrate", "--from", "t.csv"], ["reproduce"],
)  # fmt: skip


@pytest.mark.parametrize("verb", DRAWING, ids=" ".join)
@pytest.mark.parametrize("name", ["x.jpgg", "x", "."])
def test_picture_of_no_known_kind_is_refused_before_anything_runs(verb, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "--png", name]) == 2
    assert capsys.readouterr().err == (
        f"powersample: --png {name}: no kind of picture ends so. Let it end in .png, .svg or .pdf\n"
    )


@pytest.mark.parametrize("verb", DRAWING, ids=" ".join)
def test_picture_into_a_missing_folder_is_refused_before_anything_runs(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "--png", "nowhere/x.PNG"]) == 1
    assert capsys.readouterr().err == "powersample: nowhere is not a folder; create it first\n"


@pytest.mark.parametrize("verb", [verb for verb in DRAWING if verb[0] != "calibrate"], ids=" ".join)
def test_picture_that_is_there_is_kept_without_force(verb, tmp_path, monkeypatch, capsys):
    """A calibration is made again and again; its picture goes with it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"of yesterday")
    assert main([*verb, "--png", "x.png"]) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() == b"of yesterday"


def test_picture_without_matplotlib_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert main(["race", "--png", str(tmp_path / "x.png")]) == 1
    assert "pip install 'powersample[plot]'" in capsys.readouterr().err
