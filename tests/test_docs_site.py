# SPDX-License-Identifier: Apache-2.0
"""The site's pages: what they show is what comes out, their code runs, and nothing is fetched from anywhere."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[+-]?\d[\d.]*(?:e[+-]?\d+)?")
EXTERNAL = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", re.IGNORECASE)


def blocks(page, language):
    return [text for kind, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")) if kind == language]


def run_all(codes, names):
    for code in codes:
        exec(compile(code, "page", "exec"), names)
    return names


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Run the commands of the page on verdicts, as they stand there; return the folder and the report."""
    folder = tmp_path_factory.mktemp("verdict")
    (folder / "train.py").write_text(blocks("verdict.md", "python")[0], encoding="utf-8")
    commands = next(text for text in blocks("verdict.md", "") if "record" in text)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = {"cwd": folder, "env": environment, "shell": True, "check": True, "capture_output": True, "text": True}
    return folder, subprocess.run(commands, **run).stdout


def ratio(folder):
    """Return what the page's Python prints of that recording."""
    code = "import powersample as ps\n" + "".join(blocks("verdict.md", "python")[1:])
    return subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True).stdout


def statements(text):
    """Return a report's statements with their numbers masked: a line, with those that go on behind it."""
    whole = re.sub(r"\n {4,}(?! *\S.* {2})", " ", text)  # a wrapped line goes on further in; a budget's has columns
    return [re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip() for line in whole.splitlines() if line.strip()]


def test_example_of_a_verdict_is_what_the_commands_print(recorded):
    """Statement by statement; only how lopsided half an update is may differ."""
    folder, report = recorded
    # A ratio's verdict hangs on where the short window lies between two updates.
    printed = statements(re.sub(r"verdict='(good|fair)'", "verdict='good'", report + ratio(folder)))
    shown = [one for block in blocks("verdict.md", "text") for one in statements(block) if one != "..."]
    assert len(shown) > 15
    for one in shown:
        if one.startswith("batch # #"):
            assert any(re.match(r"batch # # .* unusable #$", line) for line in printed), one
        elif one.endswith("..."):
            assert any(line.startswith(one.removesuffix("...").strip()) for line in printed), one
        else:
            assert one in printed, one


def test_statement_that_nobody_prints_is_found(recorded):
    assert "epoch, gpu#: good" not in statements(recorded[1])
    assert statements("a: 1 J\n    goes on 2.5e+02\n") == ["a: # J goes on #"]


def test_exports_of_the_page_are_written(recorded, monkeypatch):
    """In this process: each is a second by itself."""
    from powersample.cli import main

    monkeypatch.chdir(recorded[0])
    for line in blocks("export.md", "")[0].splitlines():
        assert main(shlex.split(line)[1:]) == 0
    for name in ("run.csv", "run.windows.csv", "small.csv", "run.influx", "run.json"):
        assert "SIM" in Path(name).read_text("utf-8"), name
    assert Path("small.csv").stat().st_size < Path("run.csv").stat().st_size / 10


def test_stat_of_the_page_tells_a_mean(capfd):
    from powersample.cli import main

    command = next(text for text in blocks("stat.md", "") if "--simulate" in text)
    assert main(shlex.split(command)[1:]) == 0
    assert json.loads(capfd.readouterr().out)["simulated"]


def test_permissions_are_what_the_doctor_prints(capsys):
    from powersample.cli import main
    from powersample.doctor.box import HOST_SYS

    page = (DOCS / "permissions.md").read_text("utf-8")
    assert HOST_SYS.removeprefix("docker run ").removesuffix(" ...") in page
    assert main(["doctor", "--print-udev"]) == 0
    for line in re.findall(r"^#   (.*?)(?:      \(.*)?$", capsys.readouterr().out, re.MULTILINE):
        assert line in page


def test_quick_start_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_all(blocks("quickstart.md", "python"), {})
    out = capsys.readouterr().out
    assert "SIMULATED NODE h100, not a measurement" in out
    assert re.search(r"^\d+\.\d J, between \d+\.\d and \d+\.\d: \w+$", out, re.MULTILINE)


def test_code_of_the_page_on_sensors_runs(capsys):
    run_all(blocks("sensors.md", "python"), {})
    out = capsys.readouterr().out
    assert out.startswith("every 100 ms, a mean of 25 ms, from arXiv 2312.02741")
    assert out.count("of the same board") == 2


def test_code_of_the_page_on_windows_runs(capsys):
    run_all(blocks("windows.md", "python"), {})
    shown = capsys.readouterr().out
    assert "epoch 1" in shown
    assert "step" in shown


def test_table_of_the_page_on_sensors_is_the_packages():
    from powersample.sensors import look_up

    generation = {
        "H100": "hopper",
        "A100": "ampere",
        "V100": "volta",
        "P100": "pascal",
        "3090": "ampere",
        "4090": "ada",
    }
    text = (DOCS / "sensors.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| (\w+) \| ([\d.]+) ms \| ([\d.]+) ms \|", text, re.MULTILINE)
    assert len(rows) == 5
    for names, field, period_ms, window_ms in rows:
        for name in names.split(", "):
            model = look_up(field, name=f"NVIDIA {name}", architecture=generation[name.split()[-1]])
            assert model.known
            assert (model.period_s * 1e3, model.window_s * 1e3) == pytest.approx((float(period_ms), float(window_ms)))


def test_levels_of_the_page_on_verdicts_are_those_of_the_analysis():
    from powersample.analysis.interval import verdict

    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) % \|", (DOCS / "verdict.md").read_text("utf-8"), re.MULTILINE))
    assert list(table) == ["good", "fair", "poor"]
    for word, limit in table.items():
        assert verdict(float(limit) * 0.999, 100.0) == word
        assert verdict(float(limit) * 1.001, 100.0) != word


def test_every_page_of_the_navigation_is_there():
    """The build checks links; it runs only where its packages are."""
    named = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert len(named) == len(set(named)) > 15
    assert [name for name in named if not (DOCS / name).is_file()] == []


def test_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found = [one for one in EXTERNAL.findall(page.read_text("utf-8")) if 'rel="canonical"' not in one]
        assert found == [], page
    measuring = (tmp_path / "api" / "measure" / "index.html").read_text("utf-8")
    assert "powersample.session.measure" in measuring
    assert "InvalidArgument" in measuring
