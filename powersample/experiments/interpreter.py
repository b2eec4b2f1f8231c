# SPDX-License-Identifier: Apache-2.0
"""What this interpreter is: whether one thread of it can hold up another."""

from __future__ import annotations

import sys


def free_threaded() -> bool:
    """Whether it has no global lock, so that a Python-busy program holds up no other thread."""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()
