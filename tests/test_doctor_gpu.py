# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds between a process and its GPUs: the ways to have no driver, and the stand-in's boards."""

import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
from machines import made

from powersample import errors
from powersample._native.api_nvml import Nvml
from powersample.doctor import diagnose
from powersample.doctor.gpu import check_gpus
from powersample.sim import Latency, Node


@pytest.fixture
def made_up():
    with made() as machine:
        yield machine


@pytest.fixture
def node():
    with Node("h100", gpus=2) as built:
        yield built


def found(machine):
    return {one.code: one for one in check_gpus(machine)}


def board(made_up, kind="0x030200"):
    made_up.write("sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de\n")
    made_up.write("sys/bus/pci/devices/0000:17:00.0/class", kind + "\n")


# ---- before the library ----------------------------------------------------------------------------------------


def test_no_board_and_no_driver_is_no_harm(made_up):
    checks = found(made_up.machine())
    assert checks["PS-NVML-01"].level == "SKIP"
    assert checks["PS-SMI-01"].fix == "powersample doctor --fetch-nvidia-smi"


def test_audio_device_of_the_same_vendor_is_no_board(made_up):
    board(made_up, kind="0x040300")
    assert "PS-NVML-01" in found(made_up.machine())


@pytest.mark.parametrize(
    ("system", "fix"),
    [
        ("ID=debian\n", "sudo apt install nvidia-driver"),
        ("ID=ubuntu\n", "sudo ubuntu-drivers install"),
        ("ID=x\n", None),
    ],
)
def test_board_without_a_driver_fails_with_the_systems_own_way(made_up, system, fix):
    board(made_up)
    made_up.write("etc/os-release", system)
    check = found(made_up.machine())["PS-NVML-02"]
    assert (check.level, check.fix) == ("FAIL", fix)


def test_board_whose_driver_is_only_not_loaded(made_up):
    board(made_up)
    made_up.module("nvidia")
    assert found(made_up.machine())["PS-NVML-02"].fix == "sudo modprobe nvidia"


def test_driver_without_device_nodes_in_and_outside_a_container(made_up):
    made_up.write("sys/module/nvidia/version", "535.247.01\n")
    assert found(made_up.machine())["PS-NVML-03"].fix == "sudo nvidia-modprobe -c 0 -u"
    made_up.container()
    assert "--gpus all" in found(made_up.machine())["PS-NVML-03"].fix


# ---- the library refuses ---------------------------------------------------------------------------------------


def refusing(error):
    def load(_):
        raise error

    return load


def test_driver_without_its_library(made_up):
    made_up.write("dev/nvidiactl", "")
    error = errors.DeviceNotFound("dlopen: not found: libnvidia-ml.so.1", call="dlopen")
    machine = made_up.machine(load_nvml=refusing(error))
    assert found(machine)["PS-NVML-04"].fix == "sudo apt install libnvidia-ml1"
    made_up.container()
    assert "NVIDIA_DRIVER_CAPABILITIES" in found(machine)["PS-NVML-04"].fix


@pytest.mark.parametrize(
    ("code", "check", "fix"),
    [(18, "PS-NVML-05", "sudo reboot"), (9, "PS-NVML-06", "sudo modprobe nvidia"), (999, "PS-NVML-08", None)],
)
def test_library_that_refuses_by_each_code(made_up, node, code, check, fix):
    made_up.write("sys/module/nvidia/version", "535.247.01\n")
    node.inject("init", code)
    one = found(made_up.machine(nvml_library=str(node.library)))[check]
    assert (one.level, one.fix) == ("FAIL", fix)
    assert f"(NVML error {code})" in one.what
    if code == 18:
        assert "the module is 535.247.01" in one.what
        assert one.other.startswith("sudo rmmod nvidia_uvm")


def test_library_that_refuses_this_user_names_the_nodes_group(made_up, node):
    node.inject("init", 4)
    made_up.write("dev/nvidiactl", "")
    one = found(made_up.machine(nvml_library=str(node.library)))["PS-NVML-07"]
    assert one.level == "FAIL"
    assert one.tried[0].errno == 13


# ---- boards ----------------------------------------------------------------------------------------------------


def test_boards_offer_channels_and_say_what_a_recording_would_do(made_up, node):
    checks = [one for one in check_gpus(made_up.machine(nvml_library=str(node.library))) if one.gives]
    assert [one.code for one in checks] == ["PS-NVML-00", "PS-NVML-00"]
    assert {"gpu0.power.instant", "gpu0.power.average", "gpu0.power.usage", "gpu0.energy"} <= set(checks[0].gives)
    assert not [name for name in checks[0].gives if "temperature" in name or "clock" in name]
    for part in ("gpu0 NVIDIA H100 PCIe", "driver 535.", "energy counter", "s a pass", "recorded at "):
        assert part in checks[0].what


def test_board_without_fields_and_counter_says_so(made_up):
    with Node("k40m") as node:
        one = found(made_up.machine(nvml_library=str(node.library)))["PS-NVML-00"]
    assert "gpu0.power.usage" in one.gives
    assert not {"gpu0.power.instant", "gpu0.energy"} & set(one.gives)
    assert "no energy counter" in one.what


def test_boards_that_are_slow_to_ask_are_warned_of(made_up, node):
    node.set_latency("any", Latency.fixed(0.005))
    one = found(made_up.machine(nvml_library=str(node.library)))["PS-NVML-14"]
    assert one.level == "WARN"
    assert "go unseen" in one.what


def test_one_lost_board_leaves_the_other(made_up, node):
    node.inject("handle", 15, gpu=1)
    checks = found(made_up.machine(nvml_library=str(node.library)))
    assert checks["PS-NVML-00"].gives[0] == "gpu0.power.instant"
    assert checks["PS-NVML-10"].what.startswith("gpu1 does not answer")


class Dressed(Nvml):
    """The stand-in with circumstances that it does not model."""

    def describe(self, index):
        return replace(super().describe(index), persistence=index != 1, mig=index == 0, compute_processes=2 * index)


def test_circumstances_are_warned_of(made_up, node):
    checks = found(made_up.machine(nvml_library=str(node.library), load_nvml=Dressed))
    assert {code: one.level for code, one in checks.items() if one.level == "WARN"} == {
        "PS-NVML-11": "WARN",
        "PS-NVML-12": "WARN",
        "PS-NVML-13": "WARN",
    }
    assert checks["PS-NVML-11"].what.startswith("persistence mode is off on gpu1:")
    assert (checks["PS-NVML-11"].fix, checks["PS-NVML-11"].other) == (
        "sudo nvidia-smi -pm 1",
        "sudo systemctl enable --now nvidia-persistenced",
    )
    assert checks["PS-NVML-12"].what.startswith("gpu0 is in MIG mode")
    assert checks["PS-NVML-13"].what.startswith("gpu1 is used by 2 other")


class Empty:
    """A driver without a board."""

    def versions(self):
        return "535.247.01", "12.535.247.01", False

    def count(self):
        return 0


def test_driver_without_boards(made_up):
    made_up.write("dev/nvidiactl", "")
    one = found(made_up.machine(load_nvml=lambda _: nullcontext(Empty())))["PS-NVML-09"]
    assert (one.level, one.fix) == ("FAIL", None)


def test_call_that_never_returns_costs_the_rest_of_its_section(made_up):
    made_up.write("dev/nvidiactl", "")
    ended = threading.Event()

    def hang(_):
        ended.wait(30)
        raise errors.DeviceNotFound("too late")

    diagnosis = diagnose(made_up.machine(load_nvml=hang), patience_s=2.0)
    ended.set()
    hung = [one for one in diagnosis.checks if one.code == "PS-DOC-03"]
    assert [(one.section, one.level) for one in hung] == [("GPU", "FAIL")]
    assert {"CPU", "clock", "meters"} <= {one.section for one in diagnosis.checks}


# ---- nvidia-smi, and what is simulated -------------------------------------------------------------------------


def test_nvidia_smi_on_path(made_up):
    assert "/usr/bin/nvidia-smi" in found(made_up.machine(which=lambda name: f"/usr/bin/{name}"))["PS-SMI-00"].what


def test_stand_in_by_its_path_or_its_folder_is_never_a_measurement(made_up, node):
    by_library = diagnose(made_up.machine(nvml_library=str(node.library)))
    assert by_library.simulated == f"({node.library} is powersample's stand-in)"
    assert [one.level for one in by_library.checks if one.code == "PS-SIM-01"] == ["OK"]
    assert diagnose(made_up.machine()).simulated is None
    made_up.write("sys/powersample-simulated", "")
    assert diagnose(made_up.machine()).simulated == f"({made_up.root / 'sys'} is a simulated node's)"
