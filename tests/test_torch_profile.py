# SPDX-License-Identifier: Apache-2.0
"""What is known of a profile of torch from its text, and which texts are refused."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timelines import torch_text

from powersample import errors
from powersample.formats import torch_trace
from powersample.readers import read_torch


@pytest.mark.parametrize("cut", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_torn_profile_is_refused_wherever_it_was_cut(cut):
    text = torch_text()
    with pytest.raises(errors.BadFormat, match=r"t.json (ends in the middle|is no JSON)"):
        torch_trace.parse(text[: int(len(text) * cut)], "t.json")


def test_profile_cut_right_behind_an_event_is_torn_too():
    text = torch_text()
    with pytest.raises(errors.BadFormat, match="ends in the middle"):
        torch_trace.parse(text[: text.index("},") + 1], "t.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no list of traceEvents"),
        ("{}", "no list of traceEvents"),
        ('{"traceEvents": 3, "baseTimeNanoseconds": 1}', "no list of traceEvents"),
        ('{"traceEvents": []}', "baseTimeNanoseconds is missing.*torch 2.4"),
        ('{"traceEvents": [], "baseTimeNanoseconds": "1"}', "baseTimeNanoseconds is missing"),
        ('{"traceEvents": [], "baseTimeNanoseconds": 1} x}', "is no JSON"),
        ('{"traceEvents": [1 2], "baseTimeNanoseconds": 1}', "is no JSON"),
        ("hello}", "is no JSON"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_reason(text, says):
    with pytest.raises(errors.BadFormat, match=says):
        torch_trace.parse(text, "t.json")


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(allow_nan=False), st.lists, max_leaves=5))
def test_parse_finds_the_end_of_events_among_whatever_else_there_is(other):
    text = json.dumps({"other": other, "traceEvents": [{"ph": "X", "ts": 1, "pid": 3, "x": other}], "z": other})
    text = text[:-1] + ', "baseTimeNanoseconds": 5}'
    found = torch_trace.parse(text, "t.json")
    assert (found.start_ns, found.end_ns, found.pids, found.events) == (1005, 1005, {3}, 1)
    again = json.loads(text[: found.insert_at] + ", 42" + text[found.insert_at :])
    assert again["traceEvents"][1] == 42
    assert again["z"] == json.loads(text)["z"]


def test_profile_is_read_gzipped_and_byte_for_byte(tmp_path):
    data = torch_text().replace("gemm", "g\u00e4mm").encode("latin-1")  # bytes that are no UTF-8
    for path, written in ((tmp_path / "t.json", data), (tmp_path / "t.json.gz", gzip.compress(data))):
        path.write_bytes(written)
        text, _ = read_torch(path)
        assert text.encode("utf-8", "surrogateescape") == data
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(errors.BadFormat, match="torn"):
        read_torch(tmp_path / "t.json.gz")
