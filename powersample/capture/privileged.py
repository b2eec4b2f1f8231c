# SPDX-License-Identifier: Apache-2.0
"""What the sampler executable may read that this process may not, by file capabilities on it alone.

Capabilities are never put on an interpreter: whoever runs it would have them for any code. The executable opens the
counters, drops the capabilities, and only then does anything else (csrc/sampler/privilege.h).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shlex
import stat
import struct
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from powersample import errors
from powersample._native import api
from powersample._native.api_rapl import Opened, Refusal

# The route, the capability that opens it, and its number in linux/capability.h. The safest first: CAP_PERFMON reads
# performance counters, CAP_DAC_READ_SEARCH every file, CAP_SYS_RAWIO every register.
NEEDS = {"perf": "cap_perfmon", "powercap": "cap_dac_read_search", "msr": "cap_sys_rawio"}
NUMBERS = {"cap_dac_read_search": 2, "cap_sys_rawio": 17, "cap_sys_nice": 23, "cap_perfmon": 38}
SAMPLER_VARIABLE = "POWERSAMPLE_SAMPLER"
SHARED_PLACE = "/usr/local/libexec/powersample-sampler"
PROBE_TIMEOUT_S = 15.0


def sampler_path() -> Path:
    """Return the path of the `powersample-sampler` executable: POWERSAMPLE_SAMPLER's if that is set, else our own.

    The variable is for an executable that an administrator has installed with capabilities, for users of any
    environment.

    Raises:
        NotSupported: There is none, it may not be run, or it is of another version.
    """
    named = os.environ.get(SAMPLER_VARIABLE)
    if named:
        return _checked(Path(named))
    path = Path(__file__).resolve().parents[1] / "_bin" / "powersample-sampler"
    if not path.exists():
        raise errors.NotSupported(f"{path} is missing; install the package again with a C compiler at hand")
    return path


def _checked(path: Path) -> Path:
    try:
        said = _output(path, "--version").stdout.split()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.NotSupported(f"{SAMPLER_VARIABLE}={path} cannot be run: {why_not_run(error)}") from error
    if said != ["powersample-sampler", api.version()]:
        raise errors.NotSupported(
            f"{SAMPLER_VARIABLE}={path} is {' '.join(said[1:]) or 'no sampler'}, and this package is {api.version()}; "
            f"install this one's there, or unset the variable"
        )
    return path


def _output(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROBE_TIMEOUT_S,
        check=False,  # it says more than its exit code does
    )


def why_not_run(error: OSError | subprocess.TimeoutExpired) -> str:
    """Return why an executable could not be run, in words."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:.0f} s"
    if error.errno == errno.EPERM:
        return "it bears capabilities that nobody may have here (a container's bounds); give it none here"
    return f"{error.strerror} [errno {error.errno}]"


def file_capabilities(path: Path) -> frozenset[str]:
    """Return which of the capabilities of use here the kernel would give to who runs `path`.

    Source: struct vfs_cap_data, linux/capability.h. One of revision 3 that names a root user is another user
    namespace's: the kernel turns our own into revision 2 as it is read.
    """
    try:
        about = path.stat()
        if about.st_mode & stat.S_ISUID and about.st_uid == 0:
            return frozenset(NUMBERS)
        value = os.getxattr(path, "security.capability")
    except OSError:
        return frozenset()
    if len(value) not in (20, 24) or (len(value) == 24 and struct.unpack_from("<I", value, 20)[0] != 0):
        return frozenset()
    _, low, _, high, _ = struct.unpack_from("<5I", value)
    return _named(low | high << 32)


def own_capabilities() -> frozenset[str]:
    """Return which of the capabilities of use here this process has in effect; none where /proc is hidden."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return frozenset()
    return _named(next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0))


def fifo_sampler(priority: int) -> Path | None:
    """Return the executable if it may put lanes under SCHED_FIFO at `priority` and this process may not."""
    if "cap_sys_nice" in own_capabilities() or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] >= priority:
        return None
    try:
        path = sampler_path()
    except errors.NotSupported:
        return None
    return path if "cap_sys_nice" in file_capabilities(path) else None


def _named(bits: int) -> frozenset[str]:
    return frozenset(name for name, number in NUMBERS.items() if bits >> number & 1)


@dataclass(frozen=True, slots=True)
class Listed:
    """A CPU package as the executable opened it, and the names of its channels."""

    opened: Opened
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Help:
    """What the executable can do where this process was refused.

    Attributes:
        sampler: The executable; None when it does nothing.
        capabilities: What it had, and this process has not.
        packages: What it opened, by number: all of them are its own then.
        reason: Why it does nothing, though it bears a capability that should help; else None.
    """

    sampler: Path | None = None
    capabilities: frozenset[str] = frozenset()
    packages: Mapping[int, Listed] = field(default_factory=dict)
    reason: str | None = None


def ask_sampler(denied: Collection[str], needed: Collection[int] = ()) -> Help:
    """Ask the executable for CPU packages, if it bears a capability that opens one of the `denied` routes.

    Args:
        denied: Routes that this process was refused for permission.
        needed: Packages that this process can read at least in part: help without them would lose something, as the
            executable reads every package that it can, and none may be read twice.
    """
    if not denied:
        return Help()
    try:
        path = sampler_path()
        useful = {NEEDS[route] for route in denied} - own_capabilities()
        return _ask(path, useful, needed) if useful & file_capabilities(path) else Help()
    except errors.NotSupported as error:
        return Help(reason=str(error))


def _ask(path: Path, useful: Collection[str], needed: Collection[int]) -> Help:
    try:
        done = _output(path, "--sources", "rapl", "--list", "--json")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.NotSupported(f"{path} cannot be run: {why_not_run(error)}") from error
    try:
        found = json.loads(done.stdout)
        had = frozenset(found["capabilities"].split(","))
        packages = dict(_listed(found))
    except (ValueError, KeyError, TypeError) as error:
        raise errors.NotSupported(f"{path}: {done.stderr.strip() or 'no list of channels'}") from error
    if had.isdisjoint(useful):
        bears = ", ".join(sorted(file_capabilities(path)))
        why = "no_new_privs, a nosuid mount, or a container"
        raise errors.NotSupported(f"{path} bears {bears} and the kernel did not grant it ({why})")
    if not packages or not set(needed) <= set(packages):
        raise errors.NotSupported(f"{path} opens less, with {', '.join(sorted(had))}: {done.stderr.strip()}")
    return Help(path, had - own_capabilities(), packages)


def _listed(found: Mapping[str, Any]) -> Iterator[tuple[int, Listed]]:
    for one in found["packages"]:
        if one["route"] is None:
            continue
        refused = tuple(
            Refusal(
                each["route"], tuple(each["domains"]), f"{each['call']}: {each['text']}", each["errno"] or None, False
            )
            for each in one["refused"]
        )
        names = tuple(channel["name"] for channel in found["channels"] if channel["lane"] == one["lane"])
        opened = Opened(
            source=None,
            routes=one["routes"],
            cpu=one["cpu"] if one["cpu"] >= 0 else None,
            still=tuple(one["still"]),
            moved=bool(one["moved"]),
            min_hz=float(one["min_hz"]),
            refused=refused,
        )
        yield int(one["number"]), Listed(opened, names)


def recipe(denied: Iterable[str], path: Path | None = None) -> tuple[str, str]:
    """Return two command lines after which an unprivileged user can read what was refused by the `denied` routes.

    They give the executable the capabilities for that and no others; where its file system keeps none, a copy of it.

    Args:
        denied: Routes to be opened: "perf", "powercap", "msr".
        path: The executable; None takes `sampler_path()`.

    Raises:
        NotSupported: There is no executable.
    """
    path = path or sampler_path()
    wanted = {NEEDS[route] for route in denied}
    if "cap_sys_rawio" in wanted:
        wanted.add("cap_dac_read_search")  # the registers' nodes are files of root's, too
    capability = ",".join(sorted(wanted))
    if _keeps_capabilities(path):
        return f"sudo setcap {capability}+ep {shlex.quote(str(path))}", "powersample doctor"
    place = SHARED_PLACE
    return (
        f"sudo install -D -m 755 {shlex.quote(str(path))} {place} && sudo setcap {capability}+ep {place}",
        f"export {SAMPLER_VARIABLE}={place}",
    )


def _keeps_capabilities(path: Path) -> bool:
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return False
    try:
        os.getxattr(path, "security.capability")
    except OSError as error:
        return error.errno == errno.ENODATA
    return True
