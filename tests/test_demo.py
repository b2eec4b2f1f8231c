# SPDX-License-Identifier: Apache-2.0
"""The demonstration, short: what it promises to print, write and admit."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from powersample import cli, store
from powersample.experiments import demo, plots
from powersample.experiments.demo import run as demo_run


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo.parquet"
    missing = out.parent / "no-nvidia-smi"
    return demo.run_demo(out, epochs=3, epoch_s=0.5, board_seed=3, nvidia_smi=missing), out


def test_demo_native_run_energy_is_near_the_truth_of_a_drawn_board(shown):
    result, _ = shown
    native = demo.to_json(result)["methods"][0]
    assert native["name"] == "native"
    assert abs(native["run_error_pct"]) < 25  # a drawn board may be off by several per cent; the sum must not be
    assert native["polls"] > native["updates_seen"] > 5


def test_demo_lists_a_method_that_could_not_run_with_its_reason(shown):
    result, _ = shown
    methods = {m["name"]: m for m in demo.to_json(result)["methods"]}
    assert not methods["nvidia-smi-lms"]["available"]
    assert "no-nvidia-smi" in methods["nvidia-smi-lms"]["reason"]
    assert "nvidia-smi-lms: not run" in demo.to_text(result)


def test_demo_truth_is_the_traces_own(shown):
    """The table's truth and the file's truth channel are one."""
    result, out = shown
    series = store.load(out).series("truth.gpu0.energy")
    for window, truth_j in zip(result.lap.epochs, result.lap.truth_j, strict=True):
        at = np.interp([window.start_ns, window.end_ns], series.t_ns.astype(float), series.value)
        assert at[1] - at[0] == pytest.approx(truth_j, rel=1e-6)


def test_demo_text_says_first_that_it_is_no_measurement(shown):
    result, _ = shown
    lines = demo.to_text(result).splitlines()
    assert lines[0] == "SIMULATED NODE h100, not a measurement"
    assert max(map(len, lines)) <= 100


def test_demo_json_is_strict_and_complete(shown):
    result, _ = shown
    data = json.loads(json.dumps(demo.to_json(result), allow_nan=False))
    assert data["simulated"] is True
    ran = [m for m in data["methods"] if m["available"]]
    promised = {
        "name", "available", "reason", "asked_hz", "achieved_hz", "polls", "updates_seen", "updates_published",
        "gap_p50_ms", "gap_p99_ms", "gap_max_ms", "epochs", "epochs_at_most_10_polls", "epochs_at_most_10_updates",
        "run_energy_j", "run_error_pct", "epoch_error_pct", "pearson", "spearman", "ks_p", "bias_w", "cpu_s",
    }  # fmt: skip
    assert ran
    assert all(promised <= set(method) for method in ran)


def test_demo_picture_is_a_png(shown, tmp_path):
    result, _ = shown
    demo.write_png(result, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_whose_truth_is_void_says_so_in_text_and_json(shown):
    """A busy machine commits a load too late: then no error is one."""
    result, _ = shown
    trace = result.trace
    told = {"simulated_node": {**trace.meta["simulated_node"], "truth_void": True}}
    voided = type("Voided", (), {"windows": trace.windows, "meta": {**trace.meta, **told}})()
    node = type("Node", (), {"truth_j": staticmethod(lambda gpu, start_ns, end_ns: 1.0)})()
    lap = demo_run._lap(voided, node, result.lap.lengths_s)
    assert "late" in lap.void
    methods = tuple(dataclasses.replace(one, lap=lap) if one.lap else one for one in result.methods)
    again = dataclasses.replace(result, lap=lap, methods=methods)
    assert "The truth is void" in demo.to_text(again)
    assert demo.to_json(again)["methods"][0]["truth_void"] == lap.void


def test_demo_picture_has_the_colours_of_all_pictures(shown, tmp_path, monkeypatch):
    """One palette: a method is of one colour everywhere."""
    asked = []
    colour_of = plots.colour_of
    monkeypatch.setattr(plots, "colour_of", lambda name: asked.append(name) or colour_of(name))
    demo.write_png(shown[0], tmp_path / "demo.png")
    assert {"native", "pynvml-thread"} <= set(asked)


@pytest.mark.parametrize("there", ["mine.parquet", "mine.png"])
def test_demo_command_replaces_nothing_that_is_somebodys(tmp_path, there, capsys):
    (tmp_path / there).write_text("mine")
    assert cli.main(["demo", "-o", str(tmp_path / "mine.parquet"), "--epochs", "1", "--epoch-seconds", "0.3"]) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / there).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_demo_command_prints_json_names_the_next_command_and_leaves_earlier_demos_alone(tmp_path):
    earlier = {"demo.parquet": "of the first demo", "demo-2.png": "of another, whose trace went elsewhere"}
    for name, words in earlier.items():
        (tmp_path / name).write_text(words)
    done = subprocess.run(
        [sys.executable, "-m", "powersample.cli", "demo", "--epochs", "1", "--epoch-seconds", "0.3", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema_version"] == 1
    assert "this one becomes demo-3.parquet and demo-3.png" in done.stderr
    assert "next: powersample report demo-3.parquet" in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {*earlier, "demo-3.parquet", "demo-3.png"}
    assert {name: (tmp_path / name).read_text() for name in earlier} == earlier
