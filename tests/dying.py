# SPDX-License-Identifier: Apache-2.0
"""Recordings that are killed, for test_kill.py; a program of its own, because it forks what it has loaded once.

A child records a scripted device through the real `Recording`, its parts small and converted at once, and is killed at
a random instant, or before the n-th time that it touches a file. What is left is recovered and compared with the
script: pass by pass, for the readings tell which pass they are of.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from powersample import store
from powersample._native import api
from powersample.capture import Inventory, Plan, sampler_path
from powersample.errors import InputNotFound, PowerSampleError
from powersample.session import recording

LOST_S = 1.2
WAVE = 20  # passes of each level
RATE_HZ = 200


class Scripted:
    """A recorder of two channels: one counts passes, one is a wave."""

    def __init__(self, plan, _inventory, spool):
        self._plan, self._directory = plan, spool

    def start(self, keep=()):
        steps = ((0, 0, 0, 0, 1, 0), (0, 1, 0, 100, 0, 0), (WAVE, 1, 0, 200, 0, 0))
        # The count goes on over the table's end, which no recording here reaches.
        steps += tuple((WAVE * i, 1, 0, 100 + 100 * (i % 2), 0, 0) for i in range(2, 500))
        self._sampler = api.Sampler()
        source = api.scripted_source("scripted", api.Script(channels=2, steps=steps))
        self._sampler.add(source, api.LaneOptions(rate_hz=RATE_HZ))
        self._sampler.start()
        sizes = {"part_bytes": 24_000, "part_ms": 150, "drain_ms": 20, "anchor_ms": 200}
        self._spool = api.Spool(self._directory, self._sampler, keep=self._plan.keep, **sizes)
        self._spool.start()
        (self._directory.parent / "ready").write_text(str(api.now_ns()))

    def sync(self):
        self._spool.sync()

    def stop(self):
        (self._directory.parent / "stopped").write_text(str(api.now_ns()))
        self._sampler.stop()
        self._spool.stop()

    def failure(self):
        return None


REPLACED = {
    "recorder_for": lambda plan, inventory, spool, **_: Scripted(plan, inventory, spool),
    "discover": lambda _plan, **_: Inventory(),
    "sources_of": lambda _inventory: ("scripted",),
    "CONVERT_EVERY_S": 0.2,
}
for name, value in REPLACED.items():
    getattr(recording, name)  # else nothing is replaced
    setattr(recording, name, value)


def record(folder, keep, seconds):
    one = recording.Recording(Plan(keep=keep), folder / "run.parquet")
    one.start()
    time.sleep(seconds)
    one.finish()


def forked(work, *arguments):
    """Run `work` in a child; return its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        work(*arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


AT_ONCE = 16
EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.scandir",
}


def die_before(number, folder):
    """Kill this process before it touches a file under `folder` for the number-th time."""
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        if event not in EVENTS or not arguments:
            return
        path = str(arguments[0])
        if str(folder) in path or (event in ("os.remove", "os.rmdir") and "/" not in path):  # of an open folder
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def expected(name, passes):
    return passes if name.endswith("0") else 100 + 100 * (passes // WAVE % 2)


def said(path):
    """Return the instant that a file names; None where it does not, as after a kill in the middle of it."""
    text = path.read_text() if path.exists() else ""
    return int(text) if text else None


def check(folder, killed_ns=None):
    """Recover what is in `folder`; return what is wrong with it."""
    out, spool = folder / "run.parquet", folder / "run.parquet.spool"
    ready_ns, stopped_ns = said(folder / "ready"), said(folder / "stopped")
    try:
        trace = store.recover(spool)
    except InputNotFound:
        if not out.exists():
            return ["neither spool nor output"] if ready_ns else []
        trace = store.load(out)
    except PowerSampleError as error:
        return [f"recover: {type(error).__name__}: {error}"]
    wrong = []
    for name in trace.channels:
        series = trace.series(name)
        passes = passes_of(series)
        if not np.array_equal(series.raw, expected(name, passes)):
            wrong.append(f"{name}: {len(series)} readings are not the script's")
        wrong += holes(name, series)
    if killed_ns and ready_ns:
        wrong += lost(trace, ready_ns, min(killed_ns, stopped_ns or killed_ns))
    content = out.read_bytes()
    try:
        store.recover(spool)
        wrong.append("recovered twice")
    except InputNotFound:
        pass
    if out.read_bytes() != content:
        wrong.append("the second recover changed the output")
    left = sorted({path.name for path in folder.iterdir()} - {"run.parquet", "ready", "stopped"})
    return wrong + [f"left behind: {left}"] * bool(left)


def passes_of(series):
    return np.cumsum(1 + series.left_out.astype(np.int64)) - 1


def holes(name, series):
    whole = np.array_equal(series.seq, 2 * passes_of(series) + int(name[-1]))
    return [] if whole else [f"{name}: seq has holes"]


def lost(trace, ready_ns, end_ns):
    """Say what is missing of the time up to `end_ns`."""
    if end_ns - ready_ns <= LOST_S * 1e9:
        return []
    last_ns = [int(trace.series(name).t1_ns[-1]) for name in trace.channels] or [ready_ns]
    missing_s = (end_ns - min(last_ns)) / 1e9
    return [f"the last {missing_s:.2f} s before the kill are lost"] if missing_s > LOST_S else []


def executable(folder, keep):
    """Start the sampler by itself; it tells nobody when it is ready."""
    (folder / "run.parquet.spool").mkdir()
    command = [sampler_path(), "--sources", "scripted:2@20", "--rate", str(RATE_HZ), "--part-s", "0.2"]
    command += ["--keep", keep, "--spool", folder / "run.parquet.spool", "--duration", "2"]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen([*map(str, command)], stdout=said)


def random_instants(root, how, count, at_once):
    """Kill recordings of 1.6 s within 2.2 s from their begin."""
    chance = random.Random(f"{how} 1")
    wrong = []
    for first in range(0, count, at_once):
        begin, lives, dead = time.monotonic(), [], []
        for i in range(first, min(first + at_once, count)):
            folder = root / f"{how}-{i}"
            folder.mkdir()
            keep = ("all", "changes")[i % 2]
            if how == "executable":
                process = executable(folder, keep)
                lives.append((chance.uniform(0.005, 2.2), process.pid, folder, process))
            else:
                lives.append((chance.uniform(0.005, 2.4), forked(record, folder, keep, 1.6), folder, None))
        for delay, pid, folder, process in sorted(lives, key=lambda life: life[0]):
            time.sleep(max(0.0, begin + delay - time.monotonic()))
            killed_ns = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            status = process.wait() if process else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status not in (0, -signal.SIGKILL):
                wrong.append(f"{folder.name}: ended with {status}")
            dead.append((check_program if process else check, folder, killed_ns))
        for look, folder, killed_ns in dead:
            wrong += [f"{folder.name}: {one}" for one in look(folder, killed_ns)]
            shutil.rmtree(folder)
    return wrong, count


def check_program(folder, killed_ns):
    """The sampler alone: its values are its own; that none is missing and none old is lost is what is looked at."""
    lines = (folder / "said").read_text().splitlines()  # when it was ready, and its end
    trace = store.recover(folder / "run.parquet.spool")
    wrong = [one for name in trace.channels for one in holes(name, trace.series(name))]
    if len(lines) == 1:
        wrong += lost(trace, json.loads(lines[0])["t_ns"], killed_ns)
    return wrong


def every_touch(root, keep, work):
    """Kill before each time that a file is touched, until the work gets through; `work`: record, or recover."""
    wrong, number, alive = [], 0, 0
    template = root / "template"
    if work == "recover":
        template.mkdir()
        os.waitpid(forked(killed_recording, template, keep), 0)
    while not alive and not wrong:
        children = {}
        for _ in range(AT_ONCE):
            number += 1
            folder = root / f"{work}-{number}"
            shutil.copytree(template, folder) if work == "recover" else folder.mkdir()
            children[folder] = forked(doomed, number, folder, keep, work)
        for folder, child in children.items():
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            alive += code == 0
            if code not in (0, -signal.SIGKILL):
                wrong.append(f"{folder.name}: ended with {code}")
            wrong += [f"{folder.name}: {one}" for one in check(folder)]
            shutil.rmtree(folder)
    return wrong, number - alive


def killed_recording(folder, keep):
    one = recording.Recording(Plan(keep=keep), folder / "run.parquet")
    one.start()
    time.sleep(0.45)  # some of its parts are converted, some are not
    os.kill(os.getpid(), signal.SIGKILL)


def doomed(number, folder, keep, work):
    die_before(number, folder)
    if work == "record":
        record(folder, keep, 0.25)
    else:
        store.recover(folder / "run.parquet.spool")


def main():
    what, root, *more = sys.argv[1:]
    if what == "touch":
        wrong, count = every_touch(Path(root), *more)
    else:
        wrong, count = random_instants(Path(root), what, *map(int, more))
    print(json.dumps({"wrong": wrong, "kills": count}))


if __name__ == "__main__":
    main()
