# SPDX-License-Identifier: Apache-2.0
"""What befalls a simulated node itself: no room, other users, a process that is gone."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from powersample.capture import Plan, discover, sampler_path
from powersample.errors import NothingMeasurable
from powersample.sim import Node

NOBODY = 65534
SIM = (sys.executable, "-m", "powersample.cli", "sim")


@pytest.fixture
def open_folder():
    """A folder that any user may enter, as /sys is."""
    folder = Path(tempfile.mkdtemp(prefix="powersample-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("size", ["200k", "4500k"])  # for not one truth; for the truths and not for the tree
def test_node_without_room_says_so_and_touches_no_page_it_has_not(tmp_path, size):
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size={size} none "$0"'
    probe = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    if shutil.which("unshare") is None or subprocess.run([*probe, small], capture_output=True).returncode != 0:
        pytest.skip("a small file system needs a mount namespace, which this machine does not allow")
    command = [*probe[:-1], f'{mount} && "$@"', small, *SIM, "--dir", small / "node", "--duration", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_another_user_is_refused_until_the_files_are_opened(open_folder):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become somebody else")
    program = shutil.copy(sampler_path(), open_folder / "sampler")  # the installed one may lie in a closed folder
    with Node(cpu="intel_spr", directory=open_folder / "node") as node:
        become = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
        command = [*become, program, "--sources", "rapl", "--sysfs", node.sysfs, "--devfs", node.devfs, "--list"]
        closed = subprocess.run(command, capture_output=True, text=True)
        assert closed.returncode == 3
        assert "energy_uj" in closed.stderr
        assert "code 13" in closed.stderr
        node.permit(0o444, "powercap")
        opened = subprocess.run(command, capture_output=True, text=True)
    assert opened.returncode == 0, opened.stderr
    assert "package-0.dram.energy" in opened.stdout


def test_node_whose_process_was_killed_stands_still_and_is_told_so(tmp_path):
    command = [*SIM, "--cpu", "intel_client", "--dir", str(tmp_path / "node")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("Ends with"):
                break
        process.kill()
    sysfs = tmp_path / "node" / "sys"
    before = (sysfs / "class/powercap/intel-rapl:0/energy_uj").read_text()
    assert int(before) > 0
    with pytest.raises(NothingMeasurable, match="stood still"):
        discover(Plan(sources=("rapl",), sysfs=str(sysfs)))
    assert (sysfs / "class/powercap/intel-rapl:0/energy_uj").read_text() == before


def test_forked_child_that_exits_as_programs_do_leaves_the_nodes_folders():
    """Its exit handlers run: they must not remove what is the parent's, nor wait for a thread that it lacks."""
    program = (
        "import os, sys, time; from powersample.sim import Node\n"
        "node = Node(cpu='intel_client'); path = node.sysfs / 'class/powercap/intel-rapl:0/energy_uj'\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "first = int(path.read_text()); time.sleep(0.05); assert int(path.read_text()) > first\n"
        "node.close(); print('well')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "well\n", done.stderr


def test_busy_writer_counts_what_it_was_late_for():
    """Nice as it is, it is one thread among many: what it missed is told, and the counter is right all the same."""
    with Node(cpu="intel_client") as node:
        node.load_script("package-0", [(0, 30)])
        path = node.sysfs / "class/powercap/intel-rapl:0/energy_uj"
        begin, first = time.monotonic_ns(), int(path.read_text())
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
        try:
            time.sleep(0.3)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        gained_j, end = (int(path.read_text()) - first) * 1e-6, time.monotonic_ns()
        files = node.truth_state()["files"]
        assert files["ticks"] + files["skipped"] >= (end - begin) // 976_562 - files["late_max_ns"] // 976_562 - 1
        late_ns = files["late_max_ns"] + 1_000_000
        assert gained_j <= node.truth_j("package-0", begin - late_ns, end)
        assert gained_j >= node.truth_j("package-0", begin, max(begin, end - late_ns)) - 1e-4
