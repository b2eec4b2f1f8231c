# SPDX-License-Identifier: Apache-2.0
"""A report as a notebook shows it: what is simulated first, then the energies, without styles or scripts of its own."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from powersample.report.screen import brief
from powersample.report.words import headline

MOST = 40  # windows


def notebook(data: Mapping[str, Any]) -> str:
    """Return a report's JSON object as HTML: its energies as they are printed, the total first.

    Args:
        data: the object.
    """
    banner = "".join(f"<p><strong>{escape(words)}</strong></p>" for words in headline(data)[:1])
    words = brief(data, MOST) if data["windows"] else "Nothing was recorded."
    return f"<div>{banner}<pre>{escape(words)}</pre></div>"
