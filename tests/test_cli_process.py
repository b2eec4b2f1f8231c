# SPDX-License-Identifier: Apache-2.0
"""The command among other processes: standard streams that are closed, and signals that ask it to end."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from powersample import store

POWERSAMPLE = [sys.executable, "-m", "powersample.cli"]


def shell(line, cwd, **environment):
    """Run the command with redirections that only a shell can express; `@` is the command."""
    line = line.replace("@", shlex.join(POWERSAMPLE))
    return subprocess.run(
        ["sh", "-c", line], cwd=cwd, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("verb", ["doctor", "doctor --json", "sim h100+none --duration 0.1"])
def test_standard_output_closed_fails_and_says_so(tmp_path, verb):
    done = shell(f"@ {verb} >&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "powersample: standard output is closed; send it to a file, or to /dev/null\n"


def test_standard_error_closed_sends_no_message_elsewhere(tmp_path):
    """Python prints to standard output what it is to print to a stream that is not there."""
    done = shell("@ record --simulate h100+none -o x.parquet -- echo the program speaks 2>&-", tmp_path)
    assert done.returncode == 0
    assert done.stdout == "the program speaks\n"


def test_all_standard_streams_closed_records_all_the_same(tmp_path):
    """A file of the recording takes none of their numbers, where the program's output would go into it."""
    done = shell("@ record --simulate h100+none -o x.parquet -- sh -c 'echo garbage; exit 3' <&- >&- 2>&-", tmp_path)
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]
    assert len(store.load(tmp_path / "x.parquet").series("gpu0.power.instant"))


def begun(cwd, *arguments, until):
    """Start the command and return it once `until` says so; its temporary folders go into `cwd`/tmp."""
    temporary = cwd / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        ["env", "--default-signal", *POWERSAMPLE, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_machine_recorded_until_the_terminal_closes_is_complete(tmp_path):
    spool = tmp_path / "x.parquet.spool"
    arguments = ("record", "--simulate", "h100+none", "--duration", "60", "-o", "x.parquet")
    process = begun(tmp_path, *arguments, until=lambda: any(spool.glob("part-*")))
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp", "x.parquet"]
    assert store.load(tmp_path / "x.parquet").windows[0].name == "run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_demo_asked_to_end_keeps_its_recording_and_no_temporary_folder(tmp_path, number):
    out = tmp_path / "demo.parquet"
    marks = tmp_path / "demo.parquet.spool" / "marks"
    epochs = lambda: marks.exists() and b"epoch" in marks.read_bytes()  # noqa: E731
    process = begun(tmp_path, "demo", "-o", out.name, until=epochs)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(store.load(out).series("gpu0.power.instant"))


def test_hangup_that_is_ignored_stays_so(tmp_path):
    """Under nohup the terminal may close."""
    done = shell(
        "trap '' HUP; @ record --simulate h100+none -q --duration 0.3 -o x.parquet & "
        "until ls x.parquet.spool/part-* >/dev/null 2>&1; do sleep 0.02; done; kill -HUP $!; wait $!",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert store.load(tmp_path / "x.parquet").windows[0].duration_s >= 0.3
