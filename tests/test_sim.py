# SPDX-License-Identifier: Apache-2.0
"""The simulated node as a product: what is loaded into it, what its library and its truth say."""

from __future__ import annotations

import ctypes
import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from powersample._native import api_sim
from powersample.errors import (
    BadFormat,
    DeviceNotFound,
    InvalidArgument,
    NotSupported,
    OutputExists,
    StateError,
)
from powersample.sim import Latency, Node

S = 1_000_000_000


@pytest.fixture
def node():
    with Node("a100") as made:
        yield made


# ---- truth and load ------------------------------------------------------------


def test_truth_of_a_script_is_exact(node):
    start = node.load_script(0, [(0, 100), (0.5, 250), (2, 50)])
    assert node.truth_j(0, start, start + 3 * S) == 0.5 * 100 + 1.5 * 250 + 50
    assert node.truth_power_w(0, start + np.array([-1, 0, S // 2, 2 * S])).tolist() == [35, 100, 250, 50]
    assert node.truth_state()["truth_void"] is False


def test_truth_of_a_wave_holds_until_the_next_load(node):
    start = node.load_wave(0, 60, 400, period_s=0.1, duty=0.25)
    assert node.truth_j(0, start, start + 10 * S) == pytest.approx(10 * (60 * 0.25 + 400 * 0.75), abs=1e-12)
    later = node.load_script(0, [(0, 80)], start_ns=start + 10 * S + 25_000_000)
    assert node.truth_j(0, later, later + S) == 80
    assert node.truth_j(0, later - 25_000_000, later) == 60 * 0.025


def test_truth_of_a_trace_follows_its_instants(node):
    rng = np.random.default_rng(1)
    t_ns = np.cumsum(rng.integers(1, 10_000_000, 500))
    watts = rng.uniform(35, 250, 500).round(3)
    start = node.load_trace(0, t_ns, watts)
    expected = float(np.sum(np.diff(t_ns) * 1e-9 * watts[:-1]))
    assert node.truth_j(0, start, start + int(t_ns[-1] - t_ns[0])) == pytest.approx(expected, rel=1e-12)


def test_truth_counter_rebuilds_energy_and_power(node):
    start = node.load_wave(0, 60, 400, period_s=0.00002, duty=0.5)  # 100 000 edges: several pieces
    pieces = list(node.truth_counter(0, start, start + S))
    t_ns = np.concatenate([piece[0] for piece in pieces])
    energy_nj = np.concatenate([piece[1] for piece in pieces])
    assert len(pieces) == 3
    assert t_ns[0] == start
    assert t_ns[-1] == start + S
    assert np.all(np.diff(t_ns) == 10_000)
    assert set(np.diff(energy_nj)) == {600_000, 4_000_000}
    assert energy_nj[-1] == node.truth_j(0, start, start + S) * 1e9


def test_truth_before_the_node_is_idle_then_unknown(node):
    now = time.monotonic_ns()
    assert node.truth_j(0, now - 5 * S, now - 4 * S) == 35
    with pytest.raises(InvalidArgument):
        node.truth_j(0, now - 60 * S, now)


def test_load_in_the_past_or_before_the_last_one_refused(node):
    with pytest.raises(InvalidArgument, match="before now"):
        node.load_script(0, [(0, 100)], start_ns=time.monotonic_ns() - S)
    start = node.load_script(0, [(0, 100), (5, 35)])
    with pytest.raises(InvalidArgument, match="before"):
        node.load_script(0, [(0, 90)], start_ns=start + S)
    assert node.load_script(0, [(0, 90)]) == start + 5 * S + 1


@pytest.mark.parametrize("duty", [0, 1, -0.5, math.nan, 1e-12])
def test_load_wave_without_two_levels_refused(node, duty):
    with pytest.raises(InvalidArgument, match="two levels"):
        node.load_wave(0, 60, 400, period_s=0.1, duty=duty)


def test_follow_this_process_raises_power_and_blocks_other_loads(node):
    node.follow(0, capacity_cpus=1.0)
    with pytest.raises(StateError, match="followed"):
        node.load_script(0, [(0, 100)])
    begin = time.monotonic_ns()
    while time.monotonic_ns() < begin + S // 8:
        math.sqrt(2.0)
    assert node.truth_state()["follow"]["route"] == "process clock"
    node.unfollow()
    state = node.truth_state()
    peak_w = node.truth_power_w(0, np.arange(begin, time.monotonic_ns(), 1_000_000)).max()
    assert state["follow"]["cpu_s"] > 0.01
    assert 35 < peak_w <= 250
    assert node.truth_power_w(0, time.monotonic_ns() + S).tolist() == [35]
    node.load_script(0, [(0, 100)])


def test_follow_bad_process_or_capacity_refused(node):
    with pytest.raises(DeviceNotFound, match="process 8388608"):
        node.follow(1 << 23)
    for capacity in (0, -1, math.inf):
        with pytest.raises(InvalidArgument, match="capacity_cpus"):
            node.follow(0, capacity_cpus=capacity)


# ---- sensors ------------------------------------------------------------


def test_sensor_values_of_a_constant_load_are_the_load(node):
    start = node.load_script(0, [(0, 200)])
    t_ns = start + np.array([2, 3]) * S
    assert node.sensor_values(0, "instant", t_ns).tolist() == [200, 200]
    assert node.sensor_values(0, "usage", t_ns).tolist() == [200, 200]
    energy_j = node.sensor_values(0, "energy", t_ns)
    assert energy_j[1] - energy_j[0] == pytest.approx(200, abs=200 * 0.105)  # a publication more or less
    with pytest.raises(NotSupported, match=r"no sensor 'average'; it has instant, energy, samples, usage"):
        node.sensor_values(0, "average", t_ns)


def test_sensor_drawn_board_reads_by_its_gain_and_offset():
    with Node("a100", board_seed=3) as node:
        board = node.boards[0]
        start = node.load_script(0, [(0, 200)])
        values = node.sensor_values(0, "instant", start + 2 * S + np.arange(400) * 102_000_000)
        expected = board.gain * 200 + board.offset_w
        assert values.mean() == pytest.approx(expected, abs=5 * board.noise_w / 20 + 1e-3)
        assert abs(expected - 200) > 0.1


def test_sensor_publications_are_the_changes_a_poller_sees(node):
    start = node.load_wave(0, 60, 250, period_s=0.33, duty=0.5)
    times = node.sensor_publications(0, "instant", start + 2 * S, start + 6 * S)
    assert len(times) == pytest.approx(4 / 0.102, abs=1)
    before, at = (node.sensor_values(0, "instant", times + shift) for shift in (-1, 0))
    assert before[1:].tolist() == at[:-1].tolist()
    polls = np.arange(start + 2 * S, start + 6 * S, 1_000_000)
    changes = polls[1:][np.diff(node.sensor_values(0, "instant", polls)) != 0]
    nearest = times[np.searchsorted(times, changes) - 1]
    assert np.all(changes - nearest < 1_000_001)


def test_sensor_aliasing_load_trapezoid_wrong_and_counter_right(node):
    """Faster polling cannot repair a part-time sensor on a load of its own period."""
    start = (time.monotonic_ns() // 102_000_000 + 3) * 102_000_000
    node.load_wave(0, 60, 250, period_s=0.102, duty=0.5, start_ns=start + 41_000_000)
    t_ns = np.arange(start + 2 * S, start + 5 * S, 1_000_000)
    power = node.sensor_values(0, "instant", t_ns)
    truth_w = node.truth_j(0, int(t_ns[0]), int(t_ns[-1])) / ((t_ns[-1] - t_ns[0]) / S)
    assert truth_w == pytest.approx(155, rel=0.01)
    assert power.mean() / truth_w - 1 < -0.4
    energy = node.sensor_values(0, "energy", t_ns[[0, -1]])
    assert (energy[1] - energy[0]) / 3 == pytest.approx(truth_w, rel=0.05)


# ---- the folder and its library ------------------------------------------------------------


class Library(ctypes.CDLL):
    def uuid(self, gpu: int) -> str:
        handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        assert self.nvmlInit_v2() == 0
        assert self.nvmlDeviceGetHandleByIndex_v2(gpu, ctypes.byref(handle)) == 0
        assert self.nvmlDeviceGetUUID(handle, text, 96) == 0
        return text.value.decode()

    def power_w(self, gpu: int) -> tuple[int, float]:
        handle, power = ctypes.c_void_p(), ctypes.c_uint()
        assert self.nvmlDeviceGetHandleByIndex_v2(gpu, ctypes.byref(handle)) in (0, 1)
        return self.nvmlDeviceGetPowerUsage(handle, ctypes.byref(power)), power.value / 1e3


def test_library_two_nodes_in_one_process_stay_apart():
    with Node("a100", gpus=2) as one, Node("v100", seed=1) as two:
        first, second = Library(str(one.library)), Library(str(two.library))
        assert first.uuid(1) == one.gpu_uuids[1]
        assert second.uuid(0) == two.gpu_uuids[0]
        assert first.power_w(0) == (0, 35)
        assert second.power_w(0) == (0, 25)


def test_library_in_another_process_sees_the_same_boards(node):
    program = (
        "import ctypes; lib = ctypes.CDLL('libnvidia-ml.so.1'); assert lib.nvmlInit_v2() == 0\n"
        "h, t = ctypes.c_void_p(), ctypes.create_string_buffer(96)\n"
        "lib.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(h))\n"
        "lib.nvmlDeviceGetUUID(h, t, 96); print(t.value.decode())"
    )
    environment = {**os.environ, **node.environment()}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == node.gpu_uuids[0]


def test_inject_code_answered_until_cleared(node):
    library = Library(str(node.library))
    library.uuid(0)
    assert library.power_w(0)[0] == 0
    node.inject("power_usage", 15)
    assert library.power_w(0)[0] == 15
    node.clear_faults()
    assert library.power_w(0)[0] == 0
    node.inject("power_usage", 999, every=2)
    assert sorted(library.power_w(0)[0] for _ in range(4)) == [0, 0, 999, 999]


def test_reload_driver_counter_begins_anew_and_init_is_void(node):
    library = Library(str(node.library))
    library.uuid(0)
    node.reload_driver()
    assert library.power_w(0)[0] == 1
    now = time.monotonic_ns()
    assert node.sensor_values(0, "energy", now - 1).tolist() == [0]
    assert library.uuid(0) == node.gpu_uuids[0]


def test_latency_fixed_slows_calls_at_least_so_long(node):
    library = Library(str(node.library))
    library.uuid(0)
    node.set_latency("power_usage", Latency.fixed(0.002))
    begin = time.monotonic()
    library.power_w(0)
    assert time.monotonic() - begin >= 0.002


def test_fault_settings_outside_their_range_refused(node):
    for arguments, complaint in (
        ({"function": "fan"}, "no function 'fan'"),
        ({"code": 0}, "code is 0"),
        ({"code": 1000}, "code is 1000"),
        ({"code": 3, "gpu": 1}, "no GPU 1"),
        ({"code": 3, "every": 0}, "every"),
        ({"code": 3, "from_s": 2, "to_s": 1}, "to_s"),
        ({"code": 3, "hang_s": -1}, "hang_s"),
    ):
        with pytest.raises(InvalidArgument, match=complaint):
            node.inject(**arguments)
    for _ in range(api_sim.MAX_FAULTS):
        node.inject(code=3)
    with pytest.raises(StateError, match="clear_faults"):
        node.inject(code=3)
    with pytest.raises(InvalidArgument, match="median_s"):
        Latency.fixed(-1)
    with pytest.raises(InvalidArgument, match="'slow' is unknown"):
        Latency("slow")


# ---- the object ------------------------------------------------------------


def test_node_looks_simulated_and_describes_itself(node):
    assert node.gpu_uuids[0].startswith("GPU-SIM-")
    assert len(node.gpu_uuids[0]) < 48
    described = json.loads(json.dumps(node.describe()))
    assert described["profile"] == "a100"
    assert described["boards"][0]["sensors"]["instant"]["window_ns"] == 25_000_000
    assert node.power_usage_meaning(0) == "instant: 25 ms of every 102 ms"
    json.dumps(node.truth_state())


def test_node_uuids_depend_on_profile_seed_and_index_only():
    with (
        Node("h100", gpus=3) as one,
        Node("h100", gpus=3, board_seed=5) as same,
        Node("h100", seed=1) as other,
    ):
        assert one.gpu_uuids == same.gpu_uuids
        assert len({*one.gpu_uuids, *other.gpu_uuids}) == 4
        assert one.power_usage_meaning(0) == "average: mean of 1 s, every 100 ms"


def test_node_settings_outside_their_range_refused(tmp_path):
    for arguments, complaint in (
        ({"profile": "h200"}, "there are a100"),
        ({"gpus": 0}, "from 1 to 16"),
        ({"gpus": 17}, "from 1 to 16"),
        ({"counter": "magic"}, "integrating or attended"),
        ({"driver_version": "new"}, "driver version"),
        ({"latency": {"fan": Latency.none()}}, "no function 'fan'"),
    ):
        with pytest.raises(InvalidArgument, match=complaint):
            Node(**arguments)
    (tmp_path / "file").touch()
    with pytest.raises(OutputExists, match="not an empty folder"):
        Node(directory=tmp_path)


def test_node_own_directory_kept_and_private_one_removed(tmp_path):
    with Node("k40m", directory=tmp_path / "node") as node:
        kept = node.directory
        assert node.power_usage_meaning(0) == "usage: low-passed, every 15 ms"
    assert sorted(path.name for path in kept.iterdir()) == ["gpu0.truth", "libnvidia-ml.so.1", "node.bin"]
    with Node() as node:
        private = node.directory
        assert private.is_dir()
    assert not private.exists()


def test_node_closed_twice_is_fine_and_used_after_says_so():
    node = Node()
    node.close()
    node.close()
    for use in (
        lambda: node.truth_j(0, 0, 1),
        lambda: node.inject(code=3),
        lambda: node.load_script(0, [(0, 1)]),
    ):
        with pytest.raises(StateError, match="closed"):
            use()


def test_node_gpu_out_of_range_refused(node):
    for gpu in (-1, 1):
        with pytest.raises(InvalidArgument, match="GPUs 0 to 0"):
            node.truth_j(gpu, 0, 1)


def test_node_forked_child_leaves_the_folder_alone(node):
    child = os.fork()
    if child == 0:
        node.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert node.library.exists()


def test_truth_file_of_another_kind_refused(tmp_path):
    path = tmp_path / "x.truth"
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(BadFormat, match=r"x\.truth"):
        api_sim.Truth.open(path)
    with pytest.raises(DeviceNotFound, match=r"y\.truth"):
        api_sim.Truth.open(tmp_path / "y.truth")


@pytest.mark.parametrize("begin_ns", [1, 10**18 + 1])
def test_node_that_would_begin_before_now_or_never_is_refused(begin_ns):
    with pytest.raises(InvalidArgument, match="begin_ns"):
        Node("h100", begin_ns=begin_ns)
