# SPDX-License-Identifier: Apache-2.0
"""`powersample record` in a process of its own: what ends it, what it runs on, and what it leaves."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from commands import POWERSAMPLE, powersample
from unprivileged import unprivileged_python

from powersample import store
from powersample.sim import Node


def test_record_program_killed_by_a_signal_keeps_the_trace(tmp_path):
    done = powersample(
        "record",
        "--simulate",
        "h100",
        "-o",
        "x.parquet",
        "--",
        "sh",
        "-c",
        "ulimit -c 0; kill -9 $$",
        cwd=tmp_path,
    )
    assert done.returncode == 137, done.stderr
    assert store.load(tmp_path / "x.parquet").meta["exit_code"] == 137


def a_recording(folder: Path):
    """Return a `record` in a session of its own, once its program runs: for a minute, or until somebody ends it."""
    ready = folder / "ready"
    process = subprocess.Popen(
        [
            # Under nohup, or in the background of a script, SIGINT is ignored from birth, and rightly stays so.
            *("env", "--default-signal=INT"),
            *POWERSAMPLE,
            *("record", "--simulate", "h100", "-o", "x.parquet", "--", "sh", "-c", f"touch {ready}; exec sleep 60"),
        ],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(ready, process)
    return process


def test_record_interrupted_by_sigint_completes_the_trace(tmp_path):
    process = a_recording(tmp_path)
    process.send_signal(signal.SIGINT)
    _, trouble = process.communicate(timeout=60)
    assert process.returncode == 130, trouble
    trace = store.load(tmp_path / "x.parquet")
    assert trace.windows[0].flags == ()
    assert len(trace.series("gpu0.power.instant"))


def test_recover_gets_a_killed_recording_back(tmp_path):
    process = a_recording(tmp_path)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = powersample("recover", "x.parquet.spool", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trace = store.load(tmp_path / "x.parquet")
    assert trace.simulated
    assert len(trace.series("gpu0.power.instant")) > 50
    assert "open" in trace.windows[0].flags
    assert powersample("report", "x.parquet", cwd=tmp_path).returncode == 0


def wait_for(path: Path, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "ended before it was ready"
        assert time.monotonic() < end, "never ready"
        time.sleep(0.02)


def test_record_without_a_command_takes_the_machine_for_a_while(tmp_path):
    done = powersample("record", "--simulate", "a100x2", "--duration", "0.5", "-o", "x.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trace = store.load(tmp_path / "x.parquet")
    assert {c.device for c in trace.channels.values() if c.name.startswith("gpu")} == set(
        device["uuid"] for device in trace.meta["devices"]
    )
    assert trace.windows[0].duration_s == pytest.approx(0.5, abs=0.4)


def test_record_load_script_drives_the_simulated_gpu(tmp_path):
    (tmp_path / "load.csv").write_text("seconds,watts\n0,400\n")
    done = powersample(
        "record",
        "--simulate",
        "a100",
        "--load",
        "script:load.csv",
        "-o",
        "x.parquet",
        "--",
        "sleep",
        "0.5",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(powersample("report", "x.parquet", "--json", cwd=tmp_path).stdout)
    assert data["windows"][0]["totals"]["gpu_j"] == pytest.approx(400 * data["windows"][0]["duration_s"], rel=0.05)


def test_record_uses_a_library_by_path(tmp_path):
    """What a person with an unusual driver location does."""
    with Node("v100") as node:
        done = powersample("record", "--nvml-lib", node.library, "--duration", "0.3", "-o", "x.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert store.load(tmp_path / "x.parquet").simulated


def test_record_on_a_disk_that_fills_up_answers_with_the_programs_code_and_says_how_to_go_on(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    probe = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=200k none "$0"']
    if shutil.which("unshare") is None or subprocess.run([*probe, small], capture_output=True).returncode != 0:
        pytest.skip("a small file system needs a mount namespace, which this machine does not allow")
    program = 'mount -t tmpfs -o size=200k none "$0" && cd "$0" && "$@"; code=$?; find . -size 0; exit $code'
    record = ["record", "--simulate", "h100x4", "--rate", "1000", "-o", "x.parquet"]
    record += ["--", "sh", "-c", "sleep 1; exit 5"]
    done = subprocess.run(
        [*probe[:-1], program, str(small), *POWERSAMPLE, *record], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 5, done.stderr
    assert "No space left" in done.stderr or "no space left" in done.stderr
    assert "powersample recover x.parquet.spool" in done.stderr
    assert "Traceback" not in done.stderr
    assert ".new" not in done.stdout


def test_record_and_report_work_for_an_unprivileged_user():
    python = unprivileged_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for arguments in (
            ["record", "--simulate", "h100x8", "-o", "x.parquet", "--", "sleep", "0.5"],
            ["report", "x.parquet"],
            ["record", "--simulate", "v100", "-o", "y.parquet", "--duration", "0.3"],
        ):
            done = subprocess.run(
                [*python, "-m", "powersample.cli", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
        trace = store.load(folder / "x.parquet")
        assert trace.meta["uid"] == (65534 if os.getuid() == 0 else os.getuid())
        assert all(len(trace.series(f"gpu{i}.power.instant")) for i in range(8))


def test_record_on_a_machine_without_a_driver_says_what_to_do():
    """The very first thing that many people will see."""
    if Path("/sys/module/nvidia").exists() or Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA driver")
    with tempfile.TemporaryDirectory() as name:
        done = powersample("record", "--sources", "nvml", "-o", "x.parquet", "--", "true", cwd=name)
    assert done.returncode == 3
    assert "--simulate h100" in done.stderr
    assert "driver" in done.stderr
