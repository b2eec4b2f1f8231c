# SPDX-License-Identifier: Apache-2.0
"""The measured program: held before its first instruction, signals passed on, its end told as shells tell it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Self

from powersample import errors

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # what every shell answers
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)
# Stops itself, then becomes the program: the very process that a CPU counter was opened on meanwhile.
HOLD = 'kill -STOP $$; exec "$@"'


@contextmanager
def until_asked_to_end() -> Iterator[threading.Event]:
    """Give an event that SIGINT, SIGTERM and SIGHUP (unless it is ignored, as under nohup) set, for a run without end.

    Must be called in the main thread.
    """
    asked = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    handlers = {number: signal.signal(number, lambda *_: asked.set()) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class CommandNotFound(errors.PowerSampleError, FileNotFoundError):  # noqa: N818 (as in errors.py)
    """The command to measure is not there, or may not be executed; `exit_code` is what a shell would answer."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def resolve(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise `CommandNotFound` when `command` cannot be started, before anything is recorded."""
    name = command[0]
    if shutil.which(name, path=environment.get("PATH", os.defpath)) is not None:
        return
    if os.sep in name and os.path.isdir(name):
        raise CommandNotFound(f"{name}: is a directory, not a program", NOT_EXECUTABLE)
    if os.sep in name and os.path.exists(name):
        raise CommandNotFound(f"{name}: permission denied; is it executable (chmod +x)?", NOT_EXECUTABLE)
    raise CommandNotFound(f"{name}: command not found; give its path, or check PATH", NOT_FOUND)


class Child:
    """One program run: `Child(command)` holds it, `release()` lets it start, `wait()` sees it through.

    Args:
        command: Program and arguments, as for exec.
        environment: The whole environment of the program.
        stdout: A descriptor for its standard output; None: this process's own.

    Raises:
        CommandNotFound: The command cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, stdout: int | None = None) -> None:
        resolve(command, environment)
        self._caught: list[int] = []
        self._ending: int | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._process = subprocess.Popen(["/bin/sh", "-c", HOLD, "sh", *command], env=dict(environment), stdout=stdout)
        os.waitpid(self._process.pid, os.WUNTRACED)  # returns when it has stopped

    @property
    def pid(self) -> int:
        """Process id, the same before and after the program starts."""
        return self._process.pid

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._catch) for number in (*FORWARDED, signal.SIGCHLD)}
        self._old_wake = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:  # something failed here, perhaps before the release
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
        signal.set_wakeup_fd(self._old_wake)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        self._caught.append(number)
        if number in ENDING and self._ending is None:
            self._ending = number

    @property
    def ending_signal(self) -> int | None:
        """The first signal to this process that ends programs, passed on or not; None without."""
        return self._ending

    @property
    def asked_to_end(self) -> bool:
        """Whether a signal came that is not passed on yet, and that ends programs."""
        return any(number in ENDING for number in self._caught)

    def release(self) -> None:
        """Let the program start."""
        self._process.send_signal(signal.SIGCONT)

    def wait(self, on_idle: Callable[[], None], idle_s: float = 0.5) -> int:
        """Pass signals on until the program ends; return its exit code, 128 + N when signal N killed it.

        Args:
            on_idle: Called about every `idle_s`.
            idle_s: Seconds.
        """
        while self._process.poll() is None:
            readable, _, _ = select.select([self._wake_read], [], [], idle_s)
            if readable:
                os.read(self._wake_read, 4096)
            while self._caught:
                number = self._caught.pop(0)
                if number != signal.SIGCHLD and not (number in _KEYBOARD and _terminal_is_ours()):
                    self._process.send_signal(number)
            on_idle()
        code = self._process.returncode
        return code if code >= 0 else 128 - code


_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


def _terminal_is_ours() -> bool:
    """Whether a Ctrl-C has reached the program by itself: it shares our foreground process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
