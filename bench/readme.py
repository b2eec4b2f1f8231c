# SPDX-License-Identifier: Apache-2.0
"""The part of a README that a program writes, between two markers of its name."""

from __future__ import annotations

from pathlib import Path


def update(path: Path, name: str, text: str) -> None:
    """Put text between the markers that say that `name` wrote it.

    Raises:
        RuntimeError: the file has lost its markers.
    """
    begin, end = (f"<!-- {edge}: written by {name} -->" for edge in ("begin", "end"))
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise RuntimeError(f"{path} has lost its markers {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
