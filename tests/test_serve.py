# SPDX-License-Identifier: Apache-2.0
"""`powersample serve` as it is typed: what it refuses, where it writes, how it ends and goes on."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import pytest
from watching import OPENMETRICS, TIMEOUT_S, closing, fetch, read, serving_of, values

pytest.importorskip("prometheus_client", reason="the extra [serve] is not installed")


@contextlib.contextmanager
def command(*options):
    """Start `powersample serve`; yield it and the URL that it serves."""
    arguments = [sys.executable, "-m", "powersample.cli", "serve", "--listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving (http://\S+)", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.kill()
        process.communicate()


def package_j(url):
    """Return the package's energy, once there is one."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = read(fetch(url, Accept=OPENMETRICS)[2].decode(), "openmetrics")
        if got := values(found, "powersample_energy_joules_total", device="package-0", domain="package"):
            return got[0]
        time.sleep(0.1)
    raise AssertionError("no energy")


def test_counter_goes_on_after_the_server_was_killed_or_ended(tmp_path):
    """Killed first, with the account open; then ended in order, which closes it."""
    state = ("--simulate", "h100+intel_spr", "--state", str(tmp_path / "a.json"))
    with command(*state) as (process, url):
        before_j = package_j(url)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
    with command(*state) as (process, url):
        after_j = package_j(url)
        assert after_j >= before_j > 0
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
        assert "Traceback" not in said
    with closing(tmp_path / "a.json", "h100+intel_spr") as file:
        assert file.kept["package-0/package"]["joules"] >= after_j
        assert file.kept["package-0/package"]["unseen_s"] > 0
    assert json.loads((tmp_path / "a.json").read_text())["closed"]


def test_command_writes_a_textfile_as_a_whole_and_ends_by_itself(tmp_path, capsys):
    from powersample.cli import main

    path = tmp_path / "powersample.prom"
    options = ["--textfile", str(path), "--every", "0.2", "--duration", "0.7"]
    assert main(["serve", "--simulate", "h100+none", *options]) == 0
    found = read(path.read_text(), "text/plain")
    assert values(found, "powersample_energy_joules_total", device="gpu0", simulated="h100+none")
    assert path.stat().st_mode & 0o444 == 0o444
    assert sorted(one.name for one in tmp_path.iterdir()) == ["powersample.prom"]
    said = capsys.readouterr().err
    assert said.startswith("powersample: SIMULATED NODE h100+none, not a measurement\n")
    assert "serving" not in said


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--textfile", "x.txt"], 2, "end in .prom"),
        (["--textfile", "/nowhere/x.prom"], 1, "not a folder"),
        (["--every", "0"], 2, "above 0"),
        (["--load", "idle"], 2, "--simulate"),
        (["--simulate", "h100", "--load", "cpu"], 2, "program"),
        (["--simulate", "h100", "--listen", "nowhere"], 2, "HOST:PORT"),
        (["--nvml-lib", "/nowhere/libnvidia-ml.so.1", "--sources", "nvml", "--state", "none"], 3, "doctor"),
    ],
)
def test_command_refuses_what_cannot_be(options, code, said, capsys):
    from powersample.cli import main

    assert main(["serve", *options]) == code
    assert said in capsys.readouterr().err


def test_command_on_a_port_that_is_taken_says_whose_it_is_and_keeps_no_lane(capsys):
    from powersample.cli import main

    with serving_of() as server:
        where = f"127.0.0.1:{server.server_address[1]}"
        assert main(["serve", "--simulate", "h100+none", "--listen", where]) == 1
    said = capsys.readouterr().err
    assert f"{where} is taken by" in said
    assert "--listen 127.0.0.1:PORT" in said
