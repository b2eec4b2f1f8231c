# SPDX-License-Identifier: Apache-2.0
"""A small training run of epochs of chosen length: something real to measure that needs neither a GPU nor a download.

An epoch computes for a share of its time and waits for data in the rest, in turns of 0.4 s. On a simulated node its
plan is also the GPU's load: full power while it computes, idle while it waits. So every method that measures the
same epochs meets the same power, whatever CPU time it takes itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from powersample.errors import InvalidArgument
from powersample.model import Window

if TYPE_CHECKING:
    from powersample.sim import Node

# So small that BLAS computes in the calling thread: what other threads use is then the method's own.
BATCH, FEATURES, HIDDEN, CLASSES = 32, 64, 96, 10
# Share of each epoch spent computing rather than waiting for data. The candidates of an architecture search differ so,
# and one short epoch each is what such a search can afford.
COMPUTE_SHARE = (0.95, 0.3, 0.7, 0.2, 0.85, 0.5, 1.0, 0.4, 0.8, 0.25, 0.6, 0.9)
LOAD_EVERY_S = 0.4
PREPARED = 10_000  # turns of a loop in Python
LEAST_S, MOST_S = 0.2, 3600.0  # of an epoch: below, not one update of a usual sensor is sure to fall into it
MOST_EPOCHS = 10_000


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch's plan: its length in seconds, and the share of it that computes."""

    seconds: float
    share: float

    def cycles(self) -> list[tuple[float, float, float]]:
        """Return (begin, end of computing, end) of every turn, s from the epoch's begin."""
        begins = np.arange(0.0, self.seconds - 1e-9, LOAD_EVERY_S).tolist()
        ends = [*begins[1:], self.seconds]
        return [(a, a + self.share * (b - a), b) for a, b in zip(begins, ends, strict=True)]

    def load(self, idle_w: float, full_w: float) -> list[tuple[float, float]]:
        """Return the GPU's load as (s from the epoch's begin, W from then on)."""
        steps: dict[float, float] = {}
        for begin_s, computed_s, end_s in self.cycles():
            steps |= {begin_s: full_w, computed_s: idle_w} if computed_s < end_s else {begin_s: full_w}
        return [*steps.items(), (self.seconds, idle_w)]


def plan(lengths_s: Sequence[float], count: int) -> tuple[Epoch, ...]:
    """Return `count` epochs of these lengths, each length for about the same time and at least once.

    Raises:
        InvalidArgument: A length or the count is outside its range.
    """
    if not lengths_s:
        raise InvalidArgument("no epoch length is given; name some in seconds, such as 0.3,1,3")
    for seconds in lengths_s:
        if not LEAST_S <= seconds <= MOST_S:
            raise InvalidArgument(f"an epoch of {seconds:g} s: it must be from {LEAST_S:g} to {MOST_S:g} s")
    if not len(lengths_s) <= count <= MOST_EPOCHS:
        raise InvalidArgument(f"{count} epochs of {len(lengths_s)} lengths: it takes {len(lengths_s)} to {MOST_EPOCHS}")
    counts = [1] * len(lengths_s)
    for _ in range(count - len(lengths_s)):
        had_s = [n * seconds for n, seconds in zip(counts, lengths_s, strict=True)]
        least = min(range(len(counts)), key=lambda i: (had_s[i] + lengths_s[i], i))
        counts[least] += 1
    lengths = [seconds for seconds, n in zip(lengths_s, counts, strict=True) for _ in range(n)]
    return tuple(Epoch(seconds, COMPUTE_SHARE[i % len(COMPUTE_SHARE)]) for i, seconds in enumerate(lengths))


class Training(Protocol):
    """Something that trains step by step."""

    name: str

    def step(self) -> float:
        """Do one gradient step and return the loss."""


class Network:
    """A two-layer classifier in numpy, trained by gradient descent on points around random centres."""

    name = "numpy"

    def __init__(self, seed: int = 0, rate: float = 0.05) -> None:
        rng = np.random.default_rng(seed)
        self._rng, self._rate, self._centres = rng, rate, rng.normal(size=(CLASSES, FEATURES))
        self._w1 = rng.normal(size=(FEATURES, HIDDEN)) / np.sqrt(FEATURES)
        self._w2 = rng.normal(size=(HIDDEN, CLASSES)) / np.sqrt(HIDDEN)

    def step(self) -> float:
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
        self._w2 -= self._rate * hidden.T @ p
        self._w1 -= self._rate * x.T @ grad_hidden
        return loss


class Prepared:
    """A training that prepares each batch in pure Python, as many data loaders do."""

    def __init__(self, network: Training) -> None:
        self.name, self._network = network.name, network

    def step(self) -> float:
        """Prepare a batch, and do one gradient step on another."""
        prepare()
        return self._network.step()


def training(name: str, *, python_load: bool = False, seed: int = 0) -> Training:
    """Return what trains.

    Args:
        name: "numpy", or "torch" on a GPU if it finds one.
        python_load: Whether it prepares its data in pure Python.
        seed: Of data and weights.

    Raises:
        InvalidArgument: It is called otherwise.
        NotSupported: torch is not installed.
    """
    if name not in ("numpy", "torch"):
        raise InvalidArgument(f"training {name!r} is unknown; use numpy or torch")
    network: Training = Network(seed)
    if name == "torch":
        from powersample.experiments.torch_network import TorchNetwork

        network = TorchNetwork(seed)
    return Prepared(network) if python_load else network


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training run was: its own span, those of its epochs as planned, and the mean loss of each epoch."""

    run: Window
    epochs: tuple[Window, ...]
    planned: tuple[Epoch, ...]
    losses: tuple[float, ...]

    @property
    def lengths_s(self) -> tuple[float, ...]:
        """How long each epoch was meant to be, s."""
        return tuple(epoch.seconds for epoch in self.planned)


def train(
    epochs: Sequence[Epoch],
    network: Training,
    *,
    node: Node | None = None,
    python_load: bool = False,
    window: Callable[[str], AbstractContextManager[object]] = nullcontext,
    say: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train through `epochs`, each inside `window("epoch N")`.

    Args:
        epochs: Their plans, in order.
        network: What trains.
        node: The simulated node whose GPU 0 draws each epoch's load, or None.
        python_load: Data are prepared in pure Python where they are waited for, so that the interpreter is never idle.
        window: Marks a window somewhere else, too.
        say: Told each epoch's number as it begins.
    """
    idle_w, full_w = (0.0, 0.0) if node is None else (node.profile["board.idle_w"], node.profile["board.max_w"])
    windows: list[Window] = []
    losses: list[float] = []
    begin_ns = time.monotonic_ns()
    for number, epoch in enumerate(epochs):
        say(number)
        name = f"epoch {number}"
        with window(name):
            start_ns = time.monotonic_ns()
            if node is not None:
                node.load_script(0, epoch.load(idle_w, full_w))  # begins 20 ms later, as a queue of kernels would
            losses.append(_epoch(epoch, network, start_ns / 1e9, python_load=python_load))
            windows.append(Window(name, start_ns, time.monotonic_ns()))
    return Trained(Window("run", begin_ns, time.monotonic_ns()), tuple(windows), tuple(epochs), tuple(losses))


def _epoch(epoch: Epoch, network: Training, begin_s: float, *, python_load: bool) -> float:
    losses: list[float] = []
    for _, computed_s, end_s in epoch.cycles():
        while time.monotonic() < begin_s + computed_s:
            losses.append(network.step())
        if python_load:
            prepare_until(begin_s + end_s)
        else:
            time.sleep(max(0.0, begin_s + end_s - time.monotonic()))
    return float(np.mean(losses)) if losses else float("nan")


def prepare_until(end_s: float) -> None:
    """Prepare data in pure Python until `end_s` of CLOCK_MONOTONIC, never giving up the interpreter by itself."""
    total = 0
    while time.monotonic() < end_s:
        total += prepare()


def prepare(items: int = PREPARED) -> int:
    """Do a piece of the work of preparing data in pure Python, of about a millisecond."""
    total = 0
    for i in range(items):
        total += i * i % 7
    return total
