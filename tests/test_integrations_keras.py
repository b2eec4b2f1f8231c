# SPDX-License-Identifier: Apache-2.0
"""The Keras 3 callback in real trainings on the torch backend, and on JAX, measured on the simulated node."""

import csv
import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from trainings import (
    FIFO,
    KEYS,
    busy_node,
    check_nothing_left,
    check_truth_in_every_epoch,
    names_of,
    wait_for_nothing_left,
    work,
)

from powersample.errors import BadFormat

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch", reason="torch is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    from powersample.integrations.keras import EnergyCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own

X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.zeros((12, 1))


class Slow(keras.callbacks.Callback):
    """Gives steps a length, and fails when it is told to."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.fail_at, self.epoch = fail_at, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == self.fail_at:
            raise ZeroDivisionError
        work()

    def on_test_batch_begin(self, batch, logs=None):
        work(0.1)


def fit(callback, *, epochs=2, others=(), validation=True, fail_at=None, initial_epoch=0, **more):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", **more)
    data = (X[:4], Y[:4]) if validation else None
    return model.fit(
        X, Y, batch_size=4, epochs=epochs, validation_data=data, verbose=0, initial_epoch=initial_epoch,
        callbacks=[callback, Slow(fail_at), *others],
    )  # fmt: skip


def test_callback_logs_every_epoch_with_the_truth_inside(tmp_path):
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        history = fit(callback, others=[keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    check_truth_in_every_epoch(callback.account, 2)
    told = [keys["energy/total_joules"] for keys in callback.account.history]
    assert history.history["energy/total_joules"] == pytest.approx(told, rel=1e-5)
    assert history.history.keys() == KEYS | {"loss", "val_loss"}
    with open(tmp_path / "log.csv", newline="") as file:
        assert [float(row["energy/total_joules"]) for row in csv.DictReader(file)] == pytest.approx(told, rel=1e-5)
    assert names_of(callback.account.run) == ["epoch 0", "validation 0", "epoch 1", "validation 1"]
    check_nothing_left(callback.account)


def test_callback_counts_steps_that_are_executed_together():
    """The hooks are called as Keras calls them for two steps at a time, which torch's backend never does."""
    with busy_node() as node:
        callback, logs = EnergyCallback(simulate=node, fifo=FIFO, keys="energy/*"), {}
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        for first, last in ((0, 1), (2, 2)):
            callback.on_train_batch_begin(first)
            work()
            callback.on_train_batch_end(last)
        callback.on_epoch_end(0, logs)
        callback.on_train_end()
    assert logs["energy/step_joules"] == pytest.approx(logs["energy/total_joules"] / 3, rel=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="this backend executes each step by itself")
def test_callback_counts_steps_that_keras_executes_together():
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        fit(callback, epochs=1, steps_per_execution=2)
    check_truth_in_every_epoch(callback.account, 1)
    keys = callback.account.history[0]
    assert keys["energy/step_joules"] == pytest.approx(keys["energy/total_joules"] / 3)


@pytest.mark.skipif(os.environ["KERAS_BACKEND"] == "jax", reason="this is JAX already")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_callback_holds_the_same_with_jax():
    """A process has one backend: these tests again, in another."""
    chosen = ["-p", "no:cacheprovider", "-k", "truth or together or exception"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *chosen, __file__],
        env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_callback_second_fit_goes_on_with_its_account_from_the_file_that_keeps_it(tmp_path):
    with busy_node() as node:
        first, second, anew = (
            EnergyCallback(simulate=node, fifo=FIFO, state=tmp_path / "energy.json") for _ in range(3)
        )
        fit(first, epochs=1, validation=False)
        fit(second, epochs=2, initial_epoch=1, validation=False)
        fit(anew, epochs=1, validation=False)
    told = [one.account.history[0]["energy/total_joules"] for one in (first, second, anew)]
    sums = [one.account.history[0]["energy/cumulative_joules"] for one in (first, second, anew)]
    assert sums == pytest.approx([told[0], told[0] + told[1], told[2]])


def test_callback_whose_file_is_torn_refuses_to_start_and_one_that_cannot_be_written_goes_on(tmp_path):
    torn = tmp_path / "torn.json"
    torn.write_text('{"version": 1, "jou')
    with busy_node() as node:
        refused = EnergyCallback(simulate=node, fifo=FIFO, state=torn)
        with pytest.raises(BadFormat, match="Remove the file"):
            fit(refused, epochs=2, initial_epoch=1, validation=False)
        assert refused.account.run is None
        on = EnergyCallback(simulate=node, fifo=FIFO, state=tmp_path / "none" / "energy.json")
        fit(on, epochs=2, validation=False)
    assert len(on.account.history) == 2
    check_nothing_left(on.account)


def test_callback_second_fit_is_a_new_account_unless_it_goes_on_where_the_first_ended():
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        fit(callback, epochs=1, validation=False)
        fit(callback, epochs=1, validation=False)
        assert [keys["epoch"] for keys in callback.account.history] == [0]
        fit(callback, epochs=2, initial_epoch=1, validation=False)
    anew, on = callback.account.history
    assert anew["energy/cumulative_joules"] == anew["energy/total_joules"]
    assert on["energy/cumulative_joules"] == pytest.approx(anew["energy/total_joules"] + on["energy/total_joules"])


def test_callback_exception_in_training_stops_the_sampler_although_no_hook_tells_of_it():
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        with pytest.raises(ZeroDivisionError):
            fit(callback, fail_at=1)
        wait_for_nothing_left(callback.account)
    assert [keys["epoch"] for keys in callback.account.history] == [0]
