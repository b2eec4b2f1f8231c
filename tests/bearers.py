# SPDX-License-Identifier: Apache-2.0
"""Sampler executables with real file capabilities, an unprivileged user to run them, and a /sys made for them."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

NOBODY = 65534
NUMBERS = {"cap_dac_read_search": 2, "cap_sys_rawio": 17, "cap_sys_nice": 23, "cap_perfmon": 38}
REVISION_2, EFFECTIVE = 0x02000000, 1

# For what follows and nobody else: $1 becomes /sys, and $2 the loader's list of libraries unless it is empty. $3 holds
# lines "STAGE CLOSED PATH": PATH, below a folder that is closed to others, is to be reached all the same.
MOUNT = """
mount --bind "$1" /sys || exit 90
if [ -n "$2" ]; then mount --bind "$2" /etc/ld.so.cache || exit 90; fi
printf %s "$3" | while read -r stage closed path; do mount --bind "$path" "$stage" || exit 90; done || exit 90
printf %s "$3" | while read -r stage closed path; do
    [ -e "$path" ] && mount -t tmpfs -o mode=755 tmpfs "$closed" || exit 90
    mkdir -p "$path" && mount --bind "$stage" "$path" || exit 90
done || exit 90
shift 3
exec "$@"
"""


def lacking(folder):
    """Return why capabilities cannot be tried here, or None."""
    if os.geteuid() != 0:
        return "needs root to give a file capabilities"
    if shutil.which("setpriv") is None:
        return "needs setpriv to become somebody else"
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        return f"{folder} is mounted nosuid: file capabilities do not count there"
    try:
        give(shutil.copy("/bin/true", folder / "try"), "cap_sys_nice")
    except OSError as error:
        return f"{folder} keeps no file capabilities ({error.strerror})"
    if subprocess.run(as_nobody(folder / "try"), capture_output=True).returncode != 0:
        return "an executable with capabilities may not be started here"
    return None


def lacking_mounts(folder):
    """Return why no /sys of our own can be made here, or None."""
    (folder / "empty").mkdir(exist_ok=True)
    done = subprocess.run(as_nobody("true", sys=folder / "empty"), capture_output=True, text=True)
    return None if done.returncode == 0 else f"needs a mount namespace ({done.stderr.strip() or done.returncode})"


def give(path, *names, effective=True):
    """Do what `setcap names+ep` does, or `+p`, without it."""
    bits = sum(1 << NUMBERS[name] for name in names)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    head = REVISION_2 | (EFFECTIVE if effective else 0)
    os.setxattr(path, "security.capability", struct.pack("<5I", head, low, 0, high, 0))
    return Path(path)


def as_nobody(*command, sys=None, libraries="", opened=""):
    """Return `command` as run by an unprivileged user, with `sys` as /sys and the rest as MOUNT has it."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *map(str, command)]
    if sys is None:
        return command
    space = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh"]
    return [*space, str(sys), str(libraries), opened, *command]


def opened(paths, folder):
    """Return MOUNT's lines for those of `paths` that another user could not reach; stages are made in `folder`."""
    lines = {}
    for path in map(Path, paths):
        closed = next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None)
        if closed is not None and not any(path.is_relative_to(known) for known in lines.values()):
            stage = folder / f"stage-{len(lines)}"
            stage.mkdir(exist_ok=True)
            lines[f"{stage} {closed} {path}\n"] = path
    return "".join(lines)


def status(pid):
    """Return /proc/PID/status as a dict."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
