# SPDX-License-Identifier: Apache-2.0
"""The transformers callback in real trainings of a tiny BERT, measured on the simulated node."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

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

from powersample.marks.job import LAUNCHERS

torch = pytest.importorskip("torch", reason="torch is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from powersample.integrations.transformers import STATE, EnergyCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' and accelerate's own

LAUNCHED = {word for name, names in LAUNCHERS for word in (name, *names)}
ROOT = Path(__file__).parents[1]
BERT = {
    "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 8, "num_labels": 2,
}  # fmt: skip


class Data(torch.utils.data.Dataset):
    """Random sentences; the items cost the time that an epoch takes."""

    def __init__(self, items, fail_at=None):
        self.items, self.fail_at, self.taken = items, fail_at, 0

    def __len__(self):
        return self.items

    def __getitem__(self, i):
        self.taken += 1
        if self.taken == self.fail_at:
            raise ZeroDivisionError
        work(0.04)
        return {"input_ids": torch.randint(0, 32, (8,)), "labels": torch.tensor(i % 2)}


class Reporter(transformers.TrainerCallback):
    """Stands for W&B's callback, which comes before a user's."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def trainer(folder, callbacks=(), data=None, **more):
    options = {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "num_train_epochs": 2, "report_to": [],
        "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT))
    return transformers.Trainer(
        model=model, args=transformers.TrainingArguments(**options | more), train_dataset=data or Data(12),
        eval_dataset=Data(4), callbacks=list(callbacks),
    )  # fmt: skip


def rows_of(one):
    return [row for row in one.state.log_history if "energy/total_joules" in row]


def test_callback_logs_every_epoch_with_the_truth_inside(tmp_path):
    """Evaluation before training and after each epoch is in windows of its own; what follows the training in none."""
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        one = trainer(tmp_path, [callback], eval_strategy="epoch", eval_on_start=True)
        one.train()
        one.evaluate()
    check_truth_in_every_epoch(callback.account, 2)
    rows = rows_of(one)
    told = [keys["energy/total_joules"] for keys in callback.account.history]
    assert [row["energy/total_joules"] for row in rows] == pytest.approx(told, rel=1e-5)
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert rows[0].keys() >= KEYS
    assert "loss" in rows[0]
    assert names_of(callback.account.run) == ["validation", "epoch 0", "validation 0", "epoch 1", "validation 1"]
    assert json.dumps(one.state.log_history)
    check_nothing_left(callback.account)


def test_callback_attached_is_seen_by_reporters_that_come_before_users_callbacks(tmp_path):
    reporter = Reporter()
    with busy_node() as node:
        one = trainer(tmp_path, [reporter], num_train_epochs=1)
        EnergyCallback(simulate=node, fifo=FIFO).attach(one)
        one.train()
    assert any("energy/total_joules" in logs for logs in reporter.seen)


def test_callback_counts_optimiser_steps_of_accumulated_batches_and_takes_evaluation_out_of_the_epoch(tmp_path):
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO, steps=True)
        trainer(
            tmp_path, [callback], per_device_train_batch_size=2, gradient_accumulation_steps=3, num_train_epochs=1,
            eval_strategy="steps", eval_steps=1,
        ).train()  # fmt: skip
    check_truth_in_every_epoch(callback.account, 1)
    keys = callback.account.history[0]
    assert keys["energy/step_joules"] == pytest.approx(keys["energy/total_joules"] / 2)
    names = names_of(callback.account.run)
    assert (names.count("step"), names.count("validation 0")) == (2, 2)


def test_callback_max_steps_in_the_middle_of_an_epoch_without_logging_tells_of_it(tmp_path):
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        one = trainer(tmp_path, [callback], max_steps=4, logging_strategy="no")
        one.train()
    check_truth_in_every_epoch(callback.account, 2)
    assert len(rows_of(one)) == 2


def test_callback_resumed_from_a_checkpoint_in_the_middle_of_an_epoch_goes_on_with_its_account(tmp_path):
    with busy_node() as node:
        first = EnergyCallback(simulate=node, fifo=FIFO)
        trainer(tmp_path, [first], save_strategy="steps", save_steps=4, max_steps=4).train()
        saved = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())["stateful_callbacks"][STATE]
        second = EnergyCallback(simulate=node, fifo=FIFO)
        trainer(tmp_path, [second], num_train_epochs=2).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert saved["epochs"] == 2
    told = sum(keys["energy/total_joules"] for keys in first.account.history)
    assert saved["joules"] == pytest.approx(told, rel=0.25)
    assert [keys["epoch"] for keys in second.account.history] == [1]
    keys = second.account.history[0]
    assert keys["energy/cumulative_joules"] == pytest.approx(saved["joules"] + keys["energy/total_joules"])


def test_callback_exception_in_training_stops_the_sampler_although_no_hook_tells_of_it(tmp_path):
    with busy_node() as node:
        callback = EnergyCallback(simulate=node, fifo=FIFO)
        with pytest.raises(ZeroDivisionError):
            trainer(tmp_path, [callback], data=Data(12, fail_at=14)).train()
        wait_for_nothing_left(callback.account)
    assert [keys["epoch"] for keys in callback.account.history] == [0]


TORCHRUN = """
import json, sys, time, torch, warnings
warnings.simplefilter("ignore")
from transformers import Trainer, TrainingArguments
from powersample.analysis import training, truth_joules
from powersample.integrations.transformers import EnergyCallback

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x, labels=None):
        time.sleep(0.1)
        return {"loss": self.layer(x).square().mean()}

one = Trainer(
    model=Model(),
    args=TrainingArguments(
        "out", use_cpu=True, report_to=[], num_train_epochs=2, per_device_train_batch_size=2, save_strategy="no",
        disable_tqdm=True, ddp_backend="gloo", logging_strategy="epoch",
    ),
    train_dataset=[{"x": torch.ones(4), "labels": 0.0} for _ in range(16)],
)
energy = EnergyCallback(simulate="h100", fifo=5, keys="all").attach(one)
one.train()
run, told = energy.account.run, {"rank": one.args.local_process_index, "world": one.args.world_size}
told["rows"] = [row for row in one.state.log_history if "energy/total_joules" in row]
if run is not None:
    trace = run.trace
    told["windows"] = [
        [window.name, window.source.split()[-1], sum(
            truth_joules(trace, piece.device, piece.domain, window) for piece in training(trace, window).total.pieces
        )]
        for window in run.windows if window.name != "run"
    ]
print("TOLD", json.dumps(told), flush=True)
"""


def test_callback_under_torchrun_measures_in_the_first_process_with_the_truth_inside(tmp_path):
    """Two processes with gloo on the CPU: the node is counted once, and both mark."""
    program = tmp_path / "train.py"
    program.write_text(TORCHRUN, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    environment |= {"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line.partition("TOLD ")[2]) for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    first, second = sorted(told, key=lambda one: one["rank"])
    assert (first["world"], second["rows"], len(first["rows"])) == (2, [], 2)
    truths = {(name, rank): truth_j for name, rank, truth_j in first["windows"]}
    assert truths.keys() == {("epoch 0", "0"), ("epoch 0", "1"), ("epoch 1", "0"), ("epoch 1", "1")}
    for i, row in enumerate(first["rows"]):
        assert row["energy/total_joules_low"] < truths[f"epoch {i}", "0"] < row["energy/total_joules_high"]
