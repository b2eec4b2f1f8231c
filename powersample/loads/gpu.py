# SPDX-License-Identifier: Apache-2.0
"""Bursts of matrix products on GPUs, with the same log: where CPUs are a small part of what a node draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from powersample.errors import InvalidArgument, NotSupported
from powersample.loads.edge_log import EdgeLog, Step
from powersample.loads.pattern import Pattern
from powersample.loads.tensors import Library, library

SIZE = 2048  # of the matrices: a product is well under a millisecond, and fills the GPU
SPIN_S = 0.0003
STALL_NS = 5_000_000  # a round that takes longer was held up
WARM_ROUNDS = 5
ROUND_S = 0.001  # products are launched together for so long: alone, a quick GPU would wait for the next
MOST_PRODUCTS = 64
PERIOD_S = 0.1


def run(
    pattern: Pattern,
    *,
    level: float = 1.0,
    period_s: float = PERIOD_S,
    gpus: Sequence[int] | None = None,
    start_ns: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> EdgeLog:
    """Multiply matrices on GPUs by a pattern, and return when they really did: launched first, all done.

    Below level 1 they work for a slice of every period, until the time in products has come to the level's share of the
    span so far.

    Args:
        pattern: when, and with `levels` how much.
        level: share of the pattern's spans that is worked, 0 to 1; a pattern's own levels are multiplied by it.
        period_s: of the slices.
        gpus: CUDA's indices; None is all that torch, or else cupy, sees.
        start_ns: CLOCK_MONOTONIC of the pattern's beginning; None is once the GPUs are warm.
        stop: asked before every burst and in it.

    Raises:
        NotSupported: neither torch nor cupy is installed and sees a GPU.
        InvalidArgument: there is no such GPU, or the level is none.
    """
    if not 0 <= level <= 1 or not period_s > 0:
        raise InvalidArgument(f"level {level} and period {period_s} s: from 0 to 1, and above 0")
    tensors = library()
    chosen = list(range(tensors.count)) if gpus is None else [int(one) for one in gpus]
    if not chosen or any(not 0 <= one < tensors.count for one in chosen):
        raise InvalidArgument(f"GPUs {chosen}: {tensors.name} sees {tensors.count}, from 0 on")
    work = _Work(tensors, chosen)
    begin_ns = time.monotonic_ns() if start_ns is None else start_ns
    edge_ns = begin_ns + np.rint(pattern.edge_s * 1e9).astype(np.int64)
    levels = level * (pattern.levels if len(pattern.levels) else np.ones(len(edge_ns) // 2))
    log = _Log()
    steps = []
    for number, (from_ns, to_ns) in enumerate(edge_ns.reshape(-1, 2).tolist()):
        if stop():
            break
        steps.append(_step(work, log, number, (from_ns, to_ns), float(levels[number]), round(period_s * 1e9), stop))
    each, count = len(log.rise_ns), len(chosen)
    return EdgeLog(
        name=f"{pattern.name} on {count} GPU{'s' if count > 1 else ''}",
        rise_ns=np.tile(np.array(log.rise_ns, np.int64), count),
        fall_ns=np.tile(np.array(log.fall_ns, np.int64), count),
        thread=np.repeat(np.array(chosen, np.int64), each),
        late_ns=np.tile(np.array(log.late_ns, np.int64), count),
        missed=sum(one.missed for one in steps),
        stalled_ns=log.stalled_ns,
        wrong=work.wrong(),
        kernel="gpu",
        reached=tuple(steps),
        step=np.tile(np.array(log.step, np.int64), count),
    )


def why_not() -> str:
    """Return why no GPU can be made to work here; "" where one can."""
    try:
        library()
    except NotSupported as error:
        return str(error)
    return ""


@dataclass(slots=True)
class _Log:
    rise_ns: list[int] = field(default_factory=list)
    fall_ns: list[int] = field(default_factory=list)
    late_ns: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    stalled_ns: int = 0


def _windows(span: tuple[int, int], level: float, period_ns: int) -> Iterator[tuple[int, int, float]]:
    """Yield begin and end of each slice's room, and how much is to have been worked by its end."""
    begin, end = span
    if level >= 1:
        yield begin, end, math.inf
    elif level > 0:
        for at in range(begin, end, period_ns):
            until = min(at + period_ns, end)
            yield at, until, level * (until - begin)


def _step(
    work: _Work,
    log: _Log,
    number: int,
    span: tuple[int, int],
    level: float,
    period_ns: int,
    stop: Callable[[], bool],
) -> Step:
    busy_ns = bursts = missed = 0
    for planned, end, enough_ns in _windows(span, level, period_ns):
        if busy_ns >= enough_ns:
            continue
        now = _wait(planned, stop)
        if now is None:
            break
        if now >= end:
            missed += 1
            continue
        log.rise_ns.append(now)
        log.late_ns.append(now - planned)
        log.step.append(number)
        while now < end and busy_ns < enough_ns and not stop():
            before = now
            work.round()
            now = time.monotonic_ns()
            busy_ns += now - before
            log.stalled_ns += now - before if now - before > STALL_NS else 0
        log.fall_ns.append(now)
        bursts += 1
    if level < 1:
        _wait(span[1], stop)
    end_ns = max(span[0], min(span[1], time.monotonic_ns()))
    gpus = work.gpus
    return Step(span[0], end_ns, level, gpus, busy_ns * gpus, bursts * gpus, missed * gpus)


class _Work:
    """Products on every GPU, in half precision where tensor units do it."""

    def __init__(self, tensors: Library, gpus: Sequence[int]) -> None:
        self._tensors, self._gpus, self._products = tensors, gpus, 1
        plain = np.random.default_rng(1).standard_normal((SIZE, SIZE), np.float32)
        self._matrix = [tensors.put(plain, gpu) for gpu in gpus]
        self._product = [tensors.like(one, gpu) for one, gpu in zip(self._matrix, gpus, strict=True)]
        self._right: list[Any] = []
        self.round()  # kernels are chosen and loaded by the first
        self._right = [tensors.copy(one, gpu) for one, gpu in zip(self._product, gpus, strict=True)]
        before = time.monotonic()
        for _ in range(WARM_ROUNDS):
            self.round()
        one_s = (time.monotonic() - before) / WARM_ROUNDS
        self._products = max(1, min(MOST_PRODUCTS, round(ROUND_S / max(one_s, 1e-6))))

    @property
    def gpus(self) -> int:
        """How many work."""
        return len(self._gpus)

    def round(self) -> None:
        """Multiply for about a millisecond everywhere, and wait for all."""
        for _ in range(self._products):
            for gpu, matrix, product in zip(self._gpus, self._matrix, self._product, strict=True):
                self._tensors.multiply(matrix, product, gpu)
        for gpu in self._gpus:
            self._tensors.wait(gpu)

    def wrong(self) -> int:
        """Return on how many GPUs the last product is not the first one's: the same kernel gives the same bits."""
        found = zip(self._product, self._right, self._gpus, strict=True)
        return sum(not self._tensors.same(one, right, gpu) for one, right, gpu in found)


def _wait(planned_ns: int, stop: Callable[[], bool]) -> int | None:
    """Return the first reading of the clock at or after an instant; None when asked to stop before."""
    while (left_s := (planned_ns - time.monotonic_ns()) * 1e-9) > SPIN_S:
        if stop():
            return None
        time.sleep(min(left_s - SPIN_S, 0.1))
    while (now := time.monotonic_ns()) < planned_ns:
        pass
    return now
