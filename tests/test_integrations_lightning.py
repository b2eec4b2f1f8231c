# SPDX-License-Identifier: Apache-2.0
"""The Lightning callback in real trainings, measured on the simulated node."""

import csv
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from trainings import FIFO, KEYS, busy_node, check_nothing_left, check_truth_in_every_epoch, names_of, work

from powersample.marks.job import LAUNCHERS

torch = pytest.importorskip("torch", reason="torch is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    L = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from powersample.integrations.lightning import EnergyCallback

# Lightning's own advice on workers, loggers and its dependencies' deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


LAUNCHED = {word for name, names in LAUNCHERS for word in (name, *names)}


class Model(L.LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        self.layer, self.fail_at = torch.nn.Linear(8, 1), fail_at

    def training_step(self, batch, batch_idx):
        if self.fail_at == self.current_epoch:
            raise ZeroDivisionError
        work()
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        work(0.1)
        self.log("val_loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(batches=3):
    return torch.utils.data.DataLoader(torch.randn(4 * batches, 8), batch_size=4)


def trainer(callback, folder, **more):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return L.Trainer(
        accelerator="cpu", devices=1, default_root_dir=folder, callbacks=[callback], log_every_n_steps=1,
        **{"logger": False, "max_epochs": 2} | quiet | more,
    )  # fmt: skip


def fit(node, folder, *, model=None, batches=3, validation=True, ckpt_path=None, callback=None, **more):
    callback = callback or EnergyCallback(simulate=node, fifo=FIFO)
    one = trainer(callback, folder, **more)
    one.fit(model or Model(), loader(batches), loader(1) if validation else None, ckpt_path=ckpt_path)
    return callback.account, one


def test_callback_logs_every_epoch_with_the_truth_inside(tmp_path):
    """The sanity check is in no window, validation in its own, and the keys are in Lightning's own log."""
    logger = L.loggers.CSVLogger(tmp_path)
    with busy_node() as node:
        account, _ = fit(node, tmp_path, logger=logger, num_sanity_val_steps=1)
    check_truth_in_every_epoch(account, 2)
    assert names_of(account.run) == ["epoch 0", "validation 0", "epoch 1", "validation 1"]
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["energy/total_joules"]]
    assert [float(row["energy/total_joules"]) for row in rows] == pytest.approx(
        [keys["energy/total_joules"] for keys in account.history], rel=1e-5
    )
    assert rows[0].keys() >= KEYS
    check_nothing_left(account)


def test_callback_counts_optimiser_steps_of_accumulated_batches(tmp_path):
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO, steps=True)
        account, _ = fit(
            node, tmp_path, batches=4, validation=False, callback=callback, accumulate_grad_batches=2, max_epochs=1
        )
    keys = account.history[0]
    assert keys["energy/step_joules"] == pytest.approx(keys["energy/total_joules"] / 2)
    assert names_of(account.run) == ["epoch 0", "step", "step"]


def test_callback_validation_within_the_epoch_is_taken_out_of_it(tmp_path):
    with busy_node() as node:
        account, _ = fit(node, tmp_path, batches=4, max_epochs=1, val_check_interval=2, num_sanity_val_steps=0)
    check_truth_in_every_epoch(account, 1)
    assert names_of(account.run) == ["epoch 0", "validation 0", "validation 0"]


def test_callback_exception_in_a_step_stops_the_sampler(tmp_path):
    callback = EnergyCallback
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        with pytest.raises(ZeroDivisionError):
            fit(node, tmp_path, model=Model(fail_at=1), validation=False, callback=callback)
    check_nothing_left(callback.account)
    assert [keys["epoch"] for keys in callback.account.history] == [0]


def test_callback_max_steps_in_the_middle_of_an_epoch_tells_of_it(tmp_path):
    with busy_node() as node:
        account, _ = fit(node, tmp_path, validation=False, max_epochs=-1, max_steps=4)
    check_truth_in_every_epoch(account, 2)
    assert account.history[1]["energy/step_joules"] == pytest.approx(account.history[1]["energy/total_joules"])


def test_callback_resumed_from_a_checkpoint_goes_on_with_its_account(tmp_path):
    """The checkpoint is written while validation ends, inside the epoch: it holds what that took until then."""
    with busy_node() as node:
        first, one = fit(node, tmp_path, max_epochs=1, enable_checkpointing=True)
        path = one.checkpoint_callback.best_model_path
        state = next(iter(torch.load(path, weights_only=False)["callbacks"][EnergyCallback.__qualname__].items()))
        assert state
        second, _ = fit(node, tmp_path, max_epochs=2, ckpt_path=path)
    assert len(second.history) == 1
    cumulative = second.history[0]["energy/cumulative_joules"]
    told = [keys["energy/total_joules"] for keys in (*first.history, *second.history)]
    assert cumulative == pytest.approx(sum(told), rel=0.25)


def test_callback_second_fit_is_a_new_account_and_a_trainer_that_goes_on_goes_on_with_it(tmp_path):
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO, output=tmp_path / "run.parquet")
        fit(node, tmp_path, validation=False, max_epochs=1, callback=callback)
        _, one = fit(node, tmp_path, validation=False, max_epochs=1, callback=callback)
        assert [keys["epoch"] for keys in callback.account.history] == [0]
        one.fit_loop.max_epochs = 2
        one.fit(Model(), loader(2))
    anew, on = callback.account.history
    assert anew["energy/cumulative_joules"] == anew["energy/total_joules"]
    assert on["energy/cumulative_joules"] == pytest.approx(anew["energy/total_joules"] + on["energy/total_joules"])
    names = ["run-2.parquet", "run-3.parquet", "run.parquet"]
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == names


DDP = """
import json, sys, torch, warnings
warnings.simplefilter("ignore")
import lightning.pytorch as pl
from powersample.integrations.lightning import EnergyCallback

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, batch_idx):
        import time
        time.sleep(0.1)
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

energy = EnergyCallback(simulate="h100", fifo=5)
trainer = pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[energy],
)
trainer.fit(Model(), torch.utils.data.DataLoader(torch.randn(24, 8), batch_size=4))
run = energy.account.run
told = {"rank": trainer.local_rank, "epochs": len(energy.account.history), "keys": len(trainer.callback_metrics)}
told["windows"] = None if run is None else [[one.name, one.source.split()[-1]] for one in run.windows]
print("TOLD", json.dumps(told), flush=True)
"""


def test_callback_of_two_ranks_measures_in_the_first_and_marks_in_both(tmp_path):
    """Gloo on the CPU, two processes that Lightning starts: the devices are the node's, so one rank measures them."""
    program = tmp_path / "train.py"
    program.write_text(DDP, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    environment |= {"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line.partition("TOLD ")[2]) for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    first, second = sorted(told, key=lambda one: one["rank"])
    assert (first["epochs"], second["epochs"], second["windows"]) == (2, 0, None)
    assert first["keys"] >= len(KEYS)
    windows = [tuple(one) for one in first["windows"] if one[0] != "run"]
    assert sorted(windows) == [("epoch 0", "0"), ("epoch 0", "1"), ("epoch 1", "0"), ("epoch 1", "1")]
