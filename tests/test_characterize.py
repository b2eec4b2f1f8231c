# SPDX-License-Identifier: Apache-2.0
"""The verb `characterize`, and what it changes: from a live recording to the next one's sensor models."""

import json

import numpy as np
import pytest
from test_fit import MEASURED, board_of, needs_measured, watched
from traces import S

from powersample import store
from powersample.cli import main
from powersample.errors import BadFormat, InputNotFound
from powersample.loads import EdgeLog, edge_file
from powersample.readers import read_edges
from powersample.sim import Node


@pytest.fixture
def watched_file(tmp_path):
    sensor = board_of("v100", 3).sensors["instant"]
    trace = watched(sensor, "instant", tmp_path, seconds=3)
    path = tmp_path / "run.parquet"
    store.save(trace, path)
    return path, sensor, trace


def told(capsys, *arguments):
    code = main(["characterize", *map(str, arguments), "--json"])
    out = capsys.readouterr()
    assert code == 0, out.err
    return json.loads(out.out), out.err


def test_verb_tells_a_file_with_its_truth(watched_file, capsys):
    path, sensor, _ = watched_file
    (one,), simulated = (told(capsys, path)[0][key] for key in ("sensors", "simulated"))
    assert simulated
    assert one["figures"]["period_s"]["value"] == pytest.approx(sensor.period_ns / S, rel=0.005)
    assert one["figures"]["window_s"]["value"] == pytest.approx(sensor.window_ns / S, rel=0.1)
    assert one["reference"] == "the simulated truth"
    assert main(["characterize", str(path)]) == 0
    text = capsys.readouterr().out
    assert "SIMULATED" in text
    assert "averaging window W" in text


def test_verb_takes_the_load_from_a_file_of_edges(watched_file, tmp_path, capsys):
    path, sensor, trace = watched_file
    exact = trace.series("truth.gpu0.energy")
    power = np.diff(exact.value) / np.diff(exact.t_ns)
    from_ns = trace.series("gpu0.power").t0_ns[0]
    lines = ["time,level"] + [
        f"{(t - from_ns) / 1e9:.9f},{int(p > power.mean())}" for t, p in zip(exact.t_ns, [*power, 0], strict=True)
    ]
    edges = tmp_path / "edges.csv"
    edges.write_text("\n".join(lines))
    (one,) = told(capsys, path, "--edges", edges)[0]["sensors"]
    assert one["figures"]["window_s"]["value"] == pytest.approx(sensor.window_ns / S, rel=0.1)
    assert not one["calibrated"]
    assert one["reference"] == "the edges of edges.csv"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["FILE", "--rate", "10"], "--rate"),
        (["FILE", "--edges", "a.csv", "--reference", "b.csv"], "exclude"),
        (["--edges", "a.csv"], "FILE"),
        (["--board", "3"], "--simulate"),
        (["--simulate", "h100", "--duration", "0.2"], "duration"),
    ],
)
def test_verb_refuses_what_does_not_go_together(arguments, word, capsys):
    assert main(["characterize", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_verb_refuses_to_keep_a_simulated_board_among_real_ones(watched_file, capsys):
    assert main(["characterize", str(watched_file[0]), "--store"]) == 1
    assert "--directory" in capsys.readouterr().err


def test_edges_are_read_with_their_line_in_every_error(watched_file, tmp_path):
    trace, path = watched_file[2], tmp_path / "e.csv"
    path.write_text("time,power_w\n0.5,100\n1,200\n2.5,0\n")
    t_ns, power_w, watts = read_edges(path, trace)
    assert list(t_ns - t_ns[0]) == [0, S // 2, 2 * S]
    assert (list(power_w), watts) == ([100, 200], True)
    for content, word in [
        ("t,p\n0,1\n", "line 1"),
        ("time,level\n0,1\n0,2\n", "line 3"),
        ("time,level\n0,1\nx,2\n", "line 3"),
        ("time,level\n0,1\n1,nan\n", "line 3"),
        ("time,level\n0,1\n1\n", "line 3"),
        ("time,level\n0,1\n", "least"),
    ]:
        path.write_text(content)
        with pytest.raises(BadFormat, match=word):
            read_edges(path, trace)
    with pytest.raises(InputNotFound):
        read_edges(tmp_path / "none.csv", trace)


def test_edges_of_a_load_are_how_many_of_its_threads_worked(watched_file, tmp_path):
    trace, path = watched_file[2], tmp_path / "e.csv"
    rise_ns, thread = np.array([10, 12, 30]) * S, np.array([0, 1, 0])
    log = EdgeLog("made up", rise_ns, rise_ns + 5 * S, thread, np.zeros(3, np.int64))
    edge_file.save(log, path)
    t_ns, level, watts = read_edges(path, trace)
    assert t_ns.tolist() == [second * S for second in (9, 10, 12, 15, 17, 30, 35, 36)]
    assert (level.tolist(), watts) == ([0, 1, 2, 1, 0, 1, 0], False)


@needs_measured
def test_verb_names_where_a_published_board_contradicts_the_table(capsys):
    """The workbook's rise of 210-310 ms is the table's lag of 114 ms; this board shows its window and no lag."""
    log = MEASURED / "square_3090"
    data, _ = told(
        capsys, log / "gpudata.csv", "--reference", log / "PMD_data.bin", "--shift", "3599.95",
        "--gpu", "NVIDIA GeForce RTX 3090", "--channel", "gpu0.power.instant",
    )  # fmt: skip
    (one,) = data["sensors"]
    assert one["figures"]["window_s"]["value"] == pytest.approx(0.1, rel=0.02)
    assert [text.split()[0] for text in one["disagreements"]] == ["lag"]
    assert one["agrees"] is False


def test_what_is_told_live_goes_before_the_table_in_the_next_recording(tmp_path, monkeypatch, capsys):
    """A simulated V100 under square waves; its figures are kept in a folder of their own, and read from there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    kept = tmp_path / "powersample" / "sensors"
    data, err = told(
        capsys,
        "--simulate",
        "v100+none",
        "--board",
        9,
        "--duration",
        2.5,
        "--rate",
        1000,
        "--store",
        "--directory",
        kept,
    )
    one = data["sensors"][0]
    assert data["simulated"]
    assert "kept in" in err
    with Node("v100", board_seed=9) as node:
        true_s = node.boards[0].sensors["instant" if "instant" in node.boards[0].sensors else "usage"].period_ns / S
    assert one["figures"]["period_s"]["value"] == pytest.approx(true_s, rel=0.02)
    output = tmp_path / "next.parquet"
    assert (
        main(["record", "--simulate", "v100+none", "--board", "9", "--duration", "0.2", "-q", "-o", str(output)]) == 0
    )
    model = store.load(output).meta["sensor_models"][one["channel"]]
    assert model["period_s"] == one["figures"]["period_s"]["value"]
    assert model["origin"]["period_s"] == one["origin"]
    assert (
        main(["record", "--simulate", "h100+none", "--duration", "0.2", "-q", "-o", str(tmp_path / "h.parquet")]) == 0
    )
    origins = store.load(tmp_path / "h.parquet").meta["sensor_models"]["gpu0.power.instant"]["origin"].values()
    assert not any("characterized" in origin for origin in origins)
