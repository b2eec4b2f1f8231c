# SPDX-License-Identifier: Apache-2.0
"""docs/reproduce.md holds what the verb printed, and its claims hold for the committed figures."""

import importlib.util
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make_reproduce_page", DOCS / "reproduce" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures():
    return json.loads((DOCS / "reproduce" / "figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text():
    return (DOCS / "reproduce" / "text.txt").read_text(encoding="utf-8")


def test_page_is_what_the_verb_printed_of_the_committed_study(made, figures, text):
    assert (DOCS / "reproduce.md").read_text(encoding="utf-8") == made.page(figures, text)


def test_text_is_of_the_committed_figures(figures, text):
    """Every error of the whole node and every share stand there as they do in figures.json."""
    for name in ("one", "four"):
        for way, figure in figures["holistic"][name].items():
            size = abs(figure["here"]) if "model" in way or way == "affine" else figure["here"]
            form = f"{size:.1f}" if "model" in way or way == "affine" else f"{size:+.1f}"
            assert form in text, (name, way)
    for setting in figures["tracing"]:
        assert f"{100 * setting['figures']['few_share']['here']:.0f} %" in text


def test_figures_bear_out_what_the_page_claims(figures):
    assert figures["nodes"] == 50
    slow = {one["field"]: one["figures"] for one in figures["tracing"]}  # the last of each: slowest calls
    assert slow["mean"]["nvml_epoch_r"]["here"] < slow["mean"]["smi_epoch_r"]["here"] + 0.05
    assert slow["quick"]["nvml_epoch_r"]["here"] > slow["quick"]["smi_epoch_r"]["here"] + 0.1
    for one in figures["tracing"]:
        assert one["figures"]["smi_epoch_j_r"]["here"] > one["figures"]["smi_epoch_r"]["here"]
        assert abs(one["figures"]["meter_bias_w"]["here"]) > 5
    four = figures["holistic"]["four"]
    assert four["node model"]["median"] < abs(four["lower bound"]["median"])
    assert four["Code Carbon 3"]["here"] < four["Code Carbon 2"]["here"] < four["lower bound"]["here"] < 0


def test_picture_is_there_and_small():
    data = (DOCS / "reproduce" / "reproduce.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 500_000
