# SPDX-License-Identifier: Apache-2.0
"""Windows in processes that a measured program starts: forked ones and DataLoader workers mark nothing."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH = importlib.util.find_spec("torch") is not None

COMMON = """
import json, multiprocessing, sys, warnings
import powersample as ps

def marking(_index=0):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with ps.window("child"), ps.step():
                pass
    return sum("are not recorded" in str(one.message) for one in caught)
"""

PROCESS = (
    COMMON
    + """
def work(queue):
    queue.put(marking())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with ps.measure(simulate="h100") as run, ps.window("parent"):
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        warned = queue.get(timeout=60)
        child.join()
    print(json.dumps({"warned": warned, "windows": sorted(w.name for w in run.windows)}))
"""
)

LOADER = (
    COMMON
    + """
import torch.utils.data

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return marking()

if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Data(), num_workers=2, multiprocessing_context=sys.argv[1])
    with ps.measure(simulate="h100") as run:
        warned = sum(int(batch) for batch in loader)
    print(json.dumps({"warned": warned, "windows": sorted(w.name for w in run.windows)}))
"""
)


def ran(tmp_path, program, method):
    script = tmp_path / "script.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_forked_process_marks_nothing_after_one_warning(tmp_path):
    assert ran(tmp_path, PROCESS, "fork") == {"warned": 1, "windows": ["parent", "run"]}


def test_spawned_process_marks_in_the_recording_it_was_started_in(tmp_path):
    """It may be a rank; that it is a worker which loads data only torch knows."""
    found = ran(tmp_path, PROCESS, "spawn")
    assert found == {"warned": 0, "windows": ["child", "child", "parent", "run", "step", "step"]}


@pytest.mark.skipif(not TORCH, reason="torch is not installed")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_of_a_data_loader_marks_nothing_after_one_warning(tmp_path, method):
    """Each of the two, however it was started: what it loads is no part of the training's windows."""
    assert ran(tmp_path, LOADER, method) == {"warned": 2, "windows": ["run"]}
