# SPDX-License-Identifier: Apache-2.0
"""Holds docs/faults.md to the tests there are: a row whose test was renamed or removed promises nothing."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "faults.md"
HEADER = ["fault", "how it is injected", "what the user sees", "what is lost", "test"]
TEST = re.compile(r"(tests/\w+\.py)::(\w+)|(tests/c/\w+\.c): (\w+)")


def rows(text):
    """Return the cells of every row below the header."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == HEADER
    assert all(set(cell) == {"-"} for cell in cells[1])
    return cells[2:]


def names_in(path):
    """Return the names of a file's tests; no test file is imported for it."""
    if not path.exists():
        return set()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".c":
        return set(re.findall(r"^static void (test_\w+)\(", text, re.MULTILINE))
    return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}


def wrongs(text, root=ROOT):
    """Return what is wrong with a table, one line each."""
    found, names = [], set()
    for row in rows(text):
        name = row[0]
        if len(row) != len(HEADER) or not all(row):
            found.append(f"{name}: an empty cell, or a | inside one")
        if name in names:
            found.append(f"{name}: twice")
        names.add(name)
        tests = [(py or c, py_name or c_name) for py, py_name, c, c_name in TEST.findall(row[-1].replace("`", ""))]
        found += [f"{name}: no {test} in {file}" for file, test in tests if test not in names_in(root / file)]
        if not tests:
            found.append(f"{name}: names no test")
    return found if names else ["no rows"]


def test_every_fault_has_a_test_that_exists():
    assert wrongs(TABLE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("", "no rows"),
        ("| a | b | c | | `tests/test_faults.py::test_every_fault_has_a_test_that_exists` |", "empty cell"),
        ("| a | b | c | d | `tests/test_faults.py::test_gone` |", "no test_gone"),
        ("| a | b | c | d | `tests/test_gone.py::test_every_fault_has_a_test_that_exists` |", "test_gone.py"),
        ("| a | b | c | d | `tests/c/test_spool.c`: `test_gone` |", "no test_gone"),
        ("| a | b | c | d | by hand |", "names no test"),
        (2 * "| a | b | c | d | `tests/test_faults.py::test_every_fault_has_a_test_that_exists` |\n", "twice"),
    ],
)
def test_checker_finds_a_planted_wrong(row, what):
    table = f"| {' | '.join(HEADER)} |\n|{5 * '---|'}\n{row}\n"
    assert any(what in wrong for wrong in wrongs(table))
