# SPDX-License-Identifier: Apache-2.0
"""What works on a rung: this machine's CPUs and GPUs, or the devices of a simulated node. All else is the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from powersample import loads
from powersample.errors import DeviceError
from powersample.experiments.calibrate.plan import CPU_KERNELS, GPU, IDLE, LONGEST_S, Rung

if TYPE_CHECKING:
    from powersample.loads import EdgeLog
    from powersample.sim import Node

GPU_PERIOD_S = 0.023  # of slices below full level: quick for a supply, in step with no sensor's 20, 25 or 100 ms
BOARD = "board"
NODE_LEAD_NS = 50_000_000  # all devices of a node change at one instant

# What share of their range a simulated node's parts draw under a kernel at its full level: assumed. A sieve and
# multiplications in registers leave memory alone.
NODE_SHARES: Mapping[str, Mapping[str, float]] = {
    "primes": {"package": 1.0},
    "fma": {"package": 1.0},
    "stream": {"package": 0.7, "dram": 1.0},
    "mix": {"package": 1.0, "dram": 1.0},
    GPU: {"gpu": 1.0, "package": 0.15},
}


class Ground(Protocol):
    """Makes the loads."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """Why a kernel cannot run here, by kernel."""

    def begin(self, rung: Rung) -> None:
        """Begin a rung's load, once the one before has ended; returns at once."""

    def check(self) -> None:
        """Raise why the load does not run, `PowerSampleError`, if it does not."""

    def end(self) -> list[str]:
        """End what runs, at once; return what has to be told of it. Harmless when nothing does."""


class MachineGround:
    """This machine: native loads on all CPUs that this process may use, matrix products on all GPUs.

    Args:
        max_temperature_c: Of the CPUs, at which their load ends, and with it the calibration; None for no such rule.
    """

    def __init__(self, max_temperature_c: float | None = None) -> None:
        from powersample.loads import gpu

        why = gpu.why_not()
        self.lacks: Mapping[str, str] = {GPU: why} if why else {}
        self._max_c = max_temperature_c
        self._asked = threading.Event()
        self._threads: list[threading.Thread] = []
        self._logs: list[EdgeLog] = []
        self._failure: BaseException | None = None

    def begin(self, rung: Rung) -> None:
        """See `Ground`."""
        self._asked.clear()
        self._failure = None  # of a load that was measured to its end
        for kernel, level in rung.parts.items():
            name = f"powersample-{kernel}"
            self._threads.append(threading.Thread(target=self._run, args=(kernel, level), name=name, daemon=True))
            self._threads[-1].start()

    def _run(self, kernel: str, level: float) -> None:
        try:
            log = _work(kernel, level, self._asked.is_set, self._max_c)
            self._logs.append(log)
            if log.ended:
                self._failure = DeviceError(
                    f"the {kernel} load was ended: {log.ended}",
                    "Points are kept: let it cool, and the same command goes on from here; --rungs leaves loads out.",
                )
            elif not self._asked.is_set():  # else idle would pass for it
                self._failure = DeviceError(
                    f"the {kernel} load ended by itself before its point was measured",
                    "The same command goes on from here; give a point less time: --settle, --dwell.",
                )
        except BaseException as error:  # told where the load is asked after
            self._failure = error

    def check(self) -> None:
        """See `Ground`."""
        failure, self._failure = self._failure, None
        if failure is not None:
            self.end()
            raise failure

    def end(self) -> list[str]:
        """See `Ground`."""
        self._asked.set()
        for thread in self._threads:
            thread.join()
        logs, self._threads, self._logs = self._logs, [], []
        return [text for log in logs for text in log.trouble]


def _work(kernel: str, level: float, stop: Callable[[], bool], max_c: float | None) -> EdgeLog:
    if kernel != GPU:
        return loads.run(loads.steady(LONGEST_S), kernel=kernel, level=level, stop=stop, max_temperature_c=max_c)
    from powersample.loads import gpu

    return gpu.run(loads.steady(LONGEST_S), level=level, period_s=GPU_PERIOD_S, stop=stop)


class NodeGround:
    """A simulated node, whose devices draw exactly what a rung says: nothing runs on this machine."""

    def __init__(self, node: Node) -> None:
        self._node, self._busy = node, False
        gpu = tuple(round(float(node.profile[f"board.{name}_w"]) * 1e3) for name in ("idle", "max"))
        self._ranges_mw = {f"gpu{i}": (gpu[0], gpu[1], "gpu") for i in range(len(node.gpu_uuids))} | {
            part.name: (part.idle_mw, part.max_mw, part.domain)
            for part in node.parts
            if part.domain in ("package", "dram", BOARD)
        }

    @property
    def lacks(self) -> Mapping[str, str]:
        """See `Ground`."""
        return {} if self._node.parts else dict.fromkeys(CPU_KERNELS, "this simulated node has no CPUs")

    def begin(self, rung: Rung) -> None:
        """See `Ground`."""
        start_ns = time.monotonic_ns() + NODE_LEAD_NS
        for name, watts in self.powers_w(rung).items():
            self._node.load_script(name, [(0.0, watts)], start_ns=start_ns)
        self._busy = bool(rung.parts)

    def check(self) -> None:
        """See `Ground`: what is committed runs."""

    def end(self) -> list[str]:
        """See `Ground`."""
        if self._busy:
            self.begin(Rung(IDLE, {}))
        return []

    def powers_w(self, rung: Rung) -> dict[str, float]:
        """Return what every part draws on a rung; the board follows all others together."""
        shares = {
            name: max((level * NODE_SHARES[kernel].get(domain, 0.0) for kernel, level in rung.parts.items()), default=0)
            for name, (_, _, domain) in self._ranges_mw.items()
            if domain != BOARD
        }
        spans = {name: high - low for name, (low, high, _) in self._ranges_mw.items()}
        together = sum(share * spans[name] for name, share in shares.items()) / sum(spans[name] for name in shares)
        return {
            name: (low + shares.get(name, together) * (high - low)) / 1e3
            for name, (low, high, _) in self._ranges_mw.items()
        }
