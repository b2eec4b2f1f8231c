# SPDX-License-Identifier: Apache-2.0
"""Bursts of matrix products on GPUs, with the same log: where CPUs are a small part of what a node draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from powersample.errors import InvalidArgument, NotSupported
from powersample.loads.edge_log import EdgeLog
from powersample.loads.pattern import Pattern

SIZE = 2048  # of the matrices: a product is well under a millisecond, and fills the GPU
SPIN_S = 0.0003
STALL_NS = 5_000_000  # a round that takes longer was held up
WARM_ROUNDS = 5


def run(
    pattern: Pattern,
    *,
    gpus: Sequence[int] | None = None,
    start_ns: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> EdgeLog:
    """Multiply matrices on GPUs by a pattern, and return when they really did: launched first, all done.

    Args:
        pattern: when.
        gpus: CUDA's indices; None is all that torch sees.
        start_ns: CLOCK_MONOTONIC of the pattern's beginning; None is once the GPUs are warm.
        stop: asked before every burst and in it.

    Raises:
        NotSupported: torch is not installed, or sees no GPU.
        InvalidArgument: there is no such GPU.
    """
    torch = _torch()
    count = torch.cuda.device_count()
    chosen = list(range(count)) if gpus is None else [int(one) for one in gpus]
    if not chosen or any(not 0 <= one < count for one in chosen):
        raise InvalidArgument(f"GPUs {chosen}: torch sees {count}, from 0 on")
    work = _Work(torch, chosen)
    work.round()  # kernels are chosen and loaded by the first
    for _ in range(WARM_ROUNDS):
        work.round()
    begin_ns = time.monotonic_ns() if start_ns is None else start_ns
    edge_ns = begin_ns + np.rint(pattern.edge_s * 1e9).astype(np.int64)
    rises, falls, lates, missed, stalled = [], [], [], 0, 0
    for planned, end in edge_ns.reshape(-1, 2).tolist():
        now = _wait(planned, stop)
        if now is None:
            break
        if now >= end:
            missed += 1
            continue
        rises.append(now)
        lates.append(now - planned)
        while now < end and not stop():
            before = now
            work.round()
            now = time.monotonic_ns()
            stalled += now - before if now - before > STALL_NS else 0
        falls.append(now)
    each, all_gpus = len(rises), len(chosen)
    return EdgeLog(
        name=f"{pattern.name} on {all_gpus} GPU{'s' if all_gpus > 1 else ''}",
        rise_ns=np.tile(np.array(rises, np.int64), all_gpus),
        fall_ns=np.tile(np.array(falls, np.int64), all_gpus),
        thread=np.repeat(np.array(chosen, np.int64), each),
        late_ns=np.tile(np.array(lates, np.int64), all_gpus),
        missed=missed * all_gpus,
        stalled_ns=stalled,
        wrong=work.wrong(),
    )


def why_not() -> str:
    """Return why no GPU can be made to work here; "" where one can."""
    try:
        _torch()
    except NotSupported as error:
        return str(error)
    return ""


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise NotSupported(f"bursts on GPUs need torch ({error}); install it, or use CPUs") from error
    if not torch.cuda.is_available():
        built = "is built without CUDA" if torch.version.cuda is None else "sees no GPU"
        raise NotSupported(f"this torch ({torch.__version__}) {built}: bursts on CPUs remain")
    return torch


class _Work:
    """A product on every GPU, in half precision where tensor units do it."""

    def __init__(self, torch: Any, gpus: Sequence[int]) -> None:
        self._torch, self._gpus = torch, gpus
        make = torch.Generator().manual_seed(1)
        plain = torch.randn(SIZE, SIZE, generator=make)
        self._matrix = [plain.to(device=f"cuda:{gpu}", dtype=torch.float16) for gpu in gpus]
        self._product = [torch.empty_like(one) for one in self._matrix]
        self._right: list[Any] = []

    def round(self) -> None:
        """Multiply once everywhere, and wait for all."""
        for matrix, product in zip(self._matrix, self._product, strict=True):
            self._torch.mm(matrix, matrix, out=product)
        for gpu in self._gpus:
            self._torch.cuda.synchronize(gpu)
        if not self._right:
            self._right = [one.clone() for one in self._product]

    def wrong(self) -> int:
        """Return on how many GPUs the last product is not the first one's: the same kernel gives the same bits."""
        return sum(
            not bool(self._torch.equal(one, right)) for one, right in zip(self._product, self._right, strict=True)
        )


def _wait(planned_ns: int, stop: Callable[[], bool]) -> int | None:
    """Return the first reading of the clock at or after an instant; None when asked to stop before."""
    while (left_s := (planned_ns - time.monotonic_ns()) * 1e-9) > SPIN_S:
        if stop():
            return None
        time.sleep(min(left_s - SPIN_S, 0.1))
    while (now := time.monotonic_ns()) < planned_ns:
        pass
    return now
