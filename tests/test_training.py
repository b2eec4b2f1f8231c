# SPDX-License-Identifier: Apache-2.0
"""The account of a training: what it marks and tells, by itself and under somebody else's recording."""

import pickle
import re
import sys
import threading
import time
import warnings
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodes import calibration
from traces import MS, S, channel, polls, series
from trainings import (
    FIFO,
    KEYS,
    MORE_KEYS,
    busy_node,
    check_nothing_left,
    check_truth_in_every_epoch,
    names_of,
    work,
)

import powersample as ps
from powersample import errors
from powersample.analysis import Sum, Training, training, without
from powersample.integrations import framework, left
from powersample.integrations.left import Left
from powersample.marks import parse
from powersample.marks.job import LAUNCHERS
from powersample.model import Kind, Trace, Window, amount, simulated_key
from powersample.session.account import Cumulative, chosen, log_keys
from powersample.session.simulate import make_node
from powersample.session.training import Account

RANKS = [name for name, _ in LAUNCHERS]


@pytest.fixture(autouse=True)
def _nobody_else_measures(monkeypatch):
    for name in (*RANKS, "POWERSAMPLE_MARKS"):
        monkeypatch.delenv(name, raising=False)


def train(account, numbers=(0,), seconds=0.25):
    for number in numbers:
        account.begin_epoch(number)
        account.begin_step()
        work(seconds)
        account.end_step()
        account.begin_aside()
        work(0.05)
        account.end_aside()
        work(0.05)
        yield account.end_epoch()


# ---- measuring -------------------------------------------------------------------------------------------------


def test_account_tells_every_epoch_without_its_validation_and_leaves_nothing(tmp_path):
    with busy_node() as node, Account(simulate=node, fifo=FIFO, output=tmp_path / "run.parquet") as account:
        account.start()
        told = list(train(account, (0, 1)))
        state = account.state_dict()
    check_truth_in_every_epoch(account, 2)
    assert re.fullmatch(r"<Account of 2 epochs: SIMULATED [\d.]+ J \(95 %: [\d.]+ to [\d.]+\)>", repr(account))
    assert names_of(account.run) == ["epoch 0", "validation 0", "epoch 1", "validation 1"]
    assert state["epochs"] == 2
    assert state["joules"] == pytest.approx(sum(keys["energy/total_joules"] for keys in told), rel=1e-5)
    assert (tmp_path / "run.parquet").exists()
    check_nothing_left(account)
    account.stop()


def test_account_state_of_an_open_epoch_holds_what_it_took_until_then():
    """Lightning writes checkpoints before an epoch's end; the wait for the sensors is no part of the epoch."""
    with busy_node() as node, Account(simulate=node, fifo=FIFO) as account:
        account.start()
        account.begin_epoch(0)
        work(0.2)
        state = account.state_dict()
        keys = account.end_epoch()
    assert 0 < state["joules"] == pytest.approx(keys["energy/total_joules"], rel=0.25)
    epoch, aside = account.run.windows[1:]
    assert (epoch.name, aside.name) == ("epoch 0", "checkpoint 0")
    assert keys["energy/gpu0_joules"] / keys["power/gpu0_watts_mean"] == pytest.approx(
        epoch.duration_s - aside.duration_s, rel=1e-5
    )


def test_account_saved_as_an_epoch_begins_leaves_out_what_cannot_be_told_yet():
    """No sensor has had an update: the sum that goes on from there is whole but for an instant, and is logged."""
    with busy_node() as node, Account(simulate=node, fifo=FIFO) as account:
        account.start()
        account.begin_epoch(0)
        work(0.3)
        account.end_epoch()
        before = account.state_dict()
        account.begin_epoch(1)
        saved = account.state_dict()
        account.end_epoch()
    assert saved["untold"] == 0
    assert before["joules"] <= saved["joules"] <= before["joules"] + 100
    resumed = Account(simulate="h100")
    resumed.load_state_dict(saved)
    assert "not known" not in repr(resumed)


@pytest.mark.parametrize(("seconds", "untold"), [(0.01, 0), (600.0, 1)])
def test_account_saved_in_an_epoch_that_cannot_be_told_counts_it_only_when_it_is_no_stub(monkeypatch, seconds, untold):
    found = SimpleNamespace(total=None, duration_s=seconds, reasons=())
    with busy_node() as node, Account(simulate=node, fifo=FIFO) as account:
        account.start()
        account.begin_epoch(0)
        monkeypatch.setattr("powersample.analysis.training", lambda *_: found)
        assert account.state_dict()["untold"] == untold


def test_account_started_where_nothing_can_be_measured_says_so_before_the_training(tmp_path):
    account = Account(sysfs=tmp_path, devfs=tmp_path, nvml_library=tmp_path / "none.so")
    with pytest.raises(errors.NothingMeasurable):
        account.start()
    assert not account.running
    account.stop()


def test_account_whose_analysis_fails_warns_and_lets_the_training_go_on(monkeypatch):
    def fails(*_):
        raise errors.BadFormat("the spool is gone")

    monkeypatch.setattr("powersample.analysis.training", fails)
    with busy_node() as node, Account(simulate=node, fifo=FIFO) as account:
        account.start()
        account.begin_epoch(0)
        with pytest.warns(RuntimeWarning, match="epoch 0 cannot be told: the spool is gone"):
            assert account.end_epoch() == {}
    check_nothing_left(account)


def test_account_started_again_is_a_new_one_unless_it_goes_on():
    with busy_node() as node:
        account = Account(simulate=node, fifo=FIFO)

        def trained(*numbers, state=None):
            account.start()
            if state is not None:
                account.load_state_dict(state)
            for _ in train(account, numbers, 0.1):
                pass
            account.stop()
            return account.state_dict()["epochs"], [int(keys["epoch"]) for keys in account.history]

        assert trained(0, 1) == (2, [0, 1])
        assert trained(2) == (3, [0, 1, 2])  # where the last one ended
        saved = account.state_dict()
        assert trained(0) == (1, [0])
        assert trained(0) == (1, [0])
        assert trained(0, state=saved) == (4, [0, 0])  # in the middle of its epoch, as a checkpoint has it
        assert trained(0) == (1, [0])


def test_account_gives_the_log_what_was_asked_for_and_keeps_all():
    with busy_node() as node, Account(simulate=node, fifo=FIFO, keys=["energy/gpu*_joules", "energy/totl_joules"]) as a:
        a.start()
        with pytest.warns(RuntimeWarning, match="'energy/totl_joules'. Did you mean 'energy/total_joules'"):
            (keys,) = train(a, seconds=0.1)
    assert list(keys) == ["energy/gpu0_joules", "quality/simulated"]
    assert a.history[0].keys() > KEYS | MORE_KEYS


def test_account_whose_own_choice_of_keys_fails_logs_all():
    with busy_node() as node, Account(simulate=node, fifo=FIFO, keys=lambda key: 1 / 0) as account:
        account.start()
        with pytest.warns(RuntimeWarning, match="`keys` failed, and all are logged: ZeroDivisionError"):
            (keys,) = train(account, seconds=0.1)
    assert keys.keys() > KEYS | MORE_KEYS


# ---- only marking ----------------------------------------------------------------------------------------------


def marks_of(path):
    return parse(path.read_bytes().splitlines(keepends=True), None, None)


def test_account_under_record_only_marks_and_says_once_where_the_energies_will_be(tmp_path, monkeypatch):
    path = tmp_path / "run.parquet.spool" / "marks"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("POWERSAMPLE_MARKS", str(path))
    account = Account(simulate="h100", steps=True)
    assert str(account) == "powersample: no training was measured"
    with pytest.warns(RuntimeWarning, match="only marks.*`powersample report run.parquet`.*No energy .* the log"):
        account.start()
    with warnings.catch_warnings(action="error"):
        assert list(train(account, seconds=0)) == [{}]
        account.stop()
    assert account.run is None
    assert "`powersample report run.parquet`, once it has ended" in str(account)
    assert [one.name for one in marks_of(path).windows] == ["epoch 0", "step", "validation 0"]
    assert account.history == []


def test_account_within_a_measure_of_the_same_program_only_marks_there():
    with busy_node() as node, ps.measure(simulate=node, fifo=FIFO) as run, Account() as account:
        with pytest.warns(RuntimeWarning, match="only marks.*the energies are in its report"):
            account.start()
        assert list(train(account, seconds=0)) == [{}]
    assert names_of(run) == ["epoch 0", "validation 0"]


@pytest.mark.parametrize("name", RANKS)
def test_account_of_another_rank_of_the_node_does_not_measure(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    with Account() as account:
        account.start()
        assert account.run is None
        assert list(train(account, seconds=0)) == [{}]
    assert "the node's first process measures" in str(account)


def test_account_calls_in_any_order_do_nothing_without_a_training():
    account = Account()
    account.end_step()
    account.end_aside()
    account.begin_aside()
    account.begin_epoch(0)
    assert account.end_epoch() == {}
    account.stop()
    assert account.state_dict()["epochs"] == 0
    assert repr(account) == "<Account of 0 epochs: no energy can be told>"


def test_account_that_is_sent_to_another_process_before_its_start_arrives():
    account = pickle.loads(pickle.dumps(Account(simulate="h100")))
    assert not account.running
    account.stop()


# ---- what it comes to ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 40)), max_size=6))
def test_without_leaves_what_nothing_covers(aside):
    """Against a set of instants: each is in exactly one span, or in something aside."""
    spans = without(Window("e", 20, 80), [Window("a", start, start + length) for start, length in aside])
    kept = [t for span in spans for t in range(span.start_ns, span.end_ns)]
    gone = {t for start, length in aside for t in range(start, start + length)}
    assert kept == [t for t in range(20, 80) if t not in gone]


def test_without_keeps_flags_and_the_error_of_whichever_edge_it_is():
    epoch = Window("e", 0, 100, ("unsynchronised",), "", "event", (1.0, 2.0))
    first, last = without(epoch, [Window("a", 40, 60, (), "", "event", (3.0, 4.0))])
    assert (first.edge_errors_ns, last.edge_errors_ns) == ((1.0, 3.0), (4.0, 2.0))
    assert first.flags == last.flags == ("unsynchronised",)
    assert first.marked == last.marked == "event"


def test_training_sums_spans_with_the_gain_of_one_board_added_linearly_and_others_in_quadrature():
    with busy_node() as node, ps.measure(simulate=node, fifo=FIFO) as run, run.window("epoch 0"):
        time.sleep(0.2)
        with run.window("validation"):
            time.sleep(0.1)
        time.sleep(0.2)
    epoch, aside = run.windows[1:]
    found = training(run.trace, epoch, [aside])
    total, gpu = found.total, found.devices["gpu0", "gpu"]
    assert [round(span.duration_s, 1) for span in found.spans] == [0.2, 0.2]
    gains = sum(term.value_j for piece in gpu.pieces for term in piece.budget if term.term in ("gain", "offset"))
    assert gpu.high_j - gpu.joules >= gains
    parts = [one for (_, domain), one in found.devices.items() if domain in ("gpu", "package", "dram")]
    assert len(parts) == 3
    assert total.joules == pytest.approx(sum(one.joules for one in parts))
    assert total.high_j - total.joules == pytest.approx(np.hypot.reduce([one.high_j - one.joules for one in parts]))
    assert found.idle_j is None
    seconds = f"{amount(found.duration_s)} s in 2 spans"
    words = f"SIMULATED gpu0 + package-0 + package-0 dram over 'epoch 0', {seconds}: {total}"
    assert (str(found), repr(found)) == (words, f"<Training {words}>")


def test_training_leaves_out_a_device_whose_counter_was_reset_and_says_so():
    """What the reset hid is in no joules, and a log has numbers only: a part of an energy looks like an energy."""
    t_ns = polls(0, 10, 10)
    mj = np.where(t_ns < 4 * S, t_ns // MS * 100 + 10**9, (t_ns - 4 * S) // MS * 100)
    trace = Trace.of([series(channel("gpu0.energy", Kind.ENERGY, sensor="nvml.total_energy"), t_ns, mj)])
    found = training(trace, Window("epoch 0", 2 * S, 8 * S))
    assert (found.devices, found.total) == ({}, None)
    assert "PSQ-RESET" in found.reasons[0]
    assert str(found) == f"no device over 'epoch 0', 6 s: no total can be told; {found.reasons[0]}"
    assert repr(found) == "<Training no device over 'epoch 0', 6 s: no total; 1 left out>"
    assert training(trace, Window("epoch 1", 5 * S, 9 * S)).total.joules == pytest.approx(400, rel=0.01)


@pytest.mark.parametrize(("rest_ms", "joules"), [(20, 400.0), (100, None)])
def test_training_of_which_a_sliver_was_not_seen_is_told_with_room_for_it(rest_ms, joules):
    """4 s at 100 W, and a last span that lies behind the last reading: a lap that ends 20 ms after a pause did."""
    t_ns = polls(0, 6, 10)
    trace = Trace.of([series(channel("gpu0.energy", Kind.ENERGY, sensor="nvml.total_energy"), t_ns, t_ns // MS * 100)])
    lap = Window("lap", 2 * S, 8 * S + rest_ms * MS)
    found = training(trace, lap, [Window("paused", 6 * S, 8 * S)])
    assert (found.total is None) == (joules is None)
    assert found.covered == pytest.approx(4 / (4 + rest_ms / 1000), rel=1e-3)
    if joules:
        assert found.total.joules == pytest.approx(100 * (4 + rest_ms / 1000), rel=1e-3)
        assert found.total.low_j < joules < found.total.high_j - 2 * rest_ms / 10 * 0.99


def idle_known(trace, node):
    """Return the trace of an idle node with a calibration whose idle powers are that node's true ones."""
    at = [time.monotonic_ns()]
    true_w = {name: float(node.truth_power_w(name, at)[0]) for name in ("gpu0", "gpu1", "package-0", "package-0.dram")}
    idle_w = {
        "gpu": true_w["gpu0"] + true_w["gpu1"],
        "cpu": true_w["package-0"],
        "dram": true_w["package-0.dram"],
    }
    points = tuple(replace(one, components_w=idle_w) if one.kernel == "idle" else one for one in calibration().points)
    host = {"name": trace.meta["host"], "id": trace.meta["host_id"], "gpus": list(node.gpu_uuids), "packages": [0]}
    key = simulated_key(trace.meta["simulated_node"])
    told = replace(calibration(), points=points, host=host, simulated=key, rates_hz={})
    return trace.with_meta(calibration={"origin": "x", **told.as_json()}), true_w


@pytest.mark.parametrize("gpus", [None, "0,1", "1"])
def test_training_tells_what_the_same_parts_take_idle_or_nothing(gpus, monkeypatch):
    """Of an idle node that is what they took, within the sensors' own error; of some of the GPUs nobody knows it."""
    with make_node("h100x2+intel_spr") as node:
        if gpus == "1":
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        with ps.measure(simulate=node, load="idle", gpus=None if gpus == "1" else gpus) as run, run.window("epoch 0"):
            time.sleep(0.3)
        trace, true_w = idle_known(run.trace, node)
    found = training(trace, run.windows[1])
    assert sum(domain == "gpu" for _, domain in found.devices) == (1 if gpus == "1" else 2)
    keys = log_keys(found, 0)
    if gpus == "1":
        assert found.total is not None
        assert "energy/idle_joules" not in keys
    else:
        assert keys["energy/idle_joules"] == pytest.approx(sum(true_w.values()) * found.duration_s)
        assert keys["energy/total_joules"] == pytest.approx(keys["energy/idle_joules"], rel=0.15)


def found_of(total, **more):
    values = {
        "spans": (), "duration_s": 2.0, "devices": {}, "dram": None, "total": total, "covered": 1.0, "dropouts": 0,
        "most_w": {}, "idle_j": None, "reasons": (), "simulated": False,
    }  # fmt: skip
    return Training(**values | more)


def test_log_keys_leave_out_what_is_not_known():
    """A key that is missing says so; 0 would be drawn, and NaN passed on."""
    assert log_keys(found_of(None, covered=None), 3) == {}
    keys = log_keys(found_of(Sum(10.0, None, None, "unrated", ())), 0)
    assert keys == {"energy/total_joules": 10.0, "quality/coverage": 1.0, "quality/dropouts": 0.0}
    keys = log_keys(found_of(Sum(10.0, 9.0, 12.0, "good", ()), idle_j=4.0, simulated=True), 5)
    assert (keys["energy/step_joules"], keys["energy/step_joules_high"]) == (2.0, 2.4)
    assert (keys["quality/half_width_pct"], keys["energy/idle_joules"], keys["quality/simulated"]) == (20.0, 4.0, 1.0)


EVERY = KEYS | MORE_KEYS | {"energy/cumulative_joules_low", "power/gpu0_watts_max", "energy/plug_joules"}


@pytest.mark.parametrize(
    ("keys", "logged"),
    [
        ("all", EVERY),
        ("short", KEYS | {"energy/plug_joules"}),  # who put a meter there wants to see it
        ("energy/total_joules", {"energy/total_joules", "quality/simulated"}),
        (("power/*", "quality/*"), {key for key in EVERY if key.startswith(("power", "quality"))}),
        (lambda key: key.endswith("_low"), {key for key in EVERY if key.endswith("_low")} | {"quality/simulated"}),
        ((), {"quality/simulated"}),
    ],
)
def test_chosen_keys(keys, logged):
    found = chosen(dict.fromkeys(EVERY, 12345.678), keys)
    assert found.keys() == logged
    assert set(found.values()) == {12345.7}


@pytest.mark.parametrize(
    ("name", "domain", "key"),
    [
        ("gpu1", "gpu", "gpu1"),
        ("package-1", "package", "cpu_pkg1"),
        ("package-0-die-1", "package", "cpu_pkg0_die_1"),
        ("wall", "wall", "wall"),
        ("gpu0", "module", "gpu0_module"),
    ],
)
def test_log_keys_name_devices_as_loggers_do(name, domain, key):
    found = found_of(None, devices={(name, domain): Sum(3.0, 2.0, 4.0, "good", ())})
    assert log_keys(found, 0)[f"energy/{key}_joules_low"] == 2.0


def test_cumulative_of_a_resumed_training_adds_intervals_linearly_and_survives_json():
    one = Cumulative(simulated=False).plus(found_of(Sum(10.0, 9.0, 12.0, "good", ())))
    two = Cumulative.from_json(one.as_json(), simulated=False).plus(found_of(Sum(20.0, 17.0, 23.0, "good", ())))
    assert two.log_keys() == {
        "energy/cumulative_joules": 30.0,
        "energy/cumulative_joules_low": 26.0,
        "energy/cumulative_joules_high": 35.0,
    }
    assert (two.epochs, two.duration_s) == (2, 4.0)
    without_interval = two.plus(found_of(Sum(1.0, None, None, "unrated", ())))
    assert without_interval.log_keys() == {"energy/cumulative_joules": 31.0}
    assert two.plus(found_of(None)).log_keys() == {}  # a sum that lacks an epoch looks like a sum


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"version": 1},
        {"version": 9},
        {"version": 1, "simulated": False, "new": 1},
        {"version": 1, "simulated": False, "joules": "x"},
        {"version": 1, "simulated": False, "high_j": float("nan")},
    ],
)
def test_cumulative_that_cannot_be_understood_is_refused(state):
    with pytest.raises(errors.BadFormat):
        Account().load_state_dict(state)


def test_cumulative_of_a_simulated_node_is_never_added_to_a_measurement():
    state = Account(simulate="h100").state_dict()
    with pytest.raises(errors.InvalidArgument, match="a simulated node, and what measures now is this machine"):
        Account().load_state_dict(state)


# ---- frameworks ------------------------------------------------------------------------------------------------


def test_framework_missing_or_too_old_names_the_extra_and_the_least_version(monkeypatch):
    with pytest.raises(errors.PackageMissing, match=r"this needs not_there 2.2 or newer .*powersample\[frameworks\]"):
        framework("2.2", "not_there.pytorch", "not_there_either")
    with pytest.raises(errors.PackageMissing, match=r"hypothesis cannot be imported \(.*not_there"):
        framework("2.2", "hypothesis.not_there")
    old = ModuleType("oldframework")
    old.__version__ = "1.9.5"
    monkeypatch.setitem(sys.modules, "oldframework", old)
    with pytest.raises(ImportError, match=r"oldframework 2.2 or newer, and this is 1.9.5"):
        framework("2.2", "oldframework")
    old.__version__ = "2.10.0+cpu"
    assert framework("2.2", "missing", "oldframework") is old


def test_left_tells_of_a_call_that_an_exception_ended_and_of_no_other(monkeypatch):
    """It looks at callers by their module's name: code of a module "fake" stands for a framework's."""
    monkeypatch.setattr(left, "LOOK_EVERY_S", 0.02)
    told = threading.Event()
    space = {"__name__": "fake.trainer"}
    exec("def fit(inside):\n    inside()\n", space)

    def fails():
        Left("fake", told.set)
        assert not told.wait(0.2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        space["fit"](fails)
    assert told.wait(5)
    told.clear()
    space["fit"](lambda: Left("fake", told.set).cancel())
    assert not told.wait(0.2)
    assert Left("nowhere", told.set)._frame is None
