# SPDX-License-Identifier: Apache-2.0
"""`powersample record -- CMD`: a program run beside the sampler executable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from powersample import errors
from powersample.capture import Plan
from powersample.marks import ENVIRONMENT, MarkWriter
from powersample.session.child import Child, until_asked_to_end
from powersample.session.meters import Asked
from powersample.session.recording import NO_METERS, Recording

if TYPE_CHECKING:
    from powersample.session.syncing import SyncPlan
    from powersample.sim import Node
    from powersample.store import StoredTrace


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of it.

    Attributes:
        exit_code: The program's; None without a program.
        trace: The recording; None when it could not be finished, and then `trouble` says what is left of it.
        trouble: What went wrong while recording.
    """

    exit_code: int | None
    trace: StoredTrace | None
    trouble: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """What is recorded beside a program, or without one, and into which file.

    Attributes:
        plan: What to record; a simulated node's own with `node`.
        output: Parquet file to write.
        node: Simulated node, or None.
        load: The node's load, see `simulate.apply_load`; None: a program's CPU use, and nothing without a program.
        replace: Replace an existing output.
        store_command: Store the program's arguments in the trace.
        meters: The meters to record beside.
    """

    plan: Plan
    output: Path
    node: Node | None = None
    load: str | None = None
    replace: bool = False
    store_command: bool = False
    meters: Asked = NO_METERS

    def recording(self, command: Sequence[str] = ()) -> Recording:
        """Return a recording by the sampler executable.

        Raises:
            NothingMeasurable, OutputExists, AccessDenied: As `Recording`.
        """
        return Recording(
            self.plan,
            self.output,
            node=self.node,
            in_process=False,
            replace=self.replace,
            command=command,
            store_command=self.store_command,
            meters=self.meters,
        )

    def apply_load(self, pid: int = 0) -> None:
        """Give a simulated node its load, of a program if there is one; nothing on real devices."""
        if self.node is not None:
            from powersample.session.simulate import apply_load

            apply_load(self.node, self.load or ("cpu" if pid else "idle"), pid)


def record_command(
    setup: Setup,
    command: Sequence[str],
    *,
    sync: SyncPlan | None = None,
    on_trouble: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> CommandResult:
    """Run `command` to its end while the sampler executable records; the window is called "run".

    Signals sent to this process reach the program. The program finds POWERSAMPLE_MARKS in its environment.

    Args:
        setup: What to record.
        command: Program and arguments.
        sync: Bursts before and after the program, by which the meters' clocks are told; None: none.
        on_trouble: Told, while the program runs, what of the recording fails, each once; the program goes on.
        on_progress: Told what is being done before the program begins and after it has ended, where that takes long.

    Raises:
        CommandNotFound: The command cannot be started; nothing was recorded.
        NothingMeasurable, OutputExists, AccessDenied: As `Setup.recording`.
        InvalidArgument: `sync` without a meter, or by a pattern that tells no lag.
    """
    if sync is not None:
        from powersample.session.syncing import check

        check(sync, len(setup.meters.addresses))
    recording = setup.recording(command)
    environment = {**os.environ, ENVIRONMENT: str(recording.marks.absolute())}
    watch = watcher(recording, on_trouble)
    with recording, Child(command, environment) as child:
        if sync is None:
            setup.apply_load(child.pid)
        recording.start()
        time.sleep(recording.margin_s)
        if sync is not None:
            seconds = recording.synchronise_by(sync)
            if seconds:
                on_progress(f"bursts of load for {seconds:g} s, to synchronise by; then the program begins")
            recording.burst(lambda: child.asked_to_end)
            setup.apply_load(child.pid)
            time.sleep(recording.margin_s)
        writer = MarkWriter(recording.marks)
        mark = writer.begin("run")
        child.release()
        code = child.wait(watch)
        writer.end(mark)
        time.sleep(recording.margin_s)
        if sync is not None:
            if setup.node is not None:
                setup.node.unfollow()
            if seconds and not child.asked_to_end:
                on_progress(f"the program has ended; bursts of load for {seconds:g} s again")
            recording.burst(lambda: child.asked_to_end)
        return finish(recording, code, exit_code=code)


def watcher(recording: Recording, on_trouble: Callable[[str], None]) -> Callable[[], None]:
    """Return what tells of every trouble once, when it is called again and again."""
    told: set[str] = set()

    def watch() -> None:
        for text in recording.trouble():
            if text not in told:
                told.add(text)
                on_trouble(text)

    return watch


def finish(recording: Recording, code: int | None, **more: object) -> CommandResult:
    """Finish a recording; whatever fails is told in the result, for the program's exit code stands all the same."""
    try:
        trace = recording.finish(**more)
    except Exception as error:  # whatever it is: who started the program acts upon the program's own end
        recording.abandon()
        return CommandResult(code, None, (str(error) or repr(error), recording.what_is_left()))
    return CommandResult(code, trace, tuple(trace.meta.get("trouble", ())))


def record_for(
    setup: Setup, duration_s: float | None, *, on_trouble: Callable[[str], None] = lambda _: None
) -> CommandResult:
    """Record the machine for `duration_s`, or until SIGINT, SIGTERM or SIGHUP; the window is called "run".

    Must be called in the main thread. Args and Raises as `record_command`, and:

    Raises:
        InvalidArgument: The duration is not above 0.
    """
    if duration_s is not None and not duration_s > 0:
        raise errors.InvalidArgument(f"a duration of {duration_s} s: it must be above 0")
    recording = setup.recording()
    watch = watcher(recording, on_trouble)
    with until_asked_to_end() as asked, recording:
        setup.apply_load()
        recording.start()
        time.sleep(recording.margin_s)
        writer = MarkWriter(recording.marks)
        mark = writer.begin("run")
        deadline = None if duration_s is None else time.monotonic() + duration_s
        while not asked.wait(0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic()))):
            watch()
            if recording.recorder.failure() or (deadline is not None and time.monotonic() >= deadline):
                break
        writer.end(mark)
        time.sleep(recording.margin_s)
        return finish(recording, None)
