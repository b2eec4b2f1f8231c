# SPDX-License-Identifier: Apache-2.0
"""`powersample doctor` as a person types it: its words, its exit codes, and that its commands can be pasted."""

import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys

import pytest
from machines import made
from unprivileged import unprivileged_python

from powersample import cli, measure
from powersample.doctor import Check, Diagnosis, Tried, diagnose, units
from powersample.doctor.text import fold_command, to_lines
from powersample.model import Kind
from powersample.session.simulate import make_node, node_machine

DOCTOR = ["-m", "powersample.cli", "doctor"]


def doctor(*arguments, python=(sys.executable,), cwd="/", **options):
    return subprocess.run(
        [*python, *DOCTOR, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, **options
    )


# ---- text ------------------------------------------------------------------------------------------------------

LONG = Check(
    "PS-RAPL-01",
    "FAIL",
    "package-0 cannot be read. powercap: open: /sys/class/powercap/intel-rapl:0/energy_uj: Permission denied "
    "[EACCES (13)] (mode 0400, owner root)",
    (Tried("/sys/class/powercap/intel-rapl:0/energy_uj", 13), Tried("perf_event_open", 13)),
    "powersample doctor --print-udev | sudo tee /etc/udev/rules.d/70-powersample.rules && sudo sh -c 'a  b'  "
    "# then log in again",
    "sudo setcap cap_perfmon,cap_dac_read_search+ep /opt/powersample/bin/powersample-sampler",
    section="CPU",
)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 400])
def test_text_fits_the_terminal(width):
    """Only a word that is too long by itself, such as a path, goes beyond the edge, and can still be copied."""
    lines = [line for _, line in to_lines(Diagnosis((LONG,), None), width)]
    for line in lines:
        words = re.sub(r"^(\[....\] \S+|\s+(tried|fix|or)\s)|\\$", "", line).split()
        assert len(line) <= width or len(words) == 1, line
    assert lines[0] == "CPU"
    assert lines[1].startswith("[FAIL] PS-RAPL-01  package-0 cannot be")


@pytest.mark.parametrize("width", [40, 60, 80, 120, None])
@pytest.mark.parametrize("command", [LONG.fix, LONG.other])
def test_text_folds_commands_so_that_a_shell_reads_the_same(width, command):
    head = "       fix    "
    text = "\n".join(line[len(head) :] for line in fold_command(command, head, width))
    assert shlex.split(text.replace("\\\n", ""), comments=True) == shlex.split(command, comments=True)
    assert "a  b" not in command or "a  b" in text


def test_text_tells_evidence_and_both_ways_and_ends_with_what_it_comes_to():
    good = Check("PS-NVML-00", "OK", "gpu0 H100", (Tried("x"),), gives=("gpu0.energy",), section="GPU")
    lines = [line for _, line in to_lines(Diagnosis((good, LONG), None))]
    assert lines[:4] == ["GPU", "[ OK ] PS-NVML-00  gpu0 H100", "", "CPU"]
    assert lines[5] == f"       tried  {LONG.tried[0].path}: EACCES (13); perf_event_open: EACCES (13)"
    assert lines[6] == f"       fix    {LONG.fix}"
    assert lines[7] == f"       or     {LONG.other}"
    assert lines[9] == "measurable here: gpu0.energy"
    assert lines[10] == "1 FAIL, 1 OK: less than this machine could give"


def test_text_of_something_simulated_says_so_first():
    assert next(to_lines(Diagnosis((), "h100")))[1] == "SIMULATED NODE h100, not a measurement"


# ---- the verb --------------------------------------------------------------------------------------------------


def check_schema(data):
    assert set(data) == {"schema_version", "simulated", "checks", "measurable"}
    assert data["schema_version"] == 1
    assert all(isinstance(name, str) for name in data["measurable"])
    for check in data["checks"]:
        assert set(check) == {"code", "level", "section", "what", "tried", "fix", "or"}
        assert re.fullmatch(r"PS-[A-Z]+-\d\d", check["code"])
        assert check["level"] in ("OK", "SKIP", "WARN", "FAIL")
        assert check["section"]
        assert check["what"]
        for tried in check["tried"]:
            assert set(tried) == {"path", "errno"}
            assert tried["errno"] is None or isinstance(tried["errno"], int)
        assert check["fix"] is not None or check["or"] is None


def test_doctor_on_a_simulated_node(tmp_path):
    done = doctor("--simulate", "h100x2", "--json", cwd=tmp_path)
    data = json.loads(done.stdout)
    check_schema(data)
    assert data["simulated"]
    assert {"gpu0.power.instant", "gpu1.energy"} <= set(data["measurable"])
    assert done.returncode in (0, 1), done.stderr  # by what this machine is like
    done = doctor("--simulate", "h100", cwd=tmp_path)
    assert done.stdout.startswith("SIMULATED NODE h100, not a measurement\n")
    assert "\x1b" not in done.stdout


def test_doctor_of_this_machine_for_an_unprivileged_user():
    """Whatever this machine is: it looks to the end, changes nothing, and answers by what it found."""
    done = doctor("--json", python=unprivileged_python())
    data = json.loads(done.stdout)
    check_schema(data)
    assert not [check for check in data["checks"] if check["code"].startswith("PS-DOC")]
    assert done.stderr == ""
    worst = any(check["level"] in ("WARN", "FAIL") for check in data["checks"])
    assert done.returncode == (3 if not data["measurable"] else int(worst))


def test_doctor_without_the_native_core_still_looks_at_the_rest():
    """As after an upgrade of Python, or a copy to another machine."""
    program = "import sys; sys.modules['powersample._native.door'] = None; from powersample.cli import main; "
    program += "sys.exit(main(['doctor', '--json']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    checks = json.loads(done.stdout)["checks"]
    assert (done.returncode, done.stderr) == (3, "")
    assert {check["code"]: check["level"] for check in checks}["PS-PY-01"] == "FAIL"
    failed = {check["section"] for check in checks if check["code"] == "PS-DOC-01"}
    assert "CPU" in failed
    assert {"clock", "container / VM", "meters"}.isdisjoint(failed)


def closed_machine(made_up):
    path = made_up.root / "sys/class/powercap/intel-rapl:0/energy_uj"
    path.chmod(0o400 if os.geteuid() == 0 else 0)
    return path


def by_code(done):
    return {check["code"]: check for check in json.loads(done.stdout)["checks"]}


def test_unprivileged_user_follows_the_line_and_gets_cpu_energy():
    """The rule's own command is run as udev would, with the user's group in place of `powersample`."""
    if os.geteuid() != 0:
        pytest.skip("only root can do what the rule does")
    command = re.search(r'RUN\+="(/bin/sh -c .*)"$', units.UDEV_RULE, re.MULTILINE)[1]
    with made() as made_up:
        path = closed_machine(made_up)
        sysfs = made_up.root / "sys"
        python = unprivileged_python("HOME=/nonexistent", f"POWERSAMPLE_SYSFS_ROOT={sysfs}")
        before = by_code(doctor("--json", python=python))["PS-RAPL-01"]
        assert before["level"] == "FAIL"
        assert "--print-udev" in before["fix"]
        command = command.replace("powersample", "65534").replace("/sys%p", str(path.parent))
        subprocess.run(shlex.split(command), check=True)
        assert path.stat().st_mode & 0o777 == 0o440
        with made_up.moving():
            done = doctor("--json", python=python)
        assert by_code(done)["PS-RAPL-00"]["level"] == "OK"
        assert "package-0.energy" in json.loads(done.stdout)["measurable"]


def test_doctor_finds_a_bad_configuration_and_goes_on(tmp_path):
    (tmp_path / "powersample").mkdir()
    (tmp_path / "powersample/config.toml").write_text("rate_hz = fast\n")
    done = doctor("--json", env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)})
    assert by_code(done)["PS-CFG-01"]["level"] == "FAIL"
    assert "PS-PY-00" in by_code(done)


def test_doctor_looks_where_the_configuration_says(tmp_path):
    with made() as made_up:
        (tmp_path / "powersample").mkdir()
        (tmp_path / "powersample/config.toml").write_text(f'sysfs = "{made_up.root / "sys"}"\n')
        done = doctor("--json", env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)})
    assert "PS-RAPL-04" in by_code(done)  # its counters stand still


def test_doctor_simulated_takes_no_roots(capsys):
    assert cli.main(["doctor", "--simulate", "h100", "--sysfs", "/x"]) == 2
    assert "leave --nvml-lib, --sysfs and --devfs out" in capsys.readouterr().err


def on_a_terminal(columns, *arguments, environment=()):
    """What a person sees: the verb's output on a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **dict(environment)}
    for name in ("COLUMNS", "LINES", "NO_COLOR") if not environment.get("NO_COLOR") else ("COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen([sys.executable, *DOCTOR, *arguments], stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        seen += piece
    process.wait()
    os.close(leader)
    return seen.decode()


def test_terminal_gets_colours_and_lines_that_fit():
    seen = on_a_terminal(60, "--simulate", "h100")
    assert "\x1b[32m" in seen
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    folded = [line for line in plain.splitlines() if not re.search(r"\S{40}", line)]
    assert max(map(len, folded)) <= 60
    assert "\x1b[3" not in on_a_terminal(60, "--simulate", "h100", environment={"NO_COLOR": "1"}.items())


# ---- for administrators ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text"), [("--print-udev", units.UDEV_RULE), ("--print-systemd", units.SYSTEMD_UNIT)]
)
def test_texts_for_administrators_are_all_that_is_printed(option, text):
    done = doctor(option)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_udev_rule_has_only_matches_and_assignments_and_the_narrow_mode():
    lines = [line for line in units.UDEV_RULE.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        rest = re.sub(r'[A-Z]+(==|=|\+=)"[^"]*"', "", line)
        assert set(rest) <= set(", "), line
    assert "0440" in lines[0]
    assert "0440" in lines[1]


def test_udev_rule_is_verified_by_udev(tmp_path):
    path = tmp_path / "70-powersample.rules"
    path.write_text(units.UDEV_RULE)
    try:
        help_text = subprocess.run(["udevadm", "--help"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        pytest.skip("udevadm is not installed")
    if "verify" not in help_text:
        pytest.skip("this udevadm is older than 254 and cannot verify")
    done = subprocess.run(["udevadm", "verify", "--resolve-names=never", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_unit_is_verified_by_systemd(tmp_path):
    path = tmp_path / "powersample-powercap.service"
    path.write_text(units.SYSTEMD_UNIT)
    try:
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_unit_does_what_it_says():
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to a group")
    command = re.search(r"^ExecStart=(.*)$", units.SYSTEMD_UNIT, re.MULTILINE)[1].replace("$$", "$")
    with made() as made_up:
        paths = [closed_machine(made_up), made_up.zone("intel-rapl:0:0", "dram")]
        command = command.replace("powersample", "65534").replace("/sys/", f"{made_up.root}/sys/")
        subprocess.run(shlex.split(command), check=True)
        assert [(path.stat().st_mode & 0o777, path.stat().st_gid) for path in paths] == [(0o440, 65534)] * 2


def test_what_the_doctor_calls_measurable_is_what_a_recording_has():
    with make_node("h100x2") as node:
        promised = diagnose(node_machine(node, "h100x2")).measurable
        with measure(simulate=node) as run:
            pass
    channels = run.trace.channels.values()
    kept = [one.name for one in channels if one.kind is not Kind.AUX and not one.name.startswith("truth.")]
    assert sorted(promised) == sorted(kept)
