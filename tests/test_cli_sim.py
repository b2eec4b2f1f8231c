# SPDX-License-Identifier: Apache-2.0
"""`powersample sim`: a node for other people's programs, and its exact energies at the end."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from meter_tools import read

from powersample.cli import main
from powersample.meters import lmg, make_meter, parse_addresses

SIM = (sys.executable, "-m", "powersample.cli", "sim")
NVML = (
    "import ctypes, os; lib = ctypes.CDLL('libnvidia-ml.so.1'); assert lib.nvmlInit_v2() == 0\n"
    "n = ctypes.c_uint(); lib.nvmlDeviceGetCount_v2(ctypes.byref(n)); print(n.value)\n"
    "print(open(os.environ['POWERSAMPLE_SYSFS_ROOT'] + '/class/powercap/intel-rapl:0/name').read())\n"
    "raise SystemExit(5)"
)


def sim(*arguments, **options):
    return subprocess.run([*SIM, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


def test_program_meets_the_node_and_keeps_its_output_and_exit_code():
    done = sim("h100", "--gpus", 3, "--", sys.executable, "-c", NVML)
    assert done.returncode == 5, done.stderr
    assert done.stdout == "3\npackage-0\n\n"
    lines = done.stderr.splitlines()
    assert lines[0] == "SIMULATED NODE h100, not a measurement"
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [
        "device", "gpu0", "gpu1", "gpu2", "package-0", "package-0.dram", "board", "node", "wall",
        "wall",  # what it is
    ]  # fmt: skip


def test_powersample_itself_meets_the_node_too():
    """Its own look for a driver finds none on a machine without one."""
    done = sim("h100x2", "--", sys.executable, "-m", "powersample.cli", "top", "-1", "-d", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert {one["name"] for one in data["gauges"]} >= {"gpu0", "gpu1", "package-0"}
    assert data["simulated"] == "unnamed"


def test_node_by_itself_prints_lines_to_paste_and_the_truth(tmp_path):
    done = sim("a100", "--cpu", "intel_client", "--duration", 0.2, "--dir", tmp_path / "node", "--load", "idle")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "SIMULATED NODE a100, not a measurement"
    assert f"  export LD_LIBRARY_PATH={tmp_path / 'node'}" in done.stdout
    assert str(tmp_path / "node/sys/class/powercap") in done.stdout
    assert max(map(len, lines)) < 200
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  gpu0 ")}
    assert float(rows["gpu0"][1]) == 35.0
    assert (tmp_path / "node/libnvidia-ml.so.1").exists()


def test_json_is_one_object_with_the_exact_truth():
    done = sim("h100x2+amd_milanx2", "--load", "wave:60,300,0.01,0.5", "--load", "package-1=wave:80,120,0.01,0.5",
               "--duration", 0.4, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("SIMULATED NODE h100, not a measurement\n")
    data = json.loads(done.stdout)
    assert (data["schema_version"], data["simulated"], data["exit_code"]) == (1, True, None)
    truth = {name: one["joules"] for name, one in data["truth"].items()}
    seconds = (data["end_ns"] - data["start_ns"]) / 1e9
    assert truth["gpu0"] == truth["gpu1"]
    assert truth["gpu0"] > 100 * seconds
    assert truth["package-0"] == pytest.approx(60 * seconds)
    assert truth["package-1"] > 80 * seconds
    parts = ("gpu0", "gpu1", "package-0", "package-1", "package-0.dram", "package-1.dram", "board")
    assert truth["node"] == pytest.approx(sum(truth[name] for name in parts))


def test_interrupt_ends_it_and_the_truth_is_told():
    with subprocess.Popen([*SIM], stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("Ends with Ctrl-C"):
                break
        (address,) = (line.split()[1] for line in told if line.startswith("      --meter "))
        meter = make_meter(*parse_addresses([address]))
        info = meter.open()  # from another process, as any driver
        meter.close()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert first == "SIMULATED NODE h100, not a measurement\n"
    assert "package-0.dram" in rest
    assert (info.model, info.simulated) == ("LMG450", True)


def test_busy_program_makes_every_device_draw_more():
    program = "import time\nend = time.monotonic() + 0.3\nwhile time.monotonic() < end: pass"
    done = sim("--json", "--", sys.executable, "-c", program)
    truth = json.loads(done.stdout)["truth"]
    for device, idle_w in (("gpu0", 48), ("package-0", 100), ("package-0.dram", 12)):
        assert truth[device]["mean_w"] > 1.05 * idle_w


def test_latency_slows_the_programs_calls():
    program = (
        "import ctypes, time; lib = ctypes.CDLL('libnvidia-ml.so.1'); lib.nvmlInit_v2(); n = ctypes.c_uint()\n"
        "begin = time.monotonic()\n"
        "for _ in range(5): lib.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(ctypes.c_void_p()))\n"
        "print(time.monotonic() - begin)"
    )
    done = sim("h100+none", "--latency", "5ms", "--", sys.executable, "-c", program)
    assert float(done.stdout) >= 0.025


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("z80",), 2, "there are a100"),
        (("h100", "--cpu", "z80"), 2, "no CPU profile 'z80'"),
        (("h100+grace", "--cpu", "none"), 2, "names its CPU already"),
        (("h100x2", "--gpus", "3"), 2, "says how many already"),
        (("h100", "--packages", "3"), 2, "packages is 3"),
        (("h100", "--latency", "soon"), 2, "400us"),
        (("h100", "--duration", "0"), 2, "above 0"),
        (("h100", "--duration", "1", "--", "true"), 2, "without a program"),
        (("h100", "--load", "magic"), 2, "wave:WATTS"),
        (("h100", "--load", "wave:60"), 2, "PERIOD_S"),
        (("h100", "--load", "package-9=wave:1,2,1,0.5"), 2, "no device 'package-9'"),
        (("h100", "--", "no-such-program"), 127, "command not found"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, code, words):
    done = sim(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_it_is_left_behind(tmp_path):
    shared = {name for name in os.listdir("/dev/shm") if name.startswith("powersample-sim-")}
    done = sim("--duration", "0.1", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
    now = {name for name in os.listdir("/dev/shm") if name.startswith("powersample-sim-")}
    exported = [line for line in done.stdout.splitlines() if "POWERSAMPLE_SYSFS_ROOT" in line]
    assert not any(name in exported[0] for name in now - shared)


def test_meter_by_itself_says_where_it_is_and_how_to_meet_it(tmp_path):
    port = tmp_path / "ttyLMG"
    process = subprocess.Popen(
        [*SIM, "meter", "--lmg450", "--pty", str(port), "--load", "wave:100,400,0.5,0.5", "--baud", "57600"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = [process.stdout.readline() for _ in range(14)]
    assert said[0] == "SIMULATED METER LMG450, not a measurement\n"
    assert f"  {port}   57600 baud" in said[4]
    command = next(line for line in said if "record --meter" in line)
    (address,) = [word.strip("'") for word in command.split() if word.strip("'").startswith("lmg450:")]
    meter = make_meter(parse_addresses([address])[0])
    info = meter.open()
    meter.start()
    batch = meter.read(5.0)
    meter.close()
    assert info.simulated
    assert len(batch.readings[0])
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "wall" in rest
    assert not port.is_symlink()


def test_meter_on_tcp_by_itself(tmp_path):
    done = sim("meter", "--tcp", 0, "--of", "a100", "--duration", 0.2)
    assert done.returncode == 0, done.stderr
    assert "tcp://127.0.0.1:" in done.stdout
    assert "simulated node a100" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("h100", "--tcp", 1), "--tcp belong to `powersample sim meter`"),
        (("meter", "--tcp", 1, "--pty"), "not on both"),
        (("meter", "--", "true"), "runs no program"),
        (("meter", "--load", "gpu0=cpu"), "there is none"),
        (("h100", "--load", "cpu"), "there is none"),
        (("h100", "--fault", "1=nan"), "--fault belong to"),
        (("meter", "--fault", "soon=nan"), "write CYCLE=WHAT"),
        (("meter", "--fault", "\u00b2=nan"), "write CYCLE=WHAT"),
        (("meter", "--fault", "7=nan", "--fault", "07=over"), "something befalls cycle 7 already"),
        (("meter", "--fault", "1=fire"), "fault 'fire' is unknown; use missing, half"),
    ],
)
def test_meter_options_that_do_not_fit_are_refused(arguments, what):
    done = sim(*arguments)
    assert done.returncode == 2
    assert what in done.stderr


def test_meter_of_faults_is_recorded_with_their_gaps(tmp_path, monkeypatch):
    monkeypatch.setattr(lmg, "RETRY_S", 0.1)
    port = tmp_path / "ttyLMG"
    faults = ("10=missing", "14=garbage", "20=unplug", "26=plug")
    process = subprocess.Popen(
        [*SIM, "meter", "--pty", str(port), *(word for one in faults for word in ("--fault", one))],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline()
    meter = make_meter(parse_addresses([f"lmg450:{port}"])[0])
    meter.open()
    meter.start()
    got = read(meter, lambda got: got.gaps and got.gaps[-1].end_ns and len(got) > 25)
    meter.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    causes = [gap.cause for gap in got.gaps if gap.end_ns]
    assert causes[0] == "missing cycles"
    assert causes[-1] == "unplugged"
    assert meter.counts()["garbage_bytes"] + meter.counts()["bad_lines"] > 0


def test_meter_on_a_port_that_is_taken_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = sim("meter", "--tcp", server.getsockname()[1], "--duration", 0.1)
    assert done.returncode == 1
    assert "in use [errno 98]. Choose another; 0 takes a free one." in done.stderr


def test_help_of_the_meter_is_its_own_and_has_the_second_shell_s_half(capsys):
    for arguments, own in ((["sim", "meter", "--help"], True), (["sim", "-h"], False)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert ("powersample record --meter lmg450:/tmp/ttyLMG" in said) == own
        assert ("--gpus" in said) != own
        assert "--tcp PORT" in said
        assert "--load KIND" in said
