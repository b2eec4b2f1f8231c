# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon on the simulated node: itself where it is installed, a stand-in of its name everywhere."""

import json
import os
import shutil
import subprocess
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from unprivileged import unprivileged_python

from powersample import cli, errors
from powersample.analysis.codecarbon import Uncaptured
from powersample.experiments import codecarbon as experiment
from powersample.experiments.baselines import codecarbon_process
from powersample.experiments.baselines.codecarbon_process import CodecarbonProcess
from powersample.sim import Node

PAPER = Uncaptured(783.0, {"primes": 811.0}, "the paper's figures", "kept")

# Reads what the real one reads, where the real one reads it, and accounts for the seconds in between.
STAND_IN = """
    import glob, time
    from pathlib import Path

    class CPU:
        _mode = {mode!r}

    class OfflineEmissionsTracker:
        def __init__(self, **settings):
            self.folder, self._hardware, self._start_time = settings["output_dir"], [CPU()], None

        def joules(self):
            zones = glob.glob("/sys/class/powercap/intel-rapl:?")
            return sum(int(Path(zone, "energy_uj").read_text()) for zone in zones
                       if "package" in Path(zone, "name").read_text()) / 1e6

        def start(self):
            if {starts}:
                self.begun, self._start_time = self.joules(), time.perf_counter()

        def stop(self):
            kwh, seconds = (self.joules() - self.begun) / 3.6e6, time.perf_counter() - self._start_time
            memory = Path("/proc/meminfo").read_text().split()[1]
            Path(self.folder, "emissions.csv").write_text(
                "timestamp,duration,cpu_energy,gpu_energy,ram_energy,energy_consumed,codecarbon_version,tracking_mode,pue,"
                f"ram_total_size,os\\n2026-11-26T03:00:00,{{seconds}},{{kwh}},0,0,{{kwh}},3.9,machine,1,"
                f"{{int(memory) / 2**20}},Linux-x86_64\\n")
"""


@pytest.fixture
def allowed(tmp_path):
    """Skip, and say why, where no mount namespace is to be had."""
    try:
        codecarbon_process._unshare(tmp_path)
    except errors.NotSupported as error:
        pytest.skip(str(error))


def stand_in(tmp_path, monkeypatch, *, mode="intel_rapl", starts=True, text=None):
    source = text or textwrap.dedent(STAND_IN.format(mode=mode, starts=starts))
    (tmp_path / "codecarbon.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture(scope="module")
def node():
    with Node("h100", cpu="intel_spr", packages=2) as built:
        for package in (0, 1):
            built.load_script(f"package-{package}", [(0.0, 200.0)])
        yield built


@pytest.mark.usefixtures("allowed")
def test_stand_in_reads_the_nodes_counters_and_memory_and_nobody_else_does(node, tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    before = Path("/proc/meminfo").read_text().split()[1]
    with CodecarbonProcess(node, 0.1, memory_gib=2048.0) as process:
        process.start()
        assert Path("/proc/meminfo").read_text().split()[1] == before
        assert not Path("/sys/powersample-simulated").exists()
        said = process.stop()
    truth_j = sum(node.truth_j(f"package-{one}", said.start_ns, said.end_ns) for one in (0, 1))
    assert said.row.cpu_j == pytest.approx(truth_j, abs=2 * 400 * 0.01)
    assert (said.cpu_mode, said.row.ram_gib) == ("rapl", 2048.0)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("text", "starts", "message"),
    [
        ("raise ImportError('no such package')\n", True, "not installed.*pip install"),
        (None, False, "did not start"),
        ("import os\nos._exit(3)\n", True, "it said nothing"),
    ],
)
def test_tracker_that_does_not_run_is_a_reason(node, tmp_path, monkeypatch, text, starts, message):
    stand_in(tmp_path, monkeypatch, text=text, starts=starts)
    with CodecarbonProcess(node) as process, pytest.raises(errors.NotSupported, match=message):
        process.start()


@pytest.mark.usefixtures("allowed")
def test_tracker_that_says_much_before_it_begins_is_waited_for(node, tmp_path, monkeypatch):
    """More than a pipe holds: whoever leaves it unread waits for a child that waits for its reader."""
    loud = "import os\nos.write(2, b'warning\\n' * 30000)\n"
    stand_in(tmp_path, monkeypatch, text=loud + textwrap.dedent(STAND_IN.format(mode="intel_rapl", starts=True)))
    monkeypatch.setattr(codecarbon_process, "WAIT_S", 20.0)
    with CodecarbonProcess(node) as process:
        process.start()
        assert process.stop().row.version == "3.9"


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("where", ["import", "stop"])
def test_tracker_that_hangs_is_ended_and_is_a_reason(node, tmp_path, monkeypatch, where):
    text = textwrap.dedent(STAND_IN.format(mode="intel_rapl", starts=True))
    hang = "import os, time\nos.write(2, b'waiting for a lock\\n')\ntime.sleep(300)\n"
    text = hang if where == "import" else text.replace("def stop(self):", "def stop(self):\n        time.sleep(300)")
    stand_in(tmp_path, monkeypatch, text=text)
    with CodecarbonProcess(node) as process:
        if where == "stop":
            process.start()
        monkeypatch.setattr(codecarbon_process, "WAIT_S", 1.5)
        said = "waiting for a lock" if where == "import" else "it said nothing"
        with pytest.raises(errors.NotSupported, match=f"hung for 1.5 s and was ended: {said}"):
            process.stop() if where == "stop" else process.start()


def test_unshare_that_hangs_is_a_reason(tmp_path, monkeypatch):
    tool = tmp_path / "unshare"
    tool.write_text("#!/bin/sh\nexec sleep 300\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(codecarbon_process, "DEADLINE_S", 0.2)
    with pytest.raises(errors.NotSupported, match="unshare hung"):
        codecarbon_process._unshare(tmp_path)


@pytest.mark.usefixtures("allowed")
def test_way_of_an_ordinary_user_is_taken_where_roots_is_closed(node, tmp_path, monkeypatch):
    real = shutil.which("unshare")
    tool = tmp_path / "unshare"
    tool.write_text(f'#!/bin/sh\ncase "$*" in *--user*) exec {real} "$@";; esac\necho not for you >&2\nexit 1\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    try:
        codecarbon_process._unshare(tmp_path)
    except errors.NotSupported as error:
        pytest.skip(f"no user namespaces: {error}")
    stand_in(tmp_path, monkeypatch)
    with CodecarbonProcess(node) as process:
        process.start()
        assert process.stop().row.version == "3.9"


def test_machine_without_namespaces_is_a_reason(node, tmp_path, monkeypatch):
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2\nexit 1\n")
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with CodecarbonProcess(node) as process, pytest.raises(errors.NotSupported, match="Operation not permitted"):
        process.start()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with CodecarbonProcess(node) as process, pytest.raises(errors.NotSupported, match="no unshare"):
        process.start()


def test_node_without_cpus_is_a_reason():
    with Node("h100") as bare, CodecarbonProcess(bare) as process, pytest.raises(errors.NotSupported, match="no CPUs"):
        process.start()


@pytest.mark.usefixtures("allowed")
def test_guessed_cpu_is_told_and_not_corrected(tmp_path, monkeypatch, capsys):
    stand_in(tmp_path, monkeypatch, mode="cpu_load")
    options = ["--duration", "1.2", "--p-idle", "783", "--p-busy", "811"]
    assert cli.main(["codecarbon", "live", *options]) == 0
    told = capsys.readouterr().out
    assert told.startswith("SIMULATED NODE paper-node, not a measurement")
    assert "CodeCarbon is not corrected: PSC-CPU" in told


@pytest.mark.usefixtures("allowed")
def test_codecarbon_itself_and_powersample_beside_the_truth():
    """The real package: GPU and CPU as measured, a constant for 2 TB of memory, nothing of what nobody counts."""
    if find_spec("codecarbon") is None:
        pytest.skip("codecarbon is not installed; the extra `bench` has it")
    found = experiment.codecarbon_live(seconds=3.0, added=PAPER, load="primes")
    assert found.void is None
    assert found.run.cpu_mode == "rapl"
    assert found.run.row.gpu_count == 4
    # Of what its timers counted: on a busy machine they come late, and a part of the run is in no interval of theirs.
    assert found.corrected.rule_w == 70.0 == pytest.approx(found.theirs_j["dram"] / found.run.row.duration_s, rel=0.3)
    assert abs(found.error_pct(found.theirs_j["cpu"], "cpu")) < 15
    assert abs(found.error_pct(found.theirs_j["gpu"], "gpu")) < 15  # its last interval, and the counter's
    assert found.error_pct(found.theirs_j["wall"]) < -25
    assert found.low_j < found.truth_j["wall"] < found.high_j
    assert abs(found.error_pct(found.corrected.high_j)) < 10 < abs(found.error_pct(found.theirs_j["wall"]))
    data = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert data["error_pct"]["corrected"].keys() == {"low", "high", "middle", "load known", "model"}


def test_ordinary_user_gets_namespaces_or_a_reason():
    code = "from powersample.experiments.baselines.codecarbon_process import _unshare as way; print(way('/usr/bin')[1])"
    done = subprocess.run([*unprivileged_python(), "-c", code], cwd="/", capture_output=True, text=True)
    assert done.stdout.strip() == "--user" or "NotSupported: no mount namespace" in done.stderr
