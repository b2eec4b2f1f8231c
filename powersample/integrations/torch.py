# SPDX-License-Identifier: Apache-2.0
"""Energy per epoch of a training loop that is written out in PyTorch.

    with EnergyLoop() as energy:
        for epoch in energy.epochs(range(3), log=wandb.log):
            for batch in energy.steps(loader):
                ...
            with energy.validation():
                ...

An epoch's keys go to `log` when its body has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

from powersample.integrations import framework
from powersample.session.account import Keys
from powersample.session.training import Account

LEAST = "2.0"
T = TypeVar("T")


class EnergyLoop:
    """What marks a loop's epochs, steps and validations, and tells their energy.

    Args:
        profiler: Open a range of `torch.profiler`, "powersample:epoch 0", for every window, so that they lie in
            torch's own trace.
        keys: What is logged: "short", "all", patterns such as "energy/gpu*_joules", or a function of a key.
        steps: Mark every step as a window; they are counted in any case.
        options: Of `powersample.measure`, such as output="run.parquet".

    Attributes:
        account: The account: `account.run` is the recording, `account.history` every epoch's keys.
    """

    def __init__(self, *, profiler: bool = False, keys: Keys = "short", steps: bool = False, **options: Any) -> None:
        self._torch = framework(LEAST, "torch")
        self._profiler = profiler
        self.account = Account(keys=keys, steps=steps, **options)

    def __enter__(self) -> Self:
        self.account.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.account.stop()

    def epochs(self, numbers: Iterable[int], log: Callable[[dict[str, float]], object] | None = None) -> Iterator[int]:
        """Yield the numbers of epochs; each body is one.

        Args:
            numbers: Such as range(3), or range(done, 10) of a resumed training.
            log: Is called after each epoch with its keys and "epoch"; not where this process only marks.
        """
        for number in numbers:
            self.account.begin_epoch(number)
            try:
                with self._range(f"epoch {number}"):
                    yield number
            finally:  # a body that was left by `break` was an epoch too
                keys = self.account.end_epoch()
                if keys and log is not None:
                    log({"epoch": number} | keys)

    def steps(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches; each body is one step, and the time until the next batch is there belongs to none."""
        for batch in batches:
            self.account.begin_step()
            try:
                with self._range("step"):
                    yield batch
            finally:
                self.account.end_step()

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Mark a block that is no part of the epoch's training."""
        self.account.begin_aside("validation")
        try:
            with self._range("validation"):
                yield
        finally:
            self.account.end_aside("validation")

    def state_dict(self) -> dict[str, Any]:
        """Return the account so far, for a checkpoint: see `Account.state_dict`."""
        return self.account.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the account of a checkpoint."""
        self.account.load_state_dict(state)

    def _range(self, name: str) -> AbstractContextManager[Any]:
        if not self._profiler:
            return nullcontext()
        found: AbstractContextManager[Any] = self._torch.profiler.record_function(f"powersample:{name}")
        return found
