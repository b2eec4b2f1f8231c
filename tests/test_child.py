# SPDX-License-Identifier: Apache-2.0
"""The measured program as a process: held, released, signalled, and its end told as a shell would."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from powersample import errors
from powersample.session.child import Child, CommandNotFound


def run(command):
    with Child(command, os.environ) as child:
        child.release()
        return child.wait(lambda: None)


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_child_exit_code_is_passed_on(code):
    assert run([sys.executable, "-c", f"raise SystemExit({code})"]) == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_child_killed_by_signal_answers_128_plus_n(number):
    assert run(["/bin/sh", "-c", f"ulimit -c 0; kill -{int(number)} $$"]) == 128 + number


def test_child_before_release_has_not_begun(tmp_path: Path):
    witness = tmp_path / "began"
    with Child(["touch", str(witness)], os.environ) as child:
        before = witness.exists()
        child.release()
        child.wait(lambda: None)
    assert not before
    assert witness.exists()


def test_child_keeps_its_pid_across_the_hold(tmp_path: Path):
    """A CPU counter opened on the held process must go on counting the program."""
    out = tmp_path / "pid"
    program = f"import os; open({str(out)!r}, 'w').write(str(os.getpid()))"
    with Child([sys.executable, "-c", program], os.environ) as child:
        held = child.pid
        child.release()
        child.wait(lambda: None)
    assert int(out.read_text()) == held


def test_child_never_released_is_ended():
    with Child(["sleep", "600"], os.environ) as child:
        pid = child.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_child_arguments_pass_unchanged(tmp_path: Path):
    out = tmp_path / "argv"
    words = ["a b", "$HOME", "*", "'", '"', "", "-x", "--", "\\"]
    program = f"import sys, json; json.dump(sys.argv[1:], open({str(out)!r}, 'w'))"
    assert run([sys.executable, "-c", program, *words]) == 0
    assert json.loads(out.read_text()) == words


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_child_signal_to_recorder_is_forwarded(number, tmp_path: Path, monkeypatch):
    """The program sees the signal, may handle it, and its own exit code stands. Tests may run at a terminal, where a
    Ctrl-C would reach the program by itself."""
    monkeypatch.setattr("powersample.session.child._terminal_is_ours", lambda: False)
    ready = tmp_path / "ready"
    program = (
        f"import signal, sys, pathlib\nsignal.signal({int(number)}, lambda *a: sys.exit(42))\n"
        f"pathlib.Path({str(ready)!r}).touch()\nsignal.pause()"
    )
    sent = []

    def when_ready():
        if ready.exists() and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    with Child([sys.executable, "-c", program], os.environ) as child:
        child.release()
        assert child.wait(when_ready, idle_s=0.02) == 42


def test_child_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    run(["true"])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("no-such-program-at-all", 127, "command not found"),
        ("/no/such/file", 127, "command not found"),
        ("text", 126, "permission denied"),
        (".", 126, "is a directory"),
    ],
)
def test_child_that_cannot_start_is_refused_before_recording(name, code, words, tmp_path: Path):
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o644)
    command = [str(tmp_path / name)] if name in ("text", ".") else [name]
    with pytest.raises(CommandNotFound, match=words) as caught:
        Child(command, os.environ)
    assert caught.value.exit_code == code
    assert isinstance(caught.value, errors.PowerSampleError)
