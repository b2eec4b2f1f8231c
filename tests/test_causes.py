# SPDX-License-Identifier: Apache-2.0
"""What costs what: each cause told apart, and the one that no rate repairs."""

import json
import sys

import numpy as np
import pytest

from powersample import cli, errors
from powersample.experiments.interpreter import free_threaded
from powersample.experiments.race import cause_cells, causes
from powersample.experiments.race.aliasing import RATES_HZ, aliasing, ideal
from powersample.experiments.race.cause_cells import Cause, by_turns
from powersample.session.simulate import make_node

MS = 1_000_000


def test_aliasing_reads_74_percent_too_little_at_any_rate():
    """A sensor of 25 in 100 ms on a load of 100 ms, half on: 60 W or 400 W in every value, whatever the rate."""
    with make_node("h100+none") as node:
        (found,) = aliasing(node, 100 * MS, [ideal(node, 100 * MS, 25 * MS)])
    assert len(found) == len(RATES_HZ)
    worst = 100 * (60 / 230 - 1)
    for least, greatest in found:
        assert least == pytest.approx(worst, abs=0.2)
        assert greatest == pytest.approx(-worst, abs=0.5)


def test_aliasing_of_the_simulated_board_is_the_same_from_10_to_10_000_polls_a_second():
    with make_node("h100+none") as node:
        (found,) = aliasing(node, 100 * MS, [lambda t_ns: node.sensor_values(0, "instant", t_ns)])
    assert np.ptp([least for least, _ in found]) < 1
    assert found[0][0] < -20


def test_no_aliasing_of_a_sensor_that_looks_all_the_time():
    with make_node("h100+none") as node:
        (found,) = aliasing(node, 100 * MS, [ideal(node, 100 * MS, 100 * MS)], [1000.0])
    assert found[0] == pytest.approx((0.0, 0.0), abs=0.1)


def test_by_turns_leaves_a_slow_cell_early_but_never_alone(monkeypatch):
    monkeypatch.setattr("powersample.experiments.race.cause_cells.CELL_S", 0.0)
    order = []
    one, other = by_turns([lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0], 10)
    assert (one.tolist(), other.tolist()) == ([1.0] * 3, [2.0] * 3)
    assert order == ["a", "b"] * 3


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Of a program that takes 30 ms for one answer and 100 ms for the other."""
    program = tmp_path_factory.mktemp("bin") / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = -q ] && sleep 0.1 || sleep 0.03\n')
    program.chmod(0o755)
    return causes.run_causes(nvidia_smi=program, rounds=3, beside_rounds=1, calls_s=(2e-3,))


def of(found, cause, method, call_us=None):
    return [one for one in found.causes if (one.cause, one.method, one.call_us) == (cause, method, call_us)]


def test_causes_are_told_apart(found):
    (start,) = of(found, "process start", "nvidia-smi-spawn")
    (own,) = of(found, "its and NVML's start", "nvidia-smi-spawn")
    (whole,) = of(found, "the whole XML", "ea-has-tracer")
    assert start.median > 0
    assert own.median > 15
    assert whole.median > 35
    for method in ("native", "pynvml-thread"):
        (free,) = of(found, "driver calls", method, 0.0)
        (slow,) = of(found, "driver calls", method, 2000.0)
        assert free.median < 2.0 <= slow.median
        assert slow.low <= slow.median <= slow.high


@pytest.mark.skipif(free_threaded(), reason="this interpreter has no global lock")
def test_lock_takes_readings_from_the_thread(found):
    lost = {
        one.method: one.median for one in found.causes if one.cause == "interpreter's lock" and one.unit.startswith("%")
    }
    assert lost["pynvml-thread"] > lost["native"]


def test_text_is_a_table_of_100_columns_and_json_strict(found):
    lines = causes.to_text(found).splitlines()
    assert lines[0] == "SIMULATED NODE h100, not a measurement"
    assert max(map(len, lines)) <= 100
    data = json.loads(json.dumps(causes.to_json(found), allow_nan=False))
    assert len(data["causes"]) == len(found.causes)
    assert {"cause", "method", "what", "unit", "median", "low", "high", "count", "call_us"} <= set(data["causes"][0])


def test_text_concludes_a_sentence_a_cause_and_explains_its_units(found):
    (slow,) = of(found, "driver calls", "native", 2000.0)
    text = " ".join(causes.to_text(found).split())
    starts = ("Processes", "Driver calls", "Scheduling", *(() if free_threaded() else ("The lock",)))
    places = [text.index(f"{start}: ") for start in (*starts, "The sensor", "Aliasing")]
    assert places == sorted(places)
    assert f"where each takes 2 ms, a reading takes {slow.median:.3g} ms by native" in text
    assert "a value of field 186 is 112 ms old on average, and 75 % of the time is in none" in text
    assert all(f"{unit}: " in text for unit in {one.unit for one in found.causes})


def test_conclusions_are_of_causes_that_were_told():
    late = [Cause("scheduling", name, "", "ms late (p99)", 0.5) for name in ("native", "pynvml-thread")]
    assert causes.conclusions(late[:1]) == []
    assert causes.conclusions(late) == [
        "Scheduling: beside a program that sleeps, native is 0.5 ms late and pynvml 0.5 ms."
    ]


def test_causes_without_nvidia_smi_tell_the_rest_and_why(tmp_path, monkeypatch):
    for name in ("initialisation", "calls", "beside", "sensor"):
        monkeypatch.setattr(causes, name, lambda *_: [Cause("a", "b", "c", "ms", 1.0)])
    found = causes.run_causes(nvidia_smi=tmp_path / "none")
    assert len(found.causes) == 4
    assert "not told: processes of nvidia-smi" in causes.to_text(found)


def test_nvidia_smi_that_fails_amid_slow_calls_leaves_none_behind(tmp_path):
    """It works three times and then no more, as a board that falls off the bus: the calls told next are as quick."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/count\n[ $(wc -l < {tmp_path}/count) -lt 8 ]\n")
    program.chmod(0o755)
    with make_node("h100+none") as node:
        with pytest.raises(errors.NotSupported, match="exit code 1"):
            cause_cells.processes(node, program, 3, (0.05,))
        (init,) = cause_cells.initialisation(node, 3)
    assert init.median < 40


def test_interpreter_without_a_lock_has_no_cost_of_it(monkeypatch):
    """What a Python-busy program does to a thread is not told where it does nothing; scheduling is."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    for name in ("initialisation", "calls", "sensor"):
        monkeypatch.setattr(causes, name, lambda *_: [])
    found = causes.run_causes(nvidia_smi="/nonexistent", beside_rounds=1)
    assert {one.cause for one in found.causes} == {"scheduling"}
    assert "not told: the interpreter's lock: this interpreter has none" in causes.to_text(found)


OF_OTHERS = (
    ["--board", "1"], ["--board", "0"], ["--latency", "0us"], ["--png", "a.png"], ["--methods", "native"],
    ["--gpus", "0"], ["--training", "torch"], ["--seed", "1"],
)  # fmt: skip


@pytest.mark.parametrize("option", OF_OTHERS)
def test_command_refuses_what_causes_have_no_use_for(option, capsys):
    assert cli.main(["race", "--causes", *option]) == 2
    assert f"leave {option[0]} out" in capsys.readouterr().err
