# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own nvidia-smi on the stand-in library, and our source on NVIDIA's library without a driver."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from powersample import errors
from powersample.doctor.nvidia_debs import NvidiaDebs, fetch
from powersample.sim import Node

NOBODY = 65534


@pytest.fixture(scope="module")
def debs() -> NvidiaDebs:
    try:
        return fetch()
    except errors.NotSupported as error:
        pytest.skip(f"nvidia-smi 535 cannot be had: {error}")


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("h100", gpus=2) as built:
        yield built


def smi(debs: NvidiaDebs, node: Node, *arguments: str) -> str:
    environment = {**os.environ, **node.environment()}
    done = subprocess.run(
        [debs.nvidia_smi, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_list_shows_simulated_uuids(debs: NvidiaDebs, node: Node) -> None:
    lines = smi(debs, node, "-L").splitlines()
    assert lines == [f"GPU {i}: NVIDIA H100 PCIe (UUID: {uuid})" for i, uuid in enumerate(node.gpu_uuids)]


def test_query_prints_the_constant_truth(debs: NvidiaDebs, node: Node) -> None:
    fields = "index,power.draw,power.draw.instant,power.draw.average,power.limit,utilization.gpu,pstate"
    out = smi(debs, node, f"--query-gpu={fields}", "--format=csv,noheader")
    expected = "48.00 W, 48.00 W, 48.00 W, 350.00 W, 0 %, P8"
    assert out.splitlines() == [f"0, {expected}", f"1, {expected}"]


def test_loop_goes_on_and_stamps(debs: NvidiaDebs, node: Node) -> None:
    command = [
        debs.nvidia_smi,
        "--query-gpu=timestamp,power.draw",
        "--format=csv,noheader,nounits",
        "-i",
        "0",
    ]
    environment = {**os.environ, **node.environment()}
    with subprocess.Popen([*command, "-lms", "100"], env=environment, stdout=subprocess.PIPE, text=True) as loop:
        assert loop.stdout
        lines = [loop.stdout.readline().strip() for _ in range(5)]
        node.inject("power_usage", 15)
        while loop.stdout.readline().strip().endswith("48.00"):
            pass
        node.clear_faults()
        while not loop.stdout.readline().strip().endswith("48.00"):
            pass
        loop.terminate()
    assert all(re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}, 48\.00", line) for line in lines), lines
    assert len(set(lines)) == 5


def test_power_view_prints_limits(debs: NvidiaDebs, node: Node) -> None:
    out = smi(debs, node, "-q", "-d", "POWER")
    for label, watts in (
        ("Power Draw", "48.00"),
        ("Current Power Limit", "350.00"),
        ("Min Power Limit", "200.00"),
    ):
        assert len(re.findall(rf"{label} +: {watts} W", out)) == 2
    assert out.count("Module Power Readings") == 2


def test_bare_table_names_the_board(debs: NvidiaDebs, node: Node) -> None:
    out = smi(debs, node)
    assert "NVIDIA H100 PCIe" in out
    assert "48W / 350W" in out


def test_power_view_prints_the_ring_of_samples(debs: NvidiaDebs) -> None:
    """Its own statistics of the ring: 119 samples of 20 ms, all of the board at rest."""
    with Node("a100") as node:
        out = smi(debs, node, "-q", "-d", "POWER")
        duration = re.search(r"Duration +: ([0-9.]+) sec", out)
        assert duration, out
        assert float(duration[1]) == pytest.approx(118 * 0.02, abs=0.03)
        assert re.search(r"Number of Samples +: 119\n", out)
        for name in ("Max", "Min", "Avg"):
            assert re.search(rf"{name} +: 35\.00 W", out)


def test_power_view_prints_the_modules_power(debs: NvidiaDebs) -> None:
    with Node("gh200") as node:
        gpu, _, module = smi(debs, node, "-q", "-d", "POWER").partition("Module Power Readings")
    assert re.search(r"Power Draw +: 90\.00 W", gpu)
    assert re.search(r"Power Draw +: 190\.00 W", module)


def test_list_and_query_show_mig_instances(debs: NvidiaDebs) -> None:
    with Node("a100", mig=("3g.20gb", "1g.5gb")) as node:
        listed = smi(debs, node, "-L").splitlines()
        mode = smi(debs, node, "--query-gpu=mig.mode.current,power.draw", "--format=csv,noheader")
        names = [f"  MIG {name}" for name in ("3g.20gb", "1g.5gb")]
        uuids = node.mig_uuids[0]
    assert listed[0].startswith("GPU 0: NVIDIA A100-PCIE-40GB (UUID: GPU-SIM-")
    assert [line.split(" Device")[0].rstrip() for line in listed[1:]] == names
    assert [re.search(r"UUID: (\S+)\)", line)[1] for line in listed[1:]] == list(uuids)  # type: ignore[index]
    assert mode.strip() == "Enabled, 35.00 W"


def test_version_mismatch_in_its_own_words(debs: NvidiaDebs, node: Node) -> None:
    node.version_mismatch()
    environment = {**os.environ, **node.environment()}
    done = subprocess.run([debs.nvidia_smi], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 18
    assert "Driver/library version mismatch" in done.stdout


@pytest.mark.parametrize(
    ("code", "cell"), [(3, "[N/A]"), (10, "[Timeout]"), (15, "[GPU is lost]"), (999, "[Unknown Error]")]
)
def test_injected_code_becomes_a_cell_and_exit_0(debs: NvidiaDebs, node: Node, code: int, cell: str) -> None:
    node.inject("power_usage", code, gpu=0)
    out = smi(debs, node, "--query-gpu=power.draw", "--format=csv,noheader")
    assert out.splitlines() == [cell, "48.00 W"]


def test_real_library_without_driver_is_a_clear_error(debs: NvidiaDebs, tmp_path: Path) -> None:
    """Run by nobody: as root the real library leaves a device node behind."""
    if Path("/sys/module/nvidia").exists() or Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA driver")
    root = os.geteuid() == 0
    for folder in tmp_path.parents[:4] if root else []:  # pytest's own, closed to others
        if folder.name.startswith(("pytest-", "test_", "popen-")):
            folder.chmod(0o711)
    library = Path(shutil.copy(debs.library_dir / "libnvidia-ml.so.1", tmp_path))
    with resources.as_file(resources.files("powersample").joinpath("_bin", "powersample-sampler")) as built:
        sampler = Path(shutil.copy(built, tmp_path))
    for path in (tmp_path, library, sampler):
        path.chmod(0o755)
    done = subprocess.run(
        [sampler, "--nvml-lib", library, "--duration", "0.1"],
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
        **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "Driver Not Loaded" in done.stderr
    assert "nvmlInit_v2" in done.stderr
    assert not Path("/dev/nvidiactl").exists()
