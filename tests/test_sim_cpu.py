# SPDX-License-Identifier: Apache-2.0
"""The simulated node's CPUs: their files show the exact truth, to whoever reads them, and go wrong on demand."""

import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from powersample.capture import Plan, discover
from powersample.errors import InvalidArgument, NotSupported, StateError
from powersample.session import measure
from powersample.session.simulate import make_node
from powersample.sim import Node, cpu, cpu_profile_names, load_cpu_profile

S = 1_000_000_000


@pytest.fixture
def node():
    with Node("h100", cpu="intel_spr", packages=2) as made:
        yield made


def zone(node, name):
    return node.sysfs / "class/powercap" / name


def energy_uj(path):
    return int((path / "energy_uj").read_text())


def register(node, cpu_number, number):
    with (node.devfs / "cpu" / str(cpu_number) / "msr").open("rb", buffering=0) as file:
        return struct.unpack("<Q", os.pread(file.fileno(), 8, number * 8))[0]


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.002)


def bounds_j(node, device, read):
    """What a counter that `read` returns in J may have gained, by the truth: from a reading before to one after."""
    first = (time.monotonic_ns(), read(), time.monotonic_ns())
    time.sleep(0.05)
    last = (time.monotonic_ns(), read(), time.monotonic_ns())
    done = node.truth_state()["files"]["ticks"]
    while (files := node.truth_state()["files"])["ticks"] < done + 2:  # what it was late by is told once it has come
        time.sleep(0.001)
    assert files["failures"] == 0
    late_ns = files["late_max_ns"] + 2_000_000
    low = node.truth_j(device, first[2], last[0] - late_ns) if last[0] - late_ns > first[2] else 0.0
    return low, last[1] - first[1], node.truth_j(device, first[0] - late_ns, last[2])


# ---- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cpu_profile_names())
def test_profile_figures_have_origins_and_parts_fit_into_their_package(name):
    profile = load_cpu_profile(name)
    assert all(profile.origins[key] for key in profile.figures)
    packages = {part.name: part for part in cpu.parts(profile, 1)}
    whole = packages["package-0"]
    inner = tuple(part for part in packages.values() if part.domain in ("core", "uncore"))
    assert 0 < whole.idle_mw < whole.max_mw
    for package_mw in range(0, whole.max_mw + 5000, 777):
        shares = cpu.shares(whole, inner, package_mw)
        assert sum(shares[part.name] for part in inner) <= package_mw
        assert all(share >= 0 for share in shares.values())
    for level in ("idle_mw", "max_mw"):
        assert sum(getattr(part, level) for part in inner) <= getattr(whole, level)


def test_profile_unknown_or_too_many_packages_refused():
    with pytest.raises(InvalidArgument, match="amd_milan"):
        Node(cpu="z80")
    with pytest.raises(InvalidArgument, match="comes in 1"):
        Node(cpu="intel_client", packages=2)
    with pytest.raises(InvalidArgument, match="1 or 2"):
        Node(cpu="intel_spr", packages=3)
    with pytest.raises(InvalidArgument, match="counter_bits"):
        Node(cpu="intel_spr", counter_bits=40)


# ---- the tree ------------------------------------------------------------------------------------------------------


def test_tree_looks_like_the_kernels(node):
    found = {path.name: path for path in (node.sysfs / "class/powercap").iterdir()}
    assert all(path.is_symlink() for path in found.values())
    names = {name: (path / "name").read_text().strip() for name, path in found.items() if name != "intel-rapl"}
    assert names == {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
    }
    assert found["intel-rapl:0:0"].resolve().parent == found["intel-rapl:0"].resolve()
    assert (zone(node, "intel-rapl:0") / "max_energy_range_uj").read_text() == "262143328850\n"  # the kernel's own
    cpus = node.sysfs / "devices/system/cpu"
    assert (cpus / "modalias").read_text().startswith("cpu:type:x86,ven0000fam0006mod008F:")
    assert (cpus / "online").read_text() == "0-223\n"
    packages = [int((cpus / f"cpu{n}/topology/physical_package_id").read_text()) for n in range(224)]
    assert packages == ([0] * 56 + [1] * 56) * 2
    assert (cpus / "cpu57/topology/core_cpus_list").read_text() == "57,169\n"
    assert (node.sysfs / "powersample-simulated").exists()
    assert {path.name for path in (node.devfs / "cpu").iterdir()} == {str(n) for n in range(224)}


def test_amd_ranges_are_the_kernels_own():
    with Node(cpu="amd_milan") as node:
        assert (zone(node, "intel-rapl:0") / "max_energy_range_uj").read_text() == "65532610987\n"
        assert register(node, 0, 0xC0010299) >> 8 & 0x1F == 16


def test_files_are_the_owners_alone_until_permitted(node):
    path = zone(node, "intel-rapl:0") / "energy_uj"
    msr = node.devfs / "cpu/3/msr"
    assert (path.stat().st_mode & 0o777, msr.stat().st_mode & 0o777) == (0o400, 0o600)
    node.permit(0o444, "powercap")
    assert (path.stat().st_mode & 0o777, msr.stat().st_mode & 0o777) == (0o444, 0o600)
    node.permit(0)
    assert (path.stat().st_mode & 0o777, msr.stat().st_mode & 0o777) == (0, 0)
    node.clear_faults()
    assert (path.stat().st_mode & 0o777, msr.stat().st_mode & 0o777) == (0o400, 0o600)
    with pytest.raises(InvalidArgument, match="powercap and msr"):
        node.permit(0o444, "perf")


def test_node_without_cpus_has_no_files_and_says_so():
    with Node() as node:
        assert node.sysfs is None
        assert node.devices == ("gpu0", "gpus", "node", "wall")
        with pytest.raises(NotSupported, match="intel_spr"):
            node.freeze("package-0")


def test_named_directory_holds_everything_and_stays(tmp_path):
    with Node(cpu="intel_client", directory=tmp_path / "node") as node:
        assert node.sysfs == tmp_path / "node" / "sys"
    before = energy_uj(zone(node, "intel-rapl:0"))
    time.sleep(0.02)
    assert energy_uj(zone(node, "intel-rapl:0")) == before  # whole, and at rest


def test_private_folders_vanish_with_the_node():
    with Node(cpu="intel_client") as node:
        sysfs = node.sysfs
        assert sysfs.is_dir()
    assert not sysfs.parent.exists()


# ---- energy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["intel_spr", "intel_icx", "intel_client", "amd_milan"])
def test_energy_of_every_counter_is_the_truth_within_an_update(name):
    """By powercap's text and by the register, in each domain's own unit."""
    with Node(cpu=name) as node:
        profile = node.cpu
        node.load_wave("package-0", 20, 60, period_s=0.004, duty=0.5)
        for domain in (one for one in cpu.domains(profile) if cpu.unit(profile, one) is not None):
            unit = cpu.unit(profile, domain)
            device = domain if domain == "psys" else "package-0" if domain == "package" else f"package-0.{domain}"
            share = profile["cpu.cores"] if unit.per_core else 1
            folder = next(p for p in (node.sysfs / "class/powercap").iterdir() if _is(p, device))
            kernel_j = unit.kernel_nj * 1e-9 * unit.counts_num / unit.counts_den  # what the kernel makes of a joule
            one_j = unit.counts_den / unit.counts_num
            for read, factor in (
                (lambda folder=folder: energy_uj(folder) * 1e-6, kernel_j / share),
                (lambda unit=unit: register(node, 0, unit.register) * unit.counts_den / unit.counts_num, 1 / share),
            ):
                for _ in range(3):  # the writer may be stopped between a tick and its account: measured again
                    low, gained, high = bounds_j(node, device, read)
                    if low * factor - one_j <= gained <= high * factor + one_j:
                        break
                assert low * factor - one_j <= gained <= high * factor + one_j


def _is(path, device):
    domain = device.partition(".")[2] or device
    return path.name != "intel-rapl" and (path / "name").read_text().strip() == domain


def test_energy_of_parts_adds_up_exactly(node):
    start = node.load_script("package-1", [(0, 200), (0.01, 333.333), (0.02, 120)])
    end = start + S
    assert node.truth_j("package-1", start, end) == pytest.approx(0.01 * 200 + 0.01 * 333.333 + 0.98 * 120, abs=1e-9)
    assert node.truth_j("node", start, end) == pytest.approx(
        sum(node.truth_j(d, start, end) for d in ("gpu0", "psys")), abs=1e-9
    )
    assert node.truth_j("psys", start, end) == pytest.approx(
        sum(node.truth_j(d, start, end) for d in ("socket-0", "socket-1", "board")), abs=1e-9
    )
    pieces = list(node.truth_counter("node", start, end))
    energy_nj = np.concatenate([piece[1] for piece in pieces])
    assert energy_nj[-1] == pytest.approx(node.truth_j("node", start, end) * 1e9, abs=10)
    assert np.all(np.diff(energy_nj) > 0)


def test_inner_parts_take_their_share_and_are_not_loaded_alone():
    with Node(cpu="intel_client") as node:
        start = node.load_wave("package-0", 4, 60, period_s=0.01, duty=0.5)
        assert node.truth_power_w("package-0.core", start + np.array([1, 6_000_000])).tolist() == [1, 50]
        core_j, package_j = (node.truth_j(d, start, start + S) for d in ("package-0.core", "package-0"))
        assert core_j < package_j
        with pytest.raises(InvalidArgument, match="Load package-0"):
            node.load_script("package-0.core", [(0, 1)])
        with pytest.raises(InvalidArgument, match="is a sum"):
            node.load_script("node", [(0, 1)])
        with pytest.raises(InvalidArgument, match="no device 'package-7'"):
            node.load_script("package-7", [(0, 1)])


def test_follow_moves_packages_memory_and_board_too(node):
    node.follow(0, capacity_cpus=1.0)
    begin = time.monotonic_ns()
    while time.monotonic_ns() < begin + S // 8:
        pass
    node.unfollow()
    now = time.monotonic_ns()
    seconds = (now - begin) / 1e9
    for device, idle_w in (
        ("gpu0", 48),
        ("package-0", 100),
        ("package-1", 100),
        ("package-1.dram", 12),
        ("board", 170),
    ):
        assert node.truth_j(device, begin, now) > idle_w * seconds * 1.02


def test_counter_wraps_often_with_few_bits_and_keeps_its_energy():
    with Node(cpu="intel_spr", counter_bits=13) as node:  # half a joule: every 2.5 ms at 200 W
        start = node.load_script("package-0", [(0, 200)])
        folder = zone(node, "intel-rapl:0")
        modulus_uj = int((folder / "max_energy_range_uj").read_text())
        total, wraps, last = 0, 0, energy_uj(folder)
        begin = time.monotonic_ns()
        while time.monotonic_ns() < start + S // 5:
            value = energy_uj(folder)
            assert 0 <= value <= modulus_uj
            wraps += value < last
            total += (value - last) % modulus_uj
            last = value
        assert wraps >= 5
        assert total * 1e-6 <= node.truth_j("package-0", begin - 50_000_000, time.monotonic_ns())


def test_counter_begins_just_before_its_wrap_by_both_routes():
    with Node(cpu="intel_spr", wrap_after_j=2.0) as node:
        folder = zone(node, "intel-rapl:0")
        largest_uj = int((folder / "max_energy_range_uj").read_text())
        wait_until(lambda: energy_uj(folder) < largest_uj / 2)
        assert register(node, 5, 0x611) < 1 << 31


def test_reader_beside_the_writer_never_sees_half_a_value(node):
    node.load_script("package-0", [(0, 350)])
    path = zone(node, "intel-rapl:0") / "energy_uj"
    fd, msr = os.open(path, os.O_RDONLY), os.open(node.devfs / "cpu/7/msr", os.O_RDONLY)
    try:
        last, last_counts, reads, moves = 0, 0, 0, 0
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            value = int(os.pread(fd, 64, 0))
            (counts,) = struct.unpack("<Q", os.pread(msr, 8, 0x611 * 8))
            assert value >= last
            assert last_counts <= counts < 1 << 32
            moves += value != last
            last, last_counts, reads = value, counts, reads + 1
    finally:
        os.close(fd)
        os.close(msr)
    assert reads > 2000
    assert moves > 20


def test_amd_cores_count_each_for_itself():
    with Node(cpu="amd_milan", packages=2) as node:
        assert not (node.devfs / "cpu/0/msr").samefile(node.devfs / "cpu/1/msr")
        assert (node.devfs / "cpu/0/msr").samefile(node.devfs / "cpu/32/msr")  # the second thread of core 0
        start = {number: register(node, number, 0xC001029A) for number in (0, 1, 17)}
        before = time.monotonic_ns()
        wait_until(lambda: time.monotonic_ns() > before + S // 10)
        gained = [(register(node, number, 0xC001029A) - counts) / 65536 for number, counts in start.items()]
        assert max(gained) <= node.truth_j("package-0.core", before - S, time.monotonic_ns()) / 16
        assert min(gained) > 0


# ---- meters --------------------------------------------------------------------------------------------------------


def test_meters_show_node_rails_and_battery():
    with Node(cpu="intel_spr") as node:
        folder = node.sysfs / "class/hwmon/hwmon0"
        assert (folder / "name").read_text() == "power_meter\n"
        assert (folder / "power1_average_interval").read_text() == "1000\n"
        assert (
            int((folder / "power1_average").read_text()) == node.truth_power_w("node", [time.monotonic_ns()])[0] * 1e6
        )
    with Node("rtx3090", cpu="intel_client") as node:
        battery = node.sysfs / "class/power_supply/BAT0"
        assert (battery / "type").read_text() == "Battery\n"
        assert int((battery / "power_now").read_text()) == pytest.approx(
            node.truth_power_w("node", [time.monotonic_ns()])[0] * 1e6, abs=5000
        )
    with Node(cpu="jetson_orin") as node:
        folder = node.sysfs / "class/hwmon/hwmon0"
        for rail, device in ((1, "gpu0"), (2, "package-0"), (3, "board")):
            milli = (
                int((folder / f"in{rail}_input").read_text()) * int((folder / f"curr{rail}_input").read_text()) / 1e3
            )
            assert milli == pytest.approx(node.truth_power_w(device, [time.monotonic_ns()])[0] * 1e3, abs=10)
        assert (folder / "in2_label").read_text() == "VDD_CPU_CV\n"


def test_meters_of_grace_are_told_apart_by_their_oem_info():
    with Node(cpu="grace", packages=2, gpus=2) as node:
        labels = {
            (path / "power1_oem_info").read_text().strip(): int((path / "power1_average").read_text()) / 1e6
            for path in (node.sysfs / "class/hwmon").iterdir()
        }
        now = [time.monotonic_ns()]
        for package in range(2):
            for label, device in (
                ("Module", f"module-{package}"),
                ("Grace", f"socket-{package}"),
                ("CPU", f"package-{package}.core"),
                ("SysIO", f"package-{package}.uncore"),
            ):
                assert labels[f"{label} Power Socket {package}"] == node.truth_power_w(device, now)[0]
        assert not (node.sysfs / "class/powercap").exists()


# ---- faults --------------------------------------------------------------------------------------------------------


def test_freeze_stops_text_and_register_while_the_truth_goes_on(node):
    folder = zone(node, "intel-rapl:0")
    node.freeze("package-0")
    stuck = energy_uj(folder), register(node, 0, 0x611)
    other = energy_uj(zone(node, "intel-rapl:1"))
    wait_until(lambda: energy_uj(zone(node, "intel-rapl:1")) > other)
    assert (energy_uj(folder), register(node, 0, 0x611)) == stuck
    node.thaw("package-0")
    assert energy_uj(folder) > stuck[0]
    assert register(node, 0, 0x611) > stuck[1]


def test_garble_shows_the_text_until_thawed(node):
    path = zone(node, "intel-rapl:0:0") / "energy_uj"
    size = path.stat().st_size
    node.garble("package-0.dram", "<unreadable>")
    assert path.read_text().rstrip("\n") == "<unreadable>"
    assert path.stat().st_size == size
    node.thaw("package-0.dram")
    assert int(path.read_text()) > 0
    with pytest.raises(InvalidArgument):
        node.garble("package-0", "much longer than the file is wide")
    with pytest.raises(InvalidArgument, match=r"there are package-0, package-0\.dram"):
        node.garble("package-9")


def test_reset_counter_begins_anew_and_wrap_soon_wraps(node):
    folder = zone(node, "intel-rapl:1")
    node.reset_counter("package-1")
    wait_until(lambda: energy_uj(folder) < 1e9)
    assert register(node, 56, 0x611) * 61.035e-6 < 1e3
    node.wrap_soon("package-1", 3.0)
    largest_uj = int((folder / "max_energy_range_uj").read_text())
    wait_until(lambda: energy_uj(folder) > largest_uj - 4_000_000)
    wait_until(lambda: energy_uj(folder) < largest_uj / 2)
    with pytest.raises(InvalidArgument, match="does not fit"):
        node.reset_counter("package-1", 1e12)


def test_remove_takes_a_zone_with_what_lies_in_it_and_restore_makes_new_files(node):
    kept = os.open(zone(node, "intel-rapl:0:0") / "energy_uj", os.O_RDONLY)
    node.remove("package-0")
    left = {path.name for path in (node.sysfs / "class/powercap").iterdir()}
    assert left == {"intel-rapl", "intel-rapl:1", "intel-rapl:1:0", "intel-rapl:2"}
    assert os.pread(kept, 64, 0) == b""
    with pytest.raises(StateError, match="gone already"):
        node.remove("package-0")
    node.restore("package-0")
    assert os.pread(kept, 64, 0) == b""
    os.close(kept)
    before = energy_uj(zone(node, "intel-rapl:0:0"))
    wait_until(lambda: energy_uj(zone(node, "intel-rapl:0:0")) > before)
    with pytest.raises(StateError, match="was not removed"):
        node.restore("package-0")


def test_remove_msr_files_of_a_package(node):
    node.remove("msr-1")
    assert not (node.devfs / "cpu/56/msr").exists()
    assert not (node.devfs / "cpu/57/msr").exists()
    assert register(node, 0, 0x611) > 0
    node.clear_faults()
    assert register(node, 57, 0x611) > 0
    with pytest.raises(InvalidArgument, match="msr-0, msr-1"):
        node.remove("msr-7")


def test_closed_node_refuses_faults():
    node = Node(cpu="intel_client")
    node.close()
    with pytest.raises(StateError, match="closed"):
        node.freeze("package-0")


def test_forked_child_leaves_the_moving_files_alone(node):
    child = os.fork()
    if child == 0:
        node.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    before = energy_uj(zone(node, "intel-rapl:0"))
    wait_until(lambda: energy_uj(zone(node, "intel-rapl:0")) > before)


def test_files_stand_still_once_their_process_was_killed(tmp_path):
    """The writer is a thread: nothing goes on for a process that is gone."""
    program = (
        "import os, sys; from powersample.sim import Node\n"
        "node = Node(cpu='intel_client', directory=sys.argv[1]); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "node")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.kill()
        process.wait()
    path = tmp_path / "node/sys/class/powercap/intel-rapl:0"
    before = energy_uj(path)
    time.sleep(0.02)
    assert energy_uj(path) == before


# ---- through powersample -------------------------------------------------------------------------------------------


def test_discover_finds_the_packages_by_powercap(node):
    found = discover(Plan(sources=("rapl",), sysfs=str(node.sysfs)))
    assert [(one.number, one.route) for one in found.packages] == [(0, "powercap"), (1, "powercap")]


def test_measured_energy_of_packages_and_memory_is_the_truth(node):
    node.load_wave("package-0", 100, 300, period_s=0.05, duty=0.5)
    with measure(sources=("rapl",), sysfs=node.sysfs) as run:
        time.sleep(0.4)
    assert run.trace.simulated
    assert [lane.cpu for lane in run.trace.lanes] == [-1, -1]  # its CPU 56 is none of this machine's
    window = run.windows[0]
    for device, domain in (("package-0", "package"), ("package-1", "package"), ("package-0", "dram")):
        name = device if domain == "package" else f"{device}.{domain}"
        truth_j = node.truth_j(name, window.start_ns, window.end_ns)
        assert run.energy("run", device, domain=domain).joules == pytest.approx(truth_j, rel=0.02)


def test_report_of_a_simulated_node_shows_the_truth_of_cpus(tmp_path):
    with measure(simulate="h100+intel_spr", load="wave:60,300,0.1,0.5", output=tmp_path / "run.parquet") as run:
        time.sleep(0.4)
    energies = {(e["device"], e["domain"]): e for e in run.report().data["windows"][0]["energies"] if e["primary"]}
    for key in (("package-0", "package"), ("package-0", "dram"), ("psys", "psys")):
        assert energies[key]["joules"] == pytest.approx(energies[key]["truth_j"], rel=0.05)
    assert energies["package-0", "package"]["truth_j"] == pytest.approx(100 * run.windows[0].duration_s, rel=1e-6)
    node = run.trace.meta["simulated_node"]
    assert node["cpu"] == {"profile": "intel_spr", "packages": 1}
    assert node["files"]["failures"] == 0


def test_specification_of_a_node_names_gpus_and_cpus():
    for spec, gpus, packages in (
        ("h100", 1, ("package-0",)),
        ("h100x2+amd_milanx2", 2, ("package-0", "package-1")),
        ("v100+none", 1, ()),
    ):
        with make_node(spec) as node:
            assert len(node.gpu_uuids) == gpus
            assert tuple(name for name in node.counters if "." not in name and name != "psys") == packages
    with make_node("gh200") as node:
        assert node.cpu.name == "grace"
    with pytest.raises(InvalidArgument, match="no CPU profile 'z80'"):
        make_node("h100+z80")
