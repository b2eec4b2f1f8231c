# SPDX-License-Identifier: Apache-2.0
"""The simulated node's power meters by powersample's own hwmon source, against the truth, and one that goes wrong."""

import time

import pytest

from powersample.session import measure
from powersample.sim import Node


def primaries(run):
    energies = run.report().data["windows"][0]["energies"]
    return {(one["device"], one["domain"]): one for one in energies if one["primary"]}


def test_grace_meters_tell_module_socket_and_rails():
    """Constant powers: what a mean of 50 ms misses at an edge is none of a meter's fault."""
    with Node("gh200", gpus=2, cpu="grace", packages=2) as node:
        with measure(simulate=node, sources="hwmon") as run:
            time.sleep(0.4)
        window = run.windows[0]
        found = primaries(run)
        for package in range(2):
            for key, truth in (
                ((f"module-{package}", "module"), f"module-{package}"),
                ((f"package-{package}", "package"), f"socket-{package}"),  # Grace's own meter includes its memory
                ((f"package-{package}", "core"), f"package-{package}.core"),
                ((f"package-{package}", "uncore"), f"package-{package}.uncore"),
            ):
                truth_j = node.truth_j(truth, window.start_ns, window.end_ns)
                assert found[key]["truth_j"] == pytest.approx(truth_j, rel=1e-6)
                assert found[key]["joules"] == pytest.approx(truth_j, rel=0.01)


def test_rails_of_an_ina3221_are_voltage_times_current():
    with Node("h100", cpu="jetson_orin") as node:
        node.load_wave("package-0", 2, 12, period_s=0.05, duty=0.5)
        with measure(simulate=node, sources="hwmon") as run:
            time.sleep(0.4)
        for (device, domain), one in primaries(run).items():
            assert domain == "supply"
            assert one["joules"] == pytest.approx(one["truth_j"], rel=0.05), device
    assert {device.partition(":")[2] for device, _ in primaries(run)} == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}


def test_node_meter_and_battery_tell_the_whole_node():
    for cpu, key in (("intel_spr", ("power_meter-ACPI000D-00", "psys")), ("intel_client", ("BAT0", "supply"))):
        with Node("a100", cpu=cpu) as node:
            with measure(simulate=node) as run:
                time.sleep(0.3)
            window = run.windows[0]
            truth_j = node.truth_j("node", window.start_ns, window.end_ns)
        energies = {(e["device"], e["domain"]): e for e in run.report().data["windows"][0]["energies"]}
        assert energies[key]["truth_j"] == pytest.approx(truth_j, rel=1e-6)
        series = run.trace.series(energies[key]["channel"])
        assert series.value[series.status == 0] == pytest.approx(truth_j / window.duration_s, rel=0.01)


def test_garbage_in_a_meter_is_errors_and_the_others_go_on():
    with Node("gh200", cpu="grace") as node:
        node.garble("hwmon2.power1", "not a number")
        with measure(simulate=node, sources="hwmon") as run:
            time.sleep(0.2)
        channels = {one["name"]: one for one in run.report().data["channels"]}
    broken = next(name for name in channels if ".core." in name)
    assert sum(channels[broken]["errors"].values()) == channels[broken]["polls"]
    assert all(not one["errors"] for name, one in channels.items() if name != broken)
