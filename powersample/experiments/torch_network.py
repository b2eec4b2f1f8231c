# SPDX-License-Identifier: Apache-2.0
"""The same kind of training in torch, on a GPU where torch finds one: what loads a real board."""

from __future__ import annotations

from typing import Any

from powersample.errors import NotSupported
from powersample.experiments.workload import CLASSES

BATCH, FEATURES, HIDDEN = 4096, 1024, 4096  # a step of some milliseconds on a data-centre GPU
CPU_SHRINK = 16


class TorchNetwork:
    """A two-layer classifier, trained by gradient descent on points around random centres.

    Raises:
        NotSupported: torch is not installed.
    """

    def __init__(self, seed: int = 0, rate: float = 0.05) -> None:
        try:
            import torch
        except ImportError as error:
            raise NotSupported("--training torch needs torch: pip install torch") from error
        torch.set_num_threads(1)  # what other threads use is then the method's own
        on_gpu = torch.cuda.is_available()
        shrink = 1 if on_gpu else CPU_SHRINK
        batch, features, hidden = BATCH // shrink, FEATURES // shrink, HIDDEN // shrink
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self.name = f"torch on {torch.cuda.get_device_name() if on_gpu else 'the CPU'}"
        self._dice = torch.Generator(self._device).manual_seed(seed)
        self._torch, self._batch = torch, batch
        self._centres = torch.randn(CLASSES, features, generator=self._dice, device=self._device)
        self._net = torch.nn.Sequential(
            torch.nn.Linear(features, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, CLASSES)
        ).to(self._device)
        self._descent = torch.optim.SGD(self._net.parameters(), lr=rate)

    def step(self) -> float:
        """Do one gradient step on a fresh batch, wait for the device, and return the loss."""
        labels = self._torch.randint(0, CLASSES, (self._batch,), generator=self._dice, device=self._device)
        noise = self._torch.randn(self._batch, self._centres.shape[1], generator=self._dice, device=self._device)
        loss: Any = self._torch.nn.functional.cross_entropy(self._net(self._centres[labels] + 2.0 * noise), labels)
        self._descent.zero_grad()
        loss.backward()
        self._descent.step()
        return float(loss.item())
