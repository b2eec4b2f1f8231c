# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds of CPUs' counters, containers and virtual machines, on machines made up in a folder."""

import errno
import os

import pytest
from machines import RELEASE, found, levels, made
from unprivileged import as_nobody

from powersample._native.api_rapl import Opened
from powersample.capture.privileged import Help, Listed
from powersample.doctor import Tried
from powersample.doctor.box import check_box
from powersample.doctor.cpu import check_cpus
from powersample.doctor.machine import CAP_PERFMON


@pytest.fixture
def made_up():
    with made() as machine:
        yield machine


# ---- CPU -------------------------------------------------------------------------------------------------------


def test_cpu_package_that_moves_is_measurable(made_up):
    made_up.zone("intel-rapl:0:0", "dram")
    with made_up.moving():
        check = found(check_cpus, made_up.machine())["PS-RAPL-00"]
    assert check.level == "OK"
    assert check.gives == ("package-0.energy", "package-0.dram.energy")
    assert "powercap" in check.what


def test_cpu_package_that_stands_still_is_not(made_up):
    check = found(check_cpus, made_up.machine())["PS-RAPL-04"]
    assert (check.level, check.gives) == ("WARN", ())
    assert "stood still" in check.what


def test_cpu_refused_names_path_errno_owner_and_the_safer_way_first(made_up):
    path = made_up.zone("intel-rapl:0", "package-0")
    path.chmod(0o400 if os.geteuid() == 0 else 0)
    with as_nobody():
        check = found(check_cpus, made_up.machine())["PS-RAPL-01"]
    assert check.level == "FAIL"
    assert Tried(str(path), errno.EACCES) in check.tried
    assert "mode 0" in check.what
    assert check.fix.startswith("powersample doctor --print-udev | sudo tee /etc/udev/rules.d/")
    assert check.other.startswith("sudo setcap cap_")


def test_cpu_refused_by_perf_before_there_was_a_capability_for_it(made_up):
    made_up.remove("sys/class/powercap")
    made_up.pmu("energy-pkg")
    made_up.write("proc/sys/kernel/osrelease", "5.4.0-150-generic\n")
    with as_nobody():
        checks = found(check_cpus, made_up.machine())
    if "PS-RAPL-01" not in checks:
        pytest.skip("perf is open to everybody here")
    assert (checks["PS-RAPL-01"].fix, checks["PS-RAPL-01"].other) == ("sudo sysctl kernel.perf_event_paranoid=0", None)


@pytest.mark.parametrize(("events", "fix"), [(["energy-pkg"], "--cap-add PERFMON"), ([], "--user root")])
def test_cpu_refused_in_a_container_is_for_who_starts_it(made_up, events, fix):
    made_up.container()
    made_up.pmu(*events, kind=1)
    path = made_up.zone("intel-rapl:0", "package-0")
    path.chmod(0o400 if os.geteuid() == 0 else 0)
    with as_nobody():
        checks = found(check_cpus, made_up.machine())
    if "PS-RAPL-01" not in checks:
        pytest.skip("perf is open to everybody here")
    assert fix in checks["PS-RAPL-01"].fix
    assert checks["PS-RAPL-01"].other is None


def close(path):
    path.chmod(0o400 if os.geteuid() == 0 else 0)
    return path


def test_cpu_refused_and_read_by_the_samplers_capabilities_is_measurable(made_up):
    close(made_up.zone("intel-rapl:0", "package-0"))
    opened = Opened(None, {"package": "powercap"}, None, (), True, 0.0, ())
    capabilities = frozenset({"cap_dac_read_search"})
    helped = Help(made_up.root / "bin", capabilities, {0: Listed(opened, ("package-0.energy",))})
    asked = []

    def ask(denied, needed):
        asked.append(set(denied))
        return helped

    with as_nobody():
        check = found(check_cpus, made_up.machine(ask_sampler=ask))["PS-RAPL-05"]
    assert (check.level, check.gives) == ("OK", ("package-0.energy",))
    assert "by the sampler's file capabilities" in check.what
    assert asked == [{"powercap"}]


def test_cpu_refused_below_a_root_of_ones_own_offers_no_capabilities(made_up):
    """The executable drops them before it looks anywhere but at the kernel's own."""
    close(made_up.zone("intel-rapl:0", "package-0"))
    with as_nobody():
        check = found(check_cpus, made_up.machine(sysfs_root=made_up.root / "sys"))["PS-RAPL-01"]
    assert check.fix.startswith("powersample doctor --print-udev")
    assert check.other is None


def test_cpu_sampler_that_bears_capabilities_in_vain_says_why(made_up):
    close(made_up.zone("intel-rapl:0", "package-0"))
    with as_nobody():
        checks = found(check_cpus, made_up.machine(ask_sampler=lambda denied, needed: Help(reason="no_new_privs")))
    assert checks["PS-RAPL-10"].what.endswith("no_new_privs")
    assert checks["PS-RAPL-01"].level == "FAIL"


def test_cpu_part_that_is_refused_is_a_warning_with_its_own_way(made_up):
    path = close(made_up.zone("intel-rapl:0:0", "dram"))
    with made_up.moving(), as_nobody():
        checks = found(check_cpus, made_up.machine())
    assert checks["PS-RAPL-00"].gives == ("package-0.energy",)
    check = checks["PS-RAPL-09"]
    assert (check.level, check.tried) == ("WARN", (Tried(str(path), errno.EACCES),))
    assert check.what == "package-0 is read and dram of it refused"
    assert check.fix.startswith("powersample doctor --print-udev")


def test_cpu_part_that_stands_still_is_left_out_and_no_harm(made_up):
    made_up.zone("intel-rapl:1", "psys")
    with made_up.moving("intel-rapl:0"):
        checks = found(check_cpus, made_up.machine())
    assert checks["PS-RAPL-00"].gives == ("package-0.energy",)
    assert checks["PS-RAPL-04"].level == "SKIP"
    assert "psys by powercap stood still" in checks["PS-RAPL-04"].what


def test_cpu_file_that_holds_no_number_is_no_matter_of_permission(made_up):
    made_up.write("sys/class/powercap/intel-rapl:0/energy_uj", "nonsense\n")
    check = found(check_cpus, made_up.machine())["PS-RAPL-01"]
    assert (check.fix, check.other) == (None, None)


def test_cpu_module_that_is_not_loaded_is_named(made_up):
    made_up.remove("sys/class/powercap")
    made_up.module("intel_rapl_msr", "rapl")
    checks = found(check_cpus, made_up.machine())
    assert checks["PS-RAPL-03"].fix == "sudo modprobe intel_rapl_msr"
    assert checks["PS-PERF-03"].fix == "sudo modprobe rapl"


def test_cpu_module_in_the_extra_package_of_ubuntu(made_up):
    made_up.remove("sys/class/powercap")
    made_up.write("etc/os-release", "ID=ubuntu\n")
    assert found(check_cpus, made_up.machine())["PS-RAPL-03"].fix == f"sudo apt install linux-modules-extra-{RELEASE}"


def test_cpu_kernel_of_which_nothing_is_known(made_up):
    made_up.remove("sys/class/powercap")
    made_up.remove("lib")
    assert found(check_cpus, made_up.machine())["PS-RAPL-08"].level == "WARN"


def test_cpu_of_a_virtual_machine_points_to_a_meter(made_up):
    made_up.remove("sys/class/powercap")
    made_up.virtual()
    check = found(check_cpus, made_up.machine())["PS-RAPL-02"]
    assert check.level == "WARN"
    assert "use a meter" in check.what
    assert check.fix is None


def test_cpu_of_another_architecture_is_no_harm(made_up):
    made_up.remove("sys/class/powercap")
    made_up.write("proc/cpuinfo", "CPU implementer\t: 0x41\n")
    checks = found(check_cpus, made_up.machine())
    assert (checks["PS-RAPL-06"].level, checks["PS-MSR-04"].level) == ("SKIP", "SKIP")


@pytest.mark.parametrize(
    ("paranoid", "caps", "code", "level"),
    [
        ("2", 0, "PS-PERF-01", "WARN"),
        ("4", 0, "PS-PERF-01", "WARN"),
        ("0", 0, "PS-PERF-00", "OK"),
        ("-1", 0, "PS-PERF-00", "OK"),
        ("2", 1 << CAP_PERFMON, "PS-PERF-00", "OK"),
    ],
)
def test_cpu_perf_setting_against_what_is_needed(made_up, paranoid, caps, code, level):
    made_up.pmu("energy-pkg", kind=999_999)  # no such PMU: the kernel refuses, and nothing else serves
    made_up.remove("sys/class/powercap")
    made_up.write("proc/sys/kernel/perf_event_paranoid", paranoid + "\n")
    made_up.process(caps=caps)
    check = found(check_cpus, made_up.machine())[code]
    assert check.level == level
    assert f"kernel.perf_event_paranoid = {paranoid}" in check.what
    if level == "WARN":
        assert check.fix.startswith("sudo setcap ")
        assert check.other == "sudo sysctl kernel.perf_event_paranoid=0"


def test_cpu_perf_that_is_not_needed_is_no_warning(made_up):
    made_up.pmu("energy-pkg", kind=999_999)
    with made_up.moving():
        assert found(check_cpus, made_up.machine())["PS-PERF-01"].level == "SKIP"


def test_cpu_perf_pmu_without_events(made_up):
    made_up.pmu()
    assert found(check_cpus, made_up.machine())["PS-PERF-02"].level == "SKIP"


def test_cpu_perf_that_counts_is_the_route(made_up):
    """Of kind 1 it is the kernel's CPU clock, which root may count."""
    made_up.pmu("energy-pkg")
    made_up.process(caps=1 << CAP_PERFMON)
    checks = found(check_cpus, made_up.machine())
    if "PS-RAPL-00" not in checks or "perf" not in checks["PS-RAPL-00"].what:
        pytest.skip("perf is refused to this user here")
    assert checks["PS-RAPL-00"].gives == ("package-0.energy",)


def test_cpu_msr_node_absent_present_and_closed(made_up):
    machine = made_up.machine()
    made_up.module("msr")
    assert found(check_cpus, machine)["PS-MSR-01"].fix == "sudo modprobe msr"
    node = made_up.write("dev/cpu/0/msr", "")
    assert found(check_cpus, machine)["PS-MSR-00"].level == "OK"
    node.chmod(0)
    with as_nobody():
        assert found(check_cpus, machine)["PS-MSR-02"].tried == (Tried(str(node), errno.EACCES),)


def test_cpu_msr_is_looked_for_nowhere_beside_another_sysfs(made_up):
    assert found(check_cpus, made_up.machine(sysfs_root=made_up.root / "sys"))["PS-MSR-05"].level == "SKIP"


def test_cpu_msr_under_lockdown(made_up):
    made_up.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert found(check_cpus, made_up.machine())["PS-MSR-03"].level == "SKIP"


def test_cpu_hidden_by_a_container_engine(made_up):
    made_up.remove("sys/class/powercap")
    made_up.mounts("/ overlay rw", "/sys sysfs ro", "/sys/devices/virtual/powercap tmpfs ro")
    assert found(check_cpus, made_up.machine())["PS-RAPL-07"].level == "WARN"


# ---- container and virtual machine -----------------------------------------------------------------------------


def test_box_bare_metal(made_up):
    assert levels(found(check_box, made_up.machine())) == {"PS-BOX-00": "OK"}


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        (".dockerenv", "", "Docker"),
        ("run/.containerenv", "", "Podman"),
        ("run/systemd/container", "lxc\n", "lxc"),
        ("proc/self/cgroup", "0::/kubepods.slice/kubepods-besteffort.slice\n", "Kubernetes"),
        ("proc/self/cgroup", "0::/system.slice/docker-0123abcd.scope\n", "Docker"),
    ],
)
def test_box_container_by_each_of_its_signs(made_up, path, text, kind):
    made_up.mounts("/ overlay rw", "/etc/hosts ext4 rw")
    made_up.write(path, text)
    assert f"({kind})" in found(check_box, made_up.machine())["PS-BOX-01"].what


def test_box_container_by_its_environment(made_up):
    assert "(oci)" in found(check_box, made_up.machine(environment={"container": "oci"}))["PS-BOX-01"].what


def test_box_ordinary_control_groups_are_no_container(made_up):
    made_up.write("proc/self/cgroup", "0::/system.slice/docker.service\n")  # what talks to a container's engine
    assert "PS-BOX-01" not in found(check_box, made_up.machine())


def test_box_machine_made_of_a_containers_image_is_no_container(made_up):
    made_up.write(".dockerenv", "")
    assert "PS-BOX-01" not in found(check_box, made_up.machine())


@pytest.mark.parametrize("mount", ["tmpfs ro", "tmpfs rw", "ext4 ro"])
def test_box_mask_over_the_counters_and_the_way_round(made_up, mount):
    made_up.write(".dockerenv", "")
    made_up.mounts("/ overlay rw", "/etc/hosts ext4 rw", f"/sys/devices/virtual/powercap {mount}")
    check = found(check_box, made_up.machine())["PS-BOX-02"]
    assert check.level == "WARN"
    assert "POWERSAMPLE_SYSFS_ROOT=/host-sys" in check.fix
    elsewhere = made_up.machine(sysfs_root=made_up.root / "host-sys")
    assert levels(found(check_box, elsewhere)) == {"PS-BOX-01": "OK", "PS-BOX-03": "OK"}


def test_box_virtual_machine_by_flag_and_by_name(made_up):
    made_up.virtual("Amazon EC2")
    assert "Amazon EC2" in found(check_box, made_up.machine())["PS-BOX-04"].what
    made_up.write("proc/cpuinfo", "CPU implementer\t: 0x41\n")
    assert "PS-BOX-04" in found(check_box, made_up.machine())


@pytest.mark.parametrize("cpuinfo", ["vendor_id\t: GenuineIntel\nflags\t\t: fpu tsc\n", "CPU implementer\t: 0x41\n"])
def test_box_bare_metal_of_a_cloud_is_no_virtual_machine(made_up, cpuinfo):
    made_up.write("proc/cpuinfo", cpuinfo)
    made_up.write("sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    made_up.write("sys/class/dmi/id/product_name", "c7g.metal\n")
    assert "PS-BOX-04" not in found(check_box, made_up.machine())
