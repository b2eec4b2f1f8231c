# SPDX-License-Identifier: Apache-2.0
"""Energy per epoch of a Lightning training: `Trainer(callbacks=[EnergyCallback()])`.

Validation and the checkpoint's own wait are no part of an epoch's energy; the sanity check before training is none of
the account's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from powersample.integrations import framework
from powersample.session.account import Keys
from powersample.session.training import Account

LEAST = "2.2"
Callback: Any = framework(LEAST, "lightning.pytorch", "pytorch_lightning").Callback


class EnergyCallback(Callback):  # type: ignore[misc] # Any, so that types are alike without the package
    """Logs what each epoch took, and keeps the sum in checkpoints.

    Args:
        keys: What is logged: "short", "all", patterns such as "energy/gpu*_joules", or a function of a key.
        steps: Mark every optimiser step as a window; they are counted in any case.
        options: Of `powersample.measure`, such as output="run.parquet".

    Attributes:
        account: The account: `account.run` is the recording, `account.history` every epoch's keys.
    """

    def __init__(self, *, keys: Keys = "short", steps: bool = False, **options: Any) -> None:
        self.account = Account(keys=keys, steps=steps, **options)
        self._steps_before = self._steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.account.start(trainer.local_rank)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin_epoch(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.account.in_epoch:  # resumed in the middle of one, which does not start again
            self._begin_epoch(trainer)
        if trainer.global_step != self._steps or batch_idx == 0:  # else one more batch of the same optimiser step
            self._steps = trainer.global_step
            self.account.begin_step()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self._steps:
            self.account.end_step()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.account.begin_aside("validation")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.account.end_aside("validation")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        keys = self.account.end_epoch(trainer.global_step - self._steps_before)
        if keys:
            pl_module.log_dict(keys, on_step=False, on_epoch=True, rank_zero_only=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.account.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.account.stop()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.account.stop()

    def state_dict(self) -> dict[str, Any]:
        return self.account.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.account.load_state_dict(state_dict)

    def _begin_epoch(self, trainer: Any) -> None:
        self._steps_before = trainer.global_step
        self.account.begin_epoch(trainer.current_epoch)
