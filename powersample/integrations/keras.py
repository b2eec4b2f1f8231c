# SPDX-License-Identifier: Apache-2.0
"""Energy per epoch of a Keras 3 training: `model.fit(..., callbacks=[EnergyCallback()])`.

With the torch backend epochs are marked once the device has done its work. With JAX and TensorFlow Keras itself waits
for all but the last step's update: the numbers of an epoch's log are fetched before its end is told.
"""

from __future__ import annotations

import os
from typing import Any

from powersample.integrations import framework
from powersample.integrations.kept import KeptState
from powersample.integrations.left import Left
from powersample.session.account import Keys
from powersample.session.training import Account

LEAST = "3.0"
Callback: Any = framework(LEAST, "keras").callbacks.Callback


class EnergyCallback(Callback):  # type: ignore[misc] # Any, so that types are alike without the package
    """Adds what each epoch took to its logs, where History, CSVLogger and TensorBoard see it.

    Args:
        keys: What is logged: "short", "all", patterns such as "energy/gpu*_joules", or a function of a key.
        steps: Mark every step as a window; they are counted in any case.
        state: A file that keeps the sum over epochs for other processes, since Keras' checkpoints have no place for
            it. A training that begins later than epoch 0 goes on with it; one that begins there writes it anew.
        options: Of `powersample.measure`, such as output="run.parquet".

    Attributes:
        account: The account: `account.run` is the recording, `account.history` every epoch's keys.
    """

    def __init__(
        self, *, keys: Keys = "short", steps: bool = False, state: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        super().__init__()
        self.account = Account(keys=keys, steps=steps, **options)
        simulated = options.get("simulate") is not None
        self._state = None if state is None else KeptState(state, simulated=simulated)
        self._kept: dict[str, Any] | None = None
        self._fresh = True
        self._batches = 0
        self._left: Left | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._kept = (
            None if self._state is None else self._state.read()
        )  # what is wrong with it is said before all else
        self.account.start()
        self._fresh = True
        self._left = Left("keras", self.account.stop)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._fresh and epoch > 0 and self._kept is not None:
            self.account.load_state_dict(self._kept)
        self._fresh = False
        self._batches = 0
        self.account.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.account.begin_step()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        most = (self.params or {}).get("steps")  # with steps_per_execution `batch` is the last of several
        self._batches = min(batch + 1, most or batch + 1)  # and where they do not come out even, of some there are not
        self.account.end_step()

    def on_test_begin(self, logs: Any = None) -> None:
        self.account.begin_aside("validation")

    def on_test_end(self, logs: Any = None) -> None:
        self.account.end_aside("validation")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        keys = self.account.end_epoch(self._batches)
        if logs is not None:
            logs.update(keys)
        if self._state is not None and self.account.run is not None:
            self._state.write(self.account.state_dict())

    def on_train_end(self, logs: Any = None) -> None:
        if self._left is not None:
            self._left.cancel()
        self.account.stop()
