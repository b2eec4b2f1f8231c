# SPDX-License-Identifier: Apache-2.0
"""Every command and every line of Python of docs/export.md, run as it stands there."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from traces import MS, S, channel, polls, series

from powersample import store
from powersample.cli import main
from powersample.model import Anchor, Trace, Window

pytest.importorskip("perfetto", reason="the package perfetto is not installed")

PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text("utf-8")
START_NS = 1_750_000_000 * S


def blocks(kind):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language == kind]


def test_commands_and_python_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    t_ns = polls(0, 2, 10)
    parts = [series(channel(), t_ns, np.where(t_ns < S, 50_000, 300_000))]
    whole = Trace.of(parts, anchors=[Anchor(0, 0, START_NS, 0, 0)], windows=[Window("epoch", 0, S)])
    store.save(whole, "run.parquet")
    event = {"ph": "X", "name": "gemm", "pid": 1, "tid": 1, "ts": 1e6, "dur": 500 * MS / 1e3}
    profile = {"baseTimeNanoseconds": START_NS, "traceEvents": [event]}
    Path("torch_trace.json").write_text(json.dumps(profile))
    commands = [line for block in blocks("") for line in block.splitlines()]
    assert len(commands) == 8
    for line in commands:
        program, *words = shlex.split(line)
        assert (program, main(words)) == ("powersample", 0), line
    (code,) = blocks("python")
    names = {}
    exec(code, names)
    assert names["power"].iloc[[0, -1]].tolist() == [50.0, 300.0]
    assert str(names["power"].index[0]).startswith("2025-06-15 15:06:40")
    assert names["windows"].name.tolist() == ["epoch"]
    assert {one["name"] for one in json.loads(Path("both.json").read_text())["traceEvents"]} >= {"gemm", "epoch"}
