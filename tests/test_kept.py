# SPDX-License-Identifier: Apache-2.0
"""The file that keeps a training's sum: what is wrong with it never ends a training that has begun."""

import json
import warnings

import pytest

from powersample.errors import BadFormat
from powersample.integrations.kept import KeptState
from powersample.session.account import Cumulative

SUM = Cumulative(simulated=True, joules=5.0, low_j=4.0, high_j=6.0, duration_s=1.0, epochs=1).as_json()


def test_kept_sum_reads_as_it_was_written(tmp_path):
    kept = KeptState(tmp_path / "energy.json", simulated=True)
    assert kept.read() is None
    kept.write(SUM)
    assert kept.read() == SUM


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (json.dumps(SUM)[:20], "no sum to go on with"),
        ("[]", "cannot be understood"),
        (json.dumps(SUM | {"version": 99}), "version 99"),
        (json.dumps(SUM | {"simulated": False}), "of this machine, and what measures now is a simulated node"),
        (b"\xff\xfe\x00", "no sum to go on with"),
        (None, "directory"),
    ],
    ids=["torn", "other", "newer", "another node", "bytes", "folder"],
)
def test_kept_file_that_holds_no_sum_is_refused_with_what_to_do_and_left_as_it_is(tmp_path, content, why):
    path = tmp_path / "energy.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadFormat, match=why) as refused:
        KeptState(path, simulated=True).read()
    assert "Remove the file" in str(refused.value)
    assert path.exists()


def test_kept_file_that_cannot_be_written_is_one_warning(tmp_path):
    kept = KeptState(tmp_path / "none" / "energy.json", simulated=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept.write(SUM)
        kept.write(SUM)
    (one,) = caught
    assert "cannot be written: No such file or directory" in str(one.message)
