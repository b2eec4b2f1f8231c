# SPDX-License-Identifier: Apache-2.0
"""Holds the study of docs/reproduce.md and writes the page: `python docs/reproduce/make.py`, some minutes.

`python docs/reproduce/make.py page` writes the page alone, of the study there is. What the verb prints stands in it
as it is; tests/test_docs_reproduce.py holds that and the page's own claims to figures.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FIGURES, TEXT, PICTURE = HERE / "figures.json", HERE / "text.txt", HERE / "reproduce.png"
PAGE, TEMPLATE = HERE.parent / "reproduce.md", HERE / "page.txt"
LONG = ("here", "drawn")  # of every node all rows of its tables: what they come to is in the others


def measure() -> None:
    """Hold the study; keep its figures, its text and its picture."""
    from powersample.experiments.reproduce import run_reproduce, to_json, to_text, write_png

    study = run_reproduce(say=lambda text: print(text, file=sys.stderr, flush=True))
    found = {name: value for name, value in to_json(study).items() if name not in LONG}
    found["nodes"] = len(study.drawn)
    FIGURES.write_text(json.dumps(short(found), indent=1) + "\n", encoding="utf-8")
    TEXT.write_text(to_text(study) + "\n", encoding="utf-8")
    write_png(study, PICTURE)


def short(value: Any) -> Any:
    """Return the value with five digits a number."""
    if isinstance(value, dict):
        return {key: short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [short(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def page(figures: dict[str, Any], text: str) -> str:
    """Return the page: page.txt around what the verb prints."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.format(nodes=figures["nodes"], took=figures["took_s"], text=text.rstrip())


def main() -> None:
    """Hold the study unless only the page is asked for, and write the page."""
    if sys.argv[1:] != ["page"]:
        measure()
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    PAGE.write_text(page(figures, TEXT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
