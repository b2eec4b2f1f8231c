# SPDX-License-Identifier: Apache-2.0
"""A small training run in numpy: something real to measure that needs neither a GPU nor a download."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

BATCH, FEATURES, HIDDEN, CLASSES = 128, 64, 128, 10
# Share of each epoch spent computing rather than waiting for data. The candidates of an architecture search differ so,
# and one short epoch each is what such a search can afford.
COMPUTE_SHARE = (0.95, 0.3, 0.7, 0.2, 0.85, 0.5, 1.0, 0.4, 0.8, 0.25, 0.6, 0.9)
LOAD_EVERY_S = 0.4


class Network:
    """A two-layer classifier trained by gradient descent on points around random centres."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._rng, self._centres = rng, rng.normal(size=(CLASSES, FEATURES))
        self._w1 = rng.normal(size=(FEATURES, HIDDEN)) / np.sqrt(FEATURES)
        self._w2 = rng.normal(size=(HIDDEN, CLASSES)) / np.sqrt(HIDDEN)

    def step(self, rate: float = 0.05) -> float:
        """Do one gradient step on a fresh batch and return the loss."""
        labels = self._rng.integers(0, CLASSES, BATCH)
        x = self._centres[labels] + self._rng.normal(size=(BATCH, FEATURES)) * 2.0
        hidden = np.maximum(x @ self._w1, 0.0)
        scores = hidden @ self._w2
        scores -= scores.max(axis=1, keepdims=True)
        p = np.exp(scores)
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(BATCH)
        loss = float(-np.log(p[rows, labels] + 1e-12).mean())
        p[rows, labels] -= 1.0
        p /= BATCH
        grad_hidden = (p @ self._w2.T) * (hidden > 0)
        self._w2 -= rate * hidden.T @ p
        self._w1 -= rate * x.T @ grad_hidden
        return loss


def train(
    epochs: int, epoch_s: float, window: Callable[[str], AbstractContextManager[object]], seed: int = 0
) -> list[float]:
    """Train for `epochs` epochs of about `epoch_s` seconds each, every one inside `window("epoch N")`.

    Returns:
        The mean loss of each epoch.
    """
    network, losses = Network(seed), []
    for epoch in range(epochs):
        with window(f"epoch {epoch}"):
            share = COMPUTE_SHARE[epoch % len(COMPUTE_SHARE)]
            end_s = time.monotonic() + epoch_s
            batch_losses: list[float] = []
            while (now_s := time.monotonic()) < end_s:
                cycle_s = min(LOAD_EVERY_S, end_s - now_s)
                while time.monotonic() < now_s + share * cycle_s:
                    batch_losses.append(network.step())
                time.sleep((1 - share) * cycle_s)  # waiting for the next data
            losses.append(float(np.mean(batch_losses)))
    return losses
