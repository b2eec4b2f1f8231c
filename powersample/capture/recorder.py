# SPDX-License-Identifier: Apache-2.0
"""Two recorders with one shape: lanes in this process, or in the `powersample-sampler` executable.

Both write a spool directory. In process the lanes start without another program; the executable goes on when the
process that it records for is stopped or killed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from powersample import errors
from powersample._native.api import Sampler, Spool
from powersample._native.api_hwmon import open_hwmon
from powersample._native.api_nvml import Nvml
from powersample._native.api_rapl import open_rapl
from powersample.capture.plan import Inventory, Plan
from powersample.capture.privileged import sampler_path, why_not_run

START_TIMEOUT_S = 30.0  # a cold driver without persistence mode takes seconds per GPU
STOP_TIMEOUT_S = 10.0


class Recorder(Protocol):
    """Records a plan's devices into a spool directory."""

    def start(self, keep: Sequence[int] = ()) -> None:
        """Return once every lane runs.

        Args:
            keep: Descriptors that stay open for as long as anything records, whatever becomes of this process.
        """

    def sync(self) -> None:
        """Return once every record taken before the call can be read from the spool."""

    def stop(self) -> None:
        """Stop the lanes and close the spool; harmless when repeated."""

    def failure(self) -> str | None:
        """Return what went wrong while recording, or None."""


class InProcess:
    """Lanes as threads of this process."""

    def __init__(self, plan: Plan, inventory: Inventory, spool: Path) -> None:
        self._plan, self._inventory, self._directory = plan, inventory, spool
        self._sampler: Sampler | None = None
        self._spool: Spool | None = None
        self._pid = os.getpid()
        self._failure: str | None = None

    def start(self, keep: Sequence[int] = ()) -> None:
        """Add one lane a GPU, a CPU package and a chip, and start all; they end with this process and keep nothing."""
        sampler = Sampler()
        try:
            add_lanes(sampler, self._plan, self._inventory)
            sampler.start()
            self._sampler = sampler
            self._spool = Spool(self._directory, sampler, keep=self._plan.keep)
            self._spool.start()
        except BaseException:
            self._sampler = None
            sampler.close()
            raise

    def sync(self) -> None:
        """Wait for the drain thread's handshake."""
        if self._spool is not None and self._pid == os.getpid():
            self._spool.sync()

    def stop(self) -> None:
        """Stop lanes, then the spool; a forked child has neither and does nothing."""
        if self._sampler is None or self._spool is None or self._pid != os.getpid():
            return
        self._sampler.stop()
        try:
            self._spool.stop()
        except errors.PowerSampleError as error:
            self._failure = str(error)
        hung = [s["name"] for s in map(self._sampler.stats, range(self._sampler.lanes)) if s["state"] == "hung"]
        if hung:
            self._failure = f"{', '.join(hung)}: a call into the driver never returned; its lane was left behind"
        self._spool.close()
        self._sampler.close()
        self._sampler = self._spool = None

    def failure(self) -> str | None:
        """Return the spool's or a lane's trouble."""
        if self._spool is not None and self._pid == os.getpid():
            stats = self._spool.stats()
            if stats["status"] != 0:
                return f"the spool stopped writing: {os.strerror(stats['sys_errno'])}"
        return self._failure


def add_lanes(sampler: Sampler, plan: Plan, inventory: Inventory) -> None:
    """Add one lane a GPU, a CPU package and a chip.

    Raises:
        DeviceError: What could be read a moment ago no longer can.
    """
    options = plan.lane_options()
    if inventory.devices:
        with Nvml(plan.nvml_library) as nvml:
            for device in inventory.devices:
                sampler.add(nvml.source(device.index), options)
    for package in inventory.packages:
        opened = open_rapl(package.number, plan.sysfs, plan.devfs)
        if opened.source is None:
            raise errors.DeviceError(f"package-{package.number} could be read a moment ago and no longer can")
        # Read from another package it would interrupt this one, at many times the cost.
        cpu = opened.cpu if options.cpu is None else options.cpu
        sampler.add(opened.source, replace(options, cpu=cpu))
    for chip in inventory.chips:
        again = open_hwmon(chip.id, plan.sysfs)
        if again.source is None:
            raise errors.DeviceError(f"{chip.id} could be read a moment ago and no longer can")
        sampler.add(again.source, options)


def sources_of(inventory: Inventory) -> list[str]:
    """Return the names of the sources that have something there."""
    found = {"nvml": inventory.devices, "rapl": inventory.packages, "hwmon": inventory.chips}
    return [name for name, devices in found.items() if devices]


def sampler_arguments(plan: Plan, inventory: Inventory) -> list[str]:
    """Return the executable and its options for recording `inventory`; where to is for the caller to add."""
    arguments = [str(sampler_path()), "--with-parent", "--mode", plan.mode]
    arguments += ["--sources", ",".join(sources_of(inventory))]
    if inventory.devices:
        arguments += ["--gpus", ",".join(str(device.index) for device in inventory.devices)]
    if plan.sysfs is not None:
        arguments += ["--sysfs", plan.sysfs]
    if plan.devfs is not None:
        arguments += ["--devfs", plan.devfs]
    if plan.rate_hz is not None:
        arguments += ["--rate", repr(plan.rate_hz)]
    if plan.cpu is not None:
        arguments += ["--cpu", str(plan.cpu)]
    if plan.fifo is not None:
        arguments += [f"--fifo={plan.fifo}"]
    if plan.keep != "all":
        arguments += ["--keep", plan.keep]
    if plan.nvml_library is not None:
        arguments += ["--nvml-lib", plan.nvml_library]
    return arguments


def launch(arguments: Sequence[str], keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start the executable with pipes for its output.

    Raises:
        NotSupported: It cannot be executed.
    """
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=keep,
            process_group=0,  # a Ctrl-C is for the measured program; this one ends when asked
        )
    except OSError as error:
        raise errors.NotSupported(f"{arguments[0]} cannot be run: {why_not_run(error)}") from error


class Executable:
    """Lanes in a `powersample-sampler` process of their own."""

    def __init__(self, plan: Plan, inventory: Inventory, spool: Path) -> None:
        self._arguments = [*sampler_arguments(plan, inventory), "--spool", str(spool)]
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: str | None = None

    def start(self, keep: Sequence[int] = ()) -> None:
        """Start it and wait for its ready line."""
        self._process = launch(self._arguments, keep)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        line = self._process.stdout.readline() if ready else b""
        if not line.startswith(b'{"ready":true'):
            self._process.kill()
            _, trouble = self._process.communicate()
            text = trouble.decode("utf-8", "replace").strip()
            raise errors.DeviceError(text or f"powersample-sampler was not ready within {START_TIMEOUT_S:.0f} s")

    def sync(self) -> None:
        """Nothing: the executable's spool is read once it has ended."""

    def stop(self) -> None:
        """Ask it to end and wait for its last words."""
        process = self._process
        if process is None:
            return
        self._process = None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            out, trouble = process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, trouble = process.communicate()
            self._failure = f"powersample-sampler did not end within {STOP_TIMEOUT_S:.0f} s and was killed"
            return
        if process.returncode != 0:
            text = trouble.decode("utf-8", "replace").strip()
            self._failure = text or f"powersample-sampler ended with {outcome(process.returncode)}"
            return
        last = json.loads(out.splitlines()[-1]) if out.strip() else {}
        self._failure = spool_trouble(last)

    def failure(self) -> str | None:
        """Return why it ended early, or what it said at its end."""
        if self._process is not None and self._process.poll() is not None:
            return f"powersample-sampler ended early with {outcome(self._process.returncode)}"
        return self._failure


def outcome(returncode: int) -> str:
    """Return a program's end in words."""
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"


def spool_trouble(last: dict[str, Any]) -> str | None:
    """Return what the sampler's last line says of writing, None when all went well."""
    spool = last.get("spool", {})
    if spool.get("status", 0) == 0:
        return None
    return f"the spool stopped writing: {os.strerror(int(spool.get('sys_errno', 0)))}"
