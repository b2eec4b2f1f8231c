# SPDX-License-Identifier: Apache-2.0
"""An interpreter for somebody who owns nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import powersample

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
