# SPDX-License-Identifier: Apache-2.0
"""The code of docs/integrations runs as it stands there, each page in a program of its own."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from trainings import KEYS, MORE_KEYS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "integrations"


@pytest.mark.parametrize("name", ["torch", "lightning", "transformers", "keras"])
def test_page_shows_a_training_that_runs_and_tells_joules(name, tmp_path):
    for package in ("torch", name):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    (tmp_path / "page.py").write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)))
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "SIMULATED NODE h100, not a measurement" in done.stdout
    joules = re.search(r"^epoch 1 +\S+ +(\S+)", done.stdout, re.MULTILINE)
    assert float(joules[1]) > 0


def test_page_of_keys_names_every_key_there_is():
    text = (PAGES / "keys.md").read_text(encoding="utf-8")
    named = {key.partition("_low")[0].partition("_high")[0] for key in KEYS | MORE_KEYS}
    assert [key for key in named if f"`{key}`" not in text] == []
