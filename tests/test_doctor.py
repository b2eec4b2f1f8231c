# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds on machines made up in a folder: each check when all is well and when it is not."""

import errno
import os
import re
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from machines import Made, found, levels, made
from unprivileged import as_nobody

from powersample import doctor, errors
from powersample.capture.privileged import file_capabilities
from powersample.doctor import Check, Diagnosis, Tried, diagnose
from powersample.doctor.clock import check_clock
from powersample.doctor.files import check_files
from powersample.doctor.machine import CAP_SYS_NICE, Machine, Outcome
from powersample.doctor.meters import check_meters
from powersample.doctor.packages import check_packages, requirements
from powersample.doctor.scheduling import check_scheduling, count_cpus
from powersample.doctor.sensors import check_sensors


@pytest.fixture
def made_up():
    with made() as machine:
        yield machine


# ---- packages --------------------------------------------------------------------------------------------------


def all_there():
    return {name.lower(): lowest for name, lowest in requirements()}


def test_packages_all_there(made_up):
    checks = found(check_packages, made_up.machine(distributions=all_there))
    assert levels(checks) == {"PS-PY-00": "OK", "PS-PKG-00": "OK", "PS-EXE-00": "OK"}


@pytest.mark.parametrize(("version", "told"), [(None, "numpy is missing"), ("1.26.4", "numpy 1.26.4 is too old")])
def test_packages_one_that_does_not_do_is_named_with_its_command(made_up, version, told):
    have = {**all_there(), "numpy": version}
    have = {name: v for name, v in have.items() if v is not None}
    check = found(check_packages, made_up.machine(distributions=lambda: have))["PS-PKG-01"]
    assert check.level == "FAIL"
    assert check.what.startswith(told)
    assert check.fix == f"pip install 'numpy>={all_there()['numpy']}'"


@pytest.mark.parametrize(
    ("version", "harm"), [("13.0.1", "only adds a FutureWarning"), ("11.5.0", "its old bindings come before")]
)
def test_packages_dead_pynvml_is_warned_of(made_up, version, harm):
    have = {**all_there(), "pynvml": version}
    check = found(check_packages, made_up.machine(distributions=lambda: have))["PS-PKG-02"]
    assert (check.level, check.fix) == ("WARN", "pip uninstall pynvml")
    assert harm in check.what


def test_packages_fork_that_overwrites_the_bindings_is_warned_of(made_up):
    have = {**all_there(), "nvidia-ml-py3": "7.352.0"}
    assert found(check_packages, made_up.machine(distributions=lambda: have))["PS-PKG-03"].level == "WARN"


def test_packages_core_of_another_version(made_up, monkeypatch):
    monkeypatch.setattr("powersample._native.api.version", lambda: "0.0.1")
    check = found(check_packages, made_up.machine(distributions=all_there))["PS-PY-02"]
    assert (check.level, "version 0.0.1" in check.what) == ("WARN", True)


def test_packages_from_a_folder_without_metadata(made_up, monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    assert found(check_packages, made_up.machine())["PS-PKG-04"].level == "SKIP"


def test_packages_sampler_missing_and_broken(made_up):
    def absent():
        raise errors.NotSupported("it is missing")

    assert found(check_packages, made_up.machine(sampler=absent))["PS-EXE-01"].level == "FAIL"
    foreign = Outcome(None, os.strerror(errno.ENOEXEC), errno.ENOEXEC)
    check = found(check_packages, made_up.machine(run=lambda command: foreign))["PS-EXE-02"]
    assert check.tried == (Tried(str(made_up.root / "bin/powersample-sampler"), errno.ENOEXEC),)


def test_file_capabilities_are_read_from_the_attribute(made_up):
    program = made_up.write("program", "")
    assert file_capabilities(program) == frozenset()
    done = subprocess.run(["setcap", "cap_perfmon,cap_dac_read_search+ep", program], capture_output=True)
    if done.returncode != 0:
        pytest.skip("file capabilities cannot be set here")
    assert file_capabilities(program) == {"cap_dac_read_search", "cap_perfmon"}
    check = found(check_packages, made_up.machine(sampler=lambda: program))["PS-EXE-00"]
    assert check.what.endswith("file capabilities: cap_dac_read_search, cap_perfmon")


# ---- other sensors, meters -------------------------------------------------------------------------------------


@pytest.fixture
def chip(made_up):
    """An INA3221 that reads 10 W, with a device of its own as the kernel has it."""
    device = made_up.root / "sys/devices/i2c-1/1-0040"
    device.mkdir(parents=True)
    for name, text in {"name": "ina3221", "in1_input": "5000", "curr1_input": "2000", "in1_label": "VDD_IN"}.items():
        made_up.write(f"sys/class/hwmon/hwmon3/{name}", text + "\n")
    made_up.write("sys/class/hwmon/hwmon3/in1_enable", "1\n")
    (made_up.root / "sys/class/hwmon/hwmon3/device").symlink_to(device)
    return made_up.root / "sys/class/hwmon/hwmon3"


def test_sensors_none_is_no_harm(made_up):
    assert found(check_sensors, made_up.machine())["PS-HWMON-02"].level == "SKIP"


def test_sensors_chip_is_measurable(made_up, chip):
    check = found(check_sensors, made_up.machine())["PS-HWMON-00"]
    assert check.what == "ina3221-1-0040 (ina3221): vdd_in.power"
    assert check.gives == ("ina3221-1-0040.vdd_in.power",)


def test_sensors_closed_chip_names_its_files_and_the_command(made_up, chip):
    with as_nobody(chip / "in1_input", chip / "curr1_input"):
        check = found(check_sensors, made_up.machine())["PS-HWMON-01"]
    assert (check.level, check.gives) == ("WARN", ())
    assert Tried(str(chip / "in1_input"), errno.EACCES) in check.tried
    assert check.fix.startswith("sudo chgrp powersample ")
    assert str(chip / "in1_input") in check.fix


def test_sensors_chip_whose_files_say_nothing_is_no_matter_of_permission(made_up, chip):
    (chip / "in1_input").write_text("nonsense\n")
    check = found(check_sensors, made_up.machine())["PS-HWMON-01"]
    assert (check.level, check.fix, check.gives) == ("WARN", None, ())
    assert check.what.endswith("none of them answers")


def test_sensors_sleeping_device_is_left_asleep(made_up):
    made_up.write("sys/devices/pci0/card/power/runtime_status", "suspended\n")
    for name, text in {"name": "amdgpu", "power1_average": "30000000"}.items():
        made_up.write(f"sys/class/hwmon/hwmon0/{name}", text + "\n")
    (made_up.root / "sys/class/hwmon/hwmon0/device").symlink_to(made_up.root / "sys/devices/pci0/card")
    check = found(check_sensors, made_up.machine())["PS-HWMON-03"]
    assert check.level == "SKIP"
    assert len(check.gives) == 1


def test_meters_port_by_its_lasting_name_and_its_group(made_up):
    assert found(check_meters, made_up.machine())["PS-METER-02"].level == "SKIP"
    port = made_up.write("dev/ttyUSB0", "")
    lasting = made_up.root / "dev/serial/by-id/usb-LMG_450-if00"
    lasting.parent.mkdir(parents=True)
    lasting.symlink_to("../../ttyUSB0")
    checks = list(check_meters(made_up.machine()))
    assert [one.code for one in checks] == ["PS-METER-00"]  # one port, though it has two names
    assert str(lasting) in checks[0].what
    port.chmod(0o600 if os.geteuid() == 0 else 0)
    with as_nobody():
        check = found(check_meters, made_up.machine())["PS-METER-01"]
    assert check.fix.startswith(f"sudo usermod -aG {port.group()} ")


# ---- clock, scheduling -----------------------------------------------------------------------------------------


def test_clock_quick_and_slow(made_up):
    assert found(check_clock, made_up.machine())["PS-CLK-00"].what.startswith("clock source tsc, clock_gettime ")
    path = made_up.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")
    check = found(check_clock, made_up.machine())["PS-CLK-01"]
    assert (check.level, check.fix) == ("WARN", f"echo tsc | sudo tee {path}")
    made_up.remove("sys/devices/system/clocksource")
    assert found(check_clock, made_up.machine())["PS-CLK-02"].level == "SKIP"


def test_clock_tells_slack_governors_and_synchronisation(made_up):
    for cpu, governor in enumerate(("performance", "performance", "powersave")):
        made_up.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", governor + "\n")
    checks = found(check_clock, made_up.machine())
    assert "performance on 2 CPUs, powersave on 1 CPUs" in checks["PS-CLK-06"].what
    assert "50000 ns" in checks["PS-CLK-04"].what
    assert {"PS-CLK-03", "PS-CLK-05"} & set(checks)


@pytest.mark.parametrize(("listed", "count"), [("0-7", 8), ("3", 1), ("0-1,4,6-7", 5), ("", 0)])
def test_cpus_are_counted(listed, count):
    assert count_cpus(listed) == count


def test_scheduling_cpus_and_priority(made_up):
    assert levels(found(check_scheduling, made_up.machine())) == {"PS-SCHED-00": "OK", "PS-SCHED-04": "SKIP"}
    made_up.process(cpus="5", caps=1 << CAP_SYS_NICE)
    assert levels(found(check_scheduling, made_up.machine())) == {"PS-SCHED-01": "WARN", "PS-SCHED-03": "OK"}
    made_up.process()
    limits = made_up.root / "proc/self/limits"
    limits.write_text(limits.read_text().replace(" 0 ", "10 "))
    assert "up to priority 10" in found(check_scheduling, made_up.machine())["PS-SCHED-03"].what


@pytest.mark.parametrize(("setting", "there"), [("150000 100000\n", True), ("max 100000\n", False)])
def test_scheduling_quota_of_a_control_group(made_up, setting, there):
    made_up.write("sys/fs/cgroup/user.slice/cpu.max", setting)
    checks = found(check_scheduling, made_up.machine())
    assert ("PS-SCHED-02" in checks) == there
    if there:
        assert "1.5 CPUs" in checks["PS-SCHED-02"].what


# ---- configuration and disk ------------------------------------------------------------------------------------


def test_files_configuration_in_force_bad_unreadable_and_absent(made_up):
    assert found(check_files, made_up.machine())["PS-CFG-03"].level == "SKIP"
    path = made_up.write("home/powersample/config.toml", "rate_hz = 100\n")
    assert f"rate_hz = 100.0 ({path})" in found(check_files, made_up.machine())["PS-CFG-00"].what
    path.write_text("rate_hz = \n")
    check = found(check_files, made_up.machine())["PS-CFG-01"]
    assert check.level == "FAIL"
    assert "line 1" in check.what
    path.unlink()
    path.mkdir()
    assert found(check_files, made_up.machine())["PS-CFG-02"].level == "WARN"


def test_files_root_from_the_environment_is_told(made_up):
    environment = {"XDG_CONFIG_HOME": str(made_up.root), "POWERSAMPLE_SYSFS_ROOT": "/host-sys"}
    assert "/host-sys" in found(check_files, made_up.machine(environment=environment))["PS-CFG-04"].what


def test_files_of_the_system_lie_below_the_root(made_up):
    made_up.write("etc/powersample/config.toml", "mode = 'tight'\n")
    assert "mode = 'tight'" in found(check_files, made_up.machine())["PS-CFG-00"].what


def test_files_folder_that_was_removed_is_a_finding(made_up, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    checks = found(check_files, made_up.machine(free_bytes=lambda path: 10**12))
    assert checks["PS-DISK-02"].level == "FAIL"
    assert "PS-DISK-00" in checks


@pytest.mark.parametrize(("free", "code"), [(10**12, "PS-DISK-00"), (10**8, "PS-DISK-01"), (10**6, "PS-DISK-02")])
def test_files_disk_space(made_up, free, code):
    assert code in found(check_files, made_up.machine(free_bytes=lambda path: free))


def test_files_shared_memory(made_up):
    def free(path):
        return shutil.disk_usage(path).free

    assert "free in" in found(check_files, made_up.machine(free_bytes=free))["PS-DISK-05"].what
    made_up.remove("dev/shm")
    checks = found(check_files, made_up.machine(free_bytes=free))
    assert checks["PS-DISK-06"].tried == (Tried(str(made_up.root / "dev/shm"), errno.ENOENT),)


def test_files_temporary_folder_in_memory_is_warned_of(made_up, tmp_path):
    made_up.mounts("/ ext4 rw", f"{tmp_path} tmpfs rw")
    machine = made_up.machine(environment={"TMPDIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
    assert "name an output on a disk" in found(check_files, machine)["PS-DISK-03"].what


def test_files_folder_that_may_not_be_written(made_up):
    closed = made_up.write("closed/x", "").parent
    closed.chmod(0o500)
    with as_nobody():
        machine = made_up.machine(environment={"TMPDIR": str(closed), "XDG_CONFIG_HOME": str(made_up.root)})
        checks = found(check_files, machine)
    closed.chmod(0o700)
    if os.geteuid() == 0:
        assert str(closed) in checks["PS-DISK-04"].what


# ---- all of it -------------------------------------------------------------------------------------------------


def test_exit_code_follows_what_can_be_measured():
    good = Check("PS-RAPL-00", "OK", "", gives=("package-0.energy",))
    skip, warn = Check("PS-HWMON-02", "SKIP", ""), Check("PS-CLK-01", "WARN", "")
    assert Diagnosis((good, skip), None).exit_code == 0
    assert Diagnosis((good, warn), None).exit_code == 1
    assert Diagnosis((skip, warn), None).exit_code == 3


def test_diagnosis_of_a_section_that_fails_goes_on(made_up):
    def broken(name):
        raise RuntimeError("no such luck")

    diagnosis = diagnose(made_up.machine(which=broken))
    failed = [one for one in diagnosis.checks if one.code == "PS-DOC-02"]
    assert [(one.section, "no such luck" in one.what) for one in failed] == [("GPU", True)]
    assert {one.section for one in diagnosis.checks} > {"CPU", "clock"}


def test_nothing_is_written_by_looking(made_up):
    def state():
        return {path: path.stat().st_mtime_ns for path in made_up.root.rglob("*")}

    before = state()
    diagnose(made_up.machine())
    assert state() == before


def test_every_command_is_one_that_a_shell_takes(made_up):
    """All that the made-up machines ever offer, and whatever this one does."""
    path = made_up.zone("intel-rapl:0", "package-0")
    path.chmod(0)
    made_up.pmu("energy-pkg", kind=999_999)
    with as_nobody():
        checks = [*diagnose(made_up.machine()).checks, *diagnose(Machine()).checks]
    commands = [command for one in checks for command in (one.fix, one.other) if command]
    assert len(commands) >= 3
    for command in commands:
        assert subprocess.run(["sh", "-n", "-c", command], capture_output=True).returncode == 0, command
        assert shlex.split(command, comments=True)


def test_made_up_machine_is_one_that_all_is_well_on(made_up: Made):
    with made_up.moving():
        diagnosis = diagnose(made_up.machine())
    assert [one for one in diagnosis.checks if one.level in ("WARN", "FAIL")] == []
    assert diagnosis.exit_code == 0


def test_every_code_is_documented_and_tested():
    tests = Path(__file__).parent
    pattern = re.compile(r"PS-[A-Z]+-\d\d")
    code = {
        match for path in (Path(doctor.__file__).parent).glob("*.py") for match in pattern.findall(path.read_text())
    }
    table = re.findall(r"^\| (PS-[A-Z]+-\d\d) \|", (tests.parent / "docs/doctor.md").read_text(), re.MULTILINE)
    tested = {match for path in tests.glob("test_doctor*.py") for match in pattern.findall(path.read_text())}
    assert len(table) == len(set(table))
    assert (sorted(code - set(table)), sorted(set(table) - code), sorted(code - tested)) == ([], [], [])
