# SPDX-License-Identifier: Apache-2.0
"""`powersample stat -r N -- CMD`: a program run again and again in one recording, a window a run.

One recording for all: devices are opened once, runs share their clock and their sensors, and what is known of a load
from its repeats is known of each. Memory does not grow with the runs: what was recorded lies on the disk.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from powersample import errors
from powersample.marks import ENVIRONMENT, MarkWriter
from powersample.session.child import Child, resolve
from powersample.session.command import Setup, finish, watcher

if TYPE_CHECKING:
    from powersample.session.intervals import Intervals
    from powersample.store import StoredTrace

IDLE_S = 0.25  # between looks at what has been recorded, and at signals in a pause


@dataclass(frozen=True, slots=True)
class Repeats:
    """How often a program is run, and with what between.

    Attributes:
        runs: that count.
        warmup: before them, that do not.
        cooldown_s: pause before every run but the first, at least what sensors need to tell runs apart.
        ignore_failure: go on after a run that fails, and count it.
    """

    runs: int = 1
    warmup: int = 0
    cooldown_s: float = 0.0
    ignore_failure: bool = False

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise errors.InvalidArgument(f"{self.runs} runs: at least 1")
        if self.warmup < 0:
            raise errors.InvalidArgument(f"{self.warmup} warm-up runs: 0 or more")
        if not 0 <= self.cooldown_s < float("inf"):
            raise errors.InvalidArgument(f"a cool-down of {self.cooldown_s:g} s: 0 s or more")

    def names(self) -> list[str]:
        """Return the windows' names in order."""
        return [f"warm-up {i + 1}" for i in range(self.warmup)] + [f"run {i + 1}" for i in range(self.runs)]


@dataclass(frozen=True, slots=True)
class Ran:
    """One run.

    Attributes:
        window: its window's name.
        exit_code: the program's.
        user_s: CPU time of it and of its children that it waited for.
        system_s: the same, in the kernel.
        counted: whether it is in the mean: no warm-up, not cut short, and it did not fail, or that was to be ignored.
    """

    window: str
    exit_code: int
    user_s: float
    system_s: float
    counted: bool


@dataclass(frozen=True, slots=True)
class RepeatResult:
    """What became of it.

    Attributes:
        runs: In their order, warm-ups too.
        exit_code: The first that is not 0; 128 + N when signal N ended it in a pause.
        trace: The recording; None when it could not be finished, and then `trouble` says what is left of it.
        trouble: What went wrong while recording.
        asked_to_end: The signal that ended it; None when it came to its own end.
    """

    runs: tuple[Ran, ...]
    exit_code: int
    trace: StoredTrace | None
    trouble: tuple[str, ...]
    asked_to_end: int | None


def repeat_command(
    setup: Setup,
    command: Sequence[str],
    repeats: Repeats,
    *,
    stdout: int | None = None,
    intervals: Intervals | None = None,
    on_trouble: Callable[[str], None] = lambda _: None,
    on_run: Callable[[Ran], None] = lambda _: None,
) -> RepeatResult:
    """Run `command` as often as `repeats` says while the sampler executable records.

    Signals sent to this process reach the program; one that ends programs ends the repeating, too. In a pause the next
    program is held before its first instruction.

    Args:
        setup: What to record.
        command: Program and arguments.
        repeats: How often.
        stdout: A descriptor for the program's standard output; None: this process's own.
        intervals: Tells the energies of each run's intervals while it goes on.
        on_trouble: Told what of the recording fails, each once; the program goes on.
        on_run: Told of every run when it has ended.

    Raises:
        CommandNotFound: The command cannot be started; nothing was recorded.
        NothingMeasurable, OutputExists, AccessDenied: As `Setup.recording`.
    """
    resolve(command, os.environ)
    recording = setup.recording(command)
    troubles = watcher(recording, on_trouble)
    environment = {**os.environ, ENVIRONMENT: str(recording.marks.absolute())}
    with recording:
        recording.start()
        ran: list[Ran] = []
        one: Ran | None = None
        asked: int | None = None
        idle_s = IDLE_S if intervals is None else min(IDLE_S, intervals.seconds)
        with closing(intervals) if intervals is not None else nullcontext():
            if intervals is not None:
                intervals.attach(recording)

            def idle() -> None:
                troubles()
                if intervals is not None:
                    intervals.look()

            writer = MarkWriter(recording.marks)
            for name in repeats.names():
                with Child(command, environment, stdout=stdout) as child:
                    setup.apply_load(child.pid)
                    pause_s = max(recording.margin_s, repeats.cooldown_s if ran else 0.0)
                    one = _run(child, name, writer, pause_s, repeats, idle, idle_s, intervals)
                    asked = child.ending_signal
                if setup.node is not None:
                    setup.node.unfollow()
                if one is not None:
                    ran.append(one)
                    on_run(one)
                if one is None or asked is not None or (one.exit_code and not repeats.ignore_failure):
                    break
            _pause(recording.margin_s, idle, idle_s, lambda: False)
            if intervals is not None:
                intervals.look(last=True)
        failed = next((one.exit_code for one in ran if one.exit_code), 0)
        code = failed or (128 + asked if asked is not None and one is None else 0)
        result = finish(recording, code, exit_code=code)
        return RepeatResult(tuple(ran), code, result.trace, result.trouble, asked)


def _run(
    child: Child,
    name: str,
    writer: MarkWriter,
    pause_s: float,
    repeats: Repeats,
    idle: Callable[[], None],
    idle_s: float,
    intervals: Intervals | None,
) -> Ran | None:
    """Pause, let the program run, and mark it; None when it was ended before it began."""
    _pause(pause_s, idle, idle_s, lambda: child.asked_to_end)
    if child.asked_to_end:
        return None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    mark = writer.begin(name)
    if intervals is not None:
        intervals.begin(name)
    child.release()
    code = child.wait(idle, idle_s)
    writer.end(mark)
    if intervals is not None:
        intervals.end()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    failed = code != 0 and not repeats.ignore_failure
    counted = name.startswith("run") and not failed and child.ending_signal is None
    return Ran(name, code, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, counted)


def _pause(seconds: float, idle: Callable[[], None], idle_s: float, stop: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while (left_s := deadline - time.monotonic()) > 0 and not stop():
        time.sleep(min(left_s, idle_s, IDLE_S))
        idle()
