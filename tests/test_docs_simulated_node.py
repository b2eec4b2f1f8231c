# SPDX-License-Identifier: Apache-2.0
"""What docs/simulated-node.md shows is what there is, and runs."""

import re
import subprocess
import sys
from pathlib import Path

from powersample.sim import Node, cpu_profile_names

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "simulated-node.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_example_of_a_foreign_program_is_shown_as_it_lies_there_and_passes():
    shown = [(DOCS / "examples" / name).read_text(encoding="utf-8") for name in ("energy_of.py", "test_energy_of.py")]
    assert BLOCKS[1:] == shown
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(DOCS / "examples")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_python_in_a_few_lines_runs_and_prints_the_truth(capsys):
    names = {}
    exec(BLOCKS[0], names)
    out = capsys.readouterr().out
    assert out.startswith("SIMULATED NODE h100x2, not a measurement\n")
    assert "truth J" in out
    assert names["exact_j"] > 0.5 * 500


def test_page_names_every_cpu_and_every_switch():
    for name in cpu_profile_names():
        assert f"| `{name}` |" in PAGE
    for name in re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE):
        for called in re.findall(r"`(\w+)\(", name):
            assert called == "Node" or hasattr(Node, called)
