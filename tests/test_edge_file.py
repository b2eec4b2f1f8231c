# SPDX-License-Identifier: Apache-2.0
"""A load's log as a file and back."""

import numpy as np
import pytest

from powersample.errors import BadFormat, InputNotFound
from powersample.loads import EdgeLog, Step, edge_file
from powersample.loads.heat import Heat


def log(**more):
    return EdgeLog(
        "made up", np.array([10, 30]), np.array([20, 45]), np.array([0, 1]), np.array([1, 2]), missed=1, wrong=2,
        stalled_ns=3, unpinned=4, **more,
    )  # fmt: skip


def whole():
    return log(
        kernel="fma", vectors="avx2", cpus=(3, 5), ended="too warm", reached=(Step(9, 50, 0.5, 2, 17, 2, 1, 0),),
        step=np.array([0, 0]), cpu_ns=np.array([9, 14]),
        heat=Heat(np.array([11, 12]), np.array([50.5, np.nan]), np.array([np.nan, 2e9])),
    )  # fmt: skip


def same(one, other):
    for name in EdgeLog.__dataclass_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, Heat):
            assert all(np.array_equal(getattr(mine, f), getattr(theirs, f), equal_nan=True) for f in ("t_ns", "hz"))
            assert np.array_equal(mine.temperature_c, theirs.temperature_c, equal_nan=True)
        elif isinstance(mine, np.ndarray):
            assert mine.tolist() == theirs.tolist(), name
        else:
            assert mine == theirs, name


@pytest.mark.parametrize("make", [whole, log])
def test_log_comes_back_as_it_was(make, tmp_path):
    """Also one of GPUs, which has neither steps nor CPU time."""
    edge_file.save(make(), tmp_path / "edges.csv")
    same(edge_file.load(tmp_path / "edges.csv"), make())


def test_empty_log_comes_back(tmp_path):
    none = np.zeros(0, np.int64)
    edge_file.save(EdgeLog("idle", none, none, none, none), tmp_path / "edges.csv")
    assert len(edge_file.load(tmp_path / "edges.csv")) == 0


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda text: text[: text.rindex("0,1,")], "cut off"),
        (lambda text: text[:-2], "cut off"),
        (lambda text: text.replace("# powersample", "# other"), "no log"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "newer"),
        (lambda text: text.replace("0,0,9", "0,0,x"), "no whole log"),
        (lambda text: text.replace('"kernel"', '"colonel"'), "no whole log"),
        (lambda text: text[:40], "no log"),
        (lambda text: "", "no log"),
    ],
)
def test_file_that_is_no_whole_log_is_refused(spoil, what, tmp_path):
    path = tmp_path / "edges.csv"
    edge_file.save(whole(), path)
    text = path.read_text("utf-8")
    assert text != spoil(text)
    path.write_text(spoil(text), "utf-8")
    with pytest.raises(BadFormat, match=what):
        edge_file.load(path)


def test_file_that_is_not_there_is_said():
    with pytest.raises(InputNotFound):
        edge_file.load("/nonexistent/edges.csv")
