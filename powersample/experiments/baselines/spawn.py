# SPDX-License-Identifier: Apache-2.0
"""One nvidia-smi process per reading: a thread that starts it, waits for it and parses what it printed.

Two methods work so. `nvidia-smi-spawn` asks for power.draw alone. `ea-has-tracer` is the collection loop of
EA-HAS-Bench (its tracer.py, which the paper's experiment 1 mimics): sleep 0.1 s, run `nvidia-smi -q -x`, take the
board's power out of the whole XML, append; the energy is the arithmetic mean times the elapsed time. Its period is
therefore 0.1 s plus the cost of a process, and it stamps nothing; here every reading is stamped as its process ends.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from powersample import errors
from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.base import ByMean, ByTrapezoid, Samples
from powersample.experiments.baselines.process import DEADLINE_S, run

SMI_FIELD = "power.draw, that is PowerUsage"
NUMBER = re.compile(r"\d+\.?\d*")  # the tracer's own: the first number in the element's text
STUCK = 3  # readings in a row that had to be killed, after which a method gives up


class _Spawner:
    """The thread of both methods."""

    name: str
    paced = False

    def __init__(
        self,
        program: str | os.PathLike[str] | None,
        environment: Mapping[str, str] | None,
        gpu: int,
        period_s: float | None,
        deadline_s: float,
        meaning: str,
    ) -> None:
        self.asked_hz = 1.0 / period_s if period_s else float("inf")
        self.reads = f"{SMI_FIELD} ({meaning})" if meaning else SMI_FIELD
        self._program, self._gpu, self._period_s, self._deadline_s = program, gpu, period_s, deadline_s
        self._environment = {**(os.environ if environment is None else environment), "LC_ALL": "C"}
        self._t_ns: list[int] = []
        self._watts: list[float] = []
        self._wrong: Counter[str] = Counter()
        self._cpu_s = 0.0
        self._reason: str | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def _query(self) -> list[str]:
        raise NotImplementedError

    def _parse(self, out: str) -> float:
        """Return the power in W; raise ValueError with what stood there instead."""
        raise NotImplementedError

    def start(self) -> None:
        """Try the program once, and start the thread.

        Raises:
            NotSupported: There is no nvidia-smi, it cannot be started, it fails or hangs; says what it printed.
        """
        program = find_nvidia_smi(self._program)
        done = run([program, *self._query()], self._environment, self._deadline_s)
        trouble = done.trouble(str(program), self._deadline_s)
        if trouble:
            raise errors.NotSupported(trouble)
        self.begin(program)

    def begin(self, program: Path) -> None:
        """Start the thread at once, with a program that was tried before: the tracer begins one with every epoch."""
        self._thread = threading.Thread(target=self._loop, args=(program,), daemon=True)
        self._thread.start()

    def _loop(self, program: Path) -> None:
        begin_cpu_s, due_s, stuck = time.thread_time(), time.monotonic(), 0
        while not self._end.is_set():
            if not self.paced and self._period_s:
                time.sleep(self._period_s)
            try:
                stuck = stuck + 1 if self._read(program) else 0
            except errors.NotSupported as error:
                self._reason = str(error)
                break
            if stuck == STUCK:
                self._reason = f"{program} hung {STUCK} times in a row, {self._deadline_s:g} s each: gave up"
                break
            if self.paced and self._period_s:
                due_s = max(due_s + self._period_s, time.monotonic())
                self._end.wait(max(0.0, due_s - time.monotonic()))
        self._cpu_s += time.thread_time() - begin_cpu_s

    def _read(self, program: Path) -> bool:
        """Take one reading; return whether the program had to be killed."""
        done = run([program, *self._query()], self._environment, self._deadline_s)
        t_ns = time.monotonic_ns()
        self._cpu_s += done.cpu_s
        trouble = done.trouble(program.name, self._deadline_s)
        if trouble:
            self._wrong[trouble] += 1
            return done.late
        try:
            watts = self._parse(done.out.decode("utf-8", "replace"))
        except ValueError as error:
            self._wrong[str(error)] += 1
        else:
            self._t_ns.append(t_ns)
            self._watts.append(watts)
        return False

    def stop(self) -> Samples:
        """End after the reading in progress, and return what there is."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        reason = self._reason
        if reason is None and self._thread is not None and not self._t_ns and self._wrong:
            reason = f"no reading succeeded: {self._wrong.most_common(1)[0][0]}"
        return Samples(
            np.array(self._t_ns, np.int64),
            np.array(self._watts, np.float64),
            self._cpu_s,
            sum(self._wrong.values()),
            reason,
            MappingProxyType(dict(self._wrong)),
        )


class NvidiaSmiSpawn(_Spawner, ByTrapezoid):
    """`nvidia-smi --query-gpu=power.draw` once per reading.

    Args:
        program: Path of nvidia-smi; None searches, see `find_nvidia_smi`.
        environment: Its whole environment; on a simulated node that names the stand-in's folder.
        gpu: NVML index.
        period_s: A reading is begun so often, on a grid that late readings move; None is back to back.
        deadline_s: A process that takes longer is killed with its group.
        meaning: What PowerUsage tells on this board and driver, for `reads`.
    """

    name = "nvidia-smi-spawn"
    paced = True

    def __init__(
        self,
        program: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        gpu: int = 0,
        period_s: float | None = 0.1,
        deadline_s: float = DEADLINE_S,
        meaning: str = "",
    ) -> None:
        super().__init__(program, environment, gpu, period_s, deadline_s, meaning)

    def _query(self) -> list[str]:
        return ["--query-gpu=power.draw", "--format=csv,noheader,nounits", "-i", str(self._gpu)]

    def _parse(self, out: str) -> float:
        return watts_of(out)


class EaHasTracer(_Spawner, ByMean):
    """The tracer of EA-HAS-Bench: sleep, `nvidia-smi -q -x`, parse the XML, append; mean x time.

    Its pattern takes the first number of the power's text; a text without one ("N/A", "[GPU is lost]") raises in the
    original and ends its thread unseen. Here it is counted and the loop goes on.

    Args:
        program: As for `NvidiaSmiSpawn`.
        environment: The same.
        gpu: The same.
        sleep_s: Slept before every reading, as the original's profiling_interval.
        deadline_s: As for `NvidiaSmiSpawn`; the original has none.
        meaning: The same.
    """

    name = "ea-has-tracer"

    def __init__(
        self,
        program: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        gpu: int = 0,
        sleep_s: float = 0.1,
        deadline_s: float = DEADLINE_S,
        meaning: str = "",
    ) -> None:
        super().__init__(program, environment, gpu, sleep_s, deadline_s, meaning)

    def _query(self) -> list[str]:
        return ["-q", "-x"]

    def _parse(self, out: str) -> float:
        return watts_of_xml(out, self._gpu)


def watts_of(cell: str) -> float:
    """Return the number in a cell of nvidia-smi's, in W.

    Raises:
        ValueError: It is none: "[N/A]", "[GPU is lost]", a decimal comma, several lines; the message is the cell.
    """
    text = cell.strip()
    try:
        return float(text)
    except ValueError:
        raise ValueError(text[:60] or "an empty line") from None


def watts_of_xml(text: str, gpu: int) -> float:
    """Return the board's power in the output of `nvidia-smi -q -x`, in W.

    The element's name changed with the driver: power_readings before 535, then gpu_power_readings, whose power_draw
    later became average_power_draw and instant_power_draw; the first of those that is there is taken.

    Raises:
        ValueError: No such GPU or element, or its text has no number in it; the message says which.
    """
    from xml.etree import ElementTree

    try:
        boards = ElementTree.fromstring(text).findall("gpu")
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {text.strip()[:60] or 'nothing'} ({error})") from None
    if gpu >= len(boards):
        raise ValueError(f"no GPU {gpu} among {len(boards)}")
    for readings in ("power_readings", "gpu_power_readings"):
        for draw in ("power_draw", "average_power_draw", "instant_power_draw"):
            found = boards[gpu].findtext(f"{readings}/{draw}")
            if found is not None:
                number = NUMBER.search(found)
                if number is None:
                    raise ValueError(found.strip()[:60] or "an empty element")
                return float(number[0])
    raise ValueError("no power in this driver's XML")
