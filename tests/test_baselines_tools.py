# SPDX-License-Identifier: Apache-2.0
"""Other people's samplers behind the one interface, where they are installed, on the simulated node."""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from powersample import errors
from powersample.experiments.baselines import BASELINES, PynvmlThread, Target, baselines_for, cpu
from powersample.experiments.baselines.binding import NvmlBinding
from powersample.experiments.baselines.codecarbon_tracker import CodecarbonTracker
from powersample.sim import Node

PACKAGES = {"cuda-bindings": "cuda.bindings", "codecarbon": "codecarbon", "carbontracker": "carbontracker"}
SLOW = {"zeus": "zeus.monitor.power"}  # its process takes seconds to import
WATTS = 120.0


@pytest.fixture(scope="module")
def node():
    """One for all: cuda.bindings can be bound once in a process."""
    with Node("h100", gpus=2) as built:
        built.load_script(0, [(0.0, WATTS)])
        built.load_script(1, [(0.0, 300.0)])
        time.sleep(0.02)
        yield built


@pytest.fixture(scope="module")
def smi(tmp_path_factory):
    """CodeCarbon looks for a program of this name that ends with 0, and no further."""
    path = tmp_path_factory.mktemp("bin") / "nvidia-smi"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def target(node, smi=None, gpu=0):
    return Target(node.library, {**os.environ, **node.environment()}, gpu, smi)


def made(name, node, smi):
    (method,) = baselines_for(target(node, smi), [name])
    return method


def needed(module):
    """Skip, and say why, where a package is not installed; nothing of it is imported."""
    from importlib.util import find_spec

    try:
        there = find_spec(module) is not None
    except ImportError:
        there = False
    if not there:
        pytest.skip(f"{module.partition('.')[0]} is not installed; the extra `bench` has it")


def until(condition, seconds=10):
    due = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.01)


# ---- the list -----------------------------------------------------------------------------------------------------


def test_methods_bear_the_names_of_the_list_and_say_what_they_read(tmp_path):
    methods = baselines_for(Target(library=tmp_path / "none", nvidia_smi=tmp_path / "none"))
    assert [method.name for method in methods] == list(BASELINES)
    assert all(method.reads and method.rule and method.asked_hz > 0 for method in methods)


def test_unknown_method_lists_the_known():
    with pytest.raises(errors.InvalidArgument, match=r"method watts is unknown; there are pynvml-thread, .*zeus"):
        baselines_for(Target(), ["zeus", "watts"])


@pytest.mark.parametrize("name", BASELINES)
def test_method_without_library_and_program_is_a_reason(name, tmp_path, monkeypatch):
    """Whatever is installed: listed with its reason, and pynvml as it was."""
    import pynvml

    before = pynvml.nvmlLib
    monkeypatch.setenv("PATH", str(tmp_path))
    (method,) = baselines_for(Target(library=tmp_path / "none", nvidia_smi=tmp_path / "none"), [name])
    with pytest.raises(errors.NotSupported, match=r"not an executable|cannot be loaded|not installed|bound to"):
        method.start()
    assert pynvml.nvmlLib is before


@pytest.mark.parametrize(("name", "module"), [*PACKAGES.items(), *SLOW.items()])
def test_package_that_is_missing_is_a_reason_with_its_command(name, module, node, smi, monkeypatch):
    package = module.partition(".")[0]
    for part in {package, module, *(one for one in sys.modules if one.startswith(package + "."))}:
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(errors.NotSupported, match=r"not installed.*pip install"):
        made(name, node, smi).start()


# ---- the packages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGES)
def test_tool_reads_the_board_offline_and_leaves_no_trace(name, node, smi, tmp_path, monkeypatch, capfd):
    needed(PACKAGES[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    called = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, where: called.append(where))
    import pynvml

    before, environment = pynvml.nvmlLib, dict(os.environ)
    method = made(name, node, smi)
    begin_ns = time.monotonic_ns()
    method.start()
    start_ns = time.monotonic_ns()
    until(lambda: len(method._t_ns) >= (1 if name == "carbontracker" else 5))
    end_ns = time.monotonic_ns()
    found = method.stop()
    assert (called, list(tmp_path.iterdir()), capfd.readouterr().out) == ([], [], "")
    assert (pynvml.nvmlLib is before, dict(os.environ)) == (True, environment)
    assert begin_ns < found.t_ns[0] <= found.t_ns[-1] < time.monotonic_ns()
    assert 0 < np.median(found.watts) < 4 * WATTS  # of a counter that moves every 100 ms, over spans as short
    assert (found.errors, found.reason) == (0, None)
    assert found.cpu_s >= 0
    joules = method.energy_j(found, start_ns, max(end_ns, start_ns + 10_000_000))
    assert joules is None or joules >= 0


def test_codecarbon_account_is_the_counters_growth(node, smi):
    needed("codecarbon")
    method = CodecarbonTracker(node.library, 0, 0.02, smi)
    method.start()
    until(lambda: len(method._t_ns) >= 25)
    found = method.stop()
    first_ns, last_ns = int(found.t_ns[0]), int(found.t_ns[-1])
    truth_j = node.truth_j(0, first_ns, last_ns)
    assert method.energy_j(found, first_ns, last_ns) == pytest.approx(truth_j, abs=2 * 0.1 * WATTS)
    assert method.energy_j(found, last_ns + 1_000_000_000, last_ns + 2_000_000_000) is None


def test_carbontracker_epoch_without_a_reading_copies_the_last_and_a_lost_board_ends_it(node):
    needed("carbontracker")
    (method,) = baselines_for(target(node, gpu=1), ["carbontracker"])
    method.start()
    until(lambda: method._t_ns)
    node.inject("power_usage", 15)
    try:
        method._thread.shutdown_event.wait(0.05)
        found = method.stop()
    finally:
        node.clear_faults()
    after_ns = int(found.t_ns[-1]) + 1
    assert method.energy_j(found, after_ns, after_ns + 2_000_000_000) == pytest.approx(2 * found.watts[-1])
    assert method.energy_j(found, 0, 1) is None


def test_cuda_bindings_failed_readings_are_counted_and_no_second_library_is_bound(node):
    needed("cuda.bindings")
    (method,) = baselines_for(target(node), ["cuda-bindings"])
    method.start()
    node.inject("power_usage", 15)
    try:
        until(lambda: method._wrong.total() >= 2)
    finally:
        node.clear_faults()
    found = method.stop()
    assert set(found.wrong) == {"GPU is lost"}
    with Node("a100") as other:
        (second,) = baselines_for(target(other), ["cuda-bindings"])
        with pytest.raises(errors.NotSupported, match="cannot be bound again"):
            second.start()


def test_zeus_keeps_changes_and_calls_a_constant_power_nothing(node, capfd):
    """0 J for 120 W: fewer than two changes inside the window. Its own answer, not ours."""
    needed("zeus.monitor")
    method = made("zeus", node, None)
    method.start()
    start_ns = time.monotonic_ns()
    time.sleep(0.3)
    end_ns = time.monotonic_ns()
    found = method.stop()
    assert capfd.readouterr().out == ""
    assert method.reads.startswith("field 186; keeps changes")
    assert "counted as its polls" in method.reads
    assert 1 <= len(found.t_ns) <= 4
    assert method.energy_j(found, start_ns, end_ns) == 0.0
    assert 0 < found.cpu_s < 0.3  # the imports of its process, a second and more, are its start's


def test_package_that_raises_what_it_likes_leaves_pynvml_as_it_was(node, monkeypatch):
    """A race goes on after it: the next method may bring another library."""

    def odd(*_, **__):
        raise KeyError("gpu")

    for name in ("carbontracker", "carbontracker.components", "carbontracker.components.component"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(create_components=odd))
    monkeypatch.setitem(sys.modules, "carbontracker.tracker", SimpleNamespace(CarbonTrackerThread=odd))
    with pytest.raises(errors.NotSupported, match="carbontracker does not work here: KeyError: 'gpu'"):
        made("carbontracker", node, None).start()
    zeus = made("zeus", node, None)
    zeus._binding.open()
    zeus._monitor, zeus._begun_s = (
        SimpleNamespace(
            processes={}, _process_all_queue_data=lambda: None, stop=lambda: None, get_power_timeline=lambda *_: {}
        ),
        0.0,
    )
    with pytest.raises(ValueError, match="not enough values"):
        zeus.stop()
    with Node("a100") as other:
        binding = NvmlBinding(other.library)
        binding.open()
        binding.close()


# ---- the thread that reads what native reads ----------------------------------------------------------------------


def test_pynvml_instant_reads_the_quick_field_and_the_thread_the_slow_one():
    """Told apart by a wave that the 1 s mean flattens: each thread's readings are its own sensor's values."""
    with Node("h100") as node:
        node.load_wave(0, 90, 650, period_s=0.1, duty=0.5)
        for name, sensor in (("pynvml-instant", "instant"), ("pynvml-thread", "usage")):
            (method,) = baselines_for(target(node), [name])
            method.start()
            until(lambda method=method: len(method._t_ns) >= 100)
            found = method.stop()
            told = np.abs(found.watts - node.sensor_values(0, sensor, found.t_ns)) < 0.002
            assert np.count_nonzero(~told) <= 0.1 * len(told) + 2, name  # but where one was published in between


def test_pynvml_instant_failed_entries_are_counted_though_the_call_succeeds(node):
    (method,) = baselines_for(target(node), ["pynvml-instant"])
    method.start()
    until(lambda: [round(one / 1000) for one in method._milliwatts[-1:]] == [WATTS])  # no more of the idle board
    node.inject("field_values", 15, field=186)
    try:
        until(lambda: method._wrong.total() >= 2)
    finally:
        node.clear_faults()
    found = method.stop()
    assert set(found.wrong) == {"GPU is lost"}
    assert found.watts[-1] == pytest.approx(WATTS, rel=0.01)


def test_pynvml_instant_without_the_field_is_a_reason_and_the_thread_still_runs():
    import pynvml

    before = pynvml.nvmlLib
    with Node("k40m") as node:
        (method,) = baselines_for(target(node), ["pynvml-instant"])
        with pytest.raises(errors.NotSupported, match="no field 186"):
            method.start()
        assert pynvml.nvmlLib is before
        (thread,) = baselines_for(target(node), ["pynvml-thread"])
        thread.start()
        until(lambda: thread._t_ns)
        assert thread.stop().errors == 0


def test_pynvml_instant_entry_that_the_library_left_untouched_is_no_reading(node, monkeypatch):
    """Zeros all over read as success and 0 W."""
    import pynvml

    monkeypatch.setattr(pynvml, "nvmlDeviceGetFieldValues", lambda *_: (pynvml.c_nvmlFieldValue_t * 1)())
    (method,) = baselines_for(target(node), ["pynvml-instant"])
    with pytest.raises(errors.NotSupported, match="no field 186"):
        method.start()


# ---- what they share ----------------------------------------------------------------------------------------------


def test_pynvml_follows_from_node_to_node(node):
    """Its cache of functions outlives a library: the second node would answer with the first one's board."""
    with Node("a100") as other:
        for each, idle in ((node, None), (other, 35.0)):
            method = PynvmlThread(each.library)
            method.start()
            until(lambda method=method: method._t_ns)
            watts = method.stop().watts
            assert idle is None or set(watts) == {idle}


def test_pynvml_in_use_on_another_library_is_refused(node):
    binding = NvmlBinding(node.library)
    binding.open()
    with Node("a100") as other, pytest.raises(errors.NotSupported, match="in use on another library"):
        NvmlBinding(other.library).open()
    binding.close()
    binding.close()  # harmless


def test_cpu_clocks_of_a_running_thread_and_process():
    end = threading.Event()
    thread = threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(end.is_set, True)])
    thread.start()
    until(lambda: cpu.thread_s(thread.native_id) > 0.02)
    number, whole_s = thread.native_id, cpu.process_s(os.getpid())
    assert whole_s > cpu.thread_s(number) > 0.02
    end.set()
    thread.join()
    until(lambda: not Path(f"/proc/self/task/{number}").exists())
    assert np.isnan(cpu.thread_s(number))


def test_thread_of_a_binding_that_lacks_a_name_leaves_pynvml_as_it_was(node, monkeypatch):
    """An old pynvml has no constant for field 186: an AttributeError, which nobody expected there."""
    import pynvml

    before = pynvml.nvmlLib
    monkeypatch.delattr(pynvml, "NVML_FI_DEV_POWER_INSTANT")
    (method,) = baselines_for(target(node), ["pynvml-instant"])
    with pytest.raises(AttributeError):
        method.start()
    assert pynvml.nvmlLib is before
