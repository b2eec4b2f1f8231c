# SPDX-License-Identifier: Apache-2.0
"""The command line in a process of its own, as the tests call it."""

import subprocess
import sys

POWERSAMPLE = [sys.executable, "-m", "powersample.cli"]


def powersample(*arguments, cwd, **options):
    return subprocess.run(
        [*POWERSAMPLE, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, **options
    )
