# SPDX-License-Identifier: Apache-2.0
"""`report --png` and `--svg`: power over time for a paper, which says what was measured how."""

import re
import resource
import subprocess
import sys

import numpy as np
import pytest
from traces import S, channel, node, polls, series

from powersample.cli import main
from powersample.errors import InvalidArgument
from powersample.model import Trace, Window
from powersample.report import build, power_plot
from powersample.report.power_plot import plot
from powersample.store import save

BOARD = {"uuid": "GPU-0", "name": "NVIDIA H100 PCIe", "architecture": "hopper", "index": 0}
WINDOWS = [Window("run", 0, 10 * S), *(Window(f"epoch {i}", 5 * i * S, 5 * (i + 1) * S) for i in range(2))]


def words(trace, path, name="run.parquet"):
    """The texts of the picture."""
    plot(trace, build(trace), path, name)
    return re.findall(r"<text [^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def test_picture_says_what_was_measured_how(tmp_path):
    trace = node(2, windows=WINDOWS, meta={"devices": [BOARD], "driver": "535.247.01", "host": "n1"})
    said = "\n".join(words(trace, tmp_path / "x.svg"))
    for one in ("gpu0, NVIDIA H100 PCIe", "gpu1", "power.instant", "epoch 0", "epoch 1", "W", "driver 535.247.01"):
        assert one in said
    assert "time since the first reading, s" in said
    caption = " ".join(said.split())
    assert "run: 3000.0 J (no interval, unrated) in 10.00 s, of GPU." in caption
    assert "Powers as read, each value until the next, read at 100 Hz." in caption
    assert "mean of a window, 95 % interval" in said
    assert "SIMULATED" not in said


@pytest.mark.parametrize("gpus", [1, 8, 16])
def test_caption_is_three_lines_however_many_devices_there_are(gpus, tmp_path):
    meta = {"host": "node-17.cluster.example", "driver": "535.247.01", "simulated": True}
    trace = node(gpus, windows=WINDOWS, meta={**meta, "simulated_node": {"profile": "h100"}})
    said = words(trace, tmp_path / "x.svg", "a-recording-of-a-training-of-some-length.parquet")
    first = next(i for i, line in enumerate(said) if line.startswith("a-recording"))
    last = next(i for i, line in enumerate(said) if "read at 100 Hz." in line)
    assert last - first == 2
    assert ("4 more devices are not drawn" in said[last]) == (gpus == 16)


def test_names_of_windows_are_written_where_they_fit(tmp_path):
    windows = [Window("training of a network with a long name", 0, 9 * S), Window("validation", 9 * S, round(9.2 * S))]
    said = words(node(windows=windows), tmp_path / "x.svg")
    assert "training of a network with a long name" in said
    assert "validation" not in said


def test_simulated_picture_says_so_above_and_below(tmp_path):
    trace = node(windows=WINDOWS, meta={"simulated": True, "simulated_node": {"profile": "h100"}})
    said = words(trace, tmp_path / "x.svg")
    assert "SIMULATED NODE h100, not a measurement" in said
    assert any(one.endswith("SIMULATED, not a measurement.") for one in said)


@pytest.mark.parametrize(("end", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_picture_is_of_the_kind_that_its_name_says(end, magic, tmp_path):
    trace = node(windows=[Window(r"a & <b> $\frac{$", 0, 10 * S)])
    path = tmp_path / f"x{end}"
    plot(trace, build(trace), path, "na$me.parquet")
    assert path.read_bytes().startswith(magic)


def test_nothing_to_draw_is_refused(tmp_path):
    failed = series(channel(), polls(0, 1, 10), np.zeros(101), np.full(101, 15, np.uint16))
    for trace in (Trace.of([]), Trace.of([failed])):
        with pytest.raises(InvalidArgument, match="nothing to draw"):
            plot(trace, build(trace), tmp_path / "x.png", "run.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["png", "svg"])
def test_picture_that_cannot_be_written_leaves_the_old_one_and_is_named(end, tmp_path):
    """As `ulimit -f 16` does it: a write of more than so many bytes fails."""
    recording, path = tmp_path / "run.parquet", tmp_path / f"x.{end}"
    save(node(windows=WINDOWS), recording)
    path.write_bytes(b"the old one")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    verb = "import sys; from powersample.cli import main; sys.exit(main())"
    line = [sys.executable, "-c", verb, "report", str(recording), f"--{end}", str(path), "--force"]
    told = subprocess.run(line, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert path.read_bytes() == b"the old one"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["run.parquet", path.name]
    assert f"{path} would be larger than a file may be here" in told.stderr
    assert "ulimit -f" in told.stderr


def test_line_is_broken_at_a_gap(tmp_path):
    t_ns = polls(0, 10, 10)
    t_ns = t_ns[(t_ns < 3 * S) | (t_ns > 5 * S)]
    whole, broken = tmp_path / "whole.svg", tmp_path / "broken.svg"
    for path, times in ((whole, polls(0, 10, 10)), (broken, t_ns)):
        trace = Trace.of([series(channel(), times, np.full(len(times), 100_000))])
        plot(trace, build(trace), path, "x")
    paths = (re.findall(r' d="([^"]+)"', path.read_text(encoding="utf-8")) for path in (whole, broken))
    moves = [max(len(re.findall("M ", one)) for one in each) for each in paths]
    assert moves == [1, 2]


def test_verb_draws_both_kinds_and_refuses_what_it_cannot(tmp_path, capsys, monkeypatch):
    recording = tmp_path / "run.parquet"
    save(node(windows=WINDOWS), recording)
    png, svg = tmp_path / "x.png", tmp_path / "x.svg"
    assert main(["report", str(recording), "--png", str(png), "--svg", str(svg)]) == 0
    assert capsys.readouterr().err == f"powersample: wrote {png}\npowersample: wrote {svg}\n"
    assert main(["report", str(recording), "--png", str(png)]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["report", str(recording), "--svg", str(tmp_path / "y.png")]) == 2
    assert "let it end in .svg" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert main(["report", str(recording), "--svg", str(tmp_path / "y.svg")]) == 1
    assert "--svg needs matplotlib" in capsys.readouterr().err


def test_boards_of_one_model_share_a_range_and_others_have_their_own(tmp_path, monkeypatch):
    """400 W beside 100 W: two curves of one height would look alike."""
    t_ns = polls(0, 10, 10)
    watts = {"gpu0": 400, "gpu1": 100, "gpu2": 50}
    parts = [
        series(channel(f"{name}.power.instant", device=f"GPU-{name}"), t_ns, np.full(len(t_ns), 1000 * w))
        for name, w in watts.items()
    ]
    models = {"gpu0": "A", "gpu1": "A", "gpu2": "B"}
    boards = [{**BOARD, "uuid": f"GPU-{name}", "name": model} for name, model in models.items()]
    trace = Trace.of(parts, windows=WINDOWS, meta={"devices": boards})
    tops = []
    monkeypatch.setattr(power_plot, "save_figure", lambda figure, *_: tops.extend(a.get_ylim()[1] for a in figure.axes))
    plot(trace, build(trace), tmp_path / "x.svg", "x")
    assert tops[0] == tops[1] > 400
    assert 50 < tops[2] < 100


def test_verb_draws_the_devices_that_are_asked_for(tmp_path, capsys):
    recording, svg = tmp_path / "run.parquet", tmp_path / "x.svg"
    t_ns = polls(0, 10, 10)
    names = [f"gpu{i}.power.instant" for i in range(14)]
    save(Trace.of([series(channel(one, device=one), t_ns, np.full(len(t_ns), 100_000)) for one in names]), recording)
    line = ["report", str(recording), "--svg", str(svg), "--force"]
    assert main([*line, "--device", "gpu1[0-3]", "--device", "gpu2"]) == 0
    said = re.findall(r"<text [^>]*>([^<]*)</text>", svg.read_text(encoding="utf-8"))
    assert {one for one in said if re.fullmatch(r"gpu\d+", one)} == {"gpu2", "gpu10", "gpu11", "gpu12", "gpu13"}
    assert any("9 more devices are not drawn" in one for one in said)
    capsys.readouterr()
    assert main([*line, "--device", "gpu99"]) != 0
    assert "no device 'gpu99'" in capsys.readouterr().err
    assert main(["report", str(recording), "--device", "gpu2"]) == 2
    assert "--png and --svg" in capsys.readouterr().err
