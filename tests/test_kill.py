# SPDX-License-Identifier: Apache-2.0
"""A recording that is killed at any instant is got back, whole but for its last second, by one `recover`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DYING = Path(__file__).with_name("dying.py")


def dying(*arguments):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", DYING, *map(str, arguments)]  # it forks
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


FULL = "POWERSAMPLE_ALL_KILLS" in os.environ  # two hundred of them, most of a minute


@pytest.mark.parametrize(
    ("how", "kills", "at_once"),
    [("in-process", 50, 17), ("executable", 150, 75)] if FULL else [("in-process", 16, 16), ("executable", 32, 32)],
)
def test_kill_at_random_instants_loses_at_most_the_last_second(tmp_path, how, kills, at_once):
    """Of recordings with their conversion and their end, and of the sampler by itself."""
    assert dying(how, tmp_path, kills, at_once) == {"wrong": [], "kills": kills}


@pytest.mark.parametrize(("work", "keep"), [("record", "all"), ("recover", "changes")])
def test_kill_before_each_touch_of_a_file_leaves_what_recover_completes(tmp_path, work, keep):
    """Conversion, final merge, renames and removal, and recovering itself: no order of them may lose or double."""
    result = dying("touch", tmp_path, keep, work)
    assert result["wrong"] == []
    assert result["kills"] > 25
