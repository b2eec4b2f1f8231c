# SPDX-License-Identifier: Apache-2.0
"""The code of docs/integrations runs as it stands there, each page in a program of its own."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import POWERSAMPLE
from trainings import KEYS, MORE_KEYS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "integrations"


def run_page(name, folder, *before):
    """Run a page's code in a program of its own, after the words of a command line that starts it."""
    for package in ("torch", name):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    (folder / "page.py").write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)))
    done = subprocess.run(
        [*before, sys.executable, "page.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("name", ["torch", "lightning", "transformers", "keras"])
def test_page_shows_a_training_that_runs_and_tells_joules(name, tmp_path):
    done = run_page(name, tmp_path)
    assert "SIMULATED NODE h100, not a measurement" in done.stdout
    joules = re.search(r"^epoch 1 +\S+ +(\S+)", done.stdout, re.MULTILINE)
    assert float(joules[1]) > 0


def test_page_runs_under_record_too_and_says_where_its_energies_are(tmp_path):
    """There it only marks: its last line asked a recording that is not there."""
    record = [*POWERSAMPLE, "record", "--simulate", "h100", "-o", "run.parquet", "--"]
    done = run_page("torch", tmp_path, *record)
    where = "this process only marks, and the recording around it measures; the energies are in "
    assert f"powersample: {where}`powersample report run.parquet`, once it has ended" in done.stdout
    assert done.stderr.count(where) == 1
    assert (tmp_path / "run.parquet").exists()


def test_page_of_keys_names_every_key_there_is():
    text = (PAGES / "keys.md").read_text(encoding="utf-8")
    named = {key.partition("_low")[0].partition("_high")[0] for key in KEYS | MORE_KEYS}
    assert [key for key in named if f"`{key}`" not in text] == []
