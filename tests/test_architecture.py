# SPDX-License-Identifier: Apache-2.0
"""Reads every import of the package: rooms import only earlier rooms, and single doors stay single."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "powersample"

# Each room may import rooms of earlier rows, and itself; rooms of one row do not import each other.
ROWS = (
    ("errors",),
    ("model",),
    ("marks",),
    ("_native",),
    ("store",),
    ("formats",),
    ("sensors",),
    ("loads",),
    ("capture", "meters", "readers"),
    ("doctor",),
    ("analysis",),
    ("fit",),
    ("sim",),
    ("report", "export"),
    ("session",),
    ("integrations",),
    ("experiments",),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}

# Who may import what, as path prefixes inside the package; everything else may not.
DOORS = {
    "powersample._native._powersample": ("_native/door.py",),
    "cffi": ("_native/build_native.py",),
    "pyarrow": ("store/",),
    "carbontracker": ("experiments/baselines/",),
    "codecarbon": ("experiments/baselines/",),
    "cuda": ("experiments/baselines/",),
    "cupy": ("loads/tensors.py",),
    "perfetto": ("export/perfetto_trace.py",),
    "keras": ("integrations/keras.py",),
    "lightning": ("integrations/lightning.py",),
    "pymodbus": ("meters/modbus.py",),
    "pynvml": ("experiments/baselines/",),
    "pyvisa": ("meters/visa.py",),
    "pytorch_lightning": ("integrations/lightning.py",),
    "serial": ("meters/transport.py",),
    "torch": ("integrations/", "loads/tensors.py", "experiments/torch_network.py"),
    "transformers": ("integrations/transformers.py",),
    "zeus": ("experiments/baselines/",),
}
HEAVY = ("pandas", "pyarrow", "matplotlib", "torch", "scipy")
PYARROW_ROOM = "store/"  # importing this room means reading or writing files, so it may import pyarrow at once

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(source, name="powersample.x"):
    """Yield (module, at import time, only for type checkers) of every import in a module's source."""

    def walk(nodes, top, typing):
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, top, typing) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parent = name.split(".")[: -node.level]
                    base = ".".join([*parent, base]).rstrip(".")
                yield base, top, typing
                if base == "powersample" or base.endswith("._native"):
                    yield from ((f"{base}.{alias.name}", top, typing) for alias in node.names)
            elif is_type_checking(node):
                yield from walk(node.body, top, True)
                yield from walk(node.orelse, top, typing)
            else:
                inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(ast.iter_child_nodes(node), top and not inside, typing)

    yield from walk(ast.parse(source).body, True, False)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[-1] != "__init__" else (*parts[:-1], "__init__"))


def order_faults(path, source):
    room = room_of(path)
    if room == "__init__":
        return []
    faults = [] if room in RANK else [f"{room} is no room of the design"]
    for module, _, typing in imports(source, module_name(path)):
        parts = module.split(".")
        if parts[0] != "powersample" or len(parts) < 2 or typing or parts[1] not in RANK or room not in RANK:
            continue
        target = parts[1]
        if target != room and RANK[target] >= RANK[room]:
            faults.append(f"{room} imports {target}")
    return faults


def door_faults(path, source):
    inside = path.relative_to(PACKAGE).as_posix()
    return [
        f"{inside} imports {module}"
        for module, _, typing in imports(source, module_name(path))
        for thing, allowed in DOORS.items()
        if (module == thing or module.startswith(thing + ".")) and not typing and not inside.startswith(allowed)
    ]


def heavy_faults(path, source):
    inside = path.relative_to(PACKAGE).as_posix()
    return [
        f"{inside} imports {module} as it is imported itself"
        for module, top, typing in imports(source, module_name(path))
        if top and not typing and module.split(".")[0] in HEAVY
        if not (module.startswith("pyarrow") and inside.startswith(PYARROW_ROOM))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_rooms_import_leftwards_and_doors_stay_single(path):
    source = path.read_text(encoding="utf-8")
    assert [fault for check in (order_faults, door_faults, heavy_faults) for fault in check(path, source)] == []


@pytest.mark.parametrize(
    ("where", "source", "check"),
    [
        ("model/x.py", "def f():\n    from powersample.store import load", order_faults),
        ("store/x.py", "from powersample import analysis", order_faults),
        ("capture/x.py", "from ..meters import serial_port", order_faults),
        ("cellar/x.py", "", order_faults),
        ("report/x.py", "import pyarrow.parquet as pq", door_faults),
        ("capture/x.py", "from powersample._native import _powersample", door_faults),
        ("capture/x.py", "import powersample._native._powersample", door_faults),
        ("capture/x.py", "def f():\n    import pynvml", door_faults),
        ("report/x.py", "if True:\n    import pandas as pd", heavy_faults),
        ("report/x.py", "class A:\n    import matplotlib.pyplot", heavy_faults),
    ],
)
def test_checker_finds_a_planted_fault(where, source, check):
    assert check(PACKAGE / where, source)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("report/x.py", "def f():\n    import pandas"),
        ("report/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
        ("_native/door.py", "from powersample._native._powersample import ffi, lib"),
        ("cli/x.py", "from powersample import session"),
    ],
)
def test_checker_lets_the_allowed_pass(where, source):
    path = PACKAGE / where
    assert order_faults(path, source) + door_faults(path, source) + heavy_faults(path, source) == []


@pytest.mark.parametrize(
    "module", ["powersample", "powersample.model", "powersample.marks", "powersample.analysis", "powersample.doctor"]
)
def test_import_brings_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_marks_need_no_numpy():
    """A measured program pays for its marks only."""
    code = "import sys, powersample.marks; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
