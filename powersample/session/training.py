# SPDX-License-Identifier: Apache-2.0
"""The account of a training: what each epoch took, told while it goes on; the same for every framework.

It measures by itself, or, where somebody else does, it only marks: under `powersample record`, inside a `measure()` of
this program, and in processes that are not their node's first (a node needs one sampler: its devices cannot be
divided between ranks, and sums are over devices, never over ranks).

Windows: "epoch 3" from its begin to its end, "validation 3" and "checkpoint 3" inside or after it. An epoch's energy is
that of its window without those. It is known once the sensors have told of the window's end: `end_epoch` waits for
that, up to 0.3 s, outside of any epoch.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from powersample import errors, marks
from powersample.marks.job import job, local_rank
from powersample.session.account import Cumulative, Keys, chosen, log_keys, unmatched

if TYPE_CHECKING:
    from types import TracebackType

    from powersample.analysis import Training
    from powersample.model import Window
    from powersample.session.run import Run

FIRST_RANK_S = 10.0  # how long the others wait for their node's first process to record
ASIDE = ("validation", "checkpoint")
STUB_S = 1.0  # a part of an epoch that is shorter may have had no update of a sensor yet, and is then no lost epoch


class Account:
    """What a training takes, epoch by epoch.

    Everything may be called in any order and more often than needed: an end without a begin does nothing. Once the
    training runs, whatever goes wrong here is a warning and keys that are missing; it never ends the training.

    Every start is a new account, with a sum and a history of its own, unless it goes on with one: with that of a
    checkpoint, or with this object's own, where the first epoch's number follows the last one's.

    Args:
        steps: Mark every optimiser step as a window "step". Steps are counted in any case.
        keys: What `end_epoch` returns of an epoch's keys: "short", "all", patterns such as "energy/gpu*_joules", or a
            function that tells of a key whether it is wanted; see `account.chosen`.
        options: Of `powersample.measure`. With an `output`, a second training writes beside it: "run-2.parquet".

    Attributes:
        run: The recording, for whoever wants more of it; None before the first training and where this process only
            marks. The last one stays when the training has ended.
        history: All keys of every epoch so far, with "epoch".
    """

    def __init__(self, *, steps: bool = False, keys: Keys = "short", **options: Any) -> None:
        self.run: Run | None = None
        self.history: list[dict[str, float]] = []
        self._options, self._mark_steps, self._keys = options, steps, keys
        self._cumulative = Cumulative(simulated=options.get("simulate") is not None)
        self._started = 0
        self._running = False
        self._fresh, self._resumed, self._last = True, False, -1  # no epoch yet; by a checkpoint; the last one's number
        self._number, self._in_epoch = "", False
        self._open: dict[str, int] = {}  # what is open, in the order of its begin: verb to mark
        self._steps = 0
        self._said = False
        self._elsewhere = ""  # where the energies of what is only marked here will be
        self._lock = threading.RLock()

    def __str__(self) -> str:
        """Return the report of what was measured; where this process only marks, who measures, and where."""
        if self.run is None:
            return f"powersample: {self._elsewhere or 'no training was measured'}"
        try:
            return str(self.run.report())
        except (errors.PowerSampleError, OSError) as error:
            return f"{self!r}; no report: {error}"

    def __repr__(self) -> str:
        """Return what all epochs took: the account's sum, in a line."""
        return f"<Account of {len(self.history)} epochs: {self._cumulative}>"

    # ---- life --------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a training is being measured or marked."""
        return self._running

    @property
    def in_epoch(self) -> bool:
        """Whether an epoch is open."""
        return self._in_epoch

    def start(self, rank: int | None = None) -> None:
        """Begin to measure, or to mark; what ran before is stopped first.

        Args:
            rank: This process's number on its node, where the framework knows it; None asks the environment.

        Raises:
            NothingMeasurable: No device; before any training, so that nothing is lost by it.
            PowerSampleError: As `Run.start`.
        """
        self.stop()
        with self._lock:
            mine = not (local_rank() if rank is None else rank)
            self.run, self._elsewhere = None, ""
            recorder = os.environ.get(marks.ENVIRONMENT)
            if mine and not recorder:
                from powersample.session.run import measure

                self.run = measure(**self._options | self._output()).start()
            elif recorder:
                self._elsewhere = _elsewhere(Path(recorder))
                if mine:
                    _warn(f"{self._elsewhere}. No energy comes into the log")
            else:
                self._elsewhere = "this process only marks: the node's first process measures, and has the energies"
            if not mine and job() is not None and not marks.wait_for_recording(FIRST_RANK_S):
                _warn(f"no process of this job records after {FIRST_RANK_S:g} s: what this one marks is lost")
            self._started += 1
            self._running, self._number, self._said, self._fresh = True, "", False, True
            atexit.register(self.stop)

    def stop(self) -> None:
        """End what is open and the recording; harmless when repeated, and on any path."""
        with self._lock:
            if not self._running:
                return
            self._running = self._in_epoch = False
            atexit.unregister(self.stop)
            for verb in reversed(list(self._open)):
                self._end(verb)
            if self.run is not None:
                try:
                    self.run.stop()
                except (errors.PowerSampleError, OSError) as error:
                    notes = "; ".join(getattr(error, "__notes__", ()))
                    _warn(f"the recording could not be finished: {error} {notes}".rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Let a copy go to another process before the start: the recording stays here."""
        return self.__dict__ | {"run": None, "_running": False, "_open": {}, "_in_epoch": False, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.RLock()}

    def _output(self) -> dict[str, Any]:
        output = self._options.get("output")
        if output is None or self._started == 0:
            return {}
        root, suffix = os.path.splitext(os.fspath(output))
        return {"output": f"{root}-{self._started + 1}{suffix}"}

    # ---- what happens in a training ----------------------------------------------------------------------------

    def begin_epoch(self, number: int) -> None:
        """Begin an epoch; one that is open still ends, and is not told."""
        with self._lock:
            if not self._running:
                return
            self._end_epoch_mark()
            if self._fresh and not self._resumed and number <= self._last:
                self._cumulative, self.history = Cumulative(simulated=self._cumulative.simulated), []
            self._fresh, self._resumed, self._last = False, False, number
            self._number, self._in_epoch, self._steps = str(number), True, 0
            self._begin("epoch")

    def end_epoch(self, steps: int | None = None) -> dict[str, float]:
        """End the epoch and return those of its keys that go to the log; empty where this process only marks.

        Args:
            steps: Optimiser steps in it, where the framework knows better than `end_step` counted.
        """
        with self._lock:
            if not self._in_epoch:
                return {}
            self._end_epoch_mark()
            return self._told(self._steps if steps is None else steps)

    def begin_step(self) -> None:
        """Begin an optimiser step."""
        with self._lock:
            if self._mark_steps and self._running:
                self._begin("step")

    def end_step(self) -> None:
        """End an optimiser step, and count it."""
        with self._lock:
            self._steps += 1
            if self._mark_steps:
                self._end("step")

    def begin_aside(self, what: str = "validation") -> None:
        """Begin what is no part of the epoch: "validation" or "checkpoint"; nothing when it has begun already."""
        with self._lock:
            if self._running and what not in self._open:
                self._begin(what)

    def end_aside(self, what: str = "validation") -> None:
        """End it; nothing without a begin."""
        with self._lock:
            self._end(what)

    def _end_epoch_mark(self) -> None:
        for verb in ("step", "epoch"):
            self._end(verb)
        self._in_epoch = False

    def _begin(self, verb: str) -> None:
        self._end(verb)
        number = "" if verb == "step" or not self._number else f" {self._number}"
        sync = "event" if verb == "step" else "auto"  # the device is never waited for within an epoch
        try:
            if self.run is not None:
                self._open[verb] = self.run.begin_window(verb + number, sync=sync)
            else:
                self._open[verb] = marks.begin(verb + number, sync)
        except (errors.PowerSampleError, OSError) as error:
            _warn(f"{verb}{number} is not marked: {error}")

    def _end(self, verb: str) -> None:
        mark = self._open.pop(verb, None)
        if mark is None:
            return
        try:
            if self.run is not None:
                self.run.end_window(mark)
            else:
                marks.end(mark)
        except (errors.PowerSampleError, OSError) as error:
            _warn(f"the end of {verb} is not marked: {error}")

    # ---- what it came to ---------------------------------------------------------------------------------------

    def _told(self, steps: int) -> dict[str, float]:
        found = self._training()
        if found is None:
            return {}
        self._cumulative = self._cumulative.plus(found)
        if found.reasons and not self._said:
            self._said = True
            _warn(f"keys are missing in the log of epoch {self._number}: {'; '.join(found.reasons)}")
        keys = log_keys(found, steps) | self._cumulative.log_keys()
        self.history.append({"epoch": float(self._number)} | keys)
        return self._chosen(keys)

    def _chosen(self, told: dict[str, float]) -> dict[str, float]:
        if len(self.history) == 1:
            for one in unmatched(told, self._keys):
                _warn(f"no key of the log is like {one!r}. {errors.did_you_mean(one, told)}".rstrip(". ") + ".")
        try:
            return chosen(told, self._keys)
        except Exception as error:  # somebody's own function
            _warn(f"`keys` failed, and all are logged: {error!r}")
            return chosen(told, "all")

    def _training(self) -> Training | None:
        """Return what the last epoch took until now; None, with a warning, where that cannot be told."""
        if self.run is None:
            return None
        from powersample.analysis import training

        try:
            epoch, aside = self._windows(self._number)
            trace, _ = self.run.settled(epoch)
            return training(trace, epoch, aside)
        except (errors.PowerSampleError, OSError, MemoryError) as error:
            _warn(f"the energy of epoch {self._number} cannot be told: {error or 'out of memory'}")
            return None

    def _windows(self, number: str) -> tuple[Window, list[Window]]:
        """Return the last epoch of that number, up to what is being done aside now, and what was done aside before."""
        from dataclasses import replace

        assert self.run is not None
        words = ["marks", "pid", str(os.getpid())]  # other ranks mark, too
        mine = [one for one in self.run.windows if one.source.split()[:3] == words]
        epoch = next((one for one in reversed(mine) if one.name == f"epoch {number}"), None)
        if epoch is None:
            raise errors.StateError(f"epoch {number} is in no mark")
        aside = [one for one in mine if one.name.partition(" ")[0] in ASIDE and one.end_ns > epoch.start_ns]
        if "epoch" in self._open and aside:
            epoch = replace(epoch, end_ns=aside[-1].start_ns, flags=())
        return epoch, [one for one in aside if one.start_ns < epoch.end_ns]

    # ---- checkpoints -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the account so far as plain values, for a checkpoint; an epoch that is open counts up to now.

        For that the training waits as `end_epoch` does, in a window "checkpoint" that is no part of the epoch. Of an
        epoch that has begun within the last second, what cannot be told yet is left out.
        """
        with self._lock:
            if not self._in_epoch or self.run is None:
                return self._cumulative.as_json()
            asked_alone = "checkpoint" not in self._open  # else whoever opened it goes on to write the checkpoint
            self.begin_aside("checkpoint")
            try:
                found = self._training()
            finally:
                if asked_alone:
                    self.end_aside("checkpoint")
            early = found is not None and found.total is None and found.duration_s < STUB_S
            return (self._cumulative if found is None or early else self._cumulative.plus(found)).as_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the account of a checkpoint.

        Raises:
            InvalidArgument: It is of a simulated node and this is none, or the other way round.
            BadFormat: It is no such state.
        """
        with self._lock:
            self._cumulative = Cumulative.from_json(state, simulated=self._cumulative.simulated)
            self._resumed = self._fresh or not self._running


def _elsewhere(path: Path) -> str:
    """Return who measures what is only marked here, and where that is told.

    Args:
        path: of the marks: the recording's spool holds them until it is done.
    """
    spool = path.parent
    kept = spool.suffix == ".spool" and not spool.parent.name.startswith("powersample-")  # else it is in no file
    told = f"`powersample report {spool.stem}`, once it has ended" if kept else "its report"
    return f"this process only marks, and the recording around it measures; the energies are in {told}"


def _warn(what: str) -> None:
    warnings.warn(f"powersample: {what}", RuntimeWarning, stacklevel=4)
