# SPDX-License-Identifier: Apache-2.0
"""docs/reasons.md has every code that the package can emit, once, and no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"\bPS[QAMC]-[A-Z]+(?:-[A-Z]+)*\b")


def emitted():
    """Return the codes in the package's strings, docstrings left out."""
    found = set()
    for path in (ROOT / "powersample").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        documents = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
                found.update(CODE.findall(node.value))
    return found


def documented():
    text = (ROOT / "docs" / "reasons.md").read_text("utf-8")
    return [line.split("|")[1].strip() for line in text.splitlines() if CODE.match(line.removeprefix("| "))]


def test_every_code_that_can_be_emitted_is_explained_once_and_no_other():
    explained = documented()
    assert len(explained) == len(set(explained))
    assert set(explained) == emitted()


def test_rows_are_in_order_and_complete():
    tables = (ROOT / "docs" / "reasons.md").read_text("utf-8").split("\n## ")[1:]
    for table in tables:
        rows = [line for line in table.splitlines() if line.startswith("| PS")]
        assert rows == sorted(rows)
        assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))
