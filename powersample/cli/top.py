# SPDX-License-Identifier: Apache-2.0
"""`powersample top`: a live view of what this node's devices draw."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import termios
import time
import tty
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from powersample.cli.output import emit
from powersample.cli.sampling import add_sampling, add_simulated, list_meters, on_node, plan_of, refuse_simulated

if TYPE_CHECKING:
    from powersample.report.top import Frame
    from powersample.session.top import TopWatch

RATE_HZ = "20"
FIRST_S = 0.4  # until there is something to be seen
LOOK_S = 0.25  # while one look is waited for
TAKE_S = 1.0  # what has been read is taken so often, whatever the delay: rings are short
SETTLE_S = 0.7  # beside a single look, for what sensors tell late
EXAMPLE = """\
examples:
  powersample top
  powersample top -1 --json
  powersample top -d 5 --meter lmg450:/dev/ttyUSB0
  powersample top --simulate h100x8 --load wave:300,100,7,0.5

Keys: q or Ctrl-C leaves. Where standard output is no terminal, a block of lines each delay.

energy: since top began, with its 95 % interval. changed: when the sensor last said something new. last minute: from
nothing to the power limit. Devices are read 20 times a second unless --rate says otherwise; nothing is written to disk.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "top",
        help="a live view of what the devices draw",
        description="Show what every device of this node draws now and has taken since, with what that is worth.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("-1", "--once", action="store_true", help="measure for one delay, print it, and end")
    verb.add_argument("-d", "--delay", type=float, default=1.0, metavar="S", help="between looks; default 1")
    verb.add_argument("-n", "--count", type=int, metavar="N", help="end after N looks")
    verb.add_argument("--json", action="store_true", help="with -1: one JSON object")
    add_sampling(verb)
    add_simulated(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch until asked to end."""
    from powersample import errors
    from powersample.session.top import TopWatch

    if options.meter == ["help"]:
        return list_meters()
    if not 0.1 <= options.delay <= 3600:
        raise errors.InvalidArgument(f"--delay {options.delay:g}: from 0.1 to 3600 s")
    if options.count is not None and options.count < 1:
        raise errors.InvalidArgument(f"--count {options.count}: at least 1")
    if options.json and not options.once:
        raise errors.InvalidArgument("--json goes with -1", "For a series: powersample record, or serve.")
    refuse_simulated(options)
    if options.rate is None and options.mode in (None, "paced"):
        options.rate = RATE_HZ
    plan, meters = plan_of(options)
    with contextlib.ExitStack() as closing:
        plan, node = on_node(options, plan, closing)
        if node is not None:
            from powersample.session.simulate import apply_load

            apply_load(node, options.load or "idle", 0)
        watch = closing.enter_context(TopWatch(plan, node=node, simulated=options.simulate or "", meters=meters))
        watch.start()
        try:
            if options.once:
                return _once(watch, options)
            if _is_terminal():
                _live(watch, options)
            else:
                _lines(watch, options)
        except KeyboardInterrupt:
            return 0  # the ordinary way to leave
    return 0


def _once(watch: TopWatch, options: argparse.Namespace) -> int:
    from powersample.report.top import frame_json

    deadline = time.monotonic() + options.delay + SETTLE_S
    while (left_s := deadline - time.monotonic()) > 0:
        watch.take()  # a counter's power is what it gained from look to look
        time.sleep(min(left_s, LOOK_S))
    frame = watch.look(settle=True)
    emit(json.dumps(frame_json(frame), indent=1, allow_nan=False) if options.json else _text(frame))
    return 1 if frame.trouble else 0


def _lines(watch: TopWatch, options: argparse.Namespace) -> None:
    """Print a block each delay, for a pipe or a file."""
    shown = 0
    while options.count is None or shown < options.count:
        due = time.monotonic() + options.delay
        while (left_s := due - time.monotonic()) > 0:
            time.sleep(min(left_s, TAKE_S))
            watch.take()
        emit(_text(watch.look()) + "\n")
        shown += 1


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _text(frame: Frame) -> str:
    """Return a frame as plain text, as wide as the terminal or 100 columns."""
    import shutil

    from powersample.report.top_view import draw, glyphs_of

    width = shutil.get_terminal_size((100, 24)).columns
    glyphs = glyphs_of(sys.stdout.encoding or "ascii") if sys.stdout is not None else None
    return "\n".join(line.plain for line in draw(frame, max(60, width), None, glyphs))


def _live(watch: TopWatch, options: argparse.Namespace) -> None:
    """Draw on the whole terminal until q or a signal."""
    from rich.console import Console, Group
    from rich.live import Live

    from powersample.report.top_view import draw, glyphs_of

    console = Console(file=sys.stdout, highlight=False, markup=False)
    glyphs = glyphs_of(console.encoding)
    with _Keyboard() as keyboard, contextlib.ExitStack() as screen:

        def open_screen() -> Live:
            live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            return screen.enter_context(live)

        live, shown, due = open_screen(), 0, time.monotonic() + min(FIRST_S, options.delay)
        frame: Frame | None = None
        while True:
            what = keyboard.wait(min(TAKE_S, max(0.0, due - time.monotonic())))
            if what == "quit":
                return
            if what == "stop":
                screen.close()
                keyboard.suspend()
                live = open_screen()
            if what == "" and time.monotonic() < due:
                watch.take()
                continue
            if what == "":
                frame = watch.look()
                shown += 1
                due = max(due + options.delay, time.monotonic())
            if frame is not None:
                width, height = console.size
                live.update(Group(*draw(frame, width, height, glyphs, keys=keyboard.there)), refresh=True)
            if options.count is not None and shown >= options.count:
                return


class _Keyboard:
    """The terminal's keys one by one, and the signals about it; leaves the terminal as it was."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._settings: Any = None
        self._caught: list[int] = []

    @property
    def there(self) -> bool:
        """Whether keys can be read."""
        return self._fd is not None

    def __enter__(self) -> Self:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wake = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._catch) for number in (signal.SIGWINCH, signal.SIGTSTP)}
        self._listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wake)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _catch(self, number: int, _frame: object) -> None:
        self._caught.append(number)

    def _listen(self) -> None:
        if self._fd is not None:
            self._settings = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)

    def _restore(self) -> None:
        if self._fd is not None and self._settings is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._settings)

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does, with the terminal as it was; return once it goes on."""
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._catch)
        self._listen()

    def wait(self, seconds: float) -> str:
        """Return "quit", "stop", "redraw", or "" once the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            if self._caught:
                number, self._caught = self._caught[-1], []
                return "stop" if number == signal.SIGTSTP else "redraw"
            watched = [self._wake_read, *([] if self._fd is None else [self._fd])]
            ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return ""
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            if self._fd in ready:
                keys = os.read(self._fd, 64)
                if not keys:  # the terminal has gone
                    return "quit"
                if b"q" in keys.lower():
                    return "quit"
