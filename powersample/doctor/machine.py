# SPDX-License-Identifier: Apache-2.0
"""What the doctor sees of a machine: folders, an environment and a few calls, each of which a test may replace."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from powersample.doctor.check import Tried

if TYPE_CHECKING:
    from powersample._native.api_nvml import Nvml
    from powersample.capture.privileged import Help

CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_PERFMON = 21, 23, 38  # of linux/capability.h
RUN_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended: its exit code, or None and the errno with which it could not be started."""

    code: int | None
    out: str
    errno: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo."""

    point: str
    kind: str
    options: tuple[str, ...]


def run_program(command: Sequence[str]) -> Outcome:
    """Run a program to its end, its output and errors in one."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        return Outcome(None, error.strerror or str(error), error.errno)
    except subprocess.TimeoutExpired:
        return Outcome(None, f"no end within {RUN_TIMEOUT_S:.0f} s")
    return Outcome(done.returncode, done.stdout.decode("utf-8", "replace"))


def installed() -> dict[str, str]:
    """Return the version of every installed distribution, by its name in lower case with dashes."""
    return {
        re.sub(r"[-_.]+", "-", name).lower(): one.version
        for one in metadata.distributions()
        if (name := one.metadata["Name"])
    }


def load_nvml(library: str | None) -> Nvml:
    """Load NVML; raises as `Nvml` does."""
    from powersample._native.api_nvml import Nvml

    return Nvml(library)


def sampler_program() -> Path:
    """Return the path of the sampler executable; raises `NotSupported` without one."""
    from powersample.capture import sampler_path

    return sampler_path()


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to look at.

    Attributes:
        root: Where all that the kernel and the distribution tell lies: `sys`, `proc`, `dev`, `etc`, `lib`, `run`.
        sysfs_root: Where recordings look for counters and sensors; None is the root's `sys`.
        devfs_root: Where they look for MSRs; None is the root's `dev`, or nowhere beside another sysfs.
        environment: Of this process.
        nvml_library: To load instead of the driver's, or None.
        simulated: What is simulated, as text, or None.
        load_nvml: Opens a library.
        sampler: Finds the executable.
        ask_sampler: Asks it for CPU packages, as `capture` does.
        distributions: Installed Python distributions with their versions.
        run: Runs a program.
        which: Finds a program on PATH.
        free_bytes: Space that this user may take at a path.
    """

    root: Path = Path("/")
    sysfs_root: Path | None = None
    devfs_root: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    nvml_library: str | None = None
    simulated: str | None = None
    load_nvml: Callable[[str | None], Nvml] = load_nvml
    sampler: Callable[[], Path] = sampler_program
    ask_sampler: Callable[..., Help] | None = None
    distributions: Callable[[], Mapping[str, str]] = installed
    run: Callable[[Sequence[str]], Outcome] = run_program
    which: Callable[[str], str | None] = shutil.which
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free

    @property
    def sys(self) -> Path:
        """The kernel's own /sys."""
        return self.root / "sys"

    @property
    def sysfs(self) -> Path:
        """Where recordings look for counters and sensors."""
        return self.sys if self.sysfs_root is None else self.sysfs_root

    @property
    def dev(self) -> Path:
        """The kernel's own /dev."""
        return self.root / "dev"

    @property
    def devfs(self) -> Path | None:
        """Where recordings look for MSRs: nowhere beside another sysfs, unless told."""
        if self.devfs_root is not None:
            return self.devfs_root
        return self.dev if self.sysfs_root is None else None

    @property
    def counter_roots(self) -> tuple[str | None, str | None]:
        """The two as `capture` takes them: None where a recording would be told nothing."""
        if self.root == Path("/"):
            return _maybe(self.sysfs_root), _maybe(self.devfs_root)
        return str(self.sysfs), _maybe(self.devfs)

    @property
    def proc(self) -> Path:
        """/proc."""
        return self.root / "proc"

    # ---- small files ----

    def read(self, path: Path) -> tuple[str | None, Tried]:
        """Return a small file's text without outer blanks, or None; and the attempt."""
        try:
            return path.read_bytes().decode("utf-8", "replace").strip(), Tried(str(path))
        except OSError as error:
            return None, Tried(str(path), error.errno)

    def text(self, path: Path) -> str:
        """Return a small file's text; "" when it cannot be read."""
        return self.read(path)[0] or ""

    def names(self, folder: Path) -> list[str]:
        """Return a folder's entries, sorted; none when it cannot be listed."""
        try:
            return sorted(os.listdir(folder))
        except OSError:
            return []

    # ---- this process ----

    def status(self, name: str) -> str:
        """Return a line of /proc/self/status, such as "CapEff"; "" without one."""
        return _value(self.text(self.proc / "self/status"), name)

    def has_capability(self, number: int) -> bool:
        """Whether this process may use a capability."""
        return bool(int(self.status("CapEff") or "0", 16) >> number & 1)

    # ---- the kernel ----

    @property
    def release(self) -> str:
        """The kernel's release, as `uname -r`."""
        return self.text(self.proc / "sys/kernel/osrelease")

    def kernel_at_least(self, major: int, minor: int) -> bool:
        """Whether the kernel is that new; True when nobody knows."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return found is None or (int(found[1]), int(found[2])) >= (major, minor)

    def module(self, name: str) -> str:
        """Return "loaded", "built in", "available", "absent" or "unknown" of a kernel module."""
        if (self.sys / "module" / name).exists():
            return "loaded"
        folder = self.root / "lib/modules" / self.release
        pattern = re.compile(rf"(^|/){name.replace('_', '[-_]')}\.ko", re.MULTILINE)
        if pattern.search(self.text(folder / "modules.builtin")):
            return "built in"
        listing = self.text(folder / "modules.dep")
        if not listing:
            return "unknown"
        return "available" if pattern.search(listing) else "absent"

    def cpu(self, name: str) -> str:
        """Return the first such line of /proc/cpuinfo: "vendor_id", "flags", "model name"; "" without one."""
        return _value(self.text(self.proc / "cpuinfo"), name)

    def mounts(self) -> list[Mount]:
        """Return what is mounted where, in order."""
        found = []
        for line in self.text(self.proc / "self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            words, rest = left.split(), right.split()
            if len(words) >= 6 and len(rest) >= 3:
                point = words[4].replace("\\040", " ")
                found.append(Mount(point, rest[0], (*words[5].split(","), *rest[2].split(","))))
        return found

    def mount_of(self, path: Path) -> Mount | None:
        """Return the mount that a path lies on."""
        inside = [m for m in self.mounts() if path == Path(m.point) or Path(m.point) in path.parents]
        return max(inside, key=lambda mount: len(mount.point), default=None)

    def os_release(self) -> dict[str, str]:
        """Return /etc/os-release."""
        lines = (line.partition("=") for line in self.text(self.root / "etc/os-release").splitlines())
        return {key: value.strip("\"'") for key, _, value in lines}


def owner_and_mode(path: Path) -> str:
    """Return "mode 0400, owner root"; "" when it cannot be told."""
    try:
        found = path.stat()
    except OSError:
        return ""
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return f"mode {stat.S_IMODE(found.st_mode):04o}, owner {owner}"


def group_of(path: Path) -> str | None:
    """Return the name of a file's group; None when it cannot be told."""
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return None


def _maybe(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _value(text: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
