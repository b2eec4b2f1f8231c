# SPDX-License-Identifier: Apache-2.0
"""nvidia-smi as a way of sampling, and what goes wrong with it: a fake program, then NVIDIA's own on the stand-in."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from powersample import errors
from powersample.doctor.nvidia_debs import fetch
from powersample.experiments.baselines import EaHasTracer, NvidiaSmiLoop, NvidiaSmiSpawn
from powersample.experiments.baselines import process as processes
from powersample.experiments.baselines.spawn import watts_of, watts_of_xml
from powersample.sim import Node

XML = "<nvidia_smi_log><attached_gpus>1</attached_gpus><gpu><{0}><{1}>{2}</{1}></{0}></gpu></nvidia_smi_log>"
STAMP = 'date -u "+%Y/%m/%d %H:%M:%S.%3N"'


def program(folder: Path, body: str) -> Path:
    path = folder / "nvidia-smi"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def says(folder: Path, what: str) -> Path:
    """A program that prints `what` whatever it is asked."""
    (folder / "out").write_text(what)
    return program(folder, f'cat "{folder}/out"\n')


def collected(method, until=lambda method: len(method._t_ns) >= 3):
    method.start()
    due = time.monotonic() + 10
    while not until(method) and time.monotonic() < due:
        time.sleep(0.01)
    return method.stop()


# ---- what it prints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["[N/A]", "[GPU is lost]", "[Timeout]", "[Unknown Error]", "100,50", "", "1\n2"])
def test_watts_of_a_cell_that_is_no_number_names_it(cell):
    with pytest.raises(ValueError, match=r".+") as raised:
        watts_of(cell)
    assert str(raised.value) == (cell or "an empty line")


@pytest.mark.parametrize("readings", ["power_readings", "gpu_power_readings"])
@pytest.mark.parametrize("draw", ["power_draw", "average_power_draw", "instant_power_draw"])
def test_watts_of_xml_of_old_and_new_drivers(readings, draw):
    assert watts_of_xml(XML.format(readings, draw, "147.83 W"), 0) == 147.83


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (XML.format("power_readings", "power_draw", "N/A"), "N/A"),
        (XML.format("power_readings", "power_draw", "[GPU is lost]"), "GPU is lost"),
        (XML.format("puissance", "watts", "1 W"), "no power in this driver's XML"),
        ("<nvidia_smi_log></nvidia_smi_log>", "no GPU 0 among 0"),
        ("NVIDIA-SMI has failed", "no XML: NVIDIA-SMI has failed"),
    ],
)
def test_watts_of_xml_without_a_number_says_what_was_there(text, why):
    with pytest.raises(ValueError, match=why):
        watts_of_xml(text, 0)


# ---- a program that works -----------------------------------------------------------------------------------------


def test_spawn_reads_back_to_back_and_stamps_within_the_run(tmp_path):
    method = NvidiaSmiSpawn(says(tmp_path, "100.50\n"), period_s=None)
    begin_ns = time.monotonic_ns()
    found = collected(method)
    assert set(found.watts) == {100.5}
    assert begin_ns < found.t_ns[0] < found.t_ns[-1] < time.monotonic_ns()
    assert (found.errors, found.reason) == (0, None)
    assert method.asked_hz == float("inf")


def test_tracer_sleeps_before_each_reading_and_its_energy_is_mean_times_time(tmp_path):
    """Its period is the sleep and the process, never the sleep alone."""
    method = EaHasTracer(says(tmp_path, XML.format("power_readings", "power_draw", "50.00 W")), sleep_s=0.03)
    found = collected(method)
    assert np.diff(found.t_ns).min() > 30_000_000
    begin_ns, end_ns = int(found.t_ns[0]), int(found.t_ns[0]) + 2_000_000_000
    assert method.energy_j(found, begin_ns, end_ns) == pytest.approx(100.0)
    assert method.energy_j(found, 0, 1) is None


def test_cpu_time_holds_grandchildren_that_were_waited_for(tmp_path):
    burn = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
    finished = processes.run([program(tmp_path, f"sh -c '{burn}'\necho done\n")], os.environ)
    alone = processes.run([program(tmp_path, "echo done\n")], os.environ)
    assert finished.out == b"done\n"
    assert finished.cpu_s > alone.cpu_s + 0.01


# ---- faults -------------------------------------------------------------------------------------------------------

KINDS = [NvidiaSmiSpawn, EaHasTracer, NvidiaSmiLoop]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_program_is_a_reason_and_nothing_is_fetched(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(errors.NotSupported, match="--nvidia-smi"):
        kind().start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_no_program_is_a_reason(kind, tmp_path):
    path = tmp_path / "nvidia-smi"
    path.write_bytes(b"\x7fELF, and no more")
    path.chmod(0o755)
    with pytest.raises(errors.NotSupported, match="cannot be started"):
        kind(path).start()


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_column_is_a_reason_in_its_own_words(kind, tmp_path):
    path = program(tmp_path, "echo 'Field \"power.draw\" is not a valid field to query.'; exit 2\n")
    with pytest.raises(errors.NotSupported, match="not a valid field to query"):
        kind(path).start()


@pytest.mark.parametrize("kind", KINDS)
def test_hanging_program_is_killed_with_its_group(kind, tmp_path):
    """A shell that waits for a child: killing the shell alone would leave the child with the pipe open."""
    path = program(tmp_path, f'sleep 60 & echo $! > "{tmp_path}/pid"; wait\n')
    begin = time.monotonic()
    with pytest.raises(errors.NotSupported, match=r"hung and was killed after 0\.3 s|printed nothing"):
        kind(path, deadline_s=0.3).start()
    assert time.monotonic() - begin < 5
    child = int((tmp_path / "pid").read_text())
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split():
            break
        time.sleep(0.01)
    else:
        pytest.fail("the grandchild lives on")


def test_program_that_hangs_later_is_counted_and_given_up(tmp_path):
    path = program(tmp_path, f'if [ -e "{tmp_path}/hang" ]; then sleep 60; fi; echo 42.00\n')
    method = NvidiaSmiSpawn(path, period_s=0.01, deadline_s=0.15)
    method.start()
    while not method._t_ns:
        time.sleep(0.01)
    (tmp_path / "hang").touch()
    method._thread.join(10)
    found = method.stop()
    assert set(found.watts) == {42.0}
    assert found.errors == 3
    assert "hung 3 times in a row" in found.reason


def test_loop_that_falls_silent_is_killed_and_keeps_what_it_had(tmp_path):
    path = program(tmp_path, f'for i in 1 2 3; do echo "$({STAMP}), 42.00"; done; sleep 60\n')
    method = NvidiaSmiLoop(path, deadline_s=0.2)
    method.start()
    method._reader.join(10)
    found = method.stop()
    assert list(found.watts) == [42.0] * 3
    assert "no line for 0.3 s" in found.reason


def test_loop_deaf_to_the_request_to_end_is_killed(tmp_path):
    path = program(tmp_path, f'trap "" TERM; while :; do echo "$({STAMP}), 42.00"; sleep 0.05; done\n')
    found = collected(NvidiaSmiLoop(path), until=lambda method: len(method._lines) >= 2)
    assert set(found.watts) == {42.0}
    assert found.reason is None


def test_loop_that_ends_by_itself_says_so(tmp_path):
    path = program(tmp_path, f'echo "$({STAMP}), 42.00"; exit 15\n')
    method = NvidiaSmiLoop(path)
    method.start()
    method._reader.join(10)
    found = method.stop()
    assert list(found.watts) == [42.0]
    assert found.reason == "nvidia-smi ended by itself with exit code 15"


@pytest.mark.parametrize("cell", ["[N/A]", "[GPU is lost]", "[Timeout]"])
def test_spawn_cells_that_are_no_number_are_counted_by_their_text(cell, tmp_path):
    found = collected(NvidiaSmiSpawn(says(tmp_path, cell), period_s=None), until=lambda m: m._wrong.total() >= 2)
    assert len(found.watts) == 0
    assert found.errors == found.wrong[cell] >= 2
    assert found.reason == f"no reading succeeded: {cell}"


def test_decimal_commas_are_no_numbers_and_c_is_the_language_asked_for(tmp_path):
    """147,83 read as 147 W, or as two cells, would be worse than nothing."""
    found = collected(NvidiaSmiSpawn(says(tmp_path, "147,83\n"), period_s=None), until=lambda m: m._wrong.total() >= 1)
    assert (len(found.watts), found.reason) == (0, "no reading succeeded: 147,83")
    told = collected(
        NvidiaSmiSpawn(program(tmp_path, '[ "$LC_ALL" = C ] && echo 1.00\n'), {"LC_ALL": "de_DE"}, period_s=None)
    )
    assert set(told.watts) == {1.0}


def test_loop_of_a_driver_that_is_gone_keeps_its_lines_apart(tmp_path):
    lines = f'"$({STAMP}), 42.00" "$({STAMP}), [GPU is lost]" "$({STAMP}), [Timeout]"'
    path = program(tmp_path, f'for line in {lines}; do echo "$line"; done; sleep 60\n')
    found = collected(NvidiaSmiLoop(path), until=lambda method: b"Timeout" in b"".join(method._lines))
    assert list(found.watts) == [42.0]
    assert found.wrong == {"[GPU is lost]": 1, "[Timeout]": 1}


# ---- NVIDIA's own -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smi():
    try:
        return fetch().nvidia_smi
    except errors.NotSupported as error:
        pytest.skip(f"nvidia-smi 535 cannot be had: {error}")


@pytest.fixture(scope="module")
def node():
    with Node("h100", gpus=2) as built:
        yield built


def own(kind, smi, node, **more):
    return kind(smi, {**os.environ, **node.environment()}, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_nvidias_own_reads_the_boards_idle_power(kind, smi, node):
    more = {"period_ms": 20} if kind is NvidiaSmiLoop else {}
    until = (lambda m: len(m._lines) > 3) if kind is NvidiaSmiLoop else (lambda m: len(m._t_ns) > 1)
    found = collected(own(kind, smi, node, **more), until=until)
    assert set(found.watts) == {48.0}
    assert found.cpu_s > 0


@pytest.mark.parametrize(("code", "cell"), [(3, "[N/A]"), (10, "[Timeout]"), (15, "[GPU is lost]")])
def test_nvidias_own_words_for_a_failed_reading_end_up_in_the_count(code, cell, smi, node):
    """All with exit code 0."""
    node.inject("power_usage", code)
    try:
        found = collected(own(NvidiaSmiSpawn, smi, node, period_s=None), until=lambda m: m._wrong.total() >= 2)
        traced = collected(own(EaHasTracer, smi, node, sleep_s=0.01), until=lambda m: m._wrong.total() >= 1)
    finally:
        node.clear_faults()
    assert (len(found.watts), found.wrong) == (0, {cell: found.errors})
    assert len(traced.watts) == 0
    assert traced.errors >= 1


@pytest.mark.parametrize("kind", [NvidiaSmiSpawn, NvidiaSmiLoop])
def test_nvidias_own_that_does_not_know_a_column_is_a_reason_in_its_words(kind, smi, node, monkeypatch):
    """A driver from before `power.draw.instant` answers so; nothing must wait for readings that never come."""
    unknown = ["--query-gpu=power.draw.of.tomorrow", "--format=csv,noheader,nounits"]
    monkeypatch.setattr(NvidiaSmiSpawn, "_query", lambda self: unknown)
    monkeypatch.setattr("powersample.experiments.baselines.nvidia_smi.QUERY", unknown)
    with pytest.raises(errors.NotSupported, match=r"power\.draw\.of\.tomorrow.* is not a valid field"):
        own(kind, smi, node).start()


def test_nvidias_own_with_a_hanging_driver_is_killed(smi, node):
    node.inject("power_usage", 0, hang_s=30)
    try:
        with pytest.raises(errors.NotSupported, match="hung and was killed"):
            own(NvidiaSmiSpawn, smi, node, deadline_s=0.3).start()
    finally:
        node.clear_faults()


def test_nvidias_own_with_another_driver_than_library_is_a_reason(smi, node):
    node.version_mismatch()
    try:
        with pytest.raises(errors.NotSupported, match="Driver/library version mismatch"):
            own(NvidiaSmiSpawn, smi, node).start()
    finally:
        node.clear_faults()
