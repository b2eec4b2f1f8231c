# SPDX-License-Identifier: Apache-2.0
"""Energy per epoch of a transformers training: `EnergyCallback().attach(trainer)`.

A callback in `Trainer(callbacks=[...])` comes after those that report to W&B, TensorBoard or MLflow, which then do not
see what it adds to a log; `attach` puts it before them. `state.log_history` has the keys either way.
"""

from __future__ import annotations

from typing import Any, Self

from powersample.integrations import framework
from powersample.integrations.left import Left
from powersample.session.account import Keys
from powersample.session.training import ASIDE, Account

LEAST = "4.46"
STATE = "powersample"  # among a TrainerState's `stateful_callbacks`, which every checkpoint has
ALMOST = 1e-6  # epochs are told as fractions
Callback: Any = framework(LEAST, "transformers").TrainerCallback


class EnergyCallback(Callback):  # type: ignore[misc] # Any, so that types are alike without the package
    """Adds what each epoch took to the next log, and keeps the sum in checkpoints.

    Args:
        keys: What is logged: "short", "all", patterns such as "energy/gpu*_joules", or a function of a key.
        steps: Mark every optimiser step as a window; they are counted in any case.
        options: Of `powersample.measure`, such as output="run.parquet".

    Attributes:
        account: The account: `account.run` is the recording, `account.history` every epoch's keys.
    """

    def __init__(self, *, keys: Keys = "short", steps: bool = False, **options: Any) -> None:
        self.account = Account(keys=keys, steps=steps, **options)
        self._told: dict[str, float] = {}
        self._left: Left | None = None

    def attach(self, trainer: Any) -> Self:
        """Make it the first of a trainer's callbacks."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.stateful_callbacks and STATE in state.stateful_callbacks:
            self.account.load_state_dict(state.stateful_callbacks[STATE])
        self.account.start(0 if state.is_local_process_zero else 1)
        self._left = Left("transformers", self.account.stop)
        if args.eval_on_start:
            self.account.begin_aside("validation")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._keep(state)
        self.account.begin_epoch(int((state.epoch or 0.0) + ALMOST))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for what in ASIDE:  # that somebody called off
            self.account.end_aside(what)
        self.account.begin_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.account.end_step()
        self._ahead(args, state, control)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.account.begin_aside("validation")  # where nothing told of it before

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.account.end_aside("validation")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.account.end_aside("checkpoint")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._told = self.account.end_epoch()
        if self._told and args.logging_strategy != "no":
            control.should_log = True
        state.stateful_callbacks[STATE] = self.account.state_dict()
        self._ahead(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs is not None and self._told:
            logs.update(self._told)
            state.log_history[-1].update(self._told)  # a copy of `logs` that was made before this
            self._told = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._keep(state)
        if self._left is not None:
            self._left.cancel()
        self.account.stop()

    def _keep(self, state: Any) -> None:
        """Give a row of its own to what no log took along."""
        if self._told:
            state.log_history.append({"epoch": state.epoch, "step": state.global_step} | self._told)
            self._told = {}

    def _ahead(self, args: Any, state: Any, control: Any) -> None:
        """Prepare for what the trainer does next."""
        if control.should_save:
            self.account.begin_aside("checkpoint")
            state.stateful_callbacks[STATE] = self.account.state_dict()
        if control.should_evaluate:
            self.account.begin_aside("validation")
