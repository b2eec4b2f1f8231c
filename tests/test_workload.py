# SPDX-License-Identifier: Apache-2.0
"""The training that experiments measure: its plan, the load that the plan is, and its windows."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample import errors
from powersample.experiments import workload
from powersample.experiments.workload import Epoch, Network, plan, prepare, train, training

lengths = st.lists(st.floats(0.2, 10.0), min_size=1, max_size=4, unique=True)


@given(lengths, st.integers(0, 40))
def test_plan_holds_every_length_and_gives_each_about_the_same_time(lengths_s, more):
    epochs = plan(lengths_s, len(lengths_s) + more)
    assert len(epochs) == len(lengths_s) + more
    had_s = {seconds: sum(one.seconds for one in epochs if one.seconds == seconds) for seconds in lengths_s}
    assert all(had_s.values())
    least = min(had_s, key=lambda seconds: had_s[seconds] + seconds)
    for seconds, total_s in had_s.items():  # none got one more while another could have had it first
        assert total_s == seconds or total_s <= had_s[least] + least + 1e-9


@given(st.floats(0.2, 20.0), st.floats(0.0, 1.0))
def test_epoch_load_has_the_energy_of_its_share(seconds, share):
    """The closed form: idle all the time, and the rest of full power for the share that computes."""
    steps = Epoch(seconds, share).load(50.0, 350.0)
    t_s, watts = np.array(steps).T
    assert np.all(np.diff(t_s) > 0)
    joules = float(np.sum(watts[:-1] * np.diff(t_s)))
    assert joules == pytest.approx(seconds * (50.0 + 300.0 * share), abs=1e-6)
    assert steps[-1] == (seconds, 50.0)


@pytest.mark.parametrize(
    ("lengths_s", "count", "says"),
    [
        ([], 3, "no epoch length"),
        ([0.1], 3, "0.1 s"),
        ([float("nan")], 3, "nan s"),
        ([-1.0], 3, "-1 s"),
        ([1e9], 3, "1e"),
        ([0.3, 1.0], 1, "1 epochs of 2 lengths"),
        ([0.3], 0, "0 epochs"),
        ([0.3], 10**9, "takes 1 to"),
    ],
)
def test_plan_refuses_what_cannot_be_trained(lengths_s, count, says):
    with pytest.raises(errors.InvalidArgument, match=says):
        plan(lengths_s, count)


@pytest.mark.parametrize("python_load", [False, True])
def test_train_gives_epochs_of_the_planned_length_one_after_the_other(python_load):
    told = []
    trained = train(plan([0.2], 2), Network(), python_load=python_load, say=told.append)
    first, second = trained.epochs
    assert told == [0, 1]
    assert trained.run.start_ns <= first.start_ns < first.end_ns <= second.start_ns < second.end_ns
    assert second.end_ns <= trained.run.end_ns
    assert all(one.duration_s >= 0.2 for one in trained.epochs)
    assert np.all(np.isfinite(trained.losses))


def test_network_learns():
    network = Network()
    early = np.mean([network.step() for _ in range(20)])
    for _ in range(300):
        network.step()
    assert np.mean([network.step() for _ in range(20)]) < 0.7 * early


def test_prepare_does_its_work_in_python():
    assert prepare(10) == sum(i * i % 7 for i in range(10))


def test_training_under_python_load_prepares_every_batch_in_python(monkeypatch):
    prepared = []
    monkeypatch.setattr(workload, "prepare", lambda: prepared.append(1))
    for python_load in (False, True):
        training("numpy", python_load=python_load).step()
    assert prepared == [1]


def test_training_of_an_unknown_name_lists_those_there_are():
    with pytest.raises(errors.InvalidArgument, match="numpy or torch"):
        training("jax")


def test_training_in_torch_learns():
    pytest.importorskip("torch", reason="torch is not installed: the race's --training torch is not tried")
    network = training("torch")
    early = np.mean([network.step() for _ in range(20)])
    for _ in range(300):
        network.step()
    assert np.mean([network.step() for _ in range(20)]) < 0.7 * early


def test_training_in_torch_without_torch_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(errors.NotSupported, match="pip install torch"):
        training("torch")
