# SPDX-License-Identifier: Apache-2.0
"""The command line as a person types it, each in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from commands import POWERSAMPLE, powersample

from powersample import cli, store
from powersample.cli import report
from powersample.model import Trace


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """One recording that the reading tests share."""
    folder = tmp_path_factory.mktemp("recorded")
    program = (
        "import time, powersample as ps\n"
        "with ps.window('epoch 0'):\n"
        "    end = time.monotonic() + 0.6\n"
        "    while time.monotonic() < end: pass\n"
        "with ps.window('epoch 1'): time.sleep(0.6)\n"
        "print('the program speaks')\n"
        "raise SystemExit(7)\n"
    )
    done = powersample(
        "record", "--simulate", "h100", "-o", "run.parquet", "--", sys.executable, "-c", program, cwd=folder
    )
    return folder, done


def test_record_passes_exit_code_and_output_on(recorded):
    _, done = recorded
    assert done.returncode == 7, done.stderr
    assert done.stdout == "the program speaks\n"
    assert "powersample report run.parquet" in done.stderr


def test_record_leaves_one_file(recorded):
    folder, _ = recorded
    assert sorted(p.name for p in folder.iterdir()) == ["run.parquet"]


def test_record_takes_the_programs_windows(recorded):
    folder, _ = recorded
    trace = store.load(folder / "run.parquet")
    assert [w.name for w in trace.windows] == ["run", "epoch 0", "epoch 1"]
    assert trace.meta["exit_code"] == 7


def test_record_stores_no_arguments_unless_asked(recorded):
    folder, _ = recorded
    command = store.load(folder / "run.parquet").meta["command"]
    assert command["argv"] is None
    assert command["program"] == os.path.basename(sys.executable)
    assert len(command["argv_sha256"]) == 64


def test_report_json_has_the_promised_fields(recorded):
    folder, _ = recorded
    done = powersample("report", "run.parquet", "--json", cwd=folder)
    data = json.loads(done.stdout)
    assert done.returncode == 0
    assert data["schema_version"] == 1
    assert data["simulated"]
    windows = {w["name"]: w for w in data["windows"]}
    assert set(windows) == {"run", "epoch 0", "epoch 1"}
    totals = windows["epoch 0"]["totals"]
    assert set(totals) >= {"gpu_j", "cpu_j", "dram_j", "node_j", "low_j", "high_j", "verdict"}
    assert totals["verdict"] in ("good", "fair", "poor", "unusable")
    assert totals["low_j"] < totals["gpu_j"] + totals["cpu_j"] + totals["dram_j"] < totals["high_j"]
    primary = [e for e in windows["epoch 0"]["energies"] if e["primary"]]
    assert [(e["device"].partition("-")[0], e["domain"]) for e in primary] == [
        ("GPU", "gpu"),
        ("package", "package"),
        ("package", "dram"),
        ("psys", "psys"),
        ("power_meter", "psys"),
    ]
    assert all(e["joules"] == pytest.approx(e["truth_j"], rel=0.05) for e in primary[1:4])  # the meter means over 1 s
    assert set(primary[0]) >= {
        "channel",
        "device",
        "domain",
        "joules",
        "low_j",
        "high_j",
        "method",
        "verdict",
        "reasons",
        "budget",
        "truth_j",
    }
    assert primary[0]["joules"] == pytest.approx(primary[0]["truth_j"], rel=0.35)
    assert windows["epoch 0"]["totals"]["gpu_j"] > 1.5 * windows["epoch 1"]["totals"]["gpu_j"]
    assert {"name", "asked_hz", "polls", "updates", "errors", "skipped", "dropped"} <= set(data["channels"][0])
    assert {"lanes", "clock", "checks", "meta"} <= set(data)


def test_report_text_begins_with_what_it_is_not(recorded):
    folder, _ = recorded
    done = powersample("report", "run.parquet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SIMULATED NODE h100, not a measurement\n")
    assert "epoch 1" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_report_to_a_full_disk_says_so_once(recorded):
    folder, _ = recorded
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*POWERSAMPLE, "report", "run.parquet"], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "powersample: standard output cannot be written: No space left on device\n"


def test_report_of_a_window_that_the_terminal_cannot_spell_is_printed(recorded, tmp_path):
    folder, _ = recorded
    trace = store.load(folder / "run.parquet")
    epoch = next(w for w in trace.windows if w.name == "epoch 0")
    named = Trace.of(
        [trace.series("gpu0.energy")], windows=[replace(epoch, name="épreuve")], meta=trace.meta, lanes=trace.lanes
    )
    store.save(named, tmp_path / "x.parquet")
    done = powersample("report", "x.parquet", cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "\\xe9preuve" in done.stdout


def test_recover_into_a_missing_folder_says_so_and_keeps_the_spool(tmp_path):
    spool = tmp_path / "x.parquet.spool"
    spool.mkdir()
    (spool / "session.json").write_text("{}")
    done = powersample("recover", spool, "-o", "/missing/x.parquet", cwd=tmp_path)
    assert done.returncode == 1
    assert "/missing is not a folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert (spool / "session.json").exists()


def test_unexpected_system_error_is_one_line_with_the_file_and_the_cause(monkeypatch, capsys):
    def fails(_options):
        raise OSError(5, "Input/output error", "/data/run.parquet")

    monkeypatch.setattr(report, "run", fails)
    assert cli.main(["report", "run.parquet"]) == 1
    assert capsys.readouterr().err == "powersample: report: /data/run.parquet: Input/output error\n"


def test_record_into_a_name_that_is_no_utf8(tmp_path):
    name = os.fsdecode(b"r\xe9sultat.parquet")
    done = powersample("record", "--simulate", "h100", "-o", name, "--", "true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert powersample("report", name, cwd=tmp_path).returncode == 0


def test_record_refuses_to_overwrite(recorded):
    folder, _ = recorded
    done = powersample("record", "--simulate", "h100", "-o", "run.parquet", "--", "true", cwd=folder)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert "--force" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ("record", "--simulate", "h100", "-o", "x.parquet", "--", "no-such-program"),
            127,
            "command not found",
        ),
        (("record", "--simulate", "h100", "-o", "x.parquet", "--", "/etc"), 126, "directory"),
        (("record", "--simulate", "h100", "-o", "no/x.parquet", "--", "true"), 1, "create it first"),
        (("record", "--simulate", "z80", "-o", "x.parquet", "--", "true"), 2, "h100"),
        (("record", "--simulate", "h100x99", "-o", "x.parquet", "--", "true"), 2, "16"),
        (("record", "--simulate", "h100", "--rate", "0", "-o", "x.parquet", "--", "true"), 2, "rate"),
        (("record", "--simulate", "h100", "--rate", "fast", "-o", "x.parquet", "--", "true"), 2, "auto"),
        (("record", "--simulate", "h100", "--rate", "1e9", "-o", "x.parquet", "--", "true"), (1, 2), "rate"),
        (("record", "--simulate", "h100", "--gpus", "5", "-o", "x.parquet", "--", "true"), 1, "not here"),
        (
            ("record", "--simulate", "h100", "--sources", "geiger", "-o", "x.parquet", "--", "true"),
            2,
            "geiger",
        ),
        (("record", "--simulate", "h100", "--load", "magic", "-o", "x.parquet", "--", "true"), 2, "script:"),
        (("record", "--load", "cpu", "-o", "x.parquet", "--", "true"), 2, "--simulate"),
        (("record", "--nvml-lib", "/no/lib.so", "-o", "x.parquet", "--", "true"), 3, "--simulate h100"),
        (("record", "-o", "x.parquet"), 2, "COMMAND"),
        (("report", "missing.parquet"), 1, "missing.parquet"),
        (("report", "/etc/hostname"), 1, "/etc/hostname"),
        (("report", "--", "missing.parquet"), 1, "missing.parquet"),
        (("report", "--"), 2, "FILE"),
        (("recover", "missing.spool"), 1, "missing.spool"),
        (("record", "--simulate", "h100", "--duration", "nan", "-o", "x.parquet"), 2, "above 0"),
        (("record", "--simulate", "h100", "--duration", "-5", "-o", "x.parquet"), 2, "above 0"),
        (("record", "--simulate", "h100", "--duration", "0", "-o", "x.parquet"), 2, "above 0"),
        (("frobnicate",), 2, "frobnicate"),
        ((), 2, "VERB"),
    ],
)
def test_bad_input_gives_a_clear_error_and_leaves_nothing(arguments, code, words, tmp_path):
    done = powersample(*arguments, cwd=tmp_path)
    assert done.returncode in (code if isinstance(code, tuple) else (code,)), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["record", "-o", "x.parquet", "python", "train.py", "--epochs", "3"],
            2,
            "unrecognized arguments: --epochs 3; put -- before the program: "
            "powersample record -o x.parquet -- python train.py --epochs 3",
        ),
        (["record", "train", "-o", "m.pt"], 2, "put -- before the program: powersample record -- train -o m.pt"),
        (["record", "-o", "d.csv", "--", "true"], 2, "-o d.csv: a trace is a Parquet file"),
        (["record", "-o", "D.JSON", "--", "true"], 2, "Name it D.parquet"),
        (["recover", "nosuch"], 1, "there is no folder nosuch. A recording that was killed leaves OUT.spool"),
        (["recover", "run.parquet"], 1, "Did you mean run.parquet.spool?"),
        (["record", "--nvml-lib", "/no/lib.so", "--sources", "nvml", "--", "train.py", "-n", "3"], 3,
         "The program was not started: train.py -n 3"),
    ],
)  # fmt: skip
def test_what_newcomers_get_wrong_is_answered_with_what_to_write(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.parquet.spool").mkdir()
    try:
        answered = cli.main(arguments)
    except SystemExit as error:
        answered = error.code
    said = capsys.readouterr().err
    assert answered == code
    assert words in " ".join(said.split())
    assert "ps_" not in said
    assert [one.name for one in tmp_path.iterdir()] == ["run.parquet.spool"]


@pytest.mark.parametrize("verb", ["doctor", "demo", "record", "report", "recover"])
def test_help_of_every_verb_has_an_example(verb, tmp_path):
    done = powersample(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"powersample {verb}" in done.stdout.split("example")[1]


def test_help_imports_nothing_heavy(tmp_path):
    program = (
        "import sys\nfrom powersample.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'matplotlib', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["recrod"], "record"),
        (["record", "--simulte", "h100", "--", "true"], "--simulate"),
        (["record", "--simulate", "h10", "--", "true"], "h100"),
        (["record", "--simulate", "h100+amd_millan", "--", "true"], "amd_milan"),
        (["record", "--sources", "nvml,rapll", "--", "true"], "rapl"),
        (["record", "--meter", "lmg45:/dev/none", "--", "true"], "lmg450"),
        (["export", "none.parquet", "-f", "perfeto"], "perfetto"),
        (["export", "none.parquet", "-o", "run.cvs.gz"], ".csv"),
    ],
)
def test_mistyped_word_is_told_what_is_like_it(arguments, meant, capsys):
    try:
        code = cli.main(arguments)
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert f"Did you mean {meant!r}?" in " ".join(capsys.readouterr().err.split())


def test_word_that_is_like_none_is_told_of_none(capsys):
    with pytest.raises(SystemExit):
        cli.main(["xyzzy"])
    assert "Did you mean" not in capsys.readouterr().err
