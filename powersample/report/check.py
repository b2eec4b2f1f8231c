# SPDX-License-Identifier: Apache-2.0
"""A report's check: a coded line about the recording."""

from typing import Any


def check(code: str, level: str, what: str, fix: str) -> dict[str, Any]:
    """Return a check's JSON: `level` is "info", "warning" or "error"; `fix` the one thing to do."""
    return {"code": code, "level": level, "what": what, "fix": fix}
