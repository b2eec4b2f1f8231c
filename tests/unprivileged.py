# SPDX-License-Identifier: Apache-2.0
"""Somebody who owns nothing: as an effective user, an interpreter, and the sampler program."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import powersample
from powersample.capture import sampler_path

NOBODY = 65534


def unprivileged_python(*environment: str) -> list[str]:
    """An interpreter of this version, with this package, that user 65534 may run; skips with the reason.

    Args:
        environment: Words for `env`, such as "HOME=/tmp" or "-u", "HOME".
    """
    words = ["env", *environment] if environment else ["env", "HOME=/nonexistent"]
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
    package = str(Path(powersample.__file__).parents[1])
    folders = [package, *(p for p in sys.path if p.endswith("site-packages"))]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}"):
        command = [*drop, *words, f"PYTHONPATH={os.pathsep.join(folders)}", python]
        probe = [*command, "-c", "import numpy, pyarrow, powersample._native.api"]
        if subprocess.run(probe, capture_output=True, cwd="/").returncode == 0:
            return command
    pytest.skip(f"no interpreter and packages here that an unprivileged user may read ({folders})")


@contextmanager
def as_nobody(*paths: Path) -> Iterator[None]:
    """Closes files to everybody but root and goes on as somebody else."""
    root = os.geteuid() == 0
    for path in paths:
        path.chmod(0o400 if root else 0)
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def list_as_nobody(sources: str, sysfs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What `powersample-sampler --list` answers to user 65534 on a made /sys; skips where nobody can be that user."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become somebody else")
    program = shutil.copy(sampler_path(), sysfs / "sampler")  # the installed one may lie in a closed folder
    become = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    command = [*become, program, "--sources", sources, "--sysfs", str(sysfs), *options, "--list"]
    return subprocess.run(command, capture_output=True, text=True)
